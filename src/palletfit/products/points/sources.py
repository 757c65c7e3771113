"""Sources of the points of a scan: a table, or a function of the user's.

Both give points in the same order each time, and any part of them without the rest. So only the
points in flight are in memory.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from palletfit.config import Points, PointSettings
from palletfit.core.imports import import_file
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.patches import Patch, json_digest
from palletfit.products.points.signals import Signal

#: A name is as long as this at most, in characters.
LONGEST_NAME = 500


class TooManyPointsError(ConfigError):
    """A source has more points than are allowed."""


class Source(Protocol):
    """Points by number.

    Attributes
    ----------
    path
        Name of the source in error messages.
    count
        Number of points.
    identity
        Digest of all that points depend on, as far as it is known before they are made.
    """

    path: Path | str
    count: int
    identity: str

    def chunks(self, ranges: Iterable[range]) -> Iterator[tuple[range, list[Patch]]]:
        """Give the points of ranges, which are in order, one range after the other."""
        ...


def file_digest(path: Path) -> str:
    """Compute the SHA-256 of a file of any size.

    Raises
    ------
    ConfigError
        It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            f"Cannot read the file: {error.strerror}.",
            remedy="Correct `points` in the analysis file; paths start at its folder.",
            file=path,
        ) from None


class Names:
    """Search for repeated names among very many, with eight bytes for each."""

    def __init__(self) -> None:
        self._digests: list[np.ndarray[Any, np.dtype[np.uint64]]] = []

    def add(self, names: Sequence[str]) -> None:
        """Add further names."""
        digests = [hashlib.blake2b(_bytes(name), digest_size=8).digest() for name in names]
        self._digests.append(np.frombuffer(b"".join(digests), dtype=np.uint64))

    def repeated(self) -> list[tuple[int, int]]:
        """Return pairs of positions with the same name; a pair is wrong once in 10^19 times."""
        if not self._digests:
            return []
        digests = np.concatenate(self._digests)
        order = np.argsort(digests, kind="stable")
        same = np.flatnonzero(digests[order[1:]] == digests[order[:-1]])
        return [(int(order[position]), int(order[position + 1])) for position in same]


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", errors="surrogatepass")


def wrong_name(name: Any) -> str | None:
    """Describe why a value is no name of a point; None if it is one."""
    if not isinstance(name, str) or not name:
        return "has no name"
    return f"has a name of {len(name)} characters" if len(name) > LONGEST_NAME else None


# --------------------------------------------------------------------------- functions

#: Answer of a function for one point: name, values of the labels, and yields by channel or
#: operations.
FunctionPoint = tuple[str, Any, Any]


