"""Common parts of the timing scripts: one thread, one pallet, tables, records of the machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from palletfit.engine.records import finite
from palletfit.errors import PalletError
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.patchset import Patchset, parse_patchset

#: Libraries read these when they are imported.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)


def use_one_thread() -> None:
    """Run this script again, in a process whose libraries have one thread, unless this is one."""
    if all(os.environ.get(name) == "1" for name in _THREADS):
        return
    environment = {**os.environ, **dict.fromkeys(_THREADS, "1")}
    done = subprocess.run([sys.executable, *sys.argv], env=environment, check=False)  # noqa: S603
    raise SystemExit(done.returncode)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Make a parser whose help is the script's description, with the option that all have."""
    options = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--output", type=Path, metavar="FILE", help="write everything as JSON, too"
    )
    return options


def positive(text: str) -> int:
    """Read a whole number above zero, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return number


def add_pallet(to: argparse.ArgumentParser) -> None:
    """Ask for a pallet's two files."""
    to.add_argument("workspace", type=Path, help="background-only workspace")
    to.add_argument("patchset", type=Path, help="patchset of its signals")


def read_pallet(arguments: argparse.Namespace) -> tuple[Any, Any, Patchset]:
    """Read workspace and patchset as JSON, and the patches."""
    try:
        workspace, spec = (
            read_pallet_json(arguments.workspace),
            read_pallet_json(arguments.patchset),
        )
        patchset = parse_patchset(spec, arguments.patchset)
    except PalletError as error:
        raise SystemExit(str(error)) from None
    if not patchset.patches:
        raise SystemExit(f"{arguments.patchset} holds no patches: name another patchset.")
    return workspace, spec, patchset


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def write(path: Path | None, record: Any) -> None:
    """Write JSON, if a file is asked for."""
    if path is not None:
        path.write_text(json.dumps(finite(record), indent=2) + "\n", encoding="utf-8")


def peak_memory() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def machine() -> dict[str, Any]:
    """Describe the processor, cores, load and software that times depend on."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: version(name) for name in ("palletfit", "numpy", "scipy", "pyhf")},
    }


def version(package: str) -> str | None:
    """Return the version of an installed package; None if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def describe(environment: dict[str, Any]) -> str:
    """Write one line about a machine."""
    software = ", ".join(
        f"{name} {environment[name]}"
        for name in ("palletfit", "numpy", "scipy", "pyhf", "nextstat", "jax", "snakemake")
        if environment.get(name)
    )
    return (
        f"{environment['processor']}, {environment['cores']} cores, "
        f"load {environment['load']:.1f} at the start; "
        f"Python {environment['python']}, {software}"
    )


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
