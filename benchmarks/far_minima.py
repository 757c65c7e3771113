"""Measure what the engine's look at far minima costs and changes, and what it misses.

    python benchmarks/far_minima.py BkgOnly.json patchset.json
    python benchmarks/far_minima.py BkgOnly.json patchset.json --exhaustive --every 8
    python benchmarks/far_minima.py BkgOnly.json patchset.json --toys NAME

All patches are tested without and with that look (``Search.leap``), and CPU seconds, how many
patches' CLs move, and the largest drops in 2 NLL are printed. With ``--exhaustive`` every alpha of
every fit then goes to -1 and to 1 in turn, the others following along the covariance, and a whole
fit begins there: no choice is made of parameters or points. With ``--toys`` pseudo-experiments of
one patch are fitted as ever, and then once more with each of the parameters that the engine looks
at from -1 and from 1. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any
from unittest import mock

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
    write,
)

from palletfit.config import FitSettings, ToySettings
from palletfit.engine.batch import BatchFits
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.evaluation import inverse_free
from palletfit.engine.fits import Fits
from palletfit.engine.search import Search
from palletfit.errors import PalletfitError
from palletfit.pallet.patches import Patch
from palletfit.products.toys.compute import HYPOTHESES, Toys

FITS = ("background", "free", "fixed")
#: CLs that move by less, and minima that differ by less in 2 NLL, are the same.
MOVED, LOWER = 1e-4, 1e-6
#: A test statistic that changes by less is the same.
CHANGED = 0.01


def main() -> None:
    """Print the tables."""
    arguments = _parser().parse_args()
    use_one_thread()
    workspace, _, patchset = read_pallet(arguments)
    patches = patchset.patches[:: arguments.every]
    environment = machine()
    print(describe(environment), flush=True)
    record: dict[str, Any] = {"machine": environment, "patches": len(patches)}
    if arguments.toys is None:
        record["looks"] = looks(workspace, patches)
    if arguments.exhaustive:
        record["exhaustive"] = exhaustive(workspace, patches)
    if arguments.toys is not None:
        chosen = patchset.select([arguments.toys])
        if not chosen:
            raise SystemExit(f"{arguments.patchset} holds no patch {arguments.toys!r}.")
        record["toys"] = toys(workspace, chosen[0], arguments.count)
    write(arguments.output, record)


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    add_pallet(options)
    options.add_argument("--every", type=positive, default=1, help="take every n-th patch only")
    options.add_argument("--exhaustive", action="store_true", help="look everywhere")
    options.add_argument("--toys", metavar="NAME", help="instead fit toys of this patch")
    options.add_argument("--count", type=positive, default=256, help="of each hypothesis")
    return options


def looks(workspace: Any, patches: Sequence[Patch]) -> dict[str, Any]:
    """Test all patches without and with the look at far minima."""
    started = time.process_time()
    with mock.patch.object(Search, "leap"):  # does nothing
        before = dict(tested(workspace, patches))
    between = time.process_time()
    after = dict(tested(workspace, patches))
    ended = time.process_time()
    names = [name for name in before if name in after]
    moves = np.array([np.abs(after[name][0] - before[name][0]) for name in names])
    moved = [name for name, move in zip(names, moves, strict=True) if move.max() > MOVED]
    drops = {
        fit: max(float(before[name][1][fit] - after[name][1][fit]) for name in names)
        for fit in FITS
    }
    record = {
        "cpu": [between - started, ended - between],
        "moved": moved,
        "observed": float(moves[:, 0].max()),
        "expected": float(moves[:, 1:].max()),
        "drops": drops,
    }
    header = ["patches", "CPU without", "with", "CLs moved", "observed by", "expected by", *FITS]
    row = [len(names), *(f"{value:.1f} s" for value in record["cpu"]), len(moved)]
    row += [f"{record['observed']:.3g}", f"{record['expected']:.3g}"]
    row += [f"{value:.2g}" for value in drops.values()]
    print(f"\n{markdown(header, [row])}", flush=True)
    return record


def tested(workspace: Any, patches: Sequence[Patch]) -> list[tuple[str, tuple[Any, Any]]]:
    """Compute CLs, observed and expected, and 2 NLL of all patches that have them, by name."""
    results = BatchedEngine(workspace, FitSettings()).hypotests(patches)
    return [
        (
            patch.name,
            (
                np.array([result.p_values.CLs_obs, *result.p_values.CLs_exp]),
                {name: fit.twice_nll for name, fit in result.fits.items()},
            ),
        )
        for patch, result in results
        if not isinstance(result, PalletfitError)
    ]


def exhaustive(workspace: Any, patches: Sequence[Patch]) -> dict[str, Any]:
    """Begin a fit with every parameter at -1 and at 1, and count what ends lower."""
    engine = BatchedEngine(workspace, FitSettings())
    counts = {name: [0, 0, 0.0] for name in (*FITS, "asimov_fixed")}
    for batch, _ in engine.lower(patches)[0]:
        tests = engine.batch_fits(batch)
        for name, fits in tests.four_fits().items():
            before = fits.value.copy()
            for column in range(batch.layout.alphas):
                everywhere(tests, fits, column)
            drops = 2 * (before - fits.value)
            counts[name][0] += len(drops)
            counts[name][1] += int((drops > LOWER).sum())
            counts[name][2] = max(counts[name][2], float(drops.max()))
    header = ["fit", "patches", "lower found", "largest drop in 2 NLL"]
    rows = [[name, fits, lower, f"{drop:.2g}"] for name, (fits, lower, drop) in counts.items()]
    print(f"\n{markdown(header, rows)}", flush=True)
    return counts


def everywhere(tests: BatchFits, fits: Fits, column: int) -> None:
    """Fit all patches with one parameter from -1 and from 1."""
    batch, rows = tests.batch, fits.leading(tests.rows)
    for part, hessian, frozen in tests.likelihood.hessians(fits, rows):
        if fits.mu is not None:
            frozen[:, tests.poi] = True
        slopes = inverse_free(hessian, frozen)[:, column]
        chosen, variance = rows[part], slopes[:, column]
        usable = (variance > 0) & ~frozen[:, column]
        if not usable.any():
            continue
        chosen, direction = chosen[usable], slopes[usable] / variance[usable, None]
        for side in (-1.0, 1.0):
            step = side - fits.point[chosen, column]
            start = fits.point[chosen] + step[:, None] * direction
            start = np.clip(start, batch.lower[chosen], batch.upper[chosen])
            tests.fitter.fit_each(fits, f"everywhere {column} {side:g}", chosen, start)


def toys(workspace: Any, patch: Patch, count: int) -> dict[str, Any]:
    """Fit toys, and then from further starts."""
    maker = Toys(BatchedEngine(workspace, FitSettings()), patch, ToySettings())
    columns = maker.engine.batch_fits(maker.batch).search.bent
    record = {}
    rows = []
    for hypothesis in HYPOTHESES:
        sets = maker.draw(hypothesis, np.arange(count))
        pairs = maker.fit(hypothesis, sets)
        fits = {"fixed": (pairs.fixed, maker.mu), "free": (pairs.free, None)}
        before = {name: ends.value.copy() for name, (ends, _) in fits.items()}
        lowest = {name: value.copy() for name, value in before.items()}
        for name, (ends, mu) in fits.items():
            for column in columns:
                for side in (-1.0, 1.0):
                    start = ends.point.copy()
                    start[:, column] = side
                    minima = maker.ensemble.fit(sets, start, mu)
                    lower = minima.converged & (minima.value < lowest[name])
                    lowest[name] = np.where(lower, minima.value, lowest[name])
        change = np.abs(_q(lowest) - _q(before))
        missed = [int((before[name] - lowest[name] > LOWER).sum()) for name in fits]
        changed = int((change > CHANGED).sum())
        record[hypothesis] = {"missed": missed, "changed": changed, "most": float(change.max())}
        rows.append([hypothesis, count, *missed, changed, f"{change.max():.2g}"])
    header = ["hypothesis", "toys", "fixed missed", "free missed", "q changed", "by up to"]
    print(f"\n{markdown(header, rows)}", flush=True)
    return {"patch": patch.name, "parameters": len(columns), **record}


def _q(values: dict[str, Any]) -> Any:
    return 2 * np.maximum(values["fixed"] - values["free"], 0.0)


if __name__ == "__main__":
    main()
