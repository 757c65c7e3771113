"""The head of a page in one HTML file, with the policy of what may run in it."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator, Sequence

from palletfit.config import Analysis
from palletfit.planes.colours import COLOURS, DARK, SURFACES
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
    yield "<!DOCTYPE html>"
    yield f'<html lang="en"{attributes}><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    if refresh is not None:
        yield f'<noscript><meta http-equiv="refresh" content="{max(1, round(refresh))}"></noscript>'
    yield f'<link rel="icon" href="data:,"><title>{title}</title>'
    yield f"<style>{_variables()}\n{style}</style></head><body>"


def _variables() -> str:
    """Write the colours as variables of CSS, with those of dark pages."""
    light = COLOURS | {name: colours[0] for name, colours in SURFACES.items()}
    dark = DARK | {name: colours[1] for name, colours in SURFACES.items()}
    words = [
        "".join(f"--{name}:{colour};" for name, colour in colours.items())
        for colours in (light, dark)
    ]
    return (
        f":root{{color-scheme:light dark;{words[0]}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{words[1]}}}}}"
    )


def in_the_dark() -> dict[str, str]:
    """Return the dark colour of each light one, for plots that scripts draw."""
    return {COLOURS[name]: colour for name, colour in DARK.items()} | dict(SURFACES.values())


def title_parts(analysis: Analysis) -> list[str]:
    """Split the title of an analysis at its semicolons, as HTML; add channels, bins and data."""
    title = [to_html(line.strip()) for line in analysis.title.split(";")]
    return [*title, *map(html.escape, analysis.choice_words)]


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
