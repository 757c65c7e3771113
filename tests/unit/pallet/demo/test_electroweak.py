"""The built-in pallet: the same bytes everywhere, a valid likelihood, and a sensible result."""

import hashlib
import json
import tarfile
from pathlib import Path

import pyhf
import pytest

import palletfit
from palletfit.config import load_analysis
from palletfit.pallet.demo.electroweak import POINTS, cross_section, make_demo_pallet, signal_yields

ANALYSES = Path(__file__).parents[4] / "config" / "analyses"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return make_demo_pallet(tmp_path_factory.mktemp("demo") / "new" / "demo.tar.gz")


@pytest.fixture(scope="module")
def files(archive):
    with tarfile.open(archive, "r:gz") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


@pytest.fixture(scope="module")
def workspace(files):
    return pyhf.Workspace(json.loads(files["BkgOnly.json"]))


@pytest.fixture(scope="module")
def patchset(files):
    return pyhf.PatchSet(json.loads(files["patchset.json"]))


def test_archive_does_not_depend_on_time_or_name(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 2e9)
    again = make_demo_pallet(tmp_path / "other.tar.gz")
    assert again.read_bytes() == archive.read_bytes()


def test_archive_is_packed_as_hepdata_packs(archive):
    with tarfile.open(archive, "r:gz") as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == ["BkgOnly.json", "README.md", "patchset.json"]
    assert {(m.isfile(), m.mtime, m.uid, m.gid, m.mode) for m in members} == {
        (True, 0, 0, 0, 0o644)
    }


def test_files_have_the_digests_that_the_analysis_pins(files):
    analysis, _ = load_analysis("demo", ANALYSES)
    assert set(analysis.pallet.sha256) == {"BkgOnly.json", "patchset.json"}
    for name, digest in analysis.pallet.sha256.items():
        assert hashlib.sha256(files[name]).hexdigest() == digest


def test_readme_says_that_nothing_is_measured(files):
    text = files["README.md"].decode()
    assert "no measurement" in text
    assert "DEMO_C1N2_Wh_500_150" in text


def test_specifications_are_valid(files):
    pyhf.schema.validate(json.loads(files["BkgOnly.json"]), "workspace.json")
    pyhf.schema.validate(json.loads(files["patchset.json"]), "patchset.json")


def test_patchset_belongs_to_the_workspace(workspace, patchset):
    patchset.verify(workspace)
    with pytest.raises(pyhf.exceptions.PatchSetVerificationError):
        patchset.verify(workspace.prune(samples=["other"]))


def test_analysis_describes_the_patchset(patchset):
    analysis, _ = load_analysis("demo", ANALYSES)
    assert analysis.labels == patchset.labels


def test_size_of_the_likelihood(workspace, patchset):
    model = workspace.model(patches=[patchset["DEMO_C1N2_Wh_500_150"]])
    assert len(model.config.channels) == 7
    assert sum(model.config.channel_nbins.values()) == 13
    assert len(workspace.samples) == 7
    assert model.config.poi_name == "mu_SIG"
    assert model.config.npars == 42


def test_every_modifier_type_is_there(workspace):
    kinds = {kind for _, kind in workspace.modifiers}
    assert kinds == {
        "histosys",
        "lumi",
        "normfactor",
        "normsys",
        "shapefactor",
        "shapesys",
        "staterror",
    }


def test_observations_are_counts_near_the_expectation(workspace):
    model = workspace.model(poi_name=None)
    expected = model.expected_actualdata(model.config.suggested_init())
    observed = workspace.data(model, include_auxdata=False)
    assert all(count == int(count) for count in observed)
    pulls = [(n - b) / b**0.5 for n, b in zip(observed, expected, strict=True)]
    assert max(map(abs, pulls)) < 1.5
    assert max(map(abs, pulls)) > 0.3


def test_points_form_a_plane_above_the_threshold(patchset):
    points = {patch.values for patch in patchset}
    assert len(points) == len(patchset) == 70
    assert all(m2 >= 0 and m1 - m2 > 125 for m1, m2 in points)
    assert (min(POINTS), max(POINTS)) == (150, 1100)
    assert patchset[(500, 150)].name == "DEMO_C1N2_Wh_500_150"


def test_patches_add_the_signal_to_the_signal_regions_only(workspace, patchset):
    for patch in patchset:
        assert [operation["op"] for operation in patch.patch] == ["add"] * 3
    patched = patchset.apply(workspace, "DEMO_C1N2_Wh_500_150")
    with_signal = {
        channel["name"]: channel["samples"][-1]
        for channel in patched["channels"]
        if channel["samples"][-1]["name"].startswith("DEMO")
    }
    yields = signal_yields(500, 150)
    assert {name: sample["data"] for name, sample in with_signal.items()} == yields
    kinds = {modifier["type"] for modifier in with_signal["SR_high"]["modifiers"]}
    assert kinds == {"normfactor", "lumi", "staterror", "normsys", "histosys"}


@pytest.mark.parametrize(
    ("mass", "femtobarn"), [(200, 1807.0), (500, 46.35), (700, 9.51), (1000, 1.335)]
)
def test_cross_section_follows_the_published_one(mass, femtobarn):
    # LHC SUSY Cross Section Working Group, pure-wino C1 N2 at NLO+NLL, 13 TeV.
    assert cross_section(mass) == pytest.approx(femtobarn, rel=0.05)


def test_compressed_signals_are_hard_to_select():
    def selected(m1, m2):
        return sum(map(sum, signal_yields(m1, m2).values())) / cross_section(m1)

    assert selected(500, 365) < 0.1 * selected(500, 250) < 0.1 * selected(500, 0)


def test_limit_runs_between_these_points(files):
    workspace, patchset = (json.loads(files[name]) for name in ("BkgOnly.json", "patchset.json"))
    names = ["DEMO_C1N2_Wh_500_150", "DEMO_C1N2_Wh_800_100"]
    tests = palletfit.hypotest(workspace, patchset, patches=names)
    for name, excluded in zip(names, (True, False), strict=True):
        values = tests[name].p_values
        assert (values.CLs_obs < 0.05) is excluded
        assert (values.CLs_exp[2] < 0.05) is excluded
        assert list(values.CLs_exp) == sorted(values.CLs_exp)
