"""Time pseudo-experiments with palletfit, pyhf and NextStat, on equal cores.

    python benchmarks/toys.py
    python benchmarks/toys.py --pallet BkgOnly.json patchset.json --patch NAME
    python benchmarks/toys.py --tools palletfit nextstat --output toys.json

Two models: a synthetic one of 50 channels with 4 bins each, one background sample with a shapesys
in each, and a signal, which has 201 parameters; and one patch of a pallet, if one is named. What is
timed is a *pair*: one toy of signal and background and one of background only, two fits each, for
mu = 1 with qtilde. All run in this process with one thread:

``palletfit``
    ``palletfit.products.toys.compute``: drawing, fits from as many starts as it takes, evidence.
    Set-up (lowering, fits of the observed data with all their starts) stands apart.
``pyhf``
    What ``infer.calculators.ToyCalculator`` does for each toy, ``make_pdf(...).sample`` and
    ``test_statistics.qmu_tilde``, with NumPy and SciPy.
``nextstat``
    ``hypotest_toys`` on a model of ``from_pyhf``. Optional: ``pip install -r envs/benchmarks.in``.

The tools take turns, several times; the table shows medians, with the smallest and the largest.
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
from pathlib import Path
from typing import Any

import pyhf
from common import (
    describe,
    machine,
    markdown,
    parser,
    positive,
    use_one_thread,
    version,
    write,
)

from palletfit.config import FitSettings, ToySettings
from palletfit.engine.engine import BatchedEngine
from palletfit.errors import PalletfitError
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.patches import Patch, apply
from palletfit.pallet.patchset import parse_patchset
from palletfit.products.toys.compute import Toys
from palletfit.products.toys.results import ToyResult, merge

TOOLS = ("palletfit", "nextstat", "pyhf")
MU = 1.0


@dataclass(frozen=True)
class Run:
    """One run of one tool.

    Attributes
    ----------
    pairs
        Toys of each hypothesis.
    wall, cpu
        Seconds a pair.
    q, CLs
        Observed test statistic, and CLs of these toys.
    failed
        Toys without a result.
    """

    pairs: int
    wall: float
    cpu: float
    q: float
    CLs: float
    failed: int


def main() -> None:
    """Print a table for each model."""
    arguments = _parser().parse_args()
    use_one_thread()
    logging.getLogger("pyhf").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    environment = {**machine(), "nextstat": version("nextstat")}
    print(describe(environment))
    record: dict[str, Any] = {"machine": environment}
    record["synthetic"] = compare(
        "synthetic", synthetic(), _empty_patch(), arguments.pairs, arguments
    )
    if arguments.pallet:
        workspace, patch = _read(arguments.pallet, arguments.patch)
        record["pallet"] = compare(patch.name, workspace, patch, arguments.pallet_pairs, arguments)
    write(arguments.output, record)


def _parser() -> Any:
    options = parser(__doc__)
    options.add_argument(
        "--pallet", nargs=2, type=Path, metavar=("WORKSPACE", "PATCHSET"), help="a second model"
    )
    options.add_argument("--patch", help="name of the pallet's patch (its first one)")
    for option, default in (("--pairs", (8192, 512, 1)), ("--pallet-pairs", (512, 2, 1))):
        options.add_argument(
            option,
            nargs=3,
            type=positive,
            metavar="N",
            default=default,
            help=f"pairs a run of {', '.join(TOOLS)} ({' '.join(map(str, default))})",
        )
    options.add_argument("--repeats", type=positive, default=3, metavar="N", help="(%(default)s)")
    options.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS)
    return options


def _empty_patch() -> Patch:
    return Patch("synthetic", (), [])


def synthetic(channels: int = 50, bins: int = 4) -> Any:
    """Make channels with one background sample, its shapesys of 10 %, and a signal."""
    spec: dict[str, Any] = {"channels": [], "observations": [], "version": "1.0.0"}
    strength = {"name": "mu", "type": "normfactor", "data": None}
    for number in range(channels):
        expected = [50.0 + (7 * number + 3 * bin_) % 20 for bin_ in range(bins)]
        shapesys = {
            "name": f"uncorrelated_{number}",
            "type": "shapesys",
            "data": [0.1 * rate for rate in expected],
        }
        signal = [0.5 + 0.25 * ((number + bin_) % 3) for bin_ in range(bins)]
        samples = [
            {"name": "background", "data": expected, "modifiers": [shapesys]},
            {"name": "signal", "data": signal, "modifiers": [strength]},
        ]
        spec["channels"].append({"name": f"channel_{number:02}", "samples": samples})
        spec["observations"].append({"name": f"channel_{number:02}", "data": expected})
    spec["measurements"] = [{"name": "fit", "config": {"poi": "mu", "parameters": []}}]
    return spec


def _read(paths: Sequence[Path], name: str | None) -> tuple[Any, Patch]:
    try:
        workspace, spec = read_pallet_json(paths[0]), read_pallet_json(paths[1])
        patches = parse_patchset(spec, paths[1]).patches
    except PalletfitError as error:
        raise SystemExit(str(error)) from None
    for patch in patches:
        if name in (None, patch.name):
            return workspace, patch
    raise SystemExit(f"{paths[1]} has no patch {name!r}.")


def compare(
    title: str, workspace: Any, patch: Patch, pairs: Sequence[int], arguments: Any
) -> dict[str, Any]:
    """Run all tools in turns and print their table."""
    began = time.perf_counter()
    toys = Toys(BatchedEngine(workspace, FitSettings(mu=MU)), patch, ToySettings())
    set_up = time.perf_counter() - began
    full = apply(workspace, patch)
    makers: dict[str, Callable[[], Callable[[int, int], Run] | None]] = {
        "palletfit": lambda: _palletfit(toys),
        "nextstat": lambda: _nextstat(full),
        "pyhf": lambda: _pyhf(full),
    }
    optional_tools = {name: makers[name]() for name in TOOLS if name in arguments.tools}
    tools = {name: tool for name, tool in optional_tools.items() if tool is not None}
    number = dict(zip(TOOLS, pairs, strict=True))
    runs: dict[str, list[Run]] = {name: [] for name in tools}
    for turn in range(arguments.repeats):
        for name, tool in tools.items():
            runs[name].append(tool(turn, number[name]))
    print(f"\n{title}: {toys.batch.present[0].sum()} parameters; set-up {set_up:.2f} s\n")
    print(table(runs))
    if "palletfit" in runs:
        print(_answer(toys, number["palletfit"]))
    return {name: [asdict(run) for run in done] for name, done in runs.items()}


def table(runs: Mapping[str, Sequence[Run]]) -> str:
    """Write times, and ratios to palletfit."""
    ours = {
        kind: statistics.median(getattr(run, kind) for run in runs["palletfit"])
        if "palletfit" in runs
        else float("nan")
        for kind in ("wall", "cpu")
    }
    rows = []
    for name, done in runs.items():
        wall, cpu = [run.wall for run in done], statistics.median(run.cpu for run in done)
        middle = statistics.median(wall)
        rows.append(
            [
                name,
                f"{len(done)} x {done[0].pairs}",
                f"{1e3 * middle:.3g} ({1e3 * min(wall):.3g}-{1e3 * max(wall):.3g})",
                f"{1e3 * cpu:.3g}",
                f"{middle / ours['wall']:.1f}",
                f"{cpu / ours['cpu']:.1f}",
                f"{done[0].q:.6f}",
                ", ".join(f"{run.CLs:.4f}" for run in done),
                sum(run.failed for run in done),
            ]
        )
    head = ("", "runs x pairs", "ms a pair, wall", "CPU", "ratio, wall", "CPU", "q observed", "CLs")
    return markdown((*head, "failed toys"), rows)


def _answer(toys: Toys, pairs: int) -> str:
    result: ToyResult = merge([toys.shard(0, pairs)])
    return f"\nCLs of {pairs} pairs: {result.CLs_obs:.4f} +- {result.CLs_obs_error:.4f}"


# ---------------------------------------------------------------------- tools


def _timed(pairs: int, run: Callable[[], tuple[float, float, int]]) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    q, cls, failed = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Run(pairs, wall / pairs, cpu / pairs, q, cls, failed)


def _palletfit(toys: Toys) -> Callable[[int, int], Run]:
    def run(turn: int, pairs: int) -> Run:
        def work() -> tuple[float, float, int]:
            shard = toys.shard(turn * pairs, pairs)
            result = merge([{**shard, "first": 0}])
            return result.q, result.CLs_obs, sum(map(len, result.failed.values()))

        return _timed(pairs, work)

    return run


def _nextstat(full: Any) -> Callable[[int, int], Run] | None:
    try:
        import nextstat
    except ImportError:
        print("Without nextstat, which is not installed.")
        return None
    model = nextstat.from_pyhf(json.dumps(full))

    def run(turn: int, pairs: int) -> Run:
        def work() -> tuple[float, float, int]:
            result = nextstat.hypotest_toys(
                MU, model, n_toys=pairs, seed=turn + 1, expected_set=True, return_meta=True
            )
            bad = sum(value for name, value in result.items() if name.startswith("n_error"))
            bad += sum(value for name, value in result.items() if name.startswith("n_nonconverged"))
            return result["q_obs"], result["cls"], bad

        return _timed(pairs, work)

    return run


def _pyhf(full: Any) -> Callable[[int, int], Run]:
    settings = FitSettings()
    opened = pyhf.Workspace(full)
    model = opened.model(
        modifier_settings={
            "normsys": {"interpcode": settings.normsys},
            "histosys": {"interpcode": settings.histosys},
        }
    )
    pyhf.set_backend("numpy", "scipy")
    data = opened.data(model)
    config = model.config
    more = (config.suggested_init(), config.suggested_bounds(), config.suggested_fixed())
    observed = float(pyhf.infer.test_statistics.qmu_tilde(MU, data, model, *more))
    sources = [
        model.make_pdf(pyhf.infer.mle.fixed_poi_fit(mu, data, model, *more)) for mu in (MU, 0.0)
    ]

    def run(_: int, pairs: int) -> Run:
        def work() -> tuple[float, float, int]:
            exceeding, failed = [], 0
            for source in sources:
                q = []
                for toy in source.sample((pairs,)):
                    try:
                        q.append(pyhf.infer.test_statistics.qmu_tilde(MU, toy, model, *more))
                    except pyhf.exceptions.FailedMinimization:
                        failed += 1
                exceeding.append(sum(float(value) >= observed for value in q))
            cls = exceeding[0] / exceeding[1] if exceeding[1] else float("nan")
            return observed, cls, failed

        return _timed(pairs, work)

    return run


if __name__ == "__main__":
    main()
