"""The built-in demo pallet: a small synthetic search that fits in a minute on a laptop.

It has the form of a search for electroweak supersymmetry, pp -> C1 N2 -> W h LSP LSP with
W -> l nu and h -> b b. It has every kind of HistFactory modifier (CERN-OPEN-2012-016), and is
packed as HEPData packs its archives. All of it is invented. Yields come from the tables and closed
formulas below and are rounded, so that the files are the same on every machine.

Fits are quick because few free parameters have a scale much smaller than one: these cost
iterations, and a numerical gradient costs one evaluation for each parameter.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import tarfile
from pathlib import Path
from typing import Any

Spec = dict[str, Any]
#: Events in the bins of each channel, or of each sample of a channel.
Yields = dict[str, list[float]]
#: Kind of modifier and size of each source of uncertainty.
Uncertainties = dict[str, tuple[str, float]]

#: Expected events of each background ("other" is ttV, ttH and Vh) in the bins of each channel:
#: control regions (CR) for the backgrounds that are normalised to data, and signal regions (SR) of
#: rising transverse mass, in bins of the contransverse mass.
BACKGROUNDS: dict[str, Yields] = {
    "CR_ttbar": {"ttbar": [96.0], "singletop": [9.0], "wjets": [4.0], "other": [2.5]},
    "CR_singletop": {
        "ttbar": [21.0],
        "singletop": [58.0],
        "wjets": [9.0],
        "diboson": [1.5],
        "other": [1.5],
    },
    "CR_wjets": {
        "ttbar": [12.0],
        "singletop": [6.0],
        "wjets": [64.0],
        "zjets": [5.0],
        "diboson": [4.0],
        "other": [1.2],
    },
    "CR_fakes": {"wjets": [3.6, 2.6], "zjets": [1.4, 0.9], "fakes": [36.0, 27.0]},
    "SR_low": {
        "ttbar": [9.6, 5.4],
        "singletop": [3.2, 2.5],
        "wjets": [2.7, 2.3],
        "zjets": [0.6, 0.6],
        "diboson": [0.9, 0.9],
        "other": [1.1, 0.8],
        "fakes": [2.0, 1.4],
    },
    "SR_med": {
        "ttbar": [3.9, 2.2, 1.0],
        "singletop": [1.1, 1.0, 0.7],
        "wjets": [1.3, 1.1, 0.9],
        "zjets": [0.3, 0.2, 0.2],
        "diboson": [0.5, 0.4, 0.4],
        "other": [0.6, 0.4, 0.3],
    },
    "SR_high": {
        "ttbar": [2.2, 1.3, 0.7],
        "singletop": [0.8, 0.8, 0.6],
        "wjets": [0.9, 1.0, 0.9],
        "zjets": [0.2, 0.2, 0.1],
        "diboson": [0.4, 0.4, 0.5],
        "other": [0.4, 0.4, 0.3],
    },
}
#: Observed minus expected events of the channels' bins, in units of the Poisson standard
#: deviation: a fixed pattern instead of random fluctuations.
FLUCTUATIONS: Yields = {
    "CR_ttbar": [0.5],
    "CR_singletop": [-0.4],
    "CR_wjets": [0.7],
    "CR_fakes": [-0.6, 0.5],
    "SR_low": [-0.3, -0.5],
    "SR_med": [-0.6, 0.2, -0.7],
    "SR_high": [0.6, -0.4, 0.8],
}
SIGNAL_REGIONS = ("SR_low", "SR_med", "SR_high")
#: Channels with a statistical uncertainty of the simulation; elsewhere it is neglected.
SMALL_SIMULATION = ("SR_med", "SR_high")

#: Backgrounds whose normalisation is free because a control region measures it.
NORMALISED = ("ttbar", "singletop", "wjets")
#: The background whose shape is free: measured in CR_fakes, and transferred to SR_low.
DATA_DRIVEN = "fakes"
TRANSFER_UNCERTAINTY = 0.25
#: Uncertainty of the transfer that is independent in each bin (non-closure of the method).
CLOSURE_UNCERTAINTY = (0.2, 0.3)

#: Experimental systematic uncertainties of everything that is simulated.
EXPERIMENTAL: Uncertainties = {
    "JES_Detector": ("histosys", 0.05),
    "JES_Flavour": ("histosys", 0.06),
    "JES_Modelling": ("histosys", 0.08),
    "JER": ("histosys", 0.07),
    "MET_SoftTerm": ("histosys", 0.04),
    "btag_B": ("histosys", 0.05),
    "btag_C": ("normsys", 0.02),
    "btag_Light": ("normsys", 0.03),
    "EL_Efficiency": ("normsys", 0.02),
    "EL_Scale": ("histosys", 0.01),
    "MU_Efficiency": ("normsys", 0.02),
    "MU_Scale": ("histosys", 0.01),
    "JVT": ("normsys", 0.01),
    "pileup": ("normsys", 0.03),
}
#: Theoretical uncertainties of one background each: background, modifier and size. For normalised
#: backgrounds this is the extrapolation from control to signal regions.
THEORY = {
    "ttbar_Generator": ("ttbar", "histosys", 0.12),
    "ttbar_PartonShower": ("ttbar", "normsys", 0.10),
    "ttbar_Radiation": ("ttbar", "normsys", 0.06),
    "singletop_Interference": ("singletop", "histosys", 0.25),
    "singletop_PartonShower": ("singletop", "normsys", 0.10),
    "wjets_Scale": ("wjets", "histosys", 0.12),
    "wjets_HeavyFlavour": ("wjets", "normsys", 0.15),
    "zjets_CrossSection": ("zjets", "normsys", 0.30),
    "diboson_CrossSection": ("diboson", "normsys", 0.20),
    "other_CrossSection": ("other", "normsys", 0.25),
}
#: Theoretical uncertainties of the signals.
SIGNAL_THEORY: Uncertainties = {
    "SIG_CrossSection": ("normsys", 0.07),
    "SIG_Radiation": ("histosys", 0.06),
}

LUMINOSITY = 139.0  # 1/fb
LUMINOSITY_UNCERTAINTY = 0.017
#: Events for each simulated event; gives the statistical uncertainty of the simulation.
BACKGROUND_WEIGHT = 0.1
SIGNAL_WEIGHT = 0.05

#: Branching ratios of h -> b b and of W to an electron or a muon, partly through a tau.
BRANCHING_RATIO = 0.58 * 0.25
HIGGS_MASS = 125.0  # GeV
#: Largest selection efficiency, and the mass splitting (GeV) where half of it is reached.
MAX_EFFICIENCY = 0.065
HALF_EFFICIENCY = 295.0

#: The signal points: masses (GeV) of the chargino, and of the LSP for each of them. They are denser
#: where the limit is expected, and not all on one lattice.
POINTS = {
    150: (0, 20),
    200: (0, 50, 65),
    250: (0, 75, 110),
    300: (0, 75, 125, 150, 165),
    350: (100, 150, 200),
    400: (0, 125, 175, 200, 250),
    450: (175, 225, 275),
    500: (0, 100, 150, 200, 250, 365),
    550: (150, 200, 250, 300),
    600: (0, 100, 150, 200, 250, 300, 400),
    650: (75, 150, 225, 275),
    700: (0, 50, 100, 150, 200, 250, 300, 400),
    750: (0, 75, 125, 175),
    800: (0, 100, 200, 300),
    850: (0, 150),
    900: (0, 100, 400),
    1000: (0, 200),
    1100: (0, 300),
}

README = f"""\
# Synthetic likelihood for demonstrations

