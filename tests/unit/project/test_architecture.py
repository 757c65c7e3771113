"""Imports inside palletfit point one way, without cycles: docs/architecture.md."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterable, Iterator
from functools import cache
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


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names below ``palletfit`` that nodes of a syntax tree import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "palletfit":
                    yield alias.name.partition(".")[2]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "palletfit":
            package = (node.module or "").partition(".")[2]
            for alias in node.names:
                inner = f"{package}.{alias.name}".lstrip(".")
                yield inner if inner in MODULES else package


def at_import(path: Path) -> Iterator[ast.AST]:
    """Nodes of a module outside of its functions and of what only type checkers read."""
    left: list[ast.AST] = [tree(path)]
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        left += ast.iter_child_nodes(node)


def top(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("name", [name for name in MODULES if top(name) not in ENTRIES])
def test_imports_point_one_way(name: str) -> None:
    wrong = [
        other
        for other in imported(ast.walk(tree(MODULES[name])))
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
        assert ast.get_docstring(tree(path)), path
