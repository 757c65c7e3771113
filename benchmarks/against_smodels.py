"""Compare SModelS's own fits of pyhf models with those of palletfit: limits, likelihoods and times.

    python benchmarks/against_smodels.py SUSY-2018-05-ewk.json.xz
    python benchmarks/against_smodels.py *.json.xz --sample 2 --output smodels.json

Each file is a background-only workspace as SModelS keeps it. Signals are made up: so many events in
all signal regions, in proportions drawn at random, and as many below zero in one of them with
``--negative``. Both computers give what SModelS asks of a model: observed and expected upper limit,
the minimum of the likelihood, and the likelihoods with and without signal.

SModelS: ``pip install smodels``.
"""

from __future__ import annotations

import json
import logging
import lzma
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from against_spey import TooSlowError, time_limit
from common import describe, machine, markdown, parser, positive, use_one_thread, version, write

#: NLL differences below this are the tolerance of an optimizer.
SAME = 1e-3


@dataclass(frozen=True)
class Answers:
    """Answers of a computer, and its wall and CPU time in seconds."""

    values: dict[str, float | None]
    wall: float
    cpu: float
    error: str = ""


def main() -> None:
    """Print the tables."""
    arguments = _parser().parse_args()
    use_one_thread()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    environment = {**machine(), "smodels": version("smodels")}
    print(describe(environment))
    print(f"SModelS {environment['smodels']}")
    rows, record = [], []
    for path in arguments.workspaces:
        workspace = read(path)
        for number in range(arguments.sample):
            signals = make_signals(workspace, number, arguments.negative)
            for control in (True, False) if has_controls(workspace) else (True,):
                pair = [
                    ask(kind, workspace, signals, control, arguments.limit)
                    for kind in ("palletfit", "smodels")
                ]
                title = f"{path.name.split('.')[0]}, {'with' if control else 'without'} CRs"
                record.append({"title": title, "answers": [asdict(each) for each in pair]})
                rows.append(_row(title, number, *pair))
                print(" | ".join(map(str, rows[-1])), flush=True)
    header = ("workspace", "signal", "limit", "SModelS", "expected", "SModelS")
    header += ("NLL of SModelS minus ours", "wall time", "SModelS")
    print(f"\n{markdown(header, rows)}")
    write(arguments.output, {"machine": environment, "pairs": record})


def _parser() -> Any:
    options = parser(__doc__)
    options.add_argument("workspaces", type=Path, nargs="+", help="background-only workspaces")
    options.add_argument(
        "--sample", type=positive, default=1, metavar="N", help="signals of each (%(default)s)"
    )
    options.add_argument(
        "--negative", action="store_true", help="with a yield below zero in one region"
    )
    options.add_argument(
        "--limit",
        type=positive,
        default=300,
        metavar="SECONDS",
        help="time of a computer for a signal (%(default)s)",
    )
    return options


def read(path: Path) -> Any:
    """Read a workspace, which may be compressed."""
    content = path.read_bytes()
    return json.loads(lzma.decompress(content) if path.suffix == ".xz" else content)


def _is_control(channel: str) -> bool:
    return "CR" in channel


def has_controls(workspace: Any) -> bool:
    """Say whether a workspace has control regions."""
    return any(_is_control(entry["name"]) for entry in workspace["observations"])


def make_signals(workspace: Any, number: int, negative: bool) -> dict[str, float]:
    """Draw yields in signal regions: about two standard deviations of all observed events."""
    observed = {
        entry["name"]: sum(entry["data"])
        for entry in workspace["observations"]
        if not _is_control(entry["name"])
    }
    rng = np.random.default_rng(number)
    weights = rng.exponential(size=len(observed)) * np.sqrt([1 + c for c in observed.values()])
    total = 2.0 * np.sqrt(sum(observed.values()) + 1.0)
    yields = total * weights / weights.sum()
    if negative:
        yields[int(np.argmin(yields))] *= -1.0
    return dict(zip(observed, yields.tolist(), strict=True))


def make_data(workspace: Any, signals: dict[str, float], control: bool) -> Any:
    """Make the object in which SModelS keeps signals."""
    from smodels.statistics.pyhfInterface import PyhfData

    regions = []
    for entry in workspace["observations"]:
        is_control = _is_control(entry["name"])
        regions.append(
            {
                "smodels": None if is_control else entry["name"],
                "pyhf": entry["name"],
                "type": "CR" if is_control else "SR",
            }
        )
    return PyhfData(
        dict(signals),
        workspace,
        regions,
        includeCRs=control,
        globalInfo=SimpleNamespace(id="benchmark"),
        jsonFileName="model",
    )


def ask(kind: str, workspace: Any, signals: dict[str, float], control: bool, limit: int) -> Answers:
    """Ask one computer for all of them."""
    from smodels.statistics.basicStats import apriori, observed
    from smodels.statistics.pyhfInterface import PyhfUpperLimitComputer

    from palletfit.backends.smodels import UpperLimitComputer

    computers = {"palletfit": UpperLimitComputer, "smodels": PyhfUpperLimitComputer}
    values: dict[str, float | None] = {}
    wall, cpu, error = time.perf_counter(), time.process_time(), ""
    try:
        with time_limit(limit), np.errstate(all="ignore"):
            computer = computers[kind](make_data(workspace, signals, control))
            values["nll_sm"], values["nll_bsm"] = computer.nll(0.0), computer.nll(1.0)
            values["limit"] = computer.getUpperLimitOnMu(observed)
            values["expected"] = computer.getUpperLimitOnMu(apriori)
            minimum = computer.nll_min(observed)
            values |= {"nll_min": minimum["nll_min"], "muhat": minimum["muhat"]}
    except TooSlowError as failure:
        error = str(failure)
    except Exception as failure:  # noqa: BLE001 - whatever a tool raises, the others go on
        error = f"{type(failure).__name__}: {' '.join(str(failure).split())[:200]}"
    return Answers(values, time.perf_counter() - wall, time.process_time() - cpu, error)


def _row(title: str, number: int, ours: Answers, theirs: Answers) -> Sequence[Any]:
    differences = [
        theirs.values[name] - ours.values[name]
        for name in ("nll_min", "nll_bsm", "nll_sm")
        if theirs.values.get(name) is not None and ours.values.get(name) is not None
    ]
    spread = f"{min(differences):.1e} to {max(differences):.1e}" if differences else "-"
    return (
        title,
        number,
        *(_text(answers, name) for name in ("limit", "expected") for answers in (ours, theirs)),
        spread,
        f"{ours.wall:.1f} s",
        f"{theirs.wall:.1f} s",
    )


def _text(answers: Answers, name: str) -> str:
    value = answers.values.get(name)
    return (
        answers.error if name not in answers.values else "none" if value is None else f"{value:.4f}"
    )


if __name__ == "__main__":
    main()
