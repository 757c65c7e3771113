"""Verdict on a learned likelihood: its NLLs and CLs at points, next to the exact ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from palletfit.config import NLL_COLUMNS
from palletfit.core.arrays import FloatArray
from palletfit.engine.protocol import Engine
from palletfit.engine.records import HypotestResult, finite
from palletfit.errors import PalletfitError
from palletfit.learned.hypotests import LearnedTests, learned_tests
from palletfit.learned.likelihood import LearnedLikelihood
from palletfit.pallet.patches import Patch
from palletfit.products.points.nlls import TwoTests, with_nlls

if TYPE_CHECKING:
    import pandas as pd

#: Points with a CLs below are excluded, at 95% CL.
LEVEL = 0.05
#: Points that are tested together.
_TOGETHER = 256
#: What is compared beside NLLs.
_CLS = ("CLs_obs", "CLs_exp")
_NO_NUMBER = "the network gives no finite number for"


@dataclass(frozen=True)
class ExactTest:
    """Exact result of one point.

    Attributes
    ----------
    nlls
        NLLs by name; None where there is none.
    CLs_obs, CLs_exp
        Observed and median expected CLs.
    status, reason
        ``ok``, or ``suspect`` with the reason.
    remarks
        What a reader should know.
    """

    nlls: Mapping[str, float | None]
    CLs_obs: float
    CLs_exp: float
    status: str
    reason: str
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, tests: TwoTests) -> ExactTest:
        """Reduce the tests of observed and of expected data."""
        test: HypotestResult = tests.observed
        doubts = [f"{name} fit: {fit.reason}" for name, fit in test.fits.items() if not fit.trusted]
        plain = tests.added_to({"status": test.status, "reason": "; ".join(doubts)})
        values = test.p_values
        return cls(
            plain["nlls"],
            values.CLs_obs,
            values.CLs_exp[2],
            plain["status"],
            plain["reason"],
            test.remarks,
        )

    def row(self) -> dict[str, Any]:
        """Give plain numbers for a table, by column."""
        return {"status": self.status}


@dataclass(frozen=True)
class Errors:
    """Distribution of the size of an error over points.

    Attributes
    ----------
    median, percentile95, largest
        Of the absolute error; in units of 2 NLL for NLLs.
    mean
        Of the error with its sign: the network's value minus the exact one.
    worst
        Name of the point with the largest one.
    """

    median: float
    percentile95: float
    largest: float
    mean: float
    worst: str


@dataclass(frozen=True)
class RefereedPoint:
    """One point.

    Attributes
    ----------
    name
        Name.
    status, reason
        ``ok``; ``suspect``, if the exact fit is not trusted; ``failed``, if there is no exact fit,
        or no number of the network. The reason of the latter two.
    yields
        Expected events of the signal by input; None if the point has none.
    outside
        Outside of the training range; None if that is not known.
    exact, learned
        NLLs, ``CLs_obs`` and ``CLs_exp`` by name; None where there is none.
    """

    name: str
    status: str
    reason: str
    yields: tuple[float, ...] | None
    outside: bool | None
    exact: Mapping[str, float | None]
    learned: Mapping[str, float | None]

    def error(self, name: str) -> float | None:
        """Give the network's value minus the exact one, of NLLs in units of 2 NLL."""
        exact, learned = self.exact.get(name), self.learned.get(name)
        if exact is None or learned is None:
            return None
        return (learned - exact) * (1.0 if name in _CLS else 2.0)

    def verdict(self, name: str = "CLs_obs") -> str:
        """Say if the network is right; empty if the point is not compared."""
        exact, learned = self.exact.get(name), self.learned.get(name)
        if self.status != "ok" or exact is None or learned is None:
            return ""
        if (exact < LEVEL) == (learned < LEVEL):
            return "right"
        return "wrongly excluded" if learned < LEVEL else "wrongly allowed"

    @property
    def badness(self) -> tuple[float, float]:
        """Order points: by the error of the observed CLs, then by the largest error of an NLL."""
        nlls = [abs(self.error(name) or 0.0) for name in self.learned if name not in _CLS]
        return abs(self.error("CLs_obs") or 0.0), max(nlls, default=0.0)


