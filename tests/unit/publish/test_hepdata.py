"""HEPData submissions: what is written reads back, and what HEPData refuses is an error."""

from __future__ import annotations

import csv
import io
import json
import socket
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
import yaml
from hepdata_validator.full_submission_validator import FullSubmissionValidator

from palletfit.config import Analysis, ContourSettings, parse
from palletfit.errors import StoreError, SubmissionError
from palletfit.planes.contour import exclusion
from palletfit.planes.published import read_curve
from palletfit.products.hypotest.table import as_table, combine
from palletfit.publish import hepdata
from palletfit.runs.results import RegionResults

# hepdata-validator 0.3.6 leaves it to Python to close what it read.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

LABELS = ["m1", "m2", "dm"]
NASTY = "S: [1, {2}] #'\"\n\x00\x85\u2028 - &a *b !!python/object:os.system"


@pytest.fixture(scope="module", autouse=True)
def no_network():
    """Refuse connections of these tests, not those of services that other tests keep running."""
    here = threading.get_ident()

    def refused(function):
        def refuse(*arguments, **options):
            if threading.get_ident() == here:
                raise AssertionError("a submission needs no network")
            return function(*arguments, **options)

        return refuse

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refused(socket.socket.connect))
        patch.setattr(socket, "getaddrinfo", refused(socket.getaddrinfo))
        yield


def test_the_network_is_refused_in_this_thread_only():
    with pytest.raises(AssertionError, match="needs no network"):
        socket.getaddrinfo("localhost", 80)
    with ThreadPoolExecutor(1) as elsewhere:
        assert elsewhere.submit(socket.getaddrinfo, "127.0.0.1", 80).result()


def analysis(**changes):
    plane = {"x": "m1", "y": "m2", "x_title": r"$m(\chi_1)$ [GeV]", "y_title": "m2 [GeV]"}
    data = {
        "name": "tiny",
        "title": "Tiny: $a \\to b$;\n13 TeV",
        "reference": "Somebody (2020)",
        "pallet": {"doi": "10.17182/hepdata.12345.v3/r2", "sha256": {"A.json": "0" * 64}},
        "regions": {
            name: {"workspace": f"{name}.json", "patchset": f"{name}_patches.json"}
            for name in ("A", "B")
        },
        "labels": LABELS,
        "planes": {
            "narrow": {**plane, "select": "dm == 1"},
            "wide": {**plane, "select": "dm == 2"},
        },
        "hepdata": {
            "keywords": {"cmenergies": [13000], "reactions": ["P P --> X"], "phrases": ["SUSY"]},
            "units": {"dm": "GeV"},
        },
    }
    return parse(Analysis, {**data, **changes}, file="tiny.yaml")


def record(name, values, expected, *, status="ok"):
    key = {"workspace": "w" * 64, "patch": f"patch of {name!a}", "digest": f"key of {name!a}"}
    settings = {"mu": 1.0, "test_statistic": "qtilde"}
    common = {
        "patch": name,
        "values": dict(zip(LABELS, values, strict=True)),
        "key": {**key, "settings": settings, "engine": "batched-2"},
        "status": status,
    }
    if status == "failed":
        error = {"kind": "FitError", "problem": "no minimum", "remedy": "none"}
        return {**common, "error": error}
    return {
        **common,
        "CLs_obs": expected / 3,
        "CLs_exp": [min(1.0, expected * f) for f in (0.1, 0.4, 1.0, 1.7, 2.3)],
        "CLsb_obs": 0.1,
        "CLb_obs": 0.5,
        "mu_hat": 0.25,
        "fit_time": 1.5,
        "fits": {"free": {"trusted": status == "ok", "reason": "edm too large"}},
        "remarks": [],
        "software": {"pyhf": "0.7.6", "numpy": "2"},
    }


def two_islands(dm):
    """Points of a plane whose contour consists of two closed pieces."""
    for x in range(0, 1001, 125):
        for y in range(0, 501, 125):
            near = min(np.hypot(x - 250, y - 250), np.hypot(x - 750, y - 250))
            yield (x, y, dm), float(np.exp((near - 130) / 30) * 0.05 / (1 + dm))


