"""Compare tests of signals from the minima of near ones with full tests: time, and who is lower.

    python benchmarks/warm_points.py BkgOnly.json patchset.json
    python benchmarks/warm_points.py BkgOnly.json patchset.json --points 2000 --full 200
    python benchmarks/warm_points.py --random 100 120

Signals are made up from the published ones: each is a mixture of two, uncertainties included,
times a factor for all channels and one for each, both log-normal. So no two signals have the same
uncertainties. Some hundred of them (``--learn``) are tested in full first, and references are
chosen among these. All others are tested from the references, and some of them in full as well.

Times are processor times of one thread, in ms a point, applying the patches included. ``learning``
is that of choosing the references, for all signals together. ``higher`` counts signals of which a
fit from references ends more than 0.01 in 2 NLL above that of the full test, ``CLs`` those whose
CLs differ by more than 1e-6. Where the full test ends higher and one of both is so, the signal
counts as ``lower`` instead.

With ``--plain`` signals have one relative uncertainty of 15% and no others, as the points of a
table have. With ``--random`` the likelihoods are those of benchmarks/random_likelihoods.py, and all
signals are tested both ways.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    describe,
    machine,
    markdown,
    parser,
    positive,
    read_pallet,
    use_one_thread,
    write,
)
from random_likelihoods import random_likelihood

from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.records import HypotestResult
from palletfit.engine.warm_tests import (
    SAME_CLS,
    SAME_TWICE_NLL,
    WarmHypotests,
    choose_references,
)
from palletfit.errors import FitError
from palletfit.pallet.patches import Patch

Spec = dict[str, Any]
Results = dict[str, HypotestResult]
#: Fits whose data are the same in both tests.
FITS = ("background", "free", "fixed")


def main() -> None:
    """Print the table."""
    arguments = _arguments()
    use_one_thread()
    environment = machine()
    print(f"{describe(environment)}\n", flush=True)
    if arguments.random:
        records = [compare_random(range(*arguments.random), arguments)]
    else:
        workspace, _, patchset = read_pallet(arguments)
        signals = mixtures(
            patchset.patches, arguments.learn + arguments.points, arguments.seed, arguments.spread
        )
        if arguments.plain:
            signals = [plain(signal) for signal in signals]
        title = arguments.workspace.resolve().parent.name
        records = [compare(title, workspace, signals, arguments)]
    print(table(records))
    for reason, count in sorted(records[0]["in_full"].items()):
        print(f"searched in full, because {reason}: {count}")
    write(arguments.output, {"machine": environment, "records": records})


def _arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("workspace", type=Path, nargs="?", help="background-only workspace")
    options.add_argument("patchset", type=Path, nargs="?", help="patchset of its signals")
    options.add_argument("--points", type=positive, default=500, metavar="N", help="signals (500)")
    options.add_argument(
        "--learn", type=positive, default=256, metavar="N", help="tested first (256)"
    )
    options.add_argument(
        "--full", type=positive, default=100, metavar="N", help="tested both ways (100)"
    )
    options.add_argument("--seed", type=int, default=1, metavar="N", help="of the signals (1)")
    options.add_argument(
        "--spread", type=float, default=0.5, help="of the factors' logarithms (0.5)"
    )
    options.add_argument(
        "--plain", action="store_true", help="one uncertainty a signal, as points of a table"
    )
    options.add_argument(
        "--random", nargs=2, type=int, metavar=("FIRST", "STOP"), help="random likelihoods instead"
    )
    arguments = options.parse_args()
    if not arguments.random and arguments.patchset is None:
        options.error("name a workspace and a patchset, or give --random")
    return arguments


# ---------------------------------------------------------------------- signals


def mixtures(patches: Sequence[Patch], count: int, seed: int, spread: float = 0.5) -> list[Patch]:
    """Make signals of pairs of patches that change the same channels in the same way."""
    rng = np.random.default_rng(seed)
    alike: dict[Any, list[Patch]] = {}
    for patch in patches:
        shape = tuple((entry["op"], _target(entry)) for entry in patch.operations)
        alike.setdefault(shape, []).append(patch)
    group = max(alike.values(), key=len)
    return [_mixture(f"signal {number:06d}", group, rng, spread) for number in range(count)]


def plain(signal: Patch) -> Patch:
    """Replace the uncertainties of a signal by one of 15% of all yields."""
    uncertainty = {"name": "signal", "type": "normsys", "data": {"hi": 1.15, "lo": 0.85}}
    operations = []
    for entry in signal.operations:
        if entry["op"] == "add":
            kept = [m for m in entry["value"]["modifiers"] if m["type"] in ("normfactor", "lumi")]
            entry = {**entry, "value": {**entry["value"], "modifiers": [*kept, uncertainty]}}
        operations.append(entry)
    return Patch(signal.name, signal.values, operations)


def _target(operation: Mapping[str, Any]) -> str:
    path = str(operation["path"])
    return path.rpartition("/")[0] if operation["op"] == "add" else path


def _mixture(name: str, group: Sequence[Patch], rng: np.random.Generator, spread: float) -> Patch:
    first, second = (group[number] for number in rng.choice(len(group), 2, replace=len(group) < 2))
    share, size = rng.uniform(), rng.lognormal(0.0, spread)
    operations = []
    for one, other in zip(first.operations, second.operations, strict=True):
        if one["op"] != "add":
            operations.append(one)
            continue
        factor = size * rng.lognormal(0.0, spread)
        value = _mixed(one["value"], other["value"], share, factor)
        operations.append({**one, "value": value})
    return Patch(name, (), operations)


def _mixed(one: Spec, other: Spec, share: float, factor: float) -> Spec:
    """Mix two samples; an uncertainty that one of them lacks is the other's."""
    modifiers = {(entry["name"], entry["type"]): entry for entry in other["modifiers"]}
    weights = share * np.asarray(one["data"]), (1 - share) * np.asarray(other["data"])
    mixed = []
    for entry in one["modifiers"]:
        data, kind = entry["data"], entry["type"]
        partner = modifiers.get((entry["name"], kind), entry)["data"]
        if kind == "histosys":
            data = {side: _sum(data[side], partner[side], share, factor) for side in data}
        elif kind == "normsys":
            data = {side: share * data[side] + (1 - share) * partner[side] for side in data}
        elif kind in ("staterror", "shapesys"):
            data = (
                factor * np.hypot(share * np.array(data), (1 - share) * np.array(partner))
            ).tolist()
        mixed.append({**entry, "data": data})
    return {"name": "signal", "data": (factor * sum(weights)).tolist(), "modifiers": mixed}


