"""``palletfit scan``: CLs against the signal strength."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import click

from palletfit.cli.inputs import FiniteRange, Inputs, takes_likelihood
from palletfit.cli.limit import LEVEL, MU_MAX, TOLERANCE, shown_limit
from palletfit.cli.output import Column, Output, lines_of, number


@click.command(
    "scan",
    short_help="Compute CLs against the signal strength.",
    epilog="""\b
Examples:
  palletfit scan workspace.json --points 11
  palletfit scan BkgOnly.json --signal-in SR_high:3 --plot scan.png""",
)
@takes_likelihood(statistic=True)
@click.option("--points", type=click.IntRange(3, 1000), default=21, help="Default: 21.")
@click.option(
    "--range",
    "mu_range",
    type=(FiniteRange(min=0), FiniteRange(min=0)),
    metavar="FIRST LAST",
    help="First and last signal strength.",
)
@click.option("--level", type=LEVEL, default=0.95, help="Confidence level. Default: 0.95.")
@click.option(
    "--tolerance", type=TOLERANCE, default=1e-4, help="Precision of limits. Default: 1e-4."
)
@click.option("--mu-max", type=MU_MAX, help="Upper bound of the parameter of interest.")
def command(
    inputs: Inputs,
    output: Output,
    *,
    points: int,
    mu_range: tuple[float, float] | None,
    level: float,
    tolerance: float,
    mu_max: float | None,
) -> int:
    """Compute CLs for a range of signal strengths, and the upper limits."""
    import palletfit

    if mu_range is not None and mu_range[0] >= mu_range[1]:
        raise click.BadParameter(
            "The range must rise, such as 0 3.",
            ctx=click.get_current_context(),
            param_hint="'--range'",
        )
    options: dict[str, Any] = {
        "points": points,
        "mu_range": mu_range,
        "confidence_level": level,
        "tolerance": tolerance,
        "mu_max": mu_max,
    }
    results = palletfit.mu_scan(**inputs.arguments(), **options)
    code = output.results(
        results,
        command="scan",
        title=f"CLs against {inputs.subject}, upper limits at {100 * level:g}% CL: {inputs.title}",
        settings={**options, **inputs.settings},
        columns=[
            Column("observed", _limit(None), "limit observed"),
            Column("expected", _limit(2), "limit expected"),
            Column("best fit", lambda result: result.limits.mu_hat, None, 1),
            Column("points", lambda result: len(result.points)),
        ],
        details=lambda scan: _points(scan, inputs.subject),
    )

    def figures() -> list[Any]:
        from palletfit.products.diagnostics.plots import shorten
        from palletfit.products.mu_scan.plots import draw_mu_scan

        title = SimpleNamespace(title=inputs.title_of("").replace(";", ","))
        return [
            draw_mu_scan({"patch": shorten(name or "CLs"), **result.as_json()}, title, None, level)
            for name, result in results.items()
        ]

    output.draw(figures)
    return code


def _limit(index: int | None) -> Callable[[Any], float | str]:
    """Give the function that shows the observed limit (None) or an expected one of a scan."""

    def shown(scan: Any) -> float | str:
        limits = scan.limits
        limit = limits.observed if index is None else limits.expected[index]
        return shown_limit(limit, limits.mu_max)

    return shown


def _points(scan: Any, subject: str) -> str:
    """Write a row for each signal strength."""
    rows = [
        [
            f"  {number(point.mu)}",
            *map(number, (point.p_values.CLs_obs, *point.p_values.CLs_exp)),
            "" if point.trusted else "suspect",
        ]
        for point in scan.points
    ]
    bands = ("-2 sigma", "-1 sigma", "CLs exp", "+1 sigma", "+2 sigma")
    titles = [f"  {subject}", "CLs obs", *bands, ""]
    return lines_of(rows, titles, ranks=(0, 0, 2, 1, 0, 1, 2, 0))
