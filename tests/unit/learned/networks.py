"""Networks in closed form, written operator by operator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import gammaln

from .. import models

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

#: Background and data of a counting experiment of two bins in one channel and one in another.
BACKGROUND, OBSERVED = np.array([50.0, 20.0, 8.0]), np.array([52.0, 17.0, 9.0])
OUTPUTS = ("nll_obs_0", "nll_obs_1", "nllA_obs_0", "nllA_obs_1")
EXPECTED = ("nll_exp_0", "nll_exp_1", "nllA_exp_0", "nllA_exp_1")


def workspace() -> models.Spec:
    """A background without uncertainties: all NLLs are sums of logarithms."""
    return models.workspace(
        {
            "SR": [models.sample("bkg", BACKGROUND[:2].tolist())],
            "CR": [models.sample("bkg", BACKGROUND[2:].tolist())],
        },
        {"SR": OBSERVED[:2].tolist(), "CR": OBSERVED[2:].tolist()},
    )


def patchset(signals: Mapping[str, Sequence[float]]) -> models.Spec:
    """Signals in the two bins of SR and the one of CR."""
    patches = []
    for index, (name, events) in enumerate(signals.items()):
        operations = [
            {
                "op": "add",
                "path": f"/channels/{channel}/samples/-",
                "value": models.signal(list(part)),
            }
            for channel, part in enumerate((events[:2], events[2:]))
        ]
        patches.append({"metadata": {"name": name, "values": [index]}, "patch": operations})
    return models.patchset(workspace(), patches, ["number"])


def data_of(name: str) -> np.ndarray:
    """Data of an NLL; Asimov data of a background without parameters are its yields."""
    return OBSERVED if name.startswith("nll_obs") else BACKGROUND


def exact(name: str, signal: Sequence[float]) -> float:
    """The NLL of Poisson distributions."""
    expected = BACKGROUND + np.array(signal) * name.endswith("_1")
    data = data_of(name)
    return float(np.sum(expected - data * np.log(expected) + gammaln(data + 1)))


class Graph:
    """Nodes and weights of a network that are added one after the other."""

    def __init__(self, *, width: int = 3, dtype: Any = np.float64, rows: Any = "N") -> None:
        self.dtype, self.nodes, self.weights = dtype, [], []
        self.kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.input = helper.make_tensor_value_info("features", self.kind, [rows, width])

    def weight(self, values: Any, dtype: Any = None) -> str:
        name = f"w{len(self.weights)}"
        array = np.asarray(values, dtype=dtype or self.dtype)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def model(self, outputs: Mapping[str, int | None] | str, **metadata: Any) -> Any:
        if isinstance(outputs, str):
            outputs = {outputs: None}
        infos = [helper.make_tensor_value_info(name, self.kind, ["N", "M"]) for name in outputs]
        graph = helper.make_graph(self.nodes, "network", [self.input], infos, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, {key: text(value) for key, value in metadata.items()})
        return model


def text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def counting(
    names: Sequence[str] = (*OUTPUTS, *EXPECTED),
    *,
    change: Mapping[tuple[int, str], float] | None = None,
    dtype: Any = np.float64,
    rows: Any = "N",
) -> Any:
    """The counting experiment as a network of signal yields, exact to rounding.

    `change` adds to the weight of the logarithm of a bin in an output.
    """
    graph = Graph(dtype=dtype, rows=rows)
    total = graph.add("Add", "features", graph.weight(BACKGROUND))
    both = graph.add("Concat", total, graph.add("Log", total), axis=1)
    weights, constants = np.zeros((6, len(names))), np.zeros(len(names))
    for column, name in enumerate(names):
        constants[column] = np.sum(gammaln(data_of(name) + 1))
        if name.endswith("_0"):  # does not depend on the signal
            constants[column] = exact(name, [0.0, 0.0, 0.0])
            continue
        weights[:3, column], weights[3:, column] = 1.0, -data_of(name)
    for (number, name), amount in (change or {}).items():
        weights[3 + number, names.index(name)] += amount
    return graph.model(graph.add("Gemm", both, graph.weight(weights), graph.weight(constants)))


#: Numbers of the scaling of a network of SModelS: of inputs, and of outputs.
MEAN, STD = [3.9, 3.0, 2.2], [0.5, 0.6, 0.7]
NLL_MEAN, NLL_STD = [0.3, 0.2, 0.4, 0.1], [1.5, 2.0, 0.5, 3.0]
SMODELS = ("nll_exp_1", "nll_obs_1", "nllA_exp_1", "nllA_obs_1")


def smodels(*, legacy: bool = False, **changed: Any) -> Any:
    """The same experiment as SModelS 3.2.1 takes it: scaled totals, and scaled differences."""
    graph = Graph(dtype=np.float64)

    def unary(kind: str, name: str) -> str:
        return graph.add(kind, name)

    scaled = graph.add("Mul", "features", graph.weight(STD))
    total = graph.add("Add", scaled, graph.weight(MEAN))
    if not legacy:
        total = graph.add("Sub", unary("Exp", total), graph.weight(1.0))
    both = graph.add("Concat", total, unary("Log", total), axis=1)
    data = np.array([data_of(name) for name in SMODELS]).T
    zeros = [
        np.sum(BACKGROUND - column * np.log(BACKGROUND)) for column in data.T
    ]  # without the constants, which differences lack
    weights = np.concatenate([np.ones((3, 4)), -data])
    delta = graph.add("Gemm", both, graph.weight(weights), graph.weight(-np.array(zeros)))
    if not legacy:
        size = graph.add("Add", unary("Abs", delta), graph.weight(1.0))
        delta = graph.add("Mul", unary("Sign", delta), unary("Log", size))
    shifted = graph.add("Sub", delta, graph.weight(NLL_MEAN))
    values = graph.add("Div", shifted, graph.weight(NLL_STD))
    # The second half are uncertainties.
    output = graph.add("Concat", values, graph.add("Abs", values), axis=1)
    return graph.model(output, **{**metadata(legacy=legacy), **changed})


def metadata(*, legacy: bool = False) -> dict[str, Any]:
    names = ["SR-0", "SR-1", "CR-0"]
    content: dict[str, Any] = {
        # A region that is no input, as of a file for several models.
        "bkg_yields": [*zip(names, BACKGROUND.tolist(), strict=True), ["VR-0", 3.0]],
        "obs_yields": [*zip(names, OBSERVED.tolist(), strict=True), ["VR-0", 4.0]],
        "remove_channels": ["VR"],
        "channels": [{"SR": "SR", "CR": "SR"}],
    }
    for name in ("nll_exp_0", "nll_obs_0", "nllA_exp_0", "nllA_obs_0"):
        key = name.replace("nll", "nLL").replace("_0", "_mu0")
        content[key] = exact(name, [0.0, 0.0, 0.0])
    if legacy:
        content["standardization_mean"] = [*MEAN, *NLL_MEAN]
        content["standardization_std"] = [*STD, *NLL_STD]
        return content
    # As Python writes it, with the numbers of three sets.
    content["standardization"] = str(
        {
            "features_mean": [MEAN],
            "features_std": [STD],
            "nLLs_mean": [NLL_MEAN],
            "nLLs_std": [NLL_STD],
        }
    )
    steps = ["log_w_negatives", "standardization"]
    content["run_config"] = {"data": {"trafos": {"fvs_standardized": steps}, "nLL_trafos": steps}}
    return content


def save(model: Any, folder: Path, name: str = "network.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path
