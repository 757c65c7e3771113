"""``palletfit limit``: upper limits on the signal strength, or on events."""

from __future__ import annotations

from typing import Any

import click

from palletfit.cli.derivatives import derivatives_of, takes_derivatives
from palletfit.cli.hypotest import SIGMAS
from palletfit.cli.inputs import FiniteRange, Inputs, takes_likelihood
from palletfit.cli.output import Column, Output

#: Kinds of numbers; bounds are those of :class:`palletfit.config.LimitSettings`.
LEVEL = FiniteRange(min=0, max=1, min_open=True, max_open=True)
TOLERANCE = FiniteRange(min=1e-8, max=0.1)
MU_MAX = FiniteRange(min=0, min_open=True)


@click.command(
    "limit",
    short_help="Find upper limits on the signal strength, or on events.",
    epilog="""\b
Examples:
  palletfit limit workspace.json
  palletfit limit BkgOnly.json --patchset patchset.json --json
  palletfit limit BkgOnly.json --signal-in SR_high:3      (a limit in events)""",
)
@takes_likelihood(statistic=True)
@click.option("--level", type=LEVEL, default=0.95, help="Confidence level. Default: 0.95.")
@click.option(
    "--tolerance", type=TOLERANCE, default=1e-4, help="Relative precision. Default: 1e-4."
)
@click.option("--mu-max", type=MU_MAX, help="Upper bound of the parameter of interest.")
@takes_derivatives
def command(
    inputs: Inputs,
    output: Output,
    *,
    level: float,
    tolerance: float,
    mu_max: float | None,
    derivatives: bool,
) -> int:
    """Find upper limits by CLs: the observed and five expected ones."""
    import palletfit

    arguments = inputs.arguments()
    options: dict[str, Any] = {"confidence_level": level, "tolerance": tolerance, "mu_max": mu_max}
    if derivatives:
        arguments["derivatives"] = True
    results = palletfit.upper_limits(**arguments, **options)
    subject = inputs.subject
    title = f"Upper limits on {subject} at {100 * level:g}% CL"
    code = output.results(
        results,
        command="limit",
        title=f"{title}: {inputs.title}",
        settings={**options, **inputs.settings},
        columns=_columns(),
        details=_derivatives if derivatives else None,
    )

    def figures() -> list[Any]:
        from palletfit.products.limits.bands import draw_bands

        drawn = {
            name or inputs.title: (result.observed.mu, [limit.mu for limit in result.expected])
            for name, result in results.items()
        }
        return draw_bands(
            drawn,
            f"{title}; {inputs.title}",
            f"Upper limit on {subject}",
            None if "signal_in" in inputs.settings else 1.0,
        )

    output.draw(figures)
    return code


def _derivatives(result: Any) -> str:
    """Write a row for each bin of the signal."""
    return derivatives_of(result, {"observed": "observed", "expected": "expected_0"})


def _columns() -> list[Column]:
    def expected(index: int) -> Any:
        return lambda result: shown_limit(result.expected[index], result.mu_max)

    bands = [
        Column(title, expected(index), f"expected, {title}", rank)
        for index, (title, rank) in enumerate(SIGMAS)
    ]
    return [
        Column("observed", lambda result: shown_limit(result.observed, result.mu_max)),
        Column("expected", expected(2)),
        *bands[:2],
        *bands[3:],
        Column("best fit", lambda result: result.mu_hat, None, 3),
        Column("error", lambda result: result.mu_hat_error, "error of the best fit", 4),
    ]


def shown_limit(limit: Any, mu_max: float) -> float | str:
    """Give a limit, or say why there is none."""
    if limit.mu is not None:
        return float(limit.mu)
    return f"> {mu_max:g}" if limit.state == "beyond" else str(limit.state)
