"""Planes of a signal model: select their points, and compute coordinates and borders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from palletfit.config import RESULT_COLUMNS, Plane
from palletfit.config.expressions import evaluate
from palletfit.core.arrays import FloatArray
from palletfit.errors import ConfigError


def plane_points(results: pd.DataFrame, plane: Plane, *, unique: bool = True) -> pd.DataFrame:
    """Select the signal points of a plane and compute their coordinates.

    Parameters
    ----------
    results
        One row for each signal point: patch, region, status, CLs values and the patchset's labels.
    plane
        Condition on the points of the plane, and its axes.
    unique
        Refuse points with the same coordinates.

    Returns
    -------
    pandas.DataFrame
        The selected rows with new columns ``x`` and ``y``, in the order of the results.

    Raises
    ------
    ConfigError
        An expression is wrong, or two points of the plane have the same coordinates.
    """
    labels = results.drop(columns=[name for name in results if name in RESULT_COLUMNS])
    if plane.select is not None:
        selected = _evaluate(labels, plane, "select")
        if selected.dtype != np.bool_:
            raise _wrong_expression(labels, plane, "select", "it is not a condition")
        results, labels = results[selected], labels[selected]
    coordinates = {axis: _coordinate(labels, plane, axis) for axis in ("x", "y")}
    points = results.assign(**coordinates).reset_index(drop=True)
    if unique:
        _refuse_duplicates(points, plane)
    return points


def forbidden_border(plane: Plane, points: pd.DataFrame) -> FloatArray | None:
    """Compute the border of the forbidden part beyond the range of the points, shape (n, 2)."""
    if plane.forbidden is None or points.empty:
        return None
    low, high = points["x"].min(), points["x"].max()
    margin = max(high - low, 1.0)
    x = np.linspace(low - margin, high + margin, 1201)
    try:
        y = evaluate(plane.forbidden.y_above, {"x": x}).astype(np.float64)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"The expression forbidden.y_above = {plane.forbidden.y_above!r} of "
            f"{_describe(plane)} is wrong: {error}.",
            remedy="Write an expression of x, such as `x - 125`.",
        ) from None
    border = np.column_stack([x, y])
    return np.asarray(border[np.isfinite(border).all(axis=1)])


def _coordinate(labels: pd.DataFrame, plane: Plane, axis: str) -> FloatArray:
    try:
        values = _evaluate(labels, plane, axis).astype(np.float64)
    except (TypeError, ValueError):
        raise _wrong_expression(labels, plane, axis, "it is not a number") from None
    if not np.isfinite(values).all():
        raise _wrong_expression(labels, plane, axis, "it is not finite for every point")
    return values


def _evaluate(labels: pd.DataFrame, plane: Plane, key: str) -> NDArray[Any]:
    columns = {str(name): column.to_numpy() for name, column in labels.items()}
    try:
        return evaluate(str(getattr(plane, key)), columns)
    except (ValueError, TypeError) as error:
        raise _wrong_expression(labels, plane, key, str(error)) from None


def _wrong_expression(labels: pd.DataFrame, plane: Plane, key: str, problem: str) -> ConfigError:
    return ConfigError(
        f"The expression {key} = {getattr(plane, key)!r} of {_describe(plane)} is wrong: "
        f"{problem}.",
        remedy=f"Use the patchset's labels: {', '.join(map(str, labels.columns))}.",
    )


def _describe(plane: Plane) -> str:
    condition = "" if plane.select is None else f" where {plane.select}"
    return f"the plane (x: {plane.x}, y: {plane.y}{condition})"


def _refuse_duplicates(points: pd.DataFrame, plane: Plane) -> None:
    duplicated = points[points.duplicated(["x", "y"], keep=False)]
    if duplicated.empty:
        return
    example = duplicated.iloc[0]
    same = duplicated[(duplicated["x"] == example["x"]) & (duplicated["y"] == example["y"])]
    raise ConfigError(
        f"{len(duplicated)} points of {_describe(plane)} share their coordinates, "
        f"such as {', '.join(same['patch'])} at ({example['x']:g}, {example['y']:g}).",
        remedy="Give the plane a `select` that chooses one of them, such as `mn1 == 60`.",
    )
