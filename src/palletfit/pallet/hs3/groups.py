"""Parameters of bins: which modifiers share them, what they are called, what they become.

HS3 names each parameter of a bin. A workspace has one name for all bins of a modifier, and its own
type for each way in which they are constrained.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from palletfit.pallet.hs3.constraints import (
    FREE,
    GAUSS,
    NONE,
    POISSON,
    Constraints,
    Term,
    read_type,
)
from palletfit.pallet.hs3.document import Document, begin, short
from palletfit.pallet.hs3.modifiers import BIN_TYPES, Channel, Modifier, Sample

#: What is left of names of bins, such as ``gamma_stat_SR_bin_0``, after their common start.
_COUNTER = re.compile(r"[\W_]*(bin)?[\W_]*\d*$")


#: Stands for the type of constraints that are distributions.
_NAMED = "named"


@dataclass
class Group:
    """Modifiers with the same parameters of bins.

    Attributes
    ----------
    parameters
        Names of the parameters, one a bin.
    members
        The modifiers, each with its channel and sample.
    kind
        Type in the workspace.
    name
        Name in the workspace.
    terms
        Constraint term of each parameter; none where it follows from yields and errors.
    constraint
        Constraint that the workspace has to name, if it is not that of the type.
    fixed
        Parameters that are fixed, because they have no uncertainty or are constant by their type.
    without
        Parameters that have no uncertainty, and are fixed in a workspace without a word.
    const
        Whether parameters are constant where the document does not say something else.
    errors
        Uncertainties of a shapesys, absolute.
    """

    parameters: tuple[str, ...]
    members: list[tuple[Channel, Sample, Modifier]] = field(default_factory=list)
    kind: str = "shapefactor"
    name: str = ""
    terms: tuple[Term, ...] = ()
    constraint: str | None = None
    fixed: tuple[bool, ...] = ()
    without: tuple[bool, ...] = ()
    const: bool = False
    errors: tuple[float, ...] = ()

    @property
    def title(self) -> str:
        """Words that name the first modifier in errors."""
        return self.members[0][2].title


def bin_groups(channels: Sequence[Channel]) -> dict[tuple[str, ...], Group]:
    """Gather modifiers with the same parameters of bins."""
    groups: dict[tuple[str, ...], Group] = {}
    for channel, sample, modifier in modifiers_of(channels):
        if modifier.kind in BIN_TYPES:
            group = groups.setdefault(modifier.parameters, Group(modifier.parameters))
            group.members.append((channel, sample, modifier))
    return groups


def modifiers_of(channels: Sequence[Channel]) -> Iterator[tuple[Channel, Sample, Modifier]]:
    """Yield all modifiers, each with its channel and sample."""
    for channel in channels:
        for sample in channel.samples:
            for modifier in sample.modifiers:
                yield channel, sample, modifier


def name_groups(
    document: Document, groups: Mapping[tuple[str, ...], Group], scalars: Mapping[str, str]
) -> None:
    """Name the groups: by their modifiers, or by what the names of parameters have in common.

    Parameters
    ----------
    document
        The document.
    groups
        Groups by their parameters.
    scalars
        Modifiers with one parameter, by its name, for errors.

    Raises
    ------
    Hs3Error
        A parameter is in two groups, or is one of a modifier with one parameter, too.
    """
    owners: dict[str, Group] = {}
    for group in groups.values():
        for parameter in group.parameters:
            other = owners.setdefault(parameter, group)
            if other is not group or parameter in scalars:
                title = other.title if other is not group else scalars[parameter]
                raise document.error(
                    f"The parameter {short(parameter)} of {group.title} is one of {title}, too: "
                    "palletfit correlates all bins of two modifiers or none.",
                )
    candidates = {key: list(_candidates(group)) for key, group in groups.items()}
    counts: dict[str, int] = {}
    for names in candidates.values():
        for name in dict.fromkeys(names):
            counts[name] = counts.get(name, 0) + 1
    used = set(scalars)
    for key, group in groups.items():
        names = [name for name in candidates[key] if counts[name] == 1 and name not in used]
        group.name = names[0] if names else _numbered(candidates[key][-1], used)
        used.add(group.name)


def _candidates(group: Group) -> Iterator[str]:
    channel, _, modifier = group.members[0]
    names = {member.name for _, _, member in group.members}
    if len(names) == 1 and modifier.name:
        yield modifier.name
    stem = _COUNTER.sub("", _common_start(group.parameters))
    if stem:
        yield stem
    yield f"{modifier.name or modifier.kind}_{channel.name}"


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    end = next((i for i, letter in enumerate(first) if not last.startswith(letter, i)), len(first))
    return first[:end]


def _numbered(name: str, used: set[str]) -> str:
    number = 2
    while f"{name}_{number}" in used:
        number += 1
    return name if name not in used else f"{name}_{number}"


class GroupReader:
    """Says what the parameters of bins of one group become in a workspace.

    Parameters
    ----------
    document
        The document.
    constraints
        Constraint terms, to which those of distributions are added.
    relative
        Whether `vals` of a shapesys are relative uncertainties.
    """

    def __init__(self, document: Document, constraints: Constraints, *, relative: bool) -> None:
        self.document, self.constraints, self.relative = document, constraints, relative

    def read(self, group: Group) -> None:
        """Set type, terms and constraint of a group.

        Raises
        ------
        Hs3Error
            Modifiers of the group disagree, or have a constraint that the engine does not have.
        """
        kinds = {modifier.kind for _, _, modifier in group.members}
        if "staterror" in kinds and len(kinds) > 1:
            raise self.document.error(
                f"The parameters of {group.title} belong to modifiers of the types "
                f"{' and '.join(sorted(kinds))}."
            )
        types = {self._type(channel, modifier) for channel, _, modifier in group.members}
        if len({kind for kind, _ in types}) > 1:
            raise self.document.error(
                f"Modifiers with the parameters of {group.title} have different constraints."
            )
        kind = next(iter(types))[0]
        group.terms = tuple(self.constraints.of(parameter) for parameter in group.parameters)
        group.without = group.fixed = (False,) * len(group.parameters)
        has_terms = any(term.kind != NONE for term in group.terms)
        if has_terms and kind != _NAMED and any(explicit for _, explicit in types):
            raise self.document.error(
                f"The parameters of {group.title} are constrained twice, by {kind} and by "
                "distributions.",
                "Remove one of the two terms.",
            )
        group.const = kind == NONE and any(explicit for _, explicit in types)
        if has_terms or kind in (NONE, _NAMED):
            return
        if kinds == {"staterror"}:
            self._staterror(group, kind)
        else:
            self._shapesys(group, kind)

    def _type(self, channel: Channel, modifier: Modifier) -> tuple[str, bool]:
        """Give the type of a modifier's constraint, and add the terms that it names.

        Returns
        -------
        tuple
            The type, and whether the document says it.
        """
        if modifier.constraints:
            for parameter, name in zip(modifier.parameters, modifier.constraints, strict=True):
                if name is not None:
                    self._add_named(name, parameter, modifier.title)
            return _NAMED, True
        value = modifier.constraint
        if value is None and modifier.kind == "staterror":
            value = channel.staterror
        if value is None:
            # The first of the standard's two for a staterror, and ROOT's.
            return (NONE if modifier.kind == "shapefactor" else POISSON), False
        kind = read_type(self.document, value, modifier.title)
        if kind is not None:
            return kind, True
        if len(modifier.parameters) == 1 and value in self.document.distributions:
            self._add_named(value, modifier.parameters[0], modifier.title)
            return _NAMED, True
        raise self.document.error(
            f"The constraint {short(value)} of {modifier.title} is neither a type nor the name of "
            "a distribution.",
        )

    def _add_named(self, name: str, parameter: str, title: str) -> None:
        constrained = self.constraints.add_named(name, title)
        if constrained != parameter:
            raise self.document.error(
                f"The constraint {short(name)} of {title} is one of {short(constrained)}, and not "
                f"of {short(parameter)}."
            )

    def _staterror(self, group: Group, kind: str) -> None:
        channels = {channel.distribution for channel, _, _ in group.members}
        if len(channels) > 1:
            raise self.document.error(f"The parameters of {group.title} are those of two channels.")
        channel = group.members[0][0]
        group.kind = "staterror"
        group.constraint = POISSON if kind == POISSON else None
        widths = []
        for number in range(channel.bins):
            total = sum(sample.data[number] for _, sample, _ in group.members)
            square = sum(modifier.errors[number] ** 2 for _, _, modifier in group.members)
            widths.append(square**0.5 / abs(total) if total else 0.0)
        group.without = tuple(width == 0 for width in widths)
        group.fixed = tuple(width == 0 or width < channel.threshold for width in widths)

    def _shapesys(self, group: Group, kind: str) -> None:
        widths = [self._widths(sample, modifier) for _, sample, modifier in group.members]
        if any(other != widths[0] for other in widths):
            raise self.document.error(
                f"Modifiers with the parameters of {group.title} have different uncertainties."
            )
        group.fixed = tuple(width == 0 for width in widths[0])
        _, sample, modifier = group.members[0]
        alone = len(group.members) == 1 and sample.multiplied is None
        if alone and kind == POISSON and not (self.relative and 0 in sample.data):
            group.kind, group.without = "shapesys", group.fixed
            group.errors = tuple(modifier.errors) or (0.0,) * len(widths[0])
            if self.relative:
                group.errors = tuple(
                    error * abs(count)
                    for error, count in zip(modifier.errors, sample.data, strict=True)
                )
            return
        group.terms = tuple(
            FREE
            if width == 0
            else Term(GAUSS, 1.0, width)
            if kind == GAUSS
            else Term(POISSON, width**-2.0, width**-2.0)
            for width in widths[0]
        )

    def _widths(self, sample: Sample, modifier: Modifier) -> tuple[float, ...]:
        """Relative uncertainties; zero where there are none."""
        if not modifier.errors:
            raise self.document.error(f"{begin(modifier.title)} needs `vals` in its `data`.")
        if self.relative:
            if max(modifier.errors) > 1:
                self.document.remark(
                    f"`vals` of {modifier.title} are read as relative uncertainties, of up to "
                    f"{max(modifier.errors):g}"
                )
            return tuple(abs(error) for error in modifier.errors)
        return tuple(
            abs(error / count) if count else 0.0
            for error, count in zip(modifier.errors, sample.data, strict=True)
        )
