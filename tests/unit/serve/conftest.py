"""Models of the service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palletfit.pallet.demo import demo_workspace
from palletfit.serve.models import Models, Named


@pytest.fixture(scope="session")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The background of the demo as a file."""
    path = tmp_path_factory.mktemp("demo") / "BkgOnly.json"
    path.write_text(json.dumps(demo_workspace()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def demo(demo_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A service's models: the demo alone."""
    return Models([Named("demo", str(demo_file))], tmp_path_factory.mktemp("models"))
