"""Fetch pallets and published tables: from the download cache, the network, or a local file.

Only allow-listed hosts are asked, over https, and this holds for every redirect on the way. A
file appears at its destination only when it is complete and is what was asked for.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import shlex
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit
from uuid import uuid4

import requests
import tenacity
from requests.exceptions import ChunkedEncodingError, ContentDecodingError
from tqdm import tqdm
from urllib3.exceptions import InvalidHeader, ReadTimeoutError
from urllib3.util import Retry

from palletfit.config import DownloadSettings, Pallet, PublishedCurve
from palletfit.core.version import __version__
from palletfit.errors import ConfigError, DownloadError
from palletfit.pallet.archive import HEAD_BYTES, archive_format

logger = logging.getLogger(__name__)

#: Endings under which an archive without a name of its own is searched in the cache.
ARCHIVE_ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip", ".tar.bz2", ".tar.xz")
#: Longest wait between two attempts in seconds, whatever the server asks for.
LONGEST_WAIT = 120.0
#: Redirects that are followed.
MAX_REDIRECTS = 10
#: Seconds between two lines of progress in a log.
LOG_INTERVAL = 10.0

_ENDING_OF_FORMAT = {
    "gzip": ".tar.gz",
    "tar": ".tar",
    "zip": ".zip",
    "bzip2": ".tar.bz2",
    "xz": ".tar.xz",
}
_PAGE_TYPES = ("text/html", "application/xhtml+xml")
_CHUNK_BYTES = 64 * 1024

# HEPData gives a resource itself, instead of its landing page, where the Accept header names the
# resource's media type, and doi.org passes types it does not know on; so each is named, plainly.
_ACCEPT_ARCHIVE = (
    "application/x-tar, application/zip, application/gzip, application/x-gzip, "
    "application/octet-stream"
)
_ACCEPT_CSV = "text/csv"

_REMEDY_LANDING = (
    "The DOI is probably that of the record: give the DOI of the resource, which is on the "
    "record's page under its additional resources and looks like 10.17182/hepdata.90607.v3/r3."
)
_REMEDY_LANDING_CSV = "Give the address of the table in CSV, as behind the page's CSV button."


@dataclass(frozen=True)
class _Kind:
    """What is expected of a file."""

    name: str
    accept: str
    #: What to do about a web page in its place.
    landing_remedy: str
    #: Whether the first bytes may be those of such a file.
    recognise: Callable[[bytes], bool]


@dataclass(frozen=True)
class _Source:
    """A file on the network, and its places in the download cache."""

    url: str | None
    kind: _Kind
    #: Paths relative to the cache folder, the preferred one first.
    slots: tuple[Path, ...]


class _TransientError(Exception):
    """A failed attempt that is worth another one."""

    def __init__(self, problem: str, *, remedy: str, retry_after: float = 0.0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.retry_after = retry_after


def _is_page(head: bytes) -> bool:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--"))


def _is_archive(head: bytes) -> bool:
    return archive_format(head) is not None


def _is_table(head: bytes) -> bool:
    # Servers tend to report errors as a JSON object.
    return bool(head.strip()) and b"\x00" not in head and not head.lstrip().startswith(b"{")


_ARCHIVE = _Kind("archive", _ACCEPT_ARCHIVE, _REMEDY_LANDING, _is_archive)
_TABLE = _Kind("CSV table", _ACCEPT_CSV, _REMEDY_LANDING_CSV, _is_table)


def fetch_pallet(
    pallet: Pallet, destination: Path, settings: DownloadSettings, *, analysis: str
) -> Path:
    """Fetch the archive of a pallet.

    Parameters
    ----------
    pallet
        Where the pallet comes from: a DOI, an address, or a local file.
    destination
        The file that is written, atomically.
    settings
        The cache, the hosts that may be asked, time-outs, retries and limits.
    analysis
        Name of the analysis, for the cache: the archive is searched there as
        ``pallets/ARCHIVE``, or as ``pallets/ANALYSIS`` with one of :data:`ARCHIVE_ENDINGS`.

    Returns
    -------
    Path
        The destination.

    Raises
    ------
    DownloadError
        The archive could not be fetched, or what came is no archive.
    ConfigError
        The pallet has no file (it is built in), or its DOI is none.
    """
    if pallet.path is not None:
        return _take_local(pallet.path.expanduser(), destination)
    if pallet.url is not None:
        url = pallet.url
    elif pallet.doi is not None:
        url = _doi_address(pallet.doi, settings)
    else:
        raise ConfigError(
            f"The pallet of {analysis} is built in; there is nothing to fetch.",
            remedy="Give the pallet a doi, url or path.",
        )
    endings = ("",) if pallet.archive else ARCHIVE_ENDINGS
    name = pallet.archive or analysis
    slots = tuple(Path("pallets", name + ending) for ending in endings)
    return _fetch(_Source(url, _ARCHIVE, slots), destination, settings)


def fetch_published(
    curve: PublishedCurve, destination: Path, settings: DownloadSettings, *, analysis: str
) -> Path:
    """Fetch a published curve as a CSV table.

    Parameters
    ----------
    curve
        Address of the table, and its file name in the cache.
    destination
        The file that is written, atomically.
    settings
        The cache, the hosts that may be asked, time-outs, retries and limits.
    analysis
        Name of the analysis: the table is searched in the cache as ``published/ANALYSIS/FILE``.

    Returns
    -------
    Path
        The destination.

    Raises
    ------
    DownloadError
        The table could not be fetched, or what came is no table.
    ConfigError
        The name of the file leads out of the cache.
    """
    file = Path(curve.file)
    if file.is_absolute() or ".." in file.parts or not file.parts:
        raise ConfigError(
            f"The file name {curve.file!r} of a published curve leads out of the download cache.",
            remedy="Give a plain file name in the analysis file.",
        )
    slot = Path("published", analysis, file)
    return _fetch(_Source(curve.url, _TABLE, (slot,)), destination, settings)


def _doi_address(doi: str, settings: DownloadSettings) -> str:
    if not doi.startswith("10.") or "/" not in doi:
        raise ConfigError(
            f"{doi!r} is not a DOI.",
            remedy="Write it without an address before it, such as 10.17182/hepdata.90607.v3/r3.",
        )
    return settings.doi_resolver.rstrip("/") + "/" + quote(doi, safe="/:;()")


def _take_local(path: Path, destination: Path) -> Path:
    remedy = "Correct pallet.path in the analysis file; a relative path starts at that file."
    if not path.is_file():
        raise DownloadError(
            "This is a folder, not an archive." if path.is_dir() else "There is no such archive.",
            remedy=remedy,
            file=path,
        )
    _copy(path, destination, _ARCHIVE, remedy=remedy)
    return destination


def _fetch(source: _Source, destination: Path, settings: DownloadSettings) -> Path:
    cached = _cached(source, settings)
    if cached is not None:
        logger.info("Using %s from the download cache", cached)
        _copy(cached, destination, source.kind, remedy="Delete this file and run again.")
        return destination
    if settings.offline or source.url is None:
        why = "download.offline forbids the network" if settings.offline else "it has no url"
        raise DownloadError(
            f"The {source.kind.name} is not in the download cache, and {why}.",
            remedy=_by_hand(source, settings),
            file=None if source.url is None else _shown(source.url),
        )
    with _replacing(destination) as part:
        _download(source, source.url, part, settings)
    if settings.cache is not None:
        _keep(destination, settings.cache.expanduser() / _slot_for(source, destination))
    return destination


def _cached(source: _Source, settings: DownloadSettings) -> Path | None:
    if settings.cache is None:
        return None
    candidates = (settings.cache.expanduser() / slot for slot in source.slots)
    return next((path for path in candidates if path.is_file()), None)


def _slot_for(source: _Source, fetched: Path) -> Path:
    """Choose the place in the cache whose ending says what the file is."""
    if len(source.slots) == 1:
        return source.slots[0]
    found = archive_format(_head(fetched))
    ending = _ENDING_OF_FORMAT[found or "tar"]
    return next(slot for slot in source.slots if slot.name.endswith(ending))


def _keep(fetched: Path, slot: Path) -> None:
    try:
        with _replacing(slot) as part:
            shutil.copyfile(fetched, part)
    except DownloadError as error:
        # The run has what it needs; the cache only spares the next one the network.
        logger.warning("The download could not be kept in the cache: %s (%s)", error.problem, slot)


def _by_hand(source: _Source, settings: DownloadSettings) -> str:
    """Say where to put a file that was fetched by other means, and by which."""
    slot = source.slots[0]
    if settings.cache is None:
        place = f"Set download.cache to a folder and put the file there as {slot}"
    else:
        place = f"Put the file at {settings.cache.expanduser() / slot}"
    if len(source.slots) > 1:
        place += f" (or with the ending that it has of {', '.join(ARCHIVE_ENDINGS)})"
    if source.url is None:
        return f"{place}, or give its url in the analysis file."
    accept = f"Accept: {source.kind.accept}"
    command = ["curl", "--fail", "--location", "--header", accept, "--output", slot.name]
    address = _shown(source.url, query=True)
    return f"{place}; on a machine with internet access, get it by: " + shlex.join(
        [*command, address]
    )


def _copy(path: Path, target: Path, kind: _Kind, *, remedy: str) -> None:
    try:
        head = _head(path)
    except OSError as error:
        raise DownloadError(
            f"The file cannot be read: {error.strerror}.", remedy=remedy, file=path
        ) from None
    _check_content(head, "", kind, file=str(path), remedy=remedy)
    with _replacing(target) as part:
        shutil.copyfile(path, part)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Give the path of a temporary file that replaces `target` once it is complete."""
    part = target.with_name(f".{target.name}.{uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DownloadError(
            f"The file cannot be written: {error.strerror}.",
            remedy="Check the folder's permissions and the free space.",
            file=target,
        ) from error


