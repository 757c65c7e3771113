"""Kinds of files that are fetched, and the check of their first bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from palletfit.errors import DownloadError
from palletfit.pallet.members import HEAD_BYTES, archive_format, looks_like_json

_PAGE_TYPES = ("text/html", "application/xhtml+xml")
# HEPData sends a resource instead of its landing page if the Accept header names the resource's
# media type. doi.org passes unknown types on. Therefore all types are listed.
_ACCEPT_ARCHIVE = (
    "application/x-tar, application/zip, application/gzip, application/x-gzip, "
    "application/octet-stream, application/json"
)
_KEYS_OF_DOCUMENTS = (b'"channels"', b'"measurements"', b'"distributions"', b'"patches"')
_ACCEPT_CSV = "text/csv"
_REMEDY_LANDING = (
    "The DOI is probably that of the record: give the DOI of the resource, which is on the "
    "record's page under its additional resources and looks like 10.17182/hepdata.90607.v3/r3."
)
_REMEDY_LANDING_CSV = "Give the address of the table in CSV, as behind the page's CSV button."


@dataclass(frozen=True)
class Kind:
    """Expected kind of a file."""

    name: str
    accept: str
    #: Remedy for a web page instead of the file.
    landing_remedy: str
    #: Whether bytes can be the first ones of such a file.
    recognise: Callable[[bytes], bool]


def _is_page(head: bytes) -> bool:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--"))


def _is_archive(head: bytes) -> bool:
    return archive_format(head) is not None


def _is_pallet(head: bytes) -> bool:
    return _is_archive(head) or _is_document(head)


def _is_document(head: bytes) -> bool:
    """Recognise a likelihood as one JSON file. Servers report errors as short JSON objects."""
    if not looks_like_json(head):
        return False
    return len(head) == HEAD_BYTES or any(key in head for key in _KEYS_OF_DOCUMENTS)


def _is_table(head: bytes) -> bool:
    # Servers tend to report errors as a JSON object.
    return bool(head.strip()) and b"\x00" not in head and not head.lstrip().startswith(b"{")


ARCHIVE = Kind("archive", _ACCEPT_ARCHIVE, _REMEDY_LANDING, _is_pallet)
TABLE = Kind("CSV table", _ACCEPT_CSV, _REMEDY_LANDING_CSV, _is_table)


def check_content(
    head: bytes, content_type: str, kind: Kind, *, file: str, remedy: str | None = None
) -> None:
    """Refuse content of another kind, such as a landing page."""
    is_page = _is_page(head) or (content_type in _PAGE_TYPES and not _is_archive(head))
    if is_page:
        raise DownloadError(
            f"There is a web page in place of the {kind.name}.",
            remedy=remedy or kind.landing_remedy,
            file=file,
        )
    if not kind.recognise(head):
        sent = f" (its content type is {content_type!r})" if content_type else ""
        raise DownloadError(
            f"This is no {kind.name}{sent}." if head else "The file is empty.",
            remedy=remedy or f"Check that the address leads to the {kind.name} itself.",
            file=file,
        )
