"""Likelihoods of unfolded measurements: each truth bin is a normalization without constraint.

    python benchmarks/unfolding_likelihoods.py

prints what the four fits of two of them cost, and how many of their starts converge.

The signal of every truth bin migrates into the neighbouring bins of several channels, over
backgrounds that may be negative in a bin, with many systematic uncertainties. Normalizations may go
below zero, so that rates can, too. Number `n` is always the same likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from common import describe, machine, markdown, parser, use_one_thread

from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.pallet.patches import Patch

Spec = dict[str, Any]

POI = "mu_0"


@dataclass(frozen=True)
class Shape:
    """Size of a likelihood, and what is hard about it.

    Attributes
    ----------
    truth, channels, bins
        Truth bins, channels, and bins of each channel.
    systematics
        Nuisance parameters that change yields.
    smearing
        How far events migrate, in bins.
    events
        Events of the signal in all.
    overall
        Give the parameter of interest to all truth bins in addition to their own ones: their
        product is measured, and not the factors.
    """

    truth: int = 8
    channels: int = 3
    bins: int = 8
    systematics: int = 40
    smearing: float = 0.8
    events: float = 250.0
    overall: bool = False
    bounds: tuple[float, float] = (-10.0, 10.0)


#: Few events in all, so that many bins are empty and rates of others go to zero.
SMALL = Shape(truth=6, channels=2, bins=6, systematics=6, smearing=2.0, events=12)
LARGE = Shape(truth=16, channels=4, bins=10, systematics=60, smearing=2.0, events=60)
#: Shapes and numbers of the likelihoods that are fitted here.
SHOWN = ((SMALL, 3), (LARGE, 0), (LARGE, 3))


def main() -> None:
    """Print a table of evaluations and starts."""
    parser(__doc__).parse_args()
    use_one_thread()
    print(describe(machine()), flush=True)
    rows = []
    for shape, number in SHOWN:
        workspace, operations = unfolding_likelihood(number, shape)
        engine = BatchedEngine(workspace, FitSettings())
        ((batch, _),), _ = engine.lower([Patch("all", (), operations)])
        fits = engine.batch_fits(batch).four_fits()
        starts = [minima.converged for kind in fits.values() for _, _, minima, _ in kind.attempts]
        name = f"number {number}: {shape.truth} truth bins, {shape.events:g} events"
        parameters = int(batch.present[0].sum())
        evaluations = sum(int(kind.spent[0]) for kind in fits.values())
        converged = f"{sum(int(ends.sum()) for ends in starts)} of {sum(map(len, starts))}"
        rows.append([f"{name}, {parameters} parameters", f"{evaluations:,}", converged])
    print(markdown(("likelihood", "evaluations", "starts that converged"), rows))


def unfolding_likelihood(number: int, shape: Shape | None = None) -> tuple[Spec, list[Spec]]:
    """Make a workspace without the truth bin of the parameter of interest, and its patch."""
    shape = shape or Shape()
    random = np.random.default_rng([20261127, number])
    channels: list[Spec] = []
    observations = []
    operations = []
    spectrum = np.exp(-0.35 * np.arange(shape.truth))
    spectrum *= shape.events / spectrum.sum() / shape.channels
    centres = (np.arange(shape.bins) + 0.5) / shape.bins * shape.truth - 0.5
    for index in range(shape.channels):
        distance = (centres[:, None] - np.arange(shape.truth)) / shape.smearing
        migration = np.exp(-0.5 * distance**2)
        migration /= migration.sum(axis=0)
        signal = migration * spectrum * random.uniform(0.7, 1.3, shape.truth)
        wz = 0.5 * signal.sum(axis=1) * random.uniform(0.5, 1.5, shape.bins)
        fakes = 0.15 * signal.sum(axis=1) * random.normal(0.6, 1.0, shape.bins)
        total = signal.sum(axis=1) + wz + fakes
        observed = random.poisson(np.maximum(total, 0.05) * random.uniform(0.8, 1.3, shape.bins))
        name = f"SR{index}"
        samples = [
            _sample(random, shape, name, "WZ", wz, ["mu_WZ"]),
            _sample(random, shape, name, "fakes", fakes, []),
        ]
        for truth in range(shape.truth):
            norms = [f"mu_{truth}"]
            if shape.overall:
                norms = [POI, f"bin_{truth}"]
            sample = _sample(random, shape, name, f"truth{truth}", signal[:, truth], norms)
            if POI in norms:
                path = f"/channels/{index}/samples/-"
                operations.append({"op": "add", "path": path, "value": sample})
            else:
                samples.append(sample)
        channels.append({"name": name, "samples": samples})
        observations.append({"name": name, "data": [float(count) for count in observed]})
    control = np.array([400.0, 150.0, 60.0])
    channels.append(
        {"name": "CR", "samples": [_sample(random, shape, "CR", "WZ", control, ["mu_WZ"])]}
    )
    counts = random.poisson(1.1 * control)
    observations.append({"name": "CR", "data": [float(count) for count in counts]})
    prefix = "bin_" if shape.overall else "mu_"
    names = [f"{prefix}{truth}" for truth in range(shape.truth)]
    if shape.overall:
        names.append(POI)
    parameters = [{"name": name, "inits": [1.0], "bounds": [list(shape.bounds)]} for name in names]
    workspace = {
        "channels": channels,
        "observations": observations,
        "measurements": [{"name": "fit", "config": {"poi": POI, "parameters": parameters}}],
        "version": "1.0.0",
    }
    return workspace, operations


def _sample(
    random: np.random.Generator,
    shape: Shape,
    channel: str,
    name: str,
    nominal: Any,
    norms: list[str],
) -> Spec:
    nominal = np.round(nominal, 5)
    modifiers: list[Spec] = [{"name": norm, "type": "normfactor", "data": None} for norm in norms]
    for systematic in range(shape.systematics):
        if random.random() < 0.3:
            up, down = random.normal(0.0, 0.04, 2)
            data = {"hi": float(np.round(1 + up, 5)), "lo": float(np.round(1 - down, 5))}
            modifiers.append({"name": f"np{systematic}", "type": "normsys", "data": data})
        if random.random() < 0.3:
            change = nominal * random.normal(0.0, 0.05, len(nominal))
            hi, lo = ((nominal + sign * change).round(6).tolist() for sign in (1, -1))
            data = {"hi_data": hi, "lo_data": lo}
            modifiers.append({"name": f"np{systematic}", "type": "histosys", "data": data})
    errors = np.round(0.05 * np.abs(nominal) + 0.02, 5).tolist()
    modifiers.append({"name": f"stat_{channel}", "type": "staterror", "data": errors})
    return {"name": name, "data": nominal.tolist(), "modifiers": modifiers}


if __name__ == "__main__":
    main()
