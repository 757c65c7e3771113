"""A second synthetic search on the demo's signal grid, to combine with the first one.

It selects the same signal where the W boson decays to quarks. Like likelihoods of different
groups, the two do not fit together. They have different names of the parameter of interest, of
labels, of signal points and of some parameters. They use one name for different things, and have
other points. All of it is invented, see :mod:`palletfit.pallet.demo.electroweak`.
"""

from __future__ import annotations

import math
from pathlib import Path

from palletfit.pallet.demo.electroweak import (
    BACKGROUND_WEIGHT,
    EXPERIMENTAL,
    HIGGS_MASS,
    LUMINOSITY,
    LUMINOSITY_UNCERTAINTY,
    POINTS,
    SIGNAL_WEIGHT,
    Spec,
    Uncertainties,
    Yields,
    cross_section,
    digest,
    modifier,
    rounded,
    split_up,
    systematics,
    write_pallet,
)

#: Expected events of each background in the bins of each channel. The names of two channels are
#: those of the first search, which has other events: with a lepton.
BACKGROUNDS: dict[str, Yields] = {
    "CR_zjets": {"zjets": [88.0], "ttbar": [5.0], "other": [7.0]},
    "CR_ttbar": {"zjets": [2.5], "ttbar": [61.0], "other": [6.5]},
    "SR_high": {"zjets": [6.1, 2.9, 1.2], "ttbar": [2.6, 0.9, 0.3], "other": [1.7, 0.9, 0.4]},
}
OBSERVED = {"CR_zjets": [104.0], "CR_ttbar": [66.0], "SR_high": [11.0, 4.0, 2.0]}
SIGNAL_REGION = "SR_high"
NORMALISED = ("zjets", "ttbar")
POI = "mu_Sig"

#: The first search's names of the uncertainties of the flavour tagging, and the ones used here.
TAGGING = {"btag_B": "FT_B", "btag_C": "FT_C", "btag_Light": "FT_Light"}
THEORY: dict[str, Uncertainties] = {
    "zjets": {"zjets_Scale": ("histosys", 0.10), "zjets_Merging": ("normsys", 0.06)},
    # The extrapolation from another control region: a different uncertainty of the same name.
    "ttbar": {"ttbar_Generator": ("normsys", 0.20)},
    "other": {"other_CrossSection": ("normsys", 0.25)},
}
SIGNAL_THEORY: Uncertainties = {
    "SIG_CrossSection": ("normsys", 0.07),
    "SIG_Radiation": ("histosys", 0.06),
}

#: Branching ratios of h -> b b and of W -> q q.
BRANCHING_RATIO = 0.58 * 0.67
#: Largest selection efficiency, and the mass splitting (GeV) where half of it is reached.
MAX_EFFICIENCY = 0.03
HALF_EFFICIENCY = 520.0
#: Masses (GeV) of the chargino below which there is no point, and points of this search only.
LOWEST_MASS = 400
MORE_POINTS = {1200: (0, 200, 400)}

README = f"""\
# Synthetic likelihood for demonstrations

**This is no measurement.** The numbers in this archive were made by palletfit
(`palletfit.demo_hadronic`); no experiment has published them, and no conclusion about nature can be
drawn from them.

The archive is shaped like the HEPData record of a search for C1 N2 -> W h LSP LSP with W -> q q in
{LUMINOSITY:g}/fb of pp collisions: a background-only workspace (`BkgOnly.json`) and a patchset
(`patchset.json`) with one patch for each signal point, `hadronic_C1[m]_LSP[m]`.
"""


def make_hadronic_pallet(archive: Path) -> Path:
    """Write the pallet of the second search.

    See :func:`palletfit.pallet.demo.electroweak.make_demo_pallet`.
    """
    workspace = hadronic_workspace()
    return write_pallet(archive, workspace, README, hadronic_patchset(workspace))


