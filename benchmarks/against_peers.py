"""Time the hypothesis tests of a pallet with palletfit, pyhf and NextStat, on equal cores.

    python benchmarks/against_peers.py BkgOnly.json patchset.json
    python benchmarks/against_peers.py BkgOnly.json patchset.json --sample 10 --output times.json
    python benchmarks/against_peers.py BkgOnly.json patchset.json --tools palletfit pyhf

Every tool gives the observed and the five expected CLs for mu = 1 with qtilde, with the same
interpolation codes, from JSON that is parsed already. All run in this process with one thread:

``palletfit``
    The batched engine on NumPy with all its starts and evidence, on *all* patches: applying the
    patches, lowering, fits and conclusions. It runs several times (``--repeats``), each time as
    from a cold start, before, between and after the others.
``pyhf``
    As in its documentation, with NumPy and SciPy: ``PatchSet.apply``, ``Workspace.model``,
    ``infer.hypotest``; on a sample of the patches.
``nextstat``
    Its shortest way: ``apply_patchset`` with this patch only, ``from_pyhf``, and ``hypotest``,
    whose tail probabilities hold q of the Asimov data, and with it the expected CLs. (Its own
    ``cls_curve`` gives the same numbers, but tests two signal strengths or more.) It takes texts;
    making them of parsed JSON is not counted. On the same sample, patch by patch after pyhf.
    Optional: ``pip install -r envs/benchmarks.in``.

Work that is done once for a whole pallet (schema validation by pyhf, imports) is not counted.
CPU time is shown next to wall time: where they differ, the machine was not quiet.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyhf
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
from scipy.stats import norm

from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.errors import PalletfitError
from palletfit.pallet.patches import Patch

PEERS = ("pyhf", "nextstat")
MU = 1.0
#: Observed, and expected for -2 to 2 standard deviations of the background.
CLs = tuple[float, ...]


@dataclass(frozen=True)
class Test:
    """One patch with one tool.

    Attributes
    ----------
    building, fitting
        Wall time in seconds, up to the model and from there.
    cpu
        CPU time of both, of all threads.
    values
        None where the tool failed.
    error
        How it failed.
    """

    building: float
    fitting: float
    cpu: float
    values: CLs | None
    error: str = ""


@dataclass(frozen=True)
class Run:
    """All patches with the batched engine; times in seconds a patch."""

    building: float
    fitting: float
    cpu: float
    values: dict[str, CLs]
    errors: dict[str, str]
    not_batched: int


def main() -> None:
    """Print the tables."""
    arguments = _parser().parse_args()
    use_one_thread()
    logging.getLogger("pyhf").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    workspace, spec, patchset = read_pallet(arguments)
    patches = patchset.patches
    environment = {**machine(), "nextstat": version("nextstat")}
    print(describe(environment))
    peers = {name: _PREPARE[name](workspace, spec) for name in PEERS if name in arguments.tools}
    peers = {name: tool for name, tool in peers.items() if tool is not None}
    sample = spread(len(patches), arguments.sample)
    runs, tests = interleave(
        lambda: run_palletfit(workspace, patches), peers, sample, arguments.repeats
    )
    names = [patches[index].name for index in sample]
    print(f"\n{times(runs, tests, len(patches))}\n\n{agreement(runs, tests, names)}")
    for line in failures(runs, tests, names):
        print(line)
    record = {
        "machine": environment,
        "patches": len(patches),
        "sample": names,
        "palletfit": [asdict(run) for run in runs],
        "peers": {name: [asdict(test) for test in done] for name, done in tests.items()},
    }
    write(arguments.output, record)


def _parser() -> Any:
    options = parser(__doc__)
    add_pallet(options)
    options.add_argument(
        "--sample",
        type=positive,
        default=10,
        metavar="N",
        help="patches for the peers (%(default)s)",
    )
    options.add_argument(
        "--repeats",
        type=positive,
        default=3,
        metavar="N",
        help="runs of the batched engine (%(default)s)",
    )
    options.add_argument(
        "--tools",
        nargs="+",
        choices=("palletfit", *PEERS),
        default=("palletfit", *PEERS),
        help="palletfit always runs",
    )
    return options


def spread(count: int, number: int) -> list[int]:
    """Choose positions, evenly spread over a sequence, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(number, count)).round().astype(int)).tolist()


