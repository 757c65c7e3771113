"""Titles with mathematics as HTML."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palletfit.config import load_analysis
from palletfit.planes.mathtext import to_html, to_text

ANALYSES = Path(__file__).parents[3] / "config" / "analyses"
TILDE, BAR = "\N{COMBINING TILDE}", "\N{COMBINING MACRON}"


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("mass [GeV]", "mass [GeV]"),
        (r"$m(\tilde{\chi}^{0}_{1})$ [GeV]", f"<i>m</i>(χ{TILDE}<sup>0</sup><sub>1</sub>) [GeV]"),
        (r"$\tilde\tau$", f"τ{TILDE}"),
        (r"$h\to b\bar{b}$", f"<i>h</i> → <i>bb{BAR}</i>"),
        (r"$\sqrt{s} = 13$ TeV, 139 fb$^{-1}$", "√<i>s</i> = 13 TeV, 139 fb<sup>−1</sup>"),  # noqa: RUF001
        (r"$\sqrt{a + b}$", "√(<i>a</i> + <i>b</i>)"),
        (r"$p_\mathrm{T}^2 \geq 5$", "<i>p</i><sub>T</sub><sup>2</sup> ≥ 5"),
        (
            r"$m_{a,b}$, $f(x, y)$",
            "<i>m</i><sub><i>a</i>,<i>b</i></sub>, <i>f</i>(<i>x</i>, <i>y</i>)",
        ),
        (r"$\text{a b}\ell\nu$", "a bℓν"),  # noqa: RUF001
        (r"$-1 < x$", "−1 &lt; <i>x</i>"),  # noqa: RUF001
        (r"$\frac{1}{2}\cdot\infty$", "1/2 · ∞"),
        (r"costs \$5 or $5", "costs $5 or $5"),
        (r"$\unknown{x}$", "unknown<i>x</i>"),
        ("$x_$, ${{a$, $}$", "<i>x</i><sub></sub>, <i>a</i>, "),
    ],
)
def test_titles(title: str, expected: str) -> None:
    assert to_html(title).replace("\N{THIN SPACE}", " ").replace(",  ", ", ") == expected


@pytest.mark.parametrize(
    "title", ["<script>a & b</script>", r"$<b>\lt\foo{<b>}$", "$" + "{" * 9999 + "<$"]
)
def test_what_is_no_mathematics_is_escaped(title: str) -> None:
    assert not re.search(r"<(?!/?(?:i|sub|sup)>)", to_html(title))
    assert "<" in to_text(title)


@given(st.text(alphabet="$\\{}^_<>&ab1 -,'"))
def test_any_text_gives_tags_that_are_closed(text: str) -> None:
    markup = to_html(text)
    opened = []
    for closing, tag in re.findall(r"<(/?)(\w+)>", markup):
        if closing:
            assert opened.pop() == tag
        else:
            opened.append(tag)
    assert not opened
    assert not re.search(r"&(?!amp;|lt;|gt;)", markup)


@pytest.mark.parametrize("path", sorted(ANALYSES.glob("*.yaml")), ids=lambda path: path.stem)
def test_titles_of_all_analyses_are_understood(path: Path) -> None:
    analysis, _ = load_analysis(path.stem, ANALYSES)
    titles = [analysis.title]
    for plane in analysis.planes.values():
        titles += filter(None, (plane.x_title, plane.y_title, plane.title))
        titles += [plane.forbidden.label or ""] if plane.forbidden else []
    for title in titles:
        assert not set("\\${}^_") & set(to_text(title)), title
