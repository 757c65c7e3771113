"""Networks of ONNX files, which are untrusted: checked as data, and evaluated with NumPy.

A network is a graph of operators that are known to be harmless (see :data:`OPERATORS`), without
loops, functions, other libraries or other files. The size of all its tensors is known before it is
evaluated. The reference evaluator of the package `onnx` computes it: each operator is a few lines
of NumPy that follow the standard.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palletfit.core.arrays import FloatArray
from palletfit.core.text import did_you_mean, printable
from palletfit.errors import ConfigError, PalletError

#: Bytes of a file, and numbers of a tensor of one point.
LARGEST_FILE, LARGEST_TENSOR = 64 * 1024**2, 10**7
#: Numbers of all tensors of one point, and of all points that are computed together. The evaluator
#: keeps every tensor until the last one is known.
LARGEST_SUM, _TOGETHER = 10**8, 1 << 24
#: Largest numbers of operators, and of inputs or outputs.
_MOST_OPERATORS, _MOST_COLUMNS = 10_000, 10_000
#: Operators of feed-forward networks, in the standard's own domain. None of them reads a file,
#: draws random numbers, or runs another graph.
OPERATORS = frozenset(
    (  # noqa: SIM905
        "Abs Add And BatchNormalization Cast CastLike Ceil Celu Clip Concat Constant Cos Div "
        "Dropout Elu Equal Erf Exp Flatten Floor Gather Gelu Gemm Greater GreaterOrEqual "
        "HardSigmoid HardSwish Identity IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual "
        "Log LogSoftmax MatMul Max Mean Min Mish Mul Neg Not Or PRelu Pow Reciprocal ReduceL2 "
        "ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare Relu Reshape Round Selu Shape "
        "Sigmoid Sign Sin Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tanh "
        "ThresholdedRelu Transpose Unsqueeze Where Xor"
    ).split()
)
_DOMAINS = ("", "ai.onnx")
#: Relative difference that rounding may make between rows alone and together.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Network:
    """A network that computes a row of outputs from a row of inputs.

    Attributes
    ----------
    path
        File.
    width
        Number of inputs of a row.
    outputs
        Name of each output, and its number of columns, in the order of the columns.
    metadata
        Texts that the file holds about the network.
    """

    path: Path
    width: int
    outputs: tuple[tuple[str, int], ...]
    metadata: dict[str, str]
    _evaluator: Any
    _input: str
    _dtype: Any
    _rows: int

    @property
    def columns(self) -> int:
        """Number of columns of all outputs together."""
        return sum(size for _, size in self.outputs)

    def column_of(self, name: str) -> int | None:
        """Give the column of an output that has one; None if there is none of this name."""
        before = 0
        for output, size in self.outputs:
            if output == name and size == 1:
                return before
            before += size
        return None

    @classmethod
    def read(cls, path: Path) -> Network:
        """Read and check a file.

        Raises
        ------
        ConfigError
            The package `onnx` is not installed.
        PalletError
            The file cannot be read, is no network, or holds what a network does not need.
        """
        model = _parse(path)
        _check_content(model, path)
        feed, dtype = _input(model, path)
        one = _of_one_row(model)
        outputs, numbers = _sizes(one, path)
        first = feed.type.tensor_type.shape.dim[0]
        try:
            from onnx.reference import ReferenceEvaluator

            evaluator = ReferenceEvaluator(model)
        except Exception as error:
            raise _unusable(path, f"cannot be set up: {_line(error)}") from error
        network = cls(
            path=path,
            width=feed.type.tensor_type.shape.dim[1].dim_value,
            outputs=outputs,
            metadata={entry.key: entry.value for entry in model.metadata_props},
            _evaluator=evaluator,
            _input=feed.name,
            _dtype=dtype,
            _rows=1 if first.dim_value == 1 else max(1, _TOGETHER // numbers),
        )
        return network._checked()

    def __call__(self, features: FloatArray) -> FloatArray:
        """Evaluate rows.

        Parameters
        ----------
        features
            Inputs, ``(N, width)``.

        Returns
        -------
        numpy.ndarray
            Outputs, ``(N, columns)``; what cannot be computed is NaN or infinite.

        Raises
        ------
        PalletError
            An operator fails.
        """
        rows = [
            self._evaluate(features[first : first + self._rows])
            for first in range(0, len(features), self._rows)
        ]
        return np.concatenate([np.zeros((0, self.columns)), *rows])

    def _evaluate(self, features: FloatArray) -> FloatArray:
        try:
            with np.errstate(all="ignore"):
                feeds = {self._input: features.astype(self._dtype)}
                outputs = self._evaluator.run(None, feeds)
            table = [
                np.asarray(values, dtype=float).reshape(len(features), -1)
                for values in outputs
                if np.size(values) % len(features) == 0
            ]
        except Exception as error:  # of an operator, or of outputs that are texts
            raise _unusable(self.path, f"cannot be evaluated: {_line(error)}") from error
        joined = np.concatenate(table, axis=1) if table else np.zeros((len(features), 0))
        if joined.shape[1] != self.columns:
            raise _unusable(
                self.path,
                f"gives {joined.shape[1]} columns for {len(features)} rows, and {self.columns} for "
                "one",
            )
        return joined

    def _checked(self) -> Network:
        """Evaluate rows alone if others change their outputs, as batch statistics do.

        Raises
        ------
        PalletError
            The same inputs have other outputs the second time.
        """
        rows = np.linspace(0.5, 1.5, 3 * self.width).reshape(3, self.width)
        alone = Network(**{**self.__dict__, "_rows": 1})
        single = alone(rows)
        if not np.array_equal(single, alone(rows), equal_nan=True):
            raise _unusable(self.path, "is random, as Dropout is in training")
        if self._rows == 1:
            return alone
        try:
            together = self(rows)
        except PalletError:
            return alone
        size = np.maximum(np.abs(single), 1.0)
        equal = np.abs(together - single) <= _ROUNDING * size
        return self if np.all(equal | ~np.isfinite(single)) else alone


# --------------------------------------------------------------------------- reading


def _parse(path: Path) -> Any:
    try:
        import onnx
    except ImportError:
        raise ConfigError(
            "Networks need the package onnx, which is not installed.",
            remedy="Install it (`pip install 'palletfit[referee]'`).",
        ) from None
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise PalletError(
            f"The network cannot be read: {error.strerror}.", remedy="Check its path.", file=path
        ) from None
    if len(content) > LARGEST_FILE:
        raise PalletError(
            f"The file has more than {LARGEST_FILE // 1024**2} MiB, which no network of yields "
            "needs.",
            remedy="Give the ONNX file of a learned likelihood.",
            file=path,
        )
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # of protobuf, of which onnx names none
        raise _no_onnx(path) from error
    if not model.graph.node:
        raise _no_onnx(path)
    return model


def _no_onnx(path: Path) -> PalletError:
    return PalletError(
        "The file is no ONNX file, or it is damaged.",
        remedy="Give a network that was exported as ONNX; the workspace comes after it.",
        file=path,
    )


def _unusable(path: Path, problem: str) -> PalletError:
    return PalletError(
        f"The network {problem}.",
        remedy="Export it again, as one plain network from a row of yields to a row of outputs.",
        file=path,
    )


def _line(error: BaseException) -> str:
    text = printable(" ".join(str(error).split()))[:200]
    return f"{type(error).__name__}: {text}".rstrip(".")


# --------------------------------------------------------------------------- checks


def _check_content(model: Any, path: Path) -> None:
    """Refuse operators and data that a network of yields does not need."""
    import onnx

    graph = model.graph
    if len(model.functions) or len(graph.node) > _MOST_OPERATORS:
        content = "functions" if len(model.functions) else f"{len(graph.node)} operators"
        raise PalletError(
            f"The network has {content}, which are not evaluated.",
            remedy=f"Export it with its functions inlined, and at most {_MOST_OPERATORS} "
            "operators.",
            file=path,
        )
    for tensor in _tensors(graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or len(tensor.external_data):
            raise PalletError(
                f"The tensor {printable(tensor.name)[:100]!r} is in another file, and other files "
                "are not read.",
                remedy="Save the network with all its data in one file.",
                file=path,
            )
    for node in graph.node:
        _check_operator(node, path)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise _unusable(path, f"is not valid: {_line(error)}") from None


def _check_operator(node: Any, path: Path) -> None:
    name = printable(node.op_type)[:100]
    if node.domain not in _DOMAINS or node.op_type not in OPERATORS:
        domain = printable(node.domain)[:100]
        of = "" if node.domain in _DOMAINS else f" of the domain {domain!r}"
        raise PalletError(
            f"The network has an operator {name!r}{of}, which is not evaluated.",
            remedy=f"{did_you_mean(name, OPERATORS)}Export a feed-forward network of standard "
            "operators; docs/referee.md lists them.",
            file=path,
        )
    if any(attribute.HasField("g") or len(attribute.graphs) for attribute in node.attribute):
        raise _unusable(path, f"has a graph within its operator {name!r}")


def _tensors(graph: Any) -> Iterator[Any]:
    """List all tensors of a graph that has no graphs within it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _input(model: Any, path: Path) -> tuple[Any, Any]:
    """Find the one input, and its type; it is a table with a known number of columns."""
    import onnx

    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in stored]
    if len(inputs) != 1:
        names = ", ".join(printable(entry.name)[:50] for entry in inputs[:5]) or "none"
        raise _unusable(path, f"has {len(inputs)} inputs ({names}), and not one")
    kind = inputs[0].type.tensor_type
    dtypes = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.DOUBLE: np.float64}
    if kind.elem_type not in dtypes:
        raise _unusable(path, "has an input that is neither float nor double")
    sizes = [dim.dim_value for dim in kind.shape.dim]
    if len(sizes) != 2 or not 0 < sizes[1] <= _MOST_COLUMNS:
        raise _unusable(path, "has an input that is no table of rows with a known number of yields")
    if sizes[0] > 1:
        raise _unusable(path, f"takes {sizes[0]} rows at a time, and not any number of them or one")
    return inputs[0], dtypes[kind.elem_type]


