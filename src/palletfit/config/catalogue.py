"""Catalogue of published likelihoods: its table, and the likelihoods that names in it mean.

The table is ``catalogue.yaml`` beside this module, so that an installed package has it, too.
:mod:`palletfit.config.schema` generates ``docs/catalogue.md`` of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from palletfit.config.base import Model, Name, parse
from palletfit.config.files import read_yaml
from palletfit.core.version import __version__
from palletfit.errors import ConfigError

#: The table.
TABLE = Path(__file__).with_name("catalogue.yaml")

#: States of a likelihood, the best known first, and their meaning.
STATES = {
    "fitted": "all of its signal points were fitted with palletfit, from the published files",
    "background": "a background-only workspace of it, which another program ships, was read with "
    "palletfit; the published archive never was",
    "layout": "names of its files are known from programs that read it, or from copies of it; "
    "palletfit never read any of them",
    "listed": "it is known that it was published, and not which files it has; palletfit never read "
    "it",
    "foreign": "its format is one that palletfit does not read",
}

#: Formats of a likelihood, and their meaning.
FORMATS = {
    "patchset": "background-only workspaces with patchsets of signals",
    "workspace": "complete workspaces, with their signal",
    "HistFactory": "JSON of HistFactory; not known here if with patchsets or complete",
    "HS3": "documents of the HEP Statistics Serialization Standard",
    "Combine": "datacards of Combine, with ROOT files",
}

#: Formats that palletfit reads.
READ = ("patchset", "workspace", "HistFactory", "HS3")

State = Literal["fitted", "background", "layout", "listed", "foreign"]
Format = Literal["patchset", "workspace", "HistFactory", "HS3", "Combine"]
Doi = Annotated[str, Field(pattern=r"^10\.[0-9]{4,9}/\S+$")]


class CataloguePlane(Model):
    """Axes of a plane, as in an analysis file."""

    x: str
    """Expression of the labels for the horizontal axis."""
    y: str
    """Expression of the labels for the vertical axis."""
    select: str | None = None
    """Condition on the points of the plane."""

    def __str__(self) -> str:
        condition = f" where {self.select}" if self.select else ""
        return f"{self.y} against {self.x}{condition}"


class Likelihood(Model):
    """A published likelihood. What is not known is left out."""

    experiment: str
    """Collaboration that published it."""
    title: str
    """Short description."""
    state: State
    """Knowledge of it here."""
    format: Format
    """Format of its files."""
    record: Doi
    """DOI of the record."""
    doi: Annotated[str, Field(pattern=r"^10\.[0-9]{4,9}/\S+\.v[0-9]+/r[0-9]+$")] | None = None
    """DOI of the resource of the record that is the likelihood; none: not known here."""
    analysis: str | None = None
    """Name that the experiment gives to the analysis."""
    inspire: Annotated[int, Field(ge=1)] | None = None
    """Number of the publication in INSPIRE."""
    arxiv: Annotated[str, Field(pattern=r"^[0-9]{4}\.[0-9]{5}$")] | None = None
    """Number of the publication in arXiv."""
    reference: str | None = None
    """Journal, volume and page of the publication."""
    file: Name | None = None
    """Name of an analysis file in `config/analyses`."""
    files: list[str] = []
    """Names of files in the archive, often not all."""
    points: Annotated[int, Field(ge=1)] | None = None
    """Number of signal points."""
    labels: list[str] = []
    """Labels of its points."""
    planes: list[CataloguePlane] = []
    """Planes of its points."""
    tables: list[str] = []
    """Addresses of the experiment's contours and limits."""
    note: str | None = None
    """Further facts."""

    @model_validator(mode="after")
    def _consistent(self) -> Likelihood:
        if self.doi is not None and not self.doi.startswith(f"{self.record}.v"):
            raise ValueError(f"doi is no resource of the record {self.record}")
        if (self.state == "foreign") == (self.format in READ):
            raise ValueError(f"the format {self.format} does not fit the state {self.state}")
        if self.state == "fitted" and not (self.doi and self.file and self.labels and self.files):
            raise ValueError("the state fitted needs doi, file, files and labels")
        if self.state == "layout" and not self.files:
            raise ValueError("the state layout needs files")
        if self.state == "listed" and self.files:
            raise ValueError("the state listed has no files: they are known, so it is layout")
        return self


class Catalogue(Model):
    """All likelihoods of the catalogue."""

    likelihoods: dict[Name, Likelihood]
    """The likelihoods, by their name."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Catalogue:
        owners: dict[str, str] = {}
        for name, likelihood in self.likelihoods.items():
            identifiers = [*aliases(name, likelihood), likelihood.record, likelihood.doi]
            for text in filter(None, identifiers):
                owner = owners.setdefault(text.casefold(), name)
                if owner != name:
                    raise ValueError(f"{text} means both {owner} and {name}")
        return self


@cache
def catalogue() -> dict[str, Likelihood]:
    """Read the table: likelihoods by their name.

    Raises
    ------
    ConfigError
        The table is wrong.
    """
    return parse(Catalogue, read_yaml(TABLE), file=TABLE).likelihoods


def aliases(name: str, likelihood: Likelihood) -> list[str]:
    """List the names of a likelihood: its own, the experiment's, and that of its record."""
    further = [
        likelihood.analysis,
        None if likelihood.inspire is None else f"ins{likelihood.inspire}",
    ]
    return [name, *(alias for alias in further if alias is not None)]


