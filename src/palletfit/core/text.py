"""Texts for a terminal: names of unknown origin, their width in columns, counts and close names."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


def printable(line: str) -> str:
    r"""Replace characters that could do something to a terminal, or end a line.

    They are control characters and escape sequences, ends of lines, marks that change the direction
    of writing, and halves of characters.

    Examples
    --------
    >>> printable("a\x1b[31mb\nc")
    'a?[31mb?c'
    """
    return "".join(character if character.isprintable() else "?" for character in line)


def printable_lines(text: str) -> str:
    r"""Replace the same characters in each line of a text.

    Examples
    --------
    >>> printable_lines("a\x07\nb")
    'a?\nb'
    """
    return "\n".join(map(printable, text.split("\n")))


def counted(count: int, one: str, many: str | None = None) -> str:
    """Write a number with the name of what is counted.

    Parameters
    ----------
    count
        The number.
    one, many
        The name of a single one, and of several; None: with an s.

    Examples
    --------
    >>> counted(1, "patch", "patches"), counted(2, "shard"), counted(0, "point")
    ('1 patch', '2 shards', '0 points')
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def columns_of(text: str) -> int:
    r"""Count the columns of a printable text: East Asian wide characters have two.

    Examples
    --------
    >>> columns_of("mu"), columns_of("\u4fe1\u53f7"), columns_of("e\u0301")
    (2, 4, 1)
    """
    return sum(
        0
        if unicodedata.combining(character)
        else (2 if unicodedata.east_asian_width(character) in "WF" else 1)
        for character in text
    )


def padded(text: str, columns: int, *, left: bool = True) -> str:
    """Add spaces up to a number of columns: to a text on the left side, or on the right one."""
    space = " " * (columns - columns_of(text))
    return text + space if left else space + text


def shortened(text: str, columns: int) -> str:
    """Replace the middle of a text that needs more columns by an ellipsis.

    Examples
    --------
    >>> shortened("C1N2_Wh_700_100", 9), shortened("short", 9)
    ('C1N2…_100', 'short')
    """
    if columns_of(text) <= columns:
        return text
    first, last = "", ""
    for begin, end in zip(text, reversed(text), strict=True):
        if columns_of(f"{first}{begin}\N{HORIZONTAL ELLIPSIS}{last}") > columns:
            break
        first += begin
        if columns_of(f"{first}\N{HORIZONTAL ELLIPSIS}{end}{last}") > columns:
            break
        last = end + last
    return f"{first}\N{HORIZONTAL ELLIPSIS}{last}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Write a question that offers close names, or nothing.

    Examples
    --------
    >>> did_you_mean("mu_sig", ["mu_SIG", "lumi"])
    "Did you mean 'mu_SIG'? "
    """
    by_lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    return offer(by_lower[other] for other in close)


def offer(names: Iterable[str]) -> str:
    """Write a question that offers these names, or nothing if there are none."""
    offers = " or ".join(repr(name) for name in dict.fromkeys(names))
    return f"Did you mean {offers}? " if offers else ""
