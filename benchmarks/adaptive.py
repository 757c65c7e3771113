"""Measure how few points a contour needs: replay the choice of points on a finished run.

    snakemake --profile profiles/local
    python benchmarks/adaptive.py demo
    python benchmarks/adaptive.py 1Lbb --precision 0.002

The run has tested all points of an analysis. The choice of `points.choose: adaptive` is made again
from its records, round by round, and the contours of each round are compared with those of all
points: mean and largest distance in the units of the axes.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import parser, write
from scipy.special import ndtr

from palletfit.config import Plane, Settings, load_analyses, parse
from palletfit.planes.contour import FORECAST, MAIN, UNTESTED, Exclusion, exclusion
from palletfit.planes.distances import distance
from palletfit.planes.interpolation import Geometry
from palletfit.products.hypotest import Hypotest
from palletfit.products.hypotest.adaptive import Chooser, chooser_of
from palletfit.products.hypotest.table import read_table
from palletfit.runs import scan
from palletfit.runs.results import EXPECTED_COLUMNS, RegionResults

#: Columns of results in the order of a chooser.
COLUMNS = ("CLs_obs", *EXPECTED_COLUMNS)


def main() -> None:
    """Print the table."""
    options = parser(__doc__)
    options.add_argument("analysis", help="name of an analysis with one region")
    options.add_argument("--results", type=Path, default=Path("results"), help="folder (results)")
    options.add_argument("--precision", type=float, default=0.005, help="of the contour (0.005)")
    options.add_argument("--round", type=int, default=16, help="points of a round (16)")
    arguments = options.parse_args()
    settings = parse(
        Settings,
        {
            "analyses": [arguments.analysis],
            "points": {
                "choose": "adaptive",
                "precision": arguments.precision,
                "round": arguments.round,
            },
        },
        file="the command line",
    )
    analysis = load_analyses(settings, Path("config/analyses"))[arguments.analysis]
    (region,) = analysis.used_regions
    folder = arguments.results / analysis.name
    todo = scan.of_region(
        analysis,
        region,
        settings,
        Hypotest,
        folder / region / "workspace.json",
        folder / region / "patchset.json",
    )
    records = RegionResults.read(folder / region / "hypotest.json", Hypotest).records
    table = read_table(folder / "results.csv")
    plane = next(iter(analysis.planes.values()))
    full = exclusion(table, plane, settings.contour, {})
    began = time.process_time()
    chooser = chooser_of(todo, settings)
    if chooser is None:
        options.error(f"the points of {analysis.name} have no plane")
    print(f"forecasts of all points: {time.process_time() - began:.2g} CPU s\n")
    rows, rounds = chooser.first(), []
    print("| tested | of | part | observed: mean | largest | expected: mean | largest |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    while len(rows):
        for row in rows.tolist():
            record = records[todo.patches[row].name]
            failed = record["status"] == "failed"
            chooser.take(row, None if failed else [record["CLs_obs"], *record["CLs_exp"]])
        entry = _compare(chooser, table, plane, settings, full)
        rounds.append(entry)
        cells = [f"{value:.2f}" for name in MAIN for value in entry.get(name, (np.nan, np.nan))]
        tested, count = entry["tested"], len(todo.patches)
        print(f"| {tested} | {count} | {tested / count:.2f} | {' | '.join(cells)} |", flush=True)
        rows = chooser.next(settings.points.round)
    write(arguments.output, {"analysis": analysis.name, "rounds": rounds})


def _compare(
    chooser: Chooser, table: pd.DataFrame, plane: Plane, settings: Settings, full: Exclusion
) -> dict[str, object]:
    """Compare contours of the tested points, and of forecasts elsewhere, with those of all."""
    values = pd.DataFrame(ndtr(-chooser.values()), index=list(chooser.names))
    partial = table.copy()
    untested = ~partial["patch"].map(dict(zip(chooser.names, chooser.done, strict=True)))
    for column, name in enumerate(COLUMNS):
        partial[f"{name}{FORECAST}"] = partial["patch"].map(values[column]).where(untested)
        partial[name] = partial[name].where(~untested)
    partial["status"] = partial["status"].where(~untested, UNTESTED)
    contours = exclusion(partial, plane, settings.contour, {})
    entry: dict[str, object] = {"tested": int(chooser.done.sum())}
    for name in MAIN:
        lines = [[line.vertices for line in each.curves[name].lines] for each in (contours, full)]
        apart = distance(lines[0], tuple(lines[1]), Geometry.of(full.points))
        if apart is not None:
            entry[name] = (apart.symmetric.mean, apart.symmetric.maximum)
    return entry


if __name__ == "__main__":
    main()
