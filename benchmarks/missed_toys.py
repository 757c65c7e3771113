"""Measure how often the fits of toys miss the lowest minimum that further starts see.

    python benchmarks/missed_toys.py BkgOnly.json patchset.json --patch NAME --seed 17

Toys of both hypotheses are drawn and fitted as ever. Then both fits of each toy are repeated from
further starts: all parameters of what generated the toy are displaced at random, by half to one
prefit width (`--starts`, drawn for each toy). Each fit also starts where the other one ended.
With `--deeper` the same toys are fitted with so many descents, too (`toys.descents`). Printed are
the toys whose q changes by more than 0.01, with the parameters that differ most; how many fits of
each kind end more than 0.01 in 2 NLL above the lowest end of all; and CPU seconds. One thread.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
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
    write,
)

from palletfit.config import FitSettings, ToySettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.lowering import prefit_widths
from palletfit.engine.toys.ensembles import DataSets, Ends, Ensemble, Pairs
from palletfit.products.toys.compute import BLOCK, HYPOTHESES, Toys, statistic

#: A q that changes by more than this has missed the lowest minimum.
MISSED = 0.01
#: Displacements in prefit widths.
NEAREST, FARTHEST = 0.5, 1.0
#: So many parameters at most are named for each toy.
NAMED = 5
MU = 1.0


def main() -> None:
    """Print the table of missed minima."""
    arguments = _parser().parse_args()
    use_one_thread()
    print(describe(machine()), flush=True)
    workspace, _, patchset = read_pallet(arguments)
    names = arguments.patch or [patchset.patches[0].name]
    by_name = {patch.name: patch for patch in patchset.patches}
    unknown = sorted(set(names) - set(by_name))
    if unknown:
        raise SystemExit(f"{arguments.patchset} has no patch {unknown[0]!r}.")
    engine = BatchedEngine(workspace, FitSettings(mu=MU))
    rows: list[dict[str, Any]] = []
    for name in names:
        toys = Toys(
            engine, by_name[name], ToySettings(seed=arguments.seed, descents=arguments.descents)
        )
        for hypothesis in HYPOTHESES:
            row = searched(
                toys,
                hypothesis,
                arguments.pairs,
                arguments.starts,
                arguments.seed,
                arguments.deeper,
            )
            rows.append({"patch": name, "hypothesis": hypothesis, **row})
    print(table(rows))
    write(arguments.output, {"machine": machine(), "rows": rows})


def _parser() -> ArgumentParser:
    options = parser(__doc__)
    add_pallet(options)
    options.add_argument("--patch", nargs="+", help="names of patches (the first one)")
    options.add_argument("--pairs", type=positive, default=1024, help="toys of each hypothesis")
    options.add_argument("--starts", type=positive, default=10, help="further starts of each fit")
    options.add_argument(
        "--descents", type=int, default=0, help="descents of each fit (toys.descents)"
    )
    options.add_argument("--deeper", type=int, default=0, help="descents of a further search")
    options.add_argument("--seed", type=positive, default=1, help="seed of toys and starts")
    return options


def table(rows: list[dict[str, Any]]) -> str:
    """Write one line for each patch and hypothesis."""
    columns = ("patch", "hypothesis", "toys", "missed", "largest", "failed")
    counts, seconds = ("fits", "starts", "deeper"), ("cpu_fits", "cpu_search", "cpu_deeper")
    cells = [
        [*(row[name] for name in (*columns, *counts)), *(f"{row[name]:.1f}" for name in seconds)]
        for row in rows
    ]
    titles = ("fits too high", "with starts", "with descents")
    return markdown(
        (*columns, *titles, "CPU s of the fits", "of the starts", "with descents"), cells
    )


def searched(
    toys: Toys, hypothesis: str, pairs: int, starts: int, seed: int, deeper: int
) -> dict[str, Any]:
    """Fit toys, search deeply, and count whose q changes and which fits are too high."""
    random = np.random.default_rng([seed, HYPOTHESES.index(hypothesis)])
    missed: list[dict[str, Any]] = []
    largest, failed, cpu = 0.0, 0, np.zeros(3)
    too_high = np.zeros(3, dtype=int)
    ensemble = Ensemble(toys.engine, toys.batch, descents=deeper)
    for first in range(0, pairs, BLOCK):
        numbers = np.arange(first, min(first + BLOCK, pairs))
        sets = toys.draw(hypothesis, numbers)
        began = time.process_time()
        fits = toys.fit(hypothesis, sets)
        middle = time.process_time()
        ends = {"fixed": _copy(fits.fixed), "free": _copy(fits.free)}
        q = _statistic(toys, fits)
        converged = fits.converged.copy()
        deepen(toys.ensemble, sets, fits, toys.sources[hypothesis].point, toys.mu, starts, random)
        last = time.process_time()
        searches = [ends, {"fixed": fits.fixed, "free": fits.free}]
        if deeper:
            descended = ensemble.pairs(sets, toys.sources[hypothesis].point, toys.mu)
            searches.append({"fixed": descended.fixed, "free": descended.free})
        cpu += middle - began, last - middle, time.process_time() - last
        too_high[: len(searches)] += _too_high(searches)
        change = np.where(converged, _statistic(toys, fits) - q, 0.0)
        largest = max(largest, float(np.abs(change).max()))
        failed += int(np.sum(~converged))
        for row in np.flatnonzero(np.abs(change) > MISSED):
            entry = {
                "toy": int(numbers[row]),
                "q": float(q[row]),
                "change": float(change[row]),
                "fits": _moved(toys, ends, {"fixed": fits.fixed, "free": fits.free}, int(row)),
            }
            print(hypothesis, entry, flush=True)
            missed.append(entry)
    return {
        "toys": pairs,
        "missed": len(missed),
        "largest": round(largest, 3),
        "failed": failed,
        "fits": int(too_high[0]),
        "starts": int(too_high[1]),
        "deeper": int(too_high[2]) if deeper else "",
        "cpu_fits": float(cpu[0]),
        "cpu_search": float(cpu[1]),
        "cpu_deeper": float(cpu[2]),
        "toys_missed": missed,
    }


def _too_high(searches: list[dict[str, Ends]]) -> list[int]:
    """Count the fits of each search that end above the lowest end of all."""
    counts = [0] * len(searches)
    for kind in ("fixed", "free"):
        values = np.array(
            [np.where(search[kind].converged, search[kind].value, np.inf) for search in searches]
        )
        counts = list(counts + np.sum(2 * (values - values.min(axis=0)) > MISSED, axis=1))
    return counts


def _copy(ends: Ends) -> Ends:
    return Ends(**{name: getattr(ends, name).copy() for name in Ends.__dataclass_fields__})


def _statistic(toys: Toys, pairs: Pairs) -> FloatArray:
    mu_hat = pairs.free.point[:, toys.poi]
    return statistic(toys.kind, toys.mu, mu_hat, pairs.fixed.value, pairs.free.value)


def deepen(
    ensemble: Ensemble,
    sets: DataSets,
    pairs: Pairs,
    generated: FloatArray,
    mu: float,
    starts: int,
    random: np.random.Generator,
) -> None:
    """Lower both fits of toys from further starts."""
    batch = ensemble.batch
    width = prefit_widths(batch)[0]
    for _ in range(starts):
        size = random.uniform(NEAREST, FARTHEST, (len(sets), 1))
        moved = generated + size * width * random.standard_normal((len(sets), len(generated)))
        start = np.clip(moved, batch.lower[0], batch.upper[0])
        _lower(pairs.fixed, ensemble.fit(sets, start, mu))
        _lower(pairs.free, ensemble.fit(sets, start, None))
    _lower(pairs.free, ensemble.fit(sets, pairs.fixed.point, None))
    _lower(pairs.fixed, ensemble.fit(sets, pairs.free.point, mu))


def _lower(best: Ends, ends: Ends) -> None:
    lower = ends.converged & (ends.value < np.where(best.converged, best.value, np.inf))
    for name in Ends.__dataclass_fields__:
        getattr(best, name)[lower] = getattr(ends, name)[lower]


def _moved(
    toys: Toys, before: dict[str, Ends], after: dict[str, Ends], row: int
) -> dict[str, dict[str, Any]]:
    """List by how much each fit was too high, and the parameters that differ most."""
    batch = toys.batch
    constrained = batch.precision[0] + batch.factor[0]
    scale = np.where(constrained > 0, np.sqrt(constrained), 1.0)
    moved = {}
    for name, ends in before.items():
        above = float(ends.value[row] - after[name].value[row])
        if 2 * above < MISSED / 10:
            continue
        old, new = ends.point[row], after[name].point[row]
        columns = np.argsort(-np.abs(new - old) * scale, kind="stable")[:NAMED]
        parameters = {
            str(batch.names[0][column]): [
                round(float(old[column]), 3),
                round(float(new[column]), 3),
            ]
            for column in columns
        }
        moved[name] = {"above": 2 * above, "parameters": parameters}
    return moved


if __name__ == "__main__":
    main()
