"""The interactive page: what is in it, that nothing in it can run, and that it is reproducible.

The whole package is tested here: its modules are parts of one page.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs
from scipy.stats import norm

from palletfit.config import Analysis, ContourSettings
from palletfit.pages import interactive
from palletfit.pages.interactive import points
from palletfit.pages.interactive.figure import draw
from palletfit.planes.colours import COLOURS
from palletfit.planes.contour import CURVES, exclusion
from palletfit.products.hypotest.table import combine
from palletfit.runs.results import RegionResults
from palletfit.runs.store import RecordStore

EVIL = "</script><script>alert(1)</script>"
LABELS = ["m1", "m2"]
LEVEL = norm.isf(0.05)
KEY = {"digest": "k", "workspace": "w", "patch": "p"}
PUBLISHED = {
    "observed": [np.array([[500.0, 0.0], [500.0, 200.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])]
}


def analysis(**changes) -> Analysis:
    plane = {
        "x": "m1",
        "y": "m2",
        "x_title": r"$m(\tilde{\chi}^0_1)$ [GeV]",
        "y_title": "$m_2$ [GeV]",
        "forbidden": {"y_above": "x - 100", "label": "$m_1 < m_2$"},
    }
    content = {
        "name": "search",
        "title": r"$\tilde{b}\tilde{b}$ production; $\sqrt{s} = 13$ TeV",
        "pallet": {"builtin": "demo"},
        "regions": {name: {"workspace": "b", "patchset": "p"} for name in "AB"},
        "labels": LABELS,
        "planes": {"masses": {**plane, **changes}},
    }
    return Analysis.model_validate(content)


def record(patch: str, values, significance: float, status: str = "ok", **more):
    if status == "failed":
        error = {"kind": "FitError", "problem": f"{patch} has no minimum", "remedy": ""}
        drawn = {"patch": patch, "values": values, "key": KEY, "status": status, "error": error}
        return {**drawn, **more}
    attempts = [
        {"optimizer": "newton", "start": "suggested", "twice_nll": 10.0, "edm": 1e-9, "doubts": []},
        {"optimizer": "newton", "start": "free", "twice_nll": None, "edm": None, "doubts": [EVIL]},
    ]
    fit = {
        "trusted": status == "ok",
        "reason": "1 of 2 starts agrees",
        "mu": 0.123456789,
        "edm": 2e-9,
        "agreed": 1,
        "spread": 0.0,
        "twice_nll": 10.0,
        "attempts": attempts,
    }
    return {
        "patch": patch,
        "values": values,
        "key": KEY,
        "status": status,
        "CLs_obs": norm.sf(significance),
        "CLs_exp": [norm.sf(significance + shift) for shift in (1, 0.5, 0, -0.5, -1)],
        "CLsb_obs": 0.1,
        "CLb_obs": 0.5,
        "mu_hat": 0.25,
        "mu_hat_error": 0.1,
        "fit_time": 1.5,
        "fits": {"asimov_fixed": fit, "free": fit},
        "remarks": ["a remark"],
        **more,
    }


def make(names=None, statuses=None):
    """Records of a grid of 27 points, by the name of the patch."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(0, 800, 9), [0, 100, 200]))
    names = names or [f"signal_{a:g}_{b:g}" for a, b in zip(x, y, strict=True)]
    return {
        name: record(
            name,
            {"m1": a, "m2": b},
            LEVEL + (500 - a) / 200,
            (statuses or {}).get(name, "ok"),
        )
        for name, a, b in zip(names, x.tolist(), y.tolist(), strict=True)
    }


def other_columns(other) -> dict:
    """Columns of a point that has another minimum."""
    if other is None:
        return {}
    names = ["CLs_obs_other", *(f"CLs_exp_{n}_other" for n in ("minus2", "minus1"))]
    names += [f"CLs_exp_{n}_other" for n in ("0", "plus1", "plus2")]
    values = [other["CLs_obs"], *other["CLs_exp"]]
    return {"minimum_other": other["minimum"], **dict(zip(names, values, strict=True))}


