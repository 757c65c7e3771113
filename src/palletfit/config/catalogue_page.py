"""The page of the catalogue, ``docs/catalogue.md``, generated from its table and its models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from palletfit.config.catalogue import FORMATS, STATES, Likelihood, catalogue

_INTRODUCTION = """\
# Catalogue of published likelihoods

`palletfit catalogue` lists the published likelihoods that are known, and what is known of each.
This page is generated from the same table, `src/palletfit/config/catalogue.yaml`, by `make schema`.

```
palletfit catalogue                    # all
palletfit catalogue two leptons        # those that have all of these words
palletfit catalogue staus              # one in full, and what to type next
palletfit catalogue --state fitted     # also --experiment NAME, and --json for programs
```

A name can be given wherever a source can:

```
palletfit inspect 2Ljets --write mine.yaml
snakemake --profile profiles/local --config pallet=staus
```

`ATLAS-SUSY-2018-04` and `ins1765529`, the number in INSPIRE, mean the same as `staus`.
A local file or folder of the same name goes before the catalogue.
A name with a file in `config/analyses` runs that file.
Any other is inspected, as its DOI would be: [inspect.md](inspect.md).

## States

The catalogue was made on a machine without internet.
So only the likelihoods in the state `fitted` were ever run.
All others are to be tried, and `palletfit inspect` is the first step.
"""

_FACTS = """\
A title is a short description, and not that of the publication.
The DOI is that of the resource, which `palletfit inspect` takes.
Where it is not known, there is the DOI of the record instead, with the word *record*.
`palletfit inspect` then says where to look.
"""

_ADDING = """\
## Links from HEPData

HEPData links its records to tools that use them, and reads from each tool a list of analyses.
`palletfit catalogue --hepdata ADDRESS` prints such a list of the analyses in the state `fitted`.
ADDRESS says where the analysis files are public, with `{name}` for their name.

## A site of results

```
snakemake --profile profiles/local --config analyses=1Lbb,staus,sbottom -- catalogue
```

The target `catalogue` makes one static site of all selected analyses, in `results/_catalogue/`.
Open `index.html` there, or put the folder on any web server.
It has no script, asks for nothing elsewhere, and follows the dark mode of the reader.

The page of an analysis has its contours, their distance to the published ones, and all points.
It also says how minima were proven: how many starts agree, and how far a fit is from its minimum.
Each minimum that is not trusted is named.
The index lists what was fitted, and likelihoods of the catalogue that were not.

Results that are missing are made first.
With `download.offline` an analysis without results and without an archive is left out.
The index says so, and the site can be made from results alone.
Upper limits are on it if they were made before.

With `--config catalogue='{address: https://example.org/site}'` the site has `hepdata.json`.
That is the list that HEPData reads, with links to the site's pages.

## Adding a likelihood

Add it to `src/palletfit/config/catalogue.yaml`, and run `make schema`.
The table is in the package, and not in `config/`, because an installed package has no `config/`.
Write only what you read somewhere, and leave out the rest.
Once all points are fitted, add an [analysis file](analyses.md#adding-an-analysis).
Then the state is `fitted`.
"""


def page() -> str:
    """Generate the page."""
    likelihoods = catalogue()
    number = {key: sum(entry.state == key for entry in likelihoods.values()) for key in STATES}
    states = [(f"`{key}`", str(number[key]), text) for key, text in STATES.items()]
    formats = [(f"`{key}`", text) for key, text in FORMATS.items()]
    rows = [_row(name, likelihood) for name, likelihood in likelihoods.items()]
    lines = [
        _INTRODUCTION,
        *_table(("state", "likelihoods", "meaning"), states),
        "## Likelihoods\n",
        _FACTS,
        *_table(("name", "title", "analysis or experiment", "state", "format", "DOI"), rows),
        *_table(("format", "meaning"), formats),
        _ADDING,
    ]
    return "\n".join(lines)


def _row(name: str, likelihood: Likelihood) -> tuple[str, ...]:
    doi = likelihood.doi or likelihood.record
    address = f"[{doi}](https://doi.org/{doi}){'' if likelihood.doi else ' (record)'}"
    analysis = likelihood.analysis or likelihood.experiment
    return f"`{name}`", likelihood.title, analysis, likelihood.state, likelihood.format, address


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