@pytest.fixture(scope="module")
def publication():
    """Two planes, two regions; failed and suspect points, one with a name that is no plain text."""
    regions = {"A": {}, "B": {}}
    for dm in (1, 2):
        for number, (values, expected) in enumerate(two_islands(dm)):
            name, expected = f"S_{dm}_{number}", min(expected, 1.0)
            regions["A"][name] = record(name, values, expected)
            if number % 3 == 0:
                regions["B"][name] = record(name, values, expected * (2 if number % 2 else 0.5))
    for region, name in (("A", "S_1_0"), ("B", "S_1_0"), ("B", "S_1_3")):
        values = tuple(regions[region][name]["values"].values())
        regions[region][name] = record(name, values, 0, status="failed")
    values = tuple(regions["A"].pop("S_2_1")["values"].values())
    regions["A"][NASTY] = record(NASTY, values, 0.123456789, status="suspect")
    return publish([RegionResults(name, content) for name, content in regions.items()])


@pytest.fixture(scope="module")
def folder(publication, tmp_path_factory):
    """The folder in which the submission was written, beside its archive."""
    path = tmp_path_factory.mktemp("submission") / "hepdata"
    hepdata.write(publication, path, path.with_suffix(".tar.gz"))
    return path


@pytest.fixture(scope="module")
def tables(folder):
    """Its tables by name, as a reader finds them."""
    return read(folder)[1]


@pytest.fixture(scope="module")
def small(publication):
    """The same without contours, of which the files are large."""
    return replace(publication, contours={})


def publish(regions):
    source = analysis()
    results = combine(regions, source.labels)
    table = as_table(results, source.labels)
    contours = {
        name: exclusion(table, plane, ContourSettings(grid=50), {}).as_json()
        for name, plane in source.planes.items()
    }
    files = {region.name: {"workspace": "1" * 64, "patchset": "2" * 64} for region in regions}
    return hepdata.Publication(source, results, regions, files, contours)


def written(publication, folder):
    """What a reader finds: the tables by name, and the first document of the submission."""
    hepdata.write(publication, folder / "hepdata", folder / "hepdata.tar.gz")
    return read(folder / "hepdata")


def read(folder):
    first, *docs = yaml.safe_load_all((folder / "submission.yaml").read_text(encoding="ascii"))
    for doc in docs:
        doc["content"] = yaml.safe_load((folder / doc["data_file"]).read_text(encoding="ascii"))
    return first, {doc["name"]: doc for doc in docs}


def columns(doc):
    parts = doc["content"]["independent_variables"] + doc["content"]["dependent_variables"]
    return {part["header"]["name"]: [entry["value"] for entry in part["values"]] for part in parts}


def rounded(value):
    return "-" if value is None else float(f"{value:.6g}")


def test_every_point_reads_back(publication, tables):
    doc, points = tables["CLs"], publication.results.values()
    content = columns(doc)
    names = [r"$m(\chi_1)$", "m2", "dm"]
    assert list(content)[:3] == names
    for index, name in enumerate(names):
        assert content[name] == [point["mass_hypotheses"][index] for point in points]
    assert content["Observed CLs"] == [rounded(point["CLs_obs"]) for point in points]
    for index, sigma in enumerate(hepdata.SIGMAS):
        expected = [rounded((point["CLs_exp"] or [None] * 5)[index]) for point in points]
        assert content[f"Expected CLs ({sigma})"] == expected
    assert content["Status"] == [point["status"] for point in points]
    assert {"ok", "suspect", "failed"} == set(content["Status"])
    assert content["Observed CLs"][0] == "-"
    assert content["Region"] == [point["region"] for point in points]
    assert "90 signal points, 1 suspect, 1 failed (S_1_0, S: [1, {2}]" in doc["description"]
    units = [part["header"].get("units") for part in doc["content"]["independent_variables"]]
    assert units == ["GeV", "GeV", "GeV"]
    keywords = {entry["name"]: entry["values"] for entry in doc["keywords"]}
    assert keywords == {"cmenergies": [13000], "reactions": ["P P --> X"], "phrases": ["SUSY"]}


def test_text_that_yaml_could_take_for_something_else_stays_text(tables, folder):
    (name,) = (name for name in columns(tables["CLs"])["Patch"] if not name.startswith("S_"))
    # One line, without characters that YAML does not know.
    assert name == "S: [1, {2}] #'\" \ufffd - &a *b !!python/object:os.system"
    content = json.loads((folder / "provenance.json").read_text())
    assert content["points"][NASTY]["regions"]["A"]["patch"] == NASTY


