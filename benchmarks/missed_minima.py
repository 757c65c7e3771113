"""Measure how often the engine's fits miss the lowest minimum that a much deeper search sees.

    python benchmarks/missed_minima.py --random 0 1000 --output missed.csv
    python benchmarks/missed_minima.py BkgOnly.json patchset.json --every 4 --starts 100
    python benchmarks/missed_minima.py BkgOnly.json --signals 8

Every fit of every patch is made as ever. Then each goes on from its lowest minimum with whole fits
from many drawn points, in rounds, as long as it falls. In half of them one to five parameters, or
half of all, are drawn within three standard deviations or their bounds, and the others stay or
follow along the covariance. In the other half all parameters are drawn, one to two prefit standard
deviations around their suggested values; every second time those without a constraint are drawn
within their bounds. Of the products of parameters that fill or empty a bin the 24 best ones are
tried, if they are near or the bin gains more than the constraints cost. What is drawn depends on
the patch's name. Printed are the fits that end above the lowest minimum by more than 0.01 in 2 NLL,
and CPU seconds. One thread.
"""

from __future__ import annotations

import csv
import time
import zlib
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import add_pallet, describe, machine, parser, positive, read_pallet, use_one_thread
from random_likelihoods import made_up_signals, random_likelihood

from palletfit.config import FitSettings
from palletfit.engine.batch import BatchFits
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.evaluation import inverse_free
from palletfit.engine.fits import Fits
from palletfit.engine.likelihood import constants
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.patches import Patch

#: Fits that end higher than this above the lowest minimum, in 2 NLL, have missed it.
MISSED = 0.01
ROUNDS, FURTHER_ROUNDS = 5, 5
#: Products of parameters that are tried of each fit, many more than the fits try themselves.
PRODUCTS = 24
FITS = ("background", "free", "fixed", "asimov_fixed")


def main() -> None:
    """Print the table of missed minima."""
    arguments = _parser().parse_args()
    use_one_thread()
    print(describe(machine()), flush=True)
    rows: list[dict[str, Any]] = []
    seconds = np.zeros(2)
    for workspace, patches in _likelihoods(arguments):
        for batch_rows, cpu in searched(workspace, patches, arguments.starts):
            rows += batch_rows
            seconds += cpu
            for row in batch_rows:
                if row["above"] > MISSED or not row["converged"]:
                    print(row, flush=True)
    missed = sum(row["above"] > MISSED for row in rows)
    print(
        f"{len(rows)} fits: {missed} missed, {sum(not row['converged'] for row in rows)} not "
        f"converged; {seconds[0]:.0f} CPU s for the fits, {seconds[1]:.0f} CPU s for the search"
    )
    if arguments.output is not None:
        with Path(arguments.output).open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)


def _parser() -> ArgumentParser:
    options = parser(__doc__)
    add_pallet(options)
    for action in options._actions:
        if action.dest in ("workspace", "patchset"):
            action.nargs = "?"
    options.add_argument("--random", type=int, nargs=2, metavar=("FIRST", "STOP"))
    options.add_argument(
        "--signals", type=positive, help="of a workspace alone: so many are made up"
    )
    options.add_argument("--starts", type=positive, default=50, help="of each fit, in all rounds")
    options.add_argument("--every", type=positive, default=1, help="take every n-th patch only")
    return options


def _likelihoods(arguments: Namespace) -> Iterator[tuple[Any, list[Patch]]]:
    if arguments.signals is not None:
        workspace = read_pallet_json(arguments.workspace)
        yield workspace, _patches("signal", made_up_signals(workspace, arguments.signals))
        return
    if arguments.random is None:
        workspace, _, patchset = read_pallet(arguments)
        yield workspace, list(patchset.patches[:: arguments.every])
        return
    for number in range(*arguments.random):
        workspace, all_operations = random_likelihood(number)
        yield workspace, _patches(f"random_{number}", all_operations)


def _patches(name: str, all_operations: list[Any]) -> list[Patch]:
    return [
        Patch(f"{name}_{index}", (index,), operations)
        for index, operations in enumerate(all_operations)
    ]


def searched(
    workspace: Any, patches: list[Patch], starts: int
) -> Iterator[tuple[list[dict[str, Any]], tuple[float, float]]]:
    """Fit, search deeply, and give a row for each fit of each patch, with CPU seconds of both."""
    engine = BatchedEngine(workspace, FitSettings())
    batches, _ = engine.lower(patches)
    for batch, members in batches:
        tests = engine.batch_fits(batch)
        began = time.process_time()
        fits = tests.four_fits()
        middle = time.process_time()
        ends = {
            name: (of_kind.value.copy(), of_kind.converged.copy()) for name, of_kind in fits.items()
        }
        deep = _deepen_all(tests, fits, [patch.name for patch in members], starts)
        finished = time.process_time()
        rows = []
        for name in FITS:
            constant = constants(batch, deep[name].data, deep[name].aux)
            value, converged = ends[name]
            for row, patch in enumerate(members):
                lowest = float(deep[name].value[row])
                rows.append(
                    {
                        "patch": patch.name,
                        "fit": name,
                        "lowest_twice_nll": 2 * (lowest + constant[row]),
                        "above": 2 * (float(value[row]) - lowest),
                        "converged": bool(converged[row]),
                    }
                )
        yield rows, (middle - began, finished - middle)


