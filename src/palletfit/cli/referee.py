"""``palletfit referee``: where a learned likelihood is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from palletfit.cli.ending import DONE, NOT_TRUSTED
from palletfit.cli.inputs import NUMBER, Inputs, takes_likelihood
from palletfit.cli.output import Output, check_file, coloured, lines_of, number, wrapped
from palletfit.core.text import counted, printable

#: Points that are not compared, and remarks, that are written below the tables.
_LISTED = 10
#: Inputs with a signal of which a line of the worst points has the events.
_YIELDS = 4
_TITLES = {"CLs_obs": "CLs observed", "CLs_exp": "CLs expected"}


@click.command(
    "referee",
    short_help="Say where a learned likelihood (ONNX) is wrong.",
    epilog="""\b
Examples:
  palletfit referee net.onnx BkgOnly.json --patchset patchset.json
  palletfit referee net.onnx BkgOnly.json --points yields.csv --csv all.csv
  palletfit referee net.onnx BkgOnly.json --random 200 --range 0,20 \\
    --inputs SR,CR --yields signal --outputs nll_obs_1=0""",
)
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL")
@takes_likelihood()
@click.option(
    "--points",
    type=click.Path(path_type=Path),
    metavar="TABLE",
    help="Take the signals of a table, CSV or Parquet, with columns CHANNEL[BIN].",
)
@click.option("--random", type=click.IntRange(min=1), metavar="N", help="Draw so many signals.")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Seed of --random. Default: 1.")
@click.option(
    "--range",
    "value_ranges",
    multiple=True,
    metavar="[NAME=]LOW,HIGH",
    help="Fewest and most events of drawn signals, in all bins or in a channel or bin. May be "
    "given several times. Default: the training range, if the network's file has it.",
)
@click.option(
    "--yields-only",
    is_flag=True,
    help="Test signals of patches without their uncertainties, which a network does not see.",
)
@click.option(
    "--inputs",
    "input_names",
    multiple=True,
    metavar="NAME[,...]",
    help="Bins of the network's inputs, in order: CHANNEL[BIN], or CHANNEL for all of its bins.",
)
@click.option(
    "--yields",
    type=click.Choice(["signal", "total"]),
    help="Events of an input: of the signal, or of background and signal.",
)
@click.option(
    "--outputs",
    multiple=True,
    metavar="NLL=COLUMN[,...]",
    help="Columns of the network's outputs, counted from 0, by name: nll_obs_1 and others.",
)
@click.option(
    "--differences", is_flag=True, help="Outputs are differences to the NLL without signal."
)
@click.option("--twice", is_flag=True, help="Outputs are 2 NLL.")
@click.option(
    "--conventions",
    "conventions_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="YAML or JSON file that says all this, and the scaling of numbers.",
)
@click.option(
    "--worst", type=click.IntRange(min=0), default=5, help="So many worst points. Default: 5."
)
@click.option(
    "--csv", type=click.Path(path_type=Path), metavar="FILE", help="Write all points as CSV."
)
def command(
    inputs: Inputs,
    output: Output,
    *,
    model: Path,
    points: Path | None,
    random: int | None,
    seed: int,
    value_ranges: tuple[str, ...],
    yields_only: bool,
    conventions_file: Path | None,
    worst: int,
    csv: Path | None,
    **options: Any,
) -> int:
    """Compare the network MODEL, which stands for the likelihood WORKSPACE, with exact fits.

    Networks of SModelS say themselves what their inputs and outputs are.
    """
    import palletfit
    from palletfit.config import read_yaml

    if csv is not None:
        check_file(csv)
    conventions = {} if conventions_file is None else read_yaml(conventions_file)
    conventions |= _conventions(**options)
    arguments = inputs.arguments()
    sampled: dict[str, Any] = {"points": points, "random": random or 0, "seed": seed}
    ranges = _ranges(value_ranges)
    verdict = palletfit.referee(
        model,
        **{**arguments, **sampled},
        ranges=ranges,
        conventions=conventions,
        yields_only=yields_only,
    )
    title = f"{printable(model.name)}, {inputs.title}"
    if output.plain:
        network_settings = {
            "model": str(model),
            "conventions": conventions,
            "yields_only": yields_only,
            "ranges": ranges,
        }
        sampled["points"] = None if points is None else str(points)
        output.document(
            "referee",
            {**network_settings, **sampled, **inputs.settings},
            _entries(verdict),
            verdict.summary(),
        )
    else:
        click.echo(f"Learned likelihood: {title}")
        _echo(verdict, worst)
    if csv is not None:
        csv.parent.mkdir(parents=True, exist_ok=True)
        verdict.to_dataframe().to_csv(csv, index=False)

    def figures() -> list[Any]:
        from palletfit.learned.plots import draw_referee

        return draw_referee(verdict, title)

    output.draw(figures)
    return DONE if verdict.status == "ok" else NOT_TRUSTED


# --------------------------------------------------------------------------- options


def _conventions(
    *,
    input_names: tuple[str, ...],
    yields: str | None,
    outputs: tuple[str, ...],
    differences: bool,
    twice: bool,
) -> dict[str, Any]:
    """Give the conventions that are options."""
    columns: dict[str, int] = {}
    for text in (part for words in outputs for part in words.split(",")):
        name, _, column = text.partition("=")
        if not (name and column.isdecimal()):
            raise _wrong("--outputs", f"{text!r} is not NLL=COLUMN, such as nll_obs_1=0.")
        columns[name] = int(column)
    options = {
        "inputs": [name for words in input_names for name in words.split(",")],
        "yields": yields,
        "outputs": columns,
        "differences": differences,
        "twice": twice,
    }
    return {name: value for name, value in options.items() if value}


def _ranges(texts: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Read ranges of events by name, of all bins by a star."""
    ranges = {}
    for text in texts:
        name, _, numbers = text.rpartition("=")
        low, comma, high = numbers.partition(",")
        if not comma:
            raise _wrong("--range", f"{text!r} is not LOW,HIGH or NAME=LOW,HIGH.")
        try:
            pair = NUMBER.convert(low, None, None), NUMBER.convert(high, None, None)
        except click.BadParameter as error:
            raise _wrong("--range", error.message) from None
        if not pair[0] < pair[1]:
            raise _wrong("--range", f"{text!r} is empty.")
        ranges[name or "*"] = pair
    return ranges


