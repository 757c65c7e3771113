"""Names of files of operations, and the values in them."""

from __future__ import annotations

import pytest

from palletfit.pallet.operations import is_operations, labels_in, parse_value, values_in


@pytest.mark.parametrize(
    ("text", "value"),
    [("100", 100), ("-5", -5), ("100p5", 100.5), ("0.25", 0.25), ("1e5", "1e5"), ("SRA", "SRA")],
)
def test_values(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize(
    ("name", "template", "values"),
    [
        ("S_100_50", "S_{m1}_{m2}", (100, 50)),
        ("S_100_50", "{model}_{m1}_50", ("S", 100)),
        ("GG_on_100p5_7", "GG_{kind}_{m1}_{x}", ("on", 100.5, 7)),
        ("100.5", "{m}", (100.5,)),
        ("S_100", "S_{m1}_{m2}", None),
        ("S__50", "S_{m1}_{m2}", None),
        ("T_100_50", "S_{m1}_{m2}", None),
        ("S_100_50_x", "S_{m1}_{m2}_y", None),
    ],
)
def test_values_in_names(name, template, values):
    assert values_in(name, template) == values


def test_long_names_take_no_time():
    assert values_in("a_" * 100_000, "{a}_{b}_{c}_{d}_{e}_{f}_{g}x") is None


def test_labels_of_a_template():
    assert labels_in("S_{m1}_7_{m 2}") == ["m1", "m 2"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"op": "add", "path": "/a", "value": 1}], True),
        ([], False),
        ([{"op": "add"}], False),
        ({"op": "add", "path": "/a"}, False),
        ([1], False),
    ],
)
def test_operations_are_recognised(content, expected):
    assert is_operations(content) is expected