**This is no measurement.** The numbers in this archive were made by palletfit (`palletfit.demo`);
no experiment has published them, and no conclusion about nature can be drawn from them.

The archive is shaped like the HEPData record of a search for C1 N2 -> W h LSP LSP in
{LUMINOSITY:g}/fb of pp collisions: a background-only workspace (`BkgOnly.json`) and a patchset
(`patchset.json`) with one patch for each signal point, `DEMO_C1N2_Wh_[m1]_[m2]`, where m1 is the
mass of the chargino and of the next-to-lightest neutralino, and m2 that of the LSP, in GeV.

    pyhf patchset extract patchset.json --name DEMO_C1N2_Wh_500_150 > patch.json
    pyhf cls BkgOnly.json --patch patch.json
"""


def make_demo_pallet(archive: Path) -> Path:
    """Write the demo pallet.

    Parameters
    ----------
    archive
        Path of the archive; its folder is created if needed.

    Returns
    -------
    Path
        `archive`: a ``tar.gz`` with ``BkgOnly.json``, ``README.md`` and ``patchset.json``. Its
        files are the same on every machine. The archive is, too, where zlib is the same.
    """
    workspace = demo_workspace()
    return write_pallet(archive, workspace, README, demo_patchset(workspace))


def write_pallet(archive: Path, workspace: Spec, readme: str, patchset: Spec) -> Path:
    """Pack a pallet as HEPData does, see :func:`make_demo_pallet`."""
    contents = {
        "BkgOnly.json": _dump(workspace),
        "README.md": readme,
        "patchset.json": _dump(patchset),
    }
    archive.parent.mkdir(parents=True, exist_ok=True)
    # By default, the headers would hold the archive's name and the time of writing.
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, text in contents.items():
            data = text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return archive


def demo_workspace() -> Spec:
    """Make the background-only workspace, a HistFactory specification in pyhf's JSON."""
    return {
        "channels": [
            {
                "name": channel,
                "samples": [_background(channel, *sample) for sample in samples.items()],
            }
            for channel, samples in BACKGROUNDS.items()
        ],
        "measurements": [{"config": _measurement(), "name": "DemoMeasurement"}],
        "observations": [{"data": _observed(channel), "name": channel} for channel in BACKGROUNDS],
        "version": "1.0.0",
    }