def _wrong(option: str, message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint=f"'{option}'", ctx=click.get_current_context())


# --------------------------------------------------------------------------- text


def _echo(verdict: Any, worst: int) -> None:
    """Write counts, errors, verdicts and the worst points."""
    summary = verdict.summary()
    click.echo(_counts(summary))
    if verdict.errors:
        click.echo(_errors(verdict))
    for name in summary["verdicts"]:
        click.echo(_verdicts(verdict, name))
    shown = verdict.worst(worst)
    if shown:
        click.echo(_worst(shown))
    for remark in verdict.remarks[:_LISTED]:
        click.echo(wrapped(f"remark: {remark}"))
    missing = [point for point in verdict.points if point.status != "ok"]
    for point in missing[:_LISTED]:
        line = wrapped(f"{point.name or 'the workspace'} is {point.status}: {point.reason}")
        click.echo(coloured(point.status, line))
    if len(missing) > _LISTED:
        click.echo(f"and {len(missing) - _LISTED} more, which --csv and --json have")


def _counts(summary: dict[str, Any]) -> str:
    counts = [counted(summary["points"], "point"), f"{summary['compared']} compared"]
    counts += [f"{summary[name]} {name}" for name in ("suspect", "failed") if summary[name]]
    if summary["outside"] is not None:
        counts.append(f"{summary['outside']} outside of the training range")
    return ", ".join(counts)


def _errors(verdict: Any) -> str:
    rows = []
    for name, errors in verdict.errors.items():
        at_zero = verdict.at_zero.get(name)
        values = (errors.median, errors.percentile95, errors.largest, errors.mean)
        rows.append(
            [
                f"  {_TITLES.get(name, f'2 {name}')}",
                *map(_small, values),
                "" if name in _TITLES or not name.endswith("_1") else _small(at_zero),
                errors.worst,
            ]
        )
    titles = ["  error of", "median", "95%", "largest", "mean", "no signal", "worst point"]
    return lines_of(rows, titles, ranks=(0, 0, 0, 0, 2, 1, 3))


def _small(value: float | None) -> str:
    """Write an error; what rounding makes is written shortly."""
    return "-" if value is None else "0" if value == 0 else f"{value:.3g}"


def _verdicts(verdict: Any, name: str) -> str:
    count = len(verdict.compared)
    rows = []
    for kind in ("excluded", "allowed"):
        points = verdict.wrongly(kind, name)
        share = f"{100 * len(points) / count:.3g}%"
        names = ", ".join(point.name for point in points[:3])
        more = f" and {len(points) - 3} more" if len(points) > 3 else ""
        rows.append([f"  wrongly {kind}", str(len(points)), share, f"{names}{more}"])
    return lines_of(rows, [f"  {_TITLES[name]}", "points", "share", ""], ranks=(0, 0, 0, 1))


def _worst(points: list[Any]) -> str:
    rows = [
        [
            f"  {point.name}",
            point.verdict() or "-",
            number(point.exact.get("CLs_obs")),
            number(point.learned.get("CLs_obs")),
            _small(point.badness[1]),
            {True: "outside", False: "inside", None: "-"}[point.outside],
            _yields_of(point),
        ]
        for point in points
    ]
    titles = ["  worst", "verdict", "CLs exact", "learned", "2 NLL off", "range", "signal"]
    return lines_of(rows, titles, left=2, ranks=(0, 0, 0, 0, 0, 2, 1))


def _yields_of(point: Any) -> str:
    values = [f"{value:.4g}" for value in point.yields or ()]
    more = f" ... ({len(values)})" if len(values) > _YIELDS else ""
    return " ".join(values[:_YIELDS]) + more


def _entries(verdict: Any) -> list[dict[str, Any]]:
    """Make an entry of each point."""
    return [
        {
            "patch": point.name or None,
            "status": point.status,
            "reason": point.reason,
            "verdict": point.verdict() or None,
            "outside": point.outside,
            "yields": point.yields and dict(zip(verdict.inputs, point.yields, strict=True)),
            "exact": point.exact,
            "learned": point.learned,
        }
        for point in verdict.points
    ]
