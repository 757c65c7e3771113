"""``palletfit likelihood``: the likelihood of one parameter, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from palletfit.cli.inputs import NUMBER, FiniteRange, Inputs, takes_likelihood
from palletfit.cli.output import Column, Output, lines_of, number

#: Levels of 2 NLL above the best fit.
LEVEL = FiniteRange(min=0, min_open=True)


def ends_of(interval: Any) -> str:
    """Write an interval; ends that are no crossing say so."""
    words = {"found": "", "at_bound": " (bound)", "beyond": " (end of the search)"}
    pairs = [(interval.lower, interval.upper), *interval.further]
    return " and ".join(
        " to ".join(f"{number(end.value)}{words[end.state]}" for end in pair) for pair in pairs
    )


def levels_or_none(levels: Sequence[float]) -> list[float] | None:
    """Give the levels of the option, or None for the default ones."""
    return list(levels) or None


@click.command(
    "likelihood",
    short_help="Scan the likelihood in one parameter, with intervals.",
    epilog="""\b
Examples:
  palletfit likelihood workspace.json --plot scan.png
  palletfit likelihood workspace.json --parameter JES --range -2 2
  palletfit likelihood BkgOnly.json --poi '' --parameter lumi --level 4""",
)
@takes_likelihood(engine=False)
@click.option("--parameter", metavar="NAME", help="Parameter. Default: the parameter of interest.")
@click.option("--points", type=click.IntRange(2, 2001), default=41, help="Default: 41.")
@click.option(
    "--range",
    "value_range",
    type=(NUMBER, NUMBER),
    metavar="FIRST LAST",
    help="First and last value. Default: somewhat more than the widest interval.",
)
@click.option(
    "--level",
    "levels",
    type=LEVEL,
    multiple=True,
    help="2 NLL above the best fit of an interval. Default: 1 and 3.84, which are 68% and 95%.",
)
@click.option("--mu", type=NUMBER, help="Fix the parameter of interest there. Default: free.")
def command(
    inputs: Inputs,
    output: Output,
    *,
    parameter: str | None,
    points: int,
    value_range: tuple[float, float] | None,
    levels: tuple[float, ...],
    mu: float | None,
) -> int:
    """Scan the likelihood in one parameter, all others fitted again at each value.

    Intervals end where 2 NLL has risen by their levels above the best fit.
    """
    import palletfit

    options: dict[str, Any] = {
        "parameter": parameter,
        "points": points,
        "range": value_range,
        "levels": levels_or_none(levels),
        "mu": mu,
    }
    results = palletfit.likelihood_scan(**inputs.arguments(), **options)
    shown = next((scan.intervals for scan in results.values()), ())
    subject = parameter or inputs.subject
    code = output.results(
        results,
        command="likelihood",
        title=f"Likelihood of {subject}{inputs.fixed(mu)}: {inputs.title}",
        settings={**options, **inputs.settings},
        columns=[
            Column("best fit", lambda scan: scan.best),
            Column("error", lambda scan: scan.error, "error (Hessian)"),
            *(
                Column(
                    f"at {interval.level:.3g}",
                    lambda scan, index=index: ends_of(scan.intervals[index]),  # type: ignore[misc]
                    f"interval at {interval.level:.3g}",
                )
                for index, interval in enumerate(shown)
            ),
            Column("2 NLL", lambda scan: f"{scan.twice_nll:.6f}", "2 NLL at the minimum", 1),
        ],
        details=_points,
    )

    def figures() -> list[Any]:
        from palletfit.products.diagnostics.profile.plots import draw_likelihood_scan

        return [draw_likelihood_scan(scan, inputs.title_of(name)) for name, scan in results.items()]

    output.draw(figures)
    return code


def _points(scan: Any) -> str:
    """Write a row for each value."""
    rows = [
        [f"  {number(value)}", number(rise), "" if trusted else "suspect"]
        for value, rise, trusted in zip(
            scan.parameter_values, scan.rises, scan.trusted, strict=True
        )
    ]
    return lines_of(rows, [f"  {scan.parameter}", "2 NLL rises by", ""], ranks=(0, 0, 0))
