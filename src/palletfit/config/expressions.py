"""Arithmetic on a patchset's labels, as analysis files write it, and nothing else.

pandas evaluates these expressions. It would also call methods and look into modules; analysis files
are passed around, so that whatever is not arithmetic or a comparison is refused beforehand.
"""

from __future__ import annotations

import ast
import functools
import itertools
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_ALLOWED = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
)
_QUOTED = re.compile(r"`([^`]*)`")
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


def names_in(expression: str) -> set[str]:
    """Names that an expression uses; those that are no identifiers are in backticks.

    Raises
    ------
    ValueError
        The expression is more than numbers, names, arithmetic and comparisons.

    Examples
    --------
    >>> sorted(names_in("`m(N1)` - 2 * mn2 == 130"))
    ['m(N1)', 'mn2']
    """
    tree, quoted = _parse(expression)
    found = set()
    for node in ast.walk(tree):
        number = not isinstance(node, ast.Constant) or isinstance(node.value, (int, float))
        if not isinstance(node, _ALLOWED) or not number:
            raise ValueError(
                f"{expression!r} is more than numbers, labels, arithmetic and comparisons"
            )
        if isinstance(node, ast.Name):
            found.add(quoted.get(node.id, node.id))
    return found


def evaluate(expression: str, columns: Mapping[str, Array]) -> Array:
    """The value of an expression as pandas gives it, without pandas, which takes long to import.

    Parameters
    ----------
    expression
        Accepted by :func:`names_in`.
    columns
        Values of its names, arrays of one shape.

    Raises
    ------
    ValueError
        The expression is not accepted, or names something else.
    TypeError
        Something in it is no number.

    Examples
    --------
    >>> evaluate("a > 1 & a < 3", {"a": np.array([1.0, 2.0, 3.0])}).tolist()
    [False, True, False]
    """
    names_in(expression)
    # As in pandas, & and | bind like `and` and `or`.
    tree, quoted = _parse(expression, {"&": " and ", "|": " or "})
    named = {
        name: columns[known] for name, known in _used(tree, quoted).items() if known in columns
    }
    shape = np.shape(next(iter(columns.values()), ()))
    try:
        with np.errstate(all="ignore"):
            return np.broadcast_to(np.asarray(_value(tree.body, named)), shape)
    except KeyError as error:
        raise ValueError(f"{error} in {expression!r} is not known") from None


def _used(tree: ast.AST, quoted: Mapping[str, str]) -> dict[str, str]:
    """Names in a tree, and what they stand for."""
    names = (node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return {name: quoted.get(name, name) for name in names}


def _value(node: ast.AST, columns: Mapping[str, Array]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return columns[node.id]
        case ast.UnaryOp():
            return _OPERATIONS[type(node.op)](_value(node.operand, columns))
        case ast.BinOp():
            left, right = _value(node.left, columns), _value(node.right, columns)
            return _OPERATIONS[type(node.op)](left, right)
        case ast.BoolOp():
            every = [_value(item, columns) for item in node.values]
            return functools.reduce(_OPERATIONS[type(node.op)], every)
        case ast.Compare():
            sides = [_value(side, columns) for side in (node.left, *node.comparators)]
            pairs = zip(node.ops, itertools.pairwise(sides), strict=True)
            return np.logical_and.reduce([_OPERATIONS[type(op)](*both) for op, both in pairs])
    raise KeyError(type(node).__name__)


def _parse(
    expression: str, replaced: Mapping[str, str] | None = None
) -> tuple[ast.Expression, dict[str, str]]:
    """The syntax tree, and what the names in it stand for that were in backticks."""
    quoted: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        name = f"quoted_{len(quoted)}_"
        quoted[name] = match[1]
        return name

    text = _QUOTED.sub(stand_in, expression.strip())
    for old, new in (replaced or {}).items():
        text = text.replace(old, new)
    try:
        return ast.parse(text, mode="eval"), quoted
    except (SyntaxError, ValueError, RecursionError):
        raise ValueError(f"{expression!r} is not an expression") from None


def require_names(expression: str, known: set[str], what: str) -> None:
    """Refuse an expression that uses other names than the known ones.

    Raises
    ------
    ValueError
        Also for what :func:`names_in` refuses.
    """
    unknown = sorted(names_in(expression) - known)
    if unknown:
        raise ValueError(
            f"{expression!r} uses {', '.join(unknown)}, but {what}: {', '.join(sorted(known))}"
        )
