"""Unit tests lie where their modules lie."""

from __future__ import annotations

from pathlib import Path

from ...conftest import LONGEST

#: Folders that test something else than the package; tests/README.md says what.
APART = {"benchmarks", "project"}


def test_folders_are_those_of_the_package(project: Path) -> None:
    tests, package = project / "tests" / "unit", project / "src" / "palletfit"
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    strange = [
        str(folder)
        for folder in folders
        if folder.parts and folder.parts[0] not in APART and not (package / folder).is_dir()
    ]
    assert strange == []


def test_files_of_other_folders_are_explained(project: Path) -> None:
    text = (project / "tests" / "README.md").read_text()
    assert all(f"`unit/{name}/`" in text for name in APART)


def test_files_that_begin_first_exist(project: Path) -> None:
    assert all((project / "tests" / path).exists() for path in LONGEST)
