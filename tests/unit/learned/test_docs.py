"""The complete example of docs/referee.md."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

pytest.importorskip("onnx")

PAGE = Path(__file__).parents[3] / "docs" / "referee.md"


def test_the_complete_example_writes_what_it_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(import math\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    runpy.run_path(str(tmp_path / "example.py"))
    shown = re.findall(r"^print\(.*\)  # (.+)$", code, re.MULTILINE)
    assert len(shown) == 2
    assert capsys.readouterr().out.splitlines() == shown
