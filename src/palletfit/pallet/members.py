"""Members of a pallet's archive: recognise its format, read them, and refuse what is suspicious.

Archives come from the network and are not trusted. An archive with one suspicious member is
refused, and the size of each read is limited. :func:`tarfile.data_filter` is not used: the earliest
patch releases of Python 3.11 lack it.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, cast

from palletfit.config import DownloadSettings
from palletfit.errors import ArchiveError
from palletfit.pallet.limits import XZ_BYTES

ArchiveFormat = Literal["tar", "gzip", "bzip2", "xz", "zip"]

#: Bytes at the beginning of a file that :func:`archive_format` needs.
HEAD_BYTES = 512

#: First characters of a JSON object or list.
_JSON_STARTS = (b"{", b"[")

_MAGIC: tuple[tuple[bytes, ArchiveFormat], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),  # a zip archive without members
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)

BLOCK_BYTES = 64 * 1024
#: Largest header of one tar member, with its extended headers: tarfile reads them into memory.
_TAR_HEADER_BYTES = 64 * 1024
#: Largest entry of one member in a zip archive's directory, which zipfile reads into memory.
_ZIP_ENTRY_BYTES = 1024

#: Exceptions of the libraries on damaged archives; RuntimeError on unsupported features.
_DAMAGE = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class DamagedArchiveError(ArchiveError):
    """An archive cannot be read to its end; nothing in it is suspicious so far."""


@dataclass
class Budget:
    """Members and bytes that an archive may still have, with all archives in it.

    Parameters
    ----------
    settings
        The limits.
    """

    settings: DownloadSettings
    members: int = 0
    unpacked_bytes: int = 0

    def charge(self, archive: Path, unpacked_bytes: int, members: int = 0) -> None:
        """Count members and bytes.

        Raises
        ------
        ArchiveError
            They are too many.
        """
        self.members += members
        self.unpacked_bytes += unpacked_bytes
        if self.members > self.settings.max_members:
            raise _too_large(archive, f"more than {self.settings.max_members} members", "members")
        if self.unpacked_bytes > self.settings.max_unpacked_bytes:
            raise _too_large(
                archive,
                f"more than {self.settings.max_unpacked_bytes} bytes when unpacked",
                "unpacked_bytes",
            )


@dataclass(frozen=True)
class Member:
    """Entry of a tar or zip archive."""

    name: str
    size: int
    is_file: bool
    #: Reason to refuse every archive with this entry.
    suspicion: str | None
    #: Opens the content; that of a tar member only until the next member is read.
    open: Callable[[], IO[bytes]]

    @property
    def path(self) -> PurePosixPath:
        """The name without a leading `./` and doubled slashes."""
        return PurePosixPath(self.name)

    @property
    def is_junk(self) -> bool:
        """True for entries that macOS adds to archives."""
        return (
            "__MACOSX" in self.path.parts
            or self.path.name.startswith("._")
            or self.path.name == ".DS_Store"
        )


def archive_format(head: bytes) -> ArchiveFormat | None:
    """Recognise an archive by its first bytes, not by its name.

    Parameters
    ----------
    head
        The first :data:`HEAD_BYTES` bytes of the file.

    Returns
    -------
    str or None
        ``tar``, ``zip``, or the compression around a tar archive; None if it is none of them.
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return None
    return "tar"


def looks_like_json(head: bytes) -> bool:
    """Return whether a file that begins with these bytes may be a JSON object or list."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_JSON_STARTS)


def read_head(path: Path) -> bytes:
    """Read the first bytes of a file, which tell its format."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def compressed_alone(path: Path) -> ArchiveFormat | None:
    """Return the compression of a file that holds one JSON file and no archive, or None."""
    kind = archive_format(read_head(path))
    if kind not in ("gzip", "bzip2", "xz"):
        return None
    with decompressed(path, kind) as stream:
        head = stream.read(HEAD_BYTES)
    return kind if archive_format(head) is None and looks_like_json(head) else None


def is_archive(path: Path) -> bool:
    """Return whether a file is a tar or zip archive, compressed or not."""
    return archive_format(read_head(path)) is not None and compressed_alone(path) is None


def decompress(path: Path, target: Path, kind: ArchiveFormat, budget: Budget, archive: Path) -> str:
    """Write the content of a compressed file to `target`, and return its sha256.

    Parameters
    ----------
    path, target
        The file, and the one that is written.
    kind
        Its compression.
    budget
        Bytes that may still be written.
    archive
        Archive that the file comes from, for errors.

    Raises
    ------
    ArchiveError
        The content is too large, or cannot be written.
    """
    digest = hashlib.sha256()
    with decompressed(path, kind) as stream, _new_file(target) as file:
        while block := stream.read(BLOCK_BYTES):
            budget.charge(archive, len(block))
            digest.update(block)
            with writing(target):
                _write_all(file, block)
    return digest.hexdigest()


