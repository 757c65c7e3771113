"""Records on disk: whole or not at all, trusted only if they are what was asked for."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from palletfit.config import FitSettings
from palletfit.core.files import write_atomically
from palletfit.errors import StoreError
from palletfit.pallet.patches import Patch
from palletfit.products.hypotest import Hypotest
from palletfit.products.limits import Limits
from palletfit.runs.store import Key, RecordStore

from ...disks import small_file_system
from .. import models

HYPOTEST = Hypotest()


def key(mu=1.0, workspace="w" * 64, operations=()) -> Key:
    patch = Patch("signal", (1.0,), list(operations))
    return Key.of(workspace, patch, FitSettings(mu=mu), "engine-1", HYPOTEST)


def record(name="signal", mu=1.0, status="ok", **more):
    return {"patch": name, "key": key(mu).as_json(), "status": status, "CLs_obs": 0.1 + 0.2, **more}


@pytest.fixture
def store(tmp_path) -> RecordStore:
    return RecordStore(tmp_path / "fits")


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def test_a_record_comes_back_exactly(store):
    written = record()
    path = store.write("signal", written)
    assert path == store.folder / "signal.json"
    found = store.find("signal", key().digest)
    assert found is not None
    assert {name: found[name] for name in written} == written
    assert not leftovers(store.folder)


def test_the_key_depends_on_everything_that_changes_a_result():
    digests = {
        key().digest,
        key(mu=2.0).digest,
        key(workspace="v" * 64).digest,
        key(operations=[{"op": "remove", "path": "/channels/0"}]).digest,
        Key.of("w" * 64, Patch("signal", (), []), FitSettings(), "engine-2", HYPOTEST).digest,
        Key.of(
            "w" * 64, Patch("signal", (), []), FitSettings(test_statistic="q"), "x", Hypotest()
        ).digest,
    }
    assert len(digests) == 6
    # Not on the patch's name and values, which no fit depends on.
    assert (
        Key.of("w" * 64, Patch("b", (7,), []), FitSettings(), "engine-1", HYPOTEST).digest
        == key().digest
    )
    assert key().as_json()["digest"] == key().digest


def test_the_key_of_another_product_depends_on_its_settings_and_options():
    def of(options=None, **settings):
        patch = Patch("signal", (), [], options or {})
        return Key.of("w" * 64, patch, FitSettings(), "engine-1", Limits(settings))

    keys = [of(), of(tolerance=0.1), of(tolerance=0.2), of({"shard": 1}), of({"shard": 2})]
    assert len({item.digest for item in [key(), *keys]}) == 6
    # Records of hypothesis tests say nothing of products, as before there were any.
    assert key().as_json().keys() == {"workspace", "patch", "settings", "engine", "digest"}


def test_nothing_is_found_in_an_empty_store(store):
    assert store.find("signal", key().digest) is None


def test_failed_records_are_not_found(store):
    store.write("signal", record(status="failed", error={"kind": "FitError"}))
    assert store.find("signal", key().digest) is None
    assert store.read(store.path("signal"))["status"] == "failed"


def test_suspect_records_are_found(store):
    store.write("signal", record(status="suspect"))
    assert store.find("signal", key().digest)["status"] == "suspect"


def test_records_of_another_key_are_not_found(store):
    store.write("signal", record())
    assert store.find("signal", key(mu=2.0).digest) is None


def test_a_record_copied_under_another_patch_is_not_found(store):
    store.write("signal", record())
    store.path("other").write_bytes(store.path("signal").read_bytes())
    assert store.find("other", key().digest) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-20],
        lambda _: b"",
        lambda data: b"\x00" * len(data),
        lambda data: b"\xff\xfe" + data,
        lambda _: b"[]",
        lambda _: b"null",
        lambda _: b'{"status": "ok"}',
        lambda data: data.replace(b"0.30000000000000004", b"0.9"),
        lambda data: data.replace(b'"ok"', b'"suspect"'),
    ],
    ids=["half", "cut", "empty", "zeros", "binary", "list", "null", "foreign", "edited", "status"],
)
def test_damaged_and_edited_records_are_not_found(store, damage):
    path = store.write("signal", record())
    data = path.read_bytes()
    assert damage(data) != data
    path.write_bytes(damage(data))
    assert store.read(path) is None
    assert store.find("signal", key().digest) is None
    # They do not stand in the way of a new one.
    store.write("signal", record())
    assert store.find("signal", key().digest) is not None


def test_formatting_is_not_damage(store):
    path = store.write("signal", record())
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert store.find("signal", key().digest) is not None


def test_a_superseded_record_comes_back(store):
    store.write("signal", record(mu=1.0, note="first"))
    store.write("signal", record(mu=2.0, note="second"))
    assert store.find("signal", key(mu=2.0).digest)["note"] == "second"
    assert store.find("signal", key(mu=1.0).digest)["note"] == "first"
    # It is the present one again, and the other is kept.
    assert store.read(store.path("signal"))["note"] == "first"
    assert store.find("signal", key(mu=2.0).digest)["note"] == "second"


def test_a_superseded_record_comes_back_after_a_failure(store):
    store.write("signal", record(mu=1.0, note="first"))
    store.write("signal", record(mu=2.0, status="failed"))
    assert store.find("signal", key(mu=1.0).digest)["note"] == "first"


def test_a_damaged_superseded_record_does_not_come_back(store):
    store.write("signal", record(mu=1.0))
    store.write("signal", record(mu=2.0))
    (aside,) = (store.folder / "superseded").iterdir()
    aside.write_bytes(aside.read_bytes()[:-30])
    assert store.find("signal", key(mu=1.0).digest) is None


def test_a_new_record_of_the_same_key_replaces_the_old_one(store):
    store.write("signal", record(note="first"))
    store.write("signal", record(note="second"))
    assert store.find("signal", key().digest)["note"] == "second"
    assert not (store.folder / "superseded").exists()


@pytest.mark.parametrize("name", ["a/b", "../../evil", "/etc/passwd", "..", ".hidden", "x" * 500])
def test_no_name_leaves_the_folder(store, tmp_path, name):
    path = store.write(name, record(name))
    assert path.parent == store.folder
    assert store.find(name, key().digest)["patch"] == name
    assert [entry.name for entry in tmp_path.iterdir()] == ["fits"]
    store.write(name, record(name, mu=2.0))
    assert (store.folder / "superseded").is_dir()
    assert store.find(name, key().digest)["patch"] == name


@pytest.mark.parametrize("function", ["replace", "fsync", "chmod"])
def test_a_write_that_ends_before_the_renaming_leaves_the_old_file(tmp_path, monkeypatch, function):
    path = tmp_path / "file.json"
    write_atomically(path, "old")

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, function, broken)
        with pytest.raises(StoreError, match="Cannot write: Input/output error") as error:
            write_atomically(path, "new")
    assert error.value.file == str(path)
    assert path.read_text() == "old"
    assert not leftovers(tmp_path)


def test_a_process_that_is_killed_before_the_renaming_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_atomically(path, "old")
    code = (
        "import os, sys; from pathlib import Path; from palletfit.core import files\n"
        "os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "files.write_atomically(Path(sys.argv[1]), 'new')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=models.environment(), check=False, timeout=300
    )
    assert done.returncode == -9
    assert path.read_text() == "old"


def test_a_record_is_on_disk_before_it_is_in_place(tmp_path, monkeypatch):
    events: list[str] = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)

        def logged(*arguments, name=name, original=original):
            events.append(name)
            return original(*arguments)

        monkeypatch.setattr(os, name, logged)
    write_atomically(tmp_path / "file.json", "text")
    assert events == ["fsync", "replace", "fsync"]


def test_files_are_as_readable_as_others(tmp_path):
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file.json", "text")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file.json").stat().st_mode) == 0o640
    assert os.umask(old) == old  # as it was before


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="Cannot write: ") as error:
        write_atomically(tmp_path / "file" / "record.json", "text")
    assert error.value.file == str(tmp_path / "file" / "record.json")


LIMITED = """
import resource, sys
from pathlib import Path
from palletfit.errors import StoreError
from palletfit.runs.store import RecordStore

resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
store = RecordStore(Path(sys.argv[1]))
small = {"patch": "a", "key": {"digest": "k"}, "status": "ok"}
store.write("a", small)
try:
    store.write("a", {**small, "note": "x" * 10_000})
except StoreError as error:
    print(error)
assert store.find("a", "k")["status"] == "ok"
assert "note" not in store.find("a", "k")
"""


def test_a_file_that_becomes_too_large_leaves_the_old_record(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        env=models.environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "The disk is full; finished patches are kept." in done.stdout
    assert str(tmp_path / "a.json") in done.stdout
    assert not leftovers(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    with small_file_system(tmp_path / "disk") as folder:
        yield folder


def test_a_full_disk_leaves_all_earlier_records(small_disk):
    store = RecordStore(small_disk / "fits")

    def fill() -> None:
        for index in range(100):
            store.write(f"signal_{index}", record(f"signal_{index}", note="x" * 2000))
            written.append(index)

    written: list[int] = []
    with pytest.raises(StoreError, match="The disk is full") as error:
        fill()
    assert "Free space" in error.value.remedy
    assert len(written) > 3
    assert all(store.find(f"signal_{index}", key().digest) for index in written)
    assert not leftovers(small_disk)