def _of_one_row(model: Any) -> Any:
    one = copy.deepcopy(model)
    stored = {tensor.name for tensor in one.graph.initializer}
    for entry in one.graph.input:
        if entry.name not in stored:
            entry.type.tensor_type.shape.dim[0].dim_value = 1
    for entry in one.graph.output:
        entry.type.tensor_type.ClearField("shape")
    del one.graph.value_info[:]
    return one


def _sizes(model: Any, path: Path) -> tuple[tuple[tuple[str, int], ...], int]:
    """Infer the columns of each output of one row, and the numbers of all tensors together."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise _unusable(path, f"has shapes that do not fit together: {_line(error)}") from None
    graph = inferred.graph
    sizes = {entry.name: _size(entry) for entry in (*graph.value_info, *graph.output)}
    computed = [name for node in graph.node for name in node.output if name]
    for name in computed:
        size = sizes.get(name)
        if size is None or size > LARGEST_TENSOR:
            content = "of unknown size" if size is None else f"of {size} numbers a row"
            raise _unusable(path, f"has a tensor {printable(name)[:100]!r} {content}")
    total = sum(sizes[name] or 0 for name in computed)
    if total > LARGEST_SUM:
        raise _unusable(path, f"has tensors of {total} numbers a row together")
    outputs = tuple((entry.name, sizes[entry.name] or 0) for entry in graph.output)
    if not 0 < sum(size for _, size in outputs) <= _MOST_COLUMNS:
        raise _unusable(path, f"has {sum(size for _, size in outputs)} outputs")
    return outputs, max(1, total)


def _size(entry: Any) -> int | None:
    """Count the numbers of a tensor; None if a dimension is unknown."""
    if not entry.type.HasField("tensor_type") or not entry.type.tensor_type.HasField("shape"):
        return None
    sizes = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
    static = all(dim.HasField("dim_value") for dim in entry.type.tensor_type.shape.dim)
    return math.prod(sizes) if static else None
