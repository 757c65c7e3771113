"""From shards of pseudo-experiments to CLs with statistical uncertainties.

With ``n`` toys of each hypothesis, of which ``k`` have a test statistic at least as large as the
observed one, ``p = k / n``; CLs is ``p_tested / p_alternative``. The expected values are
percentiles of the CLs of the alternative's toys, as pyhf has them.

Uncertainties: of p that of Jeffreys' posterior, ``sqrt(p' (1 - p') / (n + 2))`` with
``p' = (k + 1/2) / (n + 1)``, which does not vanish for ``k = 0`` (L. D. Brown, T. T. Cai and A.
DasGupta, Statist. Sci. 16 (2001) 101); of CLs by linear propagation, the two samples being
independent. An expected value at percentile P is ``p_tested(q_P) / p_alternative(q_P)``, where q_P
is a percentile of the alternative's own toys: so the denominator is known, and there are two
contributions, the binomial one of p_tested at q_P, and that of the rank of q_P, which fluctuates by
``sqrt(P (1 - P) / n)`` (H. A. David and H. N. Nagaraja, "Order Statistics", section 2.5).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import ndtr

from palletfit.core.arrays import FloatArray
from palletfit.engine.asymptotics import N_SIGMA
from palletfit.engine.records import Status, by_sigma, finite
from palletfit.errors import StoreError
from palletfit.products.toys.compute import ALTERNATIVE, HYPOTHESES, TESTED

#: Test statistics closer than this are equal: fits know them no better.
TIE = 1e-6
#: What shards of one result have in common.
_SAME = ("patch", "digest", "seed", "mu", "test_statistic", "descents")


@dataclass(frozen=True)
class ToyResult:
    """CLs of one patch from pseudo-experiments.

    Attributes
    ----------
    patch, mu, test_statistic, seed
        What was tested.
    toys
        Toys of each hypothesis.
    q, mu_hat
        Of the observed data.
    CLs_obs, CLsb_obs, CLb_obs
        Observed values; for ``q0`` `CLs_obs` is p0, as in :mod:`palletfit.engine.asymptotics`. NaN
        where no toy of the alternative has so large a q.
    CLs_exp
        Five expected values, for -2, -1, 0, 1, 2 standard deviations.
    CLs_obs_error, CLsb_obs_error, CLb_obs_error, CLs_exp_errors
        Statistical standard deviations.
    CLs_obs_range
        Between what `CLs_obs` lies if toys without a proven minimum are counted one way or another.
    failed
        Numbers of these toys, by hypothesis.
    searched
        How many toys needed further starts, by hypothesis.
    remarks
        What a reader should know.
    statistics
        Test statistics of the toys that count, by hypothesis; not in :meth:`as_json`.
    """

    patch: str
    mu: float
    test_statistic: str
    seed: int
    toys: int
    q: float
    mu_hat: float
    CLs_obs: float
    CLsb_obs: float
    CLb_obs: float
    CLs_exp: tuple[float, ...]
    CLs_obs_error: float
    CLsb_obs_error: float
    CLb_obs_error: float
    CLs_exp_errors: tuple[float, ...]
    CLs_obs_range: tuple[float, float]
    failed: dict[str, list[int]]
    searched: dict[str, int]
    remarks: tuple[str, ...]
    statistics: Mapping[str, FloatArray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def status(self) -> Status:
        """``ok`` if every toy counts and `CLs_obs` is a number."""
        complete = not any(self.failed.values()) and math.isfinite(self.CLs_obs)
        return "ok" if complete else "suspect"

    def row(self) -> dict[str, Any]:
        """Give plain numbers for a table, by column."""
        return {
            "status": self.status,
            "toys": self.toys,
            "CLs_obs": self.CLs_obs,
            "CLs_obs_error": self.CLs_obs_error,
            **by_sigma("CLs_exp", self.CLs_exp),
            "mu_hat": self.mu_hat,
            "remark": "; ".join(self.remarks),
        }

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        data = asdict(replace(self, statistics={}))
        del data["statistics"]
        plain: dict[str, Any] = finite({"status": self.status, **data})
        return plain


def merge(shards: Iterable[Mapping[str, Any]], toys: int | None = None) -> ToyResult:
    """Merge all toys of some shards into a result, which does not depend on how they were split.

    Parameters
    ----------
    shards
        From :func:`palletfit.products.toys.compute.run_shard`, in any order; one that comes twice
        counts once.
    toys
        Of each hypothesis, how many of the first ones count; none: all.

    Raises
    ------
    StoreError
        There are none, they are not of one patch and seed, toys are missing between them, shards
        overlap, or there are fewer toys than wanted.
    """
    ordered = _ordered(shards)
    if toys is not None:
        ordered = _first_of(ordered, toys)
    first = ordered[0]
    discovery = first["test_statistic"] == "q0"
    q: dict[str, FloatArray] = {}
    failed: dict[str, list[int]] = {}
    for hypothesis in HYPOTHESES:
        values = [value for shard in ordered for value in shard[hypothesis]["q"]]
        q[hypothesis] = np.sort([value for value in values if value is not None])
        failed[hypothesis] = [
            failure["toy"] for shard in ordered for failure in shard[hypothesis]["failed"]
        ]
    observed = first["observed"]["q"]
    tested, alternative = (_exceeding(q[name], observed) for name in HYPOTHESES)
    counts = {name: len(values) for name, values in q.items()}
    clsb, clb = _ratio(tested, counts[TESTED]), _ratio(alternative, counts[ALTERNATIVE])
    errors = _rate_error(tested, counts[TESTED]), _rate_error(alternative, counts[ALTERNATIVE])
    expected, expected_errors = _expected(q, discovery=discovery)
    return ToyResult(
        patch=first["patch"],
        mu=first["mu"],
        test_statistic=first["test_statistic"],
        seed=first["seed"],
        toys=sum(shard["count"] for shard in ordered),
        q=observed,
        mu_hat=first["observed"]["mu_hat"],
        CLs_obs=clsb if discovery else _ratio(clsb, clb),
        CLsb_obs=clsb,
        CLb_obs=clb,
        CLs_exp=expected,
        CLs_obs_error=errors[0]
        if discovery
        else _cls_error((tested, alternative), (counts[TESTED], counts[ALTERNATIVE])),
        CLsb_obs_error=errors[0],
        CLb_obs_error=errors[1],
        CLs_exp_errors=expected_errors,
        CLs_obs_range=_range(
            (tested, alternative),
            (counts[TESTED], counts[ALTERNATIVE]),
            (len(failed[TESTED]), len(failed[ALTERNATIVE])),
            discovery=discovery,
        ),
        failed=failed,
        searched={
            name: sum(len(shard[name]["searched"]) for shard in ordered) for name in HYPOTHESES
        },
        remarks=(
            *first.get("remarks", ()),
            *_remarks(failed, alternative, discovery=discovery),
        ),
        statistics=q,
    )


def enough(result: ToyResult, precision: float) -> bool:
    """Return true if `CLs_obs` is known to an absolute uncertainty."""
    return math.isfinite(result.CLs_obs) and result.CLs_obs_error <= precision


def toys_needed(result: ToyResult, precision: float) -> int:
    """About how many toys of each hypothesis it takes to know `CLs_obs` so well."""
    if not math.isfinite(result.CLs_obs_error):
        return 2 * result.toys
    return math.ceil(result.toys * (result.CLs_obs_error / precision) ** 2)


# --------------------------------------------------------------------------- shards


def _ordered(shards: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """By their first toy, checked."""
    unique = {(shard["first"], shard["count"]): shard for shard in shards}
    ordered = [unique[key] for key in sorted(unique)]
    if not ordered:
        raise StoreError("There are no toys.", remedy="Make a shard of them first.")
    patch = ordered[0]["patch"]
    for name in _SAME:
        if any(shard.get(name) != ordered[0].get(name) for shard in ordered):
            raise StoreError(
                f"Shards of toys differ in {name!r}.",
                remedy="Merge shards of one patch, test and seed only.",
                patch=patch,
            )
    observed = [shard["observed"]["q"] for shard in ordered]
    if max(observed) - min(observed) > TIE:
        raise StoreError(
            f"Shards disagree about the observed q, from {min(observed)} to {max(observed)}.",
            remedy="Make them with one version of the software.",
            patch=patch,
        )
    position = 0
    for shard in ordered:
        if shard["first"] != position:
            problem = "are missing" if shard["first"] > position else "come twice"
            low, high = sorted((position, shard["first"]))
            raise StoreError(
                f"Toys {low} to {high - 1} {problem}.",
                remedy="Merge shards that follow one another from toy 0 on.",
                patch=patch,
            )
        position += shard["count"]
    return ordered


def _first_of(ordered: list[Mapping[str, Any]], toys: int) -> list[Mapping[str, Any]]:
    """Shards without the toys from a number on."""
    count = sum(shard["count"] for shard in ordered)
    if count < toys:
        raise StoreError(
            f"There are {count} toys, of which {toys} are wanted.",
            remedy="Make the missing ones first.",
            patch=ordered[0]["patch"],
        )
    return [_cut(shard, toys) for shard in ordered if shard["first"] < toys]


def _cut(shard: Mapping[str, Any], end: int) -> Mapping[str, Any]:
    count = min(shard["count"], end - shard["first"])
    if count == shard["count"]:
        return shard
    of_hypotheses = {
        name: {
            **shard[name],
            "q": shard[name]["q"][:count],
            "failed": [failure for failure in shard[name]["failed"] if failure["toy"] < end],
            "searched": [number for number in shard[name]["searched"] if number < end],
        }
        for name in HYPOTHESES
    }
    return {**shard, "count": count, **of_hypotheses}


def _remarks(
    failed: Mapping[str, Sequence[int]], alternative: int, *, discovery: bool
) -> Iterable[str]:
    for name, numbers in failed.items():
        if numbers:
            toys = "1 toy has" if len(numbers) == 1 else f"{len(numbers)} toys have"
            yield f"{toys} no test statistic under the {name} hypothesis"
    if not alternative and not discovery:
        yield "no toy of the alternative has so large a q: CLs is not defined"


# --------------------------------------------------------------------------- statistics


def _exceeding(ordered: FloatArray, value: Any) -> Any:
    """Count how many of some sorted numbers are at least as large."""
    return len(ordered) - np.searchsorted(ordered, np.asarray(value) - TIE, side="left")


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else math.nan


def _rate(count: float, toys: int) -> float:
    return (count + 0.5) / (toys + 1.0)


def _rate_error(count: float, toys: int) -> float:
    rate = _rate(count, toys)
    return math.sqrt(rate * (1.0 - rate) / (toys + 2.0))


def _cls_error(counts: tuple[int, int], toys: tuple[int, int]) -> float:
    rates = [_rate(*pair) for pair in zip(counts, toys, strict=True)]
    errors = [_rate_error(*pair) for pair in zip(counts, toys, strict=True)]
    relative = math.hypot(*(error / rate for error, rate in zip(errors, rates, strict=True)))
    return rates[0] / rates[1] * relative


def _range(
    counts: tuple[int, int], toys: tuple[int, int], failed: tuple[int, int], *, discovery: bool
) -> tuple[float, float]:
    """CLs with failed toys of both hypotheses counted in its favour, and against it."""
    ends = []
    for tested, alternative in ((0, failed[1]), (failed[0], 0)):
        clsb = _ratio(counts[0] + tested, toys[0] + failed[0])
        clb = _ratio(counts[1] + alternative, toys[1] + failed[1])
        ends.append(clsb if discovery else _ratio(clsb, clb))
    return ends[0], ends[1]


def _expected(
    q: Mapping[str, FloatArray], *, discovery: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Percentiles of the CLs of the alternative's toys, with their uncertainties."""
    tested, alternative = q[TESTED], q[ALTERNATIVE]
    if not len(tested) or not len(alternative):
        return (math.nan,) * len(N_SIGMA), (math.nan,) * len(N_SIGMA)
    clsb = _exceeding(tested, alternative) / len(tested)
    clb = _exceeding(alternative, alternative) / len(alternative)
    values = clsb if discovery else clsb / clb
    at = ndtr(np.array(N_SIGMA, dtype=float))
    spread = np.sqrt(at * (1.0 - at) / len(alternative))
    expected = np.quantile(values, at)
    below, centre, above = (
        np.quantile(clsb, np.clip(at + shift, 0.0, 1.0)) for shift in (-spread, 0.0, spread)
    )
    binomial = [_rate_error(rate * len(tested), len(tested)) for rate in centre]
    scale = np.ones(len(at)) if discovery else np.quantile(clb, at)
    errors = np.hypot(binomial, 0.5 * (above - below)) / scale
    return tuple(expected.tolist()), tuple(errors.tolist())
