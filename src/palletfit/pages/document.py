"""The head of a page in one HTML file, with the policy of what may run in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence

from palletfit.config import Analysis
from palletfit.planes.colours import COLOURS
from palletfit.planes.mathtext import to_html


def head(
    title: str,
    style: str,
    scripts: Sequence[str],
    *,
    images: str = "data:",
    attributes: str = "",
    refresh: float | None = None,
) -> Iterator[str]:
    """Write the lines of a page before its content.

    Parameters
    ----------
    title
        Title, as HTML.
    style
        Style sheet of the page; the colours of plots are its variables.
    scripts
        Text of the scripts of the page.
    images
        Sources of images, in the notation of a content security policy.
    attributes
        Further attributes of the root element, each after a space.
    refresh
        Seconds after which a browser without scripts loads the page again.
    """
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    # Names in a page come from archives: whatever they may hold, no other script runs.
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        f"img-src {images}; form-action 'none'; base-uri 'none'"
    )
    colours = "".join(f"--{name}:{value};" for name, value in COLOURS.items())
    yield "<!DOCTYPE html>"
    yield f'<html lang="en"{attributes}><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width">'
    if refresh is not None:
        yield f'<noscript><meta http-equiv="refresh" content="{refresh:g}"></noscript>'
    yield f'<link rel="icon" href="data:,"><title>{title}</title>'
    yield f"<style>:root{{{colours}}}\n{style}</style></head><body>"


def title_parts(analysis: Analysis) -> list[str]:
    """Split the title of an analysis at its semicolons, as HTML."""
    return [to_html(line.strip()) for line in analysis.title.split(";")]


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
