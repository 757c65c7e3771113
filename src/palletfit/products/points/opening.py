"""The source of the points that an analysis names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palletfit.config import Analysis, FitSettings, PointSettings
from palletfit.errors import ConfigError
from palletfit.products.points.signals import Signal
from palletfit.products.points.sources import FunctionSource, Source
from palletfit.products.points.tables import TableSource


def source_of(
    analysis: Analysis,
    workspace: Mapping[str, Any],
    fit: FitSettings,
    limits: PointSettings,
    choice: Mapping[str, Any] | None = None,
) -> Source:
    """Open the table of an analysis, or import its function.

    Parameters
    ----------
    analysis
        The analysis with its section `points`.
    workspace
        The background-only workspace of one region.
    fit
        Settings of fits: the measurement, which has the parameter of interest.
    limits
        Limits of tables and of the number of points.
    choice
        What is chosen of the region's channels and bins, from
        :func:`palletfit.pallet.choosing.read_choice`.

    Raises
    ------
    ConfigError, PalletError
        There are no points, or something is wrong with them.
    TooManyPointsError
        There are more than `limits` allow.
    """
    if analysis.points is None:
        raise ConfigError(
            f"The analysis {analysis.name} has no `points`, but patchsets.",
            remedy="Ask for the target `all`.",
        )
    signal = Signal.of(workspace, analysis.points, fit, choice)
    if analysis.points.table is not None:
        alone = len(analysis.used_regions) == 1
        return TableSource(analysis.points, analysis.labels, signal, limits, strict=alone)
    return FunctionSource(analysis.points, analysis.labels, signal, limits)


def ranges_of(count: int, chunk: int) -> list[range]:
    """Cut the numbers of points into chunks, the last of which may be shorter."""
    return [range(first, min(first + chunk, count)) for first in range(0, count, chunk)]
