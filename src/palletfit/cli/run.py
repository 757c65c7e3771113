"""``palletfit run``: the workflow, which Snakemake runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import click

import palletfit
from palletfit.cli.ending import DONE, INTERRUPTED, NOT_TRUSTED
from palletfit.errors import ConfigError


@click.command(
    "run",
    short_help="Run the workflow: all signals of an analysis.",
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Examples:
  palletfit run --analysis 1Lbb
  palletfit run --analysis 1Lbb --dry-run
  palletfit run --analysis 1Lbb limits mu_scan --config fit.minimum=nearest""",
)
@click.option(
    "--analysis", multiple=True, metavar="NAME", help="Analysis; by default the configured."
)
@click.option("--profile", default="local", metavar="NAME", help="Place of fits. Default: local.")
@click.option("--folder", type=click.Path(path_type=Path), help="Folder of the workflow.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[TARGETS AND OPTIONS]")
def command(
    analysis: tuple[str, ...], profile: str, folder: Path | None, arguments: tuple[str, ...]
) -> int:
    """Run the workflow: fits of all signals of an analysis, contours, tables and pages.

    The workflow is the Snakefile of the project: in this folder or above it, or in the folder that
    the project is installed from. What is not an option here goes to Snakemake.
    """
    root = _folder(folder)
    words = _words(root, analysis, profile, arguments)
    if root != Path.cwd():
        click.echo(f"The workflow runs in {root}.", err=True)
    process = subprocess.Popen(words, cwd=root)  # noqa: S603
    while True:
        # Snakemake gets the same signal, and ends its jobs itself.
        with suppress(KeyboardInterrupt):
            code = process.wait()
            break
    if code in (INTERRUPTED, -2):
        return INTERRUPTED
    return DONE if code == 0 else NOT_TRUSTED


def _words(
    root: Path, analysis: tuple[str, ...], profile: str, arguments: tuple[str, ...]
) -> list[str]:
    """Write the command line of Snakemake."""
    named = root / "profiles" / profile
    # Snakemake runs in the folder of the workflow.
    analyses = [
        str(Path(name).absolute()) if Path(name).suffix and Path(name).is_file() else name
        for name in analysis
    ]
    config = [f"analyses={','.join(analyses)}"] if analyses else []
    first = next((n for n, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    targets, rest = list(arguments[:first]), list(arguments[first:])
    if "--config" in rest:
        position = rest.index("--config") + 1
        rest[position:position] = config
    elif config:
        rest = ["--config", *config, *rest]
    return [
        *_snakemake(),
        *("--profile", str(named if named.is_dir() else profile)),
        *rest,
        *(["--", *targets] if targets else []),
    ]


def _snakemake() -> list[str]:
    beside = Path(sys.executable).with_name("snakemake")
    program = str(beside) if beside.exists() else shutil.which("snakemake")
    if program is not None:
        return [program]
    if find_spec("snakemake") is not None:
        return [sys.executable, "-m", "snakemake"]
    raise ConfigError(
        "The workflow needs Snakemake, which is not installed.",
        remedy="In the folder of the project, run `make env` and `source .venv/bin/activate`; all "
        "other commands work without it.",
    )


def _folder(folder: Path | None) -> Path:
    """Find the folder of the workflow."""
    start = Path.cwd() if folder is None else folder.absolute()
    installed = Path(palletfit.__file__).resolve().parents[2]
    choices = [start] if folder is not None else [start, *start.parents, installed]
    for choice in choices:
        if (choice / "Snakefile").is_file() and (choice / "config" / "config.yaml").is_file():
            return choice
    raise ConfigError(
        f"There is no workflow in {start}" + (": no Snakefile." if folder else ", nor above it."),
        remedy="It does not come with the installed package: get a copy of the project's "
        "repository, run `make env` in it, and there `palletfit run`; or name it with --folder.",
    )
