"""Unpack the requested files of a pallet's archive.

A file appears at its destination only after all of them were checked. An archive in an archive is
like a folder in it: ``likelihoods.tgz/BkgOnly.json`` is a file of the inner one. A file that is
compressed alone (``BkgOnly.json.gz``) is its content. An "archive" that is one JSON file itself,
compressed or not, has that file under any name.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from palletfit.config import DownloadSettings
from palletfit.core.patterns import starred
from palletfit.core.text import did_you_mean
from palletfit.errors import ArchiveError, ConfigError
from palletfit.pallet.members import (
    Budget,
    Member,
    archive_format,
    checked_members,
    compressed_alone,
    decompress,
    is_archive,
    looks_like_json,
    read_head,
    reading,
    store,
    suspicious_name,
    writing,
)

#: Levels of archives in one another.
NESTING = 4


@dataclass(frozen=True)
class _Unpacked:
    """File in the scratch folder, and its digests: as it was packed, and of its content."""

    path: Path
    digests: frozenset[str]


def unpack(
    archive: Path,
    members: Iterable[str],
    destination: Path,
    settings: DownloadSettings,
    *,
    sha256: Mapping[str, str],
) -> dict[str, Path]:
    """Extract files of an archive and verify their digests.

    The format (tar, plain or compressed with gzip, bzip2 or xz; or zip) is recognised by content.
    A file is searched by its full name in the archive. If everything in the archive is in one
    folder, it is also searched by its name in that folder. A file that is compressed alone is
    decompressed.

    Parameters
    ----------
    archive
        The archive.
    members
        Names of files inside the archive. The name of a file in an inner archive begins with that
        of the inner archive and a slash.
    destination
        Folder the files are written to, each under its name in `members`. Files appear only
        after all of them were read and verified.
    settings
        Limits on the number of members and on the unpacked size in bytes.
    sha256
        Expected digests of files inside the archive; of a compressed file, or of its content. All
        of these files must exist; only those in `members` are verified.

    Returns
    -------
    dict
        Path of the extracted file for each of `members`.

    Raises
    ------
    ArchiveError
        The archive is damaged, too large, encrypted, has a suspicious member (a link, a device,
        a name that leads elsewhere), lacks a file, or a file has another digest.
    ConfigError
        A name in `members` leads out of `destination`.
    """
    names = list(dict.fromkeys(members))
    _check_names(names, archive)
    _require_file(archive)
    with reading(archive):
        level = _Level(archive, settings)
        located = level.locate(dict.fromkeys([*names, *sha256]))
        with writing(destination):
            destination.mkdir(parents=True, exist_ok=True)
            scratch = tempfile.TemporaryDirectory(dir=destination, prefix=".unpack-")
        with scratch as folder:
            unpacked = level.extract({name: located[name] for name in names}, Path(folder))
            for name, file in unpacked.items():
                _verify(str(located[name]), file.digests, sha256.get(name), archive)
            return {
                name: _move(unpacked[name].path, destination / PurePosixPath(name))
                for name in names
            }


def matching(archive: Path, pattern: str, settings: DownloadSettings) -> dict[str, str]:
    """List the files of an archive whose names match a pattern.

    Parameters
    ----------
    archive
        The archive.
    pattern
        Name with one ``*``, which stands for any characters, slashes included. Archives in the
        archive are like folders: the part before ``*`` may lead into them.
    settings
        Limits.

    Returns
    -------
    dict
        Names for :func:`unpack`, and the text that ``*`` stands for in each, in order.

    Raises
    ------
    ArchiveError
        No file matches, or the archive is damaged or suspicious.
    """
    _require_file(archive)
    with tempfile.TemporaryDirectory(prefix="palletfit-") as scratch, reading(archive):
        level = _Level(archive, settings)
        names = level.names_below(pattern.partition("*")[0], Path(scratch))
    matches = {name: text for name in sorted(names) if (text := starred(name, pattern)) is not None}
    if not matches:
        raise ArchiveError(
            f"No file of the archive matches {pattern!r}.",
            remedy="Correct `operations` in the analysis file; `palletfit inspect` lists files.",
            file=archive,
        )
    return matches


def _require_file(archive: Path) -> None:
    if not archive.is_file():
        raise ArchiveError(
            "There is no such archive.", remedy="Fetch it, or correct its path.", file=archive
        )


def _check_names(names: Iterable[str], archive: Path) -> None:
    for name in names:
        suspicion = "is empty" if not PurePosixPath(name).parts else suspicious_name(name)
        if suspicion is not None:
            raise ConfigError(
                f"The file name {name!r} inside an archive {suspicion}.",
                remedy="Correct it in the analysis file: names inside an archive are relative, "
                "with forward slashes.",
                file=archive,
            )


@dataclass(frozen=True)
class _Located:
    """Place of a file: a member, and the name within that member if it is an archive itself."""

    path: PurePosixPath
    inside: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.inside is None else f"{self.path}/{self.inside}"


class _Level:
    """One archive, and the archives in it.

    Parameters
    ----------
    archive
        The file.
    settings
        Limits.
    above
        The level that this archive is in.
    """

    def __init__(
        self, archive: Path, settings: DownloadSettings, above: _Level | None = None
    ) -> None:
        self.archive = archive
        self.settings = settings
        self.depth: int = 1 if above is None else above.depth + 1
        self.listing: Budget = Budget(settings) if above is None else above.listing
        self.extracting: Budget = Budget(settings) if above is None else above.extracting
        self.numbers: Iterator[int] = itertools.count() if above is None else above.numbers
        if self.depth > NESTING:
            raise ArchiveError(
                f"The archive is refused: it is the {self.depth}th of archives in one another.",
                remedy=f"Unpack it by hand if you trust it: {NESTING} levels are read.",
                file=archive,
            )
        head = read_head(archive)
        self.compression = compressed_alone(archive)
        self.is_single = self.compression is not None or (
            archive_format(head) is None and looks_like_json(head)
        )
        self.files: list[Member] = []
        if not self.is_single:
            self.files = [
                member for member in checked_members(archive, self.listing) if member.is_file
            ]

    def locate(self, names: Iterable[str]) -> dict[str, _Located]:
        """Find files by name, and archives where names lead into one.

        Raises
        ------
        ArchiveError
            There is no such file, or more than one.
        """
        if self.is_single:
            return {name: _Located(PurePosixPath(name)) for name in names}
        return {name: self._locate(name) for name in names}

    def _locate(self, name: str) -> _Located:
        paths = [member.path for member in self.files if not member.is_junk]
        match = _match(PurePosixPath(name), paths, self.archive)
        if match is not None:
            return _Located(match)
        parts = PurePosixPath(name).parts
        for count in range(1, len(parts)):
            inner = _match(PurePosixPath(*parts[:count]), paths, self.archive)
            if inner is not None:
                return _Located(inner, "/".join(parts[count:]))
        raise _missing(name, paths, self.archive)

    def extract(self, located: Mapping[str, _Located], folder: Path) -> dict[str, _Unpacked]:
        """Write files to a folder under numbers, with their digests.

        Raises
        ------
        ArchiveError
            A file is no archive but a name leads into it, or an inner archive is refused.
        """
        if self.is_single:
            return self._extract_single(located, folder)
        members = self._extract_members({target.path for target in located.values()}, folder)
        unpacked: dict[str, _Unpacked] = {}
        inner: dict[PurePosixPath, dict[str, str]] = {}
        for name, target in located.items():
            if target.inside is None:
                unpacked[name] = self._content(members[target.path], folder)
            else:
                inner.setdefault(target.path, {})[target.inside] = name
        for path, names in inner.items():
            with self._inside(path, members[path].path) as level:
                files = level.extract(level.locate(names), folder)
            unpacked |= {names[inside]: file for inside, file in files.items()}
        return unpacked

    def names_below(self, start: str, folder: Path) -> list[str]:
        """List the names of files that may begin with `start`, also in inner archives."""
        if self.is_single:
            return []
        paths = [member.path for member in self.files if not member.is_junk]
        tops = {path.parts[:1] for path in paths}
        top = f"{tops.pop()[0]}/" if len(tops) == 1 else ""
        names = [str(path) for path in paths]
        if top and not start.startswith(top) and not any(n.startswith(start) for n in names):
            names = [name.removeprefix(top) for name in names]
        inner = [name for name in names if start.startswith(f"{name}/")]
        for name in inner:
            target = self._locate(name)
            members = self._extract_members({target.path}, folder)
            with self._inside(target.path, members[target.path].path) as level:
                below = level.names_below(start.removeprefix(f"{name}/"), folder)
            names += [f"{name}/{file}" for file in below]
        return names

    @contextmanager
    def _inside(self, path: PurePosixPath, file: Path) -> Iterator[_Level]:
        """Open an inner archive; its errors name it by its path in this one."""
        try:
            with reading(file):
                if not is_archive(file):
                    raise ArchiveError(
                        "A name leads into this file, but it is no archive.",
                        remedy="Correct the name in the analysis file.",
                        file=file,
                    )
                yield _Level(file, self.settings, self)
        except ArchiveError as error:
            if error.file != str(file):
                raise
            raise ArchiveError(
                error.problem, remedy=error.remedy, file=f"{path} in {self.archive}"
            ) from None

    def _extract_members(
        self, paths: set[PurePosixPath], folder: Path
    ) -> dict[PurePosixPath, _Unpacked]:
        unpacked: dict[PurePosixPath, _Unpacked] = {}
        with closing(checked_members(self.archive, self.extracting)) as checked:
            for member in checked:
                if member.is_file and member.path in paths:
                    target = self._target(folder)
                    with member.open() as content:
                        digest = store(content, target, member)
                    unpacked[member.path] = _Unpacked(target, frozenset({digest}))
        return unpacked

    def _extract_single(
        self, located: Mapping[str, _Located], folder: Path
    ) -> dict[str, _Unpacked]:
        if len(located) > 1:
            raise ArchiveError(
                f"The file is not a tar or zip archive but one JSON file, and {len(located)} files "
                f"are asked for: {', '.join(located)}.",
                remedy="Give an archive or a folder with these files as the pallet's source.",
                file=self.archive,
            )
        target = self._target(folder)
        with writing(target):
            shutil.copyfile(self.archive, target)
            with target.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
        file = self._content(_Unpacked(target, frozenset({digest})), folder)
        return dict.fromkeys(located, file)

    def _content(self, file: _Unpacked, folder: Path) -> _Unpacked:
        """Decompress a file that is compressed alone."""
        kind = compressed_alone(file.path)
        if kind is None:
            return file
        target = self._target(folder)
        digest = decompress(file.path, target, kind, self.extracting, self.archive)
        return _Unpacked(target, file.digests | {digest})

    def _target(self, folder: Path) -> Path:
        return folder / str(next(self.numbers))


def _match(
    target: PurePosixPath, paths: Sequence[PurePosixPath], archive: Path
) -> PurePosixPath | None:
    """Find the path of a file in the archive: its full name, or below the only folder."""
    match = _single(target, paths, archive)
    tops = {path.parts[:1] for path in paths}
    if match is None and len(tops) == 1:
        match = _single(PurePosixPath(*tops.pop(), target), paths, archive)
    return match


def _missing(name: str, paths: Iterable[PurePosixPath], archive: Path) -> ArchiveError:
    names = [str(path) for path in paths]
    remainder = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ArchiveError(
        f"The archive has no file {name!r}.",
        remedy=f"{did_you_mean(name, names)}Its files are: "
        f"{', '.join(map(repr, names[:20])) or 'none'}{remainder}. "
        "Correct the name in the analysis file.",
        file=archive,
    )


def _single(
    target: PurePosixPath, paths: Iterable[PurePosixPath], archive: Path
) -> PurePosixPath | None:
    matches = [path for path in paths if path == target]
    if len(matches) > 1:
        raise ArchiveError(
            f"The archive is refused: it has {len(matches)} files named {str(target)!r}.",
            remedy="Nobody can tell which of them is meant; check where the archive comes from.",
            file=archive,
        )
    return matches[0] if matches else None


def _verify(name: str, actual: frozenset[str], expected: str | None, archive: Path) -> None:
    if expected is None or expected in actual:
        return
    raise ArchiveError(
        f"The file {name!r} in the archive has another digest than the analysis file expects:\n"
        f"    expected sha256 {expected}\n    found    sha256 {' or '.join(sorted(actual))}",
        remedy="The published file changed or is damaged: check its version on the publisher's "
        "page, then update pallet.sha256 in the analysis file, or delete the archive (and its "
        "copy in the download cache) and run again.",
        file=archive,
    )


def _move(unpacked: Path, target: Path) -> Path:
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        return unpacked.replace(target)
