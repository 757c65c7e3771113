"""Toys as a product of the workflow: which shards, how many, resumed, and what is told of them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palletfit.config import (
    RESULT_COLUMNS,
    ExecutorSettings,
    FitSettings,
    Settings,
    ToySettings,
    ToyTargetSettings,
)
from palletfit.core.files import read_json, write_atomically
from palletfit.engine.engine import BatchedEngine
from palletfit.errors import ConfigError, PalletError, StoreError
from palletfit.pallet.patches import Patch, file_stem
from palletfit.products.toys import shards as toy_shards
from palletfit.products.toys import table as toy_tables
from palletfit.products.toys.compute import BLOCK, HYPOTHESES, Toys, compute
from palletfit.products.toys.plots import draw_toys
from palletfit.products.toys.results import ToyResult, enough, merge
from palletfit.products.toys.shards import (
    FIRST_ROUND,
    cover,
    following,
    needed,
    shard,
    size_of_shards,
)
from palletfit.runs import manifest as manifests
from palletfit.runs import run as runs
from palletfit.runs import scan
from palletfit.runs.registry import find, product_of
from palletfit.runs.results import RegionResults
from palletfit.runs.scan import Scan
from palletfit.runs.store import Key, RecordStore

from ... import models
from ...runs.test_scan import Counting
from ...runs.test_state import analysis

#: A model that is quick to fit, with one signal or several.
BACKGROUND = models.background("shapesys")
NAMES = ["signal_100_50", "signal_200_50"]


@cache
def made() -> Toys:
    return Toys(
        BatchedEngine(models.full("shapesys"), FitSettings()), Patch("p", (), []), ToySettings()
    )


def shards_of(*spans: tuple[int, int]) -> dict[tuple[int, int], dict[str, Any]]:
    return {span: made().shard(*span) for span in spans}


# ---------------------------------------------------------------------- which shards


def test_names_of_shards_are_file_names_of_their_own():
    patch = Patch("a/b c", (1,), [])
    found = shard(patch, 256, 100)
    assert found.name == "a/b c.toys_256-355"
    assert file_stem(found.name) == "a%2Fb%20c.toys_256-355"
    assert found.options == {"of": "a/b c", "first": 256, "count": 100}
    assert found.digest == patch.digest
    long = [shard(replace(patch, name="x" * 300), first, 10).name for first in (0, 10)]
    assert len({file_stem(name) for name in long}) == 2


def key(patch: Patch, fit: dict[str, Any] | None = None, **toys: Any) -> str:
    settings = Settings(fit=FitSettings(**fit or {}), toys=ToyTargetSettings(**toys))
    return Key.of("w", patch, settings.fit, "e", product_of("toys", settings)).digest


def test_what_a_shard_depends_on_and_what_it_does_not():
    patch = shard(Patch("p", (1,), []), 0, 256)
    same = key(patch)
    for free in ({"toys": 500}, {"precision": 0.1}, {"toys_per_task": 7}, {"patches": ["*"]}):
        assert key(patch, **free) == same
    others = [
        key(patch, seed=2),
        key(patch, {"mu": 2.0}),
        key(patch, {"test_statistic": "q"}),
        key(shard(Patch("p", (1,), []), 0, 257)),
        key(shard(Patch("p", (1,), []), 256, 256)),
    ]
    assert len({same, *others}) == 6


@pytest.mark.parametrize(
    ("toys", "size", "known", "expected"),
    [
        (1000, 512, [], [(0, 512), (512, 488)]),
        (100, 512, [], [(0, 100)]),
        # More toys than before: what is new ends at a multiple of the size again.
        (1500, 512, [(0, 512), (512, 488)], [(0, 512), (512, 488), (1000, 24), (1024, 476)]),
        # Fewer ones: the last shard goes on beyond them.
        (600, 512, [(0, 512), (512, 488)], [(0, 512), (512, 488)]),
        # Another size: nothing is made again.
        (1000, 100, [(0, 512), (512, 488)], [(0, 512), (512, 488)]),
        # A gap, and shards that overlap.
        (1000, 300, [(0, 100), (500, 500)], [(0, 100), (100, 200), (300, 200), (500, 500)]),
        (700, 300, [(0, 100), (0, 400), (350, 50), (100, 500)], [(0, 400), (400, 200), (600, 100)]),
    ],
)  # fmt: skip
def test_known_shards_count_and_gaps_are_filled(toys, size, known, expected):
    assert cover(toys, size, known) == expected


def test_jobs_that_see_different_moments_agree():
    rng = np.random.default_rng(3)
    for _ in range(200):
        toys, size = (int(rng.integers(1, most)) for most in (3000, 700))
        known = [(int(rng.integers(0, 3000)), int(rng.integers(1, 600))) for _ in range(4)]
        spans = cover(toys, size, known)
        assert [first for first, _ in spans] == [0, *np.cumsum([n for _, n in spans])[:-1]]
        assert sum(count for _, count in spans) >= toys
        done = [span for span in spans if rng.random() < 0.5]
        assert cover(toys, size, [*known, *done]) == spans


# ---------------------------------------------------------------------- merging, and how many


def test_the_first_toys_of_shards_are_as_if_only_they_were_made():
    whole = shards_of((0, 200), (200, 200))
    exactly = merge(shards_of((0, 200), (200, 50)).values())
    assert merge(whole.values(), 250) == exactly
    with pytest.raises(StoreError, match="There are 400 toys, of which 401 are wanted"):
        merge(whole.values(), 401)
    # What is cut off takes its failures along.
    spoilt = made().shard(0, 20)
    for name in HYPOTHESES:
        spoilt[name]["q"][15] = None
        spoilt[name] |= {"failed": [{"toy": 15, "reason": "no"}], "searched": [3, 15]}
    assert merge([spoilt], 15).failed == {"tested": [], "alternative": []}
    assert merge([spoilt], 15).searched == {"tested": 1, "alternative": 1}
    assert merge([spoilt], 16).failed == {"tested": [15], "alternative": [15]}


def stops_at(settings: ToySettings) -> tuple[int, ToyResult]:
    """Make shards until there are enough."""
    known: dict[tuple[int, int], dict[str, Any]] = {}
    while True:
        spans, wanted, complete = needed(known, settings)
        if complete:
            return wanted, merge([known[span] for span in spans], wanted)
        known |= shards_of(*(span for span in spans if span not in known))


def test_a_precision_is_reached_after_the_same_toys_however_they_are_split(monkeypatch):
    monkeypatch.setattr(toy_shards, "FIRST_ROUND", BLOCK)
    wanted, result = stops_at(ToySettings(toys=20_000, precision=0.024))
    assert BLOCK < wanted < 20_000
    assert wanted % BLOCK == 0
    assert enough(result, 0.024)
    # Not many more than it takes.
    assert not enough(merge([made().shard(0, wanted // 2)]), 0.024)
    for size in (100, 5000):
        split = ToySettings(toys=20_000, precision=0.024, toys_per_task=size)
        assert stops_at(split) == (wanted, result)


def test_a_precision_that_is_out_of_reach_ends_at_the_most_toys():
    wanted, result = stops_at(ToySettings(toys=1500, precision=1e-4))
    assert wanted == result.toys == 1500
    assert stops_at(ToySettings(toys=300, precision=0.5))[0] == 300
    assert needed({}, ToySettings(toys=5000))[1:] == (5000, False)


def test_rounds_grow_within_bounds():
    result = merge([made().shard(0, 1024)])
    error = result.CLs_obs_error
    assert following(result, error / 1.01, 10**6) == 1280
    assert following(result, error / 1.5, 10**6) == 2304
    assert following(result, error / 100, 10**6) == 4096
    assert following(result, error / 100, 3000) == 3000
    assert following(replace(result, CLs_obs_error=float("nan")), 0.1, 10**6) == 2048


# ---------------------------------------------------------------------- through the store


class Folder:
    """Toys of two patches in a folder of its own."""

    def __init__(self, path: Path) -> None:
        content = models.patchset(BACKGROUND, models.grid())
        self.paths = models.write(path, BACKGROUND, content)
        self.chosen = path / "chosen.json"
        self.chosen.write_text(json.dumps({"A": NAMES}))
        self.store = RecordStore(path / "A" / "toys")
        self.manifest = path / "A" / "toys.json"
        self.executor = Counting()
        self.toys: dict[str, Any] = {"toys": 600, "toys_per_task": 256}

    @property
    def settings(self) -> Settings:
        # A shard is a task, however many patches are.
        executor = ExecutorSettings(patches_per_task=5)
        return Settings(toys=ToyTargetSettings(**self.toys), executor=executor)

    def scan(self) -> Scan:
        settings = self.settings
        return scan.of_region(analysis(), "A", settings, find("toys"), *self.paths, [self.chosen])

    def run(self, **how: Any) -> list[str]:
        """Run; the shards that were made."""
        self.executor.tasks.clear()
        settings = self.settings
        found = runs.make(self.scan(), self.store, self.executor, settings, **how)
        assert set(self.executor.sizes) <= {1}
        write_atomically(self.manifest, json.dumps(found))
        return sorted(self.executor.tasks)

    def entries(self) -> dict[str, Any]:
        return read_json(self.manifest)["patches"]

    def region(self) -> RegionResults:
        return RegionResults.read(self.manifest, find("toys"))

    def table(self) -> dict[str, Any]:
        """Numbers of both patches, without what times are in."""
        found = toy_tables.combine(
            results(), hypothesis_tests(), [self.region()], self.settings.toys
        )
        return {name: {**entry, "fit_time": 0} for name, entry in found.items()}


def hypothesis_tests(**changes: Any) -> list[RegionResults]:
    """Hypothesis tests of both patches, with some other values."""
    return [RegionResults("A", {name: {**item, **changes} for name, item in asymptotic().items()})]


@cache
def asymptotic() -> dict[str, dict[str, Any]]:
    signals = [Patch(item["metadata"]["name"], (), item["patch"]) for item in models.grid()]
    found = BatchedEngine(BACKGROUND, FitSettings()).hypotests(signals[:2])
    return {patch.name: item.as_json() for patch, item in found}


def results() -> dict[str, Any]:
    return {
        f"{name} (A)": {
            "mass_hypotheses": [100, number],
            "region": "A",
            "regions": {"A": {"patch": name}},
        }
        for number, name in enumerate(["another", *NAMES])
    }


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)


def named(patch: str, *spans: str) -> list[str]:
    return [f"{patch}.toys_{span}" for span in spans]


SPANS = ("0-255", "256-511", "512-599")


def test_every_shard_is_a_record(folder):
    assert folder.run() == sorted(named(NAMES[0], *SPANS) + named(NAMES[1], *SPANS))
    assert list(folder.entries()) == named(NAMES[0], *SPANS) + named(NAMES[1], *SPANS)
    record = folder.store.read(folder.store.path(f"{NAMES[0]}.toys_256-511"))
    assert (record["status"], record["values"]) == ("ok", {"m1": 100, "m2": 50})
    assert record["key"]["options"] == {"of": NAMES[0], "first": 256, "count": 256}
    assert folder.run() == []


@pytest.mark.parametrize(
    ("toys", "patches", "workers", "size"),
    [
        (1000, 1, 1, 512),
        (1000, 1, 2, 256),
        (1000, 1, 64, 256),
        (1000, 8, 2, 2048),
        (10_000, 1, 4, 1280),
        (10_000, 1, 1, 2048),
        (10**6, 3, 16, 2048),
    ],
)
def test_toys_split_themselves_over_the_workers(toys, patches, workers, size):
    assert size_of_shards(toys, ToySettings(), patches, workers) == size
    assert size_of_shards(toys, ToySettings(toys_per_task=7), patches, workers) == 7


def test_without_a_size_all_workers_have_shards_and_nothing_is_made_again(folder):
    folder.toys = {"toys": 1000}
    spans = ("0-255", "256-511", "512-767", "768-999")
    shards = sorted(named(NAMES[0], *spans) + named(NAMES[1], *spans))
    assert folder.run(workers=4) == shards
    # Other workers find what there is.
    assert folder.run(workers=1) == []


def test_only_what_is_missing_is_made_and_how_it_is_split_does_not_matter(folder):
    folder.run()
    before = folder.table()
    assert before[f"{NAMES[0]} (A)"]["toys"] == 600
    lost = f"{NAMES[1]}.toys_256-511"
    folder.store.path(lost).unlink()
    assert folder.run() == [lost]
    # Another size of shards makes nothing again, and fills gaps.
    folder.toys["toys_per_task"] = 100
    assert folder.run() == []
    folder.store.path(lost).unlink()
    assert folder.run() == sorted(named(NAMES[1], "256-299", "300-399", "400-499", "500-511"))
    assert folder.table() == before
    # More toys keep those that are there, and fewer ones make nothing.
    folder.toys |= {"toys": 1000, "toys_per_task": 1000}
    assert folder.run() == sorted(name for patch in NAMES for name in named(patch, "600-999"))
    folder.toys["toys"] = 600
    assert folder.run() == []
    assert folder.table() == before
    # Another seed makes all of them again; the first ones come back.
    folder.toys["seed"] = 2
    assert len(folder.run()) == 2
    assert folder.table() != before
    folder.toys["seed"] = 1
    assert set(folder.run()) <= set(named(NAMES[0], "0-599") + named(NAMES[1], "0-599"))
    assert folder.table() == before


@pytest.mark.study  # gaps that are filled in smaller parts show it, too
def test_all_at_once_gives_the_same(folder, tmp_path):
    folder.toys |= {"toys_per_task": 90}
    folder.run()
    (tmp_path / "other").mkdir()
    other = Folder(tmp_path / "other")
    other.toys["toys_per_task"] = 10_000
    assert len(other.run()) == 2
    assert other.table() == folder.table()


def test_rounds_until_the_uncertainty_is_small_enough(folder):
    folder.toys = {"toys": 20_000, "precision": 0.012, "toys_per_task": 512}
    tasks = folder.run()
    assert tasks[:2] == named(NAMES[0], "0-511", "1024-1535")
    table = folder.table()
    for entry in table.values():
        assert FIRST_ROUND <= entry["toys"] < 20_000
        assert entry["CLs_obs_error"] <= 0.012
        assert entry["remarks"] == []
    # The weaker signal has the larger CLs, and needs more toys.
    assert table[f"{NAMES[0]} (A)"]["toys"] < table[f"{NAMES[1]} (A)"]["toys"]
    assert set(folder.entries()) == set(tasks)
    lost = tasks[0]
    folder.store.path(lost).unlink()
    assert folder.run() == [lost]
    assert folder.table() == table
    # A better precision goes on from there.
    folder.toys["precision"] = 0.01
    assert not set(folder.run()) & set(tasks)


def test_parts_share_shards_or_with_a_precision_patches(folder):
    folder.run()
    whole = folder.table()
    for path in folder.store.folder.glob("*.json"):
        path.unlink()
    found = []
    for number in (1, 2):
        folder.run(part=(number, 2))
        found.append(read_json(folder.manifest))
        # Every second one, though those of the other part may be there already.
        assert folder.executor.tasks == list(found[-1]["patches"])
        assert len(found[-1]["patches"]) == 3
    write_atomically(folder.manifest, json.dumps(manifests.merge("t", found)))
    assert folder.table() == whole
    folder.toys |= {"precision": 0.05, "toys": 2000}
    for number, patch in enumerate(NAMES, 1):
        folder.run(part=(number, 2))
        assert {item["of"] for item in folder.entries().values()} == {patch}


# ---------------------------------------------------------------------- failures


def died(earlier: int) -> None:
    raise MemoryError(f"attempt {earlier}")


def test_a_lost_shard_costs_no_other_and_is_told(folder):
    lost = f"{NAMES[0]}.toys_256-511"
    folder.run()
    folder.store.path(lost).unlink()
    folder.executor.disturb = {lost: died}
    before = {path: path.stat().st_mtime_ns for path in folder.store.folder.glob("*.json")}
    assert folder.run() == [lost]
    entry = folder.entries()[lost]
    assert (entry["status"], entry["of"], entry["retry"]) == ("failed", NAMES[0], True)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    known = analysis(known_failures=[NAMES[0]]).regions["A"]
    manifest = read_json(folder.manifest)
    assert list(manifests.failures(manifest, analysis().regions["A"])) == [lost]
    assert manifests.failures(manifest, known) == {}
    assert manifests.is_complete(manifest, folder.store, known)
    assert not manifests.is_complete(manifest, folder.store, analysis().regions["A"])
    error = runs.failure_error(folder.scan(), {lost: "why"}, folder.store, len(manifest["patches"]))
    assert "1 of 6 shards of search/A toys failed" in str(error)
    # What remains counts, with what the lost toys may change.
    found = folder.table()[f"{NAMES[0]} (A)"]
    assert (found["status"], found["toys"]) == ("suspect", 600)
    assert found["failed"] == {"tested": 256, "alternative": 256}
    assert "toys 256 to 511 are missing" in found["remarks"][-1]
    low, high = found["CLs_obs_range"]
    folder.executor.disturb = {}
    assert folder.run() == [lost]
    assert low <= folder.table()[f"{NAMES[0]} (A)"]["CLs_obs"] <= high
    assert folder.table()[f"{NAMES[0]} (A)"]["status"] == "ok"


def test_a_patch_whose_shard_failed_has_no_further_round(folder):
    folder.toys = {"toys": 4000, "precision": 0.012, "toys_per_task": 2000}
    lost = f"{NAMES[0]}.toys_0-1023"
    folder.executor.disturb = {lost: died}
    tasks = folder.run()
    assert [name for name in tasks if NAMES[0] in name] == [lost]
    assert len(tasks) > 2
    assert {item["of"] for item in folder.entries().values()} == set(NAMES)
    found = folder.table()[f"{NAMES[0]} (A)"]
    assert (found["status"], found["toys"]) == ("failed", 0)
    assert "MemoryError" not in found["problem"]
    assert folder.table()[f"{NAMES[1]} (A)"]["status"] == "ok"


def test_a_patch_that_cannot_be_fitted_is_data(monkeypatch):
    engine = BatchedEngine(models.full("shapesys"), FitSettings())
    bad = Patch("bad", (1,), [{"op": "remove", "path": "/channels/9"}])
    patches = [shard(patch, 0, 10) for patch in (bad, Patch("good", (2,), []))]
    settings = product_of("toys", Settings()).settings
    (_, error), (patch, found) = compute(engine, patches, settings)
    assert isinstance(error, PalletError)
    assert error.patch == "bad"
    assert found["patch"] == patch.name == "good.toys_0-9"
    assert found["status"] == "ok"
    # The next shard of a patch needs no fit of the observed data, and is the same.
    fresh = Toys(engine, patches[1], ToySettings()).shard(10, 10)
    monkeypatch.setattr(engine, "data_fits", None)
    ((_, again),) = compute(engine, [shard(Patch("good", (2,), []), 10, 10)], settings)
    assert [again[name]["q"] for name in HYPOTHESES] == [fresh[name]["q"] for name in HYPOTHESES]


def test_toys_with_the_engine_that_makes_none(folder):
    settings = Settings(fit=FitSettings(engine="reference"))
    with pytest.raises(ConfigError, match="The engine reference makes no toys"):
        scan.of_region(analysis(), "A", settings, find("toys"), *folder.paths, [folder.chosen])


# ---------------------------------------------------------------------- what is told


def test_the_table_and_its_plots(folder):
    folder.run()
    found = folder.table()
    entry = found[f"{NAMES[0]} (A)"]
    assert list(found) == [f"{name} (A)" for name in NAMES]
    shards = [folder.store.read(folder.store.path(name)) for name in named(NAMES[0], *SPANS)]
    result = merge({**item, "patch": "p"} for item in shards)
    for name in ("CLs_obs", "CLsb_obs_error", "CLb_obs", "q"):
        assert entry[name] == getattr(result, name)
    assert entry["CLs_exp"] == list(result.CLs_exp)
    assert entry["asymptotic"]["CLs_obs"] == asymptotic()[NAMES[0]]["CLs_obs"]
    table = toy_tables.as_table(found, ["m1", "m2"])
    assert set(table) - {"m1", "m2"} <= RESULT_COLUMNS
    row = table.iloc[0]
    assert (row["patch"], row["m2"], row["toys"]) == (f"{NAMES[0]} (A)", 1, 600)
    assert row["CLs_exp_0_error"] == entry["CLs_exp_errors"][2]
    assert row["CLb_obs_asymptotic"] == entry["asymptotic"]["CLb_obs"]
    q = toy_tables.statistics(folder.region(), entry)
    assert {name: len(values) for name, values in q.items()} == dict.fromkeys(HYPOTHESES, 600)
    assert np.mean(q["tested"] >= entry["q"] - 1e-6) == pytest.approx(entry["CLsb_obs"])
    assert toy_tables.find(found, NAMES[1]) == found[f"{NAMES[1]} (A)"]
    with pytest.raises(StoreError, match=r"toys\.patches"):
        toy_tables.find(found, "nobody")
    figure = draw_toys(entry, q, analysis())
    title = figure.legends[0].get_title().get_text()
    assert f"{NAMES[0]}, region A" in title
    assert f"{entry['CLs_obs']:.3f} $\\pm$ {entry['CLs_obs_error']:.3f}" in title
    assert f"({entry['asymptotic']['CLs_obs']:.3f}) observed" in title
    assert f"({entry['asymptotic']['CLs_exp'][2]:.3f}) expected" in title
    above, below = figure.axes
    # Points and lines are fractions of the same bins: of all toys up to the end of the axis.
    for container, line in zip(above.containers, above.lines[1:], strict=False):
        assert container[0].get_ydata().sum() == pytest.approx(1, abs=0.01)
        assert line is not None
    assert below.get_ylabel() == "Toys / asymptotic"
    discovery = draw_toys({**entry, "test_statistic": "q0", "mu": 0.0}, q, analysis())
    assert "p$_0$ = " in discovery.legends[0].get_title().get_text()
    assert "CL" not in discovery.legends[0].get_title().get_text()


def test_a_precision_that_was_not_reached_and_another_q_are_told(folder):
    folder.toys |= {"precision": 1e-4}
    folder.run()
    found = toy_tables.combine(
        results(), hypothesis_tests(q=9.0), [folder.region()], folder.settings.toys
    )
    precision, other = found[f"{NAMES[0]} (A)"]["remarks"]
    assert "above the wanted 0.0001" in precision
    assert "9 in the hypothesis test" in other
    assert "above the wanted" in toy_tables.as_table(found, ["m1", "m2"]).iloc[0]["remark"]


def test_toys_of_a_patch_that_was_not_tested_have_no_asymptotic_values(folder):
    folder.run()
    untested = {"status": "untested", "forecast": {"CLs_obs": 0.2, "CLs_exp": [0.2] * 5}}
    tests = [RegionResults("A", dict.fromkeys(NAMES, untested))]
    entry = toy_tables.combine(results(), tests, [folder.region()], folder.settings.toys)[
        f"{NAMES[0]} (A)"
    ]
    assert entry["asymptotic"] == {"status": "untested"}
    assert 0 <= entry["CLs_obs"] <= 1
    draw_toys(entry, toy_tables.statistics(folder.region(), entry), analysis())


def test_a_patch_without_toys_or_asymptotic_values_is_drawn_too(folder):
    folder.run()
    lost = hypothesis_tests(status="failed", error={"problem": "the fit broke"})
    found = toy_tables.combine(results(), lost, [folder.region()], folder.settings.toys)
    entry = found[f"{NAMES[0]} (A)"]
    assert entry["asymptotic"] == {"status": "failed", "problem": "the fit broke"}
    figure = draw_toys(entry, toy_tables.statistics(folder.region(), entry), analysis())
    assert "(not defined) observed" in figure.legends[0].get_title().get_text()
    table = toy_tables.as_table(found, ["m1", "m2"])
    assert table.iloc[0]["CLs_obs_asymptotic"] is None
    failed = {**entry, "status": "failed", "problem": "it broke"}
    figure = draw_toys(failed, {}, analysis())
    assert [text.get_text() for text in figure.axes[0].texts] == ["it broke"]
