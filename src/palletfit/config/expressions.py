"""Expressions of analysis files: arithmetic, comparisons and conditions on a patchset's labels.

An expression is checked when its file is read, and evaluated when a plane is drawn. This module
does both, so that every expression that passes the check has a value. Analysis files come from
other people: an expression can neither call a function nor read an attribute.

All numbers are double precision, also where a table holds the labels as integers.
"""

from __future__ import annotations

import ast
import functools
import itertools
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_CONTENT = (
    "numbers, labels, + - * / // % **, comparisons, and, or, not, and texts in quotes next to == "
    "or !="
)
#: Largest depth of an expression, which is evaluated recursively.
_DEEPEST = 200

#: A label in backticks, or a text in quotes.
_QUOTED = re.compile(r"`([^`]*)`|'([^'\\]*)'|\"([^\"\\]*)\"")

_OPERATIONS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: np.logical_not,
    ast.Not: np.logical_not,
    ast.And: np.logical_and,
    ast.Or: np.logical_or,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}

#: Syntax of Python that is refused: its name, and what to write instead.
_REFUSED: dict[type[ast.AST], tuple[str, str]] = {
    ast.BitXor: ("^", "write ** for powers"),
    ast.LShift: ("<<", "write * and a power, such as * 2 ** 3"),
    ast.RShift: (">>", "write // and a power, such as // 2 ** 3"),
    ast.MatMult: ("@", "write * for products"),
    ast.Is: ("is", "write =="),
    ast.IsNot: ("is not", "write !="),
    ast.In: ("in", "write comparisons joined by or, such as m1 == 1 or m1 == 2"),
    ast.NotIn: ("not in", "write comparisons joined by and, such as m1 != 1 and m1 != 2"),
    ast.Call: ("a function", "write arithmetic, such as ** 0.5 for a square root"),
    ast.Attribute: ("a dot after a name", "write a label with a dot in backticks, such as `m.1`"),
    ast.IfExp: ("if", "write it as `select`, or multiply by a condition"),
}

#: Frequent errors of syntax: a pattern, its name, and what to write instead.
_MISTAKES = (
    (r"@", "@", "write the label alone"),
    (r"#", "#", "write a label with this character in backticks"),
    (r"&&", "&&", "write & or and"),
    (r"\|\|", "||", "write | or or"),
    (r"!(?!=)", "!", "write not"),
    (r"<>", "<>", "write !="),
    (r"(?<![=<>!])=(?![=<>])", "=", "write == for a comparison"),
    (r"`", "a single backtick", "close it"),
)


class _Kind(Enum):
    """Kind of value of a part of an expression, as far as its text tells."""

    NUMBER = "a number"
    CONDITION = "a condition"
    TEXT = "a text"
    LABEL = "a label"


@dataclass(frozen=True)
class _Parsed:
    """Syntax tree whose quoted parts are names.

    Attributes
    ----------
    text
        The expression.
    body
        Its syntax tree.
    labels
        Labels by their names in the tree.
    texts
        Quoted texts by their names in the tree.
    """

    text: str
    body: ast.expr
    labels: Mapping[str, str]
    texts: Mapping[str, str]


def names_in(expression: str) -> set[str]:
    """List the labels that an expression uses; those that are no plain names are in backticks.

    Raises
    ------
    ValueError
        The expression cannot be evaluated.

    Examples
    --------
    >>> sorted(names_in("`m(N1)` - 2 * mn2 == 130"))
    ['m(N1)', 'mn2']
    """
    parsed, _ = _checked(expression)
    return set(parsed.labels.values())


def require_names(expression: str, allowed: set[str], description: str) -> None:
    """Refuse an expression that uses names which are not allowed.

    Parameters
    ----------
    expression
        The expression.
    allowed
        Allowed names.
    description
        Start of the list of allowed names in the message, such as ``the labels are``.

    Raises
    ------
    ValueError
        Also for what :func:`names_in` refuses.
    """
    unknown = sorted(names_in(expression) - allowed)
    if unknown:
        raise ValueError(
            f"{expression!r} uses {', '.join(unknown)}, but {description}: "
            f"{', '.join(sorted(allowed))}"
        )


def require_condition(expression: str) -> None:
    """Refuse an expression that is no condition.

    Raises
    ------
    ValueError
        Also for what :func:`names_in` refuses.
    """
    _, kind = _checked(expression)
    if kind is not _Kind.CONDITION:
        raise ValueError(f"{expression!r} is not a condition: write one such as m1 == 60")


