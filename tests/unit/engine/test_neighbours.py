"""Minima of neighbouring points: what one point missed, and where the lowest minimum changes."""

from __future__ import annotations

from typing import Any

import pytest

from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.neighbours import Outcome, Point, help_neighbours, near_points
from palletfit.engine.records import HypotestResult
from palletfit.pallet.patches import Patch

from .. import models


def rare_workspace() -> Any:
    """Ten events where six are expected, or nine with a rare sample's unlikely rate."""
    rate = {"name": "rare_rate", "type": "normsys", "data": {"hi": 40.0, "lo": 0.01}}
    norm = {"name": "norm", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}
    rare = models.sample("rare", [0.04, 0.0], rate)
    return models.workspace(
        {"SR": [models.sample("bkg", [6.0, 40.0], norm), rare]}, {"SR": [10.0, 38.0]}
    )


def signals(yields: dict[str, tuple[float, float]]) -> list[Patch]:
    """Make patches along a line, in bins with and without the excess."""
    return [
        Patch(
            name,
            (float(number),),
            [
                {
                    "op": "add",
                    "path": "/channels/0/samples/-",
                    "value": models.signal(list(counts)),
                }
            ],
        )
        for number, (name, counts) in enumerate(yields.items())
    ]


def results_of(patches: list[Patch], minimum: str = "lowest") -> dict[str, HypotestResult]:
    engine = BatchedEngine(rare_workspace(), FitSettings(minimum=minimum))
    results = {}
    for patch, result in engine.hypotests(patches):
        assert isinstance(result, HypotestResult), str(result)
        results[patch.name] = result
    return results


def points_of(patches: list[Patch], results: dict[str, HypotestResult]) -> dict[str, Point]:
    points = {patch.name: Point.of(patch, results[patch.name].as_json()) for patch in patches}
    return {name: point for name, point in points.items() if point is not None}


def helped(patches: list[Patch], results: dict[str, HypotestResult]) -> Outcome:
    return help_neighbours(
        BatchedEngine(rare_workspace(), FitSettings()), points_of(patches, results)
    )


#: Signals in the other bin, so that every background-only fit needs the rare sample.
ALIKE = {"a": (0.5, 4.0), "b": (0.6, 4.5), "c": (0.7, 5.0), "d": (0.8, 5.5)}


def test_points_that_missed_a_minimum_fall_with_that_of_a_neighbour() -> None:
    patches = signals(ALIKE)
    lowest, missed = results_of(patches), results_of(patches, "nearest")
    outcome = helped(patches, lowest | {"b": missed["b"]})
    assert outcome.fallen.keys() == {"b"}
    fallen = outcome.fallen["b"]
    assert set(fallen.neighbours) == {"a", "c", "d"}
    depth = missed["b"].fits["background"].twice_nll - lowest["b"].fits["background"].twice_nll
    assert depth > 0.05
    assert fallen.fell["background"] == pytest.approx(depth, abs=1e-6)
    # The Asimov data are others now.
    assert "asimov_fixed" not in fallen.fell
    assert fallen.result.p_values.CLs_obs == pytest.approx(lowest["b"].p_values.CLs_obs, abs=1e-6)
    assert fallen.result.p_values.CLs_exp == pytest.approx(lowest["b"].p_values.CLs_exp, abs=1e-6)
    assert outcome.jumps == {}


def switch_off_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("lower", "exchange", "explore"):
        monkeypatch.setattr(f"palletfit.engine.search.Search.{method}", lambda *_: None)
    monkeypatch.setattr("palletfit.engine.fitter.Fitter.displaced_starts", lambda *_, **__: {})


