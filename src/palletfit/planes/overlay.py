"""Fetch and read the published results of a plane, as plain data for the plots."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.config import DownloadSettings, Published, PublishedCurve
from palletfit.errors import PalletfitError
from palletfit.pallet.download import fetch_published
from palletfit.planes.published import read_curve, read_limits

logger = logging.getLogger(__name__)

CURVES = ("observed", "expected")
LIMITS = "upper_limits"


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
        For each curve of the analysis: ``segments`` (lists of points x, y), or ``problem``. For
        upper limits: ``points`` (x, y, limit) with their ``unit``, or ``problem``.
    """
    overlay: dict[str, Any] = {}
    for name in CURVES:
        curve = getattr(published, name)
        if curve is None:
            continue
        try:
            path = fetch_published(curve, folder / curve.file, settings, analysis=analysis)
            segments = read_curve(path, published.x, published.y)
            overlay[name] = {"segments": [segment.tolist() for segment in segments]}
        except PalletfitError as error:
            logger.warning("The published %s contour is left out. %s", name, error)
            overlay[name] = {"problem": str(error)}
    table = published.upper_limits
    if table is not None:
        try:
            source = PublishedCurve(file=table.file, url=table.url)
            path = fetch_published(source, folder / table.file, settings, analysis=analysis)
            points = read_limits(path, published.x, published.y, table.value)
            overlay[LIMITS] = {"points": points.tolist(), "unit": table.unit}
        except PalletfitError as error:
            logger.warning("The published upper limits are left out. %s", error)
            overlay[LIMITS] = {"problem": str(error)}
    return overlay


def segments(curves: Mapping[str, Any]) -> dict[str, list[NDArray[np.float64]]]:
    """Convert the result of :func:`fetch` to arrays of shape ``(points, 2)``."""
    return {
        name: [np.asarray(segment, dtype=float) for segment in curve["segments"]]
        for name, curve in curves.items()
        if "segments" in curve
    }
