"""Inspection of a source: all that was found in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palletfit.config import DownloadSettings
from palletfit.errors import ConfigError, PalletError
from palletfit.pallet.inspection import sources, table, writing
from palletfit.pallet.inspection.finding import Document, recognise
from palletfit.pallet.inspection.pairing import Pairing, pair
from palletfit.pallet.inspection.proposal import Proposal, propose


@dataclass(frozen=True, repr=False)
class Inspection:
    """Content of a source of likelihoods, and analyses that are proposed for it.

    Attributes
    ----------
    source
        As it was given.
    documents
        All files, in the order of the source.
    pairing
        Workspaces and the patches that belong to them, and what belongs to nothing.
    proposals
        One analysis for each signal model, and one of all complete workspaces.
    remarks
        What is ambiguous or doubtful.
    """

    source: str
    documents: Sequence[Document]
    pairing: Pairing
    proposals: Sequence[Proposal]
    remarks: Sequence[str]

    def __repr__(self) -> str:
        kinds = Counter(document.kind for document in self.documents)
        counts = ", ".join(f"{kind}: {count}" for kind, count in kinds.items())
        return f"<Inspection of {self.source}: {counts}; {len(self.pairing.pairs)} likelihoods>"

    def table(self, width: int = 100) -> str:
        """Describe all of it as a text.

        Parameters
        ----------
        width
            Columns of the terminal.
        """
        return table.text(self, width)

    def as_json(self) -> dict[str, Any]:
        """Describe all of it for programs."""
        return table.as_json(self)

    def analysis(self, name: str | None = None) -> dict[str, Any]:
        """Return the content of a proposed analysis file.

        Parameters
        ----------
        name
            Name of the analysis; none: the only one.

        Raises
        ------
        ConfigError
            There is no such analysis, or there are several.
        """
        chosen = [entry for entry in self.proposals if name in (None, entry.name)]
        if len(chosen) != 1:
            names = ", ".join(entry.name for entry in self.proposals)
            raise ConfigError(
                f"There is no analysis {name!r}."
                if name is not None
                else f"There are {len(self.proposals)} analyses in {self.source}.",
                remedy=f"Name one of {names}."
                if names
                else "There is no likelihood that the workflow runs: read what the table says.",
            )
        data: Mapping[str, Any] = chosen[0].data
        return {"name": chosen[0].name, **data}

    def write(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write a commented analysis file for each proposal, and return the files.

        Raises
        ------
        ConfigError
            See :func:`palletfit.pallet.inspection.writing.write`.
        """
        return writing.write(self.proposals, Path(path), overwrite=overwrite)


def inspect(
    source: str | Path,
    *,
    any_digest: bool = False,
    name: str | None = None,
    settings: DownloadSettings | None = None,
) -> Inspection:
    """Find the likelihoods in a source, and propose analyses of them.

    Parameters
    ----------
    source
        DOI of a HEPData resource, address, archive, folder, file, or name of the catalogue.
    any_digest
        Take patchsets without a digest of their workspace, or with a wrong one, by what applies.
    name
        Name of the analysis; none: that of the source.
    settings
        Download cache, and limits of archives.

    Returns
    -------
    Inspection
        All files with their kinds, pairs of workspace and patches, and proposals.

    Raises
    ------
    ArchiveError
        An archive is hostile or damaged.
    ConfigError, DownloadError
        The source does not exist, or cannot be fetched.
    """
    limits = settings or DownloadSettings()
    with sources.opened(source, limits) as opened:
        if name is not None:
            opened = sources.renamed(opened, name)
        documents = [recognise(file) for file in sources.files(opened, limits)]
        if not documents:
            raise PalletError(
                "There is no file in it.", remedy="Check the source.", file=opened.text
            )
        pairing = pair(documents, any_digest=any_digest)
        proposals, remarks = propose(opened, documents, pairing.pairs, pairing.alone)
    return Inspection(opened.text, documents, pairing, proposals, [*pairing.remarks, *remarks])
