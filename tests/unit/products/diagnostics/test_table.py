"""Diagnostics of chosen patches: what depends on them, and their table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palletfit.config import (
    ContourSettings,
    DiagnosticsSettings,
    ExecutorSettings,
    FitSettings,
    Settings,
)
from palletfit.engine.engine import BatchedEngine
from palletfit.errors import ConfigError
from palletfit.pallet.patches import Patch
from palletfit.products.diagnostics.compute import compute
from palletfit.products.diagnostics.table import as_table, combine
from palletfit.runs import manifest, scan
from palletfit.runs import run as runs
from palletfit.runs.registry import find, product_of
from palletfit.runs.results import RegionResults, chosen_record
from palletfit.runs.store import RecordStore

from ... import models
from ...runs.test_scan import Counting
from ...runs.test_state import analysis

Record = dict[str, Any]
LABELS = ["m1", "m2"]


def settings(level: float = 0.95, **own: Any) -> Settings:
    contour = ContourSettings(confidence_level=level)
    return Settings(diagnostics=DiagnosticsSettings(**own), contour=contour)


def diagnosed(observed: float, patch: str = "p", **own: Any) -> Record:
    """A record of a counting experiment with one nuisance parameter."""
    shape = {
        "name": "shape",
        "type": "histosys",
        "data": {"hi_data": [56.0], "lo_data": [44.0]},
    }
    engine = BatchedEngine(models.counting(10.0, 50.0, observed, shape), FitSettings())
    plain = product_of("diagnostics", settings(**own)).settings
    ((_, found),) = compute(engine, [Patch(patch, (), ())], plain)
    assert isinstance(found, dict), found
    return {"patch": patch, "values": {"m1": 200.0, "m2": 50.0}, **found}


def failed(patch: str) -> Record:
    error = {"kind": "PalletError", "problem": "it broke", "remedy": "mend it"}
    values = {"m1": 300.0, "m2": 0.0}
    return {"patch": patch, "values": values, "status": "failed", "error": error}


def test_what_a_record_depends_on() -> None:
    usual = product_of("diagnostics", settings())
    assert usual == product_of("diagnostics", settings(patches=["a"], level=0.9))
    assert usual != product_of("diagnostics", settings(impacts=False))
    assert usual != product_of("diagnostics", settings(parameters=["JES_*"]))


def test_the_table_has_one_row_a_patch() -> None:
    found = combine(
        [
            RegionResults("A", {"p": diagnosed(62.0), "q": failed("q")}),
            RegionResults("B", {"p": diagnosed(40.0)}),
        ],
        [RegionResults("A", {}), RegionResults("B", {})],
        LABELS,
    )
    assert list(found) == ["p", "q", "p (B)"]
    entry = json.loads(json.dumps(found["p"], allow_nan=False))
    assert (entry["status"], entry["region"], entry["mass_hypotheses"]) == (
        "ok",
        "A",
        [200.0, 50.0],
    )
    assert entry["mu_hat"] == pytest.approx(1.2)
    assert entry["mu_hat_error"] == pytest.approx(98**0.5 / 10)
    assert entry["leading_impacts"][0]["postfit_up"] == pytest.approx(-0.6)
    assert entry["largest_pulls"][0]["constraint"] == pytest.approx(1.0)
    table = as_table(found, LABELS)
    assert list(table["patch"]) == list(found)
    first, second, third = (row for _, row in table.iterrows())
    assert first["significance"] == found["p"]["significance"] > 1
    assert first["leading_impacts"] == "shape (-0.6, +0.6)"
    assert (second["status"], second["remark"]) == ("failed", "it broke")
    assert second[["mu_hat", "p0", "significance_expected"]].isna().all()
    # With mu-hat at its bound nothing moves it.
    assert third["leading_impacts"] == ""
    assert "mu-hat is at its lower bound" in third["remark"]


def test_a_table_without_impacts_and_significance() -> None:
    record = {**diagnosed(62.0, impacts=False), "discovery": None}
    found = combine([RegionResults("A", {"p": record})], [RegionResults("A", {})], LABELS)
    table = as_table(found, LABELS)
    assert table["leading_impacts"][0] == ""
    assert table["p0"].isna()[0]


@pytest.mark.parametrize(
    ("above", "status", "words"),
    [
        (1e-5, "ok", ""),
        (0.03, "ok", "hypothesis test ended higher than this one, by 0.03 in 2 NLL, at mu = 0.7"),
        (-0.03, "suspect", "hypothesis test ended lower than this one, by 0.03 in 2 NLL, at mu"),
    ],
)
def test_free_fits_are_compared(above: float, status: str, words: str) -> None:
    record = diagnosed(62.0)
    free = {"twice_nll": record["twice_nll"] + above, "mu": 0.7}
    test = {"status": "ok", "fits": {"free": free}}
    regions = [RegionResults("A", {"p": record})], [RegionResults("A", {"p": test})]
    found = combine(*regions, LABELS)
    (row,) = as_table(found, LABELS).to_dict("records")
    assert row["status"] == status
    assert words in row["remark"]
    assert bool(words) == bool(row["remark"])


def test_a_patch_that_was_not_tested_has_no_fit_to_compare_with() -> None:
    test = {"status": "untested", "forecast": {}}
    regions = [RegionResults("A", {"p": diagnosed(62.0)})], [RegionResults("A", {"p": test})]
    assert combine(*regions, LABELS)["p"]["status"] == "ok"


def test_a_chosen_patch_is_found_by_its_file(tmp_path: Path) -> None:
    paths = []
    for region, patch in (("A", "p"), ("B", "../q")):
        store = RecordStore(tmp_path / region / "diagnostics")
        record = {**diagnosed(62.0, patch), "key": {"digest": "k"}}
        entry = manifest.entry(store.write(patch, record), record)
        path = tmp_path / region / "diagnostics.json"
        path.write_text(json.dumps({"patches": {patch: entry}}))
        paths.append(path)
    region, found = chosen_record(paths, find("diagnostics"), "%2E.%2Fq")
    assert (region, found["patch"]) == ("B", "../q")
    with pytest.raises(ConfigError, match="'z'") as error:
        chosen_record(paths, find("diagnostics"), "z")
    assert error.value.remedy == "Name it under diagnostics.patches."


def test_only_the_batched_engine_makes_them(tmp_path: Path) -> None:
    plain = Settings(fit=FitSettings(engine="reference"))
    with pytest.raises(ConfigError, match="The engine reference makes no diagnostics") as error:
        scan.of_region(analysis(), "A", plain, find("diagnostics"), tmp_path, tmp_path)
    assert error.value.remedy == "Set `fit.engine: batched`."


def test_a_failed_patch_costs_no_other_one(tmp_path: Path) -> None:
    background = models.background("normsys")
    content = models.patchset(background, models.grid())
    special = {"name": "special", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}
    names = [patch["metadata"]["name"] for patch in content["patches"]][:2]
    content["patches"][0]["patch"][0]["value"]["modifiers"].append(special)
    paths = models.write(tmp_path, background, content)
    chosen = tmp_path / "chosen.json"
    chosen.write_text(json.dumps({"A": names}))
    store, executor = RecordStore(tmp_path / "A" / "diagnostics"), Counting()

    def run(parameters: list[str]) -> dict[str, str]:
        todo = scan.of_region(
            analysis(), "A", settings(parameters=parameters), find("diagnostics"), *paths, [chosen]
        )
        found = runs.run(todo, store, executor, ExecutorSettings(patches_per_task=2))
        return {name: item["status"] for name, item in found["patches"].items()}

    assert run(["special"]) == {names[0]: "ok", names[1]: "failed"}
    record = store.read(store.path(names[1]))
    assert record is not None
    assert "'special' fits no parameter" in record["error"]["problem"]
    # Corrected patterns are other settings; back again, only the failed one is tried again.
    assert run(["*"]) == dict.fromkeys(names, "ok")
    executor.tasks.clear()
    assert run(["special"])[names[0]] == "ok"
    assert executor.tasks == [names[1]]
