"""Expressions of analysis files are arithmetic, and nothing else."""

from __future__ import annotations

import pytest

from palletfit.expressions import names_in, require_names


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("m1", {"m1"}),
        ("m1 - 125.5", {"m1"}),
        ("(mn2 - mn1) / 2 ** 3", {"mn2", "mn1"}),
        ("mn2 - mn1 == 130 and not msb < 500", {"mn2", "mn1", "msb"}),
        ("(a > 1) & ~(b <= 2) | (c != 3)", {"a", "b", "c"}),
        ("`m(N1)` + `m(C1)`", {"m(N1)", "m(C1)"}),
        ("130", set()),
    ],
)
def test_arithmetic_and_comparisons(expression: str, names: set[str]) -> None:
    assert names_in(expression) == names


@pytest.mark.parametrize(
    "expression",
    [
        "@pd.io.common.os.system('touch x')",
        "@np.f2py.os.getcwd()",
        "m1.to_csv('x')",
        "m1.__class__",
        "__import__('os')",
        "abs(m1)",
        "m1[0]",
        "'text'",
        "lambda: 1",
        "[m for m in m1]",
        "(m1 := 3)",
        "m1 = 3",
        "m1; m2",
        "",
        "(" * 500,
    ],
)
def test_anything_else_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"expression|more than"):
        names_in(expression)


def test_unknown_names_are_named() -> None:
    with pytest.raises(ValueError, match="uses m3, but the labels are: m1, m2"):
        require_names("m1 + m3", {"m1", "m2"}, "the labels are")
