"""Tables in LaTeX, whose names may hold any characters."""

from __future__ import annotations

import re
import string

import pytest

from palletfit.core.latex import escaped, tabulars

#: Commands that LaTeX knows without a package, of those that are written.
COMMANDS = {
    *("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar"),
    *("char", "mu", "tau", "Omega", "lambda"),
}


@pytest.mark.parametrize(
    "text",
    [string.printable, "\\input{/etc/passwd}", "μτΩλ\N{MICRO SIGN}", "é中文😀\u202e\x00\ud800"],
)
def test_no_name_reaches_latex(text: str) -> None:
    written = escaped(text)
    assert all(" " <= character <= "~" for character in written)
    assert {*re.findall(r"\\([A-Za-z]+)", written)} <= COMMANDS
    # What is left without commands has no meaning in LaTeX, at the start of a row either.
    rest = re.sub(r"\\[A-Za-z]+(\d+)?(\{\})?|\\[{}$&#%_]|\$\\\w+\$|\{[\[\]*-]\}", "", written)
    assert not set(rest) & set("\\{}&#%_~^[]*\n")


def test_wide_tables_are_split() -> None:
    rows = [("a", ["1", "2", "3"]), ("b", ["4", "5", "6"])]
    text = tabulars("", ["x", "y", "z"], [rows[:1], rows[1:]], columns=2)
    assert text.count(r"\begin{tabular}{lrr}") == text.count("\\begin{tabular}{lr}\n") == 1
    assert [line for line in text.splitlines() if "&" in line] == [
        r" & x & y \\",
        r"a & 1 & 2 \\",
        r"b & 4 & 5 \\",
        r" & z \\",
        r"a & 3 \\",
        r"b & 6 \\",
    ]
