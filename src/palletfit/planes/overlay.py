"""Fetch and read the published results of a plane, as plain data for the plots."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.config import DownloadSettings, Published, PublishedCurve
from palletfit.core.hosts import resolvable
from palletfit.errors import PalletfitError, UnreachableError
from palletfit.pallet.download import circumstances, fetch_published
from palletfit.planes.published import read_curve, read_limits

logger = logging.getLogger(__name__)

CURVES = ("observed", "expected")
LIMITS = "upper_limits"
#: What is left out where a table cannot be had, with its verb.
SUBJECTS = {
    "observed": "observed contour is",
    "expected": "expected contour is",
    LIMITS: "upper limits are",
}


def fetch(
    published: Published, folder: Path, settings: DownloadSettings, *, analysis: str
) -> dict[str, Any]:
    """Fetch and read the published curves of a plane.

    A missing overlay does not fail a run. The problem of the curve is logged and shown in the plot
    instead.

    Parameters
    ----------
    published
        Tables, and their columns.
    folder
        Folder of the tables.
    settings
        Settings of downloads.
    analysis
        Name of the analysis, for the cache.

    Returns
    -------
    dict
        For each curve of the analysis: ``segments`` (lists of points x, y). For upper limits:
        ``points`` (x, y, limit) with their ``unit``. For what cannot be had: ``problem`` with its
        first sentence, the ``reason``; ``asked``, the circumstances; and whether it may be
        ``passing`` without a change of them.
    """
    overlay: dict[str, Any] = {}
    for name, source in _tables(published).items():
        state = circumstances(source, settings, analysis=analysis)
        try:
            path = fetch_published(source, folder / source.file, settings, analysis=analysis)
            overlay[name] = _read(published, name, path)
        except PalletfitError as error:
            logger.warning("The published %s left out. %s", SUBJECTS[name], error)
            overlay[name] = {
                "problem": str(error),
                "reason": error.problem,
                "asked": state,
                "passing": isinstance(error, UnreachableError),
            }
    return overlay


def _tables(published: Published) -> dict[str, PublishedCurve]:
    """Return the sources of the tables that an analysis names."""
    tables = {name: curve for name in CURVES if (curve := getattr(published, name)) is not None}
    limits = published.upper_limits
    if limits is not None:
        tables[LIMITS] = PublishedCurve(file=limits.file, url=limits.url)
    return tables


def _read(published: Published, name: str, path: Path) -> dict[str, Any]:
    if name != LIMITS or published.upper_limits is None:
        segments = read_curve(path, published.x, published.y)
        return {"segments": [segment.tolist() for segment in segments]}
    points = read_limits(path, published.x, published.y, published.upper_limits.value)
    return {"points": points.tolist(), "unit": published.upper_limits.unit}


def is_worth_asking(
    overlay: Mapping[str, Any], published: Published, settings: DownloadSettings, *, analysis: str
) -> bool:
    """Say whether something that was left out may be there now.

    It may if the circumstances of a table are others than those in which it was left out: another
    file in the cache, or another permission to use the network. If the reason was one that may
    pass by itself, it also may when its server's name can be resolved.

    Parameters
    ----------
    overlay
        Result of :func:`fetch`.
    published, settings, analysis
        See there.
    """
    urls = []
    for name, source in _tables(published).items():
        entry = overlay.get(name, {})
        if "problem" not in entry:
            continue
        if entry.get("asked") != circumstances(source, settings, analysis=analysis):
            return True
        if entry.get("passing") and not settings.offline and source.url is not None:
            urls.append(source.url)
    return resolvable(urls)


def left_out(overlay: Mapping[str, Any], names: Iterable[str] = CURVES) -> dict[str, str]:
    """Return the reasons of tables that were left out, by name."""
    entries = {name: overlay.get(name, {}) for name in names}
    return {
        name: entry.get("reason", entry["problem"].splitlines()[0])
        for name, entry in entries.items()
        if "problem" in entry
    }


def segments(curves: Mapping[str, Any]) -> dict[str, list[NDArray[np.float64]]]:
    """Convert the result of :func:`fetch` to arrays of shape ``(points, 2)``."""
    return {
        name: [np.asarray(segment, dtype=float) for segment in curve["segments"]]
        for name, curve in curves.items()
        if "segments" in curve
    }
