"""Compare every minimum of the batched engine with the lowest that pyhf's own optimizers find.

    python benchmarks/parity_peers.py BkgOnly.json patchset.json peers.jsonl
    python benchmarks/parity.py BkgOnly.json patchset.json peers.jsonl --output parity.csv

    python benchmarks/parity.py BkgOnly.json patchset.json parity.csv

The first command takes hours, the others a minute: the third compares with the peers of an earlier
table again, whose Asimov data are not known any more. Every fit is compared in 2 NLL, evaluated
with pyhf's likelihood: ``background``, ``free`` and ``fixed`` on the data, and ``asimov_fixed`` on
the Asimov data that the peers made. Positive: the engine ended above the peers' lowest minimum. For
some patches (``--check``) the engine's 2 NLL is evaluated by pyhf at the engine's parameters, too.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyhf

from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.reference.hypotests import build_model
from palletfit.errors import PalletfitError
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.patches import Patch, apply
from palletfit.pallet.patchset import parse_patchset

PEERS = ("scipy", "minuit")
FITS = {"background": 0.0, "free": None, "fixed": 1.0}
#: A peer's fit that ended above the engine's by more than this stopped early or elsewhere.
LIMIT = 1e-4


def read_peers(path: Path) -> dict[str, dict[str, Any]]:
    """Read the last line of each patch, or the part of it that a table holds."""
    if path.suffix == ".csv":
        return read_table(path)
    lines = (json.loads(line) for line in path.read_text().splitlines())
    return {line["patch"]: line for line in lines if "fits" in line}


def read_table(path: Path) -> dict[str, dict[str, Any]]:
    """Read the ends of the peers, by patch, from a table that this script has written."""
    peers: dict[str, dict[str, Any]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["fit"] in FITS:
                ends = {
                    peer: {"twice_nll": float(row[peer]) if row[peer] else None} for peer in PEERS
                }
                fits = peers.setdefault(row["patch"], {"fits": {}})["fits"]
                fits[row["fit"]] = {"optimizers": ends}
    return peers


def compare(workspace: Any, patches: list[Patch], peers: dict[str, Any]) -> list[dict[str, Any]]:
    """Compute one row a fit: how far the engine and each peer ended above the lowest."""
    engine = BatchedEngine(workspace, FitSettings())
    rows = []
    for patch, result in engine.hypotests([patch for patch in patches if patch.name in peers]):
        if isinstance(result, PalletfitError):
            continue
        line = peers[patch.name]
        ours = {name: result.fits[name] for name in FITS}
        if "asimov" in line:
            source = line["asimov"]["parameters"]
            ours["asimov_fixed"] = engine.fit(patch, 1.0, asimov=source).evidence
        for name, fit in ours.items():
            ends = {
                optimizer: end["twice_nll"]
                for optimizer, end in line["fits"][name]["optimizers"].items()
                if end["twice_nll"] is not None
            }
            lowest = min(ends.values(), default=float("nan"))
            rows.append(
                {
                    "patch": patch.name,
                    "fit": name,
                    "twice_nll": fit.twice_nll,
                    "above": fit.twice_nll - lowest,
                    **{peer: ends.get(peer) for peer in PEERS},
                    "edm": fit.edm,
                    "agreed": fit.agreed,
                    "starts": len(fit.attempts),
                    "CLs_obs": result.p_values.CLs_obs,
                }
            )
    return rows


def check(workspace: Any, patch: Patch) -> float:
    """Compute the largest difference of the engine's 2 NLL to pyhf's at the same parameters."""
    engine = BatchedEngine(workspace, FitSettings())
    model, data = build_model(apply(workspace, patch), FitSettings())
    worst = 0.0
    for mu in FITS.values():
        best = engine.fit(patch, mu)
        point = np.array([best.parameters[name] for name in model.config.par_names])
        worst = max(worst, abs(-2 * float(model.logpdf(point, data)[0]) - best.twice_nll))
    return worst


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("patchset", type=Path)
    parser.add_argument("peers", type=Path)
    parser.add_argument("--check", type=int, default=5, help="patches to evaluate with pyhf")
    parser.add_argument("--output", type=Path, help="CSV with one row a fit")
    arguments = parser.parse_args()
    pyhf.set_backend("numpy")
    workspace = read_pallet_json(arguments.workspace)
    patches = parse_patchset(read_pallet_json(arguments.patchset), arguments.patchset).patches
    peers = read_peers(arguments.peers)
    rows = compare(workspace, list(patches), peers)
    print("| fit | patches | and Minuit | largest excess | peers above by 1e-4 | by 1e-2 | most |")
    print("|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["fit"] for row in rows):
        fits = [row for row in rows if row["fit"] == name]
        above = np.array([row["above"] for row in fits])
        with_minuit = sum(row["minuit"] is not None for row in fits)
        print(
            f"| {name} | {len(fits)} | {with_minuit} | {np.nanmax(above):.1e} "
            f"| {np.sum(above < -LIMIT)} | {np.sum(above < -1e-2)} | {-np.nanmin(above):.1e} |"
        )
    for row in sorted(rows, key=lambda row: -row["above"])[:5]:
        if row["above"] > 1e-6:
            print(f"  above the peers: {row}")
    chosen = [patch for patch in patches if patch.name in peers]
    for patch in chosen[:: max(1, len(chosen) // max(arguments.check, 1))][: arguments.check]:
        print(f"  {patch.name}: pyhf's 2 NLL differs by {check(workspace, patch):.1e}")
    if arguments.output:
        with arguments.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
