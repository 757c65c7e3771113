"""Models of the service: likelihoods that were named when it started, and no others."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palletfit.config import DownloadSettings
from palletfit.config.catalogue import named
from palletfit.core.files import write_atomically
from palletfit.core.text import did_you_mean, printable
from palletfit.errors import ConfigError, PalletError, PalletfitError
from palletfit.pallet.hs3 import read_workspace
from palletfit.pallet.patchset import check_workspace
from palletfit.serve.work import ModelFile

if TYPE_CHECKING:
    from palletfit.pallet.inspection.finding import Document

logger = logging.getLogger(__name__)

#: Endings of files in which the name of a model ends.
_ENDINGS = (".gz", ".bz2", ".xz", ".json")
#: So many names are listed in an error, and characters of one.
_LISTED, _TITLE = 8, 100


@dataclass(frozen=True)
class Named:
    """Likelihood with a name.

    Attributes
    ----------
    name
        Name in requests.
    source
        File of a workspace or HS3 document; or any source that ``palletfit inspect`` takes, whose
        workspaces are then ``NAME/REGION``, if there are several.
    """

    name: str
    source: str

    @property
    def is_file(self) -> bool:
        """True if the source is a JSON file, which holds one workspace."""
        path = Path(self.source)
        return path.is_file() and ".json" in path.suffixes

    @classmethod
    def of(cls, text: str) -> Named:
        """Read ``NAME=SOURCE``, or a source whose name is that of its file.

        Examples
        --------
        >>> Named.of("1Lbb=files/BkgOnly.json")
        Named(name='1Lbb', source='files/BkgOnly.json')
        >>> Named.of("files/BkgOnly.json.gz").name
        'BkgOnly'
        """
        name, equals, source = text.partition("=")
        if equals and not Path(text).exists():
            if not name or not source:
                raise ConfigError(
                    f"{text!r} is not NAME=SOURCE.",
                    remedy="Write the name, and the file of its workspace, such as "
                    "1Lbb=BkgOnly.json.",
                )
            return cls(name, source)
        name = Path(text).name
        for ending in _ENDINGS:
            name = name.removesuffix(ending)
        return cls(named(text) or name or text, text)


class Models:
    """Models by name, each read and checked once.

    Parameters
    ----------
    sources
        Likelihoods and their names.
    folder
        Private folder for copies, which workers read: a file may change while the service runs.
    lazy
        Read a file at the first request for it, not now.
    check
        Check workspaces against pyhf's schema.
    largest
        Largest number of models.
    download
        Cache of downloads, and limits of archives.

    Raises
    ------
    ConfigError
        A name is there twice, or there are too many models.
    PalletfitError
        A source is not what it should be.
    """

    def __init__(
        self,
        sources: Sequence[Named],
        folder: Path,
        *,
        lazy: bool = False,
        check: bool = True,
        largest: int = 64,
        download: DownloadSettings | None = None,
    ) -> None:
        self._folder, self._check, self._largest = folder, check, largest
        self._files: dict[str, ModelFile] = {}
        self._later: dict[str, Named] = {}
        self._lock = threading.Lock()
        for source in sources:
            if source.is_file:
                self._refuse_second(source.name)
                self._later[source.name] = source
            else:
                for name, content, file in _workspaces(source, download or DownloadSettings()):
                    self._refuse_second(name)
                    self._keep(name, content, file)
        if not lazy:
            for name in [*self._later]:
                self.file(name)

    @property
    def names(self) -> list[str]:
        """Names of all models, in alphabetical order."""
        return sorted({*self._files, *self._later})

    def check_name(self, name: str | None) -> str:
        """Give the name of the model that a request means.

        Raises
        ------
        PalletError
            There is no such model, or several and none is named.
        """
        names = self.names
        if name is None and len(names) == 1:
            return names[0]
        if name in names:
            return name
        listed = ", ".join(names[:_LISTED]) + (" and more" if len(names) > _LISTED else "")
        raise PalletError(
            "The request names no `workspace`, and there are several."
            if name is None
            else f"There is no workspace {name[:_TITLE]!r}.",
            remedy=f"{did_you_mean((name or '')[:_TITLE], names)}The service knows {listed}.",
        )

    def present(self, name: str) -> ModelFile | None:
        """Give the copy of a model that was read."""
        return self._files.get(name)

    def file(self, name: str) -> ModelFile:
        """Give the copy of a model for workers; read what has not been read.

        Raises
        ------
        PalletfitError
            The file is not what it should be.
        """
        with self._lock:
            if name not in self._files:
                path = Path(self._later[name].source)
                self._keep(name, read_workspace(path), path)
                del self._later[name]
            return self._files[name]

    def _refuse_second(self, name: str) -> None:
        if name in self.names:
            raise ConfigError(
                f"Two models have the name {name!r}.", remedy="Name them with NAME=SOURCE."
            )
        if len(self.names) >= self._largest:
            raise ConfigError(
                f"There are more than {self._largest} models.",
                remedy="Name fewer sources, or allow more with --models.",
            )

    def _keep(self, name: str, content: Any, file: Path) -> None:
        if self._check:
            _check(content, file)
        text = json.dumps(content).encode()
        digest = hashlib.sha256(text).hexdigest()
        path = self._folder / f"{digest}.json"
        write_atomically(path, text, durable=False)
        self._files[name] = ModelFile(name, path, digest)
        logger.info("model %s: %s", printable(name), printable(str(file)))


def _check(content: Any, file: Path) -> None:
    if isinstance(content, dict) and "patches" in content and "channels" not in content:
        raise PalletError(
            "The file is a patchset, and not a workspace.",
            remedy="Name its background-only workspace; patches come with requests.",
            file=file,
        )
    check_workspace(content, file)


def _workspaces(source: Named, settings: DownloadSettings) -> Iterator[tuple[str, Any, Path]]:
    """Give names, contents and files of the workspaces in an archive, folder or published record.

    Raises
    ------
    PalletfitError
        The source cannot be read, or there is no workspace in it.
    """
    from palletfit.pallet.inspection.finding import recognise
    from palletfit.pallet.inspection.sources import files, opened

    with opened(source.source, settings) as open_source:
        documents: list[Document] = []
        contents: dict[str, Any] = {}
        for file in files(open_source, settings):
            document = recognise(file)
            if document.workspace is not None and file.path is not None:
                contents[document.name] = read_workspace(file.path)
            documents.append(document)
        if not contents:
            raise PalletError(
                "There is no workspace in it.",
                remedy="`palletfit inspect` says what is in it.",
                file=open_source.text,
            )
        regions = _regions(open_source, documents) if len(contents) > 1 else {}
        for name, content in contents.items():
            region = regions.get(name, name)
            title = source.name if len(contents) == 1 else f"{source.name}/{region}"
            yield title, content, Path(f"{name} in {open_source.text}")


def _regions(source: Any, documents: Sequence[Document]) -> dict[str, str]:
    """Name the workspaces of a source as ``palletfit inspect`` names their regions."""
    from palletfit.pallet.inspection.pairing import pair
    from palletfit.pallet.inspection.proposal import propose

    try:
        pairing = pair(documents, any_digest=True)
        proposals, _ = propose(source, documents, pairing.pairs, pairing.alone)
    except PalletfitError:
        return {}  # the names of the files will do
    names: dict[str, str] = {}
    for proposal in proposals:
        of_pairs = {region: entry.workspace for region, entry in proposal.pairs.items()}
        for region, document in {**of_pairs, **proposal.complete}.items():
            names.setdefault(document.name, region)
    return names if len(set(names.values())) == len(names) else {}
