"""Points that the contour needs are tested, and the others are forecast."""

from __future__ import annotations

import json

import numpy as np
import shapely

from palletfit.products.hypotest.table import read_table

from .conftest import Folder
from .pallets import TinyPallet, patch

#: The axes' ranges.
M1, M2 = 500, 300


def grid() -> list[dict[str, object]]:
    """Patches on a grid of masses, whose signals fall with both."""
    return [
        patch(f"G_{m1}_{m2}", m1, m2, 60.0 * float(np.exp(-((m1 / 300) ** 2) - (m2 / 250) ** 2)))
        for m1 in range(0, M1 + 1, 100)
        for m2 in range(0, M2 + 1, 60)
    ]


def contour(folder: Folder) -> tuple[dict[str, str], shapely.MultiLineString]:
    """Read the statuses of all points, and the observed contour in units of the axes' ranges."""
    content = json.loads((folder.path / "results/tiny/contour.json").read_text())
    lines = [line["vertices"] for line in content["curves"]["observed"]["lines"]]
    statuses = {point["patch"]: point["status"] for point in content["points"]}
    scaled = [np.array(vertices) / (M1, M2) for vertices in lines]
    return statuses, shapely.MultiLineString(scaled)


def test_points_are_chosen_for_the_contour_and_the_rest_can_follow(
    folder: Folder, tiny: TinyPallet
) -> None:
    tiny.patches = grid()
    tiny.write()
    targets = [f"results/tiny/{name}" for name in ("results.csv", "contour.json", "exclusion.html")]
    folder.config["points"] = {"choose": "adaptive"}
    first = folder.run(*targets)
    assert 4 < len(first.fitted) < len(tiny.patches) / 2
    assert f"36 signal points ({len(first.fitted)} tested, others forecast)" in first.output
    statuses, chosen = contour(folder)
    untested = {name for name, status in statuses.items() if status == "untested"}
    assert untested == {*tiny.names} - {*first.fitted}
    table = read_table(folder.path / "results/tiny/results.csv").set_index("patch")
    assert table.loc[sorted(untested), "CLs_obs"].isna().all()
    assert table.loc[sorted(untested), "CLs_obs_forecast"].between(0, 1).all()
    assert table.loc[first.fitted, "CLs_obs_forecast"].isna().all()
    page = (folder.path / "results/tiny/exclusion.html").read_text()
    assert f"Forecast, not tested ({len(untested)})" in page
    assert folder.run(*targets).idle
    refused = folder.run("submit", succeeds=False)
    assert "remedy: Leave out `submit`, or set `points.choose: all`." in refused.output
    del folder.config["points"]
    rest = folder.run(*targets)
    assert {*rest.fitted} == untested
    statuses, of_all = contour(folder)
    assert {*statuses.values()} == {"ok"}
    # The wanted precision is 0.005 of the axes' ranges, as far as tests tell.
    assert shapely.hausdorff_distance(chosen, of_all, densify=0.05) < 0.015
    table = read_table(folder.path / "results/tiny/results.csv")
    assert "CLs_obs_forecast" not in table
