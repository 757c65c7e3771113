"""Theory cross sections of signal points, from a table that an analysis file names."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palletfit.config import CrossSection
from palletfit.errors import ConfigError

#: In pb.
_UNITS = {"pb": 1.0, "fb": 1e-3}
#: Values of labels that differ by less, relative to their size, are the same.
_SAME = 1e-9


@dataclass(frozen=True)
class Value:
    """A cross section in pb and its uncertainty, None if that is not known."""

    value: float
    uncertainty: float | None


@dataclass(frozen=True)
class Table:
    """Cross sections by the values of some labels.

    Attributes
    ----------
    source
        Section of the analysis file.
    rows
        Cross section by the values of ``source.columns``, in their order.
    """

    source: CrossSection
    rows: Mapping[tuple[float, ...], Value]

    @classmethod
    def read(cls, source: CrossSection) -> Table:
        """Read a table.

        Raises
        ------
        ConfigError
            The file cannot be read, lacks a column, has a cell that is no number (or a cross
            section that is not positive), or the same point twice.
        """
        header, lines = _read(source.file)
        columns = [*source.columns.values(), source.value]
        columns += [source.uncertainty] if source.uncertainty is not None else []
        missing = [name for name in columns if name not in header]
        if missing:
            raise ConfigError(
                f"The table of cross sections has no column {missing[0]!r}.",
                remedy=f"Correct cross_section in the analysis file; there are: "
                f"{', '.join(header)}.",
                file=source.file,
            )
        positions = [header.index(name) for name in columns]
        rows: dict[tuple[float, ...], Value] = {}
        for number, cells in lines:
            numbers = [_number(cells, position, number, source.file) for position in positions]
            count = len(source.columns)
            point, value = tuple(numbers[:count]), numbers[count] * _UNITS[source.unit]
            if value <= 0:
                raise _wrong_cell(f"the cross section {numbers[count]:g}", number, source.file)
            if point in rows:
                raise ConfigError(
                    f"The point {_shown(point)} is in the table twice, again in line {number}.",
                    remedy="Remove one of its rows.",
                    file=source.file,
                )
            rows[point] = Value(value, _uncertainty(source, numbers[count + 1 :], value))
        if not rows:
            raise ConfigError(
                "The table of cross sections is empty.",
                remedy="Give it a row for each signal point.",
                file=source.file,
            )
        return cls(source, rows)

    def of(self, patch: str, values: Mapping[str, float | str]) -> Value:
        """Return the cross section of a signal point.

        Parameters
        ----------
        patch
            Its name, for errors.
        values
            Of all labels.

        Raises
        ------
        ConfigError
            The table does not have it.
        """
        try:
            point = tuple(float(values[label]) for label in self.source.columns)
        except ValueError:
            raise self._missing(patch, values, "its labels are no numbers") from None
        for row, cross_section in self.rows.items():
            if all(math.isclose(a, b, rel_tol=_SAME) for a, b in zip(row, point, strict=True)):
                return cross_section
        if self.source.interpolate is None:
            reason = "no row has exactly these values"
            raise self._missing(patch, values, reason)
        return self._interpolated(patch, values, point)

    def _interpolated(
        self, patch: str, values: Mapping[str, float | str], point: tuple[float, ...]
    ) -> Value:
        along = list(self.source.columns).index(str(self.source.interpolate))
        line = sorted(
            (row[along], cross_section)
            for row, cross_section in self.rows.items()
            if all(
                math.isclose(a, b, rel_tol=_SAME)
                for position, (a, b) in enumerate(zip(row, point, strict=True))
                if position != along
            )
        )
        below = [entry for entry in line if entry[0] < point[along]]
        above = [entry for entry in line if entry[0] > point[along]]
        if not below or not above:
            raise self._missing(patch, values, "it lies beyond the rows, and is not extrapolated")
        (left, low), (right, high) = below[-1], above[0]
        part = (point[along] - left) / (right - left)
        value = math.exp((1 - part) * math.log(low.value) + part * math.log(high.value))
        if low.uncertainty is None or high.uncertainty is None:
            return Value(value, None)
        relative = (1 - part) * low.uncertainty / low.value + part * high.uncertainty / high.value
        return Value(value, value * relative)

    def _missing(self, patch: str, values: Mapping[str, float | str], reason: str) -> ConfigError:
        shown = ", ".join(f"{label} = {values[label]}" for label in self.source.columns)
        return ConfigError(
            f"The table of cross sections has none for {shown}: {reason}.",
            remedy="Add the point to the table, set cross_section.interpolate to a label, or "
            "remove cross_section from the analysis file.",
            file=self.source.file,
            patch=patch,
        )


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read header and rows, each row with the number of its line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise ConfigError(
            f"Cannot read the table of cross sections: {reason}.",
            remedy="Correct cross_section.file in the analysis file; it is relative to that file.",
            file=path,
        ) from None
    rows = [
        (number, [cell.strip() for cell in next(csv.reader([line]))])
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.startswith("#")
    ]
    return (rows[0][1], rows[1:]) if rows else ([], [])


def _number(cells: Sequence[str], position: int, line: int, path: Path) -> float:
    cell = cells[position] if position < len(cells) else ""
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _wrong_cell(f"{cell!r} where a number is needed", line, path)
    return number


def _wrong_cell(problem: str, line: int, path: Path) -> ConfigError:
    return ConfigError(
        f"Line {line} of the table of cross sections is wrong: it has {problem}.",
        remedy="Correct or remove the line.",
        file=path,
    )


def _uncertainty(source: CrossSection, numbers: Sequence[float], value: float) -> float | None:
    if not numbers:
        return None
    scale = value / 100 if source.uncertainty_in == "percent" else _UNITS[source.unit]
    return abs(numbers[0]) * scale


def _shown(point: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in point) + ")"
