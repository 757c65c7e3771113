"""Groups of parameters: by patterns of their names, or by what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from palletfit.core.text import did_you_mean
from palletfit.errors import ConfigError, PalletError
from palletfit.products.diagnostics.parameters import fits_pattern
from palletfit.products.diagnostics.records import Kind, Parameter

#: Shell patterns of names; one or several.
Patterns = str | Sequence[str]

#: Groups of parameters that are no alphas, by what they are.
_BY_KIND: dict[Kind, str] = {
    "lumi": "lumi",
    "normfactor": "normalizations",
    "staterror": "staterror",
    "shapesys": "shapesys",
    "shapefactor": "shapefactor",
}
#: Alphas without a group of their own, and all of them where no prefix tells them apart.
_UNSORTED, _ALL = "other systematics", "systematics"
#: Names that an error lists.
_LISTED = 5


def grouped(
    parameters: Sequence[Parameter], poi: str, groups: Mapping[str, Patterns] | None
) -> dict[str, tuple[str, ...]]:
    """Sort parameters that are not fixed into groups.

    Parameters
    ----------
    parameters
        All parameters of the model.
    poi
        Parameter of interest, which is in no group.
    groups
        Shell patterns by the name of the group; a name without brackets also stands for all
        components of a parameter. None: :func:`default_groups`.

    Returns
    -------
    dict
        Names of parameters by group, without empty groups by default.

    Raises
    ------
    ConfigError
        There is no group, or one has no pattern.
    PalletError
        A pattern fits no parameter.
    """
    mobile = [entry for entry in parameters if entry.state != "fixed" and entry.name != poi]
    if groups is None:
        return default_groups(mobile)
    if not isinstance(groups, Mapping) or not groups:
        raise ConfigError(
            "There is no group of parameters: they are a mapping from names to patterns.",
            remedy="Give patterns by name, or leave out `groups` for the default ones.",
        )
    names = [entry.name for entry in mobile]
    fixed = [entry.name for entry in parameters if entry.name not in names]
    return {
        group: _members(group, [patterns] if isinstance(patterns, str) else patterns, names, fixed)
        for group, patterns in groups.items()
    }


def _members(
    group: str, patterns: Sequence[str], names: Sequence[str], fixed: Sequence[str]
) -> tuple[str, ...]:
    """List the parameters that fit a group's patterns, in the order of the model."""
    usable = isinstance(patterns, Sequence) and all(isinstance(entry, str) for entry in patterns)
    if not usable or not patterns:
        raise ConfigError(
            f"The group {group!r} has no pattern, or one that is no text.",
            remedy="Give one such as 'JES_*', or leave out the group.",
        )
    members = set()
    for pattern in patterns:
        fitting = {name for name in names if fits_pattern(pattern, name)}
        if not fitting and not any(fits_pattern(pattern, name) for name in fixed):
            raise PalletError(
                f"The pattern {pattern!r} of the group {group!r} fits no parameter.",
                remedy=f"{did_you_mean(pattern, [*names, *fixed])}The model has "
                f"{len(names) + len(fixed)} parameters, such as "
                f"{', '.join(map(repr, sorted(names)[:_LISTED]))}.",
            )
        members |= fitting
    return tuple(name for name in names if name in members)


def default_groups(parameters: Sequence[Parameter]) -> dict[str, tuple[str, ...]]:
    """Sort parameters by their kinds, and alphas by the first word of their names.

    Alphas whose names share the text before the first underscore are the group ``WORD_*``. A word
    is no group where a single parameter has it, or where another word differs from it in upper and
    lower case only: such parameters are the group ``other systematics``. A word that all names
    share is left out first.
    """
    alphas = [entry.name for entry in parameters if entry.kind == "alpha"]
    groups: dict[str, list[str]] = {}
    words = _words(alphas)
    for entry in parameters:
        group = words[entry.name] if entry.kind == "alpha" else _BY_KIND[entry.kind]
        groups.setdefault(group, []).append(entry.name)
    return {group: tuple(names) for group, names in groups.items()}


def _words(names: Sequence[str]) -> dict[str, str]:
    """Give the group of each alpha."""
    common = _common(names)
    first = {name: name[len(common) :].partition("_") for name in names}
    words = {name: word for name, (word, line, rest) in first.items() if word and line and rest}
    count = Counter(words.values())
    cases = Counter(word.lower() for word in count)
    groups = {
        name: f"{common}{word}_*"
        for name, word in words.items()
        if count[word] > 1 and cases[word.lower()] == 1
    }
    rest_of_all = _UNSORTED if groups else _ALL
    return {name: groups.get(name, rest_of_all) for name in names}


def _common(names: Sequence[str]) -> str:
    """Give the words, each with its underscore, that all names begin with."""
    common = ""
    while len(names) > 1:
        words = {name[len(common) :].partition("_")[0] for name in names}
        longer = f"{common}{min(words)}_"
        if len(words) > 1 or not all(len(name) > len(longer) for name in names):
            return common
        if not all(name.startswith(longer) for name in names):
            return common
        common = longer
    return common
