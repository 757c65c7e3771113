"""Output of commands: tables for people, JSON for programs, plots."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from palletfit.cli.ending import DONE, NOT_TRUSTED
from palletfit.core.version import __version__
from palletfit.errors import ConfigError, PalletfitError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from palletfit.api import Results

#: Width of text that goes to no terminal.
_WIDE = 120
#: Remarks that are written below a table.
_REMARKS = 10
#: Names of patches with the same remark.
_NAMES = 3
#: Space between columns.
_GAP = "  "
_COLOURS = {"suspect": "yellow", "failed": "red"}
#: Keys that differ from run to run, or only show how a minimum was reached.
_LEFT_OUT = {"attempts", "build_time", "fit_time", "seconds"}


@dataclass(frozen=True)
class Column:
    """One number of a result.

    Attributes
    ----------
    title
        Title of the column.
    value
        Number or text of a result; None where there is none.
    words
        Title in the list of a single result; None: `title`.
    rank
        The higher, the sooner the column is left out in a narrow terminal; 0 always stays.
    """

    title: str
    value: Callable[[Any], float | int | str | None]
    words: str | None = None
    rank: int = 0


@dataclass(frozen=True)
class Output:
    """Destinations of the results of a command.

    Attributes
    ----------
    plain
        Write JSON instead of text.
    plot
        File of the plot; None: no plot.
    verbose
        Write what is going on.
    """

    plain: bool = False
    plot: Path | None = None
    verbose: bool = False

    def prepare(self) -> None:
        """Set up messages, and refuse a plot that could not be written after all fits.

        Raises
        ------
        ConfigError
            The plot cannot be written.
        """
        if self.verbose:
            _show_messages(click.get_current_context())
        if self.plot is not None:
            _check_plot(self.plot)

    def results(
        self,
        results: Results[Any],
        *,
        command: str,
        title: str,
        settings: Mapping[str, Any],
        columns: Sequence[Column],
        details: Callable[[Any], str] | None = None,
        as_json: Callable[[Any], Mapping[str, Any]] | None = None,
    ) -> int:
        """Write the results of patches, or of one complete workspace.

        Parameters
        ----------
        results
            Results.
        command
            Name of the command.
        title
            Line above a table.
        settings
            Question and settings that JSON repeats.
        columns
            Numbers of a table.
        details
            Further lines of a single result.
        as_json
            Plain data of a result; by default its ``as_json``.

        Returns
        -------
        int
            Exit code.

        Raises
        ------
        PalletfitError
            The only result is an error.
        """
        names = list(results.values_of)
        if len(names) == 1:
            _ = results[names[0]]  # an error ends the command
        if self.plain:
            self.document(command, settings, _entries(results, as_json or _plain))
        elif len(names) == 1:
            click.echo(f"{title}{f', {names[0]}' if names[0] else ''}")
            result = results[names[0]]
            click.echo(_list(columns, result))
            if details is not None:
                click.echo(details(result))
            _echo_remarks([("", remark) for remark in _remarks(result)])
        else:
            click.echo(title)
            click.echo(_table(columns, results))
            remarks = [(name, text) for name in names for text in _texts(results, name)]
            _echo_remarks(remarks)
        return DONE if _status(results) == "ok" else NOT_TRUSTED

    def document(
        self, command: str, settings: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write the JSON document of a command."""
        statuses = {entry["status"] for entry in entries}
        worst = next((status for status in ("failed", "suspect") if status in statuses), "ok")
        content = {
            "command": command,
            "version": __version__,
            "status": worst,
            "settings": settings,
            "results": entries,
        }
        click.echo(json.dumps(content, indent=2, ensure_ascii=True))

    def draw(self, figures: Callable[[], Sequence[Figure]]) -> None:
        """Draw and write the plot, if one is wanted."""
        if self.plot is None:
            return
        from palletfit.planes.style import save_pages

        drawn = figures()
        if not drawn:
            raise ConfigError("There is no result that could be drawn.", remedy="See the errors.")
        save_pages(drawn, [self.plot])


