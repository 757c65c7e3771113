"""Where the points of a scan come from: a table, or a function of the user's.

Both give points in the same order each time, and any part of them without the rest, so that
nothing but the points in flight is in memory.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from palletfit.config import Points, PointSettings
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.patches import Patch, json_digest
from palletfit.products.points.signals import Signal

#: A name is as long as this at most, in characters.
LONGEST_NAME = 500


class Source(Protocol):
    """Points by number.

    Attributes
    ----------
    path
        What error messages name.
    count
        Number of points.
    identity
        Digest of all that points depend on, as far as it is known without making them.
    """

    path: Path | str
    count: int
    identity: str

    def chunks(self, wanted: Iterable[range]) -> Iterator[tuple[range, list[Patch]]]:
        """The points of some ranges, which are in order, one range after the other."""
        ...


def file_digest(path: Path) -> str:
    """Sha256 of a file of any size.

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
    """Finds names that stand twice among very many, with eight bytes for each."""

    def __init__(self) -> None:
        self._digests: list[np.ndarray[Any, np.dtype[np.uint64]]] = []

    def add(self, names: Sequence[str]) -> None:
        """Take further names."""
        digests = [hashlib.blake2b(_bytes(name), digest_size=8).digest() for name in names]
        self._digests.append(np.frombuffer(b"".join(digests), dtype=np.uint64))

    def repeated(self) -> list[tuple[int, int]]:
        """Pairs of positions whose names are the same, but for one chance in 10^19 a pair."""
        if not self._digests:
            return []
        every = np.concatenate(self._digests)
        order = np.argsort(every, kind="stable")
        same = np.flatnonzero(every[order[1:]] == every[order[:-1]])
        return [(int(order[place]), int(order[place + 1])) for place in same]


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", errors="surrogatepass")


def wrong_name(name: Any) -> str | None:
    """Why something is no name of a point, or None."""
    if not isinstance(name, str) or not name:
        return "has no name"
    return f"has a name of {len(name)} characters" if len(name) > LONGEST_NAME else None


# --------------------------------------------------------------------------- functions

#: What a function gives for one point: name, values of the labels, and yields by channel or
#: operations.
Given = tuple[str, Any, Any]


class FunctionSource:
    """Points that a user's function gives: ``function(first, stop)``, in order.

    The function is imported here, in the process that sends fits, and only called for points that
    are not finished.

    Parameters
    ----------
    points
        Section of the analysis file.
    labels
        Names of the points' values.
    signal
        How yields become a patch.
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
                points.model_dump(
                    mode="json", exclude={"function", "count", "depends", "plot_bins"}
                ),
                self._labels,
            ]
        )

    def chunks(self, wanted: Iterable[range]) -> Iterator[tuple[range, list[Patch]]]:
        """See :meth:`Source.chunks`.

        Raises
        ------
        ConfigError
            The function raises an error, or gives something else than as many points as asked for.
        """
        for some in wanted:
            given = self._call(some)
            yield (
                some,
                [self._patch(number, item) for number, item in zip(some, given, strict=True)],
            )

    def _call(self, some: range) -> list[Given]:
        try:
            # One more than there should be, and no more if it never ends.
            given = list(itertools.islice(self._function(some.start, some.stop), len(some) + 1))
        except Exception as error:
            place = _place(error)
            raise ConfigError(
                f"The function raised {type(error).__name__} for points {some.start} to "
                f"{some.stop - 1}{place}: {error}",
                remedy="Correct it; finished points are kept.",
                file=self.path,
            ) from error
        if len(given) != len(some):
            more = "more" if len(given) > len(some) else f"{len(given)} points"
            raise ConfigError(
                f"Asked for points {some.start} to {some.stop - 1}, which are {len(some)}, the "
                f"function gives {more}.",
                remedy="Let it give exactly the points from `first` up to `stop`, which is not "
                "among them, or correct `points.count`.",
                file=self.path,
            )
        return given

    def _patch(self, number: int, item: Given) -> Patch:
        try:
            name, values, content = item
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
        found = tuple(item if isinstance(item, str) else float(item) for item in values)
        if len(found) != len(self._labels):
            raise ValueError(f"there are {len(found)} values for {len(self._labels)} labels")
        if any(not isinstance(item, str) and not np.isfinite(item) for item in found):
            raise ValueError(f"a value is not finite: {list(found)}")
        return found

    def _unexpected(self, yields: Mapping[str, Any]) -> str | None:
        others = set(yields) - self._allowed if self._allowed is not None else ()
        return f"channel {min(others)!r} is not one of `points.channels`" if others else None


def _check_count(count: int, settings: PointSettings, path: Path | str) -> None:
    if count > settings.max_points:
        raise ConfigError(
            f"There are {count} points, and {settings.max_points} are allowed.",
            remedy="Raise `points.max_points` in the configuration if that is meant.",
            file=path,
        )


def _import(place: str) -> tuple[Callable[[int, int], Iterable[Given]], list[Path]]:
    """The function, and the file that it is in."""
    where, _, name = place.rpartition(":")
    try:
        module = _module_of_file(Path(where)) if where.endswith(".py") else _module(where)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"The function's module cannot be imported: {type(error).__name__}: {error}"
            f"{_place(error)}.",
            remedy="Correct it, or install what it needs where Snakemake runs.",
            file=where,
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(
            f"The module has no function {name!r}.",
            remedy="Correct `points.function` in the analysis file.",
            file=where,
        )
    return function, [Path(module.__file__)] if module.__file__ else []


def _module(name: str) -> ModuleType:
    return importlib.import_module(name)


def _module_of_file(path: Path) -> ModuleType:
    file_digest(path)  # a better message than the import's, if it cannot be read
    spec = importlib.util.spec_from_file_location(f"palletfit_points_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # data classes look their module up
    spec.loader.exec_module(module)
    return module


def _place(error: BaseException) -> str:
    """Line of the user's code where an error was raised."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        found = f" (line {trace.tb_lineno} of {Path(trace.tb_frame.f_code.co_filename).name})"
        trace = trace.tb_next
    return found


def duplicate(path: Path | str, name: str, first: int, second: int) -> PalletError:
    """Two points have one name; numbers count from zero."""
    return PalletError(
        f"The points {first + 1} and {second + 1} have the same name.",
        remedy="Rename or remove one of them; all others are kept.",
        file=path,
        patch=name,
    )
