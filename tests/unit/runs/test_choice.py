"""Which patches a product of chosen ones is made for."""

from __future__ import annotations

from typing import Any

import pytest

from palletfit.errors import ConfigError
from palletfit.runs.choice import choose, matching, near_threshold


def point(expected: float | None, region: str = "A", patch: str = "") -> dict[str, Any]:
    """A signal point with its median expected CLs, as in ``results.json``."""
    values = None if expected is None else [0.0, 0.0, expected, 1.0, 1.0]
    return {"CLs_exp": values, "region": region, "regions": {region: {"patch": patch}}}


RESULTS = {
    "p_1": point(0.01, patch="p_1"),
    # Farther from 0.05 than 0.02 is, but nearer in standard deviations.
    "p_2": point(0.09, patch="p_2"),
    "q_1": point(0.02, "B", "name in B"),
    "q_2": point(None, patch="q_2"),
    "q_3": point(0.0, patch="q_3"),
    "q_4": point(1.0, patch="q_4"),
}
WHERE = {"analysis": "search", "section": "diagnostics"}


def test_the_nearest_to_exclusion_is_that_in_standard_deviations() -> None:
    assert near_threshold(RESULTS, 0.95) == {"A": ["p_2"]}
    assert near_threshold({**RESULTS, "p_2": point(0.12)}, 0.95) == {"B": ["name in B"]}
    assert near_threshold(RESULTS, 0.5) == {"A": ["p_2"]}
    assert near_threshold(RESULTS, 0.99) == {"A": ["p_1"]}
    assert near_threshold({"q_2": RESULTS["q_2"]}, 0.95) == {}


def test_patterns_choose_patches_by_region() -> None:
    assert matching(["q_[12]", "p_1"], RESULTS, **WHERE) == {
        "A": ["p_1", "q_2"],
        "B": ["name in B"],
    }
    odd = {"../[odd]": point(0.5, patch="../[odd]")}
    assert matching(["../[odd]"], odd, **WHERE) == {"A": ["../[odd]"]}


def test_patterns_that_match_nothing_are_named() -> None:
    with pytest.raises(ConfigError, match="No patch of search matches 'z', 'y'") as error:
        matching(["z", "p_1", "y"], RESULTS, **WHERE)
    assert error.value.remedy == "Correct diagnostics.patches; the first patch is 'p_1'."
    # Another analysis may have what this one lacks, but none of all is too little.
    assert matching(["z", "p_1"], RESULTS, **WHERE, all_patterns=False) == {"A": ["p_1"]}
    with pytest.raises(ConfigError, match="No patch of search matches 'z'"):
        matching(["z"], RESULTS, **WHERE, all_patterns=False)


def test_patterns_come_before_what_is_near() -> None:
    assert choose(["p_1"], RESULTS, 0.95, **WHERE) == {"A": ["p_1"]}
    assert choose([], RESULTS, 0.95, **WHERE) == near_threshold(RESULTS, 0.95)
    with pytest.raises(ConfigError, match="No patch of search has an expected CLs") as error:
        choose([], {"q_2": RESULTS["q_2"]}, 0.95, **WHERE)
    assert "diagnostics.patches" in error.value.remedy