class _Messages(logging.Handler):
    """Writes messages to the present standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message."""
        click.echo(self.format(record), err=True)


def _show_messages(context: click.Context) -> None:
    """Show what palletfit logs, until the command ends."""
    logger, handler = logging.getLogger("palletfit"), _Messages()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    context.call_on_close(lambda: logger.setLevel(level))
    context.call_on_close(lambda: logger.removeHandler(handler))


def _check_plot(path: Path) -> None:
    if path.suffix not in (".png", ".pdf"):
        raise ConfigError(
            "A plot cannot be written in this format.",
            remedy="Use an ending of .png or .pdf.",
            file=path,
        )
    folder = path.parent
    if path.is_dir() or (folder.exists() and not os.access(folder, os.W_OK)):
        raise ConfigError("The plot cannot be written.", remedy="Choose another file.", file=path)
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "Plots need matplotlib, which is not installed.",
            remedy="Install it (`pip install matplotlib`), or leave out --plot.",
        )


# --------------------------------------------------------------------------- JSON


def _plain(result: Any) -> Mapping[str, Any]:
    content: Mapping[str, Any] = result.as_json()
    return content


def _entries(
    results: Results[Any], as_json: Callable[[Any], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Make the entry of each result, failed ones included."""
    entries = []
    for name, values in results.values_of.items():
        entry: dict[str, Any] = {
            "patch": name or None,
            "values": dict(zip(results.labels, values, strict=True)),
        }
        error = results.errors.get(name)
        if error is not None:
            described = {"type": type(error).__name__, "problem": error.problem}
            entry |= {"status": "failed", "error": {**described, "remedy": error.remedy}}
        else:
            result = results[name]
            entry |= {"status": result.status, **_without(as_json(result))}
        entries.append(entry)
    return entries


def _without(content: Any) -> Any:
    """Leave out keys that differ from run to run."""
    if isinstance(content, Mapping):
        return {key: _without(value) for key, value in content.items() if key not in _LEFT_OUT}
    if isinstance(content, (list, tuple)):
        return [_without(value) for value in content]
    return content


def _status(results: Results[Any]) -> str:
    sound = not results.errors and all(result.status == "ok" for result in results.values())
    return "ok" if sound else "suspect"


# --------------------------------------------------------------------------- text


def number(value: float | str | None) -> str:
    """Write a number with four digits, a text as it is, and nothing as a dash.

    Examples
    --------
    >>> number(0.0620712), number(1234.56), number(12), number(None)
    ('0.06207', '1235', '12', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:#.4g}".rstrip(".")
    return str(value)


def with_error(value: float, error: float | None) -> tuple[str, str]:
    """Write a value and its uncertainty, both with the digits that the latter has a meaning for.

    Examples
    --------
    >>> with_error(1.23456789, 0.0123456)
    ('1.23457', '0.01235')
    >>> with_error(1.5, None)
    ('1.500', '-')
    """
    if not error:
        return number(value), "-"
    decimals = max(0, 3 - math.floor(math.log10(error)))
    return f"{value:.{decimals}f}", f"{error:.{decimals}f}"


def width() -> int:
    """Give the width of text in columns."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return _WIDE


def lines_of(
    rows: Sequence[Sequence[str]], titles: Sequence[str] | None = None, *, left: int = 1
) -> str:
    """Align rows below their titles; the first `left` columns to the left, others to the right."""
    table = [*([titles] if titles else []), *rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]))]
    return "\n".join(
        _GAP.join(
            cell.ljust(size) if index < left else cell.rjust(size)
            for index, (cell, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    )


def coloured(status: str, text: str | None = None) -> str:
    """Colour a status that is not ``ok``, unless the variable NO_COLOR is set."""
    text = status if text is None else text
    if status not in _COLOURS or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, fg=_COLOURS[status])


def _list(columns: Sequence[Column], result: Any) -> str:
    """Write the numbers of a single result below each other."""
    rows = [
        (column.words or column.title, number(column.value(result)))
        for column in columns
        if column.value(result) is not None
    ]
    size = max(len(words) for words, _ in rows)
    lines = [f"  {words.ljust(size)}  {value}" for words, value in rows]
    if result.status != "ok":
        lines.append(f"  {'status'.ljust(size)}  {coloured(result.status)}")
    return "\n".join(lines)


def _table(columns: Sequence[Column], results: Results[Any]) -> str:
    """Write a row for each patch, as many columns as the terminal has room for."""
    cells = []
    for name in results.values_of:
        if name in results.errors:
            cells.append(["-"] * len(columns))
        else:
            cells.append([number(column.value(results[name])) for column in columns])
    names = list(results.values_of)
    statuses = ["failed" if n in results.errors else results[n].status for n in names]
    shown = _fitting(columns, cells, names, statuses)
    titles = ["patch", *(columns[index].title for index in shown), "status"]
    rows = [
        [name, *(row[index] for index in shown), status]
        for name, row, status in zip(names, cells, statuses, strict=True)
    ]
    lines = lines_of(rows, titles).split("\n")
    for number_, status in enumerate(statuses, 1):
        if status != "ok":
            line = lines[number_]
            lines[number_] = line.removesuffix(status) + coloured(status)
    missing = [column.title for index, column in enumerate(columns) if index not in shown]
    if missing:
        lines.append(
            f"(no room here for {', '.join(missing)}; a wider terminal or --json has them)"
        )
    return "\n".join(lines)


def _fitting(
    columns: Sequence[Column],
    cells: Sequence[Sequence[str]],
    names: Sequence[str],
    statuses: Sequence[str],
) -> list[int]:
    """Choose the columns for which there is room."""
    sizes = [
        max(len(column.title), *(len(row[index]) for row in cells))
        for index, column in enumerate(columns)
    ]
    needed = max(map(len, (*names, "patch"))) + len(_GAP) + max(map(len, (*statuses, "status")))
    shown = list(range(len(columns)))
    for rank in sorted({column.rank for column in columns if column.rank}, reverse=True):
        if needed + sum(sizes[index] + len(_GAP) for index in shown) <= width():
            break
        shown = [index for index in shown if columns[index].rank != rank]
    return shown


def _remarks(result: Any) -> list[str]:
    """List what a reader of a result should know."""
    doubts = [*getattr(result, "reasons", ())]
    fits = getattr(result, "fits", None)
    if isinstance(fits, Mapping):
        doubts += [f"{name} fit: {fit.reason}" for name, fit in fits.items() if not fit.trusted]
    elif result.status != "ok" and isinstance(getattr(result, "reason", None), str):
        doubts.append(result.reason)
    return [*doubts, *result.remarks]


def _texts(results: Results[Any], name: str) -> list[str]:
    error: PalletfitError | None = results.errors.get(name)
    if error is not None:
        return [f"{error.problem} {error.remedy}"]
    return _remarks(results[name])


def _echo_remarks(remarks: Iterable[tuple[str, str]]) -> None:
    """Write remarks, each once, with the patches that it is about."""
    by_text: dict[str, list[str]] = {}
    for name, text in remarks:
        by_text.setdefault(text, []).append(name)
    for text, names in list(by_text.items())[:_REMARKS]:
        subject = ", ".join(names[:_NAMES])
        if len(names) > _NAMES:
            subject += f" and {len(names) - _NAMES} more"
        begin = f"{subject}: " if subject else "remark: "
        click.echo(textwrap.fill(begin + text, min(width(), _WIDE), subsequent_indent="    "))
    if len(by_text) > _REMARKS:
        click.echo(f"and {len(by_text) - _REMARKS} more remarks, which --json has")
