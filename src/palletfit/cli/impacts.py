"""``palletfit impacts``: impacts of groups of parameters."""

from __future__ import annotations

from typing import Any

import click

from palletfit.cli.inputs import Inputs, groups_of, takes_likelihood
from palletfit.cli.output import Column, Output, lines_of, number


@click.command(
    "impacts",
    short_help="Show the parts of groups of parameters in the uncertainty.",
    epilog="""\b
Examples:
  palletfit impacts workspace.json --plot groups.png
  palletfit impacts workspace.json --group 'jets=JES_*,JER_*'
  palletfit impacts workspace.json --asymmetric --json""",
)
@takes_likelihood(engine=False)
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="NAME=PATTERN[,...]",
    help="Group with the parameters that fit the patterns. May be given several times. Default: "
    "groups by kind, and systematic uncertainties by the first words of their names.",
)
@click.option("--asymmetric", is_flag=True, help="Add asymmetric errors: slower.")
def command(inputs: Inputs, output: Output, *, groups: tuple[str, ...], asymmetric: bool) -> int:
    """Show which part of the uncertainty each group of parameters has.

    A part is what is missing in quadrature where the group is held at the best fit.
    """
    import palletfit

    options: dict[str, Any] = {"groups": groups_of(groups) or None, "asymmetric": asymmetric}
    results = palletfit.grouped_impacts(**inputs.arguments(), **options)
    code = output.results(
        results,
        command="impacts",
        title=f"Parts in the uncertainty of {inputs.subject}: {inputs.title}",
        settings={**options, **inputs.settings},
        columns=[
            Column(inputs.subject, lambda result: result.mu_hat, "best fit"),
            Column("total", lambda result: result.total.error),
            Column("statistical", lambda result: result.statistical.error),
            Column("systematic", lambda result: result.systematic.error),
            Column("2 NLL", lambda result: f"{result.twice_nll:.6f}", "2 NLL at the minimum", 1),
        ],
        details=lambda result: _table(result, asymmetric=asymmetric),
    )

    def figures() -> list[Any]:
        from palletfit.products.diagnostics.profile.plots import draw_grouped_impacts

        return [
            draw_grouped_impacts(result, inputs.title_of(name)) for name, result in results.items()
        ]

    output.draw(figures)
    return code


def _table(result: Any, *, asymmetric: bool) -> str:
    """Write a row for the whole and its two parts, and one for each group."""
    parts = [
        ("total", result.total, ""),
        ("statistical", result.statistical, ""),
        ("systematic", result.systematic, ""),
        *((group.name, group.impact, str(len(group.parameters))) for group in result.groups),
    ]
    sides = ("up", "down") if asymmetric else ()
    rows = [
        [
            f"  {name}",
            *(number(getattr(errors, key)) for key in ("error", *sides)),
            count,
        ]
        for name, errors, count in parts
    ]
    return lines_of(rows, ["  part", "error", *sides, "parameters"], ranks=[0] * (3 + len(sides)))
