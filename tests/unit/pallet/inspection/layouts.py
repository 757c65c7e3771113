"""Sources of every layout, with made-up content."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palletfit.config import Analysis, DownloadSettings, load_analysis
from palletfit.pallet.download import fetch_pallet
from palletfit.pallet.inspection import Inspection, inspect
from palletfit.pallet.prepare import prepare_region

from ... import models

Spec = dict[str, Any]
Files = Mapping[str, Any]

COMPRESSION = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def background(number: int = 0, bins: int = 2, name: str = "SR") -> Spec:
    """A background-only workspace; each number has other events."""
    yields = [50.0 + number + 10 * position for position in range(bins)]
    statistics = {"name": f"stat_{name}", "type": "staterror", "data": [3.0] * bins}
    return models.workspace(
        {name: [models.sample("bkg", yields, statistics)]}, {name: [*yields[:-1], yields[-1] + 1]}
    )


def patch(name: str, values: list[Any], bins: int = 2, channel: str = "SR") -> Spec:
    """A signal point for :func:`background`."""
    statistics = {"name": f"stat_{channel}", "type": "staterror", "data": [0.5] * bins}
    sample = models.signal([5.0] * bins, statistics)
    operation = {"op": "add", "path": "/channels/0/samples/1", "value": sample}
    return {"metadata": {"name": name, "values": values}, "patch": [operation]}


def grid(bins: int = 2, channel: str = "SR", model: str = "S") -> list[Spec]:
    """Signal points of two masses."""
    return [
        patch(f"{model}_{first}_{second}", [first, second], bins, channel)
        for first in (200, 300, 400)
        for second in (0, 50)
    ]


def patchset(workspace: Spec, patches: list[Spec], labels: tuple[str, ...] = ("m1", "m2")) -> Spec:
    spec = models.patchset(workspace, patches)
    spec["metadata"]["labels"] = list(labels)
    return spec


def encode(name: str, content: Any) -> bytes:
    """The bytes of a file: JSON unless it is bytes, an archive if it is files of an archive."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, dict) and name.endswith((".tar", ".tgz", ".zip", ".tar.gz")):
        return pack(name, content)
    data = json.dumps(content).encode()
    ending = Path(name).suffix
    return COMPRESSION[ending](data) if ending in COMPRESSION else data


def pack(name: str, files: Files) -> bytes:
    """An archive of the kind of its name."""
    buffer = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w") as opened:
            for file, content in files.items():
                opened.writestr(file, encode(file, content))
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w" if name.endswith(".tar") else "w:gz") as tar:
        for file, content in files.items():
            data = encode(file, content)
            entry = tarfile.TarInfo(file)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def write(folder: Path, files: Files) -> Path:
    """Write files, and archives among them, to a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(name, content))
    return folder


def source(folder: Path, name: str, files: Files) -> Path:
    """Write an archive."""
    (folder / name).write_bytes(pack(name, files))
    return folder / name


def look(folder: Path, files: Files, archive: str = "search.tar.gz", **options: Any) -> Inspection:
    """Inspect an archive."""
    return inspect(source(folder, archive, files), **options)


def prepare(inspection: Inspection, folder: Path) -> dict[str, tuple[Spec, Analysis]]:
    """Write the analysis files, read them, and prepare all regions as the workflow does."""
    prepared = {}
    settings = DownloadSettings()
    for file in inspection.write(folder / "mine.yaml"):
        analysis, _ = load_analysis(str(file), folder)
        archive = folder / "resources" / f"{analysis.name}.archive"
        fetch_pallet(
            analysis.pallet, archive, settings, analysis=analysis.name, members=analysis.members
        )
        for region in analysis.regions:
            results = folder / "results" / analysis.name / region
            paths = [results / n for n in ("workspace.json", "patchset.json", "summary.html")]
            summary = prepare_region(analysis, region, archive, *paths, settings)
            prepared[f"{analysis.name}/{region}"] = summary, analysis
    return prepared
