"""Planes of signal points with any number of labels."""

from __future__ import annotations

import itertools

import pytest

from palletfit.pallet.inspection import planes as planes_module
from palletfit.pallet.inspection.planes import axis_title, propose


def axes(labels, values):
    planes, _ = propose(labels, values)
    return [(plane.x, plane.y, plane.select, plane.points) for plane in planes]


GRID = [(first, second) for first in (500, 600, 700) for second in (0, 100, 200)]


def test_the_heavier_label_is_on_the_horizontal_axis():
    assert axes(["a", "b"], GRID) == [("a", "b", None, 9)]
    assert axes(["b", "a"], [(y, x) for x, y in GRID]) == [("a", "b", None, 9)]


def test_points_below_the_diagonal_are_noticed():
    (plane,), _ = propose(["a", "b"], GRID)
    assert plane.below
    (plane,), _ = propose(["a", "b"], [*GRID, (50, 60)])
    assert not plane.below


def test_three_labels_need_conditions():
    fixed = [(x, y, 60) for x, y in GRID if y > 60]
    distance = [(x, y + 130, y) for x, y in GRID]
    assert axes(["msb", "mn2", "mn1"], fixed + distance) == [
        ("msb", "mn2", "mn2 - mn1 == 130", 9),
        ("msb", "mn2", "mn1 == 60", 6),
    ]


def test_a_text_chooses_the_model():
    values = [(model, x, y) for model in ("GG", "S'S") for x, y in GRID]
    planes, remarks = propose(["model", "m1", "m2"], values)
    # No expression holds a quotation mark in a text.
    assert [plane.select for plane in planes] == ["model == 'GG'"]
    assert remarks == ["the proposed planes have 9 of 18 points: write others by hand"]


def test_four_labels_need_two_conditions():
    values = [(x, y, a, b) for x, y in GRID for a, b in ((1, 2), (1, 3), (2, 3))]
    selects = [select for *_, select, _ in axes(["x", "y", "a", "b"], values)]
    assert len(selects) == 3
    assert all(" and " in select for select in selects)


def test_labels_that_are_no_plain_names_are_quoted():
    values = [(x, y, z) for x, y in GRID for z in (1.5, 2.5)]
    planes, _ = propose(["m 1", "m.2", "z-3"], values)
    assert {plane.select for plane in planes} == {"`z-3` == 1.5", "`z-3` == 2.5"}
    assert (planes[0].x, planes[0].y) == ("`m 1`", "`m.2`")


@pytest.mark.parametrize(
    ("values", "remark"),
    [
        ([(100, 1), (200, 1)], "points differ in m1 only"),
        ([(100, 50), (200, 150)], "points differ in m1 only"),
        (
            [(100, "a"), (100, "b")],
            "no numbers that vary, so that there is no plane; they differ in",
        ),
        ([(100, 0), (200, 50), (300, 100)], "no condition gives a plane"),
    ],
)
def test_points_without_a_plane_are_explained(values, remark):
    planes, remarks = propose(["m1", "m2"], values)
    assert planes == []
    assert remark in remarks[-1]


def test_many_labels_are_tried_in_part(monkeypatch):
    values = list(itertools.product(range(2), repeat=6))
    tried = 0

    def count(*arguments):
        nonlocal tried
        tried += 1
        return original(*arguments)

    original = planes_module._independent
    monkeypatch.setattr(planes_module, "_independent", count)
    monkeypatch.setattr(planes_module, "_MOST_COMBINATIONS", 300)
    _, remarks = propose([f"m{number}" for number in range(6)], values)
    assert 0 < tried <= 301
    assert "by hand" in remarks[-1]


@pytest.mark.parametrize(
    ("label", "title"),
    [
        ("mn1", r"$m(\tilde{\chi}^{0}_{1})$ [GeV]"),
        ("m_C1", r"$m(\tilde{\chi}^{\pm}_{1})$ [GeV]"),
        ("mst", "mst [GeV]"),
        ("m2", "m2 [GeV]"),
        ("tanb", "tanb"),
    ],
)
def test_titles_are_guessed_where_a_label_has_one_meaning(label, title):
    assert axis_title(label) == title
