"""Random likelihoods: small ones with all kinds of modifiers, and with odd values.

Numbers are drawn so that what real likelihoods have now and then is frequent: few events, empty
bins, one-sided and same-sided systematic uncertainties, uncertainties of more than 100 %, free
normalizations with and without bounds, parameters that are fixed or pulled, data far from what is
expected. Number `n` is always the same likelihood.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Spec = dict[str, Any]

POI = "mu_SIG"
#: Patches of each likelihood.
PATCHES = 2
_NUISANCE = tuple(f"np{number}" for number in range(6))


def random_likelihood(number: int) -> tuple[Spec, list[Spec]]:
    """Make a background-only workspace, and the operations of its patches."""
    return _Maker(number).likelihood()


def made_up_signals(workspace: Spec, count: int) -> list[list[Spec]]:
    """Make signals for a real workspace without a patchset: the operations of so many patches.

    A signal has one to five channels, in which it is a tenth to three times as large as the
    statistical uncertainty of what is observed. Number `n` is always the same.
    """
    poi = workspace["measurements"][0]["config"]["poi"]
    observed = {entry["name"]: entry["data"] for entry in workspace["observations"]}
    all_operations = []
    for number in range(count):
        random = np.random.default_rng([20261127, number])
        size = min(int(random.integers(1, 6)), len(workspace["channels"]))
        operations = []
        for index in random.choice(len(workspace["channels"]), size, replace=False):
            channel = workspace["channels"][index]
            events = np.array(observed[channel["name"]], dtype=float)
            strength = 10 ** random.uniform(-1.0, 0.5)
            yields = strength * np.sqrt(events + 1) * random.uniform(0.2, 1.0, len(events))
            up, down = 1 + random.uniform(0.02, 0.3, 2) * (1, -1)
            modifiers = [
                {"name": poi, "type": "normfactor", "data": None},
                {"name": "signal_theory", "type": "normsys", "data": {"hi": up, "lo": down}},
            ]
            sample = {"name": "signal", "data": yields.tolist(), "modifiers": modifiers}
            end = len(channel["samples"])
            path = f"/channels/{index}/samples/{end}"
            operations.append({"op": "add", "path": path, "value": sample})
        all_operations.append(operations)
    return all_operations


class _Maker:
    """Draws one likelihood."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.random = np.random.default_rng([20261126, number])
        self.scale = float(self.random.choice([2.0, 8.0, 50.0, 200.0]))
        count = int(self.random.integers(1, 4))
        self.bins = {f"C{index}": int(self.random.integers(1, 5)) for index in range(count)}
        self.nuisance = _NUISANCE[: int(self.random.integers(2, len(_NUISANCE) + 1))]
        self.lumi = self.chance(0.25)

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def yields(self, bins: int, scale: float) -> list[float]:
        values = scale * np.exp(0.6 * self.random.standard_normal(bins))
        values[self.random.random(bins) < 0.04] = 0.0
        return [float(f"{value:.5g}") for value in values]

    def likelihood(self) -> tuple[Spec, list[Spec]]:
        channels = [
            {
                "name": name,
                "samples": [
                    self.sample(name, f"bkg{index}", bins, self.scale / (1 + 2 * index))
                    for index in range(int(self.random.integers(1, 4)))
                ],
            }
            for name, bins in self.bins.items()
        ]
        observations = [
            {"name": channel["name"], "data": self.observed(channel)} for channel in channels
        ]
        workspace = {
            "channels": channels,
            "observations": observations,
            "measurements": [
                {"name": "fit", "config": {"poi": POI, "parameters": self.parameters()}}
            ],
            "version": "1.0.0",
        }
        return workspace, [self.patch() for _ in range(PATCHES)]

    def observed(self, channel: Spec) -> list[float]:
        total = np.sum([sample["data"] for sample in channel["samples"]], axis=0)
        factor = float(self.random.choice([0.5, 1.0, 1.0, 1.0, 1.5, 2.5]))
        counts = self.random.poisson(factor * total).astype(float)
        counts[self.random.random(len(counts)) < 0.05] = 0.0
        if self.chance(0.05):
            counts = np.round(total, 3)
        return [float(count) for count in counts]

    def parameters(self) -> list[Spec]:
        parameters: list[Spec] = []
        if self.lumi:
            width = float(self.random.uniform(0.01, 0.05))
            lumi = {"auxdata": [1.0], "sigmas": [width], "bounds": [[0.7, 1.3]], "inits": [1.0]}
            parameters.append({"name": "lumi", **lumi})
        if self.chance(0.3):
            bounds = [[0, 3], [-5, 10], [0, 100]][int(self.random.integers(3))]
            parameters.append({"name": POI, "bounds": [bounds], "inits": [1.0]})
        if self.chance(0.15):
            value = float(self.random.normal(0.0, 0.7))
            parameters.append({"name": "np0", "fixed": True, "inits": [value]})
        elif self.chance(0.15):
            parameters.append({"name": "np0", "auxdata": [float(self.random.normal(0.0, 0.5))]})
        if self.chance(0.3):
            bounds = [[0.3, 2.0], [-10.0, 10.0]][int(self.random.integers(2))]
            parameters.append({"name": "mu_bkg", "bounds": [bounds], "inits": [1.0]})
        return parameters

    def patch(self) -> Spec:
        chosen = [name for name in self.bins if self.chance(0.8)] or [next(iter(self.bins))]
        strength = {"name": POI, "type": "normfactor", "data": None}
        operations = []
        for index, name in enumerate(self.bins):
            if name not in chosen:
                continue
            scale = self.scale * float(self.random.choice([0.03, 0.2, 0.5, 1.0]))
            signal = self.sample(name, "signal", self.bins[name], scale)
            names = {"mu_bkg", "free"}
            signal["modifiers"] = [
                strength,
                *(
                    modifier
                    for modifier in signal["modifiers"]
                    if modifier["name"] not in names and modifier["type"] != "shapesys"
                ),
            ]
            operations.append(
                {"op": "add", "path": f"/channels/{index}/samples/-", "value": signal}
            )
        return operations

    def sample(self, channel: str, name: str, bins: int, scale: float) -> Spec:
        nominal = self.yields(bins, scale)
        modifiers: list[Spec] = []
        names = (*self.nuisance, "theory") if name == "signal" else self.nuisance
        for parameter in names:
            if self.chance(0.45):
                modifiers.append({"name": parameter, "type": "normsys", "data": self.normsys()})
            if self.chance(0.35):
                data = self.histosys(nominal)
                modifiers.append({"name": parameter, "type": "histosys", "data": data})
        if self.lumi and self.chance(0.7):
            modifiers.append({"name": "lumi", "type": "lumi", "data": None})
        if name == "bkg0" and self.chance(0.5):
            modifiers.append({"name": "mu_bkg", "type": "normfactor", "data": None})
        if name == "bkg1" and self.chance(0.15):
            modifiers.append({"name": "free", "type": "normfactor", "data": None})
        errors = np.array(nominal) * float(self.random.choice([0.02, 0.1, 0.4, 1.5]))
        errors = [float(f"{value:.4g}") for value in errors * self.random.uniform(0.5, 1.5, bins)]
        if self.chance(0.3):
            modifiers.append({"name": f"stat_{channel}", "type": "staterror", "data": errors})
        elif self.chance(0.25):
            modifiers.append({"name": f"{name}_{channel}", "type": "shapesys", "data": errors})
        return {"name": name, "data": nominal, "modifiers": modifiers}

    def normsys(self) -> Spec:
        size = float(self.random.choice([0.03, 0.1, 0.25, 0.7]))
        up, down = (float(size * self.random.uniform(0.5, 1.5)) for _ in range(2))
        kind = self.random.random()
        if kind < 0.6:
            hi, lo = 1.0 + up, 1.0 / (1.0 + down)
        elif kind < 0.75:
            hi, lo = 1.0 / (1.0 + up), 1.0 + down
        elif kind < 0.9:
            hi, lo = (1.0 + up, 1.0) if self.chance(0.5) else (1.0, 1.0 + up)
        else:
            hi = lo = 1.0 + up
        if self.chance(0.02):
            hi, lo = 1.0 + 9.0 * self.random.random(), 0.01
        return {"hi": float(f"{hi:.5g}"), "lo": float(f"{lo:.5g}")}

    def histosys(self, nominal: list[float]) -> Spec:
        size = float(self.random.choice([0.03, 0.1, 0.3, 1.0]))
        up, down = (1.0 + size * self.random.standard_normal(len(nominal)) for _ in range(2))
        kind = self.random.random()
        if kind < 0.2:
            down = np.ones(len(nominal))
        elif kind < 0.3:
            down = up
        elif kind < 0.8:
            down = 2.0 - up
        hi, lo = ([float(f"{v:.5g}") for v in np.multiply(nominal, side)] for side in (up, down))
        return {"hi_data": hi, "lo_data": lo}
