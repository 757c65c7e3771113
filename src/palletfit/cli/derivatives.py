"""Derivatives by the yields of the signal: an option of commands, and its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from palletfit.cli.output import lines_of, number

#: Adds the option to a command.
takes_derivatives: Callable[[Callable[..., int]], Callable[..., int]] = click.option(
    "--derivatives", is_flag=True, help="Add derivatives by the yields of the signal."
)


def derivatives_of(result: Any, columns: Mapping[str, str]) -> str:
    """Write derivatives per event, a row for each bin of the signal.

    Parameters
    ----------
    result
        Result of a patch.
    columns
        Names of derivatives by the titles of their columns.
    """
    if result.derivatives is None:
        return ""  # a remark says why
    rows = [
        [f"  {row['channel']}[{row['bin']}]", *map(number, (row["yields"], *_picked(row, columns)))]
        for row in result.derivatives.rows()
    ]
    lines = lines_of(rows, ["  per event of", "events", *columns])
    return "\n".join([lines, *(f"  {remark}" for remark in result.derivatives.remarks)])


def _picked(row: Mapping[str, Any], columns: Mapping[str, str]) -> list[float]:
    return [row[name] for name in columns.values()]
