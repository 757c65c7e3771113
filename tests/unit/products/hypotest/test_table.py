"""results.json and results.csv: each point from its best region, failures included."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from palletfit.config import RESULT_COLUMNS
from palletfit.products.hypotest.table import as_table, combine, read_table
from palletfit.runs.results import EXPECTED_COLUMNS, RegionResults

LABELS = ["m1", "m2"]


def fitted(values, expected, observed=0.3, *, status="ok", remarks=(), **more):
    trusted = {"trusted": status == "ok", "reason": "edm of 1 is above 1e-5"}
    return {
        "patch": "signal",
        "values": dict(zip(LABELS, values, strict=True)),
        "key": {"digest": "k"},
        "status": status,
        "CLs_obs": observed,
        "CLs_exp": [expected * f for f in (0.1, 0.4, 1.0, 1.7, 2.3)],
        "CLsb_obs": 0.1,
        "CLb_obs": 0.5,
        "mu_hat": 0.25,
        "fit_time": 1.5,
        "fits": {"free": trusted, "fixed": {"trusted": True, "reason": "fine"}},
        "remarks": list(remarks),
        **more,
    }


def other(expected=0.01, observed=0.02):
    """Make what a record says of another minimum."""
    return {
        "minimum": "nearest",
        "CLs_obs": observed,
        "CLs_exp": [expected * f for f in (0.1, 0.4, 1.0, 1.7, 2.3)],
        "CLsb_obs": 0.3,
        "CLb_obs": 0.6,
        "mu_hat": 0.5,
        "q": 1.0,
        "q_asimov": 2.0,
        "fits": {"background": {"twice_nll": 3.0, "above": 0.2, "parameters": {"a": [0, 1]}}},
    }


def failed(values, problem="worker died"):
    return {
        "patch": "signal",
        "values": dict(zip(LABELS, values, strict=True)),
        "key": {"digest": "k"},
        "status": "failed",
        "error": {"kind": "WorkerDied", "problem": problem, "remedy": "", "details": ""},
    }


def regions(**records):
    return [RegionResults(name, content) for name, content in records.items()]


def test_the_region_with_the_best_expected_value_is_taken():
    found = combine(
        regions(
            A={"p": fitted((100, 50), 0.2, 0.01), "q": fitted((200, 50), 0.1)},
            B={"p": fitted((100, 50), 0.1, 0.40), "q": fitted((200, 50), 0.2)},
        ),
        LABELS,
    )
    assert {name: point["region"] for name, point in found.items()} == {"p": "B", "q": "A"}
    # The expected value decides, whatever the observed one is.
    assert found["p"]["CLs_obs"] == 0.40
    assert found["p"]["CLs_exp"][2] == 0.1
    assert found["p"]["mass_hypotheses"] == [100, 50]
    assert found["p"]["regions"]["A"]["CLs_obs"] == 0.01
    assert found["p"]["fit_time"] == 1.5


def test_points_are_matched_by_values_and_not_by_names():
    found = combine(
        regions(
            A={"sig_100_50": fitted((100, 50), 0.3)},
            B={"signal-100": fitted((100.0, 50.0), 0.2), "signal-200": fitted((200, 50), 0.2)},
        ),
        LABELS,
    )
    assert list(found) == ["signal-100", "signal-200"]
    assert found["signal-100"]["regions"]["A"]["patch"] == "sig_100_50"
    assert list(found["signal-200"]["regions"]) == ["B"]


def test_different_points_of_one_name_are_kept_apart():
    found = combine(
        regions(A={"p": fitted((100, 50), 0.3)}, B={"p": fitted((200, 50), 0.2)}), LABELS
    )
    assert {name: point["mass_hypotheses"] for name, point in found.items()} == {
        "p": [100, 50],
        "p (B)": [200, 50],
    }


def test_the_first_region_wins_a_tie():
    found = combine(regions(B={"p": fitted((1, 2), 0.0)}, A={"p": fitted((1, 2), 0.0)}), LABELS)
    assert found["p"]["region"] == "B"


def test_a_failed_region_is_passed_over_and_mentioned():
    found = combine(
        regions(A={"p": failed((100, 50), "disk on fire")}, B={"p": fitted((100, 50), 0.99)}),
        LABELS,
    )
    assert found["p"]["region"] == "B"
    assert found["p"]["status"] == "ok"
    assert found["p"]["regions"]["A"]["problem"] == "disk on fire"
    table = as_table(found, LABELS)
    assert table["remark"].tolist() == ["A: disk on fire"]


def test_a_point_that_failed_everywhere_is_a_failed_point():
    found = combine(
        regions(A={"p": failed((1, 2), "first")}, B={"p": failed((1, 2), "second")}), LABELS
    )
    assert found["p"]["status"] == "failed"
    assert found["p"]["CLs_obs"] is None
    assert found["p"]["CLs_exp"] is None
    table = as_table(found, LABELS)
    assert table["remark"].tolist() == ["first; B: second"]
    assert np.isnan(table.loc[0, ["CLs_obs", *EXPECTED_COLUMNS, "mu_hat"]].astype(float)).all()
    json.dumps(found, allow_nan=False)


def test_doubts_and_remarks_of_the_region_taken_are_shown():
    record = fitted((1, 2), 0.1, status="suspect", remarks=["mu-hat is at its upper bound"])
    found = combine(regions(A={"p": record}), LABELS)
    assert found["p"]["status"] == "suspect"
    assert found["p"]["doubts"] == ["free fit: edm of 1 is above 1e-5"]
    assert as_table(found, LABELS)["remark"].tolist() == [
        "free fit: edm of 1 is above 1e-5; mu-hat is at its upper bound"
    ]


def test_the_table_survives_its_file(tmp_path):
    names = ["plain", "NA", "null", "a,b", 'with "quotes"', "\u03c4/1", "1e5", "007"]
    records = {
        name: fitted((100 + i, 0.1 * i), 1 / (3 + i), 0.1 + 0.2, remarks=["two\nlines"] * (i % 2))
        for i, name in enumerate(names)
    }
    records["broken"] = failed((1, 2))
    table = as_table(combine(regions(NA=records), LABELS), LABELS)
    path = tmp_path / "results.csv"
    table.to_csv(path, index=False)
    read = read_table(path)
    assert read["patch"].tolist() == [*names, "broken"]
    assert list(read.columns) == [
        *("patch", "m1", "m2", "region", "status", "CLs_obs"),
        *EXPECTED_COLUMNS,
        *("mu_hat", "fit_time", "remark"),
    ]
    pd.testing.assert_frame_equal(read, table, rtol=1e-15, check_dtype=False)
    assert np.isnan(read["CLs_obs"].iloc[-1])


def test_a_table_of_failures_alone_has_numbers(tmp_path):
    table = as_table(combine(regions(A={"p": failed((1, 2))}), LABELS), LABELS)
    table.to_csv(tmp_path / "results.csv", index=False)
    assert read_table(tmp_path / "results.csv")["CLs_obs"].dtype == float


def test_another_minimum_has_columns_where_a_point_has_one(tmp_path):
    records = {
        "two": fitted((1, 2), 0.1, other_minimum=other(), minimum="lowest"),
        "one": fitted((2, 2), 0.1, other_minimum=None, minimum="lowest"),
        "older": fitted((3, 2), 0.1),
        "broken": failed((4, 2)),
    }
    entries = combine(regions(A=records), LABELS)
    assert entries["two"]["other_minimum"] == {
        key: other()[key] for key in ("minimum", "CLs_obs", "CLs_exp", "CLsb_obs", "CLb_obs")
    } | {"mu_hat": 0.5}
    assert [entries[name]["other_minimum"] for name in ("one", "older", "broken")] == [None] * 3
    as_table(entries, LABELS).to_csv(tmp_path / "results.csv", index=False)
    table = read_table(tmp_path / "results.csv").set_index("patch")
    expected = [f"{name}_other" for name in EXPECTED_COLUMNS]
    assert list(table.columns)[-9:] == [
        *("minimum_other", "CLs_obs_other", *expected, "mu_hat_other", "remark")
    ]
    assert table["minimum_other"].tolist() == ["nearest", "", "", ""]
    assert table.loc["two", ["CLs_obs_other", "mu_hat_other"]].tolist() == [0.02, 0.5]
    assert table.loc["two", expected].tolist() == other()["CLs_exp"]
    assert table.loc[["one", "older", "broken"], expected].isna().all(axis=None)
    # The columns of tables are no labels of points.
    assert {*table.columns} - {*LABELS} <= RESULT_COLUMNS


def test_the_other_minimum_is_that_of_the_region_that_counts():
    # With its other minimum B would be the more sensitive region.
    found = combine(
        regions(
            A={"p": fitted((1, 2), 0.1, other_minimum=other(0.3, 0.4))},
            B={"p": fitted((1, 2), 0.2, other_minimum=other(0.01, 0.02))},
        ),
        LABELS,
    )
    assert found["p"]["region"] == "A"
    assert found["p"]["other_minimum"]["CLs_obs"] == 0.4
    assert found["p"]["regions"]["B"]["other_minimum"]["CLs_obs"] == 0.02
