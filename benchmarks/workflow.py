"""Time the whole workflow from archive to contour, in a new folder and with cold caches.

    python benchmarks/workflow.py --cores 2
    python benchmarks/workflow.py --cores 2 --analyses 1Lbb --cache FOLDER
    python benchmarks/workflow.py --cores 2 --analyses 1Lbb --cache FOLDER --settings fit.yaml

FOLDER is a download cache, as ``download.cache`` in docs/configuration.md: archives in
``pallets/``, published tables in ``published/ANALYSIS/``. Nothing else is used, so that no time
depends on a network; the built-in analysis ``demo`` needs none. The working folder, the user's
caches (compiled steps, fonts, Snakemake's own) and Python's byte code are new and temporary. Only
the operating system's cache of files is as it is.

The first table is the wall time of the whole command, the second that of every job, as Snakemake's
benchmark files have it; what is missing between the two is Snakemake itself. CPU time and memory
are samples: those of worker processes that end between two of them are missing.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from common import describe, machine, markdown, parser, positive, version, write

PROJECT = Path(__file__).resolve().parents[1]
#: Settings of the caller's shell that a plain run does not have.
_HIDDEN = re.compile(r"(OMP|OPENBLAS|MKL|RAYON)_|SNAKEMAKE|PYTHONDONTWRITEBYTECODE")


def main() -> None:
    """Print the tables."""
    arguments = _parser().parse_args()
    if arguments.cache is not None and not arguments.cache.is_dir():
        raise SystemExit(f"The download cache {arguments.cache} is no folder: name another one.")
    environment = {**machine(), "snakemake": version("snakemake")}
    print(f"{describe(environment)}\n", flush=True)
    runs = [run(arguments) for _ in range(arguments.repeats)]
    print(f"{summary(runs, arguments.cores)}\n\n{jobs_table(runs)}")
    record = {"machine": environment, "cores": arguments.cores, "runs": runs}
    write(arguments.output, {"analyses": arguments.analyses, **record})


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.add_argument("--cores", type=positive, required=True, metavar="N")
    options.add_argument("--analyses", nargs="+", default=["demo"], metavar="NAME", help="(demo)")
    options.add_argument("--cache", type=Path, metavar="FOLDER", help="download cache")
    options.add_argument(
        "--settings", type=Path, metavar="FILE", help="further settings, as in config/config.yaml"
    )
    options.add_argument("--repeats", type=positive, default=1, metavar="N", help="(%(default)s)")
    options.add_argument("targets", nargs="*", help="files to make instead of everything")
    return options


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the workflow once, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="palletfit-benchmark-") as name:
        folder = Path(name)
        settings: dict[str, Any] = {
            "analyses": arguments.analyses,
            "download": {"offline": True},
        }
        if arguments.cache is not None:
            settings["download"]["cache"] = str(arguments.cache.resolve())
        file = folder / "config.yaml"
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        further = [str(arguments.settings.resolve())] if arguments.settings else []
        command = [
            *(sys.executable, "-m", "snakemake", *arguments.targets),
            *("--snakefile", str(PROJECT / "Snakefile"), "--directory", str(folder)),
            *("--configfile", *further, str(file)),
            *("--profile", str(PROJECT / "profiles" / "local"), "--cores", str(arguments.cores)),
        ]
        began = time.perf_counter()
        done = subprocess.run(  # noqa: S603
            command,
            cwd=PROJECT,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"{done.stdout}\nThe run failed: see above.")
        return {"seconds": seconds, "jobs": _jobs(folder), "patches": _patches(folder)}


def _environment(folder: Path) -> dict[str, str]:
    """Return the caller's environment, but with caches that are empty."""
    environment = {name: value for name, value in os.environ.items() if not _HIDDEN.match(name)}
    cache = folder / "cache"
    return {
        **environment,
        "XDG_CACHE_HOME": str(cache),
        "MPLCONFIGDIR": str(cache / "matplotlib"),
        "PYTHONPYCACHEPREFIX": str(cache / "bytecode"),
    }


def _jobs(folder: Path) -> list[dict[str, Any]]:
    """Read Snakemake's benchmark files, in the order in which jobs ended."""
    jobs = []
    logs = folder / "logs"
    for path in sorted(logs.rglob("*.tsv"), key=lambda path: path.stat().st_mtime_ns):
        with path.open(encoding="utf-8", newline="") as lines:
            (row,) = csv.DictReader(lines, delimiter="\t")
        jobs.append(
            {
                "job": str(path.relative_to(logs).with_suffix("")),
                "seconds": float(row["s"]),
                "cpu_seconds": _number(row["cpu_time"]),
                "max_rss_mib": _number(row["max_rss"]),
            }
        )
    return jobs


def _number(text: str) -> float | None:
    """Read a number, which jobs that end at once do not have."""
    try:
        return float(text)
    except ValueError:
        return None


def _patches(folder: Path) -> dict[str, int]:
    """Count patches by status."""
    statuses: Counter[str] = Counter()
    for path in folder.glob("results/*/*/hypotest.json"):
        entries = json.loads(path.read_text(encoding="utf-8"))["patches"]
        statuses.update(entry["status"] for entry in entries.values())
    return dict(statuses)


def summary(runs: Sequence[dict[str, Any]], cores: int) -> str:
    """Write one row a run."""
    rows = []
    for number, run_record in enumerate(runs, start=1):
        inside = sum(job["seconds"] for job in run_record["jobs"])
        states = ", ".join(f"{count} {status}" for status, count in run_record["patches"].items())
        rows.append([number, cores, states, f"{run_record['seconds']:.1f}", f"{inside:.1f}"])
    return markdown(("run", "cores", "patches", "whole command, s", "all jobs, s"), rows)


def jobs_table(runs: Sequence[dict[str, Any]]) -> str:
    """Write one row a job: its wall time in every run, and CPU time and memory in the last one."""
    names = [job["job"] for job in runs[-1]["jobs"]]
    seconds = [{job["job"]: job["seconds"] for job in run_record["jobs"]} for run_record in runs]
    last = {job["job"]: job for job in runs[-1]["jobs"]}
    rows = [
        [
            name,
            *(f"{of[name]:.1f}" for of in seconds),
            *(_shown(last[name][key]) for key in ("cpu_seconds", "max_rss_mib")),
        ]
        for name in names
    ]
    walls = [f"s, run {number}" for number in range(1, len(runs) + 1)] if runs[1:] else ["s"]
    return markdown(("job", *walls, "CPU s", "largest MiB"), rows)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main()