def named(text: str) -> str | None:
    """Return the name of the likelihood that a text names, in capitals or not; None: no name."""
    folded = text.strip().casefold()
    for name, likelihood in catalogue().items():
        if folded in (alias.casefold() for alias in aliases(name, likelihood)):
            return name
    return None


def close_names(text: str) -> list[str]:
    """List up to three names of likelihoods that are close to a text."""
    names = {
        alias.casefold(): alias
        for name, likelihood in catalogue().items()
        for alias in aliases(name, likelihood)
    }
    close = difflib.get_close_matches(text.strip().casefold(), names, n=3, cutoff=0.6)
    return [names[alias] for alias in close]


def search(
    words: Iterable[str] = (), *, state: str | None = None, experiment: str | None = None
) -> dict[str, Likelihood]:
    """Search likelihoods.

    Parameters
    ----------
    words
        Names of likelihoods; or texts that are all in a likelihood's names, title, experiment,
        format, DOIs or number in arXiv. Capitals do not matter.
    state, experiment
        Those of the likelihoods; None: any.

    Returns
    -------
    dict
        Likelihoods by their name, in the order of the catalogue; empty if there are none.
    """
    folded = [word.casefold() for word in words]
    names = {named(word) for word in folded}
    all_are_names = bool(names) and None not in names
    return {
        name: likelihood
        for name, likelihood in catalogue().items()
        if state in (None, likelihood.state)
        and (experiment is None or experiment.casefold() == likelihood.experiment.casefold())
        and (name in names if all_are_names else _has_all(folded, _words(name, likelihood)))
    }


def _words(name: str, likelihood: Likelihood) -> str:
    texts: Sequence[str | None] = [
        *aliases(name, likelihood),
        likelihood.title,
        likelihood.experiment,
        likelihood.format,
        likelihood.record,
        likelihood.doi,
        likelihood.arxiv,
    ]
    return "\n".join(filter(None, texts)).casefold()


def _has_all(words: Iterable[str], text: str) -> bool:
    return all(word in text for word in words)


def for_hepdata(likelihoods: Mapping[str, Likelihood], address: str) -> dict[str, Any]:
    """Make the list of analyses from which HEPData links to a tool, in its schema 1.0.0.

    Only analyses whose publication has a number in INSPIRE are in it.

    Parameters
    ----------
    likelihoods
        Likelihoods that were fitted, by their name.
    address
        Public address of what was made of one, with ``{name}`` for the name of its analysis.

    Raises
    ------
    ConfigError
        The address is none, or there is no such analysis.
    """
    if not address.startswith("https://") or "{name}" not in address:
        raise ConfigError(
            f"{address!r} is no address of analysis files.",
            remedy="Give the public address of config/analyses, such as "
            "https://example.org/palletfit/config/analyses/{name}.yaml.",
        )
    analyses = [
        {
            "inspire_id": likelihood.inspire,
            "pretty_name": likelihood.title,
            "implementations": [{"name": likelihood.file}],
        }
        for likelihood in likelihoods.values()
        if likelihood.inspire is not None
    ]
    if not analyses:
        raise ConfigError(
            "None of these likelihoods was fitted, so there is nothing to list for HEPData.",
            remedy="Leave out the words and options that choose.",
        )
    return {
        "schema_version": "1.0.0",
        "tool": "palletfit",
        "version": __version__,
        "date_created": datetime.now(UTC).isoformat(timespec="seconds"),
        "implementations_description": "palletfit analysis",
        "url_templates": {"main_url": address},
        "analyses": analyses,
        "implementations_license": {
            "name": "apache-2.0",
            "url": "https://www.apache.org/licenses/LICENSE-2.0",
        },
    }


def resource(name: str) -> str:
    """Return the DOI of the resource of a likelihood.

    Raises
    ------
    ConfigError
        It is not known, or its format is none that palletfit reads.
    """
    likelihood = catalogue()[name]
    if likelihood.format not in READ:
        raise ConfigError(
            f"The likelihood {name} consists of {FORMATS[likelihood.format]}, which palletfit does "
            "not read.",
            remedy="Convert it with the program that it is for; docs/inspect.md says which formats "
            "are read.",
            file=f"https://doi.org/{likelihood.record}",
        )
    if likelihood.doi is None:
        raise ConfigError(
            f"The catalogue does not know which resource of its record is the likelihood {name}.",
            remedy="Look it up among the resources of the record, and give its DOI, such as "
            f"{likelihood.record}.v1/r1, or fetch the file and give its path.",
            file=f"https://doi.org/{likelihood.record}",
        )
    return likelihood.doi
