"""``palletfit contours``: contours of the likelihood in two parameters."""

from __future__ import annotations

from typing import Any

import click

from palletfit.cli.inputs import NUMBER, Inputs, takes_likelihood
from palletfit.cli.likelihood import LEVEL, ends_of, levels_or_none
from palletfit.cli.output import Column, Output, lines_of, number


@click.command(
    "contours",
    short_help="Find contours of the likelihood in two parameters.",
    epilog="""\b
Examples:
  palletfit contours workspace.json --x mu --y JES --plot contours.png
  palletfit contours workspace.json --x mu --y JES --level 1 --level 4 --json""",
)
@takes_likelihood(engine=False)
@click.option("--x", required=True, metavar="NAME", help="First parameter.")
@click.option("--y", required=True, metavar="NAME", help="Second parameter.")
@click.option(
    "--points", type=click.IntRange(3, 201), default=25, help="Values of each. Default: 25."
)
@click.option("--x-range", type=(NUMBER, NUMBER), metavar="FIRST LAST", help="Range of the first.")
@click.option("--y-range", type=(NUMBER, NUMBER), metavar="FIRST LAST", help="Range of the second.")
@click.option(
    "--level",
    "levels",
    type=LEVEL,
    multiple=True,
    help="2 NLL above the best fit of a contour. Default: 2.30 and 5.99, which are 68% and 95%.",
)
@click.option("--mu", type=NUMBER, help="Fix the parameter of interest there. Default: free.")
def command(
    inputs: Inputs,
    output: Output,
    *,
    x: str,
    y: str,
    points: int,
    x_range: tuple[float, float] | None,
    y_range: tuple[float, float] | None,
    levels: tuple[float, ...],
    mu: float | None,
) -> int:
    """Find contours of the likelihood in two parameters, all others fitted at each point.

    The plot and --json have the contours; the table has how far they go in each parameter.
    """
    import palletfit

    options: dict[str, Any] = {
        "x": x,
        "y": y,
        "points": points,
        "x_range": x_range,
        "y_range": y_range,
        "levels": levels_or_none(levels),
        "mu": mu,
    }
    results = palletfit.likelihood_contours(**inputs.arguments(), **options)
    code = output.results(
        results,
        command="contours",
        title=f"Likelihood of {x} and {y}{inputs.fixed(mu)}: {inputs.title}",
        settings={**options, **inputs.settings},
        columns=[
            Column("best x", lambda result: result.best[0], f"best fit of {x}"),
            Column("best y", lambda result: result.best[1], f"best fit of {y}"),
            Column("2 NLL", lambda result: f"{result.twice_nll:.6f}", "2 NLL at the minimum", 1),
            Column("contours", lambda result: sum(len(entry.lines) for entry in result.contours)),
        ],
        details=_regions,
    )

    def figures() -> list[Any]:
        from palletfit.products.diagnostics.profile.plots import draw_likelihood_contours

        return [
            draw_likelihood_contours(result, inputs.title_of(name))
            for name, result in results.items()
        ]

    output.draw(figures)
    return code


def _regions(result: Any) -> str:
    """Write how far the region of each level goes."""
    rows = [
        [f"  {contour.level:.3g}", ends_of(contour.x), ends_of(contour.y), number(contour.miss)]
        for contour in result.contours
    ]
    titles = ["  level", result.x, result.y, "largest miss"]
    return lines_of(rows, titles, ranks=(0, 0, 0, 1))