def test_regions_of_every_point(publication, tables):
    content, points = columns(tables["Best region"]), publication.results
    for index, point in enumerate(points.values()):
        assert content["Best region"][index] == point["region"]
        for region in ("A", "B"):
            expected = point["regions"].get(region, {}).get("CLs_exp")
            value = "-" if expected is None else rounded(expected[2])
            assert content[f"Expected CLs, {region}"][index] == value
    assert set(content["Best region"]) == {"A", "B"}
    assert content["Expected CLs, B"][3] == "-"  # failed
    assert content["Expected CLs, B"][1] == "-"  # no such point


def test_contours_of_both_planes_in_several_pieces(publication, tables):
    curves = {name: doc for name, doc in tables.items() if "contour" in name}
    kinds = (
        "Observed contour",
        "Expected contour",
        "Expected contour minus 1 sigma",
        "Expected contour plus 1 sigma",
    )
    assert set(curves) == {f"{kind} {plane}" for kind in kinds for plane in ("narrow", "wide")}
    doc = curves["Expected contour narrow"]
    content = columns(doc)
    lines = publication.contours["narrow"]["curves"]["expected"]["lines"]
    assert len(lines) == 2
    assert content["Piece"] == [n for n, line in enumerate(lines, 1) for _ in line["vertices"]]
    pairs = list(zip(content[r"$m(\chi_1)$"], content["m2"], strict=True))
    assert pairs == [tuple(map(rounded, v)) for line in lines for v in line["vertices"]]
    assert "x = m1, y = m2 where dm == 1" in doc["description"]
    assert "1 failed ones are left out" in doc["description"]
    assert "smaller CLs, by 1" in curves["Expected contour minus 1 sigma wide"]["description"]


def test_hepdatas_csv_of_a_contour_gives_the_curve_again(publication, tables, tmp_path):
    content = columns(tables["Expected contour wide"])
    text = io.StringIO("#: name: contour\r\n")
    writer = csv.writer(text)
    for name in list(content)[1:]:  # one block a dependent variable
        writer.writerow([r"$m(\chi_1)$ [GeV]", name])
        writer.writerows(zip(content[r"$m(\chi_1)$"], content[name], strict=True))
        writer.writerow([])
    (tmp_path / "table.csv").write_text(text.getvalue())
    segments = read_curve(tmp_path / "table.csv", 0, 1)
    lines = publication.contours["wide"]["curves"]["expected"]["lines"]
    assert len(segments) == len(lines) == 2
    ends = [np.array([segment.min(axis=0), segment.max(axis=0)]) for segment in segments]
    for line in lines:
        low, high = np.min(line["vertices"], axis=0), np.max(line["vertices"], axis=0)
        assert any(np.allclose(end, [low, high], rtol=1e-5) for end in ends)


def test_a_contour_that_does_not_exist_is_said(tmp_path):
    excluded = [
        RegionResults("A", {f"S{i}": record(f"S{i}", (i, i * i, 1), 0.001) for i in range(5)}),
        RegionResults("B", {}),
    ]
    first, tables = written(publish(excluded), tmp_path)
    assert set(tables) == {"CLs", "Best region"}
    assert "Observed contour narrow: all_excluded" in first["comment"]
    assert "Expected contour wide: too_few_points" in first["comment"]


def test_provenance(publication, folder):
    first, _ = read(folder)
    content = json.loads((folder / "provenance.json").read_text())
    assert content["pallet"]["doi"] == "10.17182/hepdata.12345.v3/r2"
    assert content["pallet"]["sha256"] == {"A.json": "0" * 64}
    assert content["regions"]["B"]["sha256"] == {"workspace": "1" * 64, "patchset": "2" * 64}
    assert content["regions"]["B"]["workspace_digests"] == ["w" * 64]
    assert content["regions"]["B"]["patchset"] == "B_patches.json"
    groups = [(entry["software"] is None, entry["patches"]) for entry in content["fits"]]
    total = sum(len(region.records) for region in publication.regions)
    assert sorted(groups) == [(False, total - 3), (True, 3)]
    assert content["fits"][0]["settings"] == {"mu": 1.0, "test_statistic": "qtilde"}
    failed = content["points"]["S_1_0"]
    assert failed["status"] == "failed"
    assert failed["regions"]["B"]["problem"] == "no minimum"
    assert failed["regions"]["B"]["patch_digest"] == "patch of 'S_1_0'"
    assert content["contours"]["wide"]["confidence_level"] == 0.95
    assert content["contours"]["wide"]["curves"]["observed"] == "contour"
    links = {entry["location"] for entry in first["additional_resources"]}
    assert {"https://doi.org/10.17182/hepdata.12345.v3/r2", "provenance.json"} <= links
    assert first["related_to_hepdata_records"] == [12345]
    assert "pyhf 0.7.6" in first["comment"]


