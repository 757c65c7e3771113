"""Patterns of names with one star."""

from __future__ import annotations


def starred(name: str, pattern: str) -> str | None:
    """Return the text that `*` stands for in a name, or None if the name does not match.

    Parameters
    ----------
    name
        The name.
    pattern
        A pattern with one `*`, which stands for at least one character; all others stand for
        themselves.

    Examples
    --------
    >>> starred("A/patch.S_100_50.json", "A/patch.*.json")
    'S_100_50'
    """
    before, star, after = pattern.partition("*")
    if not star or len(name) <= len(before) + len(after):
        return None
    if not (name.startswith(before) and name.endswith(after)):
        return None
    return name[len(before) : len(name) - len(after)]
