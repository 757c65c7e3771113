"""Arithmetic on a patchset's labels, as analysis files write it, and nothing else.

pandas evaluates these expressions. It would also call methods and look into modules; analysis files
are passed around, so that whatever is not arithmetic or a comparison is refused beforehand.
"""

from __future__ import annotations

import ast
import re

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
    quoted: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        name = f"quoted_{len(quoted)}_"
        quoted[name] = match[1]
        return name

    try:
        tree = ast.parse(_QUOTED.sub(stand_in, expression.strip()), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        raise ValueError(f"{expression!r} is not an expression") from None
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