def with_other(records, shift: float = 0.5):
    """Give all points another minimum, whose significance is higher."""
    parameters = {"a": [0.0, 0.1], "b": [0.0, 0.2], EVIL: [1.2, -0.1], "d": [1.0, 0.9]}
    fits = {
        "background": {"twice_nll": 1.0, "above": 0.131, "parameters": parameters},
        "asimov_fixed": {"twice_nll": 1.0, "above": None, "parameters": {}},
    }
    return {
        name: {
            **entry,
            "other_minimum": {
                "minimum": "nearest",
                "CLs_obs": norm.sf(norm.isf(entry["CLs_obs"]) + shift),
                "CLs_exp": [norm.sf(norm.isf(value) + shift) for value in entry["CLs_exp"]],
                "CLsb_obs": 0.1,
                "CLb_obs": 0.2,
                "mu_hat": 0.75,
                "fits": fits,
            },
        }
        for name, entry in records.items()
    }


def parts(records, *, chosen=None, bands=(1, 2), published=PUBLISHED, **more):
    """Exclusion and details of records of one region."""
    region = RegionResults("A", records)
    results = combine([region], LABELS)
    rows = [
        {
            "patch": name,
            **dict(zip(LABELS, element["mass_hypotheses"], strict=True)),
            "region": "A",
            "status": element["status"],
            "CLs_obs": element["CLs_obs"],
            **dict(
                zip(
                    [f"CLs_exp_{n}" for n in ("minus2", "minus1", "0", "plus1", "plus2")],
                    element["CLs_exp"] or [None] * 5,
                    strict=True,
                )
            ),
            **other_columns(element["other_minimum"]),
        }
        for name, element in results.items()
    ]
    table = pd.DataFrame(rows).astype(dict.fromkeys(CURVES, float))
    settings = ContourSettings(grid=60, bands=list(bands))
    plane = (chosen or analysis()).planes["masses"]
    drawn = exclusion(table, plane, settings, published)
    return drawn, interactive.details(results, [region], LABELS, **more)


def page(records, *, chosen=None, shown_bands=(1,), **more) -> str:
    chosen = chosen or analysis()
    drawn, entries = parts(records, chosen=chosen, **more)
    plane = chosen.planes["masses"]
    return interactive.render(drawn, chosen, plane, entries, shown_bands=shown_bands)


