"""``palletfit gof``: goodness of fit in the saturated model."""

from __future__ import annotations

from typing import Any

import click

from palletfit.cli.inputs import NUMBER, Inputs, takes_likelihood
from palletfit.cli.output import Column, Output


@click.command(
    "gof",
    short_help="Test how well a model describes its data.",
    epilog="""\b
Examples:
  palletfit gof workspace.json
  palletfit gof BkgOnly.json --poi '' --toys 1000 --plot gof.png""",
)
@takes_likelihood()
@click.option("--mu", type=NUMBER, help="Fix the parameter of interest there. Default: free.")
@click.option(
    "--toys", "count", type=click.IntRange(0, 10**6), default=0, help="Pseudo-experiments."
)
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Seed of toys. Default: 1.")
def command(inputs: Inputs, output: Output, *, mu: float | None, count: int, seed: int) -> int:
    """Compare the best fit with the saturated model, which agrees with the data in every bin.

    The p-value is from the chi-squared distribution, and with --toys from pseudo-experiments, too.
    """
    import palletfit

    results = palletfit.goodness_of_fit(mu=mu, count=count, seed=seed, **inputs.arguments())
    toys = [
        Column("p (toys)", _of_toys("p_value"), "p-value (toys)"),
        Column("error", _of_toys("p_value_error"), "error of the p-value (toys)"),
        Column("toys", _of_toys("toys"), None, 3),
    ]
    code = output.results(
        results,
        command="gof",
        title=f"Goodness of fit in the saturated model{inputs.fixed(mu)}: {inputs.title}",
        settings={"mu": mu, "toys": count, "seed": seed, **inputs.settings},
        columns=[
            Column("statistic", lambda result: result.statistic),
            Column("degrees", lambda result: result.degrees, "degrees of freedom"),
            Column("p (chi2)", lambda result: result.p_value, "p-value (chi-squared)"),
            *(toys if count else []),
            Column("bins", lambda result: result.bins, None, 2),
            Column("free", lambda result: result.free, "free parameters", 2),
        ],
    )

    def figures() -> list[Any]:
        from palletfit.products.diagnostics.fit_plots import draw_goodness

        return [draw_goodness(result, inputs.title_of(name)) for name, result in results.items()]

    output.draw(figures)
    return code


def _of_toys(name: str) -> Any:
    return lambda result: getattr(result.toys, name)
