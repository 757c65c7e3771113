"""Files that are no networks, or hold what a network does not need, are refused with a reason."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from palletfit.errors import ConfigError, PalletError
from palletfit.learned import network as module
from palletfit.learned.network import Network

from . import networks

onnx = networks.onnx
helper = onnx.helper


def refused(path) -> str:
    with pytest.raises(PalletError) as raised:
        Network.read(path)
    assert str(path) in str(raised.value)
    assert raised.value.remedy
    return raised.value.problem


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\x08\x07", bytes(range(256)) * 9, b"PK\x03\x04" * 9]
)
def test_a_file_that_is_no_onnx(tmp_path, content):
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    assert "no ONNX file" in refused(path)


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match="need the package onnx") as raised:
        Network.read(tmp_path / "network.onnx")
    assert "palletfit[referee]" in raised.value.remedy


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    assert "No such file" in refused(tmp_path / "missing.onnx")
    assert "Is a directory" in refused(tmp_path)
    path = networks.save(networks.counting(), tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    refused(path)
    path = networks.save(networks.counting(), tmp_path)
    monkeypatch.setattr(module, "LARGEST_FILE", 100)
    assert "has more than" in refused(path)


def test_data_in_other_files_are_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(24))
    model = networks.counting()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    assert "other files are not read" in refused(networks.save(model, tmp_path))


def hostile(kind: str):
    """A network with something that no network of yields needs."""
    graph = networks.Graph()
    if kind == "domain":
        return graph.model(graph.add("Gemm", "features", domain="com.evil"))
    if kind == "loop":
        body = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "body", [], [])
        return graph.model(graph.add("If", "features", then_branch=body, else_branch=body))
    if kind == "random":
        return graph.model(graph.add("RandomNormalLike", "features"))
    if kind == "function":
        model = graph.model(graph.add("Abs", "features"))
        nodes = [helper.make_node("Abs", ["a"], ["b"])]
        opsets = [helper.make_opsetid("", 17)]
        model.functions.append(helper.make_function("own", "F", ["a"], ["b"], nodes, opsets))
        return model
    if kind == "bomb":
        name = "features"
        for _ in range(40):
            name = graph.add("Concat", name, name, axis=1)
        return graph.model(name)
    if kind == "unknown size":
        size = graph.add("Cast", "features", to=onnx.TensorProto.INT64)
        flat = graph.add("Reshape", size, graph.weight([-1], np.int64))
        return graph.model(graph.add("Reshape", "features", flat))
    raise ValueError(kind)


def unfit(kind: str):
    """A network of harmless operators that is too large, random, or gives no numbers."""
    graph = networks.Graph()
    if kind == "many tensors":
        wide = graph.add("MatMul", "features", graph.weight(np.ones((3, 300_000))))
        for _ in range(400):
            wide = graph.add("Abs", wide)
        return graph.model(graph.add("ReduceSum", wide, graph.weight([1], np.int64)))
    if kind == "dropout":
        half, training = graph.weight(0.5), graph.weight(True, bool)
        return graph.model(graph.add("Dropout", "features", half, training))
    if kind == "texts":
        model = graph.model(graph.add("Constant", value_strings=["text"]))
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
        return model
    raise ValueError(kind)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("domain", "operator 'Gemm' of the domain 'com.evil'"),
        ("loop", "operator 'If'"),
        ("random", "operator 'RandomNormalLike'"),
        ("function", "functions"),
        ("bomb", "numbers a row"),
        ("unknown size", "of unknown size"),
    ],
)
def test_what_a_network_does_not_need_is_refused(tmp_path, kind, problem):
    assert problem in refused(networks.save(hostile(kind), tmp_path))


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("many tensors", "numbers a row together"),
        ("dropout", "is random"),
        ("texts", "cannot be evaluated"),
    ],
)
def test_networks_that_are_unfit_are_refused(tmp_path, kind, problem):
    assert problem in refused(networks.save(unfit(kind), tmp_path))


def test_inputs_of_another_kind(tmp_path):
    def changed(edit):
        model = networks.counting()
        edit(model.graph.input[0].type.tensor_type)
        return refused(networks.save(model, tmp_path))

    def integer(kind):
        kind.elem_type = onnx.TensorProto.INT32

    def open_width(kind):
        kind.shape.dim[1].dim_param = "M"

    def rows(kind):
        kind.shape.dim[0].dim_value = 5

    def deep(kind):
        kind.shape.dim.add(dim_value=2)

    assert "neither float nor double" in changed(integer)
    assert "known number of yields" in changed(open_width)
    assert "takes 5 rows" in changed(rows)
    assert "no table of rows" in changed(deep)
    model = networks.counting()
    model.graph.input.append(helper.make_tensor_value_info("more", 1, [1, 1]))
    assert "has 2 inputs (features, more)" in refused(networks.save(model, tmp_path))
    model = networks.counting()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    assert "do not fit together" in refused(networks.save(model, tmp_path))


def test_rows_that_depend_on_each_other_are_evaluated_alone(tmp_path):
    graph = networks.Graph(width=2)
    mean = graph.add("ReduceMean", "features", axes=[0], keepdims=1)
    network = Network.read(networks.save(graph.model(graph.add("Abs", mean)), tmp_path))
    rows = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert np.array_equal(network(rows), rows)


def test_many_rows_are_evaluated_in_pieces(tmp_path, monkeypatch):
    path = networks.save(networks.counting(), tmp_path)
    rows = np.random.default_rng(1).uniform(0, 9, (50, 3))
    together = Network.read(path)(rows)
    monkeypatch.setattr(module, "_TOGETHER", 100)
    assert np.allclose(Network.read(path)(rows), together, rtol=1e-14)
    assert Network.read(path)(np.zeros((0, 3))).shape == (0, 8)


def test_single_precision(tmp_path):
    network = Network.read(networks.save(networks.counting(dtype=np.float32), tmp_path))
    assert network(np.array([[3.0, 2.0, 0.5]]))[0, 1] == pytest.approx(
        networks.exact("nll_obs_1", [3.0, 2.0, 0.5]), abs=1e-4
    )