def _sum(one: Sequence[float], other: Sequence[float], share: float, factor: float) -> list[float]:
    total = factor * (share * np.asarray(one) + (1 - share) * np.asarray(other))
    return [float(value) for value in total]


# ---------------------------------------------------------------------- comparison


def compare(
    title: str, workspace: Spec, signals: Sequence[Patch], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Test signals from references, and some of them in full."""
    engine = BatchedEngine(workspace, FitSettings())
    began = time.process_time()
    references = choose_references(engine, signals[: arguments.learn])
    learning = time.process_time() - began
    # Checks are what this benchmark makes itself.
    references = replace(references, check_period=2**60)
    points = signals[arguments.learn :]
    counts: Counter[str] = Counter()
    began = time.process_time()
    warm = _results(engine.calculate(WarmHypotests(True, references, counts), points))
    seconds = time.process_time() - began
    sample = points[: arguments.full]
    began = time.process_time()
    full = _results(engine.hypotests(sample, brief=True))
    full_seconds = time.process_time() - began
    return {
        "title": title,
        "points": len(points),
        "references": len(references.members),
        "distrusted": len(references.distrusted),
        "learning": learning,
        "ms_a_point": 1e3 * seconds / len(points),
        "full_ms_a_point": 1e3 * full_seconds / len(sample),
        "in_full": {reason: count for reason, count in counts.items() if reason != "warm"},
        **differences(warm, full),
    }


def compare_random(numbers: range, arguments: argparse.Namespace) -> dict[str, Any]:
    """Test signals of random likelihoods both ways; their sums."""
    total: Counter[str] = Counter()
    in_full: Counter[str] = Counter()
    largest = 0.0
    for number in numbers:
        workspace, patches = random_likelihood(number)
        published = [Patch(f"{n}", (), operations) for n, operations in enumerate(patches)]
        signals = mixtures(published, arguments.learn + arguments.points, number, arguments.spread)
        options = argparse.Namespace(**{**vars(arguments), "full": arguments.points})
        try:
            record = compare(f"{number}", workspace, signals, options)
        except FitError:
            total["without references"] += 1
            continue
        in_full.update(record["in_full"])
        largest = max(largest, record["largest"])
        for name in ("points", "references", "distrusted", "learning", "compared", "higher"):
            total[name] += record[name]
        for name in ("lower", "cls", "ms_a_point", "full_ms_a_point"):
            total[name] += record[name]
    times = {name: total[name] / len(numbers) for name in ("ms_a_point", "full_ms_a_point")}
    title = f"random {numbers.start} to {numbers.stop - 1}"
    return {**total, **times, "title": title, "in_full": dict(in_full), "largest": largest}


def _results(outcomes: Any) -> Results:
    return {patch.name: result for patch, result in outcomes if isinstance(result, HypotestResult)}


def differences(warm: Results, full: Results) -> dict[str, Any]:
    """Count signals with another result, by who has the lower minimum."""
    counts = {"compared": 0, "higher": 0, "lower": 0, "cls": 0, "largest": 0.0}
    for name in warm.keys() & full.keys():
        one, other = warm[name], full[name]
        above = [one.fits[fit].twice_nll - other.fits[fit].twice_nll for fit in FITS]
        if abs(above[0]) < SAME_CLS:  # the Asimov data are the same
            above.append(one.p_values.q_asimov - other.p_values.q_asimov)
        values = [(r.p_values.CLs_obs, *r.p_values.CLs_exp) for r in (one, other)]
        other_cls = bool(np.abs(np.subtract(*values)).max() > SAME_CLS)
        full_is_above = -min(above) > max(above)
        counts["compared"] += 1
        counts["higher"] += max(above) > SAME_TWICE_NLL
        counts["cls"] += other_cls and not full_is_above
        counts["lower"] += min(above) < -SAME_TWICE_NLL or (other_cls and full_is_above)
        counts["largest"] = max(counts["largest"], *above)
    return counts


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Write one row a likelihood."""
    header = (
        *("likelihood", "points", "references", "not trusted", "learning, s", "ms", "full, ms"),
        *("ratio", "searched in full", "compared", "CLs", "higher", "largest", "lower"),
    )
    rows = [
        [
            *(record[name] for name in ("title", "points", "references", "distrusted")),
            f"{record['learning']:.0f}",
            f"{record['ms_a_point']:.1f}",
            f"{record['full_ms_a_point']:.1f}",
            f"{record['full_ms_a_point'] / record['ms_a_point']:.1f}",
            sum(record["in_full"].values()),
            *(record[name] for name in ("compared", "cls", "higher")),
            f"{record['largest']:.2g}",
            record["lower"],
        ]
        for record in records
    ]
    return markdown(header, rows)


if __name__ == "__main__":
    main()
