"""``palletfit toys``: CLs from pseudo-experiments."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click

from palletfit.cli.inputs import Inputs, takes_likelihood
from palletfit.cli.output import Column, Output


@click.command(
    "toys",
    short_help="Compute CLs from pseudo-experiments.",
    epilog="""\b
Examples:
  palletfit toys workspace.json --toys 2000
  palletfit toys BkgOnly.json --patchset patchset.json --patch C1N2_Wh_700_0 --plot toys.png""",
)
@takes_likelihood(statistic=True, engine=False)
@click.option(
    "--mu", type=click.FloatRange(min=0), default=1.0, help="Tested strength. Default: 1."
)
@click.option("--discovery", is_flag=True, help="Test the background: p0.")
@click.option(
    "--toys", "count", type=click.IntRange(1, 10**7), default=1000,
    help="Pseudo-experiments of each hypothesis. Default: 1000.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Default: 1.")
def command(
    inputs: Inputs, output: Output, *, mu: float, discovery: bool, count: int, seed: int
) -> int:
    """Compute CLs from pseudo-experiments, beside the asymptotic formulae."""
    import palletfit

    arguments = inputs.arguments()
    if discovery:
        if "test_statistic" in arguments:
            raise click.UsageError("--discovery has a test statistic of its own, q0.")
        arguments["test_statistic"] = "q0"
    results = palletfit.toys(mu=mu, count=count, seed=seed, **arguments)
    asymptotic = palletfit.hypotest(**{**arguments, "mu": mu, "progress": False})
    name = "p0" if discovery else "CLs"
    kind = arguments.get("test_statistic", "qtilde")

    def formula(result: Any) -> float | None:
        test = asymptotic.results.get(result.patch)
        return None if test is None else test.p_values.CLs_obs

    code = output.results(
        results,
        command="toys",
        title=f"{name} from {count} toys of each hypothesis: {inputs.title}",
        settings={"mu": mu, "toys": count, "seed": seed, "test_statistic": kind, **inputs.settings},
        columns=[
            Column(f"{name} obs", lambda result: result.CLs_obs, f"{name} observed"),
            Column("error", lambda result: result.CLs_obs_error, f"error of {name} observed"),
            Column("asymptotic", formula, f"{name} observed, asymptotic", 1),
            Column(f"{name} exp", lambda result: result.CLs_exp[2], f"{name} expected"),
            Column("error exp", lambda result: result.CLs_exp_errors[2],
                   f"error of {name} expected", 2),
            Column("mu-hat", lambda result: result.mu_hat, "best fit", 3),
        ],
        as_json=lambda result: {**result.as_json(), "asymptotic": formula(result)},
    )  # fmt: skip

    def figures() -> list[Any]:
        from palletfit.products.toys.plots import draw_toys

        drawn = []
        for patch, result in results.items():
            failed = {hypothesis: len(toys) for hypothesis, toys in result.failed.items()}
            test = asymptotic.results.get(patch)
            entry = {
                **result.as_json(),
                "patch": patch or inputs.title,
                "failed": failed,
                "asymptotic": {} if test is None else test.as_json(),
            }
            drawn.append(draw_toys(entry, result.statistics, SimpleNamespace(title=inputs.title)))
        return drawn

    output.draw(figures)
    return code
