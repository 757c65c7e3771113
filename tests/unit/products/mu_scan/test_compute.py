"""CLs against the signal strength."""

from __future__ import annotations

import json

import numpy as np
import pytest

from palletfit.config import (
    ExecutorSettings,
    FitSettings,
    LimitSettings,
    MuScanSettings,
    Settings,
    parse,
)
from palletfit.engine.choose import make_engine
from palletfit.errors import ConfigError
from palletfit.pallet.patches import Patch
from palletfit.products.mu_scan import compute as mu_scan
from palletfit.products.mu_scan.compute import MuScan, choose, scans
from palletfit.products.mu_scan.plots import draw_mu_scan
from palletfit.runs import run as runs
from palletfit.runs import scan
from palletfit.runs.registry import find, product_of
from palletfit.runs.store import RecordStore

from ... import models
from ...products.limits.test_table import failed, gathered, record
from ...runs.test_scan import Counting
from ...runs.test_state import analysis

ALL = Patch("all", (), ())


def scanned(spec=None, settings=None, search=None, **fit) -> MuScan:
    engine = make_engine(spec or models.full("normsys", "histosys"), FitSettings(**fit))
    ((_, table),) = scans(engine, [ALL], 0.95, settings or MuScanSettings(points=9), search)
    assert isinstance(table, MuScan), table
    return table


@pytest.fixture(scope="module")
def usual() -> MuScan:
    """The usual model at nine strengths."""
    return scanned()


def test_the_same_as_hypothesis_tests(usual):
    spec, table = models.full("normsys", "histosys"), usual
    assert table.status == "ok"
    assert table.points[0].mu == 0.0
    assert table.points[0].p_values.CLs_obs == 1.0
    for point in table.points[1::4]:
        engine = make_engine(spec, FitSettings(mu=point.mu))
        ((_, test),) = engine.hypotests([ALL])
        assert point.p_values.CLs_obs == pytest.approx(test.p_values.CLs_obs, abs=1e-8)
        assert point.p_values.CLs_exp == pytest.approx(test.p_values.CLs_exp, abs=1e-8)


def test_curves_cross_the_level_at_the_limits():
    table = scanned(settings=MuScanSettings(points=51))
    mu = [point.mu for point in table.points]
    observed = np.log([point.p_values.CLs_obs for point in table.points])
    crossing = np.interp(-np.log(0.05), -observed, mu)
    assert crossing == pytest.approx(table.limits.observed.mu, rel=2e-3)
    assert mu[-1] > table.limits.expected[-1].mu
    assert np.all(np.diff(observed) < 0)


def test_the_range():
    table = scanned(models.counting(), MuScanSettings(points=3, range=[0.5, 2.5]))
    assert [point.mu for point in table.points] == [0.5, 1.5, 2.5]
    with pytest.raises(ConfigError, match="above 10"):
        mu_scan.strengths(table.limits, MuScanSettings(range=[0, 11]))
    with pytest.raises(ConfigError, match="range must rise"):
        parse(MuScanSettings, {"range": [2, 1]}, file="config.yaml")


def test_a_range_out_of_bounds_fails_its_patch():
    engine = make_engine(models.counting(), FitSettings())
    ((_, table),) = scans(engine, [ALL], settings=MuScanSettings(range=[0, 11]))
    assert isinstance(table, ConfigError)
    assert table.patch == "all"


def test_limits_beyond_the_bound_end_the_scan_there():
    table = scanned(models.counting(1.0, 500.0, 500.0))
    assert table.points[-1].mu == 10.0
    table = scanned(models.counting(), search=LimitSettings(mu_max=0.4))
    assert table.points[-1].mu == 0.4


def test_the_other_engine():
    spec = models.counting()
    expected = scanned(spec, MuScanSettings(points=3))
    table = scanned(spec, MuScanSettings(points=3), engine="reference")
    assert table.engine == "reference"
    for a, b in zip(expected.points, table.points, strict=True):
        assert a.p_values.CLs_obs == pytest.approx(b.p_values.CLs_obs, abs=1e-4)


def test_plain_data_and_its_plot(usual):
    plain = json.loads(json.dumps(usual.as_json(), allow_nan=False))
    assert len(plain["mu"]) == len(plain["CLs_obs"]) == len(plain["CLs_exp"]) == 9
    assert plain["limits"]["mu_obs"] == pytest.approx(usual.limits.observed.mu)
    shown = {"patch": "S_1", "values": {}, **plain}
    figure = draw_mu_scan(shown, analysis(), "SR", 0.95)
    title = figure.legends[0].get_title().get_text()
    assert "S_1, region SR" in title
    assert f"{plain['limits']['mu_obs']:.3g} observed" in title
    low, high = figure.axes[0].get_xlim()
    assert (low, high) == (0.0, plain["mu"][-1])


def test_which_patches():
    table = gathered(
        A={"p_1": record(0.2), "p_2": record(3.0, (2.0, 0.0)), "q": failed((3.0, 0.0))},
        B={"other name": record(0.9, (2.0, 0.0))},
    )
    assert choose("search", [], table) == {"B": ["other name"]}
    assert choose("search", ["p_*", "q"], table) == {"A": ["p_1", "q"]}
    with pytest.raises(ConfigError, match="No patch of search matches 'z'"):
        choose("search", ["z"], table)
    with pytest.raises(ConfigError, match="none is near to one"):
        choose("search", [], gathered(A={"q": failed()}))


def test_patterns_are_no_part_of_the_key():
    products = [
        product_of("mu_scan", Settings(mu_scan=MuScanSettings(patches=patches)))
        for patches in ([], ["a"])
    ]
    assert products[0] == products[1]
    assert product_of("mu_scan", Settings(mu_scan=MuScanSettings(points=7))) != products[0]


def test_only_chosen_patches_are_scanned(tmp_path):
    background = models.background("normsys")
    content = models.patchset(background, models.grid())
    paths = models.write(tmp_path, background, content)
    chosen = tmp_path / "chosen.json"
    settings = Settings(mu_scan=MuScanSettings(points=5))
    executor = Counting()
    for region, count in (("A", 1), ("B", 0)):
        chosen.write_text('{"A": ["signal_200_50"]}')
        todo = scan.of_region(analysis(), region, settings, find("mu_scan"), *paths, [chosen])
        store = RecordStore(tmp_path / region / "mu_scan")
        table = runs.run(todo, store, executor, ExecutorSettings())
        assert len(table["patches"]) == count
    assert executor.tasks == ["signal_200_50"]


def test_discovery_has_no_upper_limits(tmp_path):
    settings = Settings(fit=FitSettings(test_statistic="q0"))
    for product in ("limits", "mu_scan"):
        with pytest.raises(ConfigError, match="q0"):
            scan.of_region(analysis(), "A", settings, find(product), tmp_path, tmp_path)