def _check_content(
    head: bytes, content_type: str, kind: _Kind, *, file: str, remedy: str | None = None
) -> None:
    """Refuse what is not of the expected kind, such as a landing page."""
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


def _download(source: _Source, url: str, part: Path, settings: DownloadSettings) -> None:
    """Fetch a file from the network, in several attempts if need be."""
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(settings.retries + 1),
        wait=_waiting(settings.backoff),
        retry=tenacity.retry_if_exception_type(_TransientError),
        before_sleep=_log_retry,
        reraise=True,
    )
    try:
        content_type = retrying(_attempt, source.kind, url, part, settings)
    except _TransientError as failure:
        raise DownloadError(
            f"{failure.problem} (attempts: {settings.retries + 1}).",
            remedy=f"{failure.remedy} Or else: {_by_hand(source, settings)}",
            file=_shown(url),
        ) from None
    _check_content(_head(part), content_type, source.kind, file=_shown(url))


def _waiting(backoff: float) -> Callable[[tenacity.RetryCallState], float]:
    exponential = tenacity.wait_exponential(multiplier=backoff, max=LONGEST_WAIT)

    def wait(state: tenacity.RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after if isinstance(failure, _TransientError) else 0.0
        return min(max(exponential(state), asked), LONGEST_WAIT)

    return wait


def _log_retry(state: tenacity.RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    logger.warning(
        "Attempt %d failed: %s; the next one is in %.3g s",
        state.attempt_number,
        failure,
        state.upcoming_sleep,
    )


class _Session(requests.Session):
    """A session that adds no credentials and leaves redirects to :func:`_open`.

    Proxies and certificates still come from the environment.
    """

    def __init__(self) -> None:
        super().__init__()
        # Any authentication of our own, even one that adds nothing, keeps requests off .netrc.
        self.auth = _no_credentials
        self.headers["User-Agent"] = f"palletfit/{__version__}"

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        return None

    def redirect(self, response: requests.Response) -> str | None:
        """Address a response leads to, if it is a redirect."""
        return super().get_redirect_target(response)


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _attempt(kind: _Kind, url: str, part: Path, settings: DownloadSettings) -> str:
    """Fetch a file once; returns its content type."""
    try:
        with _Session() as session, _open(session, kind, url, settings) as response:
            _check_status(response, url)
            _store(response, url, part, settings)
            return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    except requests.RequestException as error:
        raise _explain(error, url, settings) from None


def _open(
    session: _Session, kind: _Kind, url: str, settings: DownloadSettings
) -> requests.Response:
    """Follow redirects, each of which must lead to an allowed host."""
    hop = url
    for _ in range(MAX_REDIRECTS + 1):
        _check_address(hop, settings, start=url)
        response = session.get(
            hop,
            # Not compressed on the way, so that lengths are those of the file.
            headers={"Accept": kind.accept, "Accept-Encoding": "identity"},
            stream=True,
            allow_redirects=False,
            timeout=(settings.timeout, settings.timeout),
        )
        target = session.redirect(response)
        if target is None:
            return response
        response.close()
        hop = _joined(hop, target)
    raise DownloadError(
        f"There are more than {MAX_REDIRECTS} redirects.",
        remedy="Check the address in a browser; the server may lead in a circle.",
        file=_shown(url),
    )


def _joined(base: str, target: str) -> str:
    try:
        return urljoin(base, target)
    except ValueError:
        return target  # malformed; the check of the address says so


def _check_address(url: str, settings: DownloadSettings, *, start: str) -> None:
    """Refuse addresses that are malformed, hold secrets, or lead to other than allowed hosts."""
    redirected = "" if url == start else "A redirect leads here: "
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or re.search(r"[\x00-\x20\x7f\\]", url):
        raise DownloadError(
            f"{redirected}The address is malformed.",
            remedy="Write it as https://host/path.",
            file=_shown(url),
        )
    if "@" in parts.netloc:
        raise DownloadError(
            f"{redirected}The address holds a user name or password.",
            remedy="Remove it; only files that need no login can be fetched.",
            file=_shown(url),
        )
    port = port or {"https": 443, "http": 80}.get(parts.scheme)
    bracketed = f"[{host}]" if ":" in host else host
    allowed = {entry.lower() for entry in settings.allowed_hosts}
    if not {host, bracketed, f"{bracketed}:{port}"} & allowed:
        raise DownloadError(
            f"{redirected}The host {bracketed}:{port} is not allowed.",
            remedy=f"If you trust it, add {host!r} to download.allowed_hosts.",
            file=_shown(url),
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise DownloadError(
            f"{redirected}The address does not begin with https://.",
            remedy="Give the file's https address; only that shows that nobody changed the file.",
            file=_shown(url),
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(url: str, *, query: bool = False) -> str:
    """Address for a message: without what may be secret (credentials; signatures in queries)."""
    if not query:
        url = re.split(r"[?#]", url, maxsplit=1)[0]
    hidden, at, rest = url.rpartition("@")
    if not at:
        return url
    scheme, separator, _ = hidden.partition("://")
    return f"{scheme + separator if separator else ''}[hidden]@{rest}"


def _check_status(response: requests.Response, url: str) -> None:
    status = response.status_code
    if status == HTTPStatus.OK:
        return
    host = urlsplit(response.url).hostname
    phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else "unknown status"
    problem = f"{host} answered {status} ({phrase})"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise _TransientError(
            problem,
            remedy="Too many files were asked for in a short time: wait some minutes.",
            retry_after=_retry_after(response),
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _TransientError(
            problem,
            remedy="The server has a problem of its own: try again later.",
            retry_after=_retry_after(response),
        )
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        remedy = "Check the DOI or the address, and its version, in the analysis file."
    else:
        remedy = "Check in a browser that the file is there for everybody, without a login."
    raise DownloadError(f"{problem}.", remedy=remedy, file=_shown(url))


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks to wait, 0 where it does not (RFC 9110, section 10.2.3)."""
    asked = response.headers.get("Retry-After")
    if asked is None:
        return 0.0
    try:
        return float(Retry().parse_retry_after(asked))
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0


def _store(response: requests.Response, url: str, part: Path, settings: DownloadSettings) -> None:
    """Write the body of a response to a file, and stop when it is too large."""
    length = response.headers.get("Content-Length", "")
    declared = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
    limit = settings.max_archive_bytes
    if declared is not None and declared > limit:
        raise _too_large(url, limit)
    size = 0
    with part.open("wb") as file, _Progress(_shown(url), declared) as progress:
        for chunk in response.iter_content(_CHUNK_BYTES):
            size += len(chunk)
            if size > limit:
                raise _too_large(url, limit)
            file.write(chunk)
            progress.advance(len(chunk))
    if size == 0:
        raise _TransientError("The answer is empty", remedy="Try again later.")
    logger.info("Fetched %s: %d bytes", _shown(url), size)


def _too_large(url: str, limit: int) -> DownloadError:
    return DownloadError(
        f"The file is larger than {limit} bytes.",
        remedy="If you trust it, raise download.max_archive_bytes.",
        file=_shown(url),
    )


class _Progress:
    """Progress of one download: a bar on a terminal, lines in a log elsewhere."""

    def __init__(self, name: str, total: int | None) -> None:
        self._name = name
        self._total = total
        self._done = 0
        self._last_line = time.monotonic()
        self._bar = tqdm(
            desc=name,
            total=total,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            leave=False,
            disable=None,  # that is: wherever stderr is not a terminal
        )

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, size: int) -> None:
        """Count further bytes."""
        self._done += size
        self._bar.update(size)
        now = time.monotonic()
        if self._bar.disable and now - self._last_line >= LOG_INTERVAL:
            self._last_line = now
            of_total = "" if self._total is None else f" of {self._total}"
            logger.info("Fetching %s: %d%s bytes", self._name, self._done, of_total)


def _explain(
    error: requests.RequestException, url: str, settings: DownloadSettings
) -> _TransientError | DownloadError:
    """Classify what requests raises; its own words may hold addresses with secrets."""
    causes = list(_causes(error))
    reasons = [
        cause.strerror
        for cause in causes
        if isinstance(cause, OSError) and isinstance(cause.strerror, str)
    ]
    reason = f": {reasons[0]}" if reasons else ""
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return DownloadError(
            "The server's certificate cannot be verified.",
            remedy="Check the clock and the network; behind a proxy with a certificate of its "
            "own, let REQUESTS_CA_BUNDLE name its file.",
            file=_shown(url),
        )
    if any(isinstance(cause, requests.Timeout | ReadTimeoutError) for cause in causes):
        return _TransientError(
            f"The server sent nothing for {settings.timeout:g} s",
            remedy="Check the network and try again later, or raise download.timeout.",
        )
    if isinstance(error, ChunkedEncodingError | ContentDecodingError):
        return _TransientError(
            "The connection ended before the file was complete",
            remedy="Check the network and try again later.",
        )
    if isinstance(error, requests.ConnectionError):
        return _TransientError(
            f"The connection to the server failed{reason}",
            remedy="Check the network (and the proxy, if HTTPS_PROXY is set).",
        )
    return DownloadError(
        f"The address cannot be asked ({type(error).__name__}).",
        remedy="Check it in a browser, and correct it in the analysis file.",
        file=_shown(url),
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Go through an exception and all that it was made from, which libraries keep anywhere."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
