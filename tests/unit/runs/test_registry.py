"""Products are classes that are found by their names, and told apart by nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from palletfit.config import Settings
from palletfit.errors import ConfigError
from palletfit.runs import registry
from palletfit.runs.product import Product

from .. import models

ROOT = Path(__file__).parents[3]
FOLDER = """
from palletfit.runs.product import Product

class Own(Product):
    \"\"\"An answer that is always the same.\"\"\"

    name = "own"
    version = "own-3"
    sections = ("own",)

PRODUCT = Own
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder of a product, which is forgotten afterwards."""
    monkeypatch.setenv("PALLETFIT_PRODUCTS", "")
    monkeypatch.delitem(sys.modules, "palletfit_product_own", raising=False)
    path = tmp_path / "own"
    path.mkdir()
    (path / "__init__.py").write_text(FOLDER)
    return path


def settings(folder: Path, **section: object) -> Settings:
    return Settings.model_validate({"products": {"own": {"folder": str(folder), **section}}})


def test_products_are_found_in_their_order():
    names = ["hypotest", "limits", "mu_scan", "diagnostics", "gof", "toys", "points"]
    assert list(registry.products()) == names
    assert all(registry.find(name).name == name for name in names)
    assert set(registry.versions()) == {*names} - {"hypotest"}


def test_an_unknown_product_is_no_module_to_import():
    with pytest.raises(KeyError, match="there is no product 'os' here"):
        registry.find("os")


def test_a_folder_of_the_configuration_is_a_product(folder):
    registry.add(settings(folder, settings={"depth": 2}, patches=["a*"]))
    assert list(registry.products())[-1] == "own"
    assert registry.versions()["own"] == "own-3"
    product = registry.product_of("own", settings(folder, settings={"depth": 2}))
    assert isinstance(product, Product)
    # Neither the folder nor the choice of patches is part of a record's key.
    assert product.settings == {"own": {"settings": {"depth": 2}}}
    assert product.as_json()["product"]["version"] == "own-3"


def test_processes_that_are_started_know_it_too(folder):
    registry.add(settings(folder))
    code = "from palletfit.runs import registry; print(registry.find('own').version)"
    variables = models.environment() | {"PALLETFIT_PRODUCTS": os.environ["PALLETFIT_PRODUCTS"]}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout == "own-3\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "there is no __init__.py"),
        ("", "does not set PRODUCT to a subclass of Product"),
        ("PRODUCT = 7", "does not set PRODUCT to a subclass of Product"),
        (FOLDER.replace('"own"\n', '"other"\n'), "the name of its product is 'other'"),
    ],
)
def test_a_folder_without_a_product_is_refused(folder, content, problem):
    (folder / "__init__.py").unlink()
    if content is not None:
        (folder / "__init__.py").write_text(content)
    with pytest.raises(ConfigError, match=problem) as error:
        registry.add(settings(folder))
    assert "docs/adding_a_product.md" in error.value.remedy


def test_a_name_that_is_taken_or_not_that_of_the_folder_is_refused(folder):
    for name, problem in (("limits", "has a product of this name"), ("mine", "be called mine")):
        chosen = Settings.model_validate({"products": {name: {"folder": str(folder)}}})
        with pytest.raises(ConfigError, match=problem):
            registry.add(chosen)


@pytest.mark.parametrize(
    "path",
    [*ROOT.glob("src/palletfit/**/*.py"), *ROOT.glob("scripts/*.py"), *ROOT.glob("rules/*.smk")],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_no_product_is_told_apart_by_its_name(path):
    names = "|".join({*registry.built_in()} - {"points"})  # points: a section of analysis files
    comparison = re.compile(
        rf"""(?:[!=]=|\bin [({{[]?)\s*["'](?:{names})["']|["'](?:{names})["'] ?[!=]="""
    )
    assert not comparison.findall(path.read_text(encoding="utf-8"))
