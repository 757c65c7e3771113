"""The comparison of two results folders sees every difference, and ignores times only."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "same_results.py"
RECORD = "demo/SR/fits/a.json"


@pytest.fixture
def folders(tmp_path):
    """Two results folders with the same small content."""
    before = tmp_path / "first" / "results"
    record = {
        "patch": "a",
        "key": {"workspace": "1", "settings": {"mu": 1.0}, "digest": "2"},
        "CLs_obs": 0.05,
        "fit_time": 0.1,
        "fits": {"free": {"attempts": [{"twice_nll": 1.25, "seconds": 0.5}]}},
        "worker": {"host": "here", "pid": 1},
        "sha256": "3",
    }
    write(before / RECORD, record)
    entry = {"status": "ok", "record": "a.json", "key": "2", "size": 1, "mtime_ns": 2}
    manifest = {"title": "demo/SR", "labels": [], "fitted": 1, "patches": {"a": entry}}
    write(before / "demo/SR/hypotest.json", manifest)
    write(before / "demo/results.json", {"a": {"CLs_obs": 0.05, "remarks": [str(before / "a")]}})
    (before / "demo/results.csv").write_text("patch,CLs_obs,fit_time\na,0.05,0.1\n")
    (before / "demo/exclusion.png").write_bytes(b"1")
    (before / "demo/live.html").write_text("1")
    archive("fitted with palletfit\n  0.1.0, engine batched-4", before / "demo/hepdata.tar.gz")
    (before / "demo/SR/.lock").write_text("1")
    after = tmp_path / "second" / "results"
    shutil.copytree(before, after)
    replace(after / "demo/results.json", str(before), str(after))
    return before, after


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def archive(text, path):
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("submission.yaml")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def compare(load, monkeypatch, capsys):
    """Run the script in this process; give its exit code, and the lines that were printed."""

    def run(before, after, *options):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(before), str(after), *options])
        code = load("same_results").main()
        printed = capsys.readouterr()
        assert printed.err == ""
        return code, printed.out.splitlines()

    return run


def test_equal_folders(folders):
    """As its users run it."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, folders)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "compared 5 files, of which 1 are records: 0 differences\n"


def test_times_hosts_and_versions_are_ignored(compare, folders):
    after = folders[1]
    record = after / RECORD
    for old, new in (
        ('"fit_time": 0.1', '"fit_time": 0.2'),
        ('"seconds": 0.5', '"seconds": 1'),
        ('"here"', '"there"'),
        ('"sha256": "3"', '"sha256": "4"'),
    ):
        replace(record, old, new)
    replace(after / "demo/SR/hypotest.json", '"size": 1', '"size": 3')
    replace(after / "demo/SR/hypotest.json", '"mtime_ns": 2', '"mtime_ns": 3')
    replace(after / "demo/results.csv", "0.05,0.1", "0.05,0.2")
    replace(after / "demo/live.html", "1", "2")
    (after / "demo/exclusion.png").write_bytes(b"2")
    (after / "demo/SR/.lock").unlink()
    archive("fitted with palletfit\n  0.2.0, engine batched-4", after / "demo/hepdata.tar.gz")
    assert compare(*folders)[0] == 0
    assert compare(*folders, "--plots")[1][0] == "demo/exclusion.png: the images differ"


@pytest.mark.parametrize(
    ("name", "old", "new", "difference"),
    [
        (RECORD, "0.05", "0.050000000000000003", "CLs_obs: 0.05, then 0.050000000000000003"),
        (RECORD, "1.25", "1.26", "fits.free.attempts[0].twice_nll: 1.25, then 1.26"),
        (RECORD, '"mu": 1.0', '"mu": 1', "key.settings.mu: 1.0, then 1"),
        (RECORD, '"digest": "2"', '"digest": "9"', "key.digest: '2', then '9'"),
        (RECORD, '"CLs_obs": 0.05', '"CLs_obs": "0.05"', "CLs_obs: 0.05, then '0.05'"),
        (RECORD, '"CLs_obs": 0.05,', "", "CLs_obs: 0.05, then (absent)"),
        (RECORD, '"fit_time": 0.1,', "", "fit_time: 0.1, then (absent)"),
        (RECORD, '{\n "patch"', '{"patch"', "the layout of lines differs"),
        ("demo/results.csv", "a,0.05", "a,0.06", "row 1 (a), CLs_obs: 0.05, then 0.06"),
        ("demo/results.csv", "a,0.05,0.1\n", "", "1 rows, then 0"),
        ("demo/SR/hypotest.json", '"fitted": 1', '"fitted": 0', "fitted: 1, then 0"),
    ],
)
def test_everything_else_is_a_difference(compare, folders, name, old, new, difference):
    replace(folders[1] / name, old, new)
    code, lines = compare(*folders)
    assert code == 1
    assert lines[0] == f"{name}: {difference}"


def test_order_of_keys_counts(compare, folders):
    write(folders[0] / "demo/a.json", {"b": 1, "a": {"b": 1}})
    write(folders[1] / "demo/a.json", {"a": {"b": 1}, "b": 1})
    assert compare(*folders)[1][0] == "demo/a.json: (top): the order of keys differs"


def test_files_that_are_missing_or_new(compare, folders):
    (folders[1] / "demo/exclusion.png").rename(folders[1] / "demo/contour.png")
    code, lines = compare(*folders)
    assert code == 1
    assert lines[:2] == [
        f"demo/contour.png: only in {folders[1]}",
        f"demo/exclusion.png: missing in {folders[1]}",
    ]


def test_content_of_the_archive_counts(compare, folders):
    archive("fitted with palletfit\n  0.1.0, engine batched-5", folders[1] / "demo/hepdata.tar.gz")
    assert compare(*folders)[1][0].startswith("demo/hepdata.tar.gz/submission.yaml: line 2: ")


def test_empty_folders_are_no_success(compare, tmp_path):
    assert compare(tmp_path, tmp_path)[0] == 1
