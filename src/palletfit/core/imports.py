"""Import of Python files that users name in a configuration."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any


class _FreshLoader(SourceFileLoader):
    """Compiles a file each time.

    Cached byte code counts as current if time (in seconds) and size of the file are the same. A
    file that is edited twice within a second may keep both.
    """

    def path_stats(self, path: str) -> Any:
        """Refuse to say how old the file is, so that no cache is read or written."""
        raise OSError(f"{path} is not cached")


def import_file(name: str, path: Path) -> ModuleType:
    """Import a Python file as a module of this name, from its present text.

    Parameters
    ----------
    name
        Name in ``sys.modules``; a module of this name is replaced.
    path
        The file; the ``__init__.py`` of a package is imported as that package.

    Raises
    ------
    Exception
        Whatever the file raises.
    """
    package = [str(path.parent)] if path.name == "__init__.py" else None
    loader = _FreshLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(
        name, path, loader=loader, submodule_search_locations=package
    )
    if spec is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(name)
    sys.modules[name] = module  # data classes look their module up
    try:
        loader.exec_module(module)
    except BaseException:
        if previous is None:
            del sys.modules[name]
        else:
            sys.modules[name] = previous
        raise
    return module
