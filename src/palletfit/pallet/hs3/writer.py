"""Write a workspace as an HS3 document, with one analysis: that of one measurement.

What each program reads in the same way is written where there is a choice; `docs/hs3.md` says more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from palletfit.core.files import write_atomically
from palletfit.core.version import __version__
from palletfit.errors import PalletError
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.hs3.constraints import FREE, GAUSS, NONE, POISSON, Term
from palletfit.pallet.hs3.document import Spec, listed, short
from palletfit.pallet.hs3.errors import Hs3Error
from palletfit.pallet.hs3.interpolation import DEFAULTS, FUNCTIONS, NAMES
from palletfit.pallet.patchset import check_workspace

Shapesys = Literal["absolute", "relative"]
VERSION = "0.2"
_ALPHAS = ("normsys", "histosys")
_BIN_TYPES = ("staterror", "shapesys", "shapefactor")
_UNIT = Term(GAUSS, 0.0, 1.0)
#: What a measurement says about a constraint that no type of a modifier says.
_OF_TERMS = {"auxdata", "sigmas", "factors"}


def write_hs3(
    workspace: Path | str | Spec,
    path: Path | str,
    measurement: str | None = None,
    *,
    shapesys: Shapesys = "absolute",
) -> None:
    """Write a workspace as an HS3 document.

    Parameters
    ----------
    workspace
        File or content of a workspace.
    path
        Path of the document.
    measurement
        Name of the measurement. None: the first one.
    shapesys
        Whether `vals` of shapesys modifiers are absolute or relative uncertainties. ROOT reads
        relative ones, pyhs3 absolute ones.

    Raises
    ------
    PalletError
        The workspace is wrong, or has no such measurement.
    StoreError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_workspace
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "demo.json"
    ...     palletfit.write_hs3(demo_workspace(), path)
    ...     len(palletfit.read_hs3(path)["channels"]) == len(demo_workspace()["channels"])
    True
    """
    document = hs3_document(workspace, measurement, shapesys=shapesys)
    write_atomically(Path(path), json.dumps(document, indent=1, allow_nan=False) + "\n")


def hs3_document(
    workspace: Path | str | Spec,
    measurement: str | None = None,
    *,
    shapesys: Shapesys = "absolute",
) -> dict[str, Any]:
    """Give the content of the document that :func:`write_hs3` writes; arguments as there.

    Raises
    ------
    PalletError
        The workspace is wrong, or has no such measurement.

    Examples
    --------
    >>> import palletfit
    >>> from palletfit.pallet.demo import demo_workspace
    >>> document = palletfit.hs3_document(demo_workspace())
    >>> document["metadata"]["hs3_version"], document["analyses"][0]["parameters_of_interest"]
    ('0.2', ['mu_SIG'])
    """
    file = Path(workspace) if isinstance(workspace, (str, Path)) else Path("workspace")
    is_content = isinstance(workspace, Mapping)
    content: Spec = workspace if is_content else read_pallet_json(file)  # type: ignore[assignment]
    check_workspace(content, file)
    try:
        chosen = _measurement(content, measurement)
        return _Writer(content, chosen, relative=shapesys == "relative").document()
    except Hs3Error as error:
        error.file = str(file)
        raise


def _measurement(workspace: Spec, name: str | None) -> Spec:
    measurements: Mapping[str, Spec] = {entry["name"]: entry for entry in workspace["measurements"]}
    if name is None:
        first: Spec = workspace["measurements"][0]
        return first
    if name not in measurements:
        raise PalletError(
            f"The workspace has no measurement {short(name)}.",
            remedy=f"Name one of: {listed([*measurements])}.",
        )
    return measurements[name]


@dataclass
class _Parameter:
    """A parameter of the workspace.

    Attributes
    ----------
    kind
        Its type, where ``alpha`` stands for normsys and histosys.
    first
        Number of the first component in each channel.
    components
        Names of the components in the document.
    terms
        Constraint of each component.
    by_type
        Whether types of modifiers say these constraints; others are written as distributions.
    init, bounds, fixed
        Settings of each component.
    """

    kind: str
    first: dict[str, int]
    components: list[str]
    terms: list[Term]
    by_type: bool
    init: list[float]
    bounds: list[list[float]]
    fixed: list[bool]

    def of_channel(self, channel: str, bins: int) -> slice:
        """Components of the bins of a channel."""
        first = self.first.get(channel, 0)
        return slice(first, first + bins)


class _Writer:
    """Turns a workspace and one of its measurements into a document."""

    def __init__(self, workspace: Spec, measurement: Spec, *, relative: bool) -> None:
        self.workspace, self.measurement = workspace, measurement
        self.relative = relative
        self.channels = sorted(workspace["channels"], key=lambda channel: str(channel["name"]))
        self.user: Mapping[str, Spec] = {
            entry["name"]: entry for entry in measurement["config"]["parameters"]
        }
        self._names: set[str] = set()
        #: Names of the staterrors of each channel.
        self._staterrors: dict[str, set[str]] = {}
        for channel, _, modifier in self._modifiers():
            if modifier["type"] == "staterror":
                self._staterrors.setdefault(channel["name"], set()).add(modifier["name"])
        self.parameters = self._parameters()

    def document(self) -> dict[str, Any]:
        """Give the content of the document."""
        name, poi = self.measurement["name"], self.measurement["config"]["poi"]
        channels = [channel["name"] for channel in self.channels]
        observed = {entry["name"]: entry["data"] for entry in self.workspace["observations"]}
        distributions = [self._channel(channel) for channel in self.channels]
        terms, functions = self._distributions()
        likelihood: dict[str, Any] = {
            "name": "likelihood",
            "distributions": [_distribution(channel) for channel in channels],
            "data": [_data(channel) for channel in channels],
        }
        auxiliary = [
            _constraint(component)
            for parameter in self.parameters.values()
            if parameter.kind in ("normfactor", "lumi")
            for component, term in zip(parameter.components, parameter.terms, strict=True)
            if term.kind != NONE
        ]
        if auxiliary:
            likelihood["aux_distributions"] = auxiliary
        return {
            "metadata": {
                "hs3_version": VERSION,
                "packages": [{"name": "palletfit", "version": __version__}],
            },
            "distributions": [*distributions, *terms],
            "functions": functions,
            "data": [
                {
                    "name": _data(channel),
                    "type": "binned",
                    "axes": [_axis(channel, len(observed[channel]))],
                    "contents": list(observed[channel]),
                }
                for channel in channels
            ],
            "likelihoods": [likelihood],
            "analyses": [
                {
                    "name": name,
                    "likelihood": "likelihood",
                    "parameters_of_interest": [poi] if poi else [],
                    "domain": "default_domain",
                    "domains": ["default_domain"],
                    "init": "default_values",
                }
            ],
            "domains": [
                {
                    "name": "default_domain",
                    "type": "product_domain",
                    "axes": [
                        {"name": component, "min": bounds[0], "max": bounds[1]}
                        for component, _, bounds, _ in self._components()
                    ],
                }
            ],
            "parameter_points": [
                {
                    "name": "default_values",
                    "parameters": [
                        {"name": component, "value": init, "const": fixed}
                        for component, init, _, fixed in self._components()
                    ],
                }
            ],
        }

    # ------------------------------------------------------------------ parameters

    def _parameters(self) -> dict[str, _Parameter]:
        kinds: dict[str, str] = {}
        sizes: dict[str, dict[str, int]] = {}
        for channel in self.channels:
            for sample in channel["samples"]:
                for modifier in sample["modifiers"]:
                    kind, name = modifier["type"], modifier["name"]
                    kind = "alpha" if kind in _ALPHAS else kind
                    if kinds.setdefault(name, kind) != kind:
                        raise Hs3Error(
                            f"The name {short(name)} is that of {kinds[name]} and of {kind} "
                            "modifiers.",
                            remedy="Give the two modifiers different names.",
                        )
                    bins = len(sample["data"]) if kind in _BIN_TYPES else 1
                    sizes.setdefault(name, {})[channel["name"]] = bins
        poi = self.measurement["config"]["poi"]
        if poi and poi not in kinds:
            # A background-only workspace: patches bring the signal.
            kinds[poi], sizes[poi] = "normfactor", {"": 1}
        self._names = {name for name, kind in kinds.items() if kind not in _BIN_TYPES}
        return {name: self._parameter(name, kinds[name], sizes[name]) for name in kinds}

    def _parameter(self, name: str, kind: str, sizes: Mapping[str, int]) -> _Parameter:
        first: dict[str, int] = {}
        size = 0
        for channel, bins in sizes.items():
            first[channel] = size if kind == "staterror" else 0
            size = size + bins if kind == "staterror" else max(size, bins)
        terms, without = self._default_terms(name, kind, size, first)
        user = self.user.get(name, {})
        start = 0.0 if kind == "alpha" else 1.0
        bounds = {
            "alpha": [-5.0, 5.0],
            "staterror": [1e-10, 10.0],
            "shapesys": [1e-10, 10.0],
        }.get(kind, [0.0, 10.0])
        fixed = user.get("fixed", without)
        fixed = [fixed] * size if isinstance(fixed, bool) else fixed
        chosen = _user_terms(user, terms)
        init = self._setting(name, user, "inits", [start] * size)
        if kind == "lumi" and chosen[0].width == 0:
            # A luminosity without uncertainty is what was measured, unless it is fixed elsewhere.
            init = init if fixed[0] else [chosen[0].aux]
            chosen, fixed = [FREE], [True]
        return _Parameter(
            kind=kind,
            first=first,
            components=[name] if kind not in _BIN_TYPES else self._bin_names(name, size),
            terms=chosen,
            by_type=self._is_by_type(name, kind, chosen, fixed, without),
            init=init,
            bounds=self._setting(name, user, "bounds", [bounds] * size),
            fixed=fixed,
        )

    def _is_by_type(
        self,
        name: str,
        kind: str,
        terms: Sequence[Term],
        fixed: Sequence[bool],
        without: Sequence[bool],
    ) -> bool:
        """Return whether types of modifiers say the constraint of a parameter."""
        if kind == "alpha":
            return terms[0] == _UNIT
        user = self.user.get(name, {})
        is_held = all(is_fixed or not none for is_fixed, none in zip(fixed, without, strict=True))
        if not is_held or user.keys() & _OF_TERMS:
            return False
        if kind == "staterror":
            # Programs take all staterrors of a channel for one.
            alone = all(names == {name} for names in self._staterrors.values() if name in names)
            return alone and user.get("constraint", GAUSS) in (GAUSS, POISSON)
        return kind == "shapesys" and "constraint" not in user

    def _setting(self, name: str, user: Spec, key: str, default: list[Any]) -> list[Any]:
        values: list[Any] = user.get(key, default)
        if len(values) != len(default):
            raise Hs3Error(
                f"The measurement {short(self.measurement['name'])} has {len(values)} `{key}` of "
                f"{short(name)}, and not {len(default)}.",
                remedy="Correct the measurement's `parameters`.",
            )
        return values

    def _bin_names(self, name: str, size: int) -> list[str]:
        names = [f"{name}_bin_{number}" for number in range(size)]
        while self._names & set(names):
            names = [f"gamma_{component}" for component in names]
        self._names.update(names)
        return names

    def _default_terms(
        self, name: str, kind: str, size: int, first: Mapping[str, int]
    ) -> tuple[list[Term], list[bool]]:
        """Give the constraints that follow from a type, and components without uncertainty."""
        if kind == "alpha":
            return [_UNIT], [False]
        if kind == "lumi":
            user = self.user.get(name, {})
            if "sigmas" not in user or "auxdata" not in user:
                raise Hs3Error(
                    f"The measurement {short(self.measurement['name'])} sets no `auxdata` and "
                    f"`sigmas` of {short(name)}.",
                    remedy="Add them to the measurement's `parameters`.",
                )
            return [Term(GAUSS)], [False]
        if kind not in ("staterror", "shapesys"):
            return [FREE] * size, [False] * size
        totals, squares = [0.0] * size, [0.0] * size
        for channel, sample, modifier in self._modifiers():
            if modifier["type"] == kind and modifier["name"] == name:
                begin = first[channel["name"]]
                for number, (count, error) in enumerate(
                    zip(sample["data"], modifier["data"], strict=True), begin
                ):
                    totals[number] += count
                    squares[number] += error**2
        without = [not (total and square) for total, square in zip(totals, squares, strict=True)]
        if kind == "shapesys":
            factors = [
                1.0 if none else (total / square**0.5) ** 2
                for total, square, none in zip(totals, squares, without, strict=True)
            ]
            return [Term(POISSON, factor, factor) for factor in factors], without
        widths = [
            1.0 if none else square**0.5 / abs(total)
            for total, square, none in zip(totals, squares, without, strict=True)
        ]
        return [Term(GAUSS, 1.0, width) for width in widths], without

    def _modifiers(self) -> Iterator[tuple[Spec, Spec, Spec]]:
        for channel in self.channels:
            for sample in channel["samples"]:
                for modifier in sample["modifiers"]:
                    yield channel, sample, modifier

    def _components(self) -> Iterator[tuple[str, float, list[float], bool]]:
        """Yield name, start value, bounds and constancy of all parameters of the document."""
        for parameter in self.parameters.values():
            yield from zip(
                parameter.components,
                parameter.init,
                parameter.bounds,
                parameter.fixed,
                strict=True,
            )

    # ------------------------------------------------------------------ distributions

    def _channel(self, channel: Spec) -> dict[str, Any]:
        name, bins = channel["name"], len(channel["samples"][0]["data"])
        written: dict[str, Any] = {
            "name": _distribution(name),
            "type": "histfactory_dist",
            "axes": [_axis(name, bins)],
            "samples": [self._sample(name, sample) for sample in channel["samples"]],
        }
        for statistics in self._staterrors.get(name, ()):
            parameter = self.parameters[statistics]
            if parameter.by_type:
                # ROOT does not read the constraint of the modifier.
                written["staterror"] = {"constraint_type": parameter.terms[0].kind}
        return written

    def _sample(self, channel: str, sample: Spec) -> dict[str, Any]:
        data: dict[str, Any] = {"contents": list(sample["data"])}
        modifiers = []
        for modifier in sample["modifiers"]:
            modifiers.append(self._modifier(channel, sample, modifier))
            if modifiers[-1]["type"] == "staterror":
                data["errors"] = list(modifier["data"])
        return {"name": sample["name"], "data": data, "modifiers": modifiers}

    def _modifier(self, channel: str, sample: Spec, modifier: Spec) -> dict[str, Any]:
        kind, name = modifier["type"], modifier["name"]
        parameter = self.parameters[name]
        if kind in ("normfactor", "lumi"):
            return {"name": name, "type": "normfactor", "parameter": name}
        if kind in _ALPHAS:
            return self._alpha(modifier, parameter)
        components = parameter.of_channel(channel, len(sample["data"]))
        written: dict[str, Any] = {
            "name": name,
            "type": kind,
            "parameters": parameter.components[components],
        }
        terms = parameter.terms[components]
        if kind == "shapesys" and parameter.by_type:
            values = list(modifier["data"])
            if self.relative:
                values = [
                    error / abs(count) if count else 0.0
                    for error, count in zip(values, sample["data"], strict=True)
                ]
            return {**written, "constraint": POISSON, "data": {"vals": values}}
        if parameter.by_type:
            return {**written, "constraint": terms[0].kind}
        written["type"] = "shapefactor"
        if any(term.kind != NONE for term in terms):
            written["constraints"] = [
                None if term.kind == NONE else _constraint(component)
                for component, term in zip(written["parameters"], terms, strict=True)
            ]
        return written

    def _alpha(self, modifier: Spec, parameter: _Parameter) -> dict[str, Any]:
        kind, name, data = modifier["type"], modifier["name"], modifier["data"]
        (term,) = parameter.terms
        by_type = {_UNIT: GAUSS, FREE: "Const"}
        if kind == "histosys":
            data = {side: {"contents": list(data[f"{side}_data"])} for side in ("hi", "lo")}
        written = {
            "name": name,
            "type": kind,
            "parameter": name,
            "constraint": by_type.get(term) or _constraint(name),
            "data": data,
        }
        code = modifier.get("interpolation")
        if code is not None and code != DEFAULTS[kind]:
            written["interpolation"] = NAMES.get(code) or FUNCTIONS[code]
        return written

    def _distributions(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Write the constraints that are named, and the functions that they need."""
        distributions, functions = [], []
        for parameter in self.parameters.values():
            if parameter.by_type:
                continue
            for component, term in zip(parameter.components, parameter.terms, strict=True):
                spec: dict[str, Any] = {"name": _constraint(component), "x": term.aux}
                if term.kind == GAUSS:
                    sigma = {"mean": component, "sigma": term.width}
                    distributions.append({**spec, "type": "gaussian_dist", **sigma})
                elif term.kind == POISSON:
                    mean = f"{component}_mean"
                    distributions.append({**spec, "type": "poisson_dist", "mean": mean})
                    factors = [component, term.width]
                    functions.append({"name": mean, "type": "product", "factors": factors})
        return distributions, functions


