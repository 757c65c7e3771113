"""The published results of a plane: fetched, read, and kept as plain data for the plots."""

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

    An overlay is worth having but not worth a failed run: a curve that cannot be had is described
    by its problem, which is logged and shown in the plot.

    Parameters
    ----------
    published
        Which tables, and which of their columns.
    folder
        Where the tables are kept.
    settings
        How to fetch.
    analysis
        Name of the analysis, for the cache.

    Returns
    -------
    dict
        For each curve that the analysis names: ``segments`` (lists of points x, y), or
        ``problem``; and of upper limits ``points`` (x, y, limit) with their ``unit``.
    """
    found: dict[str, Any] = {}
    for name in CURVES:
        curve = getattr(published, name)
        if curve is None:
            continue
        try:
            path = fetch_published(curve, folder / curve.file, settings, analysis=analysis)
            segments = read_curve(path, published.x, published.y)
            found[name] = {"segments": [segment.tolist() for segment in segments]}
        except PalletfitError as error:
            logger.warning("The published %s contour is left out. %s", name, error)
            found[name] = {"problem": str(error)}
    table = published.upper_limits
    if table is not None:
        try:
            where = PublishedCurve(file=table.file, url=table.url)
            path = fetch_published(where, folder / table.file, settings, analysis=analysis)
            points = read_limits(path, published.x, published.y, table.value)
            found[LIMITS] = {"points": points.tolist(), "unit": table.unit}
        except PalletfitError as error:
            logger.warning("The published upper limits are left out. %s", error)
            found[LIMITS] = {"problem": str(error)}
    return found


def segments(curves: Mapping[str, Any]) -> dict[str, list[NDArray[np.float64]]]:
    """Turn the result of :func:`fetch` back into arrays of shape ``(points, 2)``."""
    return {
        name: [np.asarray(segment, dtype=float) for segment in curve["segments"]]
        for name, curve in curves.items()
        if "segments" in curve
    }