def _deepen_all(
    tests: BatchFits, fits: dict[str, Fits], names: list[str], starts: int
) -> dict[str, Fits]:
    generators = [np.random.default_rng(zlib.crc32(name.encode())) for name in names]
    deep = dict(fits)
    before = fits["background"].value.copy()
    for name in FITS[:3]:
        deepen(tests, deep[name], generators, starts)
    background, free, fixed = (deep[name] for name in FITS[:3])
    for target, sources in (
        (background, (free, fixed)),
        (fixed, (free, background)),
        (free, (fixed, background)),
    ):
        tests.fitter.fit(target, {str(n): source.point for n, source in enumerate(sources)})
    if np.any(background.value < before - 1e-7):
        # Other Asimov data: the fits of the old ones say nothing about them.
        tests.fitter.sharpen(background, tests.rows, 1e-14)
        data = tests.likelihood.asimov_data(background, background.point)
        again = Fits(*data, tests.mu, tests.rows)
        points = {"background": background, "fixed": fixed, "old": deep["asimov_fixed"]}
        tests.fitter.fit(again, {name: other.point for name, other in points.items()})
        deep["asimov_fixed"] = again
    deepen(tests, deep["asimov_fixed"], generators, starts)
    return deep


def deepen(
    tests: BatchFits, fits: Fits, generators: list[np.random.Generator], starts: int
) -> None:
    """Go on from the lowest minima with fits from drawn points, as long as they fall."""
    rows = fits.leading(tests.rows)
    rows = rows[np.isfinite(fits.value[rows])]
    number = 0
    last = ROUNDS
    while number < last and len(rows):
        number += 1
        owners, points = _drawn(tests, fits, rows, generators, max(starts // ROUNDS, 1))
        minima = tests.fitter.minimise(fits, tests.fitter.lanes(fits, points, owners))
        before = fits.value.copy()
        order = np.lexsort((np.where(minima.converged, minima.value, np.inf), owners))
        _, first = np.unique(owners[order], return_index=True)
        best = order[first]
        best = best[minima.converged[best]]
        fits.add(f"deep {number}", owners[best], minima.take(best), 0.0)
        if number >= ROUNDS and np.any(fits.value < before - 1e-6):
            last = min(last + 1, ROUNDS + FURTHER_ROUNDS)


def _drawn(
    tests: BatchFits,
    fits: Fits,
    rows: np.ndarray,
    generators: list[np.random.Generator],
    count: int,
) -> tuple[np.ndarray, np.ndarray]:
    batch = tests.batch
    owners, points = [], []
    for part, hessian, frozen in tests.likelihood.hessians(fits, rows):
        if fits.mu is not None:
            frozen[:, tests.poi] = True
        covariance = inverse_free(hessian, frozen)
        for position, row in enumerate(rows[part]):
            random = generators[row]
            fixed = batch.fixed[row].copy()
            fixed[tests.poi] |= fits.mu is not None
            free = np.flatnonzero(~fixed)
            loose = (batch.precision[row] <= 0) & (batch.factor[row] <= 0)
            for number in range(count):
                if number % 2:
                    width = random.choice([1.0, 1.5, 2.0]) * tests.fitter.widths[row]
                    point = batch.init[row] + width * random.normal(size=len(width))
                    if number % 4 == 1:
                        lower, upper = batch.lower[row], batch.upper[row]
                        point = np.where(loose, random.uniform(lower, upper), point)
                    point = np.where(fixed, fits.point[row], point)
                else:
                    point = _near(batch, row, fits.point[row], free, covariance[position], random)
                owners.append(row)
                points.append(np.clip(point, batch.lower[row], batch.upper[row]))
    for owner, seeds in tests.search.products(fits, rows, PRODUCTS):
        owners += list(owner)
        points += list(seeds)
    order = np.argsort(owners, kind="stable")
    return np.array(owners)[order], np.array(points)[order]


def _near(
    batch: Any,
    row: int,
    minimum: np.ndarray,
    free: np.ndarray,
    covariance: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """Draw a few parameters; the others stay, or follow along the covariance."""
    size = int(random.choice([1, 1, 1, 2, 2, 3, 5, max(len(free) // 2, 1)]))
    chosen = random.choice(free, size=min(size, len(free)), replace=False)
    goals = np.array([_goal(batch, row, column, random) for column in chosen])
    point = minimum.copy()
    if random.random() < 0.6:
        pull = np.linalg.pinv(covariance[np.ix_(chosen, chosen)]) @ (goals - minimum[chosen])
        point = minimum + covariance[:, chosen] @ pull
    point[chosen] = goals
    return point


def _goal(batch: Any, row: int, column: int, random: np.random.Generator) -> float:
    lower, upper = batch.lower[row, column], batch.upper[row, column]
    precision, factor = batch.precision[row, column], batch.factor[row, column]
    if precision > 0:
        goal = batch.aux[row, column] + random.uniform(-3.2, 3.2) / np.sqrt(precision)
    elif factor > 0 and random.random() < 0.4:
        goal = random.gamma(batch.aux[row, column] + 1.0) / factor
    else:
        wide = batch.init[row, column] * np.exp(1.5 * random.normal())
        goal = random.choice([lower, upper, wide, random.uniform(lower, upper)])
    return float(np.clip(goal, lower, upper))


if __name__ == "__main__":
    main()
