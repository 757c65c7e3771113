"""Expressions of analysis files are arithmetic, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from palletfit.config import load_analysis
from palletfit.config.expressions import evaluate, names_in, require_condition, require_names
from palletfit.errors import ConfigError
from palletfit.planes.coordinates import forbidden_border, plane_points

ANALYSES = Path(__file__).parents[3] / "config" / "analyses"
SHIPPED = sorted(path.stem for path in ANALYSES.glob("*.yaml"))


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("m1", {"m1"}),
        ("m1 - 125.5", {"m1"}),
        ("(mn2 - mn1) / 2 ** 3", {"mn2", "mn1"}),
        ("mn2 - mn1 == 130 and not msb < 500", {"mn2", "mn1", "msb"}),
        ("(a > 1) & ~(b <= 2) | (c != 3)", {"a", "b", "c"}),
        ("`m(N1)` + `m(C1)`", {"m(N1)", "m(C1)"}),
        ("kind == 'A & B' and __ > 1", {"kind", "__"}),
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
        "f'{m1}'",
        "lambda: 1",
        "[m for m in m1]",
        "(m1 := 3)",
        "m1 = 3",
        "m1; m2",
        "m1 # m2",
        "1j",
        "None",
        "",
        "(" * 500,
        "-" * 100_000 + "1",
        "+".join(["m1"] * 10_000),
    ],
)
def test_anything_else_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"expression|more than"):
        names_in(expression)


def test_unknown_names_are_named() -> None:
    with pytest.raises(ValueError, match="uses m3, but the labels are: m1, m2"):
        require_names("m1 + m3", {"m1", "m2"}, "the labels are")


@pytest.mark.parametrize("expression", ["m1", "m1 + 2", "3", "-m1", "m1 * (m2 > 3)"])
def test_numbers_are_no_conditions(expression: str) -> None:
    with pytest.raises(ValueError, match="not a condition"):
        require_condition(expression)


# ------------------------------------------------------------------------------ analysis files

BASE = {
    "title": "Search",
    "pallet": {"builtin": "demo"},
    "regions": {"A": {"workspace": "a.json", "patchset": "p.json"}},
    "labels": ["m1", "m2", "m(N1)", "kind"],
    "planes": {"masses": {"x": "m1", "y": "m2", "x_title": "x", "y_title": "y"}},
}

REFUSED = [
    ("m1 ^ 2", "^", "write ** for powers"),
    ("m1 << 2", "<<", "* 2 ** 3"),
    ("m1 >> 2", ">>", "// 2 ** 3"),
    ("m1 @ m2", "@", "write * for products"),
    ("@m1", "@", "write the label alone"),
    ("m1 is m2", "is", "write =="),
    ("m1 is not m2", "is not", "write !="),
    ("m1 in m2", "in", "write comparisons joined by or"),
    ("m1 not in m2", "not in", "write comparisons joined by and"),
    ("m1 if m2 else 3", "if", "condition"),
    ("sqrt(m1)", "a function", "** 0.5"),
    ("m1.max", "a dot", "backticks"),
    ("m1[0]", "Subscript", "it may hold numbers"),
    ("m1 = 2", "=", "write =="),
    ("m1 > 1 && m2 > 1", "&&", "write & or and"),
    ("m1 > 1 || m2 > 1", "||", "write | or or"),
    ("!(m1 > 1)", "!", "write not"),
    ("m1 <> 1", "<>", "write !="),
    ("`m(N1) + 1", "backtick", "close it"),
    ("m1 -", "m1 -", "it may hold numbers"),
    ("m1 and m2", "m1", "not a condition"),
    ("not m1", "m1", "not a condition"),
    ("~`m(N1)` > 2", "`m(N1)`", "brackets around it after ~"),
    ("-(m1 > 2)", "m1 > 2", "write a number or a label"),
    ("(m1 > 2) * (m2 > 2)", "two conditions", "join them with and"),
    ("m1 + 'A'", "'A'", "which is a text"),
    ("kind < 'A'", "orders texts", "== or !="),
    ("3 == 'A'", "no label", "name a label"),
    ("'m1'", "'m1'", "without quotes"),
    ("m1 / 0", "divides by zero", "another divisor"),
    ("m1 % (2 - 2)", "divides by zero", "another divisor"),
    ("m1 * 10 ** 10 ** 10", "10 ** 10 ** 10", "no finite number"),
    ("m1 * 1e999", "1e309", "no finite number"),
    ("m1 * (0 - 1) ** 0.5", "(0 - 1) ** 0.5", "no finite number"),
    ("m3 + 1", "m3", "the labels are"),
]


def read(folder: Path, **changes: object):
    plane = {**BASE["planes"]["masses"], **changes}
    (folder / "a.yaml").write_text(yaml.safe_dump({**BASE, "planes": {"masses": plane}}))
    return load_analysis("a", folder)[0]


@pytest.mark.parametrize("key", ["x", "y", "select"])
@pytest.mark.parametrize(("expression", "what", "instead"), REFUSED)
def test_an_analysis_file_with_what_has_no_value_is_refused(
    tmp_path: Path, key: str, expression: str, what: str, instead: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, **{key: expression})
    message = str(caught.value)
    assert f"planes.masses.{key}: {expression!r}" in message
    assert what in message
    assert instead in message


def test_the_forbidden_part_and_slices_are_checked_as_well(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"planes\.masses\.forbidden\.y_above: 'x \^ 2'"):
        read(tmp_path, forbidden={"y_above": "x ^ 2"})
    slices = {"line": {"x": "m1", "x_title": "x", "select": "m2"}}
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({**BASE, "slices": slices}))
    with pytest.raises(ConfigError, match=r"slices\.line\.select: 'm2' is not a condition"):
        load_analysis("b", tmp_path)


ACCEPTED = [
    "m1",
    "-m1 + 2.5 * `m(N1)` ** 2",
    "+m1 ** 3 - m2 ** 0.5",
    "2 ** m2 ** 0.5",
    "m1 / `m(N1)`",
    "m1 / 7 * 3.1",
    "m1 // 2 + m1 % 3",
    "m1 // `m(N1)`",
    "m1 % `m(N1)`",
    "130",
    "2 * 3 - 0.1",
    "m1 * (m2 > 2)",
]
CONDITIONS = [
    "m1 - `m(N1)` == 0",
    "m1 > 1 & `m(N1)` < 3",
    "m1 == 1 | `m(N1)` == 0 and m1 != 4",
    "not m1 > 2",
    "~(m1 > 2)",
    "1 < m1 <= 3",
    "m1 != m1",
    "m1 >= 2 or not (m2 < 3 and True)",
    "kind == 'A'",
    'kind != "B" & m1 < 4',
    "kind == 'no such text' or m1 == 'A'",
    "kind == kind",
    "kind == 3",
    "(m1 > 2) == (m2 > 2)",
]
FRAME = pd.DataFrame(
    {
        "m1": [1, 2, 3, 4, 0, -7, 950],
        "m2": [0.1, 2.5, 1 / 3, np.nan, 8.0, 1e-3, 725.0],
        "m(N1)": [4, 0, 3, -1, 0, 2, 150],
        "kind": ["A", "B", "A", "B", "C", "A & B", "3"],
    }
)
WHOLE_AS_DOUBLES = FRAME.astype({"m1": float, "m(N1)": float})


@pytest.mark.parametrize("frame", [FRAME, WHOLE_AS_DOUBLES], ids=["integers", "doubles"])
@pytest.mark.parametrize("expression", [*ACCEPTED, *CONDITIONS])
def test_values_are_those_of_pandas(expression: str, frame: pd.DataFrame) -> None:
    columns = {name: frame[name].to_numpy() for name in frame}
    ours = evaluate(expression, columns)
    theirs = np.broadcast_to(frame.eval(expression, engine="python"), len(frame))
    assert ours.dtype == (bool if expression in CONDITIONS else np.float64)
    # Equal to the last bit, NaN included.
    np.testing.assert_array_equal(ours, theirs.astype(ours.dtype))


@pytest.mark.parametrize("expression", ACCEPTED)
def test_what_is_accepted_as_an_axis_has_a_value(tmp_path: Path, expression: str) -> None:
    frame = WHOLE_AS_DOUBLES.iloc[[0, 2, 6]]
    plane = read(tmp_path, x=expression).planes["masses"]
    assert plane_points(frame, plane, unique=False)["x"].dtype == np.float64


@pytest.mark.parametrize("expression", CONDITIONS)
def test_what_is_accepted_as_a_condition_has_a_value(tmp_path: Path, expression: str) -> None:
    frame = FRAME.iloc[[0, 1, 2]]
    points = plane_points(frame, read(tmp_path, select=expression).planes["masses"])
    theirs = frame[frame.eval(expression, engine="python")]
    assert points["x"].tolist() == theirs["m1"].tolist()


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("kind", [np.int64, np.float64])
def test_planes_of_this_project_are_where_pandas_had_them(name: str, kind: type) -> None:
    analysis, _ = load_analysis(name, ANALYSES)
    values = np.random.default_rng(7).integers(0, 30, (2000, len(analysis.labels))) * 10
    labels = pd.DataFrame(values.astype(kind), columns=analysis.labels)
    results = labels.assign(patch="a", status="ok")
    for plane in analysis.planes.values():
        theirs = labels if plane.select is None else labels[labels.eval(plane.select)]
        points = plane_points(results, plane, unique=False)
        for axis in ("x", "y"):
            expected = theirs.eval(getattr(plane, axis)).to_numpy(dtype=np.float64)
            np.testing.assert_array_equal(points[axis].to_numpy(), expected)
        border = forbidden_border(plane, points)
        if plane.forbidden is not None and border is not None:
            y = pd.DataFrame({"x": border[:, 0]}).eval(plane.forbidden.y_above)
            np.testing.assert_array_equal(border[:, 1], y)


def test_whole_numbers_are_doubles() -> None:
    columns = {"m1": np.array([2, 4]), "none": np.array([0, 0])}
    assert evaluate("m1 ** -1", columns).tolist() == [0.5, 0.25]
    assert evaluate("m1 ** 40", columns).tolist() == [2.0**40, 4.0**40]
    assert evaluate("m1 // none", columns).tolist() == [np.inf, np.inf]


def test_lists_of_numbers_and_none_are_numbers() -> None:
    columns = {"m1": np.array([2, None, 1.5], dtype=object)}
    np.testing.assert_array_equal(evaluate("m1 + 1", columns), [3.0, np.nan, 2.5])


def test_no_other_expression_is_evaluated() -> None:
    columns = {"m1": np.array([1.0, 2.0]), "name": np.array(["a", "b"], dtype=object)}
    with pytest.raises(ValueError, match="m3"):
        evaluate("m1 + m3", columns)
    with pytest.raises(ValueError, match="more than"):
        evaluate("m1.__class__", columns)
    with pytest.raises(ValueError, match="<< is not understood"):
        evaluate("m1 << 2", columns)
    with pytest.raises(TypeError, match="texts"):
        evaluate("m1 + name", columns)
    with pytest.raises(TypeError, match="<"):
        evaluate("m1 < name", columns)
