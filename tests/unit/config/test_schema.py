"""Generated files agree with the models they are generated from."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from palletfit.config import Settings, parse, read_yaml
from palletfit.config.schema import generated_files


@pytest.mark.parametrize("name", sorted(generated_files()))
def test_generated_files_are_up_to_date(project: Path, name: str) -> None:
    assert (project / name).read_text() == generated_files()[name], "run `make schema`"


def test_config_file_only_repeats_defaults(project: Path) -> None:
    path = project / "config/config.yaml"
    assert parse(Settings, read_yaml(path), file=path) == Settings()


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[3].glob("config/analyses/*.yaml")), ids=lambda p: p.stem
)
def test_shipped_analyses_fit_the_schema(project: Path, path: Path) -> None:
    schema = json.loads((project / "config/analysis.schema.json").read_text())
    jsonschema.validate(read_yaml(path), schema)


def test_the_schema_refuses_what_the_model_refuses(project: Path) -> None:
    schema = json.loads((project / "config/schema.json").read_text())
    jsonschema.validate(read_yaml(project / "config/config.yaml"), schema)
    for wrong in ({"fit": {"mu": -1}}, {"fits": {}}, {"executor": {"kind": "carrier pigeon"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_every_key_has_its_meaning() -> None:
    page = generated_files()["docs/configuration.md"]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert [row for row in rows if row.endswith("|  |")] == []
