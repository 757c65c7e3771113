r"""Convert titles with LaTeX formulas between dollar signs to HTML, without LaTeX.

It supports the formulas of plot titles: letters and symbols, accents, sub- and superscripts, roots.
The tags (``<i>``, ``<sub>``, ``<sup>``) are also known to Plotly. Unknown commands are written
unchanged, and never raise an error.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.entities import html5

#: Symbols for which HTML has another name or none; most other names are the same.
_SYMBOLS = {
    "to": "\N{RIGHTWARDS ARROW}",
    "cdot": "\N{MIDDLE DOT}",
    "partial": "\N{PARTIAL DIFFERENTIAL}",
    "infty": "\N{INFINITY}",
    "neq": "\N{NOT EQUAL TO}",
    "dots": "\N{HORIZONTAL ELLIPSIS}",
    "ldots": "\N{HORIZONTAL ELLIPSIS}",
    "circ": "\N{DEGREE SIGN}",
    "degree": "\N{DEGREE SIGN}",
    ",": "\N{THIN SPACE}",
    ":": "\N{THIN SPACE}",
    ";": " ",
    " ": " ",
    "!": "",
    "quad": "\N{EM SPACE}",
    "qquad": "\N{EM SPACE}\N{EM SPACE}",
    "left": "",
    "right": "",
}
_ACCENTS = {
    "tilde": "\N{COMBINING TILDE}",
    "widetilde": "\N{COMBINING TILDE}",
    "bar": "\N{COMBINING MACRON}",
    "overline": "\N{COMBINING OVERLINE}",
    "hat": "\N{COMBINING CIRCUMFLEX ACCENT}",
    "widehat": "\N{COMBINING CIRCUMFLEX ACCENT}",
    "vec": "\N{COMBINING RIGHT ARROW ABOVE}",
    "dot": "\N{COMBINING DOT ABOVE}",
    "not": "\N{COMBINING LONG SOLIDUS OVERLAY}",
    "slashed": "\N{COMBINING LONG SOLIDUS OVERLAY}",
}
_UPRIGHT = frozenset({"mathrm", "text", "textrm", "mathsf", "operatorname", "rm"})
_FONTS = frozenset({"mathit", "mathbf", "mathcal", "mathscr", "mathbb", "boldsymbol", "it"})
_TOKEN = re.compile(r"\\[A-Za-z]+ ?|\\.|[{}^_]|\s+|.", re.DOTALL)
_MATHEMATICS = re.compile(r"(?<!\\)\$((?:\\.|[^$\\])*)\$", re.DOTALL)
_TAGS = re.compile(r"</?(?:i|sub|sup)>")
_SCRIPTS = {"_": "sub", "^": "sup"}
_WRITTEN = {"-": "\N{MINUS SIGN}", "'": "\N{PRIME}", ",": ",\N{THIN SPACE}"}
#: Symbols with space around them, except in scripts and at the start of a group.
_BINARY = frozenset("=<>+\N{MINUS SIGN}\N{MIDDLE DOT}") | {
    html5[f"{name};"]
    for name in (
        *("pm", "mp", "rightarrow", "leftarrow", "leftrightarrow", "times", "leq", "geq", "ll"),
        *("gg", "ne", "approx", "sim", "simeq", "equiv", "propto", "in"),
    )
}


@dataclass(frozen=True)
class _Style:
    """Style of letters: upright or italic, and in a sub- or superscript or not."""

    upright: bool = False
    script: bool = False


def to_html(text: str) -> str:
    r"""Convert a title to HTML; everything except the generated tags is escaped.

    Examples
    --------
    >>> to_html(r"$m(\tilde{\tau})$ [GeV] & $p_{\mathrm{T}}^{2}$")
    '<i>m</i>(τ̃) [GeV] &amp; <i>p</i><sub>T</sub><sup>2</sup>'
    """
    pieces = []
    end = 0
    for match in _MATHEMATICS.finditer(text):
        pieces += [_plain(text[end : match.start()]), _mathematics(match[1])]
        end = match.end()
    return "".join([*pieces, _plain(text[end:])])


def to_text(text: str) -> str:
    r"""Convert a title to plain text, without tags and escapes.

    Examples
    --------
    >>> to_text(r"$m(\tilde{\chi}^{0}_{1})$ [GeV]")
    'm(χ̃01) [GeV]'
    """
    return html.unescape(_TAGS.sub("", to_html(text)))


def _plain(text: str) -> str:
    return html.escape(text.replace("\\$", "$"), quote=False)


def _mathematics(source: str) -> str:
    tokens = _Tokens(_TOKEN.findall(source))
    try:
        formula = "".join(_sequence(tokens, _Style()))
    except RecursionError:
        return html.escape(source, quote=False)
    return formula.replace("</i><i>", "")


class _Tokens:
    """Tokens of a formula, with access to the next one."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self._at = tokens, 0

    @property
    def next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self) -> str | None:
        token = self.next
        self._at += 1
        return token


def _sequence(tokens: _Tokens, style: _Style) -> Iterator[str]:
    """Convert atoms up to the end of a group."""
    before = ""
    while tokens.next is not None:
        if tokens.next == "}":
            tokens.take()
            return
        atom = _atom(tokens, style)
        if html.unescape(atom) in _BINARY and before not in ("", "(") and not style.script:
            atom = f" {atom} "
        before = atom.strip() or before
        yield atom


def _atom(tokens: _Tokens, style: _Style) -> str:
    piece = tokens.take()
    if piece is None or piece in "{}":
        return "".join(_sequence(tokens, style)) if piece == "{" else ""
    if piece in _SCRIPTS:
        tag = _SCRIPTS[piece]
        return f"<{tag}>{_argument(tokens, replace(style, script=True))}</{tag}>"
    if piece.startswith("\\") and len(piece) > 1:
        return _command(piece[1:].rstrip() or " ", tokens, style)
    if piece.isspace():
        return " " if style.upright else ""
    if piece in _WRITTEN:
        return _WRITTEN[piece].strip() if style.script else _WRITTEN[piece]
    if piece.isascii() and piece.isalpha() and not style.upright:
        return f"<i>{piece}</i>"
    return html.escape(piece, quote=False)


def _argument(tokens: _Tokens, style: _Style) -> str:
    """Convert the argument of a command or script: a group, or one atom."""
    while tokens.next is not None and tokens.next.isspace():
        tokens.take()
    return _atom(tokens, style)


def _command(name: str, tokens: _Tokens, style: _Style) -> str:
    if name in _ACCENTS:
        return _accented(_argument(tokens, style), _ACCENTS[name])
    if name in _UPRIGHT or name in _FONTS:
        return _argument(tokens, replace(style, upright=name in _UPRIGHT))
    if name == "sqrt":
        inside = _argument(tokens, style)
        return f"√{inside}" if len(_TAGS.sub("", inside)) == 1 else f"√({inside})"
    if name in ("frac", "dfrac", "tfrac"):
        return f"{_argument(tokens, style)}/{_argument(tokens, style)}"
    return html.escape(
        _SYMBOLS[name] if name in _SYMBOLS else html5.get(f"{name};", name), quote=False
    )


def _accented(base: str, accent: str) -> str:
    """Put an accent on the first letter, which may be inside ``<i>``."""
    match = re.match(r"(?:<i>)?(?:&\w+;|[^<&])", base)
    if match is None:
        return base
    return f"{match[0]}{accent}{base[match.end() :]}"
