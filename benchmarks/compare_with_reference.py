"""Compare the results of a run with CLs values that plain pyhf gave, and explain differences.

    python benchmarks/compare_with_reference.py results/1Lbb REFERENCE.json [--region 1Lbb]

The reference is a JSON file with ``results``: a list of ``name``, ``CLs_obs`` and ``CLs_exp``. A
difference is explained by the likelihood: for each fit the records say how far above the lowest
minimum pyhf's own optimizer stopped from the suggested start.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

EXPLAINED_ABOVE = 1e-4


def main() -> None:
    """Print a Markdown summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder of an analysis")
    parser.add_argument("reference", type=Path)
    parser.add_argument("--region", help="region, if there are several")
    arguments = parser.parse_args()
    records = read_records(arguments.results, arguments.region)
    reference = {
        item["name"]: item for item in json.loads(arguments.reference.read_text())["results"]
    }
    print("\n".join(summary(records, reference)))


def read_records(folder: Path, region: str | None) -> dict[str, dict[str, Any]]:
    """Read all records of a region by patch name."""
    paths = sorted(folder.glob(f"{region or '*'}/fits/*.json"))
    records = [json.loads(path.read_text()) for path in paths]
    return {record["patch"]: record for record in records}


def summary(records: dict[str, dict[str, Any]], reference: dict[str, dict[str, Any]]) -> list[str]:
    """Make the lines of the comparison."""
    fitted = {name: item for name, item in records.items() if item["status"] != "failed"}
    common = [name for name in fitted if is_usable(reference.get(name))]
    largest = {name: difference(fitted[name], reference[name]) for name in common}
    far = sorted((name for name in common if largest[name] > EXPLAINED_ABOVE), key=largest.get)
    states = [item["status"] for item in records.values()]
    seconds = [item["fit_time"] for item in fitted.values()]
    fits = [fit for item in fitted.values() for fit in item["fits"].values()]
    escalated = sum(len(fit["attempts"]) > 1 for fit in fits)
    unusable = [name for name in fitted if not is_usable(reference.get(name))]
    values = {
        "patches": len(records),
        **{state: states.count(state) for state in ("ok", "suspect", "failed")},
        "seconds a patch, median": f"{statistics.median(seconds):.1f}",
        "seconds a patch, largest": f"{max(seconds):.1f}",
        "fits": len(fits),
        "fits with more than one attempt": escalated,
        "edm, largest": f"{max(fit['edm'] for fit in fits):.1e}",
        "compared with the reference": len(common),
        "reference without a usable value": ", ".join(unusable) or "none",
        "difference of the six CLs, median": f"{statistics.median(largest.values()):.1e}",
        "difference of the six CLs, largest": f"{max(largest.values()):.1e}",
        f"patches that differ by more than {EXPLAINED_ABOVE:g}": len(far),
    }
    lines = ["| what | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in values.items()]
    if far:
        lines += [
            "",
            "| patch | largest difference | 2 NLL of pyhf's scipy fit above the lowest, by fit |",
            "|---|---|---|",
        ]
    for name in reversed(far):
        above = ", ".join(
            f"{fit}: {excess(item):.1e}" for fit, item in fitted[name]["fits"].items()
        )
        lines.append(f"| {name} | {largest[name]:.1e} | {above} |")
    return lines


def is_usable(item: dict[str, Any] | None) -> bool:
    """Whether a reference has numbers."""
    return item is not None and item.get("CLs_obs") is not None and math.isfinite(item["CLs_obs"])


def difference(record: dict[str, Any], expected: dict[str, Any]) -> float:
    """Largest difference in the observed and the five expected CLs."""
    ours = [record["CLs_obs"], *record["CLs_exp"]]
    theirs = [expected["CLs_obs"], *expected["CLs_exp"]]
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))


def excess(fit: dict[str, Any]) -> float:
    """How far above the lowest minimum the first optimizer stopped, in 2 NLL."""
    return float(fit["attempts"][0]["optimizer_twice_nll"] - fit["twice_nll"])


if __name__ == "__main__":
    main()