def demo_patchset(workspace: Spec) -> Spec:
    """Make the patchset with all signal points for the background-only `workspace`."""
    return {
        "metadata": {
            "description": "synthetic signal patchset for demonstrations, not a measurement",
            "digests": {"sha256": digest(workspace)},
            "labels": ["m1", "m2"],
            "name": "demo",
            "references": {"hepdata": "ins0000000"},
        },
        "patches": [_patch(workspace, m1, m2) for m1, m2s in POINTS.items() for m2 in m2s],
        "version": "1.0.0",
    }


def digest(workspace: Spec) -> str:
    """Compute the SHA-256 of pyhf.utils.digest without the slow import of pyhf."""
    text = json.dumps(workspace, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def cross_section(m1: float) -> float:
    """Compute the cross section (fb) of C1 N2 of mass `m1` (GeV) in pp collisions at 13 TeV.

    It is a power law with an exponential cut-off for pure winos. It follows the NLO+NLL values of
    the LHC SUSY Cross Section Working Group (method: arXiv:1304.0790) within about 5% from 150 to
    1100 GeV.
    """
    return 46.35 * math.pow(m1 / 500, -3.06) * math.exp((500 - m1) / 350)


def signal_yields(m1: float, m2: float) -> Yields:
    """Compute the expected events of a signal point in the bins of each signal region.

    Wider mass splittings are selected more efficiently, at higher transverse mass (the channels)
    and at higher contransverse mass (their bins).
    """
    splitting = m1 - m2
    total = cross_section(m1) * LUMINOSITY * BRANCHING_RATIO * _efficiency(splitting)
    shares = split_up(len(SIGNAL_REGIONS), (splitting - 330) / 150)
    slope = (splitting - 400) / 250
    return {
        channel: [
            rounded(total * share * in_bin)
            for in_bin in split_up(len(FLUCTUATIONS[channel]), slope)
        ]
        for channel, share in zip(SIGNAL_REGIONS, shares, strict=True)
    }


def _efficiency(splitting: float) -> float:
    """Compute the fraction of the signal that is selected; the mass splitting is in GeV."""
    turn_on = 1 / (1 + math.exp((HALF_EFFICIENCY - splitting) / 50))
    # Close to the threshold of the decay to a Higgs boson there is little missing momentum.
    return MAX_EFFICIENCY * turn_on * (1 - math.exp((HIGGS_MASS - splitting) / 100))


def split_up(bins: int, slope: float) -> list[float]:
    """Split one into bins, each of which has exp(slope) times the content of the one before."""
    weights = [math.exp(bin_ * slope) for bin_ in range(bins)]
    return [weight / sum(weights) for weight in weights]


def _measurement() -> Spec:
    sigma = LUMINOSITY_UNCERTAINTY
    luminosity = {
        "auxdata": [1.0],
        "bounds": [[rounded(1 - 5 * sigma), rounded(1 + 5 * sigma)]],
        "inits": [1.0],
        "name": "lumi",
        "sigmas": [sigma],
    }
    upper_bounds = {**{f"mu_{sample}": 5.0 for sample in NORMALISED}, "mu_SIG": 10.0}
    free = [
        {"bounds": [[0.0, upper]], "inits": [1.0], "name": name}
        for name, upper in upper_bounds.items()
    ]
    return {"parameters": [luminosity, *free], "poi": "mu_SIG"}


def _observed(channel: str) -> list[float]:
    expected = map(sum, zip(*BACKGROUNDS[channel].values(), strict=True))
    return [
        float(round(events + sigmas * math.sqrt(events)))
        for events, sigmas in zip(expected, FLUCTUATIONS[channel], strict=True)
    ]


def _background(channel: str, name: str, yields: list[float]) -> Spec:
    if name == DATA_DRIVEN:
        return {"data": yields, "modifiers": _data_driven(channel, yields), "name": name}
    has_theory = channel in SIGNAL_REGIONS or name not in NORMALISED
    theory = {
        key: (kind, size)
        for key, (sample, kind, size) in THEORY.items()
        if sample == name and has_theory
    }
    normalisation = (f"mu_{name}", "normfactor") if name in NORMALISED else ("lumi", "lumi")
    modifiers = [
        modifier(*normalisation),
        *_staterror(channel, yields, BACKGROUND_WEIGHT),
        *systematics(EXPERIMENTAL | theory, yields),
    ]
    return {"data": yields, "modifiers": modifiers, "name": name}


def _data_driven(channel: str, yields: list[float]) -> list[Spec]:
    shape = modifier("shape_fakes", "shapefactor")
    if channel not in SIGNAL_REGIONS:
        return [shape]
    transfer = {"fakes_Transfer": ("normsys", TRANSFER_UNCERTAINTY)}
    closure = [
        rounded(size * events) for size, events in zip(CLOSURE_UNCERTAINTY, yields, strict=True)
    ]
    return [
        shape,
        *systematics(transfer, yields),
        modifier(f"fakes_Closure_{channel}", "shapesys", closure),
    ]


def _patch(workspace: Spec, m1: int, m2: int) -> Spec:
    name = f"DEMO_C1N2_Wh_{m1}_{m2}"
    signal = signal_yields(m1, m2)
    return {
        "metadata": {"name": name, "values": [m1, m2]},
        "patch": [
            {
                "op": "add",
                "path": f"/channels/{index}/samples/{len(channel['samples'])}",
                "value": _signal(channel["name"], name, signal[channel["name"]]),
            }
            for index, channel in enumerate(workspace["channels"])
            if channel["name"] in signal
        ],
    }


def _signal(channel: str, name: str, yields: list[float]) -> Spec:
    modifiers = [
        modifier("mu_SIG", "normfactor"),
        modifier("lumi", "lumi"),
        *_staterror(channel, yields, SIGNAL_WEIGHT),
        *systematics(EXPERIMENTAL | SIGNAL_THEORY, yields),
    ]
    return {"data": yields, "modifiers": modifiers, "name": name}


def modifier(name: str, kind: str, data: object = None) -> Spec:
    """Make a modifier of a sample."""
    return {"data": data, "name": name, "type": kind}


def _staterror(channel: str, yields: list[float], weight: float) -> list[Spec]:
    if channel not in SMALL_SIMULATION:
        return []
    # The root of the sum of squared weights of the simulated events, as for any weighted histogram.
    errors = [rounded(math.sqrt(weight * events)) for events in yields]
    return [modifier(f"staterror_{channel}", "staterror", errors)]


def systematics(sources: Uncertainties, yields: list[float]) -> list[Spec]:
    """Make the modifiers of sources of uncertainty for a sample with these yields."""
    variation = {"normsys": _normsys, "histosys": _histosys}
    return [
        modifier(name, kind, variation[kind](size, yields))
        for name, (kind, size) in sources.items()
    ]


def _normsys(size: float, _: list[float]) -> Spec:
    return {"hi": rounded(1 + size), "lo": rounded(1 - size)}


def _histosys(size: float, yields: list[float]) -> Spec:
    # Grows along the bins, and is smaller downwards: real variations are not symmetric either.
    shifts = [
        events * size * (0.5 + index / max(1, len(yields) - 1))
        for index, events in enumerate(yields)
    ]
    pairs = list(zip(yields, shifts, strict=True))
    return {
        "hi_data": [rounded(events + shift) for events, shift in pairs],
        "lo_data": [rounded(events - 0.8 * shift) for events, shift in pairs],
    }


def rounded(value: float) -> float:
    """Round, because the last digits of exp and of powers differ between machines."""
    return round(value, 6)


def _dump(spec: Spec) -> str:
    return json.dumps(spec, indent=4, sort_keys=True) + "\n"
