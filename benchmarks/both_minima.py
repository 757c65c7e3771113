r"""Write a table of the lowest and the nearest minimum of every fit of a pallet.

    python benchmarks/missed_minima.py BkgOnly.json patchset.json --output missed.csv
    python benchmarks/both_minima.py BkgOnly.json patchset.json --deep missed.csv \
        --output minima.csv

A row a fit: 2 NLL of the lowest minimum that the engine sees; how far the one that is reached from
the suggested values lies above (none: it is the same; Asimov data of another minimum are other
data); what a deep search sees; observed and median expected CLs of both. One thread.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from common import add_pallet, describe, machine, parser, read_pallet, use_one_thread

from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.records import HypotestResult, PValues


def main() -> None:
    """Write the table, and print how many points have two minima."""
    options = parser(__doc__)
    add_pallet(options)
    options.add_argument("--deep", type=Path, metavar="CSV", help="table of missed_minima.py")
    arguments = options.parse_args()
    use_one_thread()
    print(describe(machine()), flush=True)
    workspace, _, patchset = read_pallet(arguments)
    deep: dict[tuple[str, str], str] = {}
    if arguments.deep is not None:
        with arguments.deep.open(newline="") as file:
            deep = {
                (row["patch"], row["fit"]): row["lowest_twice_nll"] for row in csv.DictReader(file)
            }
    results = {
        patch.name: result
        for patch, result in BatchedEngine(workspace, FitSettings()).hypotests(patchset.patches)
        if isinstance(result, HypotestResult)
    }
    rows = [
        row
        for patch in patchset.patches
        if patch.name in results
        for row in _rows(patch.name, results[patch.name], deep)
    ]
    several = sum(result.other is not None for result in results.values())
    print(
        f"{len(patchset.patches)} points, {len(results)} with a result, {several} with two minima"
    )
    if arguments.output is not None:
        with arguments.output.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(rows)


def _rows(
    name: str, result: HypotestResult, deep: dict[tuple[str, str], str]
) -> list[dict[str, Any]]:
    other = result.other
    return [
        {
            "patch": name,
            "fit": fit,
            "twice_nll": f"{result.fits[fit].twice_nll:.8f}",
            "nearest_above": _above(other.fits[fit].above if other and fit in other.fits else None),
            "deep_twice_nll": f"{float(deep[name, fit]):.8f}" if (name, fit) in deep else "",
            **_cls("", result.p_values),
            **_cls("nearest_", other.p_values if other else None),
        }
        for fit in result.fits
    ]


def _above(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _cls(prefix: str, values: PValues | None) -> dict[str, str]:
    numbers = {"CLs_obs": "", "CLs_exp": ""}
    if values is not None:
        numbers = {"CLs_obs": f"{values.CLs_obs:.8g}", "CLs_exp": f"{values.CLs_exp[2]:.8g}"}
    return {f"{prefix}{key}": number for key, number in numbers.items()}


if __name__ == "__main__":
    main()