@dataclass(frozen=True)
class Referee:
    """Verdict on a learned likelihood.

    Attributes
    ----------
    points
        All points in their order, also those without a comparison.
    inputs
        Names of the network's inputs.
    outputs
        Names of the NLLs that it gives.
    at_zero
        For each NLL at a signal strength of one twice its distance to the one at zero, for a signal
        of no events, where they are the same.
    remarks
        What a reader should know.
    """

    points: tuple[RefereedPoint, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    at_zero: Mapping[str, float | None]
    remarks: tuple[str, ...] = ()

    @property
    def compared(self) -> tuple[RefereedPoint, ...]:
        """Points with a trusted exact result and numbers of the network."""
        return tuple(point for point in self.points if point.status == "ok")

    @property
    def status(self) -> str:
        """``ok`` if all points are compared."""
        return "ok" if len(self.compared) == len(self.points) else "suspect"

    @property
    def errors(self) -> dict[str, Errors]:
        """Errors of NLLs and of CLs by name, over the compared points."""
        pairs = {name: self._errors_of(name) for name in (*self.outputs, *_CLS)}
        return {name: errors for name, errors in pairs.items() if errors is not None}

    def wrongly(self, verdict: str, name: str = "CLs_obs") -> list[RefereedPoint]:
        """List the compared points that are ``excluded`` or ``allowed``, and wrongly so."""
        return [point for point in self.compared if point.verdict(name) == f"wrongly {verdict}"]

    def worst(self, count: int = 5) -> list[RefereedPoint]:
        """List the compared points with the largest errors, the worst first."""
        ordered = sorted(self.compared, key=lambda point: point.badness, reverse=True)
        return [point for point in ordered[:count] if point.badness > (0.0, 0.0)]

    def summary(self) -> dict[str, Any]:
        """Give counts and errors as plain data."""
        compared = self.compared
        with_range = [point for point in compared if point.outside is not None]
        verdicts = {
            name: {
                f"wrongly_{verdict}": {
                    "points": len(self.wrongly(verdict, name)),
                    "share": len(self.wrongly(verdict, name)) / len(compared),
                    "names": [point.name for point in self.wrongly(verdict, name)],
                }
                for verdict in ("excluded", "allowed")
            }
            for name in _CLS
            if any(point.verdict(name) for point in compared)
        }
        plain: dict[str, Any] = finite(
            {
                "points": len(self.points),
                "compared": len(compared),
                "suspect": sum(point.status == "suspect" for point in self.points),
                "failed": sum(point.status == "failed" for point in self.points),
                "outside": sum(bool(point.outside) for point in with_range) if with_range else None,
                "errors": {name: dict(vars(errors)) for name, errors in self.errors.items()},
                "verdicts": verdicts,
                "at_zero": dict(self.at_zero),
                "inputs": self.inputs,
                "remarks": self.remarks,
            }
        )
        return plain

    def rows(self) -> list[dict[str, Any]]:
        """Make one plain row a point, in order, with all numbers."""
        table = []
        for point in self.points:
            row: dict[str, Any] = {"name": point.name, "status": point.status}
            row |= {"verdict": point.verdict(), "outside": point.outside}
            row |= dict(zip(self.inputs, point.yields or [None] * len(self.inputs), strict=True))
            for name in (*_CLS, *self.outputs):
                row[name] = point.exact.get(name)
                row[f"{name}_learned"] = point.learned.get(name)
            table.append({**row, "reason": point.reason})
        return table

    def to_dataframe(self) -> pd.DataFrame:
        """Make a table of :meth:`rows`."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def _errors_of(self, name: str) -> Errors | None:
        pairs = [(point.error(name), point.name) for point in self.compared]
        with_error = [(error, point) for error, point in pairs if error is not None]
        if not with_error:
            return None
        errors = np.array([error for error, _ in with_error])
        sizes = np.abs(errors)
        return Errors(
            float(np.median(sizes)),
            float(np.percentile(sizes, 95)),
            float(np.max(sizes)),
            float(np.mean(errors)),
            with_error[int(np.argmax(sizes))][1],
        )


def exact_tests(
    engine: Engine, patches: Sequence[Patch], *, expected: bool
) -> Iterator[tuple[Patch, ExactTest | PalletfitError]]:
    """Test points exactly.

    Parameters
    ----------
    engine, patches
        Engine and points.
    expected
        Test the expected data before any fit, too.

    Yields
    ------
    tuple
        Each patch once, with its result or the error.
    """
    for first in range(0, len(patches), _TOGETHER):
        piece = patches[first : first + _TOGETHER]
        for patch, result in with_nlls(engine, piece) if expected else _observed(engine, piece):
            yield patch, ExactTest.of(result) if isinstance(result, TwoTests) else result


def _observed(
    engine: Engine, patches: Sequence[Patch]
) -> Iterator[tuple[Patch, TwoTests | PalletfitError]]:
    for patch, test in engine.hypotests(patches, brief=True):
        yield patch, test if isinstance(test, PalletfitError) else TwoTests(test, None)


def judge(
    likelihood: LearnedLikelihood,
    exact: Mapping[str, ExactTest | PalletfitError],
    signals: Mapping[str, FloatArray | PalletfitError],
) -> Referee:
    """Compare a network with exact results.

    Parameters
    ----------
    likelihood
        Network.
    exact, signals
        Exact results, and expected events of the signal by input, ``(n,)``, by name of the point;
        an error where there are none.
    """
    tables = {name: events for name, events in signals.items() if isinstance(events, np.ndarray)}
    table = np.array(list(tables.values())).reshape(len(tables), len(likelihood.bins))
    tests = learned_tests(likelihood, table)
    outside = likelihood.outside(table)
    rows = {name: row for row, name in enumerate(tables)}
    points = []
    for name, result in exact.items():
        events, row = signals[name], rows.get(name)
        learned = {} if row is None else _learned(tests, row)
        points.append(_point(name, result, events, learned, likelihood.differences))
        if row is not None and outside is not None:
            points[-1] = _with_range(points[-1], outside=bool(outside[row]))
    outputs = tuple(name for name in NLL_COLUMNS if name in tests.nlls)
    remarks = [*likelihood.remarks]
    if tests.CLs_obs is None:
        remarks.append(
            "no observed CLs of the network, which need nll_obs_1, nllA_obs_0 and nllA_obs_1"
        )
    if likelihood.differences:
        names = ", ".join(sorted(likelihood.differences))
        remarks.append(f"NLLs without a value at zero are compared as differences to it: {names}")
    return Referee(tuple(points), likelihood.names, outputs, _at_zero(likelihood), tuple(remarks))


def _learned(tests: LearnedTests, row: int) -> dict[str, float | None]:
    values = {name: float(column[row]) for name, column in tests.nlls.items()}
    for name in _CLS:
        column = getattr(tests, name)
        if column is not None:
            values[name] = float(column[row])
    plain: dict[str, float | None] = finite(values)
    return plain


def _point(
    name: str,
    result: ExactTest | PalletfitError,
    events: FloatArray | PalletfitError,
    learned: Mapping[str, float | None],
    differences: frozenset[str],
) -> RefereedPoint:
    """Make a point, with the reason if it cannot be compared."""
    exact = {} if isinstance(result, PalletfitError) else _plain(result)
    for output in differences:
        # The network's value is a difference: it stands on the exact one without signal.
        zero, value = exact.get(f"{output.removesuffix('_1')}_0"), learned.get(output)
        if zero is not None and value is not None:
            learned = {**learned, output: value + zero}
    yields = None if isinstance(events, PalletfitError) else tuple(map(float, events))
    missing = [output for output, value in learned.items() if value is None]
    if isinstance(result, PalletfitError):
        status, reason = "failed", result.problem
    elif isinstance(events, PalletfitError):
        status, reason = "failed", events.problem
    elif missing:
        status, reason = "failed", f"{_NO_NUMBER} {', '.join(missing)}"
    else:
        status, reason = result.status, result.reason
    return RefereedPoint(name, status, reason, yields, None, exact, learned)


def _plain(result: ExactTest) -> dict[str, float | None]:
    values = {**result.nlls, "CLs_obs": result.CLs_obs, "CLs_exp": result.CLs_exp}
    plain: dict[str, float | None] = finite(values)
    return plain


def _with_range(point: RefereedPoint, *, outside: bool) -> RefereedPoint:
    return RefereedPoint(**{**vars(point), "outside": outside})


def _at_zero(likelihood: LearnedLikelihood) -> dict[str, float | None]:
    """Compare NLLs at a signal strength of one and of zero without any signal."""
    nlls = likelihood.nlls(np.zeros((1, len(likelihood.bins))))
    distances: dict[str, float | None] = {}
    for name, values in nlls.items():
        zero = f"{name.removesuffix('_1')}_0"
        if name.endswith("_1") and (zero in nlls or name in likelihood.differences):
            below = nlls[zero][0] if zero in nlls else 0.0
            distances[name] = 2 * float(values[0] - below)
    plain: dict[str, float | None] = finite(distances)
    return plain
