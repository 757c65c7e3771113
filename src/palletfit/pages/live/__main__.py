"""Show live pages and results in a browser on another machine, through ssh.

    python -m palletfit.live results --port 8765

serves the live pages, plots, tables and records below results/, and report.html or report.zip
beside it, to this machine alone (the loopback interface). On the machine with the browser:

    ssh -L 8765:127.0.0.1:8765 THIS_MACHINE

and then open http://127.0.0.1:8765/ there.
"""

from __future__ import annotations

import argparse
import html
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from palletfit.config import NAME_PATTERN
from palletfit.errors import ConfigError

#: Types of the files that are served, by the ending of their names.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".png": "image/png",
    ".pdf": "application/pdf",
    ".gz": "application/gzip",
    ".zip": "application/zip",
    ".parquet": "application/vnd.apache.parquet",
}
#: Reports of Snakemake, which are beside the folder of results.
_REPORTS = ("report.html", "report.zip")
#: Endings of the files of an analysis that the list names, in its order.
_LISTED = (".html", ".png", ".csv")
#: Live page that is opened at once if there is nothing else.
_LIVE = re.compile(rf"/{NAME_PATTERN}/live(?:-[a-z_]+)?\.html")
_LOOPBACK = frozenset({"127.0.0.1", "localhost"})
_STYLE = (
    ":root{color-scheme:light dark}body{max-width:60rem;margin:1.5rem auto;padding:0 1rem;"
    "font:15px/1.6 sans-serif;overflow-wrap:anywhere}li{margin:.1rem 0}"
)


class Server(ThreadingHTTPServer):
    """Server of live pages and results on the loopback interface.

    Parameters
    ----------
    results
        The folder of all results.
    port
        Port to listen on; 0 selects a free one.
    """

    daemon_threads = True

    def __init__(self, results: Path, port: int) -> None:
        self.results = results
        super().__init__(("127.0.0.1", port), _Handler)

    def listed(self) -> dict[str, list[str]]:
        """List the names of the files to look at, by analysis; reports are of no analysis."""
        folder = self.results.resolve()
        reports = [name for name in _REPORTS if (folder.parent / name).is_file()]
        files = {
            analysis.name: [
                path.name
                for ending in _LISTED
                for path in sorted(analysis.glob(f"*{ending}"), key=_rank)
            ]
            for analysis in sorted(path for path in folder.glob("*") if path.is_dir())
        }
        return {name: names for name, names in {"": reports, **files}.items() if names}

    def find(self, path: str) -> Path | None:
        """Return the file of a path; None if it is none of those that are served.

        Parameters
        ----------
        path
            Path of a request, such as ``/demo/live.html``.
        """
        parts = unquote(path).split("/")[1:]
        hidden = any(part in ("", "..") or part.startswith(".") or "\0" in part for part in parts)
        if not parts or hidden or Path(parts[-1]).suffix not in _TYPES:
            return None
        folder = self.results.resolve()
        if len(parts) == 1:
            folder = folder.parent
            if parts[0] not in _REPORTS:
                return None
        file = folder.joinpath(*parts).resolve()
        # A link may lead out of the folder.
        return file if file.is_relative_to(folder) and file.is_file() else None


def _rank(path: Path) -> tuple[bool, str]:
    """Order live pages before all others."""
    return not path.name.startswith("live"), path.name


class _Handler(BaseHTTPRequestHandler):
    """Handler that answers with a file, or with the list of files."""

    server: Server
    server_version, sys_version = "palletfit", ""

    def do_GET(self) -> None:
        # A page of another site must not read this one through its own host name.
        if self.headers.get("Host", "").partition(":")[0] not in _LOOPBACK:
            self._answer(HTTPStatus.FORBIDDEN, "This server answers to 127.0.0.1 only.")
        elif self.path == "/":
            self._answer_with_list(self.server.listed())
        elif (file := self.server.find(self.path)) is not None:
            self._answer_with_file(file)
        else:
            words = "There is no such page (yet); only results and reports are served."
            self._answer(HTTPStatus.NOT_FOUND, words)

    do_HEAD = do_GET  # noqa: N815

    def _answer_with_list(self, listed: Mapping[str, Sequence[str]]) -> None:
        paths = [f"/{name}/{file}" for name, files in listed.items() for file in files]
        if len(paths) == 1 and _LIVE.fullmatch(paths[0]):
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", paths[0])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        lines = []
        for name, files in listed.items():
            base = f"/{name}/" if name else "/"
            links = "".join(
                f'<li><a href="{quote(base + file)}">{html.escape(file)}</a></li>' for file in files
            )
            lines.append(f"<h2>{html.escape(name) or 'report'}</h2><ul>{links}</ul>")
        self._answer(HTTPStatus.OK, "".join(lines) or "There is no page yet.")

    def _answer_with_file(self, file: Path) -> None:
        try:
            with file.open("rb") as content:
                self._head(HTTPStatus.OK, _TYPES[file.suffix], os.fstat(content.fileno()).st_size)
                if self.command == "GET":
                    shutil.copyfileobj(content, self.wfile)
        except ConnectionError:
            self.close_connection = True  # the browser went to another page
        except OSError:
            self._answer(HTTPStatus.NOT_FOUND, "The file cannot be read.")

    def _answer(self, status: HTTPStatus, text: str) -> None:
        content = (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            '<meta http-equiv="refresh" content="2"><link rel="icon" href="data:,">'
            f"<title>palletfit</title><style>{_STYLE}</style></head><body>{text}</body></html>\n"
        ).encode()
        self._head(status, _TYPES[".html"], len(content))
        if self.command == "GET":
            self.wfile.write(content)

    def _head(self, status: HTTPStatus, kind: str, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log no requests."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted.

    Raises
    ------
    ConfigError
        There is no such folder, or the port cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m palletfit.live",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "results", type=Path, nargs="?", default=Path("results"), help="folder (%(default)s)"
    )
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one (%(default)s)")
    options = parser.parse_args(arguments)
    if not options.results.is_dir():
        raise ConfigError(
            "There is no such folder.",
            remedy="Name the folder of all results, usually `results`.",
            file=options.results,
        )
    try:
        server = Server(options.results, options.port)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"Port {options.port} cannot be used: {error}.",
            remedy="Choose another --port, or 0 for a free one.",
        ) from None
    with server, suppress(KeyboardInterrupt):
        port = server.server_address[1]
        sys.stdout.write(
            f"http://127.0.0.1:{port}/ (from elsewhere: ssh -L {port}:127.0.0.1:{port} HERE)\n"
        )
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    try:
        main()
    except ConfigError as wrong:
        sys.exit(str(wrong))
