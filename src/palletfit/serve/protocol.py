"""Requests and answers of the service: a JSON object a line, see docs/serve.md."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from palletfit.config import FitSettings, LimitSettings
from palletfit.config.base import Model, Positive, wrong_keys
from palletfit.engine.records import finite
from palletfit.errors import PalletError, PalletfitError
from palletfit.pallet.limits import DEPTH, nesting, quoted
from palletfit.pallet.patches import not_finite

#: Characters of an identifier that is a text.
_LONGEST_ID = 1000
#: Keys of a request that only some kinds have, and these kinds.
_OF_KINDS = {
    "confidence_level": ("limit",),
    "tolerance": ("limit",),
    "mu_max": ("limit",),
    "mu": ("hypotest", "nll"),
    "test_statistic": ("hypotest", "limit"),
    "details": ("hypotest",),
}

Kind = Literal["hypotest", "limit", "nll"]
#: Words of requests for the kinds of questions.
HYPOTEST: Kind = "hypotest"
LIMIT: Kind = "limit"
NLL: Kind = "nll"
#: Identifier of a request, which its answer repeats.
Id = str | int | float | None


@dataclass(frozen=True)
class Question:
    """Question that is asked of points: those with an equal one may be fitted together.

    Attributes
    ----------
    kind
        ``hypotest``, ``limit`` or ``nll``.
    mu
        Signal strength; None: free, or searched for.
    measurement, test_statistic, minimum
        Fields of :class:`palletfit.config.FitSettings`.
    confidence_level, tolerance, mu_max
        Of limits.
    details
        Answer with the evidence of each fit, too.
    """

    kind: Kind = "hypotest"
    mu: float | None = 1.0
    measurement: str | None = None
    test_statistic: str = "qtilde"
    minimum: str = "lowest"
    confidence_level: float = 0.95
    tolerance: float = 1e-4
    mu_max: float | None = None
    details: bool = False

    def fit_settings(self) -> FitSettings:
        """Give the settings of its fits."""
        return FitSettings(
            mu=1.0 if self.mu is None else self.mu,
            measurement=self.measurement,
            test_statistic=self.test_statistic,  # type: ignore[arg-type]
            minimum=self.minimum,  # type: ignore[arg-type]
        )

    def limit_settings(self) -> LimitSettings:
        """Give the settings of the search for limits."""
        return LimitSettings(tolerance=self.tolerance, mu_max=self.mu_max)


@dataclass(frozen=True)
class Point:
    """Signal that is added to a model: yields, or a patch; or none.

    Attributes
    ----------
    signal, uncertainties
        See :class:`palletfit.engine.measurements.Question`.
    patch
        Operations (JSON Patch, RFC 6902).
    """

    signal: Any = None
    uncertainties: Any = None
    patch: Any = None


class Request(Model):
    """A line that a caller sends."""

    id: Id = None
    """Identifier, which the answer repeats."""
    ask: Literal["hypotest", "limit", "nll", "status"] = "hypotest"
    """The question."""
    workspace: str | None = None
    """Name of the model; none: the only one."""
    signal: Any = None
    """Expected events of the signal in the bins of each channel that has some."""
    uncertainties: Any = None
    """Relative uncertainties of all yields of the signal, by name."""
    patch: Any = None
    """Operations that add a signal, instead of `signal`."""
    mu: Annotated[float, Field(ge=0)] | None = None
    """Tested signal strength, 1 by default; of `nll` where it is fixed, and free by default."""
    measurement: str | None = None
    """Measurement of the workspace; none: its first one."""
    test_statistic: Literal["qtilde", "q", "q0"] = "qtilde"
    """Test statistic."""
    minimum: Literal["lowest", "nearest"] = "lowest"
    """Minimum that counts where there are several."""
    confidence_level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence level of limits."""
    tolerance: Annotated[float, Field(ge=1e-8, le=0.1)] = 1e-4
    """Relative precision of limits."""
    mu_max: Positive | None = None
    """Upper bound of the signal strength in the search for limits; none: the measurement's."""
    details: bool = False
    """Answer with the evidence of each fit, too."""

    @property
    def question(self) -> Question:
        """The question that is asked of the point."""
        if self.ask == "status":
            raise ValueError("a request for the status asks nothing of a point")
        mu = 1.0 if self.ask == HYPOTEST and self.mu is None else self.mu
        return Question(
            self.ask,
            mu,
            self.measurement,
            self.test_statistic,
            self.minimum,
            self.confidence_level,
            self.tolerance,
            self.mu_max,
            self.details,
        )

    @property
    def point(self) -> Point:
        """The signal."""
        return Point(self.signal, self.uncertainties, self.patch)