def evaluate(expression: str, columns: Mapping[str, Array]) -> Array:
    """Evaluate an expression for all points.

    Parameters
    ----------
    expression
        Accepted by :func:`names_in`.
    columns
        Values of its labels, arrays of one shape: numbers, or texts.

    Returns
    -------
    numpy.ndarray
        Of the columns' shape: double precision, truth values of a condition, or objects where the
        expression is a label that holds texts.

    Raises
    ------
    ValueError
        The expression is not accepted, or uses something else.
    TypeError
        A label that is calculated with holds texts.

    Examples
    --------
    >>> evaluate("a > 1 & a < 3", {"a": np.array([1.0, 2.0, 3.0])}).tolist()
    [False, True, False]
    """
    parsed, _ = _checked(expression)
    unknown = sorted(set(parsed.labels.values()) - set(columns))
    if unknown:
        raise ValueError(f"{', '.join(unknown)} in {expression!r} is not known")
    values: dict[str, Any] = {name: _numbers(columns[at]) for name, at in parsed.labels.items()}
    values |= {name: np.array(text, dtype=object) for name, text in parsed.texts.items()}
    shape = np.shape(next(iter(columns.values()), ()))
    with np.errstate(all="ignore"):
        return np.broadcast_to(np.asarray(_value(parsed.body, values)), shape)


def _numbers(column: Array) -> Array:
    """Convert a column to double precision, or to objects if there are texts in it."""
    values = np.asarray(column)
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    values = values.astype(object)
    if any(isinstance(value, str) for value in values.flat):
        return values
    return values.astype(np.float64)


def _checked(expression: str) -> tuple[_Parsed, _Kind]:
    parsed = _parse(expression)
    kind = _kind(parsed, parsed.body)
    if kind is _Kind.TEXT:
        raise ValueError(f"{expression!r} is not an expression: write a label without quotes")
    return parsed, kind


