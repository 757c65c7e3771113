"""The points of a region as a patchset, from which every product goes on as from a published one.

The number of points is limited, because each gets a record of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from palletfit.config import Analysis, Settings
from palletfit.core.files import read_json, write_atomically
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.choosing import read_choice
from palletfit.pallet.limits import CONTENT_BYTES, content_bytes
from palletfit.pallet.operations import patchset, with_digest
from palletfit.pallet.patches import Patch, canonical_json
from palletfit.pallet.patchset import check_patchset, summarise
from palletfit.pallet.summary_page import write_summary
from palletfit.products.points.opening import ranges_of, source_of
from palletfit.products.points.sources import Source, TooManyPointsError

#: Whole numbers up to this are exact as numbers with a decimal point.
_EXACT = 2**53


def prepare_patchset(
    analysis: Analysis,
    region: str,
    settings: Settings,
    workspace_path: Path,
    patchset_path: Path,
    page: Path,
) -> dict[str, Any]:
    """Write the points of a region as a patchset, check and describe it.

    A function of the user's is called here, and not where patches are fitted.

    Parameters
    ----------
    analysis, region
        The analysis, and the name of its region.
    settings
        Limits of points, and the measurement.
    workspace_path
        The region's prepared workspace.
    patchset_path
        Path of the patchset, which is written after all checks.
    page
        Path of the summary as an HTML page. Its JSON file is next to it.

    Returns
    -------
    dict
        The summary, see :func:`palletfit.pallet.patchset.validate`.

    Raises
    ------
    ConfigError
        There are no points, or too many for records of their own.
    PalletError
        A point is wrong; the error names it.
    """
    workspace = read_json(workspace_path)
    choice = read_choice(workspace_path.parent)
    source = _open(analysis, workspace, settings, choice)
    points = _each_once(_points(source, settings.points.chunk), source)
    spec = patchset(
        f"Made of the points of {source.path}", analysis.labels, list(_entries(points, source))
    )
    spec, _ = with_digest(spec, workspace)
    checked = check_patchset(spec, analysis.labels, Path(source.path))
    summary = summarise(workspace, spec, checked)
    for name in choice.get("blinded", ()):
        if name in summary["channels"]:
            summary["channels"][name]["observed"] = None
    summary["remarks"] += choice.get("remarks", [])
    write_atomically(patchset_path, canonical_json(spec).decode() + "\n")
    write_summary(page, f"{analysis.name}/{region}", summary)
    return summary


def _open(
    analysis: Analysis,
    workspace: Mapping[str, Any],
    settings: Settings,
    choice: Mapping[str, Any],
) -> Source:
    """Open the source of the points, which are few enough."""
    limits = settings.points
    allowed = min(limits.max_patches, limits.max_points)
    lowered = limits.model_copy(update={"max_points": allowed})
    try:
        return source_of(analysis, workspace, settings.fit, lowered, choice)
    except TooManyPointsError as error:
        if allowed == limits.max_points:
            raise
        raise TooManyPointsError(
            f"The scan of {analysis.name} has more than {allowed} points, and each would get a "
            "record of its own.",
            remedy="Ask for the target `points`, which writes one table of any number of points; "
            "or raise `points.max_patches` in the configuration.",
            file=error.file,
        ) from None


def _points(source: Source, chunk: int) -> Iterator[Patch]:
    for _, patches in source.chunks(ranges_of(source.count, chunk)):
        yield from patches


def _each_once(points: Iterable[Patch], source: Source) -> Iterator[Patch]:
    """Refuse points with the values of another one: results are told apart by them."""
    names: dict[tuple[float | str, ...], str] = {}
    for point in points:
        if point.values in names and names[point.values] != point.name:
            raise PalletError(
                f"The point has the same values {list(point.values)} as {names[point.values]!r}.",
                remedy="Add to `labels` what tells them apart, such as the column that "
                "`points.name` names; or ask for the target `points`, which compares no values.",
                file=source.path,
                patch=point.name,
            )
        names[point.values] = point.name
        yield point


def _entries(points: Iterable[Patch], source: Source) -> Iterator[dict[str, Any]]:
    """Write points as entries of a patchset, up to the size that a patchset may have."""
    size = 0
    for point in points:
        values = [_plain(value) for value in point.values]
        entry = {
            "metadata": {"name": point.name, "values": values},
            "patch": list(point.operations),
        }
        try:
            size += content_bytes(canonical_json(entry))
        except (TypeError, ValueError, RecursionError) as error:
            raise PalletError(
                f"The operations of the point are no JSON: {error}.",
                remedy="Let the function give texts, plain numbers, lists and mappings only.",
                file=source.path,
                patch=point.name,
            ) from None
        if size > CONTENT_BYTES:
            raise ConfigError(
                "The points are too large for a patchset: its content would take more than "
                f"{CONTENT_BYTES // 1024**2} MiB of memory.",
                remedy="Ask for the target `points`, which has no limit on their size together; "
                "or give fewer points.",
                file=source.path,
            )
        yield entry


def _plain(value: float | str) -> float | str:
    """Write whole numbers without a decimal point, as published patchsets do."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value
