"""The examples of docs/command_line.md, which show what commands write for the demo."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from palletfit.pallet.demo import demo_patchset, demo_workspace

PAGE = Path(__file__).parents[3] / "docs" / "command_line.md"
WIDTH = 100
#: A command in a block for a console, and what it writes up to the next one.
EXAMPLE = re.compile(r"^\$ palletfit (.+)\n((?:(?!\$ |```).*\n)*)", re.MULTILINE)
NUMBER = re.compile(r"[+-]?\d+\.\d+(e[+-]\d+)?")


def examples() -> list[tuple[str, str]]:
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [pair for block in blocks for pair in EXAMPLE.findall(block)]


def assert_same(written: str, shown: str) -> None:
    """Compare words, and numbers up to what is known of them: not the fourth digit of a limit."""
    pairs = list(zip(written.split(), shown.split(), strict=True))
    for ours, theirs in pairs:
        if NUMBER.fullmatch(theirs):
            assert float(ours) == pytest.approx(float(theirs), rel=2e-3, abs=1e-3)
        else:
            assert ours == theirs


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    workspace = demo_workspace()
    (folder / "BkgOnly.json").write_text(json.dumps(workspace), encoding="utf-8")
    patchset = json.dumps(demo_patchset(workspace))
    (folder / "patchset.json").write_text(patchset, encoding="utf-8")
    return folder


@pytest.mark.parametrize(("command", "output"), examples(), ids=lambda text: text.split("\n")[0])
def test_an_example_is_what_the_command_writes(palletfit, demo, monkeypatch, command, output):
    monkeypatch.chdir(demo)
    result = palletfit(*shlex.split(command), env={"COLUMNS": str(WIDTH)})
    if os.environ.get("WRITE_EXAMPLES"):  # after a change that is meant
        text = PAGE.read_text(encoding="utf-8")
        line = f"$ palletfit {command}\n"
        PAGE.write_text(text.replace(line + output, line + result.stdout), encoding="utf-8")
    else:
        assert_same(result.stdout, output)
    assert (result.exit_code, result.stderr) == (0, "")


def test_there_is_an_example_of_every_command_with_a_likelihood() -> None:
    shown = {command.split()[0] for command, _ in examples()}
    fits = {"fit", "pulls", "yields", "impacts", "likelihood", "contours", "gof"}
    assert shown == {"hypotest", "limit", "scan", *fits, "toys"}
