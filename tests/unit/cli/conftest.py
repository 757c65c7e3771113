"""Files of a small likelihood, and the command line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest

from palletfit.cli import main

from .. import models

KINDS = ("normfactor", "normsys")


@pytest.fixture(scope="session")
def likelihood() -> dict[str, dict]:
    """Content of the files."""
    background = models.background(*KINDS)
    return {
        "workspace": models.full(*KINDS),
        "background": background,
        "patchset": models.patchset(background, models.grid()),
        "counting": models.counting(),
    }


@pytest.fixture
def files(likelihood: dict[str, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all kinds of files, which is the present one."""
    for name, content in likelihood.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    operations = likelihood["patchset"]["patches"][0]["patch"]
    (tmp_path / "signal.json").write_text(json.dumps(operations), encoding="utf-8")
    with gzip.open(tmp_path / "counting.json.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(likelihood["counting"]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


Palletfit = Callable[..., click.testing.Result]


@pytest.fixture
def palletfit(monkeypatch: pytest.MonkeyPatch) -> Palletfit:
    """Run the command line with some words; give its exit code, output and errors.

    Its output is as wide as it likes, also where the terminal of the tests has a width.
    """
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*words: str, **options: object) -> click.testing.Result:
        result = click.testing.CliRunner().invoke(main, words, prog_name="palletfit", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
