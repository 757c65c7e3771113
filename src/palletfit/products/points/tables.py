"""Points of a table: an untrusted CSV or Parquet file, read piece by piece."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from palletfit.config import Points, PointSettings
from palletfit.core.arrays import FloatArray
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.patches import Patch, json_digest
from palletfit.products.points.signals import Signal
from palletfit.products.points.sources import (
    Names,
    TooManyPointsError,
    duplicate,
    file_digest,
    wrong_name,
)

#: Bytes that are read at a time, and rows that are checked together.
_BLOCK, _ROWS = 1 << 20, 4096
#: The largest group of rows of a Parquet file, in bytes when unpacked, and most columns of a table.
_LARGEST_GROUP, _MOST_COLUMNS = 1 << 30, 20_000
#: A column of yields.
_YIELD = re.compile(r"(?P<channel>.+)\[(?P<bin>[0-9]{1,6})\]")


@dataclass(frozen=True)
class _Columns:
    """Names of a table's columns by their content."""

    name: str
    labels: tuple[str, ...]
    yields: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, str]

    @property
    def used(self) -> list[str]:
        numbers = [column for columns in self.yields.values() for column in columns]
        return list(dict.fromkeys([self.name, *self.labels, *numbers, *self.sizes.values()]))


class TableSource:
    """The rows of a table; see :class:`palletfit.products.points.sources.Source`.

    All rows are checked once, before the first fit.

    Parameters
    ----------
    points
        Section of the analysis file.
    labels
        Columns of the points' values.
    signal
        Recipe that makes patches of yields.
    settings
        Limits.
    strict
        Refuse columns of channels that the workspace does not have; with several regions they may
        belong to another one.

    Raises
    ------
    ConfigError
        The file cannot be read, is too large, or the analysis file names columns it does not have.
    PalletError
        A row is wrong; the message has its name, number and column.
    """

    def __init__(
        self,
        points: Points,
        labels: Sequence[str],
        signal: Signal,
        settings: PointSettings,
        *,
        strict: bool = True,
    ) -> None:
        if points.table is None:
            raise ValueError("these points are no table's")
        self.path: Path | str = points.table
        self._table = points.table
        self._signal, self._settings = signal, settings
        digest = file_digest(self._table)
        if self._table.stat().st_size > settings.max_table_bytes:
            raise ConfigError(
                f"The table has {self._table.stat().st_size} bytes, and {settings.max_table_bytes} "
                "are allowed.",
                remedy="Raise `points.max_table_bytes` in the configuration if that is meant.",
                file=self.path,
            )
        self._is_parquet = self._starts_like_parquet()
        self._columns = _find_columns(
            self._header(), points, tuple(labels), signal, self._table, strict=strict
        )
        self.identity = json_digest([digest, points.content("table"), list(labels)])
        self._numeric = dict.fromkeys(self._columns.labels, True)
        self.count = self._check()

    def chunks(self, ranges: Iterable[range]) -> Iterator[tuple[range, list[Patch]]]:
        """Give the points of ranges, see :class:`palletfit.products.points.sources.Source`."""
        remaining = iter(ranges)
        span = next(remaining, None)
        if span is None:
            return
        first, pieces = 0, []
        for table in self._read():
            stop = first + len(table)
            while span is not None and span.start < stop:
                pieces.append(
                    table.slice(max(span.start - first, 0), span.stop - max(first, span.start))
                )
                if span.stop > stop:
                    break
                yield span, self._patches(pa.concat_tables(pieces), span.start)
                pieces = []
                span = next(remaining, None)
            if span is None:
                return
            first = stop
        raise ConfigError(
            "The table has become shorter while it was read.",
            remedy="Run the same command again.",
            file=self.path,
        )

    # ------------------------------------------------------------------ reading

    def _starts_like_parquet(self) -> bool:
        with self._table.open("rb") as file:
            return file.read(4) == b"PAR1"

    def _header(self) -> list[str]:
        try:
            if self._is_parquet:
                header = list(pq.read_schema(self._table).names)
            else:
                with self._table.open(encoding="utf-8-sig", newline="") as file:
                    # Limited: the line may have no end.
                    line = file.readline(_BLOCK)
                header = next(csv.reader([line]), [])
        except (pa.ArrowException, OSError, ValueError, csv.Error) as error:
            self._unreadable(error)
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice or not header or len(header) > _MOST_COLUMNS:
            content = f"two columns {twice[0]!r}" if twice else f"{len(header)} columns"
            raise PalletError(
                f"The table has {content}.",
                remedy="Give it a first row with a name for each column, none of them twice.",
                file=self.path,
            )
        return header

    def _read(self) -> Iterator[pa.Table]:
        """Read all rows of the used columns, piece by piece."""
        try:
            for batch in self._parquet() if self._is_parquet else self._csv():
                for first in range(0, batch.num_rows, _ROWS):
                    yield pa.Table.from_batches([batch.slice(first, _ROWS)])
        except (pa.ArrowException, OSError, ValueError) as error:
            self._unreadable(error)

    def _parquet(self) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self._table, buffer_size=_BLOCK, pre_buffer=False) as file:
            for number in range(file.metadata.num_row_groups):
                size = file.metadata.row_group(number).total_byte_size
                if size > _LARGEST_GROUP:
                    raise ValueError(f"a group of its rows has {size} bytes")
            yield from file.iter_batches(batch_size=_ROWS, columns=self._columns.used)

    def _csv(self) -> Iterator[pa.RecordBatch]:
        used = self._columns.used
        # As text: numbers are converted here, where an error can name the row.
        convert = pa.csv.ConvertOptions(
            include_columns=used,
            column_types=dict.fromkeys(used, pa.string()),
            strings_can_be_null=False,
        )
        read = pa.csv.ReadOptions(block_size=_BLOCK, use_threads=False)
        with pa.csv.open_csv(self._table, read_options=read, convert_options=convert) as reader:
            yield from reader

    def _unreadable(self, error: Exception) -> NoReturn:
        raise PalletError(
            f"The table cannot be read: {' '.join(str(error).split())}",
            remedy="Write it again as CSV (comma-separated, UTF-8, a header) or Parquet.",
            file=self.path,
        ) from None

    # ------------------------------------------------------------------ checks

    def _check(self) -> int:
        """Check every row once; return the number of rows."""
        names, count = Names(), 0
        for table in self._read():
            self._check_rows(table, count)
            names.add(self._names(table, count))
            count += len(table)
            if count > self._settings.max_points:
                raise TooManyPointsError(
                    f"The table has more than {self._settings.max_points} rows.",
                    remedy="Raise `points.max_points` in the configuration if that is meant.",
                    file=self.path,
                )
        if not count:
            raise PalletError(
                "The table has no rows.", remedy="Name a table with points.", file=self.path
            )
        for first, second in names.repeated():
            raise duplicate(self.path, self._name_of(second), first, second)
        return count

    def _check_rows(self, table: pa.Table, first: int) -> None:
        for columns in self._columns.yields.values():
            for column in columns:
                values = self._numbers(table, column, first)
                below = (values < 0) & (not self._signal.negative)
                self._refuse(table, first, column, values, below, "is negative")
        for column in self._columns.sizes.values():
            values = self._numbers(table, column, first)
            wrong = (values < 0) | (values >= 1)
            self._refuse(table, first, column, values, wrong, "is not between zero and one")
        for label in self._columns.labels:
            if self._numeric[label]:
                self._numeric[label] = _as_numbers(table[label]) is not None
            if self._numeric[label]:
                self._numbers(table, label, first)
            else:
                self._texts(table, label, first)

    def _names(self, table: pa.Table, first: int) -> list[str]:
        names: list[str] = self._texts(table, self._columns.name, first)
        for index, name in enumerate(names):
            problem = wrong_name(name)
            if problem is not None:
                self._fail(first + index, name[:50], problem)
        return names

    def _texts(self, table: pa.Table, column: str, first: int) -> list[str]:
        try:
            texts: list[str | None] = table[column].cast(pa.string()).to_pylist()
        except pa.ArrowException as error:
            self._unreadable(error)
        for index, text in enumerate(texts):
            if not text:
                self._fail(first + index, "", f"has nothing in column {column!r}")
        return [str(text) for text in texts]

    def _numbers(self, table: pa.Table, column: str, first: int) -> FloatArray:
        values = _as_numbers(table[column])
        if values is None:
            for index, value in enumerate(table[column].to_pylist()):
                if _as_numbers(pa.chunked_array([[value]])) is None:
                    problem = f"has {value!r} in column {column!r}, which is no number"
                    self._fail(first + index, self._at(table, index), problem)
            self._fail(first, self._at(table, 0), f"has no number in column {column!r}")
        self._refuse(table, first, column, values, ~np.isfinite(values), "is missing or not finite")
        return values

    def _refuse(
        self,
        table: pa.Table,
        first: int,
        column: str,
        values: FloatArray,
        wrong: np.ndarray[Any, np.dtype[np.bool_]],
        fault: str,
    ) -> None:
        if not wrong.any():
            return
        index = int(np.flatnonzero(wrong)[0])
        problem = f"has {values[index]:g} in column {column!r}, which {fault}"
        self._fail(first + index, self._at(table, index), problem)

    def _at(self, table: pa.Table, index: int) -> str:
        return str(table[self._columns.name][index].as_py())[:100]

    def _name_of(self, number: int) -> str:
        for table in self._read():
            if number < len(table):
                return self._at(table, number)
            number -= len(table)
        return ""

    def _fail(self, number: int, name: str, problem: str) -> NoReturn:
        raise PalletError(
            f"Row {number + 1} of the table (the header does not count) {problem}.",
            remedy="Correct or remove the row; nothing of a changed table is fitted twice.",
            file=self.path,
            patch=name or None,
        )

    # ------------------------------------------------------------------ points

    def _patches(self, table: pa.Table, first: int) -> list[Patch]:
        names = self._names(table, first)
        values = [
            self._numbers(table, label, first).tolist()
            if self._numeric[label]
            else self._texts(table, label, first)
            for label in self._columns.labels
        ]
        yields = {
            channel: np.stack(
                [self._numbers(table, column, first) for column in columns], axis=1
            ).tolist()
            for channel, columns in self._columns.yields.items()
        }
        sizes = {
            name: self._numbers(table, column, first).tolist()
            for name, column in self._columns.sizes.items()
        }
        return [
            Patch(
                name=name,
                values=tuple(column[index] for column in values),
                operations=self._signal.operations(
                    {channel: data[index] for channel, data in yields.items()},
                    {key: column[index] for key, column in sizes.items()},
                ),
            )
            for index, name in enumerate(names)
        ]