def test_points_that_were_not_tested_are_forecasts_and_no_fits(tmp_path):
    forecast = {"CLs_obs": 0.2, "CLs_exp": [0.1, 0.2, 0.3, 0.4, 0.5]}
    content = {}
    for number, (values, expected) in enumerate(two_islands(1)):
        content[f"S_{number}"] = record(f"S_{number}", values, min(expected, 1.0))
    fitted = content["S_0"]
    content["S_0"] = {
        **{name: fitted[name] for name in ("values", "remarks")},
        "status": "untested",
        "forecast": forecast,
        "key": {name: fitted["key"][name] for name in ("workspace", "patch")},
    }
    submission = publish([RegionResults("A", content)])
    hepdata.write(submission, tmp_path / "hepdata", tmp_path / "hepdata.tar.gz")
    described = json.loads((tmp_path / "hepdata" / "provenance.json").read_text())
    assert [entry["patches"] for entry in described["fits"]] == [len(content) - 1]
    point = described["points"]["S_0"]
    assert (point["status"], point["regions"]["A"]["key"]) == ("untested", None)
    assert point["regions"]["A"]["forecast"] == forecast
    _, tables = read(tmp_path / "hepdata")
    words = f"of {len(content)} signal points, of which 1 are forecast and not tested."
    assert words in tables["Observed contour narrow"]["description"]


def test_a_local_pallet_does_not_show_its_folder(small, tmp_path):
    local = analysis(pallet={"path": str(tmp_path / "secret" / "mine.tar.gz")})
    first, _ = written(replace(small, analysis=local), tmp_path)
    texts = [path.read_text() for path in (tmp_path / "hepdata").iterdir()]
    assert not any("secret" in text for text in texts)
    assert "mine.tar.gz" in (tmp_path / "hepdata" / "provenance.json").read_text()
    assert "related_to_hepdata_records" not in first


def test_limits(small, tmp_path):
    limits = {
        "a": {
            "mass_hypotheses": [100, 20, 1],
            "status": "ok",
            "mu_obs": 1.23456789,
            "mu_exp": [0.5, 0.7, 1.0, 1.4, 2.0],
            "upper_limit_obs_pb": 0.01,
            "upper_limit_exp_pb": [1, 2, 3, 4, 5],
        },
        "b": {
            "mass_hypotheses": [200, 20, 1],
            "status": "suspect",
            "mu_obs": None,
            "mu_exp": [0.5, 0.7, None, 1.4, 2.0],
            "upper_limit_obs_pb": None,
            "upper_limit_exp_pb": None,
        },
        "c": {
            "mass_hypotheses": [300, 20, 1],
            "status": "failed",
            "mu_obs": None,
            "mu_exp": None,
            "problem": "no fit",
        },
    }
    _, tables = written(replace(small, limits=limits), tmp_path)
    doc = tables["Upper limits"]
    content = columns(doc)
    assert content[r"$m(\chi_1)$"] == [100, 200, 300]
    assert content["Observed limit on signal strength"] == [1.23457, "-", "-"]
    assert content["Expected limit on signal strength (median)"] == [1.0, "-", "-"]
    assert content["Expected limit on signal strength (+2 sigma)"] == [2.0, 2.0, "-"]
    assert content["Observed limit on cross section"] == [0.01, "-", "-"]
    assert content["Status"] == ["ok", "suspect", "failed"]
    assert "3 signal points, 1 suspect, 1 failed (b, c)" in doc["description"]
    headers = [part["header"] for part in doc["content"]["dependent_variables"]]
    units = {entry["name"]: entry.get("units") for entry in headers}
    assert units["Observed limit on cross section"] == "pb"
    assert units["Observed limit on signal strength"] is None
    without = {"c": limits["c"]}
    _, tables = written(replace(small, limits=without), tmp_path)
    assert not any("cross section" in name for name in columns(tables["Upper limits"]))


