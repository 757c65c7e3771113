"""``palletfit fit``: the best fit of a model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any

import click

from palletfit.cli.inputs import NUMBER, Inputs, takes_likelihood
from palletfit.cli.output import Column, Output, lines_of, with_error


@click.command(
    "fit",
    short_help="Fit a model to its data.",
    epilog="""\b
Examples:
  palletfit fit workspace.json
  palletfit fit BkgOnly.json --poi ''                (the background alone)
  palletfit fit workspace.json --mu 0 --fix lumi=1 --show 'mu_*'""",
)
@takes_likelihood()
@click.option("--mu", type=NUMBER, help="Fix the parameter of interest there. Default: free.")
@click.option(
    "--show", multiple=True, metavar="NAME", help="Write only parameters of this name or pattern."
)
def command(inputs: Inputs, output: Output, *, mu: float | None, show: tuple[str, ...]) -> int:
    """Fit a model to its data: parameters with their uncertainties, and 2 NLL."""
    import palletfit

    results = palletfit.fits(mu=mu, **inputs.arguments())
    _check_patterns(show, {name for fit in results.values() for name in fit.parameters})
    code = output.results(
        results,
        command="fit",
        title=f"Best fit{inputs.fixed(mu)}: {inputs.title}",
        settings={"mu": mu, **inputs.settings},
        columns=[
            Column("2 NLL", lambda fit: f"{fit.twice_nll:.6f}", "2 NLL at the minimum"),
            Column("parameters", lambda fit: len(fit.parameters), None, 1),
            Column("at bounds", lambda fit: len(fit.at_bounds), "at a bound", 2),
        ],
        details=lambda fit: _parameters(fit, show or ("*",)),
    )

    def figures() -> list[Any]:
        from palletfit.products.diagnostics.fit_plots import draw_parameters

        return [draw_parameters(fit, inputs.title_of(name)) for name, fit in results.items()]

    output.draw(figures)
    return code


def _check_patterns(patterns: Sequence[str], names: Collection[str]) -> None:
    """Refuse a pattern that no parameter fits; of fits that failed none is known."""
    from palletfit.core.text import did_you_mean

    for pattern in patterns:
        if names and not any(_fits(name, pattern) for name in names):
            raise click.BadParameter(
                f"No parameter has the name {pattern!r}, or fits it as a pattern. "
                f"{did_you_mean(pattern, sorted(names))}".strip(),
                ctx=click.get_current_context(),
                param_hint="'--show'",
            )


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _parameters(fit: Any, patterns: Sequence[str]) -> str:
    """Write a row for each parameter whose name fits a pattern."""
    at_bounds = set(fit.at_bounds)
    rows = []
    for name, value in fit.parameters.items():
        if not any(_fits(name, pattern) for pattern in patterns):
            continue
        error = fit.errors[name]
        state = "at a bound" if name in at_bounds else ("fixed" if error == 0.0 else "")
        rows.append([f"  {name}", *with_error(value, error), state])
    return lines_of(rows, ["  parameter", "value", "error", ""], ranks=(0, 0, 0, 0))
