"""``palletfit serve``: a service for programs in any language."""

from __future__ import annotations

import asyncio
import tempfile
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

import click

from palletfit.cli.ending import DONE, NOT_TRUSTED
from palletfit.cli.inputs import FiniteRange
from palletfit.cli.output import Output
from palletfit.config import DownloadSettings
from palletfit.core.text import counted, printable_lines
from palletfit.errors import BackendError

if TYPE_CHECKING:
    from palletfit.serve.connections import Bounds
    from palletfit.serve.doors import Doors
    from palletfit.serve.models import Models

_LOOPBACK = "127.0.0.1"
_COUNT = click.IntRange(min=1)
_SECONDS = FiniteRange(min=0, min_open=True)


@click.command(
    "serve",
    short_help="Answer points of other programs: JSON lines in, JSON lines out.",
    epilog="""\b
Examples:
  palletfit serve BkgOnly.json
  palletfit serve 1Lbb=BkgOnly.json staus=staus.tar.gz --socket service.sock
  palletfit serve 1Lbb --cache archives --port 5151 --workers 8""",
)
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]SOURCE...")
@click.option(
    "--socket", type=click.Path(path_type=Path), metavar="PATH", help="Listen at a Unix socket."
)
@click.option("--port", type=click.IntRange(0, 65535), help="Listen at a TCP port; 0: a free one.")
@click.option(
    "--host",
    default=_LOOPBACK,
    metavar="ADDRESS",
    help="Address of --port. Default: 127.0.0.1, which only this machine reaches.",
)
@click.option("--workers", type=_COUNT, default=1, help="Processes that fit. Default: 1.")
@click.option(
    "--batch", type=_COUNT, default=32, help="Points that are dropped together. Default: 32."
)
@click.option(
    "--queue", type=_COUNT, default=1024, help="Requests without an answer yet. Default: 1024."
)
@click.option(
    "--line", type=_COUNT, default=4 * 1024**2, help="Bytes of a request. Default: 4194304."
)
@click.option(
    "--connections", type=_COUNT, default=64, help="Connections at the same time. Default: 64."
)
@click.option(
    "--models", "largest", type=_COUNT, default=64, help="Largest number of models. Default: 64."
)
@click.option("--lazy", is_flag=True, help="Read a model's file at the first request for it.")
@click.option(
    "--check/--no-check",
    default=True,
    help="Check workspaces against their schema. Default: --check.",
)
@click.option(
    "--deadline",
    type=_SECONDS,
    default=600.0,
    help="Seconds that the fits of a batch may take. Default: 600.",
)
@click.option(
    "--grace",
    type=FiniteRange(min=0),
    default=60.0,
    help="Seconds for accepted requests after a signal. Default: 60.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder that is searched before the network, and keeps what is fetched.",
)
@click.option("--offline", is_flag=True, help="Never use the network.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is going on.")
def command(
    *,
    models: tuple[str, ...],
    socket: Path | None,
    port: int | None,
    host: str,
    workers: int,
    batch: int,
    queue: int,
    line: int,
    connections: int,
    largest: int,
    lazy: bool,
    check: bool,
    deadline: float,
    grace: float,
    cache: Path | None,
    offline: bool,
    verbose: bool,
) -> int:
    """Answer points of other programs: a JSON object a line in, and one out.

    SOURCE is the file of a workspace or an HS3 document; or an archive, a folder, a DOI or a name
    that `palletfit catalogue` lists, whose workspaces are then NAME/REGION, if there are several.
    Requests come from the standard input, unless --socket or --port is given. docs/serve.md shows
    requests and answers.
    """
    from palletfit.serve.connections import Bounds
    from palletfit.serve.doors import Doors
    from palletfit.serve.models import Models, Named

    doors = Doors(socket, port, host)
    if port is None and host != _LOOPBACK:
        raise click.UsageError("--host is the address of --port, which is not there.")
    if doors.beyond_loopback:
        _say(
            f"warning: other machines may connect to {host}, and nothing authenticates them.\n"
            "  remedy: Leave out --host, and reach the service through ssh."
        )
    Output(verbose=verbose).prepare()
    bounds = Bounds(line=line, queue=queue, connections=connections, grace=grace)
    with tempfile.TemporaryDirectory(prefix="palletfit-") as folder:
        likelihoods = Models(
            [Named.of(text) for text in models],
            Path(folder),
            lazy=lazy,
            check=check,
            largest=largest,
            download=DownloadSettings(cache=cache, offline=offline),
        )
        with _executor(workers, deadline) as executor:
            dropped = asyncio.run(_serve(likelihoods, bounds, doors, executor, workers, batch))
            executor.shutdown(cancel_futures=dropped > 0)
    if dropped:
        _say(f"{counted(dropped, 'request')} without an answer: dropped at the end.")
    return NOT_TRUSTED if dropped else DONE


async def _serve(
    models: Models, bounds: Bounds, doors: Doors, executor: Executor, workers: int, batch: int
) -> int:
    """Serve until the end; return the number of requests that were dropped."""
    from palletfit.serve.batching import Batcher
    from palletfit.serve.connections import Service
    from palletfit.serve.doors import run

    batcher = Batcher(executor, workers=workers, size=batch)
    return await run(Service(models, batcher, bounds), doors, say=_say)


def _executor(workers: int, deadline: float) -> Executor:
    """Make the processes that fit."""
    try:
        from palletfit.executors import LocalExecutor
    except ModuleNotFoundError as error:
        raise BackendError(
            f"The service needs the package {error.name}, which is not installed.",
            remedy=f"Install it (`pip install {error.name}`), or palletfit[workflow].",
        ) from None
    return LocalExecutor(workers=workers, threads=1, deadline=deadline)


def _say(text: str) -> None:
    click.echo(printable_lines(text), err=True)
