"""``palletfit scan``: CLs against the signal strength."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click

from palletfit.cli.inputs import Inputs, takes_likelihood
from palletfit.cli.limit import LEVEL
from palletfit.cli.output import Column, Output, lines_of, number


@click.command(
    "scan",
    short_help="Compute CLs against the signal strength.",
    epilog="""\b
Examples:
  palletfit scan workspace.json --points 11
  palletfit scan BkgOnly.json --patchset patchset.json --patch C1N2_Wh_700_0 --plot scan.png""",
)
@takes_likelihood(statistic=True)
@click.option("--points", type=click.IntRange(3, 1000), default=21, help="Default: 21.")
@click.option("--range", "mu_range", type=(float, float), help="First and last signal strength.")
@click.option("--level", type=LEVEL, default=0.95, help="Confidence level. Default: 0.95.")
@click.option("--tolerance", type=float, default=1e-4, help="Precision of limits. Default: 1e-4.")
@click.option("--mu-max", type=float, help="Upper bound of the parameter of interest.")
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
            Column("observed", lambda result: result.limits.observed.mu, "limit observed"),
            Column("expected", lambda result: result.limits.expected[2].mu, "limit expected"),
            Column("best fit", lambda result: result.limits.mu_hat, None, 1),
            Column("points", lambda result: len(result.points)),
        ],
        details=_points,
    )

    def figures() -> list[Any]:
        from palletfit.products.mu_scan.plots import draw_mu_scan

        title = SimpleNamespace(title=inputs.title)
        return [
            draw_mu_scan({"patch": name or "CLs", **result.as_json()}, title, None, level)
            for name, result in results.items()
        ]

    output.draw(figures)
    return code


def _points(scan: Any) -> str:
    """Write a row for each signal strength."""
    rows = [
        [
            f"  {number(point.mu)}",
            *map(number, (point.p_values.CLs_obs, *point.p_values.CLs_exp)),
            "" if point.trusted else "suspect",
        ]
        for point in scan.points
    ]
    titles = ["  mu", "CLs obs", *("-2 sigma", "-1 sigma", "CLs exp", "+1 sigma", "+2 sigma"), ""]
    return lines_of(rows, titles)
