"""Constraint terms of parameters in an HS3 document.

A term stands in the modifier, as a type or as the name of a distribution; among the likelihood's
`aux_distributions`; or among its `distributions`, with a number as data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from palletfit.pallet.hs3.document import Document, Spec, begin, short
from palletfit.pallet.hs3.errors import Hs3Error

GAUSS, POISSON, NONE = "Gauss", "Poisson", "none"
#: Types of constraints, as documents write them.
_TYPES = {
    "Gauss": GAUSS,
    "Gaussian": GAUSS,
    "Poisson": POISSON,
    "Const": NONE,
    "NoConstraint": NONE,
}
#: Types that are known, and that the engine does not have.
_REFUSED_TYPES = ("LogNormal", "Lognormal", "Gamma")
_REMEDY = "palletfit fits gaussian_dist and poisson_dist constraints of one parameter."


@dataclass(frozen=True)
class Term:
    """A constraint of one parameter.

    Attributes
    ----------
    kind
        Gauss, Poisson or none.
    aux
        Auxiliary data.
    width
        Standard deviation of a Gaussian; of a Poisson term the expected count at one.
    """

    kind: str
    aux: float = 0.0
    width: float = 1.0


FREE = Term(NONE)


class Constraints:
    """The constraint terms of a likelihood.

    Parameters
    ----------
    document
        The document.
    values
        Values of names that are no parameters of modifiers: global observables, widths.
    parameters
        Names of the parameters of modifiers.
    """

    def __init__(
        self, document: Document, values: Mapping[str, float], parameters: frozenset[str]
    ) -> None:
        self.document, self.values, self.parameters = document, values, parameters
        self._terms: dict[str, tuple[Term, str]] = {}
        self._implied: dict[str, Term] = {}

    def of(self, parameter: str) -> Term:
        """Give the term of a parameter; one of kind `none` where there is none."""
        if parameter in self._terms:
            return self._terms[parameter][0]
        return self._implied.get(parameter, FREE)

    def imply(self, parameter: str, term: Term) -> None:
        """Set the term of a parameter where the document does not say another."""
        self._implied.setdefault(parameter, term)

    def add(self, parameter: str, term: Term, source: str) -> None:
        """Add a term.

        Parameters
        ----------
        parameter
            Its parameter.
        term
            The term.
        source
            Name of the distribution, or that of the type: a term with one source counts once.

        Raises
        ------
        Hs3Error
            The parameter has another term.
        """
        present, other = self._terms.setdefault(parameter, (term, source))
        if other != source or present != term:
            raise self.document.error(
                f"The parameter {short(parameter)} is constrained twice, by {short(other)} and by "
                f"{short(source)}.",
                "Remove one of the two terms.",
            )

    def add_named(self, name: str, owner: str, observed: float | None = None) -> str:
        """Add the term of a distribution, and give the name of its parameter.

        Parameters
        ----------
        name
            Name of the distribution.
        owner
            The part of the document that names it.
        observed
            Value of the distribution's observable, if the likelihood gives one.

        Raises
        ------
        Hs3Error
            There is no such distribution, or it is no constraint of one parameter.
        """
        document = self.document
        distribution = document.get(document.distributions, name, "distribution", owner)
        readers = {"gaussian_dist": self._gauss, "poisson_dist": self._poisson}
        kind = distribution.get("type")
        if not isinstance(kind, str) or kind not in readers:
            raise document.error(
                f"The distribution {short(name)} of {owner} has the type {short(kind)}: it is no "
                "constraint that palletfit fits.",
                _REMEDY,
            )
        parameter, term = readers[kind](name, distribution, observed)
        self.add(parameter, term, name)
        return parameter

    def _gauss(self, name: str, spec: Spec, observed: float | None) -> tuple[str, Term]:
        title = f"the distribution {short(name)}"
        x, mean = spec.get("x"), spec.get("mean")
        sides = [side for side in (x, mean) if isinstance(side, str) and side in self.parameters]
        if len(sides) != 1:
            raise self._not_one(title, sides)
        (parameter,) = sides
        centre = mean if parameter == x else x
        if observed is not None and parameter == mean:
            centre = observed
        aux = self._value(centre, f"the centre of {title}")
        width = self._value(spec.get("sigma"), f"`sigma` of {title}")
        if width <= 0:
            raise self.document.error(f"`sigma` of {title} is not above zero: {width:g}.")
        return parameter, Term(GAUSS, aux, width)

    def _poisson(self, name: str, spec: Spec, observed: float | None) -> tuple[str, Term]:
        title = f"the distribution {short(name)}"
        parameter, factor = self._scaled(spec.get("mean"), title)
        x = spec.get("x") if observed is None else observed
        aux = self._value(x, f"`x` of {title}")
        if factor <= 0 or aux < 0:
            raise self.document.error(
                f"The counts of {title} are not above zero: {factor:g}, {aux:g}."
            )
        return parameter, Term(POISSON, aux, factor)

    def _scaled(self, mean: Any, title: str) -> tuple[str, float]:
        """Read the mean of a Poisson term, a parameter that may be multiplied by numbers."""
        if isinstance(mean, str) and mean in self.parameters:
            return mean, 1.0
        function = self.document.functions.get(mean) if isinstance(mean, str) else None
        if function is None or function.get("type") != "product":
            raise self._not_one(title, [])
        factors = function.get("factors")
        if not isinstance(factors, list):
            raise self.document.error(
                f"The function {short(mean)} of {title} has no list `factors`."
            )
        scaled = [one for one in factors if isinstance(one, str) and one in self.parameters]
        if len(scaled) != 1:
            raise self._not_one(title, scaled)
        product = 1.0
        for factor in factors:
            if factor != scaled[0]:
                product *= self._value(factor, f"a factor of {short(mean)}")
        return scaled[0], self.document.number(product, f"The product {short(mean)}")

    def _not_one(self, title: str, names: list[str]) -> Hs3Error:
        number = "no parameter" if not names else f"more than one parameter ({', '.join(names)})"
        problem = f"{begin(title)} constrains {number} of a modifier."
        return self.document.error(problem, _REMEDY)

    def _value(self, reference: Any, title: str) -> float:
        """Give a number, or the value of a name."""
        if not isinstance(reference, str):
            return self.document.number(reference, title)
        if reference not in self.values:
            raise self.document.error(
                f"The name {short(reference)}, {title}, has no value.",
                "Give it one in the `parameter_points` of the analysis.",
            )
        return self.values[reference]


def read_type(document: Document, value: Any, owner: str) -> str | None:
    """Give the type of a constraint; None if the value names no type.

    Raises
    ------
    Hs3Error
        The engine does not have the type.
    """
    if not isinstance(value, str):
        raise document.error(f"The constraint of {owner} is no text: {short(value)}.")
    if value in _REFUSED_TYPES and value not in document.distributions:
        raise document.error(
            f"{owner} has the constraint {short(value)}: palletfit does not fit it.", _REMEDY
        )
    return _TYPES.get(value)