def store(content: IO[bytes], target: Path, member: Member, head: bytes = b"") -> str:
    """Write the content of a member to `target`, and return its sha256.

    Parameters
    ----------
    content
        The member's content, behind `head`.
    target
        A file that does not exist.
    member
        The member.
    head
        First bytes of the content, which were read before.

    Raises
    ------
    ArchiveError
        The file cannot be written.
    EOFError
        The member has another size than its archive claims.
    """
    digest = hashlib.sha256()
    size = 0
    with _new_file(target) as file:
        block = head or content.read(BLOCK_BYTES)
        while block:
            digest.update(block)
            size += len(block)
            if size > member.size:
                break
            with writing(target):
                _write_all(file, block)
            block = content.read(BLOCK_BYTES)
        with writing(target):
            os.fsync(file.fileno())
    if size != member.size:
        raise EOFError(f"{member.name} does not have the size that the archive claims")
    return digest.hexdigest()


def _new_file(target: Path) -> io.FileIO:
    with writing(target):
        # Without a buffer: nothing is left to write, and to fail, when the file is closed.
        return target.open("xb", buffering=0)


def _write_all(file: io.FileIO, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


def suspicious_name(name: str) -> str | None:
    """Describe a name that leads out of its folder, or return None."""
    if "\x00" in name or "\\" in name:
        return "has a backslash or a NUL character"
    if name.startswith("/"):
        return "is an absolute path"
    if re.match("[A-Za-z]:", name):
        return "starts with a drive letter"
    if ".." in PurePosixPath(name).parts:
        return "leads out of its folder"
    return None


@contextmanager
def reading(archive: Path) -> Iterator[None]:
    """Translate exceptions of the libraries on damaged archives into a user error."""
    try:
        yield
    except _DAMAGE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DamagedArchiveError(
            f"The archive cannot be read: {reason}.",
            remedy="It is probably damaged or incomplete: delete it, and its copy in the download "
            "cache if there is one, and run again.",
            file=archive,
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Distinguish errors of the disk from those of the archive."""
    try:
        yield
    except OSError as error:
        raise ArchiveError(
            f"The unpacked file cannot be written: {error.strerror}.",
            remedy="Check the folder's permissions and the free space.",
            file=path,
        ) from error


def checked_members(archive: Path, budget: Budget) -> Generator[Member, None, None]:
    """Yield all members, and refuse a suspicious one or one too many.

    Raises
    ------
    ArchiveError
        A member is suspicious, or beyond the limits; or the file is no archive.
    """
    with closing(_members(archive, budget.settings)) as members:
        for member in members:
            if member.suspicion is not None:
                raise ArchiveError(
                    f"The archive is refused: its member {member.name!r} {member.suspicion}.",
                    remedy="A published likelihood needs no such member; check where the archive "
                    "comes from, and re-pack its plain files if you trust it.",
                    file=archive,
                )
            budget.charge(archive, member.size, members=1)
            yield member


def _too_large(archive: Path, excess: str, setting: str) -> ArchiveError:
    return ArchiveError(
        f"The archive is refused: it has {excess}.",
        remedy=f"If you trust it, raise download.max_{setting}.",
        file=archive,
    )


def _members(archive: Path, settings: DownloadSettings) -> Generator[Member, None, None]:
    head = read_head(archive)
    kind = archive_format(head)
    if kind is None:
        raise ArchiveError(
            "The file is not a tar or zip archive" + ("." if head else "; it is empty."),
            remedy="Delete it, and its copy in the download cache if there is one, and check that "
            "the analysis file names the archive itself.",
            file=archive,
        )
    return _zip_members(archive, settings) if kind == "zip" else _tar_members(archive, kind)


class _BoundedStream:
    """Uncompressed tar stream that can be read up to a limit.

    tarfile reads extended headers of any size into memory, and skips members by reading through
    them. Therefore each step may read only as much as it needs.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._position = 0
        self._limit = 0
        self._last = b""

    def allow(self, offset: int) -> None:
        """Allow reading a header that starts at `offset`, with all before it."""
        self._limit = offset + _TAR_HEADER_BYTES

    def read(self, size: int) -> bytes:
        if self._position >= self._limit:
            raise tarfile.ReadError("a header or the padding is too long")
        block = self._stream.read(size)
        self._position += len(block)
        self._last = block or self._last
        return block

    def finish(self, offset: int) -> None:
        """Check that the archive ends at `offset`, and read the remaining bytes.

        tarfile takes any bad header but the first for the end of the archive. Only the end of a
        compressed file shows whether everything before it was intact.
        """
        start = offset - (self._position - len(self._last))
        if self._last[start : start + tarfile.BLOCKSIZE].strip(b"\x00"):
            raise tarfile.ReadError("bad header")
        self.allow(self._position)
        while self.read(BLOCK_BYTES):
            pass


class _XzReader(io.RawIOBase):
    """Content of an xz file, as :func:`lzma.open` reads it, with a limit on memory.

    Raises
    ------
    ArchiveError
        The decompressor would need more than the limit.
    """

    def __init__(self, archive: Path) -> None:
        super().__init__()
        self._archive = archive
        self._file = archive.open("rb")
        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_BYTES)
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = b""
        while not block and not self._ended:
            block = self._next_block(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._file.close()
        super().close()

    def _next_block(self, size: int) -> bytes:
        """Decompress up to `size` bytes; none at the end, and sometimes before it."""
        try:
            if self._decompressor.eof:
                return self._next_stream(size)
            compressed = self._file.read(BLOCK_BYTES) if self._decompressor.needs_input else b""
            if self._decompressor.needs_input and not compressed:
                raise EOFError("the compressed data end too early")
            return self._decompressor.decompress(compressed, size)
        except (lzma.LZMAError, MemoryError) as error:
            if isinstance(error, lzma.LZMAError) and "memory" not in str(error).lower():
                raise
            raise ArchiveError(
                "The archive is refused: its header asks for more than "
                f"{XZ_BYTES // 1024**2} MiB of memory to unpack it.",
                remedy="No published likelihood needs that; check where the archive comes from, "
                "and re-pack it with `xz -9` or less if you trust it.",
                file=self._archive,
            ) from None

    def _next_stream(self, size: int) -> bytes:
        """Begin another stream behind the last one and its padding of zeros."""
        compressed = self._decompressor.unused_data
        while not (start := compressed.lstrip(b"\x00")):
            compressed = self._file.read(BLOCK_BYTES)
            if not compressed:
                self._ended = True
                return b""
        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_BYTES)
        return self._decompressor.decompress(start, size)


def decompressed(archive: Path, kind: ArchiveFormat) -> IO[bytes]:
    """Open the content of a compressed file; that of another file is the file itself."""
    if kind == "gzip":
        return cast(IO[bytes], gzip.open(archive))
    if kind == "bzip2":
        return cast(IO[bytes], bz2.open(archive))
    if kind == "xz":
        return io.BufferedReader(_XzReader(archive), BLOCK_BYTES)
    return archive.open("rb")


def _tar_members(archive: Path, kind: ArchiveFormat) -> Generator[Member, None, None]:
    with decompressed(archive, kind) as plain:
        stream = _BoundedStream(plain)
        stream.allow(0)
        # Stream mode never seeks backwards, so no header can send tarfile in a circle.
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as tar:
            while (entry := tar.next()) is not None:
                # tar.offset is where the next header starts: beyond this member's content.
                stream.allow(tar.offset)
                yield _tar_member(tar, entry)
            stream.finish(tar.offset)


def _tar_member(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Member:
    suspicion = suspicious_name(entry.name)
    if entry.issym() or entry.islnk():
        suspicion = "is a link"
    elif not (entry.isreg() or entry.isdir()):
        suspicion = "is neither a file nor a folder"
    elif entry.issparse():
        suspicion = "is a sparse file"
    elif entry.size < 0:
        suspicion = "has a negative size"
    return Member(
        name=entry.name,
        size=entry.size,
        is_file=entry.isreg(),
        suspicion=suspicion,
        open=lambda: cast(IO[bytes], tar.extractfile(entry)),
    )


class _BoundedDirectory(io.FileIO):
    """Zip file with a limit on its directory, which zipfile reads at once."""

    def __init__(self, archive: Path, limit: int) -> None:
        super().__init__(archive)
        self._limit = max(limit, 2 * BLOCK_BYTES)  # a comment alone may have 64 KiB

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size > self._limit:
            raise zipfile.BadZipFile("its directory is too long")
        return super().read(size)


def _zip_members(archive: Path, settings: DownloadSettings) -> Generator[Member, None, None]:
    limit = settings.max_members * _ZIP_ENTRY_BYTES
    with _BoundedDirectory(archive, limit) as file, zipfile.ZipFile(file) as opened:
        for entry in opened.infolist():
            yield _zip_member(opened, entry)


def _zip_member(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Member:
    # Programs on Unix keep the file's mode in the upper half; 0 where it is not known.
    kind = stat.S_IFMT(entry.external_attr >> 16)
    suspicion = suspicious_name(entry.orig_filename)
    if kind == stat.S_IFLNK:
        suspicion = "is a link"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        suspicion = "is neither a file nor a folder"
    elif entry.flag_bits & 0x1:
        suspicion = "is encrypted"
    elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile's readers of the other methods do not bound what they unpack at once.
        suspicion = "is compressed with a method other than deflate"
    return Member(
        name=entry.filename,
        size=entry.file_size,
        is_file=not entry.is_dir(),
        suspicion=suspicion,
        open=lambda: opened.open(entry),
    )
