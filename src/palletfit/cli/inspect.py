"""Command ``palletfit inspect``: say what is in a published likelihood, and propose an analysis."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import click

from palletfit.config import DownloadSettings
from palletfit.pallet.inspection import inspect


@click.command(
    "inspect", epilog="Example: palletfit inspect 10.17182/hepdata.90607.v3/r3 --write mine.yaml"
)
@click.argument("source")
@click.option(
    "--write",
    "target",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write an analysis file for the workflow, with comments.",
)
@click.option("--force", is_flag=True, help="Let --write replace files.")
@click.option("--name", metavar="NAME", help="Name of the analysis.")
@click.option(
    "--any-digest",
    is_flag=True,
    help="Take patchsets without a digest of their workspace, or with a wrong one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option(
    "--cache",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that is searched before the network, and keeps what is fetched.",
)
@click.option("--offline", is_flag=True, help="Never use the network.")
@click.option(
    "--allow-host",
    "hosts",
    metavar="HOST",
    multiple=True,
    help="Further host that files may come from; HEPData and doi.org are allowed.",
)
def command(
    *,
    source: str,
    target: Path | None,
    force: bool,
    name: str | None,
    any_digest: bool,
    as_json: bool,
    cache: Path | None,
    offline: bool,
    hosts: tuple[str, ...],
) -> None:
    """Say what is in SOURCE, and propose an analysis of it.

    SOURCE is the DOI of a HEPData resource, an address, an archive, a folder, a file, or a name
    that `palletfit catalogue` lists. Workspaces, patchsets, files of patch operations and HS3 files
    are recognised by their content, also in archives within archives.
    """
    defaults = DownloadSettings()
    settings = DownloadSettings(
        cache=cache, offline=offline, allowed_hosts=[*defaults.allowed_hosts, *hosts]
    )
    inspection = inspect(source, any_digest=any_digest, name=name, settings=settings)
    files = [] if target is None else inspection.write(target, overwrite=force)
    if as_json:
        content = {**inspection.as_json(), "written": [str(file) for file in files]}
        click.echo(json.dumps(content, indent=2, allow_nan=False))
        return
    click.echo(inspection.table(shutil.get_terminal_size((100, 24)).columns))
    for file in files:
        click.echo(f"\nWritten: {file}")
        click.echo(f"  run it: palletfit run --analysis {shlex.quote(str(file))}")