def hadronic_workspace() -> Spec:
    """Make the background-only workspace, a HistFactory specification in pyhf's JSON."""
    sigma = LUMINOSITY_UNCERTAINTY
    luminosity = {
        "auxdata": [1.0],
        "bounds": [[rounded(1 - 5 * sigma), rounded(1 + 5 * sigma)]],
        "inits": [1.0],
        "name": "lumi",
        "sigmas": [sigma],
    }
    free = [{"bounds": [[0.0, 5.0]], "inits": [1.0], "name": f"mu_{name}"} for name in NORMALISED]
    return {
        "channels": [
            {
                "name": channel,
                "samples": [_background(channel, *sample) for sample in samples.items()],
            }
            for channel, samples in BACKGROUNDS.items()
        ],
        "measurements": [
            {"config": {"parameters": [luminosity, *free], "poi": POI}, "name": "Hadronic"}
        ],
        "observations": [{"data": data, "name": channel} for channel, data in OBSERVED.items()],
        "version": "1.0.0",
    }


def hadronic_patchset(workspace: Spec) -> Spec:
    """Make the patchset with all signal points for the background-only `workspace`."""
    points = {m1: m2s for m1, m2s in POINTS.items() if m1 >= LOWEST_MASS} | MORE_POINTS
    return {
        "metadata": {
            "description": "synthetic signal patchset for demonstrations, not a measurement",
            "digests": {"sha256": digest(workspace)},
            "labels": ["m_LSP", "m_C1"],
            "name": "demo-hadronic",
            "references": {"hepdata": "ins0000000"},
        },
        "patches": [_patch(workspace, m1, m2) for m1, m2s in points.items() for m2 in m2s],
        "version": "1.0.0",
    }


def signal_yields(m1: float, m2: float) -> list[float]:
    """Compute the expected events of a signal point in the bins of the signal region."""
    splitting = m1 - m2
    turn_on = 1 / (1 + math.exp((HALF_EFFICIENCY - splitting) / 70))
    efficiency = MAX_EFFICIENCY * turn_on * (1 - math.exp((HIGGS_MASS - splitting) / 100))
    total = cross_section(m1) * LUMINOSITY * BRANCHING_RATIO * efficiency
    return [rounded(total * share) for share in split_up(3, (splitting - 550) / 300)]


def _background(channel: str, name: str, yields: list[float]) -> Spec:
    has_theory = channel == SIGNAL_REGION or name not in NORMALISED
    normalisation = (f"mu_{name}", "normfactor") if name in NORMALISED else ("lumi", "lumi")
    modifiers = [
        modifier(*normalisation),
        *_statistics(channel, yields, BACKGROUND_WEIGHT),
        *systematics(_experimental() | (THEORY[name] if has_theory else {}), yields),
    ]
    return {"data": yields, "modifiers": modifiers, "name": name}


def _patch(workspace: Spec, m1: int, m2: int) -> Spec:
    name = f"hadronic_C1{m1}_LSP{m2}"
    yields = signal_yields(m1, m2)
    channels = [channel["name"] for channel in workspace["channels"]]
    signal = {
        "data": yields,
        "modifiers": [
            modifier(POI, "normfactor"),
            modifier("lumi", "lumi"),
            *_statistics(SIGNAL_REGION, yields, SIGNAL_WEIGHT),
            *systematics(_experimental() | SIGNAL_THEORY, yields),
        ],
        "name": name,
    }
    path = f"/channels/{channels.index(SIGNAL_REGION)}/samples/0"
    return {
        "metadata": {"name": name, "values": [m2, m1]},
        "patch": [{"op": "add", "path": path, "value": signal}],
    }


def _experimental() -> Uncertainties:
    """Take the uncertainties of the first search except those of leptons, and rename some."""
    return {
        TAGGING.get(name, name): source
        for name, source in EXPERIMENTAL.items()
        if not name.startswith(("EL_", "MU_"))
    }


def _statistics(channel: str, yields: list[float], weight: float) -> list[Spec]:
    if channel != SIGNAL_REGION:
        return []
    errors = [rounded(math.sqrt(weight * events)) for events in yields]
    return [modifier(f"staterror_{channel}", "staterror", errors)]
