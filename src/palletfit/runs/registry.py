"""The products that there are: the packages of :mod:`palletfit.products`, and folders of users.

A product is a package that names its class ``PRODUCT``. Folders of a configuration's ``products``
are told to the processes of a run, and to its workers on this machine, by an environment variable.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from palletfit.core.imports import import_file
from palletfit.errors import ConfigError
from palletfit.runs.product import Product

if TYPE_CHECKING:
    from palletfit.config import Settings

#: Its packages are products, found by their names: this module imports none by itself.
_PACKAGE = "palletfit.products"
#: Environment variable with the folders of further products.
_VARIABLE = "PALLETFIT_PRODUCTS"


@functools.cache
def built_in() -> tuple[str, ...]:
    """Return the names of the products that come with palletfit."""
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    return tuple(module.name for module in pkgutil.iter_modules(folders))


def names() -> tuple[str, ...]:
    """Return the names of all products."""
    return (*built_in(), *_folders())


def find(name: str) -> type[Product]:
    """Return the class of a product.

    Raises
    ------
    KeyError
        There is no such product.
    """
    if name in built_in():
        product: type[Product] = importlib.import_module(f"{_PACKAGE}.{name}").PRODUCT
        return product
    folders = _folders()
    if name not in folders:
        raise KeyError(f"there is no product {name!r} here; {_VARIABLE} names no such folder")
    return _load(folders[name])


def products() -> dict[str, type[Product]]:
    """Return the classes of all products by name, in their order."""
    classes = sorted(map(find, names()), key=lambda product: (product.order, product.name))
    return {product.name: product for product in classes}


def product_of(name: str, settings: Settings) -> Product:
    """Return the product of a name under a configuration.

    Raises
    ------
    KeyError
        There is no such product.
    """
    return find(name).of(settings)


def versions() -> dict[str, str]:
    """Return the versions of all products that have one of their own."""
    return {name: product.version for name, product in products().items() if product.version}


def add(settings: Settings) -> None:
    """Make the products that a configuration names known here, and to processes started from now.

    Raises
    ------
    ConfigError
        A folder holds no product of this name.
    """
    folders = []
    for name, further in settings.products.items():
        folder = further.folder.expanduser().resolve()
        problem = _problem(name, folder)
        if problem:
            raise ConfigError(
                f"products.{name}.folder: {problem}.",
                remedy="See docs/adding_a_product.md for what such a folder holds.",
                file=folder,
            )
        folders.append(str(folder))
    if folders:
        os.environ[_VARIABLE] = os.pathsep.join(folders)


def _problem(name: str, folder: Path) -> str:
    if name in built_in():
        return "palletfit has a product of this name"
    if folder.name != name:
        return f"the folder has to be called {name}"
    if not (folder / "__init__.py").is_file():
        return "there is no __init__.py"
    product = getattr(_package(folder), "PRODUCT", None)
    if not (isinstance(product, type) and issubclass(product, Product)):
        return "its __init__.py does not set PRODUCT to a subclass of Product"
    return "" if product.name == name else f"the name of its product is {product.name!r}"


def _folders() -> Mapping[str, Path]:
    entries = os.environ.get(_VARIABLE, "").split(os.pathsep)
    return {Path(entry).name: Path(entry) for entry in entries if entry}


def _load(folder: Path) -> type[Product]:
    product: type[Product] = _package(folder).PRODUCT
    return product


def _package(folder: Path) -> ModuleType:
    """Import the package in a folder, wherever that is."""
    name = f"palletfit_product_{folder.name}"
    imported = sys.modules.get(name)
    if imported is not None and imported.__file__ == str(folder / "__init__.py"):
        return imported
    return import_file(name, folder / "__init__.py")