def interleave(
    ours: Callable[[], Run],
    peers: Mapping[str, Callable[[int], Test]],
    sample: Sequence[int],
    repeats: int,
) -> tuple[list[Run], dict[str, list[Test]]]:
    """Run the engine before, between and after the peers, which take turns at every patch."""
    tests: dict[str, list[Test]] = {name: [] for name in peers}
    runs = [ours()]
    for part in np.array_split(sample, max(repeats - 1, 1)):
        for index in part:
            for name, tool in peers.items():
                tests[name].append(tool(int(index)))
        if len(runs) < repeats:
            runs.append(ours())
    return runs, tests


# ---------------------------------------------------------------------- tools


def run_palletfit(workspace: Any, patches: Sequence[Patch]) -> Run:
    """Test all patches with a new engine."""
    cpu, began = time.process_time(), time.perf_counter()
    engine = BatchedEngine(workspace, FitSettings(mu=MU))
    building = time.perf_counter() - began
    values, errors, not_batched = {}, {}, 0
    for patch, result in engine.hypotests(patches):
        if isinstance(result, PalletfitError):
            errors[patch.name] = result.problem
            continue
        values[patch.name] = (result.p_values.CLs_obs, *result.p_values.CLs_exp)
        building += result.build_time
        not_batched += result.engine != "batched"
    total, cpu = time.perf_counter() - began, time.process_time() - cpu
    count = len(patches)
    return Run(
        building / count, (total - building) / count, cpu / count, values, errors, not_batched
    )


def prepare_pyhf(workspace: Any, spec: Any) -> Callable[[int], Test] | None:
    """Validate once, as pyhf does when it reads files."""
    settings = FitSettings()
    codes = {
        "normsys": {"interpcode": settings.normsys},
        "histosys": {"interpcode": settings.histosys},
    }
    try:
        background, patchset = pyhf.Workspace(workspace), pyhf.PatchSet(spec)
        patchset.verify(background)
    except (pyhf.exceptions.InvalidSpecification, pyhf.exceptions.PatchSetVerificationError) as no:
        print(f"Without pyhf, which refuses this pallet: {' '.join(str(no).split())[:200]}")
        return None
    pyhf.set_backend("numpy", "scipy")

    def build(index: int) -> tuple[Any, Any]:
        name = patchset.patches[index].name
        full = patchset.apply(background, name)
        model = full.model(modifier_settings=codes)
        return full.data(model), model

    def fit(built: tuple[Any, Any]) -> CLs:
        observed, expected = pyhf.infer.hypotest(
            MU, *built, test_stat="qtilde", return_expected_set=True
        )
        return (float(observed), *map(float, expected))

    return lambda index: timed(lambda: build(index), fit)


def prepare_nextstat(workspace: Any, spec: Any) -> Callable[[int], Test] | None:
    """Make the texts that it reads."""
    try:
        import nextstat
    except ImportError as error:
        print(f"Without NextStat ({error}): pip install -r envs/benchmarks.in")
        return None
    nextstat.set_threads(1)
    text = json.dumps(workspace)
    # It parses the whole patchset for every patch: a patchset of one is quicker.
    patches = [json.dumps({**spec, "patches": [patch]}) for patch in spec["patches"]]

    def fit(model: Any) -> CLs:
        observed, tails = nextstat.hypotest(MU, model, return_tail_probs=True)
        return (observed, *expected_cls(*tails))

    return lambda index: timed(
        lambda: nextstat.from_pyhf(nextstat.apply_patchset(text, patches[index])), fit
    )


_PREPARE: dict[str, Callable[[Any, Any], Callable[[int], Test] | None]] = {
    "pyhf": prepare_pyhf,
    "nextstat": prepare_nextstat,
}


def expected_cls(clsb: float, clb: float) -> CLs:
    """Compute the expected CLs from the observed tail probabilities.

    In the asymptotic formulas of qtilde (Cowan et al., arXiv:1007.1727, eq. 64 to 66) they are
    those of two normal distributions whose distance is the root of q on the Asimov data.

    Raises
    ------
    ArithmeticError
        Both probabilities are zero, or not numbers: the distance is not in them.
    """
    if not clsb < 1 or not 0 < clb <= 1:
        raise ArithmeticError(f"no expected CLs from the tail probabilities {clsb} and {clb}")
    distance = norm.isf(clsb) - norm.isf(clb)
    sigmas = np.array([2.0, 1.0, 0.0, -1.0, -2.0])
    return tuple((norm.sf(distance + sigmas) / norm.sf(sigmas)).tolist())


