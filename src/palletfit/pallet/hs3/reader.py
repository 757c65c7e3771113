"""Read an HS3 document as a workspace, so that all that is made of workspaces is made of it.

What pyhf's workspaces cannot say is added to them: :mod:`palletfit.pallet.extensions`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from palletfit.core.files import write_atomically
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.hs3.choice import Choice, choose, other_data
from palletfit.pallet.hs3.constraints import (
    FREE,
    GAUSS,
    NONE,
    POISSON,
    Constraints,
    Term,
    read_type,
)
from palletfit.pallet.hs3.document import Document, Spec, begin, is_hs3, listed, short
from palletfit.pallet.hs3.groups import (
    Group,
    GroupReader,
    bin_groups,
    modifiers_of,
    name_groups,
)
from palletfit.pallet.hs3.interpolation import DEFAULTS
from palletfit.pallet.hs3.modifiers import SCALAR_TYPES, Channel, ChannelReader, Modifier
from palletfit.pallet.hs3.multiplied import split
from palletfit.pallet.hs3.observations import observed_counts, observed_value
from palletfit.pallet.hs3.parameters import Values, read_values

#: The only lumi of pyhf's schema.
_LUMI = "lumi"
#: Start values and bounds of parameters that the document gives none, as pyhf has them.
_STARTS = {"alpha": 0.0}
_BOUNDS = {"alpha": (-5.0, 5.0), "staterror": (1e-10, 10.0), "shapesys": (1e-10, 10.0)}
_OTHER_BOUNDS = (0.0, 10.0)

Shapesys = Literal["absolute", "relative"]


def read_workspace(path: Path) -> Any:
    """Read a file that holds a workspace or an HS3 document, as a workspace.

    Raises
    ------
    PalletError
        The file is not JSON, or an HS3 document that cannot be read.
    """
    content = read_pallet_json(path)
    return read_hs3(content, file=path) if is_hs3(content) else content


def convert_hs3(path: Path) -> None:
    """Write a file that holds an HS3 document as a workspace, in its place.

    Raises
    ------
    PalletError
        The file is not JSON, or an HS3 document that cannot be read.
    """
    if b"hs3_version" not in path.read_bytes():
        return
    content = read_pallet_json(path)
    if is_hs3(content):
        write_atomically(path, json.dumps(read_hs3(content, file=path)) + "\n")


def read_hs3(
    source: Path | str | Spec,
    analysis: str | None = None,
    data: str | None = None,
    *,
    shapesys: Shapesys | None = None,
    file: Path | None = None,
) -> dict[str, Any]:
    """Read a HistFactory likelihood of an HS3 document as a workspace.

    Parameters
    ----------
    source
        File, or its content.
    analysis
        Name of an analysis, or of a likelihood. None: the only one, or the only one of observed
        data.
    data
        Other data than those of the likelihood: their name, or what stands before the name of each
        channel, as `asimovData` in ``asimovData_SR``.
    shapesys
        Whether `vals` of shapesys modifiers are absolute or relative uncertainties. None: relative
        in documents that ROOT has written, and absolute in others.
    file
        File that errors name, if `source` is content.

    Returns
    -------
    dict
        A workspace with one measurement for each parameter of interest. It may have additions to
        those of pyhf: :mod:`palletfit.pallet.extensions`.

    Raises
    ------
    Hs3Error
        The document is wrong, or says what palletfit does not fit: the error names the part.
    PalletError
        The file is not JSON, or too large.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_workspace
    >>> document = palletfit.hs3_document(demo_workspace())
    >>> [entry["name"] for entry in palletfit.read_hs3(document)["measurements"]]
    ['DemoMeasurement']
    """
    if isinstance(source, (str, Path)):
        file = Path(source)
        source = read_pallet_json(file)
    document = Document.of(source, file or Path("HS3 document"))
    relative = document.is_roots if shapesys is None else shapesys == "relative"
    return _Reader(document, choose(document, analysis), data, relative).workspace()


@dataclass
class _Likelihood:
    """The parts of a likelihood: channels with their data, and constraint terms with theirs."""

    channels: list[Channel] = field(default_factory=list)
    data: list[Any] = field(default_factory=list)
    terms: list[tuple[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Setting:
    """A parameter of the workspace: its components in the document, and their constraint."""

    kind: str
    components: tuple[str, ...]
    terms: tuple[Term, ...]
    constraint: str | None = None
    #: Components that are fixed; and those that the type fixes without a word.
    fixed: tuple[bool, ...] = (False,)
    without: tuple[bool, ...] = (False,)
    #: Whether components are constant where the document does not say something else.
    const: bool = False


class _Reader:
    """Turns one likelihood of a document into a workspace."""

    def __init__(
        self, document: Document, choice: Choice, data: str | None, relative: bool
    ) -> None:
        self.document, self.choice, self.data = document, choice, data
        self.relative = relative
        self.owner = f"the likelihood {short(choice.likelihood['name'])}"
        self.values: Values = read_values(document, choice.points, choice.domains)

    def workspace(self) -> dict[str, Any]:
        document = self.document
        likelihood = self._likelihood()
        channels = self._named(likelihood.channels)
        groups = bin_groups(channels)
        scalars: dict[str, list[Modifier]] = {}
        for _, _, modifier in modifiers_of(channels):
            if modifier.kind in SCALAR_TYPES:
                scalars.setdefault(modifier.parameters[0], []).append(modifier)
        name_groups(document, groups, {name: members[0].title for name, members in scalars.items()})
        parameters = frozenset(scalars).union(*groups)
        constraints = Constraints(document, self._constants(parameters), parameters)
        self._add_terms(constraints, likelihood)
        settings = {
            name: self._scalar(name, members, constraints) for name, members in scalars.items()
        }
        for group in groups.values():
            GroupReader(document, constraints, relative=self.relative).read(group)
            settings[group.name] = _Setting(
                group.kind,
                group.parameters,
                group.terms,
                group.constraint,
                group.fixed,
                group.without,
                group.const,
            )
        entries = [
            entry for name, setting in settings.items() if (entry := self._entry(name, setting))
        ]
        return {
            "channels": [
                {
                    "name": channel.name,
                    "samples": [
                        {
                            "name": part.name,
                            "data": list(part.data),
                            "modifiers": [
                                self._modifier(modifier, groups, settings)
                                for modifier in part.modifiers
                            ],
                        }
                        for sample in channel.samples
                        for part in split(sample)
                    ],
                }
                for channel in channels
            ],
            "observations": self._observations(channels, likelihood.data),
            "measurements": self._measurements(entries),
            "version": "1.0.0",
        }

    # ------------------------------------------------------------------ parts

    def _likelihood(self) -> _Likelihood:
        document, spec = self.document, self.choice.likelihood
        names = document.texts(spec, "distributions", self.owner)
        data = spec.get("data")
        if not isinstance(data, list) or len(data) != len(names):
            raise document.error(
                f"{begin(self.owner)} has {len(names)} distributions, and not as many `data`."
            )
        likelihood = _Likelihood()
        for name, entry in zip(names, data, strict=True):
            for factor in self._factors(name, self.owner, ()):
                self._add_distribution(likelihood, factor, entry)
        for name in document.texts(spec, "aux_distributions", self.owner):
            likelihood.terms += [(factor, None) for factor in self._factors(name, self.owner, ())]
        if not likelihood.channels:
            types = [f"{name} ({document.distributions[name]['type']})" for name in names]
            raise document.error(
                f"{begin(self.owner)} has no histfactory_dist, but {listed(types)}.",
                "palletfit fits likelihoods of histfactory_dist distributions.",
            )
        return likelihood

    def _factors(self, name: str, owner: str, above: tuple[str, ...]) -> Iterator[str]:
        """Yield the distributions of a product, or the distribution itself."""
        document = self.document
        spec = document.get(document.distributions, name, "distribution", begin(owner))
        if spec.get("type") != "product_dist":
            yield name
            return
        title = f"the product {short(name)}"
        if name in above or len(above) > 20:
            raise document.error(f"{begin(title)} contains itself, or nests too deeply.")
        for factor in document.texts(spec, "factors", title):
            yield from self._factors(factor, title, (*above, name))

    def _add_distribution(self, likelihood: _Likelihood, name: str, entry: Any) -> None:
        kind = self.document.distributions[name].get("type")
        if kind == "histfactory_dist":
            likelihood.channels.append(ChannelReader(self.document, name).read())
            likelihood.data.append(entry)
        elif kind in ("gaussian_dist", "poisson_dist"):
            likelihood.terms.append((name, entry))
        else:
            raise self.document.error(
                f"The distribution {short(name)} of {self.owner} has the type {short(kind)}: it is "
                "no HistFactory model.",
                "palletfit fits likelihoods of histfactory_dist distributions and their "
                "constraints; take another analysis of the document, or another program.",
            )

    def _named(self, channels: Sequence[Channel]) -> list[Channel]:
        """Keep ROOT's prefix of channels where names would be equal without it."""
        distributions = [channel.distribution for channel in channels]
        if len(set(distributions)) < len(distributions):
            raise self.document.error(f"A distribution stands twice in {self.owner}.")
        if len({channel.name for channel in channels}) == len(channels):
            return list(channels)
        return [
            Channel(
                channel.distribution,
                channel.distribution,
                channel.samples,
                channel.staterror,
                channel.threshold,
            )
            for channel in channels
        ]

    def _observations(self, channels: Sequence[Channel], data: Sequence[Any]) -> list[Any]:
        observations = []
        for channel, entry in zip(channels, data, strict=True):
            name = channel.distribution
            chosen = entry if self.data is None else other_data(self.document, name, self.data)
            counts = observed_counts(self.document, chosen, name, channel.bins, begin(self.owner))
            observations.append({"name": channel.name, "data": counts})
        return observations

    # ------------------------------------------------------------------ constraints

    def _constants(self, parameters: frozenset[str]) -> dict[str, float]:
        """Values of names that are no parameters of modifiers: global observables, widths."""
        return {name: value for name, value in self.values.value.items() if name not in parameters}

    def _add_terms(self, constraints: Constraints, likelihood: _Likelihood) -> None:
        for name, entry in likelihood.terms:
            observed = None
            if entry is not None:
                observed = observed_value(self.document, entry, name, begin(self.owner))
            constraints.add_named(name, self.owner, observed)

    def _scalar(self, name: str, members: Sequence[Modifier], constraints: Constraints) -> _Setting:
        """Read the constraint of a parameter that is not one of a bin."""
        document = self.document
        alphas = [modifier for modifier in members if modifier.kind != "normfactor"]
        alpha = bool(alphas)
        if alpha and len(alphas) < len(members):
            raise document.error(
                f"The parameter {short(name)} is one of {alphas[0].title} and of a normfactor: "
                "palletfit fits parameters of one type."
            )
        named = {
            distribution
            for modifier in members
            if (distribution := self._constraint(modifier, name, constraints)) is not None
        }
        if alpha:
            constraints.imply(name, Term(GAUSS, 0.0, 1.0))
        term = constraints.of(name)
        if not alpha and name == _LUMI and term.kind == GAUSS:
            return _Setting(_LUMI, (name,), (term,))
        kind = "alpha" if alpha else "normfactor"
        return _Setting(kind, (name,), (term,), const=NONE in named)

    def _constraint(
        self, modifier: Modifier, parameter: str, constraints: Constraints
    ) -> str | None:
        """Add the constraint that a modifier names; give its type if there is one."""
        value = modifier.constraint
        if modifier.constraints:
            value = modifier.constraints[0]
            if value is None:
                constraints.add(parameter, FREE, "null")
                return None
        if value is None:
            return None
        document = self.document
        if value in document.distributions:
            constrained = constraints.add_named(value, modifier.title)
            if constrained != parameter:
                raise document.error(
                    f"The constraint {short(value)} of {modifier.title} is one of "
                    f"{short(constrained)}, and not of {short(parameter)}."
                )
            return "named"
        kind = read_type(document, value, modifier.title)
        if kind is None:
            raise document.error(
                f"The constraint {short(value)} of {modifier.title} is neither a type nor the name "
                "of a distribution."
            )
        centre = 1.0 if modifier.kind == "normfactor" else 0.0
        if kind == POISSON and centre == 0.0:
            raise document.error(
                f"The constraint Poisson of {modifier.title} has no meaning: its parameter is zero "
                "without variation.",
                "Write Gauss.",
            )
        constraints.add(parameter, FREE if kind == NONE else Term(kind, centre, 1.0), value)
        return kind

    # ------------------------------------------------------------------ settings

    def _entry(self, name: str, setting: _Setting) -> dict[str, Any] | None:
        """Write what the measurement says about a parameter."""
        entry: dict[str, Any] = {}
        components = setting.components
        start = _STARTS.get(setting.kind, 1.0)
        values = self.values
        fixed = [self._is_fixed(setting, number) for number in range(len(components))]
        inits = [values.value.get(component, start) for component in components]
        bounds = [
            list(self._bounds(setting, number, inits[number], fixed[number]))
            for number in range(len(components))
        ]
        if any(component in values.value for component in components):
            entry["inits"] = inits
        default = list(_BOUNDS.get(setting.kind, _OTHER_BOUNDS))
        if any(component in values.bounds for component in components) or any(
            pair != default for pair in bounds
        ):
            entry["bounds"] = bounds
        if fixed != list(setting.without):
            entry["fixed"] = True if all(fixed) else fixed if len(fixed) > 1 else fixed[0]
        entry |= self._constraint_entry(setting, inits, bounds)
        return {"name": name, **entry} if entry else None

    def _constraint_entry(
        self, setting: _Setting, inits: list[float], bounds: list[list[float]]
    ) -> dict[str, Any]:
        terms = setting.terms
        if setting.kind == _LUMI:
            (term,) = terms
            auxiliary = {"auxdata": [term.aux], "sigmas": [term.width]}
            return {"inits": inits, "bounds": bounds, **auxiliary}
        kinds = [term.kind for term in terms]
        if setting.kind in ("staterror", "shapesys"):
            return {} if setting.constraint is None else {"constraint": setting.constraint}
        if setting.kind == "alpha" and terms[0].kind == GAUSS and terms[0].width == 1.0:
            return {} if terms[0].aux == 0.0 else {"auxdata": [terms[0].aux]}
        if all(kind == NONE for kind in kinds):
            return {} if setting.kind != "alpha" else {"constraint": NONE}
        entry: dict[str, Any] = {
            "constraint": kinds[0] if len(set(kinds)) == 1 else kinds,
            "auxdata": [term.aux for term in terms],
        }
        if GAUSS in kinds:
            entry["sigmas"] = [term.width if term.kind == GAUSS else 1.0 for term in terms]
        if POISSON in kinds:
            entry["factors"] = [term.width if term.kind == POISSON else 1.0 for term in terms]
        return entry

    def _is_fixed(self, setting: _Setting, number: int) -> bool:
        component = setting.components[number]
        if setting.fixed[number]:
            return True
        lower, upper = self.values.bounds.get(component, (-math.inf, math.inf))
        if component in self.values.const:
            return self.values.const[component] or lower == upper
        # A constraint of the type Const: ROOT fixes what it does not name otherwise.
        return setting.const or lower == upper

    def _bounds(
        self, setting: _Setting, number: int, init: float, fixed: bool
    ) -> tuple[float, float]:
        """Give the bounds of a component; those of pyhf where the document has none."""
        document, component = self.document, setting.components[number]
        default = _BOUNDS.get(setting.kind, _OTHER_BOUNDS)
        domain = self.values.bounds.get(component)
        if domain is None and not fixed and self.choice.domains:
            document.remark(
                f"a parameter without a domain that is not constant has pyhf's bounds: {component}"
            )
        lower, upper = domain or default
        if fixed:
            lower = lower if math.isfinite(lower) else default[0]
            upper = upper if math.isfinite(upper) else default[1]
            return min(lower, init), max(upper, init)
        if not (math.isfinite(lower) and math.isfinite(upper)):
            if setting.terms[number].kind == NONE and setting.kind not in _BOUNDS:
                raise document.error(
                    f"The domain of the parameter {short(component)} is infinite, and no "
                    "constraint holds it.",
                    "Give it a lower and an upper bound.",
                )
            document.remark(f"the infinite domain of {component} has pyhf's bounds")
            lower = lower if math.isfinite(lower) else min(default[0], upper)
            upper = upper if math.isfinite(upper) else max(default[1], lower)
        if not lower <= init <= upper:
            raise document.error(
                f"The value {init:g} of the parameter {short(component)} is outside of its domain "
                f"({lower:g} to {upper:g})."
            )
        return lower, upper

    # ------------------------------------------------------------------ workspace

    def _modifier(
        self,
        modifier: Modifier,
        groups: Mapping[tuple[str, ...], Group],
        settings: Mapping[str, _Setting],
    ) -> dict[str, Any]:
        if modifier.kind in SCALAR_TYPES:
            return self._scalar_modifier(modifier, settings[modifier.parameters[0]].kind)
        group = groups[modifier.parameters]
        data: Any = None
        if group.kind == "staterror":
            data = list(modifier.errors)
        elif group.kind == "shapesys":
            data = list(group.errors)
        return {"name": group.name, "type": group.kind, "data": data}

    def _scalar_modifier(self, modifier: Modifier, kind: str) -> dict[str, Any]:
        name = modifier.parameters[0]
        if modifier.kind == "normfactor":
            return {"name": name, "type": _LUMI if kind == _LUMI else "normfactor", "data": None}
        if modifier.kind == "normsys":
            data = {side: self._factor(modifier, side) for side in ("hi", "lo")}
        else:
            data = {"hi_data": modifier.hi, "lo_data": modifier.lo}
        written: dict[str, Any] = {"name": name, "type": modifier.kind, "data": data}
        if modifier.code is not None and modifier.code != DEFAULTS[modifier.kind]:
            written["interpolation"] = modifier.code
        return written

    def _factor(self, modifier: Modifier, side: str) -> float:
        """Give a factor of a normsys; one below zero counts as zero, as in ROOT."""
        factor: float = getattr(modifier, side)
        if factor >= 0:
            return factor
        if modifier.code not in (None, "code4"):
            raise self.document.error(f"`{side}` of {modifier.title} is below zero: {factor:g}.")
        self.document.remark(f"`{side}` of {modifier.title} is below zero and counts as zero")
        return 0.0

    def _measurements(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        pois = self.choice.pois
        return [
            {
                "name": self.choice.name if len(pois) < 2 else f"{self.choice.name}/{poi}",
                "config": {"poi": poi, "parameters": entries},
            }
            for poi in pois or ("",)
        ]
