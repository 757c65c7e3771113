"""Small HistFactory workspaces and patchsets, made of parts that a test chooses."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyhf

import palletfit
from palletfit.executors import thread_limits

Spec = dict[str, Any]

POI = "mu_SIG"
LABELS = ["m1", "m2"]

#: One modifier of each type, for a background sample of two bins with 60 and 40 events.
MODIFIERS: dict[str, Spec] = {
    "normfactor": {"name": "norm", "type": "normfactor", "data": None},
    "normsys": {"name": "scale", "type": "normsys", "data": {"hi": 1.12, "lo": 0.91}},
    "histosys": {
        "name": "shape",
        "type": "histosys",
        "data": {"hi_data": [63.0, 44.0], "lo_data": [58.0, 37.0]},
    },
    "shapesys": {"name": "uncorrelated", "type": "shapesys", "data": [5.0, 6.0]},
    "staterror": {"name": "statistics", "type": "staterror", "data": [3.0, 4.0]},
    "shapefactor": {"name": "free", "type": "shapefactor", "data": None},
    "lumi": {"name": "lumi", "type": "lumi", "data": None},
}
LUMI: Spec = {
    "name": "lumi",
    "auxdata": [1.0],
    "sigmas": [0.05],
    "inits": [1.0],
    "bounds": [[0.75, 1.25]],
}


def sample(name: str, data: Sequence[float], *modifiers: Spec) -> Spec:
    return {"name": name, "data": list(data), "modifiers": copy.deepcopy(list(modifiers))}


def signal(data: Sequence[float], *modifiers: Spec, name: str = "signal") -> Spec:
    strength = {"name": POI, "type": "normfactor", "data": None}
    return sample(name, data, strength, *modifiers)


def workspace(
    channels: Mapping[str, Sequence[Spec]],
    observed: Mapping[str, Sequence[float]],
    parameters: Sequence[Spec] = (),
) -> Spec:
    """A workspace of channels, each with its samples."""
    return {
        "channels": [
            {"name": name, "samples": copy.deepcopy(list(samples))}
            for name, samples in channels.items()
        ],
        "observations": [{"name": name, "data": list(data)} for name, data in observed.items()],
        "measurements": [
            {"name": "fit", "config": {"poi": POI, "parameters": copy.deepcopy(list(parameters))}}
        ],
        "version": "1.0.0",
    }


def background(*kinds: str, observed: Sequence[float] = (58.0, 45.0)) -> Spec:
    """Background-only: a signal region of two bins, and a control region that fixes free norms."""
    free = [MODIFIERS[kind] for kind in kinds if kind in ("normfactor", "lumi")]
    # A free shape is measured where it has the same number of bins and no signal.
    shape = [MODIFIERS[kind] for kind in kinds if kind == "shapefactor"]
    return workspace(
        {
            "SR": [sample("bkg", [60.0, 40.0], *(MODIFIERS[kind] for kind in kinds))],
            "CR": [sample("bkg", [300.0, 200.0], *free, *shape)],
        },
        {"SR": observed, "CR": [306.0, 195.0]},
        [LUMI] if "lumi" in kinds else [],
    )


def full(*kinds: str, events: Sequence[float] = (8.0, 14.0), **options: Any) -> Spec:
    """The workspace of :func:`background` with a signal."""
    spec = background(*kinds, **options)
    spec["channels"][0]["samples"].append(signal(events))
    return spec


def counting(
    events: float = 10.0, expected: float = 50.0, observed: float = 52.0, *modifiers: Spec
) -> Spec:
    """One bin."""
    return workspace(
        {"SR": [sample("bkg", [expected], *modifiers), signal([events])]}, {"SR": [observed]}
    )


def below_zero(*modifiers: Spec, control: float | None = None) -> Spec:
    """Nothing is seen in a signal region whose background a histosys may drive below zero.

    With a control region, that many events there pull the histosys as well.
    """
    shape = {"name": "shape", "type": "histosys", "data": {"hi_data": [3.0], "lo_data": [-2.5]}}
    channels = {"SR": [sample("bkg", [0.5], shape, *modifiers), signal([2.0])]}
    observed = {"SR": [0.0]}
    if control is not None:
        other = {**shape, "data": {"hi_data": [55.0], "lo_data": [5.0]}}
        channels["CR"], observed["CR"] = [sample("bkg", [30.0], other)], [control]
    return workspace(channels, observed)


def narrow(trap: bool) -> Spec:
    """A control region of 435 events, with or without a shapesys of 0.001 on them."""
    norm = {"name": "norm", "type": "normfactor", "data": None}
    theory = {"name": "theory", "type": "normsys", "data": {"hi": 1.2, "lo": 0.8}}
    shapesys = {"name": "narrow", "type": "shapesys", "data": [0.001]}
    return workspace(
        {
            "CR": [sample("bkg", [435.0], norm, *([shapesys] if trap else []))],
            "SR": [sample("bkg", [20.0], norm, theory), signal([8.0])],
        },
        {"CR": [441.0], "SR": [22.0]},
    )


def patch(name: str, values: Sequence[float | str], events: Sequence[float] = (8.0, 14.0)) -> Spec:
    """A patch that adds a signal to the signal region of :func:`background`."""
    operation = {"op": "add", "path": "/channels/0/samples/-", "value": signal(events, name=name)}
    return {"metadata": {"name": name, "values": list(values)}, "patch": [operation]}


def patchset(
    background_only: Spec, patches: Sequence[Spec], labels: Sequence[str] = LABELS
) -> Spec:
    """A patchset with the right digest of its workspace."""
    return {
        "metadata": {
            "description": "signals of a test",
            "references": {"hepdata": "ins0000000"},
            "digests": {"sha256": pyhf.utils.digest(background_only)},
            "labels": list(labels),
        },
        "patches": list(patches),
        "version": "1.0.0",
    }


def grid(count: int = 3) -> list[Spec]:
    """Patches with different values and yields."""
    return [
        patch(f"signal_{100 * (i + 1)}_50", [100 * (i + 1), 50], [8.0 - i, 14.0 - 2 * i])
        for i in range(count)
    ]


def write(folder: Path, background_only: Spec, patches: Spec) -> tuple[Path, Path]:
    """Both files of a pallet in a folder."""
    paths = folder / "workspace.json", folder / "patchset.json"
    for path, content in zip(paths, (background_only, patches), strict=True):
        path.write_text(json.dumps(content), encoding="utf-8")
    return paths


def model_and_data(spec: Spec) -> tuple[Any, np.ndarray]:
    """pyhf's own model and data of a workspace, with the package's interpolation codes."""
    opened = pyhf.Workspace(spec)
    model = opened.model(
        modifier_settings={
            "normsys": {"interpcode": "code4"},
            "histosys": {"interpcode": "code4p"},
        }
    )
    return model, np.asarray(opened.data(model), dtype=float)


def environment(**more: object) -> dict[str, str]:
    """Environment of a subprocess that imports this package and is content with one thread."""
    paths = [str(more.pop("PYTHONPATH", "")), str(Path(palletfit.__file__).parents[1])]
    return {
        **os.environ,
        **thread_limits(1),
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **{name: str(value) for name, value in more.items()},
        "PYTHONPATH": os.pathsep.join(filter(None, [*paths, os.environ.get("PYTHONPATH", "")])),
    }


def hypotest_result(cls: float) -> dict[str, Any]:
    """What the engine gives for a patch, with numbers of no meaning but its CLs."""
    fit = {"trusted": True, "reason": "said so", "twice_nll": 1.0, "edm": 0.0, "mu": 0.0}
    return {
        "status": "ok",
        "CLs_obs": cls,
        "CLsb_obs": cls,
        "CLb_obs": 1.0,
        "CLs_exp": [cls] * 5,
        "mu_hat": 0.0,
        "mu_hat_error": None,
        "fits": dict.fromkeys(("background", "free", "fixed", "asimov_fixed"), fit),
        "remarks": [],
        "engine": "none",
        "fit_time": 0.0,
    }
