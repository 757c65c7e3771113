"""``palletfit fit``: the best fit of a model."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import click

from palletfit.cli.inputs import Inputs, takes_likelihood
from palletfit.cli.output import Column, Output, lines_of, with_error


@click.command(
    "fit",
    short_help="Fit a model to its data.",
    epilog="""\b
Examples:
  palletfit fit workspace.json
  palletfit fit BkgOnly.json --poi ''                     (the background alone)
  palletfit fit workspace.json --mu 0 --fix lumi=1 --show 'mu_*'""",
)
@takes_likelihood()
@click.option("--mu", type=float, help="Fix the parameter of interest there. Default: free.")
@click.option(
    "--show", multiple=True, metavar="NAME", help="Write only parameters of this name or pattern."
)
def command(inputs: Inputs, output: Output, *, mu: float | None, show: tuple[str, ...]) -> int:
    """Fit a model to its data: parameters with their uncertainties, and 2 NLL."""
    import palletfit

    results = palletfit.fits(mu=mu, **inputs.arguments())
    fixed = "" if mu is None else f", mu = {mu:g} fixed"
    code = output.results(
        results,
        command="fit",
        title=f"Best fit{fixed}: {inputs.title}",
        settings={"mu": mu, **inputs.settings},
        columns=[
            Column("2 NLL", lambda fit: f"{fit.twice_nll:.6f}", "2 NLL at the minimum"),
            Column("parameters", lambda fit: len(fit.parameters), None, 1),
            Column("at bounds", lambda fit: len(fit.evidence.at_bounds), "at a bound", 2),
        ],
        details=lambda fit: _parameters(fit, show or ("*",)),
    )

    def figures() -> list[Any]:
        from palletfit.cli.plots import draw_parameters

        return [
            draw_parameters(fit, f"{inputs.title}, {name}" if name else inputs.title)
            for name, fit in results.items()
        ]

    output.draw(figures)
    return code


def _parameters(fit: Any, patterns: Sequence[str]) -> str:
    """Write a row for each parameter whose name fits a pattern."""
    at_bounds = set(fit.evidence.at_bounds)
    rows = []
    for name, value in fit.parameters.items():
        if not any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns):
            continue
        error = fit.errors[name]
        state = "at a bound" if name in at_bounds else ("fixed" if error == 0.0 else "")
        rows.append([f"  {name}", *with_error(value, error), state])
    return lines_of(rows, ["  parameter", "value", "error", ""])
