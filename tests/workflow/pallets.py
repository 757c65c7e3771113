"""A tiny pallet that tests can break, and analysis files for it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyhf
import yaml


class TinyPallet:
    """Two channels, one background, and signal points whose fits take milliseconds.

    Tests change `workspace`, `patches` or `analysis` and call :meth:`write` again.
    """

    def __init__(self, folder: Path, name: str = "tiny", count: int = 6) -> None:
        self.folder, self.name = folder, name
        self.workspace = _workspace()
        # On a staggered grid, so that a contour can be drawn.
        self.patches = [
            patch(f"S_{100 + 50 * i}_{20 * (i % 3)}", 100 + 50 * i, 20 * (i % 3), 30.0 - 5 * i)
            for i in range(count)
        ]
        self.analysis: dict[str, Any] = {
            "title": "Tiny",
            "pallet": {"path": f"{name}.tar.gz"},
            "regions": {"SR": {"workspace": "BkgOnly.json", "patchset": "patchset.json"}},
            "labels": ["m1", "m2"],
            "planes": {
                "masses": {"x": "m1", "y": "m2", "x_title": "m1 [GeV]", "y_title": "m2 [GeV]"}
            },
        }

    @property
    def analysis_path(self) -> Path:
        return self.folder / f"{self.name}.yaml"

    @property
    def names(self) -> list[str]:
        return sorted(patch["metadata"]["name"] for patch in self.patches)

    def write(self) -> None:
        """Pack the archive and write the analysis file."""
        patchset = {
            "version": "1.0.0",
            "metadata": {
                "name": "tiny",
                "description": "tiny",
                "digests": {"sha256": pyhf.utils.digest(self.workspace)},
                "labels": ["m1", "m2"],
                "references": {"hepdata": "ins0000000"},
            },
            "patches": self.patches,
        }
        files = {"BkgOnly.json": self.workspace, "patchset.json": patchset}
        with tarfile.open(self.folder / f"{self.name}.tar.gz", "w:gz") as archive:
            for name, content in files.items():
                data = json.dumps(content).encode()
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        self.analysis_path.write_text(yaml.safe_dump(self.analysis))

    def hypotest(self) -> str:
        """The target that fits without aggregating and plotting."""
        return f"results/{self.name}/SR/hypotest.json"

    def record(self, patch: str) -> Path:
        return self.folder / f"results/{self.name}/SR/fits/{patch}.json"


def _workspace() -> dict[str, Any]:
    def background(yields: list[float]) -> dict[str, Any]:
        return {
            "name": "background",
            "data": yields,
            "modifiers": [
                {"name": "scale", "type": "normsys", "data": {"hi": 1.05, "lo": 0.95}},
            ],
        }

    return {
        "version": "1.0.0",
        "channels": [
            {"name": "SR", "samples": [background([50.0, 40.0])]},
            {"name": "CR", "samples": [background([200.0])]},
        ],
        "observations": [{"name": "SR", "data": [52, 38]}, {"name": "CR", "data": [205]}],
        "measurements": [{"name": "main", "config": {"poi": "mu_SIG", "parameters": []}}],
    }


def patch(name: str, m1: int, m2: int, signal: float) -> dict[str, Any]:
    sample = {
        "name": "signal",
        "data": [signal, signal / 2],
        "modifiers": [{"name": "mu_SIG", "type": "normfactor", "data": None}],
    }
    operation = {"op": "add", "path": "/channels/0/samples/1", "value": sample}
    return {"metadata": {"name": name, "values": [m1, m2]}, "patch": [operation]}