def _user_terms(user: Spec, terms: Sequence[Term]) -> list[Term]:
    """Constraints with what the measurement says about them."""
    size = len(terms)
    kinds = user.get("constraint", [term.kind for term in terms])
    kinds = [kinds] * size if isinstance(kinds, str) else kinds
    chosen = []
    for number, (kind, term) in enumerate(zip(kinds, terms, strict=True)):
        if kind == NONE:
            chosen.append(FREE)
            continue
        width = term.width
        if kind != term.kind:
            # A width and an expected count, each from the other.
            width = 1.0 if term.kind == NONE else width**-2.0 if kind == POISSON else width**-0.5
        width = user.get("sigmas" if kind == GAUSS else "factors", {number: width})[number]
        # As in pyhf, other factors do not change auxiliary data, unless the constraint is set.
        centre = term.aux
        if "constraint" in user:
            centre = width if kind == POISSON else term.aux if term.kind == GAUSS else 1.0
        aux = user.get("auxdata", {number: centre})[number]
        chosen.append(Term(kind, float(aux), float(width)))
    return chosen


def _distribution(channel: str) -> str:
    return f"model_{channel}"


def _data(channel: str) -> str:
    return f"obsData_{channel}"


def _constraint(component: str) -> str:
    return f"{component}_constraint"


def _axis(channel: str, bins: int) -> dict[str, Any]:
    return {"name": f"obs_x_{channel}", "min": 0.0, "max": float(bins), "nbins": bins}
