"""Layouts of published likelihoods: what is proposed, and that it can be prepared for fits."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from palletfit.config import load_analysis
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.hs3 import hs3_document
from palletfit.pallet.inspection import inspect, proposal

from . import layouts
from .layouts import background, grid, look, patch, patchset, prepare, source, write


def regions(inspection) -> dict:
    return inspection.analysis()["regions"]


def test_one_background_and_one_patchset(tmp_path):
    workspace = background()
    files = {"BkgOnly.json": workspace, "patchset.json": patchset(workspace, grid())}
    inspection = look(tmp_path, {**files, "README.md": b"text"}, "1Lbb-likelihoods-hepdata.tar.gz")
    analysis = inspection.analysis()
    assert regions(inspection) == {
        "1Lbb": {"workspace": "BkgOnly.json", "patchset": "patchset.json"}
    }
    assert (analysis["name"], analysis["labels"]) == ("1Lbb", ["m1", "m2"])
    assert analysis["planes"] == {
        "m1-m2": {"x": "m1", "y": "m2", "x_title": "m1 [GeV]", "y_title": "m2 [GeV]"}
    }
    ((summary, _),) = prepare(inspection, tmp_path).values()
    (row,) = inspection.as_json()["likelihoods"]
    assert row["patches"] == summary["patches"] == 6
    assert (row["bins"], row["parameters"]) == (summary["bins"], summary["parameters"])
    assert repr(inspection).endswith("workspace: 1, patchset: 1, other: 1; 1 likelihoods>")


def test_one_background_with_several_patchsets(tmp_path):
    workspace = background()
    files = {
        "likelihoods/BkgOnly.json": workspace,
        "likelihoods/GG_patchset.json": patchset(workspace, grid(model="GG"), ("mg", "mn1")),
        "likelihoods/SS_patchset.json": patchset(workspace, grid(model="SS"), ("msq", "mn1")),
        "likelihoods/patchset_TT.json": patchset(workspace, grid(model="TT"), ("mg", "mn1")),
    }
    inspection = look(tmp_path, files)
    # Three models: the first and the last have values in common, but other names of points.
    assert [list(entry.pairs) for entry in inspection.proposals] == [["GG"], ["SS"], ["TT"]]
    assert [entry.labels[0] for entry in inspection.proposals] == ["mg", "msq", "mg"]
    (remark,) = inspection.remarks
    assert "TT.json and likelihoods/GG_patchset.json share points in part" in remark
    prepared = prepare(inspection, tmp_path)
    assert list(prepared) == ["search-GG/GG", "search-SS/SS", "search-TT/TT"]
    with pytest.raises(ConfigError, match="There are 3 analyses"):
        inspection.analysis()
    assert inspection.analysis("search-SS")["labels"] == ["msq", "mn1"]
    # The only folder need not be there: an archive of another version lacks it.
    assert inspection.proposals[0].data["regions"]["GG"]["workspace"] == "BkgOnly.json"


def test_18_backgrounds_with_18_patchsets(tmp_path):
    files = {}
    for number in range(18):
        workspace = background(number)
        folder = f"Region-SR{number}"
        files[f"{folder}/BkgOnly.json"] = workspace
        files[f"{folder}/patchset.json"] = patchset(workspace, grid())
    inspection = look(tmp_path, files)
    expected = {
        f"SR{number}": {
            "workspace": f"Region-SR{number}/BkgOnly.json",
            "patchset": f"Region-SR{number}/patchset.json",
        }
        for number in range(18)
    }
    assert regions(inspection) == expected
    assert len(prepare(inspection, tmp_path)) == 18


def test_regions_of_different_models_in_one_folder(tmp_path):
    models = {"Rpc2L0b": ("mg", "mn1"), "Rpc2L1b": ("msb", "mn1"), "Rpv2L": ("mg", "mt")}
    files = {}
    for number, (region, labels) in enumerate(models.items()):
        workspace = background(number)
        files[f"{region}_BkgOnly.json"] = workspace
        files[f"{region}_patchset.json"] = patchset(workspace, grid(model=region), labels)
    inspection = look(tmp_path, files, "InclSS3L_likelihoods.tgz")
    assert {entry.name: entry.labels for entry in inspection.proposals} == {
        f"InclSS3L-{region}": list(labels) for region, labels in models.items()
    }
    assert list(inspection.proposals[0].pairs) == ["Rpc2L0b"]
    assert len(prepare(inspection, tmp_path)) == 3


def test_a_simultaneous_fit_of_other_regions_is_used_alone(tmp_path):
    parts = {name: background(name=name) for name in ("low", "high")}
    both = {key: [*parts["low"][key], *parts["high"][key]] for key in ("channels", "observations")}
    parts["combined"] = {**parts["low"], **both}
    files = {}
    for name, workspace in parts.items():
        files[f"{name}/BkgOnly.json"] = workspace
        files[f"{name}/patchset.json"] = patchset(workspace, grid())
    inspection = look(tmp_path, files)
    assert inspection.analysis()["use"] == ["combined"]
    assert list(regions(inspection)) == ["low", "high", "combined"]


@pytest.mark.parametrize("outer", ["search.tar", "search.zip", "search.tar.gz"])
def test_archives_in_an_archive(tmp_path, outer):
    files = {}
    for number, region in enumerate("AB"):
        workspace = background(number)
        inner = {"BkgOnly.json": workspace, "patchset.json": patchset(workspace, grid())}
        files[f"Region{region}.json.tgz"] = {f"Region{region}/{n}": c for n, c in inner.items()}
    inspection = look(tmp_path, files, outer)
    assert regions(inspection)["RegionB"] == {
        "workspace": "RegionB.json.tgz/RegionB/BkgOnly.json",
        "patchset": "RegionB.json.tgz/RegionB/patchset.json",
    }
    assert all(summary["patches"] == 6 for summary, _ in prepare(inspection, tmp_path).values())


@pytest.mark.parametrize("inner", ["search.json.tgz", "v2/search.json.tgz"])
def test_an_archive_alone_in_an_archive(tmp_path, inner):
    workspace = background()
    files = {"top/BkgOnly.json": workspace, "top/patchset.json": patchset(workspace, grid())}
    inspection = look(tmp_path, {inner: files}, "outer.tar")
    (region,) = regions(inspection).values()
    assert region["workspace"] == "search.json.tgz/top/BkgOnly.json"
    assert prepare(inspection, tmp_path)["outer/outer"][0]["patches"] == 6


def test_discovery_regions_without_masses(tmp_path):
    workspace = background()
    patches = [patch(f"disc_SR{letter}", ["none", 0]) for letter in "ABC"]
    files = {"b.json": workspace, "p.json": patchset(workspace, patches, ("model", "mass"))}
    inspection = look(tmp_path, files)
    assert inspection.analysis()["labels"] == ["model", "mass", "signal"]
    assert inspection.analysis()["planes"] == {}
    ((summary, analysis),) = prepare(inspection, tmp_path).values()
    assert summary["labels"]["signal"] == ["disc_SRA", "disc_SRB", "disc_SRC"]
    assert analysis.planes == {}


def complete(number: int = 0) -> dict:
    workspace = layouts.models.full("normsys")
    workspace["observations"][0]["data"][0] += number
    return workspace


def test_complete_workspaces_without_a_patchset(tmp_path):
    files = {f"point_{number}.json": complete(number) for number in range(3)}
    inspection = look(tmp_path, files)
    rows = inspection.as_json()["likelihoods"]
    assert [(row["name"], row["can_be_done"]) for row in rows] == [
        (f"point_{number}", "workflow") for number in range(3)
    ]
    assert regions(inspection)["point_1"] == {"workspace": "point_1.json", "complete": True}
    assert "point_1: point_1.json, complete" in inspection.table()
    (file,) = inspection.write(tmp_path / "complete.yaml")
    analysis, _ = load_analysis(str(file), tmp_path)
    assert analysis.labels == ["likelihood"]
    assert analysis.complete
    assert set(analysis.pallet.sha256) == set(files)
    text = file.read_text()
    assert "labels" not in text
    assert "# Further keys of regions: measurement, poi, fix, signal_in." in text
    for summary, _ in prepare(inspection, tmp_path).values():
        assert (summary["patches"], summary["poi"]) == (1, "mu_SIG")


def test_complete_workspaces_beside_patches(tmp_path):
    workspace = background()
    files = {
        "b.json": workspace,
        "p.json": patchset(workspace, grid()),
        "whole.json": complete(),
        "other_background.json": background(7),
    }
    inspection = look(tmp_path, files)
    grids, single = inspection.proposals
    assert single.name == f"{grids.name}-complete"
    assert [files["workspace"] for files in single.data["regions"].values()] == ["whole.json"]
    rows = {row["name"]: row["can_be_done"] for row in inspection.as_json()["likelihoods"]}
    assert list(rows.values()) == ["workflow", "workflow", "fits, points"]


@pytest.mark.parametrize(
    ("pois", "keys", "remark"),
    [
        (["mu_SIG", "norm"], {}, "the measurements second, too"),
        (["none", "mu_SIG"], {"measurement": "second"}, "the measurements first, too"),
        (["none", ""], {"poi": ""}, "only the background is fitted"),
        (["", ""], {}, "only the background is fitted"),
    ],
)
def test_what_a_complete_workspace_is_asked(tmp_path, pois, keys, remark):
    workspace = complete()
    config = workspace["measurements"][0]["config"]
    workspace["measurements"] = [
        {"name": name, "config": {**config, "poi": poi}}
        for name, poi in zip(("first", "second"), pois, strict=True)
    ]
    inspection = look(tmp_path, {"w.json": workspace})
    (region,) = regions(inspection).values()
    assert region == {"workspace": "w.json", "complete": True, **keys}
    assert remark in " ".join(inspection.table().split())


def test_hs3_documents_are_complete_workspaces(tmp_path):
    spec = layouts.models.full("normsys")
    files = {"ws.json": hs3_document(spec), "bad.json": {"metadata": {"hs3_version": "0.2"}}}
    inspection = look(tmp_path, files)
    (region,) = regions(inspection).values()
    assert (region["workspace"], region["complete"]) == ("ws.json", True)
    table = " ".join(inspection.table().split())
    assert "ws.json (HS3), complete" in table
    assert "bad.json (HS3): HS3 0.2 with 0 distributions: " in table


def test_a_file_of_operations_for_each_point(tmp_path):
    files = {}
    for region, channel in (("A", "SRa"), ("B", "SRb")):
        files[f"Region{region}/BkgOnly.json"] = background(name=channel)
        for entry in grid(channel=channel, model="sbottom"):
            name = entry["metadata"]["name"]
            files[f"Region{region}/patch.{name}.json"] = entry["patch"]
    inspection = look(tmp_path, files)
    # The patches apply to both workspaces, but have the modifiers of one.
    assert regions(inspection)["RegionA"] == {
        "workspace": "RegionA/BkgOnly.json",
        "operations": "RegionA/patch.*.json",
        "values": "sbottom_{m1}_{m2}",
    }
    assert "RegionB/patch.*.json applies to" in inspection.table()
    for summary, _ in prepare(inspection, tmp_path).values():
        assert summary["labels"] == {"m1": [200, 300, 400], "m2": [0, 50]}


def test_a_folder_as_tools_for_reinterpretation_write_it(tmp_path):
    files = {f"SR_{entry['metadata']['name']}_patch.json": entry["patch"] for entry in grid()}
    files["workspace.json"] = background()
    folder = write(tmp_path / "my likelihood", files)
    inspection = inspect(folder)
    assert regions(inspection) == {
        "my": {
            "workspace": "workspace.json",
            "operations": "SR_S_*_patch.json",
            "values": "{m1}_{m2}",
        }
    }
    prepare(inspection, tmp_path)


@pytest.mark.parametrize(
    ("name", "operations"),
    [("S{{x}}_{}", "patch.*.json"), ("a{}/patch", "*/patch.json"), ("{0}.{0}", "*.json")],
)
def test_names_of_operations(tmp_path, name, operations):
    files = {
        f"{name.format(n)}.json" if "/" in name else f"patch.{name.format(n)}.json": patch("", [])[
            "patch"
        ]
        for n in (1, 2, 3)
    }
    inspection = look(tmp_path, {"BkgOnly.tgz": {"BkgOnly.json": background()}, **files})
    (region,) = regions(inspection).values()
    assert region["operations"] in (operations, "patch.*.json")
    for summary, _ in prepare(inspection, tmp_path).values():
        assert summary["patches"] == 3


def test_names_that_no_pattern_can_hold_are_said(tmp_path):
    files = {f"{n}*.json": patch("", [])["patch"] for n in (1, 2)}
    inspection = look(tmp_path, {"x/BkgOnly.json": background(), **files})
    assert "not yet in the workflow: regions.search.operations: String should" in inspection.table()


def test_names_with_seven_numbers(tmp_path):
    names = [
        f"pMSSM_1_{first}p5_{first - 100}_7_{second}_{second}_13"
        for first in (500, 600, 700, 800)
        for second in (100, 200)
    ]
    files = {f"patch.{name}.json": patch(name, [])["patch"] for name in names}
    inspection = look(tmp_path, {"BkgOnly.json": background(), **files})
    analysis = inspection.analysis()
    (region,) = analysis["regions"].values()
    assert region["values"] == "pMSSM_1_{m1}_{m2}_7_{m3}_{m4}_13"
    (plane,) = analysis["planes"].values()
    assert (plane["x"], plane["y"]) == ("m1", "m3")
    remarks = inspection.proposals[0].remarks
    assert "m2 is m1 -100.5" in remarks
    assert "m4 is m3" in remarks
    ((summary, _),) = prepare(inspection, tmp_path).values()
    assert summary["labels"]["m1"] == [500.5, 600.5, 700.5, 800.5]


def test_a_patchset_with_seven_labels(tmp_path):
    labels = ("mg", "mc1", "mn2", "x", "grid", "mn1", "id")
    patches = [
        patch(f"p{first}{third}", [first, (first + third) / 2, first, 0.5, "on", third, 1])
        for first in (800, 900, 1000)
        for third in (100, 200)
    ]
    workspace = background()
    files = {"b.json": workspace, "p.json": patchset(workspace, patches, labels)}
    inspection = look(tmp_path, files)
    analysis = inspection.analysis()
    assert analysis["labels"] == list(labels)
    assert analysis["planes"] == {
        "mg-mn1": {
            "x": "mg",
            "y": "mn1",
            "x_title": r"$m(\tilde{g})$ [GeV]",
            "y_title": r"$m(\tilde{\chi}^{0}_{1})$ [GeV]",
        }
    }
    assert list(inspection.proposals[0].remarks) == [
        "mn2 is mg",
        "x is 0.5 at all points",
        "id is 1 at all points",
        "mc1: a linear function of mg, mn1",
    ]


def test_a_folder_that_appears_with_a_version(tmp_path):
    workspace = background()
    files = {"BkgOnly.json": workspace, "patchset.json": patchset(workspace, grid())}
    first = look(tmp_path, files)
    later = look(tmp_path, {f"v2/{name}": content for name, content in files.items()}, "2.tgz")
    assert list(regions(first).values()) == list(regions(later).values())


@pytest.mark.parametrize("ending", ["", ".gz", ".xz", ".bz2"])
def test_one_json_file(tmp_path, ending):
    write(tmp_path, {f"SUSY-2018-14.json{ending}": background()})
    inspection = inspect(tmp_path / f"SUSY-2018-14.json{ending}")
    (row,) = inspection.as_json()["likelihoods"]
    assert (row["bins"], row["poi"], row["can_be_done"]) == (2, "mu_SIG", "background fit")
    assert next(iter(regions(inspection).values()))["poi"] == ""


@pytest.mark.parametrize("name", ["search.tar", "search.zip"])
def test_gzipped_json_in_an_archive(tmp_path, name):
    workspace = background()
    files = {"BkgOnly.json.gz": workspace, "patchset.json.gz": patchset(workspace, grid())}
    prepared = prepare(look(tmp_path, files, name), tmp_path)
    assert prepared["search/search"][0]["patches"] == 6


@pytest.mark.parametrize(
    ("digests", "had"),
    [
        ({"sha256": "0" * 64}, "a digest of another workspace"),
        ({}, "no digest"),
        (None, "no digest"),
    ],
)
def test_digests_that_are_missing_or_wrong(tmp_path, digests, had):
    workspace = background()
    spec = patchset(workspace, grid())
    spec["metadata"]["digests"] = digests
    if digests is None:
        del spec["metadata"]["digests"]
    files = {"BkgOnly.json": workspace, "patchset.json": spec, "Other.json": background(1, bins=3)}
    inspection = look(tmp_path, files)
    assert inspection.proposals == []
    (orphan,) = inspection.pairing.orphans
    assert f"it has {had}; its patches apply to BkgOnly.json" in orphan.reason
    accepted = inspect(tmp_path / "search.tar.gz", any_digest=True)
    assert regions(accepted)["search"]["digest"] == "ignore"
    assert any(had in remark for remark in accepted.proposals[0].remarks)
    ((summary, _),) = prepare(accepted, tmp_path).values()
    assert "which the analysis file ignores" in summary["remarks"][-1]


def test_numbers_that_are_written_in_another_way_are_no_other_workspace(tmp_path):
    workspace = background()
    spec = patchset(workspace, grid())
    text = json.dumps(workspace).replace(".0,", ",").replace(".0]", "]").encode()
    inspection = look(tmp_path, {"BkgOnly.json": text, "patchset.json": spec})
    assert inspection.proposals[0].pairs["search"].evidence == "digest*"
    prepare(inspection, tmp_path)


def test_what_is_ambiguous_is_said_and_not_taken(tmp_path):
    spec = patchset(background(), grid())
    files = {"a.json": background(1), "b.json": background(2), "p.json": spec}
    inspection = look(tmp_path, files, any_digest=True)
    (orphan,) = inspection.pairing.orphans
    assert orphan.candidates == ("a.json", "b.json")
    assert "p.json (patchset): ambiguous: it applies to a.json, b.json" in inspection.table()
    assert inspection.proposals == []


def test_several_published_archives_in_a_folder(tmp_path):
    files = {}
    for search in ("1Lbb-likelihoods", "SUSY-2018-04_likelihoods"):
        inner = {}
        for number, region in enumerate(("low", "high")):
            workspace = background(len(files) + number)
            inner[f"Region-{region}/BkgOnly.json"] = workspace
            inner[f"Region-{region}/patchset.json"] = patchset(workspace, grid(model=search))
        files[f"{search}.tar.gz"] = inner
    inspection = inspect(write(tmp_path / "all", files))
    proposals = {entry.name: list(entry.pairs) for entry in inspection.proposals}
    assert proposals == {"all-1Lbb": ["low", "high"], "all-SUSY-2018-04": ["low", "high"]}
    assert len(prepare(inspection, tmp_path)) == 4


def test_a_patchset_of_a_wrong_workspace(tmp_path):
    workspace = background()
    workspace["observations"] *= 2
    files = {"wrong.json": workspace, "other.json": background(1)}
    inspection = look(tmp_path, {**files, "p.json": patchset(workspace, grid())}, any_digest=True)
    reasons = {orphan.name: orphan.reason for orphan in inspection.pairing.orphans}
    assert reasons["p.json"].startswith("its workspace wrong.json is wrong: The workspace is incon")


def test_patches_that_do_not_apply_or_add_no_signal_are_said(tmp_path):
    workspace = background()
    patches = [*grid(), patch("bad", [1, 2], bins=3)]
    inspection = look(tmp_path, {"b.json": workspace, "p.json": patchset(workspace, patches)})
    (proposal,) = inspection.proposals
    assert proposal.remarks[-1] == "patches such as bad do not apply to their workspace"
    workspace["measurements"][0]["config"]["poi"] = "mu"
    inspection = look(tmp_path, {"b.json": workspace, "p.json": patchset(workspace, grid())})
    assert "no patch adds the parameter of interest 'mu'" in inspection.table()
    (row,) = inspection.as_json()["likelihoods"]
    assert (row["parameters"], row["can_be_done"]) == (None, "see note")


def test_patches_of_no_workspace(tmp_path):
    other = patch("x", [1, 2], bins=3)["patch"]
    inspection = look(tmp_path, {"b.json": background(), "patch.x.json": other})
    assert "it applies to no workspace" in inspection.table()


def test_the_later_schema_is_read(tmp_path):
    workspace = {**background(), "version": "1.1.0"}
    spec = {**patchset(workspace, grid()), "version": "1.1.0"}
    inspection = look(tmp_path, {"BkgOnly.json": workspace, "patchset.json": spec})
    ((summary, _),) = prepare(inspection, tmp_path).values()
    assert summary["patches"] == 6


def test_formats_that_others_convert(tmp_path):
    files = {
        "workspace.root": b"root\x00\x00\xf5\x14" + bytes(500),
        "card.txt": b"# a comment\nimax 1\njmax *\nkmax *\n",
        "meas.xml": b'<!DOCTYPE Combination SYSTEM "HistFactorySchema.dtd">',
        "model.json": {"metadata": {"hs3_version": "0.2"}, "distributions": [{}]},
        "notes.json": {"a": 1},
    }
    inspection = look(tmp_path, files)
    kinds = [document.kind for document in inspection.documents]
    assert kinds == ["ROOT file", "datacard", "HistFactory XML", "HS3", "JSON"]
    table = inspection.table()
    for word in ("RooJSONFactoryWSTool", "pyhf xml2json", "text2workspace.py", "HS3 0.2 with 1"):
        assert word in table
    assert "no likelihood in it that palletfit can fit" not in table
    del files["model.json"]
    table = look(tmp_path, files).table()
    assert "no likelihood in it that palletfit can fit" in table


def test_files_of_one_name_are_in_no_proposal(tmp_path):
    first, second = background(), background(7)
    archive = tmp_path / "twice.tar"
    with tarfile.open(archive, "w") as tar:
        members = (("a.json", first), ("a.json", second), ("p.json", patchset(first, grid())))
        for name, content in members:
            text = json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    inspection = inspect(archive)
    assert not inspection.proposals
    assert "several files are called a.json" in " ".join(inspection.table().split())


def test_a_copy_is_said(tmp_path):
    workspace = background()
    files = {"a.json": workspace, "b.json": workspace, "p.json": patchset(workspace, grid())}
    inspection = look(tmp_path, files)
    assert inspection.remarks == ["b.json is a copy of a.json"]
    assert len(inspection.pairing.pairs) == 1


def test_wrong_files_are_named_and_cost_nothing_else(tmp_path):
    workspace = background()
    broken = {**workspace, "observations": []}
    files = {
        "good/BkgOnly.json": workspace,
        "good/patchset.json": patchset(workspace, grid()),
        "cut.json": b'{"channels": [',
        "wrong.json": broken,
        "inner.tgz": layouts.pack("x.tgz", {"BkgOnly.json": workspace})[:60],
        "two.json": patchset(workspace, [*grid(), *grid()]),
    }
    inspection = look(tmp_path, files)
    assert len(inspection.proposals) == 1
    reasons = {orphan.name: orphan.reason for orphan in inspection.pairing.orphans}
    assert "not JSON" in reasons["cut.json"]
    assert "violates pyhf's schema" in reasons["wrong.json"]
    assert "cannot be read" in reasons["inner.tgz"]
    assert "Two patches have the same name" in reasons["two.json"]


def test_names_cannot_disturb_a_terminal_or_the_file(tmp_path):
    workspace = background()
    files = {"\x1b[31m.json": b"{", "x\u2028y.json": b"["}
    spec = patchset(workspace, grid())
    spec["metadata"]["description"] = "signals\x1b[2J\nregions: {}"
    inspection = look(tmp_path, {**files, "B.json": workspace, "p.json": spec})
    assert "\x1b" not in inspection.table()
    ((_, analysis),) = prepare(inspection, tmp_path).values()
    assert analysis.title.startswith("signals\x1b[2J")


def test_what_the_workflow_refuses_is_said(tmp_path):
    workspace = background()
    files = {"b.json": workspace, "p.json": patchset(workspace, grid(), ("region", "m2"))}
    inspection = look(tmp_path, files)
    assert "the label region is a column of results.csv" in inspection.table()
    (path,) = inspection.write(tmp_path / "mine.yaml")
    assert "It does not run yet" in path.read_text()


def test_files_are_not_overwritten(tmp_path):
    workspace = background()
    files = {"b.json": workspace, "p.json": patchset(workspace, grid())}
    inspection = look(tmp_path, files, name="mine")
    assert inspection.analysis()["name"] == "mine"
    target = tmp_path / "mine.yaml"
    inspection.write(target)
    target.write_text("changed")
    with pytest.raises(ConfigError, match="may hold your changes"):
        inspection.write(target)
    assert target.read_text() == "changed"
    inspection.write(target, overwrite=True)
    assert target.read_text().startswith("# Proposed")
    with pytest.raises(ConfigError, match=r"ends with \.yaml"):
        inspection.write(tmp_path / "mine.txt")
    with pytest.raises(ConfigError, match="cannot be the name"):
        look(tmp_path, files, name="a/b")


@pytest.mark.parametrize(
    "name",
    [
        "3L-RJ",
        "staus",
        *(pytest.param(name, marks=pytest.mark.study) for name in ("1Lbb", "sbottom")),
    ],
)
def test_published_pallets_are_proposed_as_they_are_written_by_hand(shared, project, name):
    written, _ = load_analysis(name, project / "config" / "analyses")
    archive = written.pallet.archive or f"{name}-likelihoods.tar.gz"
    proposed = inspect(shared / "pallets" / archive).analysis()
    assert proposed["labels"] == written.labels
    assert proposed.get("use") == written.use
    assert proposed["pallet"]["sha256"] == written.pallet.sha256
    assert {
        region: (files["workspace"], files["patchset"])
        for region, files in proposed["regions"].items()
    } == {region: (files.workspace, files.patchset) for region, files in written.regions.items()}
    assert [(p["x"], p["y"], p.get("select")) for p in proposed["planes"].values()] == [
        (plane.x, plane.y, plane.select) for plane in written.planes.values()
    ]


def test_workspaces_of_a_tool_for_reinterpretation(shared):
    inspection = inspect(shared / "workspaces" / "SUSY-2018-14-comb.json.xz")
    (row,) = inspection.as_json()["likelihoods"]
    assert (row["channels"], row["bins"], row["can_be_done"]) == (3, 3, "background fit")


@pytest.mark.parametrize("source", ["", "  "])
def test_an_empty_source_is_not_the_present_folder(source):
    with pytest.raises(ConfigError, match="The source is empty"):
        inspect(source)


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="There is no file or folder"):
        inspect(tmp_path / "none")
    source(tmp_path, "empty.zip", {})
    with pytest.raises(PalletError, match="no file in it"):
        inspect(tmp_path / "empty.zip")


def test_numbered_regions_do_not_take_the_names_of_others() -> None:
    assert proposal._unique(["region2", ""]) == ["region2", "region3"]
    assert proposal._unique(["", "region1"]) == ["region2", "region1"]
