"""Compare the results of a run with CLs values that plain pyhf gave, and explain differences.

    python benchmarks/compare_with_reference.py results/sbottom/RegionB REFERENCE.json

The reference is a JSON file with ``results``: a list of ``name``, ``CLs_obs`` and ``CLs_exp``. A
difference is explained by the likelihood: plain pyhf is run again on these patches, and each of its
five fits is followed by Newton steps. How far 2 NLL falls is how far above the minimum it stopped.
The free fit of the Asimov data has a known minimum, at the parameters that generated them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyhf

from palletfit.config import FitSettings
from palletfit.engine.reference.evidence import Likelihood, polish
from palletfit.engine.reference.hypotests import build_model
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.patches import apply
from palletfit.pallet.patchset import parse_patchset

EXPLAINED_ABOVE = 1e-4


def main() -> None:
    """Print a Markdown summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("region", type=Path, help="folder of a region's results")
    parser.add_argument("reference", type=Path)
    arguments = parser.parse_args()
    records = read_records(arguments.region)
    reference = {
        entry["name"]: entry for entry in json.loads(arguments.reference.read_text())["results"]
    }
    far = differing(records, reference)
    print("\n".join(summary(records, reference, far)))
    if far:
        print("\n".join(explanations(arguments.region, records, far)))


def read_records(region: Path) -> dict[str, dict[str, Any]]:
    """Read all records of a region by patch name."""
    records = [json.loads(path.read_text()) for path in sorted(region.glob("fits/*.json"))]
    if not records:
        raise SystemExit(f"There are no records in {region / 'fits'}: run the workflow first.")
    return {record["patch"]: record for record in records}


def differing(
    records: dict[str, dict[str, Any]], reference: dict[str, dict[str, Any]]
) -> dict[str, float]:
    """Choose patches without a usable reference, or with a large difference, largest first."""
    differences = {
        name: difference(record, reference[name]) if is_usable(reference.get(name)) else math.nan
        for name, record in records.items()
        if record["status"] != "failed"
    }
    far = {name: value for name, value in differences.items() if not value <= EXPLAINED_ABOVE}
    return dict(sorted(far.items(), key=lambda entry: -np.nan_to_num(entry[1], nan=np.inf)))


def summary(
    records: dict[str, dict[str, Any]],
    reference: dict[str, dict[str, Any]],
    far: dict[str, float],
) -> list[str]:
    """Make the lines of the comparison."""
    fitted = {name: record for name, record in records.items() if record["status"] != "failed"}
    common = [name for name in fitted if is_usable(reference.get(name))]
    largest = [difference(fitted[name], reference[name]) for name in common]
    states = [record["status"] for record in records.values()]
    seconds = [record["fit_time"] for record in fitted.values()]
    fits = [fit for record in fitted.values() for fit in record["fits"].values()]
    values = {
        "patches": len(records),
        **{state: states.count(state) for state in ("ok", "suspect", "failed")},
        "seconds a patch, median": f"{statistics.median(seconds):.1f}",
        "fits": len(fits),
        "fits with more than one attempt": sum(len(fit["attempts"]) > 1 for fit in fits),
        "edm, largest": f"{max(fit['edm'] for fit in fits):.1e}",
        "compared with the reference": len(common),
        "reference without a usable value": len(fitted) - len(common),
        "difference of the six CLs, median": f"{statistics.median(largest):.1e}",
        "difference of the six CLs, largest": f"{max(largest):.1e}",
        f"patches that differ by more than {EXPLAINED_ABOVE:g}": len(far),
    }
    return [
        "| what | value |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in values.items()),
    ]


def explanations(
    region: Path, records: dict[str, dict[str, Any]], far: dict[str, float]
) -> list[str]:
    """Make the table of how far above the minimum each fit of plain pyhf stopped."""
    lines = [
        "",
        "How far above the minimum plain pyhf stopped, in 2 NLL:",
        "",
        "| patch | difference | q_A | free | fixed | background | Asimov fixed | Asimov free |",
        "|---|---|---|---|---|---|---|---|",
    ]
    workspace = read_pallet_json(region / "workspace.json")
    patchset = parse_patchset(read_pallet_json(region / "patchset.json"), region / "patchset.json")
    for patch in patchset.patches:
        if patch.name in far:
            model, data = build_model(apply(workspace, patch), FitSettings())
            cells = [f"{value:.0e}" for value in plain_pyhf_excess(model, data)]
            q_asimov = records[patch.name]["q_asimov"]
            lines.append(
                f"| {patch.name} | {far[patch.name]:.0e} | {q_asimov:.1e} | {' | '.join(cells)} |"
            )
    return lines


def plain_pyhf_excess(model: Any, data: np.ndarray) -> list[float]:
    """Compute 2 NLL above the minimum of the five fits of ``pyhf.infer.hypotest`` with mu = 1."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        _, calculator = pyhf.infer.hypotest(1.0, data, model, return_calculator=True)
    points = calculator.fitted_pars
    source = np.asarray(points.asimov_pars)
    asimov = np.asarray(model.expected_data(source))
    fits = (
        (points.free_fit_to_data, data, None),
        (points.fixed_poi_fit_to_data, data, 1.0),
        (source, data, 0.0),
        (points.fixed_poi_fit_to_asimov, asimov, 1.0),
    )
    excesses = [
        stopped_above(Likelihood(model, on, mu), np.asarray(point)) for point, on, mu in fits
    ]
    free = Likelihood(model, asimov, None)
    return [
        *excesses,
        free.twice_nll(np.asarray(points.free_fit_to_asimov)) - free.twice_nll(source),
    ]


def stopped_above(likelihood: Likelihood, point: np.ndarray) -> float:
    """Compute by how much Newton steps lower 2 NLL from where an optimizer stopped."""
    start = likelihood.start(point)
    _, evidence, _ = polish(likelihood, start, edm=1e-9)
    return likelihood.twice_nll(start) - evidence.twice_nll


def is_usable(reference: dict[str, Any] | None) -> bool:
    """Return true for a reference with numbers."""
    return (
        reference is not None
        and reference.get("CLs_obs") is not None
        and math.isfinite(reference["CLs_obs"])
    )


def difference(record: dict[str, Any], expected: dict[str, Any]) -> float:
    """Return the largest difference in the observed and the five expected CLs."""
    ours = [record["CLs_obs"], *record["CLs_exp"]]
    theirs = [expected["CLs_obs"], *expected["CLs_exp"]]
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
