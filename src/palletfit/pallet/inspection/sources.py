"""Sources of likelihoods: open them, and read the files in them at all depths."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from palletfit.config import DownloadSettings, Pallet
from palletfit.config.catalogue import close_names, named, resource
from palletfit.core.text import offer
from palletfit.errors import ArchiveError, ConfigError, PalletfitError
from palletfit.pallet.archive import NESTING
from palletfit.pallet.folders import folder_files
from palletfit.pallet.members import (
    HEAD_BYTES,
    Budget,
    DamagedArchiveError,
    archive_format,
    checked_members,
    decompress,
    decompressed,
    looks_like_json,
    read_head,
    reading,
    store,
)

_DOI = re.compile(r"(?:doi:|https?://(?:dx\.)?doi\.org/)?(10\.[0-9]{4,9}/\S+)", re.IGNORECASE)
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
#: Endings of files, and words at the end of their names, that say nothing about an analysis.
_ENDING = re.compile(r"(\.(tar|gz|tgz|bz2|xz|zip|json|archive))+$", re.IGNORECASE)
_WORDS = re.compile(
    r"([-_. ]?(json|pyhf|hepdata|likelihoods?|workspaces?|pallet))+$", re.IGNORECASE
)
#: Formats that compress one file, an archive or not.
_COMPRESSED = ("gzip", "bzip2", "xz")


@dataclass(frozen=True)
class Source:
    """Opened source.

    Attributes
    ----------
    text
        As the user gave it.
    path
        A local file or folder.
    pallet
        The section `pallet` of an analysis file, without digests.
    name
        Name of an analysis, as far as the name of the source tells.
    """

    text: str
    path: Path
    pallet: dict[str, Any]
    name: str


@dataclass(frozen=True)
class File:
    """A file of a source.

    Attributes
    ----------
    name
        Its name, with those of the archives that it is in, as an analysis file has it.
    head
        Its first bytes, decompressed.
    path
        Its content, decompressed; None if only JSON is read, and it is none. The content is there
        until the next file is read.
    sha256
        Digest of the content.
    problem
        Reason for which it cannot be read, if there is one.
    archive
        Name of the archive within the source that it is in, if there is one; of several in one
        another, the outermost.
    """

    name: str
    head: bytes
    path: Path | None = None
    sha256: str = ""
    problem: str = ""
    archive: str = ""


@contextmanager
def opened(source: str | Path, settings: DownloadSettings) -> Iterator[Source]:
    """Open a source; what is fetched for it is removed afterwards.

    Parameters
    ----------
    source
        A DOI, an address, the path of an archive, a folder or a file, or a name of the catalogue.
        A file goes before a name.
    settings
        The download cache, and the limits.

    Raises
    ------
    ConfigError
        There is no such file or name, the catalogue does not know the DOI of the name, or fetching
        needs packages that are not installed.
    DownloadError
        It cannot be fetched.
    """
    text = str(source).strip()
    if not text:
        raise ConfigError(
            "The source is empty.",
            remedy="Give a DOI, an address, or the path of a file or folder.",
        )
    doi = _DOI.fullmatch(text)
    if doi is not None and not Path(text).exists():
        with _published(doi[1], settings) as (path, pallet):
            yield Source(text, path, pallet, plain_name(doi[1].partition("/")[2]))
    elif _ADDRESS.match(text):
        file = unquote(urlsplit(text).path.rpartition("/")[2]) or "archive"
        pallet = {"url": text, "archive": plain_name(file)}
        with _fetched(pallet, settings) as path:
            yield Source(text, path, pallet, analysis_name(file))
    elif (path := Path(text).expanduser()).exists():
        yield Source(text, path, {"path": str(path)}, analysis_name(path.resolve().name))
    elif (name := named(text)) is not None:
        with _published(resource(name), settings) as (path, pallet):
            yield Source(f"{name} ({pallet['doi']})", path, pallet, name)
    else:
        raise ConfigError(
            f"There is no file or folder {text!r}, and no likelihood of this name.",
            remedy=f"{offer(close_names(text))}"
            "Give a path, an address that begins with https://, a DOI such as "
            "10.17182/hepdata.90607.v3/r3, or a name that `palletfit catalogue` lists.",
        )


@contextmanager
def _published(doi: str, settings: DownloadSettings) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Fetch a resource; its name in the cache is that of its DOI."""
    pallet = {"doi": doi, "archive": f"{plain_name(doi.partition('/')[2])}.archive"}
    with _fetched(pallet, settings) as path:
        yield path, pallet


