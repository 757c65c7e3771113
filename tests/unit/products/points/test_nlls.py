"""Eight NLLs of points: pyhf's at the same signal strengths, with all constants."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyhf
import pytest

from palletfit.config import NLL_COLUMNS, FitSettings
from palletfit.engine.choose import make_engine
from palletfit.errors import ConfigError
from palletfit.pallet.patches import apply
from palletfit.products.points import collect, nlls
from palletfit.products.points.compute import compute

from ...scans import LABELS, NAMES, by_function, patches

#: Points with a signal below zero, too, and one that leaves nothing to expect.
NEGATIVE = """
def points(first, stop):
    yields = [[5.0, 3.0], [-4.0, -2.0], [-80.0, 1.0]]
    for number in range(first, stop):
        yield f"p{number}", {"mass": number, "kind": "wino"}, {"SR": yields[number]}
"""


def by_pyhf(spec: dict, observed: list[float]) -> dict[str, float]:
    """Minimum of the NLL at zero and one, on data and on the Asimov data of a fit at zero."""
    model = pyhf.Workspace({**spec}).model()
    data = [*observed, *model.config.auxdata]

    def fit(mu: float, values: list[float]) -> tuple[list[float], float]:
        parameters, twice = pyhf.infer.mle.fixed_poi_fit(
            mu, values, model, return_fitted_val=True, tolerance=1e-12
        )
        return parameters, float(twice) / 2

    asimov = model.expected_data(fit(0.0, data)[0]).tolist()
    return {
        f"nll{kind}_{mu:g}": fit(mu, values)[1]
        for kind, values in (("", data), ("A", asimov))
        for mu in (0.0, 1.0)
    }


def expected_of_pyhf(background: dict, patch) -> dict[str, float]:
    spec = apply(background, patch)
    names = pyhf.Workspace(spec).model().config.channels
    of_data = {entry["name"]: entry["data"] for entry in background["observations"]}
    of_background = {
        channel["name"]: np.sum([sample["data"] for sample in channel["samples"]], axis=0)
        for channel in background["channels"]
    }
    values = {}
    for title, totals in (("obs", of_data), ("exp", of_background)):
        joined = [float(count) for name in names for count in totals[name]]
        for name, value in by_pyhf(spec, joined).items():
            kind, mu = name.split("_")
            values[f"{kind}_{title}_{mu}"] = value
    return values


def test_nlls_are_those_of_pyhf(scan) -> None:
    points = patches(scan.scan().source)[:2]
    engine = make_engine(scan.background, FitSettings())
    for patch, summary in compute(engine, points, {"nlls": True}):
        assert tuple(summary["nlls"]) == NLL_COLUMNS
        assert summary["nlls"] == pytest.approx(expected_of_pyhf(scan.background, patch), abs=2e-5)


def test_signals_below_zero_and_failures_with_their_reasons(scan, tmp_path) -> None:
    by_function(scan, NEGATIVE, count=3, nlls=True)
    with pytest.raises(ConfigError, match="is negative"):
        scan.run()
    scan.points["negative"] = True
    assert scan.run() == NAMES[:3]
    collect.collect([scan.manifest], LABELS, tmp_path / "points.parquet", 0.95)
    table = pd.read_parquet(tmp_path / "points.parquet").set_index("name")
    assert [*table.columns[-8:]] == [*NLL_COLUMNS]
    for patch in patches(scan.scan().source)[:2]:
        values = table.loc[patch.name, list(NLL_COLUMNS)].to_dict()
        assert values == pytest.approx(expected_of_pyhf(scan.background, patch), abs=2e-5)
    assert table.status["p2"] == "failed"
    assert table.reason["p2"]
    assert table.loc["p2", list(NLL_COLUMNS)].isna().all()


def test_points_without_nlls_keep_their_keys(scan) -> None:
    scan.write(2)
    scan.run()
    before = {path.name: path.read_bytes() for path in scan.parts.glob("*.parquet")}
    keys = [entry["key"] for entry in json.loads(scan.manifest.read_bytes())["parts"]]
    scan.points |= {"nlls": False, "negative": True}
    assert scan.run() == []
    scan.points["nlls"] = True
    assert scan.run() == NAMES[:2]
    assert set(keys).isdisjoint(
        entry["key"] for entry in json.loads(scan.manifest.read_bytes())["parts"]
    )
    assert scan.run() == []
    scan.points["nlls"] = False
    assert scan.run() == []
    assert {path.name: path.read_bytes() for path in scan.parts.glob("*.parquet")} == before


def test_labels_of_finished_points_change_and_their_nlls_stay(scan) -> None:
    scan.write(3)
    scan.points["nlls"] = True
    scan.run()
    path = scan.parts / "part-000000.parquet"
    before = pd.read_parquet(path)
    text = (scan.folder / "points.csv").read_text().replace("p2,102.0", "p2,7.5")
    (scan.folder / "points.csv").write_text(text)
    assert scan.run() == []
    after = pd.read_parquet(path)
    assert after.mass[2] == 7.5
    assert after[list(NLL_COLUMNS)].equals(before[list(NLL_COLUMNS)])


def test_an_expected_test_that_fails_leaves_the_observed_numbers(scan) -> None:
    (patch, *_) = patches(scan.scan().source)
    engine = make_engine(scan.background, FitSettings())
    ((_, tests),) = nlls.with_nlls(engine, [patch])
    failed = nlls.TwoTests(tests.observed, ConfigError("Nothing is expected.", remedy="None."))
    plain = failed.added_to({"status": "ok", "reason": ""})
    assert (plain["status"], plain["reason"]) == ("suspect", "expected data: Nothing is expected.")
    missing = [name for name, value in plain["nlls"].items() if value is None]
    assert missing == [name for name in NLL_COLUMNS if "exp" in name]


@pytest.mark.parametrize(
    "settings",
    [
        {"fit": {"mu": 0.5}},
        {"fit": {"test_statistic": "q0"}},
        {"points": {"chunk": 4, "search": "once"}},
    ],
)
def test_nlls_of_another_test_are_refused(scan, settings) -> None:
    scan.points["nlls"] = True
    scan.settings |= settings
    with pytest.raises(ConfigError, match=r"points\.nlls"):
        scan.scan()
