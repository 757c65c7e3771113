"""Tables of yields: rows, LaTeX with names of unknown origin, and plots."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import palletfit
from palletfit.products.diagnostics.plots import draw_yields
from palletfit.products.diagnostics.yield_tables import YieldTables

from ... import models

HOSTILE = r"a_{%$&#~^\input{x}"


@pytest.fixture(scope="module")
def tables() -> YieldTables:
    spec = models.full("normsys", "staterror")
    spec["channels"][0]["samples"][0]["name"] = HOSTILE
    spec["channels"][0]["samples"][0]["modifiers"][0]["name"] = HOSTILE
    return palletfit.yields(spec, channels=["SR"], mask={"SR": [1]}, asimov=0.0).only


def test_rows_of_channels_and_bins(tables: YieldTables) -> None:
    table = tables.to_dataframe()
    assert [*table.columns] == [
        *("channel", "kind", "sample", "prefit", "prefit_error", "postfit", "postfit_error"),
        *("observed", "state"),
    ]
    assert table["channel"].tolist() == ["CR", "CR", "SR", "SR", "SR"]
    assert table["sample"].tolist() == ["bkg", "", HOSTILE, "signal", ""]
    assert table["kind"].tolist() == ["sample", "total", "sample", "sample", "total"]
    assert table["state"].tolist() == ["predicted"] * 2 + ["fitted"] * 3
    assert table["observed"].isna().all()  # all channels are blinded
    bins = tables.to_dataframe(per_bin=True)
    for channel in tables.channels:
        chosen = bins[(bins["channel"] == channel.name) & (bins["kind"] == "total")]
        assert tuple(chosen["postfit"]) == channel.postfit.model.values
        assert chosen["bin"].tolist() == [0, 1]
        total = table[(table["channel"] == channel.name) & (table["kind"] == "total")]
        assert total["postfit"].item() == pytest.approx(chosen["postfit"].sum())


def test_a_document_and_a_summary(tables: YieldTables) -> None:
    content: dict[str, Any] = json.loads(json.dumps(tables.as_json(), allow_nan=False))
    assert content["masked"] == {"SR": [1]}
    assert content["channels"][0]["data"] == [None, None]
    assert {"parameter", "channel", "sample", "prefit", "postfit"} == {*content["systematics"][0]}
    assert tables.row()["fitted_channels"] == 1
    assert "blinded" in tables.row()["remark"]
    frame = tables.systematics_dataframe()
    assert len(frame) == len(tables.systematics)
    with pytest.raises(KeyError):
        tables.channel("XR")


@pytest.mark.parametrize("per_bin", [False, True])
def test_latex_has_a_cell_for_each_column(tables: YieldTables, per_bin: bool) -> None:
    name = r"a\_\{\%\$\&\#\textasciitilde{}\textasciicircum{}\textbackslash{}input\{x\}"
    for text in (tables.to_latex(per_bin=per_bin), tables.systematics_to_latex()):
        assert name in text
        assert "\\input{" not in text
        first, *lines = text.splitlines()
        columns = first.count("r", first.index("{l"))
        rows = [line for line in lines if line.endswith(r"\\")]
        assert all(line.replace(r"\&", "").count("&") == columns for line in rows)
    observed = tables.to_latex(per_bin=per_bin).splitlines()[4]
    assert observed.count("blinded") == (4 if per_bin else 2)
    top = tables.systematics_to_latex(top=1)
    assert len(top.splitlines()) < len(tables.systematics_to_latex().splitlines())


def test_plots_do_not_show_blinded_data(tables: YieldTables) -> None:
    (figure,) = draw_yields(tables, "title")
    points = [line.get_xydata() for axes in figure.axes for line in axes.get_lines()]
    drawn = [line for line in points if len(line) == 2 and not np.isnan(line).any()]
    assert all(line[0, 1] == line[1, 1] == 1.0 for line in drawn)  # the lines at one
    assert palletfit.Results({"": tables}, {}, {"": ()}).plot().axes
