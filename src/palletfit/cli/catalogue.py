"""Command ``palletfit catalogue``: list, search and show published likelihoods."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from palletfit.cli.output import lines_of, width
from palletfit.config.catalogue import (
    FORMATS,
    READ,
    STATES,
    Likelihood,
    catalogue,
    close_names,
    for_hepdata,
    search,
)
from palletfit.core.text import offer
from palletfit.errors import ConfigError

#: Columns of the table, and those that a narrow terminal has no room for, in this order.
_COLUMNS = ("name", "state", "experiment", "format", "analysis", "title")
_LEFT_OUT = ("analysis", "experiment", "format")
#: Space between columns.
_GAP = 2
#: Least width of the titles, which are cut.
_TITLE = 30
_UNKNOWN = "it is not known here which resource of the record that is"


@click.command(
    "catalogue",
    short_help="List published likelihoods.",
    epilog="""\b
Examples:
  palletfit catalogue
  palletfit catalogue two leptons
  palletfit catalogue staus
  palletfit catalogue --state fitted --json""",
)
@click.argument("words", nargs=-1)
@click.option(
    "--state", type=click.Choice(list(STATES)), help="Only likelihoods that are known so well."
)
@click.option("--experiment", metavar="NAME", help="Only likelihoods of this experiment.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option(
    "--hepdata",
    "address",
    metavar="ADDRESS",
    help="Print the list of fitted analyses that HEPData reads; ADDRESS is where their files are "
    "public, with {name} for the name.",
)
def command(
    *,
    words: tuple[str, ...],
    state: str | None,
    experiment: str | None,
    as_json: bool,
    address: str | None,
) -> None:
    """List the published likelihoods that are known, or those that have all WORDS.

    A single one is shown in full: the DOI, what is known of it, and what to type next. Names
    can be given to `palletfit inspect`, and to the workflow as `--config pallet=NAME`.
    """
    likelihoods = search(words, state=state, experiment=experiment)
    if not likelihoods:
        raise _no_match(words, state, experiment)
    if address is not None:
        fitted = {name: entry for name, entry in likelihoods.items() if entry.state == "fitted"}
        click.echo(json.dumps(for_hepdata(fitted, address), indent=2))
    elif as_json:
        click.echo(json.dumps(_content(likelihoods), indent=2))
    elif len(likelihoods) == 1:
        click.echo("\n".join(_record(*next(iter(likelihoods.items())), width())))
    else:
        click.echo("\n".join(_table(likelihoods, width())))


def _no_match(words: Sequence[str], state: str | None, experiment: str | None) -> ConfigError:
    """Explain that no likelihood fits, and offer close names."""
    conditions = [
        *([" ".join(words)] if words else []),
        *([f"--state {state}"] if state else []),
        *([f"--experiment {experiment}"] if experiment else []),
    ]
    hint = offer(name for word in words for name in close_names(word))
    experiments = dict.fromkeys(entry.experiment for entry in catalogue().values())
    return ConfigError(
        f"No likelihood of the catalogue fits: {', '.join(conditions)}.",
        remedy=f"{hint}`palletfit catalogue` without words lists all; experiments are "
        f"{', '.join(experiments)}.",
    )


def _content(likelihoods: Mapping[str, Likelihood]) -> dict[str, Any]:
    """Make the JSON document; keys that are not known are null or empty."""
    return {
        "states": STATES,
        "formats": FORMATS,
        "likelihoods": [
            {"name": name, **likelihood.model_dump(mode="json")}
            for name, likelihood in likelihoods.items()
        ],
    }


def _table(likelihoods: Mapping[str, Likelihood], columns: int) -> Iterator[str]:
    """Write a row for each likelihood, with as many columns as there is room for."""
    rows = [
        {"name": name, **{key: getattr(entry, key) or "-" for key in _COLUMNS[1:]}}
        for name, entry in likelihoods.items()
    ]
    shown = list(_COLUMNS)
    for key in _LEFT_OUT:
        if _room(rows, shown, columns) >= _TITLE:
            break
        shown.remove(key)
    room = max(_TITLE, _room(rows, shown, columns))
    cells = [
        [textwrap.shorten(row[key], room, placeholder=" ...") for key in shown] for row in rows
    ]
    yield lines_of(cells, shown, left=len(shown))
    yield ""
    for key in STATES:
        number = sum(entry.state == key for entry in likelihoods.values())
        if number:
            yield from _wrapped(f"{number:2} {key}: {STATES[key]}", columns, "   ")
    yield "`palletfit catalogue NAME` shows one in full."


def _room(rows: Sequence[Mapping[str, str]], shown: Sequence[str], columns: int) -> int:
    """Return the width that is left for the titles."""
    sizes = [max(len(key), *(len(row[key]) for row in rows)) for key in shown if key != "title"]
    return columns - sum(sizes) - _GAP * len(sizes)


def _record(name: str, likelihood: Likelihood, columns: int) -> Iterator[str]:
    """Write a likelihood in full."""
    yield from _wrapped(f"{name}: {likelihood.title} ({likelihood.experiment})", columns, "    ")
    facts = {
        "state": f"{likelihood.state}: {STATES[likelihood.state]}",
        "format": f"{likelihood.format}: {FORMATS[likelihood.format]}",
        "analysis": likelihood.analysis,
        "reference": likelihood.reference,
        "arXiv": likelihood.arxiv,
        "INSPIRE": likelihood.inspire and f"ins{likelihood.inspire}",
        "record": likelihood.record,
        "likelihood": likelihood.doi or (_UNKNOWN if likelihood.format in READ else None),
        "files": ", ".join(likelihood.files),
        "signal points": likelihood.points and str(likelihood.points),
        "labels": ", ".join(likelihood.labels),
        "planes": "; ".join(map(str, likelihood.planes)),
        "note": likelihood.note,
    }
    size = max(map(len, facts))
    for key, text in facts.items():
        if text:
            yield from _wrapped(f"  {key.ljust(size)}  {text}", columns, " " * (size + 4))
    for number, address in enumerate(likelihood.tables):
        yield f"  {('' if number else 'tables').ljust(size)}  {address}"
    yield ""
    yield "Next:"
    for line in _next(name, likelihood):
        yield f"  {line}"


def _next(name: str, likelihood: Likelihood) -> list[str]:
    """List what to type next."""
    if likelihood.format not in READ:
        return [
            f"convert it with its own program: https://doi.org/{likelihood.record}",
            "docs/inspect.md says which formats are read",
        ]
    if likelihood.doi is None:
        return [
            f"look for the likelihood among the resources of https://doi.org/{likelihood.record}",
            "palletfit inspect DOI-OF-THE-RESOURCE",
        ]
    lines = [f"palletfit inspect {name}"]
    return [*lines, f"snakemake --profile profiles/local --config pallet={name}"]


def _wrapped(text: str, columns: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        max(columns, 40),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
