"""Imports inside palletfit point one way, without cycles: docs/architecture.md."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import palletfit

SOURCE = Path(palletfit.__file__).parent
#: A package may import those of its own floor's line above, and itself.
FLOORS = (
    {"errors"},
    {"core"},
    {"config"},
    {"pallet"},
    {"engine", "planes"},
    {"runs"},
    {"products"},
    {"executors", "pages", "backends", "learned"},
    {"serve"},
    {"workflow", "publish", "cli"},
)
#: Modules beside the packages: entries from outside, which may import anything.
ENTRIES = {"", "api", "endpoint", "jax", "live", "login", "notebook", "remote", "results"}
#: What endpoints call is imported by the name that never changes, inside the registered function.
ALLOWED = {("executors.globus.service", "remote")}
#: The command line asks what programs ask.
ENTRIES_OF = {"cli": {"", "api"}}
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def modules() -> dict[str, Path]:
    """All modules by their name below ``palletfit``; packages by theirs."""
    names = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        names[".".join(part for part in parts if part != "__init__")] = path
    return names


MODULES = modules()


def imported(tree: ast.AST) -> Iterator[str]:
    """Names below ``palletfit`` that a syntax tree imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "palletfit":
                    yield alias.name.partition(".")[2]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "palletfit":
            package = (node.module or "").partition(".")[2]
            for alias in node.names:
                inner = f"{package}.{alias.name}".lstrip(".")
                yield inner if inner in MODULES else package


def at_import(path: Path) -> ast.Module:
    """A module without its functions, and without what only type checkers read."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, _: ast.FunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.If | None:
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else node

    stripped = Strip().visit(tree)
    assert isinstance(stripped, ast.Module)
    return stripped


def top(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("name", [name for name in MODULES if top(name) not in ENTRIES])
def test_imports_point_one_way(name: str) -> None:
    wrong = [
        other
        for other in imported(ast.parse(MODULES[name].read_text(encoding="utf-8")))
        if top(other) != top(name)
        and (name, other) not in ALLOWED
        and (
            top(other) not in ENTRIES_OF.get(top(name), ())
            if top(other) in ENTRIES
            else FLOOR[top(other)] >= FLOOR[top(name)]
        )
    ]
    assert not wrong, f"palletfit.{name} must not import {wrong}: see docs/architecture.md"


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        name: {other for other in imported(at_import(path)) if other != name}
        for name, path in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_every_package_has_a_floor_and_says_what_it_is_for() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages | {"errors"} == set(FLOOR)
    assert {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "errors"} == ENTRIES - {""}
    for path in SOURCE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_nothing_imports_snakemake() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not any(top(name) == "snakemake" for name in names), path