def test_p_values_of_discovery_are_not_called_cls(tmp_path):
    fits = {f"S{i}": record(f"S{i}", (i, 0, 1), 0.2) for i in range(3)}
    for entry in fits.values():
        entry["key"]["settings"] = {"mu": 0.0, "test_statistic": "q0"}
    discovery = publish([RegionResults("A", fits)])
    plain = hepdata.Publication(
        discovery.analysis, discovery.results, discovery.regions, discovery.files
    )
    first, tables = written(plain, tmp_path)
    assert set(tables) == {"p0"}
    assert "Observed p0" in columns(tables["p0"])
    assert "CLs" not in first["comment"]


def test_image_with_its_thumbnail(publication, tmp_path):
    plot = tmp_path / "exclusion_narrow.png"
    mpl.image.imsave(plot, np.linspace(0, 1, 1200 * 900).reshape(900, 1200))
    _, tables = written(
        replace(
            publication,
            contours={"narrow": publication.contours["narrow"]},
            images={"narrow": plot},
        ),
        tmp_path,
    )
    content = {
        entry["description"]: entry
        for entry in tables["Observed contour narrow"]["additional_resources"]
    }
    assert content["Image file"]["location"] == "exclusion_narrow.png"
    small = tmp_path / "hepdata" / content["Thumbnail image file"]["location"]
    assert mpl.image.imread(small).shape[:2] == (180, 240)


def test_the_archive_holds_the_files_and_is_always_the_same(small, tmp_path):
    written(small, tmp_path)
    (tmp_path / "hepdata" / "left_over.yaml").write_text("from an earlier submission")
    before = (tmp_path / "hepdata.tar.gz").read_bytes()
    written(small, tmp_path)
    assert (tmp_path / "hepdata.tar.gz").read_bytes() == before
    files = {path.name: path.read_bytes() for path in (tmp_path / "hepdata").iterdir()}
    with tarfile.open(tmp_path / "hepdata.tar.gz") as tar:
        assert {entry.name: tar.extractfile(entry).read() for entry in tar} == files
    assert "left_over.yaml" not in files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hepdata", "hepdata.tar.gz"]
    assert FullSubmissionValidator(autoload_remote_schemas=False).validate(
        archive=str(tmp_path / "hepdata.tar.gz")
    )


def test_names_of_planes_that_are_alike_or_long():
    planes = analysis().planes
    first = planes["narrow"].model_dump()
    for names in (("a", "A"), ("a", "b" * 60)):
        similar = analysis(planes=dict.fromkeys(names, first))
        content = hepdata.Publication(similar, {}, [], {}).plane_names
        assert list(content.values()) == [" plane 1", " plane 2"]
    only = hepdata.Publication(analysis(planes={"a": first}), {}, [], {}).plane_names
    assert only == {"a": ""}


def test_what_hepdata_refuses_is_an_error_that_names_the_file(tmp_path):
    fits = {name: record(name, (name, 0, 1), 0.2) for name in ("100-200", "fine")}
    refused = publish_plain(fits)
    kept = tmp_path / "hepdata" / "submission.yaml"
    kept.parent.mkdir()
    kept.write_text("an earlier one")
    with pytest.raises(SubmissionError, match=r"cls\.yaml: .*must not be a string range") as caught:
        written(refused, tmp_path)
    assert str(tmp_path) not in caught.value.problem
    assert "remedy" in str(caught.value)
    assert kept.read_text() == "an earlier one"
    assert not (tmp_path / "hepdata.tar.gz").exists()


def publish_plain(fits):
    regions = [RegionResults("A", fits)]
    files = {"A": {"workspace": "1" * 64, "patchset": "2" * 64}}
    return hepdata.Publication(analysis(), combine(regions, LABELS), regions, files)


def test_a_folder_that_cannot_be_made_is_an_error(small, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="Cannot write the submission"):
        hepdata.write(small, tmp_path / "file" / "hepdata", tmp_path / "hepdata.tar.gz")
