"""Choose the likelihood of an HS3 document, with its parameters of interest and domains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from palletfit.pallet.hs3.document import Document, Spec, begin, listed, short

#: ROOT's name for the observed data, in a document that holds Asimov data, too.
_OBSERVED = "obsdata"
_DEFAULT_POINTS = ("default_values", "NominalParamValues")
_DEFAULT_DOMAIN = "default_domain"


@dataclass(frozen=True)
class Choice:
    """The chosen likelihood.

    Attributes
    ----------
    name
        Name of the analysis, or of the likelihood.
    likelihood
        Its likelihood.
    pois
        Parameters of interest.
    domains
        Domains of the parameters.
    points
        Parameter points, those that count more last.
    """

    name: str
    likelihood: Spec
    pois: tuple[str, ...]
    domains: tuple[Spec, ...]
    points: tuple[Spec, ...]


def choose(document: Document, name: str | None) -> Choice:
    """Choose an analysis, or a likelihood, by its name.

    Parameters
    ----------
    document
        The document.
    name
        The name. None: the only analysis, or the only one of observed data; without analyses the
        likelihood in the same way.

    Raises
    ------
    Hs3Error
        There is none of this name, or several and no name.
    """
    members = document.analyses or document.likelihoods
    if not members:
        types = [f"{name} ({spec.get('type')})" for name, spec in document.distributions.items()]
        raise document.error(
            "The document has neither `analyses` nor `likelihoods`: nothing says which data belong "
            f"to which of its distributions: {listed(types)}.",
            "Add a likelihood of histfactory_dist distributions to the document.",
        )
    chosen = name if name is not None else _only(document, members)
    if chosen in document.analyses:
        return _of_analysis(document, chosen, document.analyses[chosen])
    if chosen in document.likelihoods:
        domains = document.domains
        domain = domains.get(_DEFAULT_DOMAIN) or (
            next(iter(domains.values())) if len(domains) == 1 else None
        )
        likelihood = document.likelihoods[chosen]
        return Choice(chosen, likelihood, (), (domain,) if domain else (), _points(document, None))
    raise document.error(
        f"There is no analysis {short(name)}.",
        f"Name one of: {listed([*document.analyses, *document.likelihoods])}.",
    )


def _only(document: Document, members: Mapping[str, Spec]) -> str:
    if len(members) == 1:
        return next(iter(members))
    observed = [name for name, spec in members.items() if _is_observed(document, name, spec)]
    if len(observed) == 1:
        document.remark(f"of several analyses that of the observed data is read: {observed[0]}")
        return observed[0]
    raise document.error(
        f"The document has {len(members)} analyses, and which one is meant is not clear.",
        f"Name one of: {listed(members)}.",
    )


def _is_observed(document: Document, name: str, spec: Spec) -> bool:
    """Return whether the name of an analysis, or of all its data, is that of observed data."""
    if _OBSERVED in name.casefold():
        return True
    likelihood = document.likelihoods.get(str(spec.get("likelihood", name)), {})
    data = likelihood.get("data")
    names = data if isinstance(data, list) else []
    return bool(names) and all(_OBSERVED in str(entry).casefold() for entry in names)


def _of_analysis(document: Document, name: str, spec: Spec) -> Choice:
    owner = f"the analysis {short(name)}"
    likelihoods = document.likelihoods
    likelihood = document.get(likelihoods, spec.get("likelihood"), "likelihood", begin(owner))
    names = document.texts(spec, "domains", owner)
    if spec.get("domain") is not None:
        names = list(dict.fromkeys([document.text(spec, "domain", owner), *names]))
    domains = tuple(
        document.get(document.domains, domain, "domain", begin(owner)) for domain in names
    )
    return Choice(
        name=name,
        likelihood=likelihood,
        pois=tuple(document.texts(spec, "parameters_of_interest", owner)),
        domains=domains,
        points=_points(document, spec.get("init"), begin(owner)),
    )


def _points(document: Document, init: Any, owner: str = "") -> tuple[Spec, ...]:
    points = document.points
    default = next((points[name] for name in _DEFAULT_POINTS if name in points), None)
    if default is None and init is None and len(points) == 1:
        default = next(iter(points.values()))
    chosen = [default] if default is not None else []
    if init is not None:
        chosen.append(document.get(points, init, "parameter point", owner))
    return tuple(chosen)


def other_data(document: Document, distribution: str, data: str) -> str:
    """Give the name of other data of a distribution.

    Parameters
    ----------
    document
        The document.
    distribution
        Name of the distribution.
    data
        Name of the data, or what stands before the distribution's name, as in
        ``asimovData_SR`` of the distribution ``model_SR``.

    Raises
    ------
    Hs3Error
        There are no such data.
    """
    channel = distribution.removeprefix("model_")
    for name in (data, f"{data}_{channel}", f"{data}_{distribution}"):
        if name in document.data:
            return name
    raise document.error(
        f"There are no data {short(data)} of the distribution {short(distribution)}.",
        f"Name one of: {listed(document.data)}.",
    )