class RequestError(PalletError):
    """A line is no request.

    Attributes
    ----------
    id
        Identifier of the request, as far as it could be read.
    """

    id: Id = None


def read_request(line: bytes) -> Request:
    """Read a line.

    Raises
    ------
    RequestError
        It is no JSON object, has unknown or wrong keys, or numbers that are not finite.
    """
    content = _content(line)
    if not isinstance(content, dict):
        raise RequestError(
            "The line is no JSON object.",
            remedy='Write one such as {"id": 1, "workspace": "NAME", "signal": {"CHANNEL": [1]}}.',
        )
    try:
        if nesting(content) > DEPTH:
            raise _too_deep()  # it could not be sent to a worker
        for pointer in not_finite(content, ""):
            raise RequestError(
                f"A number is not finite: {quoted(pointer)}.",
                remedy="Send finite numbers: JSON has no others.",
            )
        return _request(content)
    except RequestError as error:
        identifier = content.get("id")
        error.id = identifier if _is_id(identifier) else None
        raise


def _content(line: bytes) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_unique)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        # Neither text, nor JSON, or with a number of thousands of digits.
        raise RequestError(
            f"The line is not JSON: {quoted(str(error))}.",
            remedy="Send one JSON object a line, without line breaks in it.",
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise RequestError(
            f"The key {quoted(repr(twice))} is there twice.",
            remedy="Remove one: programs differ in which of them counts.",
        )
    return content


def _too_deep() -> RequestError:
    return RequestError(
        "The line nests too deeply.",
        remedy="A patch needs fewer than 12 levels of lists and objects.",
    )


def _is_id(identifier: Any) -> bool:
    if isinstance(identifier, bool):
        return False
    if isinstance(identifier, str):
        return len(identifier) <= _LONGEST_ID
    number = isinstance(identifier, (int, float))
    return identifier is None or (number and not [*not_finite(identifier, "")])


def _request(content: Mapping[str, Any]) -> Request:
    """Check the keys of a request, and that they fit together."""
    if not _is_id(content.get("id")):
        raise RequestError(
            "The id is no text or number, or too long.",
            remedy=f"Send a number, or a text of at most {_LONGEST_ID} characters.",
        )
    if len(content) > len(Request.model_fields):
        raise RequestError(
            f"The request has {len(content)} keys, more than there are.",
            remedy="Leave out unknown keys; docs/serve.md lists all that there are.",
        )
    try:
        request = Request.model_validate(content)
    except ValidationError as error:
        raise RequestError(
            f"The request is wrong: {quoted('; '.join(wrong_keys(Request, error)))}.",
            remedy="Correct these keys; docs/serve.md lists all of them.",
        ) from None
    if request.signal is not None and request.patch is not None:
        raise RequestError(
            "The request has a `signal` and a `patch`.", remedy="Send one of them for each point."
        )
    if request.ask == LIMIT and request.test_statistic == "q0":
        raise RequestError(
            "There is no upper limit for the test statistic q0.",
            remedy="Ask with qtilde or q, or leave `test_statistic` out.",
        )
    for key in sorted(content.keys() & _OF_KINDS.keys()):
        if request.ask not in _OF_KINDS[key]:
            raise RequestError(
                f"The question {request.ask!r} has no `{key}`.",
                remedy=f"Leave it out, or ask {' or '.join(map(repr, _OF_KINDS[key]))}.",
            )
    return request


# --------------------------------------------------------------------------- answers


def failure(error: PalletfitError) -> dict[str, Any]:
    """Make the answer to a request that has no result."""
    return {
        "status": "failed",
        "error": error.problem,
        "remedy": error.remedy,
        "type": type(error).__name__,
    }


def answer_line(identifier: Id, answer: Mapping[str, Any]) -> bytes:
    """Write an answer as a line; numbers that are not finite are null."""
    content = finite({"id": identifier, **answer})
    return json.dumps(content, ensure_ascii=True, allow_nan=False).encode() + b"\n"
