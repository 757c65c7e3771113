"""``palletfit toys``: CLs from pseudo-experiments."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click

from palletfit.cli.inputs import FiniteRange, Inputs, takes_likelihood
from palletfit.cli.output import Column, Output


@click.command(
    "toys",
    short_help="Compute CLs from pseudo-experiments.",
    epilog="""\b
Examples:
  palletfit toys workspace.json --toys 2000
  palletfit toys BkgOnly.json --signal-in SR_high:3 --plot toys.png""",
)
@takes_likelihood(statistic=True, engine=False)
@click.option("--mu", type=FiniteRange(min=0), help="Tested strength. Default: 1.")
@click.option("--discovery", is_flag=True, help="Test the background: p0.")
@click.option(
    "--toys", "count", type=click.IntRange(1, 10**7), default=1000,
    help="Pseudo-experiments of each hypothesis. Default: 1000.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Default: 1.")
@click.option(
    "--descents", type=click.IntRange(0, 10_000), default=0,
    help="Further points from which each fit looks for other minima. Default: 0.",
)  # fmt: skip
def command(
    inputs: Inputs,
    output: Output,
    *,
    mu: float | None,
    discovery: bool,
    count: int,
    seed: int,
    descents: int,
) -> int:
    """Compute CLs from pseudo-experiments, beside the asymptotic formulae."""
    import palletfit

    arguments = inputs.arguments()
    if discovery:
        if mu is not None:
            raise click.UsageError("--discovery tests the background: leave out --mu.")
        if "test_statistic" in arguments:
            raise click.UsageError("--discovery has a test statistic of its own, q0.")
        arguments["test_statistic"] = "q0"
    mu = 1.0 if mu is None else mu
    results = palletfit.toys(mu=mu, count=count, seed=seed, descents=descents, **arguments)
    asymptotic = palletfit.hypotest(**{**arguments, "mu": mu, "progress": False})
    name = "p0" if discovery else "CLs"
    kind = arguments.get("test_statistic", "qtilde")
    tested = "p0 (q0)" if discovery else f"CLs at {inputs.subject} = {mu:g} ({kind})"

    def formula(result: Any) -> float | None:
        test = asymptotic.results.get(result.patch)
        return None if test is None else test.p_values.CLs_obs

    code = output.results(
        results,
        command="toys",
        title=f"{tested} from {count} toys of each hypothesis: {inputs.title}",
        settings={
            "mu": mu,
            "toys": count,
            "seed": seed,
            **({"descents": descents} if descents else {}),
            "test_statistic": kind,
            **inputs.settings,
        },
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
        from palletfit.products.diagnostics.plots import shorten
        from palletfit.products.toys.plots import draw_toys

        title = SimpleNamespace(title=inputs.title_of("").replace(";", ","))
        drawn = []
        for patch, result in results.items():
            failed = {hypothesis: len(toys) for hypothesis, toys in result.failed.items()}
            test = asymptotic.results.get(patch)
            entry = {
                **result.as_json(),
                "patch": shorten(patch or inputs.title),
                "failed": failed,
                "asymptotic": {} if test is None else test.as_json(),
            }
            drawn.append(draw_toys(entry, result.statistics, title))
        return drawn

    output.draw(figures)
    return code