def test_what_one_round_gained_the_next_one_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """One point knows the lower minimum of one fit, another one that of another fit."""
    patches = signals(ALIKE)
    lowest = results_of(patches)
    switch_off_the_search(monkeypatch)
    monkeypatch.setattr("palletfit.engine.neighbours.near_points.__defaults__", (1,))
    missed = results_of(patches)
    known, points = points_of(patches, lowest), points_of(patches, missed)
    for name, fit in (("a", "background"), ("d", "fixed")):
        ends = {**points[name].ends, fit: known[name].ends[fit]}
        points[name] = Point(points[name].patch, ends)
    outcome = help_neighbours(BatchedEngine(rare_workspace(), FitSettings()), points)
    assert outcome.rounds < 8
    assert outcome.fallen.keys() == {"a", "b", "c", "d"}
    for name, fallen in outcome.fallen.items():
        assert fallen.fell
        for fit in ("background", "fixed"):
            end = lowest[name].fits[fit].twice_nll
            assert fallen.result.fits[fit].twice_nll == pytest.approx(end, abs=1e-6)


def test_a_minimum_spreads_along_a_line_whatever_the_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one neighbour on each side it takes a round for each point."""
    monkeypatch.setattr("palletfit.engine.neighbours.near_points.__defaults__", (1,))
    # The search alone would spare the rounds.
    switch_off_the_search(monkeypatch)
    patches = signals(ALIKE)
    missed = results_of(patches)
    monkeypatch.undo()
    monkeypatch.setattr("palletfit.engine.neighbours.near_points.__defaults__", (1,))
    results = missed | {"a": results_of(patches)["a"]}
    outcome, reverse = helped(patches, results), helped(patches[::-1], results)
    assert outcome.fallen.keys() == {"b", "c", "d"}
    assert outcome.rounds >= 3
    for name, fallen in outcome.fallen.items():
        assert fallen.result.p_values == reverse.fallen[name].result.p_values
        assert fallen.neighbours == reverse.fallen[name].neighbours
        assert fallen.fell == reverse.fallen[name].fell
    assert outcome.jumps == reverse.jumps


def test_both_points_between_which_the_lowest_minimum_changes_are_marked() -> None:
    """A signal that explains the excess needs no rare sample, a weak one does."""
    patches = signals({"weak": (0.1, 0.5), "strong": (4.0, 0.5)})
    results = results_of(patches)
    outcome = helped(patches, results)
    assert outcome.fallen == {}
    jumps = {name: {jump.fit: jump for jump in of} for name, of in outcome.jumps.items()}
    assert jumps["weak"]["fixed"].neighbour == "strong"
    assert jumps["strong"]["fixed"].neighbour == "weak"
    above = [jumps[name]["fixed"].above for name in ("weak", "strong")]
    assert any(value is not None and value > 1e-4 for value in above)


def test_points_without_ends_neither_help_nor_are_helped() -> None:
    patches = signals(ALIKE)
    (result,) = results_of(patches[:1]).values()
    plain = result.as_json()
    assert Point.of(patches[0], plain) is not None
    del plain["fits"]["free"]["parameters"]
    assert Point.of(patches[0], plain) is None
    ((_, brief),) = BatchedEngine(rare_workspace(), FitSettings()).hypotests(
        patches[:1], brief=True
    )
    assert isinstance(brief, HypotestResult)
    assert Point.of(patches[0], brief.as_json()) is None


def test_neighbours_are_mutual_and_do_not_depend_on_order_or_units() -> None:
    grid = {f"{x}_{y}": (float(x), 1000.0 * y) for x in range(5) for y in range(5)}
    near = near_points(grid, 4)
    assert set(near["2_2"]) == {"1_2", "3_2", "2_1", "2_3"}
    assert near_points(dict(reversed(grid.items())), 4) == near
    assert all(name in near[other] for name, others in near.items() for other in others)
    # A label that is the same everywhere says nothing, a text is as far from another as can be.
    texts = {"a": (1.0, "x"), "b": (2.0, "x"), "c": (9.0, "x"), "d": (1.0, "y")}
    assert near_points(texts, 1)["b"] == ("a", "c")
    assert near_points({"one": (1.0,)}) == {"one": ()}
    assert near_points({}) == {}
