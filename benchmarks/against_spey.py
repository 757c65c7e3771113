"""Compare the back end of spey with spey's own for pyhf: likelihoods, CLs and CPU time.

    python benchmarks/against_spey.py BkgOnly.json patchset.json
    python benchmarks/against_spey.py BkgOnly.json patchset.json --sample 5 --output spey.json

Both back ends get the same patch and workspace, and are asked for the observed CLs of mu = 1.
Every likelihood that spey asks of its pyhf back end on the way (at a signal strength, and the
minimum, on the data and on Asimov data) is asked of palletfit afterwards, on the same data. So the
table shows how often either is lower, where lower is right.

spey and spey-pyhf: ``pip install spey spey-pyhf``. spey-pyhf uses JAX where it is installed,
unless ``--without-jax`` is given. Its tests have a time limit each (``--limit``). The CPU time of
palletfit is that of a new signal of a background that is known, as in a scan. (The first signal
also reads the background, which is a line of its own.) With ``--upper-limits`` the observed upper
limit is computed instead of the CLs.
"""

from __future__ import annotations

import logging
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from common import (
    add_pallet,
    describe,
    machine,
    markdown,
    parser,
    positive,
    read_pallet,
    use_one_thread,
    version,
    write,
)

#: Differences in NLL below this are rounding, or the tolerance of an optimizer.
SAME = 1e-6
#: Differences above this are another minimum, or none.
APART = 1e-3


@dataclass(frozen=True)
class Request:
    """A likelihood that spey asked for: data, signal strength (None: free) and answer."""

    data: Any
    mu: float | None
    nll: float


@dataclass
class Point:
    """One patch with both back ends.

    Attributes
    ----------
    name
        Name of the patch.
    cpu, peer_cpu
        CPU seconds of the value, from the arguments to the answer.
    value, peer_value
        CLs or upper limits, or None where there is none.
    differences
        NLL of the pyhf back end minus ours, of each likelihood.
    error, peer_error
        How either failed.
    """

    name: str
    cpu: float = np.nan
    peer_cpu: float = np.nan
    value: float | None = None
    peer_value: float | None = None
    differences: list[float] = field(default_factory=list)
    error: str = ""
    peer_error: str = ""


#: Computes a value of a model.
Test = Callable[[Any], float]


class TooSlowError(BaseException):
    """A test took longer than its limit; tools catch an ordinary exception."""


def main() -> None:
    """Print the tables."""
    arguments = _parser().parse_args()
    use_one_thread()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    if arguments.without_jax:
        sys.modules["jax"] = None  # type: ignore[assignment]
    workspace, spec, _ = read_pallet(arguments)
    patches = spec["patches"]
    environment = {**machine(), **{name: version(name) for name in ("spey", "spey-pyhf", "jax")}}
    print(describe(environment))
    print(f"spey {environment['spey']}, spey-pyhf {environment['spey-pyhf']}")
    positions = np.linspace(0, len(patches) - 1, min(arguments.sample, len(patches)))
    test: Test = _upper_limit if arguments.upper_limits else _cls
    first, _ = timed(lambda: test(_ours(workspace, patches[0]["patch"])))
    points = []
    for index in np.unique(positions.round().astype(int)):
        point = compare(workspace, patches[index], test, arguments.limit)
        points.append(point)
        print(_line(point), flush=True)
    print(f"\n{table(points, first)}")
    record = {"machine": environment, "first": first, "points": [asdict(p) for p in points]}
    write(arguments.output, record)


def _parser() -> Any:
    options = parser(__doc__)
    add_pallet(options)
    options.add_argument(
        "--sample", type=positive, default=5, metavar="N", help="patches (%(default)s)"
    )
    options.add_argument(
        "--limit",
        type=positive,
        default=120,
        metavar="SECONDS",
        help="time of a test of the pyhf back end (%(default)s)",
    )
    options.add_argument(
        "--upper-limits", action="store_true", help="compute observed upper limits, not CLs"
    )
    options.add_argument(
        "--without-jax", action="store_true", help="let spey-pyhf use NumPy, as without JAX"
    )
    return options


def compare(workspace: Any, entry: Any, test: Test, limit: int) -> Point:
    """Test one patch with both back ends."""
    point = Point(entry["metadata"]["name"])
    ours = None

    def test_ours() -> None:
        nonlocal ours
        ours = _ours(workspace, entry["patch"])
        point.value = test(ours)

    def test_peer() -> None:
        with time_limit(limit):
            point.peer_value = test(peer(workspace, entry["patch"], requests))

    requests: list[Request] = []
    point.cpu, point.error = timed(test_ours)
    point.peer_cpu, point.peer_error = timed(test_peer)
    if ours is not None:
        point.differences = [each.nll - _nll(ours, each) for each in requests]
    return point


