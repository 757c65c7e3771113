"""``palletfit yields``: expected and observed events before and after a fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from palletfit.cli.inputs import NUMBER, Inputs, groups_of, takes_likelihood
from palletfit.cli.output import Column, Output, check_file, lines_of, number, with_error

_STATES = {"fitted": "", "predicted": "not fitted", "masked": "masked"}


@click.command(
    "yields",
    short_help="Show yields of a fit, and their uncertainties.",
    epilog="""\b
Examples:
  palletfit yields workspace.json --latex yields.tex
  palletfit yields BkgOnly.json --poi '' --channel 'CR*' --bins
  palletfit yields workspace.json --systematics --group 'JES=JES_*' --top 5""",
)
@takes_likelihood(engine=False)
@click.option("--mu", type=NUMBER, help="Fix the parameter of interest there. Default: free.")
@click.option("--bins", is_flag=True, help="Show each bin, counted from 0, not their sum.")
@click.option(
    "--systematics",
    is_flag=True,
    help="Show relative uncertainties by parameter, in percent, instead of yields.",
)
@click.option(
    "--group",
    multiple=True,
    metavar="NAME=PATTERN[,...]",
    help="Show parameters that fit the patterns together. May be given several times.",
)
@click.option(
    "--top", type=click.IntRange(min=1), help="Only so many parameters, the largest of a channel."
)
@click.option(
    "--show", multiple=True, metavar="NAME", help="Show only channels of this name or pattern."
)
@click.option(
    "--csv", type=click.Path(path_type=Path), metavar="FILE", help="Write the table as CSV."
)
@click.option(
    "--latex", type=click.Path(path_type=Path), metavar="FILE", help="Write the table as LaTeX."
)
def command(
    inputs: Inputs,
    output: Output,
    *,
    mu: float | None,
    bins: bool,
    systematics: bool,
    group: tuple[str, ...],
    top: int | None,
    show: tuple[str, ...],
    csv: Path | None,
    latex: Path | None,
) -> int:
    """Show expected events of all channels before and after a fit, and observed ones.

    With --channel the fit is one of these channels, and the others are predicted.
    """
    import palletfit

    if bins and systematics:
        raise click.UsageError("Uncertainties by parameter are of all bins: leave out --bins.")
    files = [path for path in (csv, latex) if path is not None]
    for path in files:
        check_file(path)
    groups = groups_of(group)
    results: Any = palletfit.yields(mu=mu, groups=groups, **inputs.arguments())
    _check_patterns(show, results)
    patterns = show or ("*",)
    code = output.results(
        results,
        command="yields",
        title=f"{'Uncertainties of yields' if systematics else 'Yields'}{inputs.fixed(mu)}: "
        f"{inputs.title}",
        settings={"mu": mu, "groups": groups, **inputs.settings},
        columns=[
            Column(inputs.subject, lambda tables: tables.mu, "parameter of interest"),
            Column("2 NLL", lambda tables: f"{tables.twice_nll:.6f}", "2 NLL at the minimum"),
            Column("channels", lambda tables: len(tables.channels), None, 1),
            Column("fitted", lambda tables: len(tables.fitted), "fitted channels", 1),
        ],
        details=lambda tables: (
            _systematics(tables, patterns, top)
            if systematics
            else _yields(tables, patterns, bins=bins)
        ),
        as_json=lambda tables: _as_json(tables, systematics=systematics),
    )
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
    if csv is not None:
        _write_csv(csv, results, bins=bins, systematics=systematics)
    if latex is not None:
        texts = [
            tables.systematics_to_latex(top=top) if systematics else tables.to_latex(per_bin=bins)
            for tables in results.values()
        ]
        latex.write_text("\n\\par\\bigskip\n".join(texts), encoding="utf-8")

    def figures() -> list[Any]:
        from palletfit.products.diagnostics.plots import draw_yields

        return [
            figure
            for name, tables in results.items()
            for figure in draw_yields(tables, inputs.title_of(name))
        ]

    output.draw(figures)
    return code


def _as_json(tables: Any, *, systematics: bool) -> dict[str, Any]:
    """Give plain data; uncertainties by parameter are many, and only those who ask get them."""
    content: dict[str, Any] = tables.as_json()
    return content if systematics else {**content, "systematics": None}


def _check_patterns(patterns: Sequence[str], results: Any) -> None:
    """Refuse a pattern that no channel fits; of fits that failed none is known."""
    from palletfit.engine.regions import check_patterns

    names = {channel.name for tables in results.values() for channel in tables.channels}
    if names:
        check_patterns("--show", patterns, sorted(names))


def _yields(tables: Any, patterns: Sequence[str], *, bins: bool) -> str:
    """Write a row for each sample of a channel, and for their sum."""
    from palletfit.engine.regions import matching

    rows = []
    shown = matching(patterns, [channel.name for channel in tables.channels])
    for row in tables.rows(per_bin=bins):
        if row["channel"] not in shown:
            continue
        total = row["kind"] == "total"
        name = f"{row['channel']}[{row['bin']}]" if bins else row["channel"]
        observed = "blinded" if row["channel"] in tables.blinded else _count(row["observed"])
        rows.append(
            [
                f"  {name}",
                "(all)" if total else row["sample"],
                *with_error(row["prefit"], row["prefit_error"]),
                *with_error(row["postfit"], row["postfit_error"]),
                observed if total else "",
                _STATES[row["state"]] if total else "",
            ]
        )
    titles = ["  channel", "sample", "before", "error", "after", "error", "observed", ""]
    return lines_of(rows, titles, left=2, ranks=(0, 0, 2, 2, 0, 0, 0, 1))


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


def _systematics(tables: Any, patterns: Sequence[str], top: int | None) -> str:
    """Write a row for each parameter that has an effect on a channel, the largest first."""
    from palletfit.engine.regions import matching

    rows = []
    shown = matching(patterns, [channel.name for channel in tables.channels])
    for channel in tables.channels:
        if channel.name not in shown:
            continue
        models = channel.prefit.model, channel.postfit.model
        errors = [_percent(model.total_error, model.total) for model in models]
        rows.append([f"  {channel.name}", "(all)", *errors])
        rows += [
            [f"  {channel.name}", entry.parameter, *map(_percent, (entry.prefit, entry.postfit))]
            for entry in tables.largest(channel.name)[:top]
        ]
    titles = ["  channel", "parameter", "before (%)", "after (%)"]
    return lines_of(rows, titles, left=2, ranks=(0, 0, 0, 0))


def _percent(size: float | None, total: float = 1.0) -> str:
    return number(None if size is None or not total else 100.0 * size / abs(total))


def _write_csv(path: Path, results: Any, *, bins: bool, systematics: bool) -> None:
    """Write the tables of all patches as one."""
    import pandas as pd

    tables = []
    for name, result in results.items():
        table = result.systematics_dataframe() if systematics else result.to_dataframe(per_bin=bins)
        if name:
            table.insert(0, "patch", name)
        tables.append(table)
    pd.concat(tables or [pd.DataFrame()]).to_csv(path, index=False)
