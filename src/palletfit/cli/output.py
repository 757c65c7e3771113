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

from palletfit.cli.ending import DONE, NOT_TRUSTED, for_shell, report
from palletfit.core.text import columns_of, padded, printable, printable_lines, shortened
from palletfit.core.version import __version__
from palletfit.errors import ConfigError, FitError, PalletfitError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from palletfit.api import Results

#: Width of text that goes to no terminal.
_WIDE = 120
#: Remarks that are written below a table.
_REMARKS = 10
#: Names of patches with the same remark.
_NAMES = 3
#: Least width of remarks, and of names in a table.
_LEAST, _NARROW = 40, 12
#: Space between columns.
_GAP = "  "
_COLOURS = {"suspect": "yellow", "failed": "red"}


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
            A complete workspace is wrong.
        """
        names = list(results.values_of)
        error = results.errors.get(names[0]) if len(names) == 1 else None
        if error is not None and not names[0] and not isinstance(error, FitError):
            raise error  # the workspace is wrong, and there is no other result
        if self.plain:
            self.document(command, settings, _entries(results, as_json or _plain))
        elif error is not None:
            report(error)
        elif len(names) == 1:
            click.echo(printable(f"{title}{f', {names[0]}' if names[0] else ''}"))
            result = results[names[0]]
            click.echo(_list(columns, result))
            if details is not None:
                click.echo(details(result))
            _echo_remarks([("", remark) for remark in _remarks(result)])
        else:
            click.echo(printable(title))
            click.echo(_table(columns, results))
            remarks = [(name, text) for name in names for text in _texts(results, name)]
            _echo_remarks(remarks)
        return DONE if _status(results) == "ok" else NOT_TRUSTED

    def document(
        self,
        command: str,
        settings: Mapping[str, Any],
        entries: Sequence[Mapping[str, Any]],
        summary: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the JSON document of a command; numbers that are not finite are null.

        A `summary` is about all entries.
        """
        from palletfit.engine.records import finite

        statuses = {entry["status"] for entry in entries}
        worst = next((status for status in ("failed", "suspect") if status in statuses), "ok")
        content = {
            "command": command,
            "version": __version__,
            "status": worst,
            "settings": settings,
            **({} if summary is None else {"summary": summary}),
            "results": entries,
        }
        click.echo(json.dumps(finite(content), indent=2, ensure_ascii=True, allow_nan=False))

    def draw(self, figures: Callable[[], Sequence[Figure]]) -> None:
        """Draw and write the plot, if one is wanted."""
        if self.plot is None:
            return
        from palletfit.planes.style import save_pages

        drawn = figures()
        if not drawn:
            raise FitError("There is no result that could be drawn.", remedy="See the errors.")
        save_pages(drawn, [self.plot])


class _Messages(logging.Handler):
    """Writes messages to the present standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message."""
        click.echo(printable_lines(self.format(record)), err=True)


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
    check_file(path, "The plot")
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "Plots need matplotlib, which is not installed.",
            remedy="Install it (`pip install matplotlib`), or leave out --plot.",
        )


def check_file(path: Path, subject: str = "The table") -> None:
    """Refuse a file that could not be written after all fits.

    Raises
    ------
    ConfigError
        It is a folder, or its folder is none that can be written to.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise ConfigError(f"{subject} cannot be written.", remedy="Choose another file.", file=path)


# --------------------------------------------------------------------------- JSON


def _plain(result: Any) -> Mapping[str, Any]:
    content: Mapping[str, Any] = result.as_json()
    return content


def _entries(
    results: Results[Any], as_json: Callable[[Any], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Make the entry of each result, failed ones included."""
    from palletfit.engine.records import reproducible

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
            entry |= {"status": result.status, **reproducible(as_json(result))}
        entries.append(entry)
    return entries


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
    if "COLUMNS" in os.environ or (sys.stdout is not None and sys.stdout.isatty()):
        return shutil.get_terminal_size().columns
    return _WIDE


def lines_of(
    rows: Sequence[Sequence[str]],
    titles: Sequence[str] | None = None,
    *,
    left: int = 1,
    ranks: Sequence[int] | None = None,
) -> str:
    """Align rows below their titles.

    Parameters
    ----------
    rows, titles
        Cells; characters that are not printable are replaced.
    left
        So many first columns are aligned to the left, others to the right.
    ranks
        For each column, see :class:`Column`: lines get no wider than the terminal, and cells of a
        first column that is still too wide an ellipsis. None: lines may be wider.
    """
    table = [list(map(printable, row)) for row in [*([titles] if titles else []), *rows]]
    sizes = [max(columns_of(row[index]) for row in table) for index in range(len(table[0]))]
    shown = list(range(len(sizes)))
    if ranks is not None:
        shown = _fitting(sizes, ranks)
        beside = sum(sizes[index] + len(_GAP) for index in shown[1:])
        sizes[0] = min(sizes[0], max(width() - beside, _NARROW))
    lines = [
        _GAP.join(
            padded(shortened(row[index], sizes[index]), sizes[index], left=index < left)
            for index in shown
        ).rstrip()
        for row in table
    ]
    missing = [title for index, title in enumerate(titles or ()) if index not in shown]
    if missing:
        words = f"(no room here for {', '.join(missing)}; a wider terminal or --json has them)"
        lines.append(wrapped(words))
    return "\n".join(lines)


def _fitting(sizes: Sequence[int], ranks: Sequence[int]) -> list[int]:
    """Choose the columns for which there is room beside a first one that is not too wide."""
    needed = [min(sizes[0], max(width() // 2, _NARROW)), *sizes[1:]]
    shown = list(range(len(sizes)))
    for rank in sorted(set(ranks) - {0}, reverse=True):
        if sum(needed[index] + len(_GAP) for index in shown) - len(_GAP) <= width():
            break
        shown = [index for index in shown if ranks[index] != rank]
    return shown


def wrapped(text: str) -> str:
    """Break a text into lines that fit into the terminal."""
    columns = min(max(width(), _LEAST), _WIDE)
    return textwrap.fill(printable(" ".join(text.split())), columns, subsequent_indent="    ")


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
    if result.status != "ok":
        rows.append(("status", result.status))
    lines = lines_of([(f"  {words}", value) for words, value in rows], left=2).split("\n")
    if result.status != "ok":
        lines[-1] = lines[-1].removesuffix(result.status) + coloured(result.status)
    return "\n".join(lines)


def _table(columns: Sequence[Column], results: Results[Any]) -> str:
    """Write a row for each patch, as many columns as the terminal has room for."""
    rows, statuses = [], []
    for name in results.values_of:
        result = results.results.get(name)
        cells = ["-" if result is None else number(column.value(result)) for column in columns]
        statuses.append("failed" if result is None else result.status)
        rows.append([name, *cells, statuses[-1]])
    lines = lines_of(
        rows,
        ["patch", *(column.title for column in columns), "status"],
        ranks=[0, *(column.rank for column in columns), 0],
    ).split("\n")
    for index, status in enumerate(statuses, 1):
        if status != "ok":
            lines[index] = lines[index].removesuffix(status) + coloured(status)
    return "\n".join(lines)


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
        return [f"{error.problem} {for_shell(error.remedy)}"]
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
        click.echo(wrapped(begin + text))
    if len(by_text) > _REMARKS:
        click.echo(f"and {len(by_text) - _REMARKS} more remarks, which --json has")
