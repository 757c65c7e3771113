"""Read published exclusion contours and upper limits from HEPData's tables in CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from palletfit.core.arrays import FloatArray
from palletfit.errors import PalletError

#: A step is a gap if it exceeds this number of typical steps and this fraction of the axes.
GAP_IN_STEPS = 10.0
GAP_OF_RANGE = 0.1
#: Rows are out of order if more than this fraction of the steps are gaps.
DISORDER = 0.1
#: Texts of empty cells in HEPData.
MISSING = frozenset({"", "-"})


@dataclass(frozen=True)
class _Block:
    header: list[str]
    rows: list[tuple[int, list[str]]]  # number of the line in the file, cells


def read_curve(path: Path, x: int | str, y: int | str) -> list[FloatArray]:
    """Read a published contour from a HEPData table in CSV.

    Rows that are not in order along the curve are chained to their nearest neighbours. The curve
    is split where it leaves the range of the published plot. If the table starts in the middle of
    a closed curve, its two ends are joined.

    Parameters
    ----------
    path
        The table; it may hold several blocks, separated by empty lines, each with a header.
    x, y
        Columns of the coordinates: numbers (of the first block, from 0) or headers.

    Returns
    -------
    list of arrays, each of shape (points, 2)
        Segments of the curve in the table's units, longest first. A closed segment ends with
        its first point.

    Raises
    ------
    PalletError
        The file cannot be read, lacks a column, or holds fewer than two points.
    """
    points = _columns(path, {"x": x, "y": y}, "contour")
    points = points[np.r_[True, (np.diff(points, axis=0) != 0).any(axis=1)]]
    if len(points) < 2:
        raise PalletError(
            "The published contour has fewer than two points.",
            remedy="Take the table of the contour, not of a single limit, and check its columns.",
            file=path,
        )
    segments = _segments(points)
    return sorted(segments, key=len, reverse=True)


def read_limits(path: Path, x: int | str, y: int | str, value: int | str) -> FloatArray:
    """Read published upper limits of signal points from a HEPData table in CSV.

    Parameters
    ----------
    path
        The table, as for :func:`read_curve`.
    x, y, value
        Columns of the coordinates and of the limit: numbers or headers.

    Returns
    -------
    array, shape (points, 3)
        Coordinates and limit, in the table's units and order.

    Raises
    ------
    PalletError
        The file cannot be read, lacks a column, or holds no limit that is positive.
    """
    limits = _columns(path, {"x": x, "y": y, "upper_limits.value": value}, "limit")
    limits = limits[limits[:, 2] > 0]
    if not len(limits):
        raise PalletError(
            "The table of published limits holds no limit.",
            remedy="Take the table of upper limits, and check its columns.",
            file=path,
        )
    return limits


def _columns(path: Path, columns: Mapping[str, int | str], subject: str) -> FloatArray:
    """Read the numbers of columns, shape (rows, columns)."""
    block, positions = _find_block(_read_blocks(path, subject), columns, path, subject)
    return _numbers(block, positions, path, subject)


def _read_blocks(path: Path, subject: str) -> list[_Block]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        problem = f"Cannot read the published {subject}: {error.strerror}."
    except UnicodeDecodeError:
        problem = f"The published {subject} is not a text file."
    else:
        return list(_split_blocks(text))
    raise PalletError(problem, remedy="Download the table from HEPData as CSV.", file=path)


def _split_blocks(text: str) -> Iterator[_Block]:
    rows: list[tuple[int, list[str]]] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.startswith("#"):
            continue
        if line.strip():
            rows.append((number, [cell.strip() for cell in next(csv.reader([line]))]))
        elif rows:
            yield _Block(header=rows[0][1], rows=rows[1:])
            rows = []


def _find_block(
    blocks: list[_Block], columns: Mapping[str, int | str], path: Path, subject: str
) -> tuple[_Block, list[int]]:
    numbered = all(isinstance(column, int) for column in columns.values())
    for block in blocks[:1] if numbered else blocks:
        positions = [_find_column(block, column) for column in columns.values()]
        existing = [position for position in positions if position is not None]
        if len(existing) == len(positions):
            return block, existing
    headers = "; ".join(", ".join(block.header) for block in blocks) or "none, the table is empty"
    requested = " and ".join(repr(column) for column in columns.values())
    keys = " and ".join(f"published.{key}" for key in columns)
    raise PalletError(
        f"The published {subject} has no columns {requested}.",
        remedy=f"Set {keys} of the plane to its columns: {headers}.",
        file=path,
    )


def _find_column(block: _Block, column: int | str) -> int | None:
    if isinstance(column, int):
        return column if 0 <= column < len(block.header) else None
    return block.header.index(column) if column in block.header else None


def _numbers(block: _Block, columns: list[int], path: Path, subject: str) -> FloatArray:
    points: list[list[float]] = []
    for number, cells in block.rows:
        values = [cells[column] if column < len(cells) else "" for column in columns]
        if MISSING.intersection(values):
            continue
        try:
            points.append([float(cell) for cell in values])
        except ValueError:
            raise PalletError(
                f"Line {number} of the published {subject} is not numbers: {', '.join(values)}.",
                remedy="Download the table from HEPData as CSV again, or choose other columns.",
                file=path,
            ) from None
    return np.asarray(points, dtype=np.float64).reshape(-1, len(columns))


def _segments(points: FloatArray) -> list[FloatArray]:
    # Scale both axes: a mass difference of 10 GeV may be large on one of them.
    spread = np.ptp(points, axis=0)
    scaled = (points - points.min(axis=0)) / np.where(spread > 0, spread, 1.0)
    order = np.arange(len(points))
    gaps = _gaps(scaled)
    if gaps.mean() > DISORDER:
        order = _chain(scaled)
        gaps = _gaps(scaled[order])
    pieces = [points[piece] for piece in np.split(order, np.flatnonzero(gaps) + 1)]
    if len(pieces) > 1 and np.array_equal(pieces[-1][-1], pieces[0][0]):
        pieces[0] = np.concatenate([pieces.pop(), pieces[0][1:]])
    return [piece for piece in pieces if len(piece) > 1]


def _gaps(scaled: FloatArray) -> npt.NDArray[np.bool_]:
    """Find the steps between rows, shape (points - 1,), that are too long to be on the curve."""
    steps = np.hypot(*np.diff(scaled, axis=0).T)
    distinct = np.unique(scaled, axis=0)
    nearest = cKDTree(distinct).query(distinct, k=2)[0][:, 1]
    threshold = max(GAP_IN_STEPS * float(np.median(nearest)), GAP_OF_RANGE)
    return np.asarray(steps > threshold)


def _chain(scaled: FloatArray) -> npt.NDArray[np.intp]:
    """Order points along a curve: extend a chain at the end that has the nearer neighbour.

    The first point is arbitrary, because the chain grows at both ends.
    """
    free = np.ones(len(scaled), dtype=bool)
    free[0] = False
    chain = [0]
    while free.any():
        candidates = np.flatnonzero(free)
        to_head = np.hypot(*(scaled[candidates] - scaled[chain[0]]).T)
        to_tail = np.hypot(*(scaled[candidates] - scaled[chain[-1]]).T)
        at_head = to_head.min() < to_tail.min()
        nearest = int(candidates[np.argmin(to_head if at_head else to_tail)])
        chain.insert(0 if at_head else len(chain), nearest)
        free[nearest] = False
    return np.asarray(chain, dtype=np.intp)
