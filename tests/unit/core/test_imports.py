"""A user's Python file is imported from its present text."""

from __future__ import annotations

import os
import sys

import pytest

from palletfit.core.imports import import_file


def test_a_file_of_the_same_time_and_size_is_compiled_again(tmp_path):
    path = tmp_path / "points.py"
    for text in ("answer = 41", "answer = 42"):
        path.write_text(text)
        os.utime(path, (1e9, 1e9))
        assert import_file("palletfit_test_points", path).answer == int(text[-2:])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["points.py"]


def test_a_package_finds_its_modules(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .inner import answer")
    (folder / "inner.py").write_text("answer = 42")
    assert import_file("palletfit_test_package", folder / "__init__.py").answer == 42


def test_a_file_that_fails_leaves_no_module(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("raise ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):
        import_file("palletfit_test_broken", path)
    assert "palletfit_test_broken" not in sys.modules
