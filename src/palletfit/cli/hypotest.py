"""``palletfit hypotest``: CLs of signals, or p0 of a discovery."""

from __future__ import annotations

import math
from typing import Any

import click

from palletfit.cli.derivatives import derivatives_of, takes_derivatives
from palletfit.cli.inputs import FiniteRange, Inputs, takes_likelihood
from palletfit.cli.output import Column, Output

#: Titles of the expected values, and the order in which a narrow terminal leaves them out.
SIGMAS = (("-2 sigma", 2), ("-1 sigma", 1), ("median", 0), ("+1 sigma", 1), ("+2 sigma", 2))


@click.command(
    "hypotest",
    short_help="Test signals: CLs, or p0 of a discovery.",
    epilog="""\b
Examples:
  palletfit hypotest workspace.json
  palletfit hypotest BkgOnly.json --patchset patchset.json --patch 'C1N2_*'
  palletfit hypotest BkgOnly.json --signal-in SR_high:3 --discovery""",
)
@takes_likelihood(statistic=True)
@click.option("--mu", type=FiniteRange(min=0), help="Tested strength. Default: 1.")
@click.option("--discovery", is_flag=True, help="Test the background: p0 and its significance.")
@takes_derivatives
def command(
    inputs: Inputs, output: Output, *, mu: float | None, discovery: bool, derivatives: bool
) -> int:
    """Test the signals of a likelihood: CLs, observed and expected."""
    import palletfit

    arguments = inputs.arguments()
    if discovery:
        if mu is not None:
            raise click.UsageError("--discovery tests the background: leave out --mu.")
        if "test_statistic" in arguments:
            raise click.UsageError("--discovery has a test statistic of its own, q0.")
        arguments["test_statistic"] = "q0"
    if derivatives:
        arguments["derivatives"] = True
    mu = 1.0 if mu is None else mu
    results = palletfit.hypotest(mu=mu, **arguments)
    kind = arguments.get("test_statistic", "qtilde")
    subject = inputs.subject
    tested = "Discovery (q0)" if discovery else f"CLs at {subject} = {mu:g} ({kind})"
    code = output.results(
        results,
        command="hypotest",
        title=f"{tested}: {inputs.title}",
        settings={"mu": mu, "test_statistic": kind, **inputs.settings},
        columns=_discovery_columns(subject) if discovery else _columns(),
        details=_derivatives if derivatives else None,
        as_json=_discovery if discovery else None,
    )

    def figures() -> list[Any]:
        from palletfit.products.limits.bands import draw_bands

        drawn = {
            name or inputs.title: (result.p_values.CLs_obs, result.p_values.CLs_exp)
            for name, result in results.items()
        }
        axis = "p0" if discovery else "CLs"
        return draw_bands(drawn, f"{tested}; {inputs.title}", axis, None if discovery else 0.05)

    output.draw(figures)
    return code


def _derivatives(result: Any) -> str:
    """Write a row for each bin of the signal."""
    columns = {
        "obs": "CLs_obs",
        "exp": "CLs_exp_0",
        "q": "q",
        "q Asimov": "q_asimov",
        "mu-hat": "mu_hat",
    }
    return derivatives_of(result, columns)


def _columns() -> list[Column]:
    def expected(index: int) -> Any:
        return lambda result: result.p_values.CLs_exp[index]

    bands = [
        Column(title, expected(index), f"CLs expected, {title}", rank)
        for index, (title, rank) in enumerate(SIGMAS)
    ]
    bands[2] = Column("CLs exp", expected(2), "CLs expected", 0)
    return [
        Column("CLs obs", lambda result: result.p_values.CLs_obs, "CLs observed"),
        bands[2],
        *bands[:2],
        *bands[3:],
        Column("mu-hat", lambda result: result.mu_hat, "best fit", 3),
        Column("error", lambda result: result.mu_hat_error, "error of the best fit", 4),
    ]


def _discovery_columns(subject: str) -> list[Column]:
    return [
        Column("p0", lambda result: result.p_values.CLs_obs, "p0 observed"),
        Column("sigma", lambda result: math.sqrt(result.p_values.q), "significance (sigma)"),
        Column(
            "p0 exp",
            lambda result: result.p_values.CLs_exp[2],
            f"p0 expected for {subject} = 1",
            1,
        ),
        Column(
            "sigma exp",
            lambda result: math.sqrt(result.p_values.q_asimov),
            "significance expected",
        ),
        Column("mu-hat", lambda result: result.mu_hat, "best fit", 2),
        Column("error", lambda result: result.mu_hat_error, "error of the best fit", 3),
    ]


def _discovery(result: Any) -> dict[str, Any]:
    """Give plain data of a discovery, with its own names."""
    plain = dict(result.as_json())
    p_values = result.p_values
    for name in ("CLs_obs", "CLs_exp", "CLsb_obs", "CLb_obs"):
        del plain[name]
    return {
        "p0": p_values.CLs_obs,
        "significance": math.sqrt(p_values.q),
        "p0_exp": list(p_values.CLs_exp),
        "significance_exp": math.sqrt(p_values.q_asimov),
        **plain,
    }
