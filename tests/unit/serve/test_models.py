"""Models: named when the service starts, each once, and checked."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

import palletfit
from palletfit.errors import ConfigError, PalletError
from palletfit.serve.models import Models, Named

from .. import models as small

KINDS = ("normfactor", "normsys")


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_models_of_files_archives_and_hs3_documents(tmp_path) -> None:
    background = small.background(*KINDS)
    write(tmp_path / "BkgOnly.json", background)
    palletfit.write_hs3(small.full(*KINDS), tmp_path / "hs3.json")
    archive = tmp_path / "two.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for region in ("SRA", "SRB"):
            data = json.dumps(background).encode()
            member = tarfile.TarInfo(f"Region{region}/BkgOnly.json")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    sources = [
        Named.of(str(tmp_path / "BkgOnly.json")),
        Named.of(f"two={archive}"),
        Named.of(f"hs3={tmp_path / 'hs3.json'}"),
    ]
    models = Models(sources, tmp_path / "copies")
    assert len(models.names) == 4
    assert {"BkgOnly", "hs3"} < set(models.names)
    assert [name.startswith("two/") for name in models.names] == [False, False, True, True]
    # A copy does not change with its file.
    write(tmp_path / "BkgOnly.json", {})
    assert json.loads(models.file("BkgOnly").path.read_bytes()) == background


def test_an_unknown_model_is_refused_with_close_names(demo, tmp_path) -> None:
    with pytest.raises(PalletError, match="no workspace 'dmo'") as caught:
        demo.check_name("dmo")
    assert "Did you mean 'demo'?" in caught.value.remedy
    assert demo.check_name(None) == "demo"
    path = write(tmp_path / "w.json", small.background(*KINDS))
    several = Models([Named("a", str(path)), Named("b", str(path))], tmp_path / "copies")
    with pytest.raises(PalletError, match="there are several"):
        several.check_name(None)


def test_a_lazy_model_is_read_at_its_first_request(tmp_path) -> None:
    path = write(tmp_path / "w.json", {"channels": []})
    with pytest.raises(PalletError, match=r"schema workspace\.json"):
        Models([Named("w", str(path))], tmp_path / "copies")
    models = Models([Named("w", str(path))], tmp_path / "copies", lazy=True)
    assert models.present("w") is None
    with pytest.raises(PalletError, match=r"schema workspace\.json"):
        models.file("w")
    write(path, small.background(*KINDS))
    assert models.file("w") == models.present("w")


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (["w.json", "w.json"], {}, "Two models have the name 'w'"),
        (["a=w.json", "b=w.json"], {"largest": 1}, "more than 1 models"),
        (["=w.json"], {}, "is not NAME=SOURCE"),
        (["1Lbbb"], {}, "no file or folder '1Lbbb'"),
        (["p=p.json"], {}, "a patchset, and not a workspace"),
        (["empty"], {}, "no workspace in it"),
    ],
)
def test_wrong_sources_are_refused(names, options, words, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    background = small.background(*KINDS)
    write(tmp_path / "w.json", background)
    write(tmp_path / "p.json", small.patchset(background, small.grid()))
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty" / "notes.json", {"a": 1})
    with pytest.raises((ConfigError, PalletError), match=words):
        Models([Named.of(name) for name in names], tmp_path / "copies", **options)