def timed(build: Callable[[], Any], fit: Callable[[Any], CLs]) -> Test:
    """Time one patch; a tool's failure is part of the result."""
    cpu, began = time.process_time(), time.perf_counter()
    built = None
    values: CLs | None = None
    error = ""
    try:
        with np.errstate(all="ignore"):
            model = build()
            built = time.perf_counter()
            values = fit(model)
    except Exception as failure:  # noqa: BLE001 - whatever a tool raises, the others go on
        error = f"{type(failure).__name__}: {' '.join(str(failure).split())[:200]}"
    ended = time.perf_counter()
    built = built or ended
    return Test(built - began, ended - built, time.process_time() - cpu, values, error)


# ---------------------------------------------------------------------- tables


def times(runs: Sequence[Run], tests: Mapping[str, Sequence[Test]], count: int) -> str:
    """Milliseconds a patch."""
    ours = statistics.median(run.building + run.fitting for run in runs)
    rows = [_row("palletfit", f"{count}, {len(runs)} times", runs, ours, statistics.median)]
    for name, done in tests.items():
        rows.append(_row(name, str(len(done)), done, ours, statistics.fmean))
    header = (
        *("tool", "patches", "ms a patch", "least to most", "building", "fitting", "CPU ms"),
        "ratio to palletfit",
    )
    note = (
        "palletfit: median and range of its runs; the others: mean and range of the patches. "
        "Wall time but for the CPU column; one thread."
    )
    return f"{markdown(header, rows)}\n\n{note}"


def _row(
    name: str,
    patches: str,
    done: Sequence[Run] | Sequence[Test],
    ours: float,
    mean: Callable[[Any], float],
) -> list[str]:
    totals = [entry.building + entry.fitting for entry in done]
    milliseconds = [
        mean(totals),
        mean(entry.building for entry in done),
        mean(entry.fitting for entry in done),
        mean(entry.cpu for entry in done),
    ]
    total, building, fitting, cpu = (f"{1e3 * value:.4g}" for value in milliseconds)
    least_to_most = f"{1e3 * min(totals):.4g} to {1e3 * max(totals):.4g}"
    ratio = f"{mean(totals) / ours:.3g}"
    return [name, patches, total, least_to_most, building, fitting, cpu, ratio]


def agreement(
    runs: Sequence[Run], tests: Mapping[str, Sequence[Test]], names: Sequence[str]
) -> str:
    """Largest difference of any two tools, and between the runs of palletfit."""
    values: dict[str, dict[str, CLs]] = {"palletfit": runs[0].values}
    for tool, done in tests.items():
        values[tool] = {
            name: test.values for name, test in zip(names, done, strict=True) if test.values
        }
    tools = list(values)
    pairs = [(a, b) for position, a in enumerate(tools) for b in tools[position + 1 :]]
    rows = [[f"{a}, {b}", *_differences(values[a], values[b])] for a, b in pairs]
    if len(runs) > 1:
        rows.append(["palletfit, palletfit again", *_differences(runs[0].values, runs[-1].values)])
    header = ("tools", "patches", "observed CLs", "expected CLs", "patch")
    return (
        markdown(header, rows) + "\n\nLargest absolute differences, and the patch of the largest."
    )


def _differences(one: Mapping[str, CLs], other: Mapping[str, CLs]) -> list[str]:
    common = [name for name in one if name in other]
    if not common:
        return ["0", "", "", ""]
    apart = np.abs([np.subtract(one[name], other[name]) for name in common])
    # A value that is not a number counts as the largest difference.
    apart = np.where(np.isnan(apart), np.inf, apart)
    worst = common[int(np.argmax(apart.max(axis=1)))]
    return [str(len(common)), f"{apart[:, 0].max():.1e}", f"{apart[:, 1:].max():.1e}", worst]


def failures(
    runs: Sequence[Run], tests: Mapping[str, Sequence[Test]], names: Sequence[str]
) -> list[str]:
    """List what went wrong, and the patches that the batched engine left to the other."""
    lines = []
    if runs[0].not_batched:
        lines.append(f"palletfit: {runs[0].not_batched} patches fitted by the reference engine")
    lines += [f"palletfit, {name}: {error}" for name, error in runs[0].errors.items()]
    for tool, done in tests.items():
        lines += [
            f"{tool}, {name}: {test.error}"
            for name, test in zip(names, done, strict=True)
            if test.error
        ]
    return lines and ["", *lines]


if __name__ == "__main__":
    main()