def _parse(expression: str) -> _Parsed:
    # Quoted parts are replaced by names that the expression does not contain.
    prefix = "_"
    while prefix in expression:
        prefix += "_"
    labels: dict[str, str] = {}
    texts: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        name = f"{prefix}{len(labels) + len(texts)}"
        if match[1] is not None:
            labels[name] = match[1]
        else:
            texts[name] = match[2] if match[2] is not None else match[3]
        return f" {name} "

    text = _QUOTED.sub(stand_in, expression).strip()
    if "#" in text:
        raise _not_an_expression(expression, text)
    try:
        # & and | bind like `and` and `or`, so that comparisons need no brackets.
        tree = ast.parse(text.replace("&", " and ").replace("|", " or "), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _not_an_expression(expression, text) from None
    depth = 0
    level: list[ast.AST] = [tree.body]
    while level:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if depth > _DEEPEST:
        raise ValueError(
            f"{_shortened(expression)} is not an expression of {_DEEPEST} levels or fewer: "
            "shorten it"
        )
    plain = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    labels |= {name: name for name in plain - set(labels) - set(texts)}
    return _Parsed(expression, tree.body, labels, texts)


def _not_an_expression(expression: str, text: str) -> ValueError:
    for pattern, name, instead in _MISTAKES:
        if re.search(pattern, text):
            return ValueError(
                f"{_shortened(expression)} is not an expression: {name} is not understood; "
                f"{instead}"
            )
    return ValueError(f"{_shortened(expression)} is not an expression: it may hold {_CONTENT}")


def _shortened(expression: str) -> str:
    return repr(expression if len(expression) <= 200 else expression[:200] + " ...")


def _not_understood(parsed: _Parsed, node: ast.AST) -> ValueError:
    name, instead = _REFUSED.get(type(node), (type(node).__name__, f"it may hold {_CONTENT}"))
    return ValueError(
        f"{parsed.text!r} is more than numbers, labels, arithmetic and comparisons: {name} is not "
        f"understood; {instead}"
    )


def _kind(parsed: _Parsed, node: ast.expr) -> _Kind:
    """Check a part of an expression, and return its kind.

    Raises
    ------
    ValueError
        It cannot be evaluated for any values of the labels.
    """
    kind = _kind_of(parsed, node)
    if kind is _Kind.NUMBER and not np.isfinite(_constant(node)):
        raise ValueError(
            f"{parsed.text!r} holds {_source(parsed, node)}, which is no finite number: write "
            "another one"
        )
    return kind


def _constant(node: ast.expr) -> Any:
    """Evaluate a checked part that uses no label; return one for all others."""
    if any(isinstance(child, ast.Name) for child in ast.walk(node)):
        return 1.0
    with np.errstate(all="ignore"):
        return _value(node, {})


def _kind_of(parsed: _Parsed, node: ast.expr) -> _Kind:
    match node:
        case ast.Constant(value=bool()):
            return _Kind.CONDITION
        case ast.Constant(value=int() | float()):
            return _Kind.NUMBER
        case ast.Name():
            return _Kind.TEXT if node.id in parsed.texts else _Kind.LABEL
        case ast.UnaryOp():
            return _kind_of_unary(parsed, node)
        case ast.BinOp():
            return _kind_of_arithmetic(parsed, node)
        case ast.BoolOp():
            for side in node.values:
                _require_condition(parsed, side, _kind(parsed, side))
            return _Kind.CONDITION
        case ast.Compare():
            return _kind_of_comparison(parsed, node)
    raise _not_understood(parsed, node)


def _kind_of_unary(parsed: _Parsed, node: ast.UnaryOp) -> _Kind:
    kind = _kind(parsed, node.operand)
    if isinstance(node.op, (ast.Not, ast.Invert)):
        _require_condition(parsed, node.operand, kind)
        return _Kind.CONDITION
    _require_number(parsed, node.operand, kind)
    return _Kind.NUMBER


def _kind_of_arithmetic(parsed: _Parsed, node: ast.BinOp) -> _Kind:
    if type(node.op) not in _OPERATIONS:
        raise _not_understood(parsed, node.op)
    sides = (node.left, node.right)
    kinds = [_kind(parsed, side) for side in sides]
    if kinds == [_Kind.CONDITION, _Kind.CONDITION]:
        raise ValueError(f"{parsed.text!r} calculates with two conditions: join them with and, or")
    for side, kind in zip(sides, kinds, strict=True):
        # One condition counts as 0 or 1.
        if kind is not _Kind.CONDITION:
            _require_number(parsed, side, kind)
    if isinstance(node.op, (ast.Div, ast.FloorDiv, ast.Mod)) and not _constant(node.right):
        raise ValueError(f"{parsed.text!r} divides by zero: write another divisor")
    return _Kind.NUMBER


def _kind_of_comparison(parsed: _Parsed, node: ast.Compare) -> _Kind:
    for operation in node.ops:
        if type(operation) not in _OPERATIONS:
            raise _not_understood(parsed, operation)
    kinds = [_kind(parsed, side) for side in (node.left, *node.comparators)]
    for operation, pair in zip(node.ops, itertools.pairwise(kinds), strict=True):
        if _Kind.TEXT not in pair:
            continue
        if not isinstance(operation, (ast.Eq, ast.NotEq)):
            raise ValueError(f"{parsed.text!r} orders texts: compare them with == or !=")
        if _Kind.LABEL not in pair:
            raise ValueError(f"{parsed.text!r} compares a text with no label: name a label")
    return _Kind.CONDITION


def _require_condition(parsed: _Parsed, node: ast.expr, kind: _Kind) -> None:
    if kind is not _Kind.CONDITION:
        raise ValueError(
            f"{parsed.text!r} joins or negates {_source(parsed, node)}, which is not a condition: "
            "write a comparison, and brackets around it after ~"
        )


def _require_number(parsed: _Parsed, node: ast.expr, kind: _Kind) -> None:
    if kind not in (_Kind.NUMBER, _Kind.LABEL):
        raise ValueError(
            f"{parsed.text!r} calculates with {_source(parsed, node)}, which is {kind.value}: "
            "write a number or a label"
        )


def _source(parsed: _Parsed, node: ast.expr) -> str:
    text = ast.unparse(node)
    for names, quote in ((parsed.labels, "`"), (parsed.texts, "'")):
        for name, content in names.items():
            if name != content:
                text = text.replace(name, f"{quote}{content}{quote}")
    return text


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=bool()):
            return np.bool_(node.value)
        case ast.Constant(value=int() | float() as number):
            return _double(number)
        case ast.Name():
            return values[node.id]
        case ast.UnaryOp():
            return _OPERATIONS[type(node.op)](_calculable(_value(node.operand, values)))
        case ast.BinOp():
            left, right = (_calculable(_value(side, values)) for side in (node.left, node.right))
            return _OPERATIONS[type(node.op)](left, right)
        case ast.BoolOp():
            return functools.reduce(
                _OPERATIONS[type(node.op)], [_value(side, values) for side in node.values]
            )
        case ast.Compare():
            sides = [_value(side, values) for side in (node.left, *node.comparators)]
            return functools.reduce(
                np.logical_and,
                [
                    _compare(operation, *pair)
                    for operation, pair in zip(node.ops, itertools.pairwise(sides), strict=True)
                ],
            )
    raise AssertionError(f"{type(node).__name__} is checked beforehand")


def _double(value: float) -> np.float64:
    # A huge power of constants is then infinite, not an integer of unlimited length.
    try:
        return np.float64(value)
    except OverflowError:
        return np.float64(np.inf)


def _calculable(value: Any) -> Any:
    if np.asarray(value).dtype == object:
        raise TypeError("a label that it calculates with holds texts")
    return value


def _compare(operation: ast.cmpop, left: Any, right: Any) -> Any:
    if object in (np.asarray(left).dtype, np.asarray(right).dtype):
        left, right = (np.asarray(side, dtype=object) for side in (left, right))
        return np.asarray(_OPERATIONS[type(operation)](left, right), dtype=bool)
    return _OPERATIONS[type(operation)](left, right)
