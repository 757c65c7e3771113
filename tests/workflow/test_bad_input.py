"""What is wrong with the input is said clearly, and costs no finished work."""

from __future__ import annotations

import json

from .conftest import Folder
from .pallets import TinyPallet


def test_unknown_analysis(folder: Folder) -> None:
    folder.config["analyses"] = "1Lb"
    run = folder.run(succeeds=False)
    assert "There is no analysis '1Lb'." in run.output
    assert "Did you mean '1Lbb'?" in run.output


def test_unknown_key(folder: Folder, tiny: TinyPallet) -> None:
    folder.config["fit"] = {"test_stat": "qtilde"}
    run = folder.run(succeeds=False)
    assert "fit.test_stat: unknown key; did you mean 'test_statistic'?" in run.output
    del folder.config["fit"]
    del tiny.analysis["labels"]
    tiny.write()
    run = folder.run(succeeds=False)
    assert "labels: this key is missing" in run.output
    assert str(tiny.analysis_path) in run.output


def test_patch_names_with_slashes_and_dots(folder: Folder, tiny: TinyPallet) -> None:
    names = ["../../escape", "a/b", ".hidden", "ü m=1.5", "..", "x" * 300]
    for patch, name in zip(tiny.patches, names, strict=True):
        patch["metadata"]["name"] = name
    tiny.write()
    target = "results/tiny/results.json"
    folder.run(target)
    assert sorted(record["patch"] for record in folder.records().values()) == sorted(names)
    results = json.loads((folder.path / "results/tiny/results.json").read_bytes())
    assert sorted(results) == sorted(names)
    assert not list(folder.path.parent.glob("escape*"))
    assert folder.run(target).idle


def test_yields_that_are_no_numbers(folder: Folder, tiny: TinyPallet) -> None:
    values = [float("nan"), float("inf"), "many"]
    broken = tiny.patches[: len(values)]
    for patch, value in zip(broken, values, strict=True):
        patch["patch"][0]["value"]["data"] = [value, 1.0]
    tiny.write()
    run = folder.run(tiny.hypotest(), succeeds=False)
    for patch in broken:
        assert f"{patch['metadata']['name']}:" in run.output
    assert "remedy:" in run.output
    assert "Traceback" not in run.output
    # The reason is below all that Snakemake says.
    _, last = run.output.split("At least one job did not complete successfully.")
    assert "hypotest of tiny/SR:\n  3 of 6 patches of tiny/SR failed" in last
    assert last.splitlines()[-1] == "  log:    logs/tiny/SR/hypotest.log"
    assert len(run.fitted) == 6  # all were tried, three have a result
    states = [record["status"] for record in folder.records().values()]
    assert sorted(states) == [*["failed"] * 3, *["ok"] * 3]


def test_empty_patchset(folder: Folder, tiny: TinyPallet) -> None:
    tiny.patches = []
    tiny.write()
    run = folder.run(succeeds=False)
    assert "The patchset holds no patches." in run.output
    assert "patchset.json in resources/pallets/tiny.archive" in run.output


def test_wrong_digest_and_missing_archive(folder: Folder, tiny: TinyPallet) -> None:
    tiny.analysis["pallet"]["sha256"] = {"BkgOnly.json": "0" * 64}
    tiny.write()
    run = folder.run(succeeds=False)
    assert "BkgOnly.json" in run.output
    assert "0" * 64 in run.output
    (folder.path / "tiny.tar.gz").unlink()
    (folder.path / "resources/pallets/tiny.archive").unlink()
    run = folder.run(succeeds=False)
    assert "tiny.tar.gz" in run.output
    assert "remedy:" in run.output


def test_one_broken_analysis_costs_the_other_nothing(folder: Folder, tiny: TinyPallet) -> None:
    other = TinyPallet(folder.path, "other", count=4)
    other.patches[0]["metadata"]["values"] = [1]
    other.write()
    folder.config["analyses"] = [str(tiny.analysis_path), str(other.analysis_path)]
    # Without plots.
    run = folder.run(*(f"results/{name}/results.csv" for name in ("tiny", "other")), succeeds=False)
    assert "The patch has 1 values for 2 labels" in run.output
    assert (folder.path / "results/tiny/results.csv").exists()


def test_one_dimensional_plane_still_makes_a_plot(folder: Folder, tiny: TinyPallet) -> None:
    for index, patch in enumerate(tiny.patches):
        patch["metadata"]["values"] = [100 + index, 0]
    tiny.write()
    folder.run("results/tiny/exclusion.png")
    contour = json.loads((folder.path / "results/tiny/contour.json").read_bytes())
    assert contour["curves"]["observed"]["state"] == "collinear_points"
    assert (folder.path / "results/tiny/exclusion.png").stat().st_size > 10_000


def test_discovery_has_results_but_no_exclusion_contour(folder: Folder, tiny: TinyPallet) -> None:
    folder.config["fit"] = {"test_statistic": "q0"}
    run = folder.run()
    assert run.fitted == tiny.names
    assert "excluded at" not in run.output
    results = json.loads((folder.path / "results/tiny/results.json").read_bytes())
    assert all(0 < result["CLs_obs"] <= 0.5 for result in results.values())  # p0
    assert not list((folder.path / "results/tiny").glob("exclusion*"))
    run = folder.run("results/tiny/exclusion.png", succeeds=False)
    assert "There is no exclusion contour for the test statistic q0." in run.output


def test_submit_needs_an_executor_that_outlives_the_run(folder: Folder, tiny: TinyPallet) -> None:
    run = folder.run("submit", succeeds=False)
    assert "Fits of `executor.kind: local` end with the run that made them." in run.output
    assert "remedy: Leave out `submit`" in run.output
    assert not folder.records()
    assert folder.run(tiny.hypotest()).fitted == tiny.names