def data(text: str, name: str):
    """What a block of data in a page holds."""
    (block,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', text)
    return json.loads(block)


def traces(text: str) -> dict[str, dict]:
    return {trace["meta"]: trace for trace in data(text, "figure")["data"]}


def test_every_curve_has_an_entry_in_the_legend():
    statuses = {"signal_0_0": "suspect", "signal_300_0": "failed"}
    drawn = traces(page(make(statuses=statuses)))
    assert {name: trace["name"] for name, trace in drawn.items()} == {
        "band2": "Expected ±2 \N{GREEK SMALL LETTER SIGMA}",
        "band1": "Expected ±1 \N{GREEK SMALL LETTER SIGMA}",
        "forbidden": "Forbidden",
        "expected": "Expected limit",
        "observed": "Observed limit",
        "published_observed": "Published observed limit",
        "points_ok": "Signal points",
        "points_suspect": "Fit not trusted (1)",
        "points_failed": "Fit failed (1)",
    }
    assert [name for name, trace in drawn.items() if trace.get("showlegend") is False] == [
        "forbidden"
    ]
    assert drawn["band1"]["visible"] is True
    assert drawn["band2"]["visible"] == "legendonly"
    assert drawn["observed"]["line"]["color"] == COLOURS["observed"]


def test_curves_and_bands_lie_where_they_should():
    drawn = traces(page(make()))
    for name, low, high in (
        ("observed", 500, 500),
        ("expected", 500, 500),
        ("band1", 400, 600),
        ("band2", 300, 700),
    ):
        x = [value for value in drawn[name]["x"] if value is not None]
        np.testing.assert_allclose([min(x), max(x)], [low, high], atol=2, err_msg=name)
    # Two segments, with a gap between them.
    assert drawn["published_observed"]["x"] == [500, 500, None, 1, 3]


def test_another_minimum_has_curves_words_and_details():
    text = page(with_other(make()))
    drawn = traces(text)
    for name in ("observed", "expected"):
        assert drawn[f"other_{name}"]["name"] == f"{name.capitalize()}, nearest minimum"
        x = [value for value in drawn[f"other_{name}"]["x"] if value is not None]
        np.testing.assert_allclose([min(x), max(x)], 600, atol=2)
        assert drawn[f"other_{name}"]["line"]["width"] < drawn[name]["line"]["width"]
    trace = drawn["points_ok"]
    index = trace["customdata"].index("signal_500_100")
    assert trace["hovertext"][index].split("<br>")[2:6] == [
        "CLs: <b>0.05</b> observed",
        "   0.05 expected (0.016 to 0.126)",
        "CLs, nearest minimum: <b>0.016</b> observed",
        "   0.016 expected (0.00409 to 0.05)",
    ]
    other = data(text, "details")["signal_500_100"]["other"]
    assert other["mu_hat"] == 0.75
    # The parameters that differ most come first.
    assert other["fits"] == [
        ["background", 0.131, [[EVIL, 1.2, -0.1], ["b", 0.0, 0.2], ["a", 0.0, 0.1]]],
        ["asimov fixed", None, []],
    ]
    assert "27 of 27 points have another minimum" in text
    plain = page(make())
    assert "other_observed" not in traces(plain)
    assert "another minimum of the likelihood:" not in plain


def test_neighbours_are_named_and_counted():
    origin = {"neighbours": ["b"], "fell": {"free": 0.5}}
    jump = [{"fit": name, "neighbour": "c", "above": 0.3} for name in ("free", "fixed")]
    records = make()
    for name in ("signal_500_100", "signal_300_0"):
        records[name] = {**records[name], "jump": jump}
    records["signal_500_100"]["origin"] = origin
    text = page(records)
    details = data(text, "details")
    assert details["signal_500_100"]["origin"] == ["b"]
    assert details["signal_500_100"]["jump"] == ["c"]
    assert "origin" not in details["signal_300_0"]
    assert "1 point has a minimum that a neighbour" in text
    assert "2 points have a neighbour where another minimum is the lowest" in text
    assert "a neighbour's fit led to" not in page(make())


def test_a_curve_that_is_nowhere_says_why():
    text = page({name: element for name, element in make().items() if name < "signal_3"})
    assert traces(text)["observed"]["name"] == "Observed limit: all points excluded"
    assert traces(text)["observed"]["x"] == [None]


def test_words_beside_the_pointer():
    statuses = {"signal_0_0": "suspect", "signal_300_0": "failed"}
    drawn = traces(page(make(statuses=statuses)))
    trace = drawn["points_ok"]
    index = trace["customdata"].index("signal_500_100")
    assert trace["hovertext"][index].split("<br>") == [
        "<b>signal_500_100</b>",
        "m1 = 500.0, m2 = 100",
        "CLs: <b>0.05</b> observed",
        "   0.05 expected (0.016 to 0.126)",
        "ok, region A, edm ≤ 2e-09",
    ]
    assert "1 of 2 starts agrees" in drawn["points_suspect"]["hovertext"][0]
    assert "signal_300_0 has no minimum" in drawn["points_failed"]["hovertext"][0]


def test_limits_are_shown_and_coloured_where_there_are_some():
    limits = {
        "signal_500_100": {
            "mu_obs": 1.2,
            "mu_exp": [0.5, 0.7, 1.0, 1.4, None],
            "upper_limit_obs_pb": 0.12,
            "upper_limit_exp_pb": [0.05, 0.07, 0.1, 0.14, None],
            "cross_section_pb": 0.1,
        },
        "signal_0_0": {"mu_obs": None, "mu_exp": None},
    }
    text = page(make(), limits=limits)
    entries = data(text, "details")
    assert entries["signal_500_100"]["limits"] == {
        "mu": [1.2, 0.5, 0.7, 1.0, 1.4, None],
        "pb": [0.12, 0.05, 0.07, 0.1, 0.14, None],
        "cross_section": 0.1,
    }
    assert "limits" not in entries["signal_0_0"]
    trace = traces(text)["points_ok"]
    index = trace["customdata"].index("signal_500_100")
    assert "upper limit on μ: <b>1.2</b> observed" in trace["hovertext"][index]
    titles = {element["title"]: element for element in data(text, "colourings")}
    assert list(titles) == ["observed CLs", "expected CLs", "observed limit", "expected limit"]
    (scores,) = titles["observed limit"]["scores"].values()
    assert scores[index] == pytest.approx(-np.log(1.2), abs=1e-3)
    assert scores.count(None) == 26
    assert [element["title"] for element in data(page(make()), "colourings")] == [
        *("observed CLs", "expected CLs"),
    ]


def test_other_limits_are_shown_beside_those_that_count():
    limits = {"mu_obs": 1.2, "mu_exp": [0.5, 0.7, 1.0, 1.4, 2.0]}
    other = {"minimum": "nearest", "mu_obs": 0.6, "mu_exp": [0.25, 0.35, 0.5, 0.7, None]}
    entries = {
        "signal_500_100": limits | {"other_minimum": other},
        "signal_0_0": limits | {"other_minimum": None},
        "signal_300_0": limits,
    }
    text = page(make(), limits=entries)
    shown = data(text, "details")
    assert shown["signal_500_100"]["limits"]["other"] == {
        "minimum": "nearest",
        "mu": [0.6, 0.25, 0.35, 0.5, 0.7, None],
    }
    assert "other" not in shown["signal_0_0"]["limits"] | shown["signal_300_0"]["limits"]
    trace = traces(text)["points_ok"]
    hovered = dict(zip(trace["customdata"], trace["hovertext"], strict=True))
    assert "upper limit on μ, nearest minimum: <b>0.6</b> observed" in hovered["signal_500_100"]
    assert "minimum" not in hovered["signal_0_0"] + hovered["signal_300_0"]


def test_evidence_of_fits():
    _, entries = parts(make())
    detail = entries["signal_0_0"]
    assert [fit["name"] for fit in detail["fits"]] == ["free", "asimov fixed"]
    assert detail["fits"][0] == {
        "name": "free",
        "trusted": True,
        "reason": "1 of 2 starts agrees",
        "mu": 0.123457,
        "edm": 2e-9,
        "agreed": 1,
        "tried": 2,
        "spread": 0.0,
        "attempts": [
            ["newton from suggested", 0.0, 1e-9, ""],
            ["newton from free", None, None, EVIL],
        ],
    }
    assert detail["mu_hat"] == [0.25, 0.1]
    assert detail["remarks"] == ["a remark"]
    assert "regions" not in detail


def test_attempts_of_very_many_points_are_left_out(monkeypatch):
    monkeypatch.setattr(points, "MOST_ATTEMPTS", 26)
    _, entries = parts(make())
    assert "attempts" not in entries["signal_0_0"]["fits"][0]
    assert entries["signal_0_0"]["fits"][0]["tried"] == 2


def test_records_without_attempts_or_fits_are_enough():
    records = make()
    del records["signal_0_0"]["fits"]["free"]["attempts"]
    records["signal_0_100"].pop("mu_hat_error")
    _, entries = parts(records)
    assert entries["signal_0_0"]["fits"][0]["tried"] is None
    assert entries["signal_0_100"]["mu_hat"] == [0.25, None]


def test_all_regions_of_a_point_are_listed():
    better = record("other", {"m1": 0.0, "m2": 0.0}, LEVEL + 5)
    regions = [RegionResults("A", make()), RegionResults("B", {"other": better})]
    entries = interactive.details(combine(regions, LABELS), regions, LABELS)
    assert entries["other"]["region"] == "B"
    assert [row[:2] for row in entries["other"]["regions"]] == [["A", "ok"], ["B", "ok"]]


def test_diagnostics_and_limits_of_the_same_patch_only(tmp_path):
    drawn = {
        "patch": "signal_0_0",
        "key": {**KEY, "digest": "d"},
        "status": "ok",
        "parameters": [
            {"name": "lumi", "pull": -2.0, "constraint": 0.9},
            {"name": "norm", "pull": None, "constraint": None},
            *({"name": f"p{i}", "pull": 0.01 * i, "constraint": 1.0} for i in range(40)),
        ],
        "impacts": [{"parameter": "lumi", "postfit_up": 0.1, "postfit_down": -0.1}],
    }
    store = RecordStore(tmp_path / "A" / "diagnostics")
    store.write("signal_0_0", drawn)
    limits = {"signal_0_0": {"mu_obs": 1.0, "mu_exp": [1.0] * 5}}
    _, entries = parts(make(), folder=tmp_path, limits=limits)
    detail = entries["signal_0_0"]
    assert detail["pulls"][:2] == [["lumi", -2.0, 0.9], ["p39", 0.39, 1.0]]
    assert len(detail["pulls"]) == 15
    assert detail["impacts"] == [["lumi", 0.1, -0.1]]
    assert "pulls" not in entries["signal_0_100"]
    assert detail["limits"]["mu"] == [1.0] * 6

    error = {"kind": "PalletError", "problem": "it broke", "remedy": "mend it"}
    store.write("signal_0_0", {**drawn, "status": "failed", "error": error, "parameters": None})
    _, entries = parts(make(), folder=tmp_path)
    assert entries["signal_0_0"]["remarks"][-1] == "diagnostics failed: it broke"

    outdated = {**drawn, "key": {**KEY, "patch": "another"}}
    store.write("signal_0_0", outdated)
    RecordStore(tmp_path / "A" / "limits").write("signal_0_0", outdated)
    _, entries = parts(make(), folder=tmp_path, limits=limits)
    assert not {"pulls", "limits"} & entries["signal_0_0"].keys()


def test_other_products_of_a_point_that_was_not_tested_are_shown(tmp_path):
    records = {
        "p": {
            "values": {"m1": 1, "m2": 2},
            "key": {name: KEY[name] for name in ("workspace", "patch")},
            "status": "untested",
            "forecast": {"CLs_obs": None, "CLs_exp": [0.1, 0.2, 0.3, 0.4, 0.5]},
            "remarks": [],
        }
    }
    for product in ("diagnostics", "limits"):
        content = {"patch": "p", "key": {**KEY, "digest": "d"}, "status": "ok", "parameters": []}
        RecordStore(tmp_path / "A" / product).write("p", content)
    region = RegionResults("A", records)
    limits = {"p": {"mu_obs": 1.0, "mu_exp": [1.0] * 5}}
    results = combine([region], LABELS)
    detail = interactive.details(results, [region], LABELS, folder=tmp_path, limits=limits)["p"]
    assert detail["limits"]["mu"] == [1.0] * 6
    assert detail["forecast"] == [None, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert "CLs" not in detail


def test_hostile_names_and_titles_cannot_run():
    names = [f"{EVIL}{i}" for i in range(26)] + ["<b>plain"]
    changed = dict.fromkeys(("x_title", "y_title", "title"), EVIL)
    chosen = analysis(**changed, forbidden={"y_above": "x - 100", "label": EVIL})
    chosen = chosen.model_copy(update={"title": EVIL})
    text = page(make(names), chosen=chosen)
    assert EVIL not in text.replace(json.dumps(EVIL).replace("</", "\\u003c/"), "")
    assert text.count("<script>") == 1  # the page's own; it unpacks Plotly
    drawn = data(text, "figure")
    assert drawn["layout"]["xaxis"]["title"]["text"] == html.escape(EVIL)
    assert drawn["layout"]["annotations"][0]["text"] == html.escape(EVIL)
    for line in traces(text)["points_ok"]["hovertext"]:
        assert (
            re.findall(r"<[^>]*>", line)
            == ["<b>", "</b>", "<br>", "<br>", "<b>", "</b>"] + ["<br>"] * 2
        )
    assert set(data(text, "details")) == set(names)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert "default-src 'none'" in policy
    assert "form-action 'none'" in policy
    assert re.search(r"script-src 'sha256-[^']+' 'sha256-[^']+';", policy)


def test_titles_need_no_latex():
    drawn = data(page(make()), "figure")["layout"]
    tilde = "\N{COMBINING TILDE}"
    assert drawn["xaxis"]["title"]["text"] == f"<i>m</i>(χ{tilde}<sup>0</sup><sub>1</sub>) [GeV]"
    assert drawn["annotations"][0]["text"].startswith("<i>m</i><sub>1</sub> &lt; ")
    text = page(make())
    assert (
        f"<p><i>b{tilde}b{tilde}</i> production; √<i>s</i> = 13 TeV; limits at 95% CL</p>" in text
    )


def test_the_same_input_gives_the_same_bytes():
    first, second = page(make()), page(make())
    assert first == second
    assert len(first) < 2_500_000
    assert not re.search(r'(?:src|href)="(?!data:)', first)


def test_plotly_is_packed_and_may_run_unpacked():
    text = page(make())
    (packed,) = re.findall(r'<script type="text/plain" id="library">([^<]*)</script>', text)
    library = gzip.decompress(base64.b64decode(packed))
    assert library.decode() == get_plotlyjs()
    digest = base64.b64encode(hashlib.sha256(library).digest()).decode()
    assert f"'sha256-{digest}'" in text


def test_what_a_contour_rests_on_is_marked():
    records = make()
    assert "rests_on" not in traces(page(records, bands=(1,)))
    lonely = record("signal_300_100", {"m1": 300.0, "m2": 100.0}, LEVEL - 0.5)
    drawn = traces(page({**records, "signal_300_100": lonely}, bands=(1,)))
    ring = drawn["rests_on"]
    assert [300, 100] in [[x, y] for x, y in zip(ring["x"], ring["y"], strict=True)]
    assert ring["name"] == f"A contour rests on this point alone ({len(ring['x'])})"
    assert "hoverinfo" in ring


def test_the_border_of_the_forbidden_part_is_there_for_its_label():
    text = page(make())
    border = np.array(data(text, "border"))
    np.testing.assert_allclose(border[:, 1], border[:, 0] - 100, atol=0.1)
    assert data(text, "figure")["layout"]["annotations"][0]["name"] == "forbidden"
    assert "Hatched: <i>m</i><sub>1</sub> &lt; " in text
    plain = analysis(forbidden=None)
    assert data(page(make(), chosen=plain), "border") == []


def test_every_colour_of_the_plot_has_one_for_the_dark():
    failed = {"signal_900_0": record("signal_900_0", {"m1": 900.0, "m2": 0.0}, 0.0, "failed")}
    text = page({**with_other(make(statuses={"signal_0_0": "suspect"})), **failed})
    dark = data(text, "dark")

    def colours(value, key=""):
        if isinstance(value, dict):
            return {c for name, inner in value.items() for c in colours(inner, name)}
        if isinstance(value, list):
            return {c for inner in value for c in colours(inner, key)}
        return {value} if key.lower().endswith("color") and isinstance(value, str) else set()

    figure = data(text, "figure")
    del figure["layout"]["template"]
    assert colours(figure) <= set(dark)
    assert not set(dark.values()) & {"black", "white"}
    assert "prefers-color-scheme:dark" in text


def test_without_anything_to_draw_there_is_a_page():
    drawn, entries = parts(
        {name: element for name, element in make().items() if name == "signal_0_0"}
    )
    figure = draw(drawn, analysis().planes["masses"], entries, (1,))
    names = [trace.name for trace in figure.data]
    assert "Observed limit: too few points" in names
