"""Show live pages in a browser on another machine, through ssh.

    python -m palletfit.live results --port 8765

serves the live pages of all analyses below results/, and nothing else, to this machine alone (the
loopback interface). On the machine with the browser:

    ssh -L 8765:127.0.0.1:8765 THIS_MACHINE

and then open http://127.0.0.1:8765/ there.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

from palletfit.config import NAME_PATTERN
from palletfit.errors import ConfigError

#: Paths that are served.
_PATH = re.compile(rf"/({NAME_PATTERN})/(live(?:-[a-z_]+)?\.html)")
_LOOPBACK = frozenset({"127.0.0.1", "localhost"})


class Server(ThreadingHTTPServer):
    """Server of live pages on the loopback interface.

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

    def pages(self) -> list[str]:
        """List the paths of existing pages."""
        files = sorted(self.results.glob("*/live*.html"))
        paths = (f"/{path.parent.name}/{path.name}" for path in files)
        return [path for path in paths if _PATH.fullmatch(path)]


class _Handler(BaseHTTPRequestHandler):
    """Handler that answers with a page, or with the list of pages."""

    server: Server
    server_version, sys_version = "palletfit", ""

    def do_GET(self) -> None:
        # A page of another site must not read this one through its own host name.
        if self.headers.get("Host", "").partition(":")[0] not in _LOOPBACK:
            self._answer(HTTPStatus.FORBIDDEN, "This server answers to 127.0.0.1 only.")
        elif self.path == "/":
            self._answer_with_list(self.server.pages())
        elif (match := _PATH.fullmatch(self.path)) is not None:
            try:
                page = (self.server.results / match[1] / match[2]).read_text("utf-8")
            except OSError:
                self._answer(HTTPStatus.NOT_FOUND, "There is no such page (yet).")
            else:
                self._answer(HTTPStatus.OK, page)
        else:
            self._answer(HTTPStatus.NOT_FOUND, "Only live pages are served.")

    do_HEAD = do_GET  # noqa: N815

    def _answer_with_list(self, pages: Sequence[str]) -> None:
        if len(pages) == 1:
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", pages[0])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        links = "".join(
            f'<li><a href="{quote(path)}">{html.escape(path.strip("/"))}</a></li>' for path in pages
        )
        self._answer(HTTPStatus.OK, f"<ul>{links}</ul>" if pages else "There is no page yet.")

    def _answer(self, status: HTTPStatus, text: str) -> None:
        if not text.startswith("<!DOCTYPE"):
            text = (
                '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
                '<meta http-equiv="refresh" content="2"><link rel="icon" href="data:,">'
                f"<title>palletfit</title></head><body>{text}</body></html>\n"
            )
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

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