@contextmanager
def _fetched(pallet: dict[str, Any], settings: DownloadSettings) -> Iterator[Path]:
    try:
        from palletfit.pallet.download import fetch_pallet
    except ImportError as error:
        raise ConfigError(
            f"Fetching needs the package {error.name}, which is not installed.",
            remedy="Install palletfit[workflow], or fetch the file by other means and give its "
            "path.",
        ) from None
    with tempfile.TemporaryDirectory(prefix="palletfit-") as folder:
        destination = Path(folder) / pallet["archive"]
        yield fetch_pallet(Pallet(**pallet), destination, settings, analysis=pallet["archive"])


def renamed(source: Source, name: str) -> Source:
    """Give the analysis of a source another name.

    Raises
    ------
    ConfigError
        It cannot be the name of an analysis.
    """
    if plain_name(name) != name:
        raise ConfigError(
            f"{name!r} cannot be the name of an analysis.",
            remedy=f"Use letters, digits and _ . + -, such as {plain_name(name)!r}.",
        )
    return replace(source, name=name)


def analysis_name(file: str) -> str:
    """Make the name of an analysis from that of a file or folder."""
    stem = _ENDING.sub("", file)
    return plain_name(_WORDS.sub("", stem) or stem)


def plain_name(text: str) -> str:
    """Make a name of an analysis or a region from any text."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).strip("-_.+") or "analysis"


def files(source: Source, settings: DownloadSettings) -> Iterator[File]:
    """Read the files of a source at all depths, in its order.

    Raises
    ------
    ArchiveError
        An archive is refused, or the source itself is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="palletfit-") as scratch:
        walk = _Walk(Path(scratch), Budget(settings))
        if source.path.is_dir():
            for path in folder_files(source.path):
                name = path.relative_to(source.path).as_posix()
                walk.budget.charge(source.path, path.stat().st_size, members=1)
                yield from walk.file(path, name, 1)
        else:
            yield from walk.top(source.path, source.pallet.get("archive") or source.path.name)


class _Walk:
    """Reads files, with a scratch folder in which their contents have numbers as names."""

    def __init__(self, scratch: Path, budget: Budget) -> None:
        self.scratch = scratch
        self.budget = budget
        self.count = 0

    def top(self, path: Path, name: str) -> Iterator[File]:
        """Read a source that is one file; an archive's members have names without its own."""
        with reading(path):
            kind, head = _format(path)
        if kind == "archive":
            yield from self.members(path, path, "", 1)
        else:
            yield from self.content(path, name, kind, head)

    def file(self, path: Path, name: str, depth: int) -> Iterator[File]:
        """Read a file, or what is in it."""
        try:
            with reading(path):
                kind, head = _format(path)
            if kind == "archive":
                for file in self.members(path, Path(name), f"{name}/", depth):
                    yield replace(file, archive=name)
            else:
                yield from self.content(path, name, kind, head)
        except DamagedArchiveError as error:
            yield File(name, b"", problem=error.problem)

    def members(self, path: Path, title: Path, prefix: str, depth: int) -> Iterator[File]:
        """Read the members of an archive."""
        if depth > NESTING:
            raise ArchiveError(
                f"The archive is refused: it is the {depth}th of archives in one another.",
                remedy=f"Unpack it by hand if you trust it: {NESTING} levels are read.",
                file=title,
            )
        try:
            with reading(path), closing(checked_members(path, self.budget)) as members:
                for member in members:
                    if not member.is_file or member.is_junk:
                        continue
                    name = f"{prefix}{member.path}"
                    with member.open() as content:
                        head = content.read(HEAD_BYTES)
                        if archive_format(head) is None and not looks_like_json(head):
                            yield File(name, head)
                            continue
                        target = self.target()
                        store(content, target, member, head)
                    yield from self.file(target, name, depth + 1)
                    target.unlink()
        except PalletfitError as error:
            if error.file != str(path) or path == title:
                raise
            raise type(error)(error.problem, remedy=error.remedy, file=title) from None

    def content(self, path: Path, name: str, kind: str | None, head: bytes) -> Iterator[File]:
        """Give a file that is no archive."""
        if not looks_like_json(head):
            yield File(name, head)
            return
        target = path
        if kind is not None:
            target = self.target()
            with reading(path):
                decompress(path, target, kind, self.budget, Path(name))  # type: ignore[arg-type]
        yield File(name, head, target, _sha256(target))
        if target != path:
            target.unlink()

    def target(self) -> Path:
        """Name the next file of the scratch folder."""
        self.count += 1
        return self.scratch / str(self.count)


def _format(path: Path) -> tuple[str | None, bytes]:
    """Return ``archive``, the compression of a file that is none, or None; and its first bytes."""
    head = read_head(path)
    kind = archive_format(head)
    if kind not in _COMPRESSED:
        return (None if kind is None else "archive"), head
    with decompressed(path, kind) as stream:
        head = stream.read(HEAD_BYTES)
    return ("archive" if archive_format(head) == "tar" else kind), head


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