def _as_numbers(column: pa.ChunkedArray) -> FloatArray | None:
    """Convert a column to numbers, with NaN in empty cells; None if it has no numbers."""
    try:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = pc.utf8_trim_whitespace(column)
            column = pc.if_else(pc.equal(column, ""), "nan", column)
        if pa.types.is_boolean(column.type) or pa.types.is_temporal(column.type):
            return None
        numbers = column.cast(pa.float64(), safe=False)
    except pa.ArrowException:
        return None
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=float)


def _find_columns(
    header: Sequence[str],
    points: Points,
    labels: tuple[str, ...],
    signal: Signal,
    path: Path,
    *,
    strict: bool,
) -> _Columns:
    """Find the columns of names, labels, yields and sizes.

    Raises
    ------
    ConfigError
        A column is missing, or of a channel or bin that there is not.
    """
    sizes = {
        name: column for name, column in points.uncertainties.items() if isinstance(column, str)
    }
    for column in (points.name, *labels, *sizes.values()):
        if column not in header:
            raise _no_column(column, header, path)
    bins: dict[str, set[int]] = {}
    for column in header:
        match = _YIELD.fullmatch(column)
        if match is None or column in labels:
            continue
        channel, number = match["channel"], int(match["bin"])
        if points.channels is not None and channel not in points.channels:
            continue
        if channel in signal.bins or strict:
            _check_column(column, channel, number, signal, path)
            bins.setdefault(channel, set()).add(number)
    for channel in points.channels or bins or list(signal.bins)[:1]:
        for number in range(signal.bins[channel]):
            if number not in bins.get(channel, ()):
                raise _no_column(f"{channel}[{number}]", header, path)
    yields = {
        channel: tuple(f"{channel}[{number}]" for number in range(signal.bins[channel]))
        for channel in signal.bins
        if channel in bins
    }
    return _Columns(points.name, labels, yields, sizes)


def _check_column(column: str, channel: str, number: int, signal: Signal, path: Path) -> None:
    if channel not in signal.bins:
        raise ConfigError(
            f"The column {column!r} is of a channel that the workspace does not have.",
            remedy=f"Its channels are {', '.join(signal.bins)}. Rename or remove the "
            "column, or name those that have signal in `points.channels`.",
            file=path,
        )
    if number >= signal.bins[channel] or column != f"{channel}[{number}]":
        raise ConfigError(
            f"The column {column!r} is of a bin that the channel does not have.",
            remedy=f"It has {signal.bins[channel]} bins; they count from zero.",
            file=path,
        )


def _no_column(column: str, header: Sequence[str], path: Path) -> ConfigError:
    shown = ", ".join(header[:12]) + (", ..." if len(header) > 12 else "")
    return ConfigError(
        f"The table has no column {column!r}.",
        remedy=f"Add it, or correct `points` and `labels` in the analysis file; there are {shown}.",
        file=path,
    )
