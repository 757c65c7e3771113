"""Expressions of analysis files are arithmetic, and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from palletfit.config.expressions import evaluate, names_in, require_names


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


LABELS = {"m1": np.array([1.0, 2.0, 3.0, 4.0]), "m(N1)": np.array([4.0, 0.0, 3.0, -1.0])}


@pytest.mark.parametrize(
    "expression",
    [
        "m1",
        "-m1 + 2.5 * `m(N1)` ** 2",
        "m1 / `m(N1)`",
        "m1 // 2 + m1 % 2",
        "m1 - `m(N1)` == 0",
        "m1 > 1 & `m(N1)` < 3",
        "m1 == 1 | `m(N1)` == 0 and m1 != 4",
        "not m1 > 2",
        "~(m1 > 2)",
        "1 < m1 <= 3",
    ],
)
def test_values_are_those_of_pandas(expression: str) -> None:
    theirs = pd.DataFrame(LABELS).eval(expression, engine="python").to_numpy()
    ours = evaluate(expression, LABELS)
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype


def test_a_constant_has_a_value_for_every_point() -> None:
    assert evaluate("130", LABELS).tolist() == [130] * 4


def test_no_other_expression_is_evaluated() -> None:
    with pytest.raises(ValueError, match="m3"):
        evaluate("m1 + m3", LABELS)
    with pytest.raises(ValueError, match="more than"):
        evaluate("m1.__class__", LABELS)
    with pytest.raises(ValueError, match="not known"):
        evaluate("m1 << 2", LABELS)
    with pytest.raises(TypeError):
        evaluate("m1 + name", {**LABELS, "name": np.array(["a", "b", "c", "d"], dtype=object)})
