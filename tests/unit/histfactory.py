"""Random HistFactory workspaces, and patches of them.

The structure is drawn by hypothesis; the numbers come from a seed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jsonpatch
import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from palletfit.config import FitSettings
from palletfit.engine.lowering import Background, Lowered
from palletfit.engine.reference.hypotests import build_model
from palletfit.errors import PalletError
from palletfit.pallet.patches import Patch, apply, apply_sharing

from . import models

Spec = dict[str, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]

#: The same examples in every run. Where one fails, remove `phases` to make it smaller, which takes
#: minutes.
FIXED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

# pyhf sorts channels and samples; these orders are others.
CHANNELS = ("SR", "CR", "AR")
SAMPLES = ("ttbar", "fakes", "Zjets")
ALPHAS = ("jes", "btag", "theory")
NORMS = ("norm_a", "norm_b")
BIN_KINDS = ("staterror", "shapesys", "shapefactor")


@dataclass(frozen=True)
class Case:
    """A background, some patches that apply to it, and the settings of the fit."""

    workspace: Spec
    patches: list[Patch]
    fit: FitSettings
    seed: int


@dataclass
class _Maker:
    """Makes samples; what is in them is drawn, their numbers are random."""

    draw: Draw
    rng: np.random.Generator
    #: Whether yields and errors may be zero or negative.
    odd: bool

    def chance(self, percent: int) -> bool:
        return bool(self.draw(st.integers(0, 99)) >= 100 - percent)

    def some(self, items: Sequence[Any], least: int = 0, most: int | None = None) -> list[Any]:
        if not items:
            return []
        places = st.integers(0, len(items) - 1)
        chosen = self.draw(st.lists(places, min_size=least, max_size=most, unique=True))
        return [items[place] for place in chosen]

    def yields(self, bins: int, scale: float) -> list[float]:
        values = [float(f"{x:.4g}") for x in scale * self.rng.uniform(0.3, 2.0, bins)]
        if self.odd and self.chance(15):
            values[self.rng.integers(bins)] = 0.0
        if self.odd and self.chance(10):
            values[self.rng.integers(bins)] = -0.1 * scale
        return values

    def errors(self, data: Sequence[float], low: float = 0.05, high: float = 0.5) -> list[float]:
        values = [
            float(f"{abs(x) * y + 0.01:.3g}")
            for x, y in zip(data, self.rng.uniform(low, high, len(data)), strict=True)
        ]
        if self.odd and self.chance(15):
            values[self.rng.integers(len(values))] = 0.0
        return values

    def alpha(self, kind: str, name: str, data: Sequence[float]) -> Spec:
        if kind == "normsys":
            hi, lo = self.rng.uniform(0.7, 1.4, 2)
            return {"name": name, "type": kind, "data": {"hi": round(hi, 3), "lo": round(lo, 3)}}
        hi, lo = (
            [float(f"{x * y:.4g}") for x, y in zip(data, factors, strict=True)]
            for factors in self.rng.uniform(0.8, 1.2, (2, len(data)))
        )
        return {"name": name, "type": kind, "data": {"hi_data": hi, "lo_data": lo}}

    def sample(self, name: str, data: list[float], modifiers: Sequence[tuple[str, str]]) -> Spec:
        made = []
        for kind, title in modifiers:
            if kind in ("normsys", "histosys"):
                made.append(self.alpha(kind, title, data))
            elif kind in ("staterror", "shapesys"):
                made.append({"name": title, "type": kind, "data": self.errors(data)})
            else:
                made.append({"name": title, "type": kind, "data": None})
        return models.sample(name, data, *made)

    def systematics(self, names: Sequence[str], most: int = 4) -> list[tuple[str, str]]:
        return self.some([(k, n) for n in names for k in ("normsys", "histosys")], 0, most)

    def background(self) -> Spec:
        names = self.some(CHANNELS, 1)
        bins = {name: self.draw(st.integers(1, 3)) for name in names}
        channels: dict[str, list[Spec]] = {}
        coupled = self.chance(15)
        for channel in names:
            channels[channel] = []
            free = self.chance(10)
            for title in self.some(SAMPLES, 1):
                modifiers = self.systematics(ALPHAS)
                modifiers += [("normfactor", norm) for norm in self.some(NORMS, 0, 1)]
                modifiers += [("lumi", "lumi")] * self.chance(20)
                modifiers += [("staterror", f"stat_{channel}")] * self.chance(40)
                modifiers += [("shapesys", f"shape_{channel}_{title}")] * self.chance(20)
                modifiers += [("shapefactor", f"free_{channel}")] * self.chance(5)
                modifiers += [("shapefactor", "free")] * free
                # One staterror in all channels is sound where only one sample carries it.
                modifiers += [("staterror", "stat")] * (coupled and title == SAMPLES[0])
                sample = self.sample(title, self.yields(bins[channel], 50.0), modifiers)
                if modifiers and self.chance(3):
                    sample["modifiers"].append(copy.deepcopy(sample["modifiers"][0]))
                channels[channel].append(sample)
        observed = {name: self.observed(bins[name]) for name in names}
        return models.workspace(channels, observed)

    def observed(self, bins: int) -> list[float]:
        counts = [float(x) for x in self.rng.poisson(80.0, bins)]
        if self.odd and self.chance(20):
            counts[self.rng.integers(bins)] = 0.0
        if self.chance(10):
            counts[self.rng.integers(bins)] += 0.25
        return counts

    def signal(self, channel: str, bins: int, title: str) -> Spec:
        modifiers = [("normfactor", models.POI)]
        modifiers += self.systematics([*ALPHAS, "isr", "scale"])
        modifiers += [("normfactor", "norm_sig")] * self.chance(15)
        modifiers += [("normfactor", NORMS[0])] * self.chance(15)
        modifiers += [("lumi", "lumi")] * self.chance(30)
        modifiers += [("staterror", f"stat_{channel}")] * self.chance(25)
        modifiers += [("staterror", f"stat_{title}_{channel}")] * self.chance(15)
        modifiers += [("staterror", f"stat_{title}")] * self.chance(5)
        modifiers += [("staterror", "stat")] * self.chance(3)
        modifiers += [("shapesys", f"shape_{channel}_{title}")] * self.chance(20)
        modifiers += [("shapesys", f"shape_{channel}_{SAMPLES[0]}")] * self.chance(3)
        modifiers += [("shapefactor", "free")] * self.chance(5)
        modifiers += [("shapefactor", f"free_{title}")] * self.chance(5)
        modifiers += [("normsys", NORMS[1])] * self.chance(2)  # pyhf refuses it if it is a norm
        return self.sample(title, self.yields(bins, 8.0), modifiers)

    # ------------------------------------------------------------------ settings

    def parameters(self, spec: Spec) -> list[Spec]:
        """What a measurement may say about some of the parameters of a workspace."""
        sizes: dict[str, tuple[str, int]] = {}
        for channel in sorted(spec["channels"], key=lambda item: item["name"]):
            count = len(channel["samples"][0]["data"])
            found = {(m["type"], m["name"]) for s in channel["samples"] for m in s["modifiers"]}
            for kind, name in sorted(found):
                old = sizes.get(name, (kind, 0))[1]
                size = count if kind in BIN_KINDS else 1
                sizes[name] = kind, size + old if kind == "staterror" else max(size, old)
        made = [copy.deepcopy(models.LUMI)]
        if self.chance(3):
            del made[0]["sigmas"]
        names = sorted(set(sizes) - {"lumi"})
        made += [{"name": name, **self.parameter(*sizes[name])} for name in self.some(names, 0, 4)]
        if self.chance(5):
            made.append({"name": "nobody has this", "inits": [1.0]})
        return made

    def parameter(self, kind: str, size: int) -> Spec:
        alpha = kind in ("normsys", "histosys")
        centre = 0.0 if alpha else 1.0
        around = [round(x, 3) for x in centre + self.rng.uniform(-0.3, 0.3, size)]
        keys = ["inits", "bounds", "fixed"]
        if kind not in ("normfactor", "shapefactor"):
            keys.append("auxdata")
        if kind == "staterror":
            keys.append("sigmas")
        if kind == "shapesys":
            keys.append("factors")
        low = {"normfactor": [-2.0, 0.0, 0.1], "shapefactor": [0.0, 0.1]}.get(kind, [1e-10, 0.1])
        choices = {
            "inits": around,
            "bounds": [[-3.0 if alpha else self.draw(st.sampled_from(low)), 4.0]] * size,
            "fixed": self.chance(50),
            "auxdata": [10 * x for x in around] if kind == "shapesys" else around,
            "sigmas": [round(x, 3) for x in self.rng.uniform(0.1, 0.4, size)],
            "factors": [round(x, 2) for x in self.rng.uniform(2.0, 200.0, size)],
        }
        return {key: choices[key] for key in self.some(keys, 1)}

    # ------------------------------------------------------------------ patches

    def patch(self, workspace: Spec, name: str) -> Patch:
        """Signals, and sometimes changes of what is there."""
        spec, operations = copy.deepcopy(workspace), []
        changes = self.some(_CHANGES, 0, 2) if self.chance(50) else []
        actions = changes if self.chance(5) else [*changes, "signal"]
        if self.chance(20):
            actions.reverse()
        for action in actions:
            for operation in getattr(self, f"_{action}")(spec):
                # The values of later operations may depend on earlier ones.
                spec = jsonpatch.apply_patch(spec, [copy.deepcopy(operation)])
                operations.append(operation)
        return Patch(name, (1.0,), operations)

    def _signal(self, spec: Spec) -> Iterator[Spec]:
        title = self.draw(st.sampled_from(["signal", "HH", "zeta"]))
        positions = self.some(range(len(spec["channels"])), 1)
        for c in positions:
            channel = spec["channels"][c]
            if any(item["name"] == title for item in channel["samples"]):
                continue
            added = self.signal(channel["name"], len(channel["samples"][0]["data"]), title)
            place = self.draw(st.sampled_from(["-", "0"]))
            yield {"op": "add", "path": f"/channels/{c}/samples/{place}", "value": added}

    def _place(self, spec: Spec) -> tuple[str, Spec]:
        c = self.draw(st.integers(0, len(spec["channels"]) - 1))
        s = self.draw(st.integers(0, len(spec["channels"][c]["samples"]) - 1))
        return f"/channels/{c}/samples/{s}", spec["channels"][c]["samples"][s]

    def _number(self, spec: Spec) -> Iterator[Spec]:
        path, sample = self._place(spec)
        paths = [f"{path}/data/{len(sample['data']) - 1}"]
        for m, modifier in enumerate(sample["modifiers"]):
            start = f"{path}/modifiers/{m}/data"
            paths += [f"{start}/hi"] * (modifier["type"] == "normsys")
            paths += [f"{start}/lo_data/0"] * (modifier["type"] == "histosys")
            paths += [f"{start}/0"] * (modifier["type"] in ("staterror", "shapesys"))
        for chosen in self.some(paths, 1, 2):
            value = 1.13 if chosen.endswith("/hi") else float(self.rng.integers(1, 60))
            yield {"op": "replace", "path": chosen, "value": value}

    def _sample(self, spec: Spec) -> Iterator[Spec]:
        path, sample = self._place(spec)
        new = copy.deepcopy(sample)
        new["data"] = [round(1.1 * x, 3) for x in new["data"]]
        new["modifiers"] = self.some(new["modifiers"])
        yield {"op": "replace", "path": path, "value": new}

    def _same(self, spec: Spec) -> Iterator[Spec]:
        path, sample = self._place(spec)
        yield {"op": "replace", "path": path, "value": copy.deepcopy(sample)}

    def _renamed(self, spec: Spec) -> Iterator[Spec]:
        path, sample = self._place(spec)
        yield {"op": "replace", "path": f"{path}/name", "value": f"{sample['name']}_new"}

    def _removed_modifier(self, spec: Spec) -> Iterator[Spec]:
        path, sample = self._place(spec)
        if sample["modifiers"]:
            yield {"op": "remove", "path": f"{path}/modifiers/0"}

    def _removed_sample(self, spec: Spec) -> Iterator[Spec]:
        path, _ = self._place(spec)
        if len(spec["channels"][int(path.split("/")[2])]["samples"]) > 1:
            yield {"op": "remove", "path": path}

    def _removed_channel(self, spec: Spec) -> Iterator[Spec]:
        if len(spec["channels"]) > 1:
            yield {"op": "remove", "path": "/channels/0"}

    def _channel(self, spec: Spec) -> Iterator[Spec]:
        free = [name for name in ("BR", "VR") if name not in _names(spec["channels"])]
        bins = self.draw(st.integers(1, 3))
        for name in free[:1]:
            made = self.sample("ttbar", self.yields(bins, 30.0), self.systematics(ALPHAS))
            yield {
                "op": "add",
                "path": "/observations/-",
                "value": {"name": name, "data": self.observed(bins)},
            }
            yield {
                "op": "add",
                "path": f"/channels/{self.draw(st.sampled_from(['-', '0']))}",
                "value": {"name": name, "samples": [made]},
            }

    def _observed(self, spec: Spec) -> Iterator[Spec]:
        bins = len(spec["observations"][0]["data"])
        yield {"op": "replace", "path": "/observations/0/data", "value": self.observed(bins)}

    def _measurement(self, spec: Spec) -> Iterator[Spec]:
        path = "/measurements/0/config/parameters"
        yield {"op": "replace", "path": path, "value": self.parameters(spec)}

    def _poi(self, spec: Spec) -> Iterator[Spec]:
        statistics = f"stat_{spec['channels'][0]['name']}"
        name = self.draw(st.sampled_from([NORMS[0], ALPHAS[0], "nobody", statistics]))
        yield {"op": "replace", "path": "/measurements/0/config/poi", "value": name}

    def _copied(self, spec: Spec) -> Iterator[Spec]:
        path, sample = self._place(spec)
        end = path.rsplit("/", 1)[0]
        yield {"op": "replace", "path": f"{path}/data/0", "value": 12.5}
        yield {"op": "copy", "from": path, "path": f"{end}/0"}
        yield {"op": "replace", "path": f"{end}/0/name", "value": f"{sample['name']}_copy"}
        yield {"op": "replace", "path": f"{end}/0/data/0", "value": 3.25}

    def _moved(self, spec: Spec) -> Iterator[Spec]:
        path, _ = self._place(spec)
        yield {"op": "move", "from": path, "path": f"{path.rsplit('/', 1)[0]}/0"}


_CHANGES = (
    "number",
    "sample",
    "same",
    "renamed",
    "removed_modifier",
    "removed_sample",
    "removed_channel",
    "channel",
    "observed",
    "measurement",
    "poi",
    "copied",
    "moved",
)


def _names(items: Sequence[Spec]) -> set[str]:
    return {item["name"] for item in items}


@st.composite
def cases(draw: Draw, *, odd: bool = True, patches: int = 3) -> Case:
    """Backgrounds with patches; `odd` ones have zeros, negative yields and empty bins."""
    seed = draw(st.integers(0, 2**31 - 1))
    maker = _Maker(draw, np.random.default_rng(seed), odd)
    workspace = maker.background()
    count = draw(st.integers(min(2, patches), patches))
    made = [maker.patch(workspace, f"patch_{number}") for number in range(count)]
    # What the measurement says may concern a parameter that only a patch has.
    full = workspace
    for patch in made:
        try:
            full = apply(workspace, patch)
        except PalletError:
            continue
    workspace["measurements"][0]["config"]["parameters"] = maker.parameters(full)
    norms = [name for name in NORMS if f'"name": "{name}"' in json.dumps(workspace)]
    if norms and maker.chance(20):
        workspace["measurements"][0]["config"]["poi"] = norms[0]
    fit = FitSettings(
        normsys=draw(st.sampled_from(["code4", "code1"])),
        histosys=draw(st.sampled_from(["code4p", "code0", "code2"])),
    )
    return Case(workspace, made, fit, seed)


# --------------------------------------------------------------------------- both engines


@dataclass(frozen=True)
class Pair:
    """One patch in both descriptions."""

    model: Any
    data: np.ndarray
    batch: Lowered
    row: int
    columns: np.ndarray

    def of_pyhf(self, values: np.ndarray) -> np.ndarray:
        """From columns to pyhf's order."""
        return values[..., self.columns]

    def to_columns(self, point: np.ndarray) -> np.ndarray:
        """From pyhf's order to columns; those that the patch lacks stay where they are."""
        values = self.batch.init[self.row].copy()
        values[self.columns] = point
        return values

    def points(self, rng: np.random.Generator, count: int) -> Iterator[np.ndarray]:
        """Points within the bounds: the suggested one, and random ones with special values."""
        lower, upper = np.array(self.model.config.suggested_bounds()).T
        init = np.clip(self.model.config.suggested_init(), lower, upper)
        yield init
        for number in range(count):
            chances = (0.2, 0.8, 0.0, 0.0) if number % 2 else (0.15, 0.63, 0.2, 0.02)
            anywhere = rng.uniform(lower, upper)
            near = np.clip(init + 0.3 * rng.normal(size=len(init)), lower, upper)
            special = np.clip(rng.choice([0.0, 1.0, -1.0], len(init)), lower, upper)
            kind = rng.choice(4, len(init), p=chances)
            yield np.choose(kind, [anywhere, near, special, lower])


def lower(case: Case) -> tuple[list[Lowered], dict[int, str], dict[int, Spec]]:
    """Lower the patches of a case; also full workspaces of those that apply, by position."""
    sound: dict[int, Spec] = {}
    shared = []
    for patch in case.patches:
        try:
            spec = apply(case.workspace, patch)
        except PalletError:
            continue
        sound[len(shared)] = spec
        shared.append(apply_sharing(case.workspace, patch))
    batches, unsupported = Background(case.workspace, case.fit).lower(shared)
    return batches, unsupported, sound


def pairs(case: Case) -> Iterator[Pair]:
    """All supported patches of a case in both descriptions."""
    batches, _, sound = lower(case)
    for batch in batches:
        for row, index in enumerate(batch.index):
            yield pair(sound[int(index)], batch, row, case.fit)


def pair(spec: Spec, batch: Lowered, row: int, fit: FitSettings) -> Pair:
    model, data = build_model(spec, fit)
    names = batch.names[row]
    columns = np.array([names.index(name) for name in model.config.par_names])
    return Pair(model, data, batch, row, columns)