def _ours(workspace: Any, operations: Any) -> Any:
    from spey import StatisticalModel

    from palletfit.backends.spey import PalletfitBackend

    return StatisticalModel(PalletfitBackend(operations, workspace), "palletfit")


def peer(workspace: Any, operations: Any, requests: list[Request]) -> Any:
    """Make a model of spey's pyhf back end that records the likelihoods it is asked for."""
    from spey import StatisticalModel
    from spey_pyhf.interface import FullStatisticalModel

    class Recording(StatisticalModel):  # type: ignore[misc]
        def likelihood(self, poi_test: float = 1.0, **options: Any) -> Any:
            nll = super().likelihood(poi_test=poi_test, **options)
            requests.append(Request(options.get("data"), float(poi_test), float(nll)))
            return nll

        def maximize_likelihood(self, **options: Any) -> Any:
            answer = super().maximize_likelihood(**options)
            requests.append(Request(options.get("data"), None, float(answer[1])))
            return answer

    class RecordingBackend(FullStatisticalModel):  # type: ignore[misc]
        def expected_data(self, pars: Any) -> Any:
            # The parameters are those of the background-only fit that Asimov data come from.
            requests.append(Request(None, 0.0, -float(self.get_logpdf_func()(pars))))
            return super().expected_data(pars)

    return Recording(RecordingBackend(operations, workspace), "pyhf")


def _cls(model: Any) -> float:
    return 1.0 - float(model.exclusion_confidence_level()[0])


def _upper_limit(model: Any) -> float:
    return float(model.poi_upper_limit())


def _nll(model: Any, request: Request) -> float:
    if request.mu is not None:
        return float(model.likelihood(poi_test=request.mu, data=request.data))
    answer = model.maximize_likelihood(data=request.data, allow_negative_signal=False)
    return float(answer[1])


def timed(test: Callable[[], Any]) -> tuple[float, str]:
    """Measure CPU time; a failure is part of the result."""
    began, error = time.process_time(), ""
    try:
        with np.errstate(all="ignore"):
            test()
    except (Exception, TooSlowError) as failure:  # noqa: BLE001 - the other tools go on
        error = f"{type(failure).__name__}: {' '.join(str(failure).split())[:200]}"
    return time.process_time() - began, error


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise an error where something takes longer."""

    def stop(*_: Any) -> None:
        raise TooSlowError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _line(point: Point) -> str:
    worst = f"{min(point.differences):.2e}" if point.differences else "-"
    best = f"{max(point.differences):.2e}" if point.differences else "-"
    return (
        f"{point.name}: {point.value} and {point.peer_value}, CPU {point.cpu:.2f} and "
        f"{point.peer_cpu:.2f} s, NLL of pyhf minus ours {worst} to {best}"
        f"{' ours: ' * bool(point.error)}{point.error}"
        f"{' pyhf: ' * bool(point.peer_error)}{point.peer_error}"
    )


def table(points: Sequence[Point], first: float) -> str:
    """Summarise all patches."""
    differences = np.array([each for point in points for each in point.differences])
    answered = [p for p in points if p.value is not None and p.peer_value is not None]
    ratios = [p.peer_cpu / p.cpu for p in points if not p.error]
    rows = [
        ("patches", len(points)),
        ("without an answer: palletfit, pyhf", f"{_failed(points)}, {_peer_failed(points)}"),
        ("likelihoods compared", len(differences)),
        (f"ours higher by more than {SAME:g}", int(np.sum(differences < -SAME))),
        (f"pyhf higher by more than {APART:g}", int(np.sum(differences > APART))),
        ("pyhf not a number", int(np.sum(np.isnan(differences)))),
        (
            "largest difference of values",
            f"{max((abs(p.value - p.peer_value) for p in answered), default=0):.2g}",
        ),
        ("CPU of a value, palletfit", f"{_range([p.cpu for p in points])} s"),
        ("CPU of the first signal, palletfit", f"{first:.2f} s"),
        ("CPU of a value, pyhf", f"{_range([p.peer_cpu for p in points])} s"),
        ("ratio", _range(ratios)),
    ]
    return markdown(("quantity", "value"), rows)


def _failed(points: Sequence[Point]) -> int:
    return sum(point.value is None for point in points)


def _peer_failed(points: Sequence[Point]) -> int:
    return sum(point.peer_value is None for point in points)


def _range(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