class FunctionSource:
    """Points that a user's function gives: ``function(first, stop)``, in order.

    The function is imported here, in the process that sends fits. It is called for points that are
    not finished, and for no others.

    Parameters
    ----------
    points
        Section of the analysis file.
    labels
        Names of the points' values.
    signal
        Recipe that makes patches of yields.
    settings
        Limits.

    Raises
    ------
    ConfigError
        The function cannot be imported.
    """

    def __init__(
        self, points: Points, labels: Sequence[str], signal: Signal, settings: PointSettings
    ) -> None:
        if points.function is None or points.count is None:
            raise ValueError("these points are no function's")
        _check_count(points.count, settings, points.function)
        self.path: Path | str = points.function
        self.count = points.count
        self._labels, self._signal = tuple(labels), signal
        self._allowed = None if points.channels is None else set(points.channels)
        self._function, files = _import(points.function)
        self.identity = json_digest(
            [
                points.function.rpartition(":")[2],
                *(file_digest(path) for path in [*files, *points.depends]),
                points.content("function", "count", "depends"),
                self._labels,
            ]
        )

    def chunks(self, ranges: Iterable[range]) -> Iterator[tuple[range, list[Patch]]]:
        """Give the points of ranges, see :meth:`Source.chunks`.

        Raises
        ------
        ConfigError
            The function raises an error, or gives another number of points than that of a range.
        """
        for span in ranges:
            points = self._call(span)
            yield (
                span,
                [self._patch(number, point) for number, point in zip(span, points, strict=True)],
            )

    def _call(self, span: range) -> list[FunctionPoint]:
        try:
            # Read one point too many at most: the function may never end.
            points = list(itertools.islice(self._function(span.start, span.stop), len(span) + 1))
        except Exception as error:
            line = _last_line(error)
            raise ConfigError(
                f"The function raised {type(error).__name__} for points {span.start} to "
                f"{span.stop - 1}{line}: {error}",
                remedy="Correct it; finished points are kept.",
                file=self.path,
            ) from error
        if len(points) != len(span):
            more = "more" if len(points) > len(span) else f"{len(points)} points"
            raise ConfigError(
                f"Asked for points {span.start} to {span.stop - 1}, which are {len(span)}, the "
                f"function gives {more}.",
                remedy="Let it give exactly the points from `first` up to `stop`, which is not "
                "among them, or correct `points.count`.",
                file=self.path,
            )
        return points

    def _patch(self, number: int, point: FunctionPoint) -> Patch:
        try:
            name, values, content = point
            values = self._values(values)
            problem = wrong_name(name)
            if problem is None and isinstance(content, Mapping):
                yields = {
                    channel: [float(events) for events in data] for channel, data in content.items()
                }
                problem = self._signal.problem(yields) or self._unexpected(yields)
                content = self._signal.operations(yields, {}) if problem is None else []
            elif problem is None and not all(isinstance(entry, Mapping) for entry in content):
                problem = "its operations are no list of mappings"
            elif problem is None and self._signal.is_restricted:
                problem = (
                    "it has operations, which know nothing of the channels and bins that the "
                    "analysis chooses: only yields do"
                )
        except (TypeError, ValueError) as error:
            problem = str(error)
        if problem is not None:
            raise ConfigError(
                f"Point {number} of the function is wrong: {problem}.",
                remedy="Each point is its name, the values of "
                f"{', '.join(self._labels)}, and yields by channel or patch operations.",
                file=self.path,
            )
        return Patch(name=name, values=values, operations=list(content))

    def _values(self, values: Any) -> tuple[float | str, ...]:
        if isinstance(values, Mapping):
            values = [values[label] for label in self._labels if label in values]
        checked = tuple(value if isinstance(value, str) else float(value) for value in values)
        if len(checked) != len(self._labels):
            raise ValueError(f"there are {len(checked)} values for {len(self._labels)} labels")
        if any(not isinstance(value, str) and not np.isfinite(value) for value in checked):
            raise ValueError(f"a value is not finite: {list(checked)}")
        return checked

    def _unexpected(self, yields: Mapping[str, Any]) -> str | None:
        unexpected = set(yields) - self._allowed if self._allowed is not None else ()
        return (
            f"channel {min(unexpected)!r} is not one of `points.channels`" if unexpected else None
        )


def _check_count(count: int, settings: PointSettings, path: Path | str) -> None:
    if count > settings.max_points:
        raise TooManyPointsError(
            f"There are {count} points, and {settings.max_points} are allowed.",
            remedy="Raise `points.max_points` in the configuration if that is meant.",
            file=path,
        )


def _import(reference: str) -> tuple[Callable[[int, int], Iterable[FunctionPoint]], list[Path]]:
    """Import a function; return it with its file."""
    source, _, name = reference.rpartition(":")
    try:
        module = _module_of_file(Path(source)) if source.endswith(".py") else _module(source)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"The function's module cannot be imported: {type(error).__name__}: {error}"
            f"{_last_line(error)}.",
            remedy="Correct it, or install what it needs where Snakemake runs.",
            file=source,
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(
            f"The module has no function {name!r}.",
            remedy="Correct `points.function` in the analysis file.",
            file=source,
        )
    return function, [Path(module.__file__)] if module.__file__ else []


def _module(name: str) -> ModuleType:
    return importlib.import_module(name)


def _module_of_file(path: Path) -> ModuleType:
    file_digest(path)  # gives a better message than the import if it cannot be read
    return import_file(f"palletfit_points_{path.stem}", path)


def _last_line(error: BaseException) -> str:
    """Name the line of the user's code where an error was raised."""
    trace, line = error.__traceback__, ""
    while trace is not None:
        line = f" (line {trace.tb_lineno} of {Path(trace.tb_frame.f_code.co_filename).name})"
        trace = trace.tb_next
    return line


def duplicate(path: Path | str, name: str, first: int, second: int) -> PalletError:
    """Make the error of two points with one name; numbers count from zero."""
    return PalletError(
        f"The points {first + 1} and {second + 1} have the same name.",
        remedy="Rename or remove one of them; all others are kept.",
        file=path,
        patch=name,
    )
