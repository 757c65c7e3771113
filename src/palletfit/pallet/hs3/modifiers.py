"""The modifiers of `histfactory_dist` distributions: types, parameters, variations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palletfit.pallet.hs3.document import Document, Spec, begin, short
from palletfit.pallet.hs3.interpolation import is_additive, read_code

SCALAR_TYPES = ("normfactor", "normsys", "histosys")
BIN_TYPES = ("staterror", "shapesys", "shapefactor")
#: Keys of a constraint: types and names of distributions stand in any of them.
_CONSTRAINT_KEYS = ("constraint_name", "constraint", "constraint_type")


@dataclass(frozen=True)
class Modifier:
    """A modifier.

    Attributes
    ----------
    kind
        Type.
    title
        Words that name it in errors.
    name
        Its name, if it has one.
    parameters
        Names of its parameters: one, or one for each bin.
    lo, hi
        Factors of a normsys; yields of a histosys, one a bin.
    code
        Interpolation code of a normsys or histosys, if the document says one.
    multiplies
        Whether a histosys multiplies yields by its interpolation, and does not add to them.
    errors
        Uncertainties of a staterror or shapesys, one a bin.
    constraint
        Type of the constraint or name of a distribution; None if the document says neither.
    constraints
        Names of distributions, one for each parameter; None where there is none.
    """

    kind: str
    title: str
    name: str | None
    parameters: tuple[str, ...]
    lo: Any = None
    hi: Any = None
    code: str | None = None
    multiplies: bool = False
    errors: tuple[float, ...] = ()
    constraint: str | None = None
    constraints: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Sample:
    """A sample of a channel: its name, yields, and modifiers."""

    name: str
    data: tuple[float, ...]
    modifiers: tuple[Modifier, ...]

    @property
    def multiplied(self) -> Modifier | None:
        """The histosys that multiplies its yields."""
        return next((modifier for modifier in self.modifiers if modifier.multiplies), None)


@dataclass(frozen=True)
class Channel:
    """A `histfactory_dist`.

    Attributes
    ----------
    distribution
        Name of the distribution.
    name
        The same without ROOT's prefix ``model_``.
    samples
        Samples.
    staterror
        Type of the constraint of staterrors that do not say one, if the channel does.
    threshold
        Relative uncertainty below which a staterror's parameter is fixed.
    """

    distribution: str
    name: str
    samples: tuple[Sample, ...]
    staterror: str | None
    threshold: float

    @property
    def bins(self) -> int:
        """Number of bins."""
        return len(self.samples[0].data)


class ChannelReader:
    """Reads the samples of one `histfactory_dist`.

    Parameters
    ----------
    document
        The document.
    distribution
        Name of the distribution.
    """

    def __init__(self, document: Document, distribution: str) -> None:
        self.document, self.distribution = document, distribution
        self.spec = document.distributions[distribution]
        self.title = f"the distribution {short(distribution)}"
        self.name = distribution.removeprefix("model_") or distribution
        self.default = self.spec.get("default_interpolation")

    def read(self) -> Channel:
        """Read the channel.

        Raises
        ------
        Hs3Error
            A part is missing or of no meaning; the error names distribution, sample and modifier.
        """
        document, title = self.document, self.title
        method = self.spec.get("barlow_beeston_method", "lite")
        if method != "lite":
            raise document.error(
                f"The distribution {short(self.distribution)} asks for the Barlow-Beeston method "
                f"{short(method)}: palletfit has `lite`, with one parameter a bin.",
            )
        samples = [
            self._sample(number, sample)
            for number, sample in enumerate(document.objects(self.spec, "samples", title))
        ]
        if not samples:
            raise document.error(f"The distribution {short(self.distribution)} has no samples.")
        if len({sample.name for sample in samples}) < len(samples):
            raise document.error(f"Two samples of {title} have the same name.")
        bins = len(samples[0].data)
        for sample in samples:
            if len(sample.data) != bins:
                raise document.error(
                    f"The sample {short(sample.name)} of {title} has {len(sample.data)} bins, and "
                    f"{short(samples[0].name)} has {bins}."
                )
        self._check_axes(bins)
        constraint, threshold = self._staterror()
        return Channel(self.distribution, self.name, tuple(samples), constraint, threshold)

    def _check_axes(self, bins: int) -> None:
        expected = 1
        axes = self.document.objects(self.spec, "axes", self.title)
        for axis in axes:
            expected *= axis_bins(self.document, axis, self.title)
        if axes and expected != bins:
            raise self.document.error(
                f"The axes of {self.title} have {expected} bins, and its samples {bins}."
            )

    def _staterror(self) -> tuple[str | None, float]:
        """Read what a channel says about its staterrors, as ROOT writes it."""
        settings = self.spec.get("staterror")
        if settings is None:
            return None, 0.0
        settings = self.document.object(self.spec, "staterror", self.title)
        constraint = settings.get("constraint_type", settings.get("constraint"))
        threshold = settings.get("relThreshold", 0.0)
        number = self.document.number(threshold, f"`relThreshold` of {self.title}")
        return constraint, number

    def _sample(self, number: int, spec: Spec) -> Sample:
        document = self.document
        name = spec.get("name", f"sample_{number}")
        owner = f"the sample {short(name)} of {self.title}"
        if not isinstance(name, str):
            raise document.error(f"The name of {owner} is no text.")
        data = document.object(spec, "data", begin(owner))
        yields = document.numbers(data.get("contents"), f"`contents` of {owner}")
        if not yields:
            raise document.error(f"{begin(owner)} has no bins.")
        errors = data.get("errors")
        if errors is not None:
            errors = document.numbers(errors, f"`errors` of {owner}", len(yields))
        modifiers = [
            self._modifier(modifier, owner, yields, errors)
            for modifier in document.objects(spec, "modifiers", owner)
        ]
        seen: set[tuple[str, tuple[str, ...]]] = set()
        for modifier in modifiers:
            key = modifier.kind, modifier.parameters
            if key in seen:
                raise document.error(
                    f"{begin(owner)} has two {modifier.kind} modifiers with the parameter "
                    f"{short(modifier.parameters[0])}.",
                    "Write the two as one modifier.",
                )
            seen.add(key)
        self._check_additive(spec, owner)
        sample = Sample(name, tuple(yields), tuple(modifiers))
        self._check_multiplied(sample, owner)
        return sample

    def _check_multiplied(self, sample: Sample, owner: str) -> None:
        """Refuse a histosys that multiplies next to others, or where there is no factor."""
        multiplied = sample.multiplied
        if multiplied is None:
            return
        if sum(modifier.kind == "histosys" for modifier in sample.modifiers) > 1:
            raise self.document.error(
                f"{begin(owner)} has another histosys beside one that multiplies the yields: "
                "programs disagree on what this means.",
                "Write all of them with interpolations that add.",
            )
        if any(
            modifier.kind == "normsys" and modifier.parameters == multiplied.parameters
            for modifier in sample.modifiers
        ):
            raise self.document.error(
                f"{begin(owner)} has a normsys with the parameter of {multiplied.title}, which "
                "multiplies the yields.",
                "Write the two as one modifier.",
            )
        for nominal, *sides in zip(sample.data, multiplied.lo, multiplied.hi, strict=True):
            if any(side / nominal < 0 if nominal else side != 0 for side in sides):
                raise self.document.error(
                    f"{begin(multiplied.title)} multiplies yields by a factor below zero, or a "
                    "yield of zero by an infinite one."
                )

    def _check_additive(self, spec: Spec, owner: str) -> None:
        """Refuse normsys modifiers that add up, which ROOT does with numbers of codes."""
        normsys = [
            modifier
            for modifier in self.document.objects(spec, "modifiers", owner)
            if modifier.get("type") == "normsys"
        ]
        additive = [entry for entry in normsys if is_additive(self._interpolation(entry))]
        if len(additive) > 1:
            raise self.document.error(
                f"{begin(owner)} has {len(additive)} normsys modifiers that add up: in "
                "palletfit factors multiply.",
                "Write them with another interpolation.",
            )

    # ------------------------------------------------------------------ modifiers

    def _modifier(
        self, spec: Spec, owner: str, yields: Sequence[float], errors: Sequence[float] | None
    ) -> Modifier:
        document, kind = self.document, spec.get("type")
        name = spec.get("name")
        if name is not None and not isinstance(name, str):
            raise document.error(f"The name of a modifier of {owner} is no text: {short(name)}.")
        if kind not in (*SCALAR_TYPES, *BIN_TYPES):
            raise document.error(
                f"{begin(owner)} has a modifier {short(name)} of the type {short(kind)}, "
                "which palletfit does not fit.",
                f"Types are {', '.join((*SCALAR_TYPES, *BIN_TYPES))}; functions are not evaluated.",
            )
        title = f"the {kind} {short(name or self._first_parameter(spec))} of {owner}"
        if kind in SCALAR_TYPES:
            parameters: tuple[str, ...] = (self._parameter(spec, kind, name, title),)
        else:
            parameters = self._bin_parameters(spec, kind, name, title, len(yields))
        for parameter in parameters:
            self._check_is_parameter(parameter, title)
        constraint, constraints = self._constraints(spec, title, len(parameters))
        common: dict[str, Any] = {
            "kind": kind,
            "title": title,
            "name": name,
            "parameters": parameters,
            "constraint": constraint,
            "constraints": constraints,
        }
        if kind in ("normsys", "histosys"):
            data = document.object(spec, "data", begin(title))
            lo, hi = (self._variation(data, key, kind, title, len(yields)) for key in ("lo", "hi"))
            code, multiplies = self._code(spec, kind, title)
            return Modifier(**common, lo=lo, hi=hi, code=code, multiplies=multiplies)
        if kind == "staterror":
            if errors is None:
                raise document.error(f"{begin(title)} needs `errors` beside the `contents`.")
            return Modifier(**common, errors=tuple(errors))
        return Modifier(**common, errors=self._vals(spec, title, len(yields)))

    def _first_parameter(self, spec: Spec) -> Any:
        names = spec.get("parameters")
        return spec.get("parameter", names[0] if isinstance(names, list) and names else None)

    def _parameter(self, spec: Spec, kind: str, name: str | None, title: str) -> str:
        """Name the parameter of a modifier; ROOT's name where the document has none."""
        names = self.document.texts(spec, "parameters", title)
        parameter = spec.get("parameter", spec.get("parameter_name"))
        if parameter is None and len(names) == 1:
            return names[0]
        if parameter is not None and not names:
            if not isinstance(parameter, str):
                raise self.document.error(f"`parameter` of {title} is no name: {short(parameter)}.")
            return parameter
        if name is None or names:
            raise self.document.error(f"{begin(title)} needs the name of one `parameter`.")
        return name if kind == "normfactor" else f"alpha_{name}"

    def _bin_parameters(
        self, spec: Spec, kind: str, name: str | None, title: str, bins: int
    ) -> tuple[str, ...]:
        """Name the parameters of the bins; ROOT's names where the document has none."""
        names = self.document.texts(spec, "parameters", title)
        if names:
            if len(names) != bins:
                raise self.document.error(
                    f"{begin(title)} has {len(names)} parameters for {bins} bins."
                )
            if len(set(names)) < len(names):
                raise self.document.error(f"A parameter stands twice in {title}.")
            return tuple(names)
        stem = spec.get("parameter", name)
        if kind == "staterror":
            stem = f"stat_{self.name}"
        if not isinstance(stem, str):
            raise self.document.error(f"{begin(title)} needs a list of `parameters`, or a name.")
        if bins == 1 and spec.get("parameter") is not None:
            return (stem,)
        return tuple(f"gamma_{stem}_bin_{number}" for number in range(bins))

    def _check_is_parameter(self, name: str, title: str) -> None:
        for members, part in (
            (self.document.functions, "function"),
            (self.document.distributions, "distribution"),
        ):
            if name in members:
                raise self.document.error(
                    f"{begin(title)} depends on the {part} {short(name)} of the type "
                    f"{short(members[name].get('type'))}: palletfit does not evaluate it.",
                    "Write the modifier with a parameter.",
                )

    def _constraints(
        self, spec: Spec, title: str, size: int
    ) -> tuple[str | None, tuple[str | None, ...]]:
        document = self.document
        values = spec.get("constraints")
        if values is not None:
            names = values if isinstance(values, list) else []
            if len(names) != size or not all(isinstance(one, str | None) for one in names):
                raise document.error(
                    f"`constraints` of {title} is not one name, or null, for each parameter."
                )
            return None, tuple(names)
        constraint = next(
            (spec[key] for key in _CONSTRAINT_KEYS if spec.get(key) is not None), None
        )
        if constraint is not None and not isinstance(constraint, str):
            raise document.error(f"The constraint of {title} is no text: {short(constraint)}.")
        return constraint, ()

    def _variation(self, data: Spec, key: str, kind: str, title: str, bins: int) -> Any:
        if kind == "normsys":
            return self.document.number(data.get(key), f"`{key}` of {title}")
        side = self.document.object(data, key, f"`data` of {title}")
        return self.document.numbers(side.get("contents"), f"`{key}` of {title}", bins)

    def _interpolation(self, spec: Spec) -> Any:
        data = spec.get("data")
        of_data = data.get("interpolation") if isinstance(data, dict) else None
        return next(
            (one for one in (spec.get("interpolation"), of_data, self.default) if one is not None),
            None,
        )

    def _code(self, spec: Spec, kind: str, title: str) -> tuple[str | None, bool]:
        value = self._interpolation(spec)
        return (None, False) if value is None else read_code(self.document, kind, value, title)

    def _vals(self, spec: Spec, title: str, bins: int) -> tuple[float, ...]:
        data = spec.get("data")
        values = data.get("vals") if isinstance(data, dict) else None
        if not values:
            return ()
        return tuple(self.document.numbers(values, f"`vals` of {title}", bins))


def axis_bins(document: Document, axis: Spec, owner: str) -> int:
    """Count the bins of an axis.

    Raises
    ------
    Hs3Error
        The axis says neither number nor edges of its bins.
    """
    for key in ("edges", "bounds"):
        if axis.get(key) is not None:
            edges = document.numbers(axis[key], f"`{key}` of an axis of {owner}")
            return max(len(edges) - 1, 0)
    bins = axis.get("nbins")
    if not isinstance(bins, int) or isinstance(bins, bool) or bins < 1:
        raise document.error(f"An axis of {owner} has no number of bins: {short(bins)}.")
    return bins
