"""``palletfit pulls``: pulls of a fit, and impacts."""

from __future__ import annotations

from typing import Any

import click

from palletfit.cli.inputs import NUMBER, Inputs, takes_likelihood
from palletfit.cli.output import Column, Output, lines_of, number, with_error

_STATES = {"free": "", "at_bound": "at a bound", "undetermined": "not determined"}


@click.command(
    "pulls",
    short_help="Show the pulls of a fit, and impacts.",
    epilog="""\b
Examples:
  palletfit pulls workspace.json --plot pulls.pdf
  palletfit pulls BkgOnly.json --poi ''              (the background alone)
  palletfit pulls workspace.json --impacts --top 10 --plot ranking.png""",
)
@takes_likelihood(engine=False)
@click.option("--mu", type=NUMBER, help="Fix the parameter of interest there. Default: free.")
@click.option("--impacts", is_flag=True, help="Add impacts on the parameter of interest: slower.")
@click.option("--top", type=click.IntRange(min=1), help="Only so many, the largest.")
def command(
    inputs: Inputs, output: Output, *, mu: float | None, impacts: bool, top: int | None
) -> int:
    """Show how far a fit pulls parameters from where they were measured.

    The pull is the shift in units of the width of the constraint; the constraint is the width after
    the fit in units of that before.
    """
    import palletfit

    if impacts and mu is not None:
        raise click.UsageError("Impacts need a free parameter of interest: leave out --mu.")
    arguments = inputs.arguments()
    results: Any = (
        palletfit.diagnose(**arguments) if impacts else palletfit.pulls(mu=mu, **arguments)
    )
    code = output.results(
        results,
        command="pulls",
        title=f"Pulls{' and impacts' if impacts else ''}{inputs.fixed(mu)}: {inputs.title}",
        settings={"mu": mu, "impacts": impacts, **inputs.settings},
        columns=[
            Column(
                inputs.subject,
                lambda fit: fit.mu_hat if impacts else fit.mu,
                "parameter of interest",
            ),
            Column("2 NLL", lambda fit: f"{fit.twice_nll:.6f}", "2 NLL at the minimum", 1),
            Column("largest pull", _largest),
        ],
        details=lambda fit: (_impacts if impacts else _pulls)(fit, top),
    )

    def figures() -> list[Any]:
        from palletfit.products.diagnostics.plots import draw_pulls, draw_ranking

        drawn: list[Any] = []
        for name, fit in results.items():
            title = inputs.title_of(name)
            if impacts:
                drawn.append(draw_ranking(fit, title, max_parameters=top or 20))
            else:
                drawn += draw_pulls(fit, title, max_parameters=top)
        return drawn

    output.draw(figures)
    return code


def _largest(fit: Any) -> float | None:
    pulls = [abs(entry.pull) for entry in fit.parameters if entry.pull is not None]
    return max(pulls, default=None)


def _pulls(fit: Any, top: int | None) -> str:
    """Write a row for each parameter that was measured before, and those that were not below."""
    measured = [entry for entry in fit.parameters if entry.pull is not None]
    if top is not None:
        measured = sorted(measured, key=lambda entry: -abs(entry.pull))[:top]
    rows = [
        [
            f"  {entry.name}",
            f"{entry.pull:+.3f}",
            number(entry.constraint),
            *with_error(entry.value, entry.error),
            _STATES[entry.state],
        ]
        for entry in measured
    ]
    free = [entry for entry in fit.parameters if entry.pull is None and entry.state != "fixed"]
    rows += [
        [f"  {entry.name}", "-", "-", *with_error(entry.value, entry.error),
         _STATES[entry.state]]
        for entry in free
    ]  # fmt: skip
    return lines_of(
        rows, ["  parameter", "pull", "constraint", "value", "error", ""], ranks=(0, 0, 1, 0, 0, 0)
    )


def _impacts(fit: Any, top: int | None) -> str:
    """Write a row for each parameter, the largest impact first."""
    rows = []
    for impact in fit.impacts[:top]:
        entry = fit.parameter(impact.parameter)
        pull = "-" if entry.pull is None else f"{entry.pull:+.3f}"
        shifts = (impact.postfit_up, impact.postfit_down, impact.prefit_up, impact.prefit_down)
        cells = ["-" if shift is None else f"{shift:+.4g}" for shift in shifts]
        rows.append([f"  {impact.parameter}", *cells, pull, number(entry.constraint)])
    titles = ["  parameter", "up", "down", "prefit up", "prefit down", "pull", "constraint"]
    return lines_of(rows, titles, ranks=(0, 0, 0, 2, 2, 1, 1))
