r"""Plain tables in LaTeX, which need no package; names in them may hold any characters."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

#: Characters with a meaning in LaTeX, and those that its first font has not, as commands. Brackets
#: and stars have one after the end of a row.
_COMMANDS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\char96{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "-": "{-}",
}
_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau"
#: Names of Greek letters in Unicode that are commands.
_LETTERS = {*_GREEK.split(), "upsilon", "phi", "chi", "psi", "omega"}
_CAPITALS = {"gamma", "delta", "theta", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega"}

#: A row: its title, and cells.
Row = tuple[str, Sequence[str]]


def escaped(text: str) -> str:
    r"""Write a text such that LaTeX prints it: special characters become commands.

    Greek letters become mathematics, accents are left out, and what LaTeX cannot print without a
    package becomes a question mark.

    Examples
    --------
    >>> escaped("50% of W_{jets} & \\input{x}")
    '50\\% of W\\_\\{jets\\} \\& \\textbackslash{}input\\{x\\}'
    >>> escaped("\u03bc b\u00e9\x07")
    '$\\mu$ be?'
    """
    return "".join(map(_printed, text))


def _printed(character: str) -> str:
    """Write one character."""
    if character in _COMMANDS:
        return _COMMANDS[character]
    if " " <= character <= "~":
        return character
    words = unicodedata.name(unicodedata.normalize("NFKC", character)[:1] or "?", "").split()
    name = words[-1].lower().replace("lamda", "lambda") if words else ""
    if words[:3] == ["GREEK", "SMALL", "LETTER"] and len(words) == 4 and name in _LETTERS:
        return rf"$\{name}$"
    if words[:3] == ["GREEK", "CAPITAL", "LETTER"] and len(words) == 4 and name in _CAPITALS:
        return rf"$\{name.capitalize()}$"
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    printed = "".join(_COMMANDS.get(letter, letter) for letter in plain if " " <= letter <= "~")
    return printed or ("" if unicodedata.combining(character) else "?")


def with_uncertainty(value: float, error: float) -> str:
    r"""Write a number with two digits of its uncertainty, as mathematics.

    Examples
    --------
    >>> with_uncertainty(12.345, 0.678), with_uncertainty(1234.5, 67.8), with_uncertainty(3.0, 0.0)
    ('$12.35 \\pm 0.68$', '$1234 \\pm 68$', '$3$')
    """
    if not error > 0 or not math.isfinite(error):
        return f"${value:.4g}$"
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return rf"${value:.{decimals}f} \pm {error:.{decimals}f}$"


def tabulars(
    corner: str, titles: Sequence[str], groups: Sequence[Sequence[Row]], *, columns: int
) -> str:
    """Write a table as one ``tabular``, or as several below each other.

    Parameters
    ----------
    corner, titles
        Titles of the first column, and of the others. All texts are LaTeX.
    groups
        Rows, with a line between groups.
    columns
        Columns of one tabular, the first one apart.
    """
    pieces = [
        _tabular(corner, titles, groups, slice(first, first + columns))
        for first in range(0, max(len(titles), 1), columns)
    ]
    return "\n\\par\\medskip\n".join(pieces) + "\n"


def _tabular(
    corner: str, titles: Sequence[str], groups: Sequence[Sequence[Row]], part: slice
) -> str:
    shown = titles[part]
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(shown)}}}",
        r"\hline",
        rf"{' & '.join([corner, *shown])} \\",
    ]
    for group in groups:
        lines.append(r"\hline")
        lines += [rf"{' & '.join([title, *cells[part]])} \\" for title, cells in group]
    return "\n".join([*lines, r"\hline", r"\end{tabular}"])
