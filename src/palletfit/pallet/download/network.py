"""Fetch a file over the network, in several attempts if needed."""

from __future__ import annotations

import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import requests
import tenacity
from requests.exceptions import ChunkedEncodingError, ContentDecodingError
from tqdm import tqdm
from urllib3.exceptions import InvalidHeader, ReadTimeoutError
from urllib3.util import Retry

from palletfit.config import DownloadSettings
from palletfit.core.hosts import is_noted, note_unresolved
from palletfit.core.version import __version__
from palletfit.errors import DownloadError, UnreachableError
from palletfit.pallet.download.addresses import check_address, join_addresses, public_address
from palletfit.pallet.download.cache import Source, by_hand
from palletfit.pallet.download.content import Kind, check_content
from palletfit.pallet.members import read_head

logger = logging.getLogger(__name__)


#: Longest wait between two attempts in seconds, whatever the server asks for.
LONGEST_WAIT = 120.0
#: Redirects that are followed.
MAX_REDIRECTS = 10
#: Seconds between two lines of progress in a log.
LOG_INTERVAL = 10.0
#: Attempts to resolve the name of a host.
NAME_ATTEMPTS = 2
_CHUNK_BYTES = 64 * 1024


class _TransientError(Exception):
    """Failed attempt that may succeed if it is repeated."""

    def __init__(self, problem: str, *, remedy: str, retry_after: float = 0.0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.retry_after = retry_after


class _UnresolvedError(_TransientError):
    """The name of a host has no address; it is asked for `attempts` times."""

    def __init__(self, host: str, reason: str, *, attempts: int) -> None:
        super().__init__(
            f"The name of the server {host} cannot be resolved{reason}",
            remedy="Check the network (and the proxy, if HTTPS_PROXY is set).",
        )
        self.host = host
        self.attempts = attempts


def download(source: Source, url: str, temporary: Path, settings: DownloadSettings) -> None:
    """Fetch a file from the network, in several attempts if needed.

    A host whose name could not be resolved is not asked for another file in the same run.
    """
    retrying = tenacity.Retrying(
        stop=_stopping(settings.retries),
        wait=_waiting(settings.backoff),
        retry=tenacity.retry_if_exception_type(_TransientError),
        before_sleep=_log_retry,
        reraise=True,
    )
    try:
        content_type = retrying(_attempt, source.kind, url, temporary, settings)
    except _TransientError as failure:
        if isinstance(failure, _UnresolvedError) and not is_noted(failure.host):
            note_unresolved(failure.host)
        count = retrying.statistics["attempt_number"]
        raise UnreachableError(
            f"{failure.problem}{f' (attempts: {count})' if count > 1 else ''}.",
            remedy=f"{failure.remedy} Or else: {by_hand(source, settings)}",
            file=public_address(url),
        ) from None
    check_content(read_head(temporary), content_type, source.kind, file=public_address(url))


def _stopping(retries: int) -> Callable[[tenacity.RetryCallState], bool]:
    def stop(state: tenacity.RetryCallState) -> bool:
        failure = state.outcome.exception() if state.outcome else None
        attempts = retries + 1
        if isinstance(failure, _UnresolvedError):
            attempts = min(attempts, failure.attempts)
        return state.attempt_number >= attempts

    return stop


def _waiting(backoff: float) -> Callable[[tenacity.RetryCallState], float]:
    exponential = tenacity.wait_exponential(multiplier=backoff, max=LONGEST_WAIT)

    def wait(state: tenacity.RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        requested = failure.retry_after if isinstance(failure, _TransientError) else 0.0
        return min(max(exponential(state), requested), LONGEST_WAIT)

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
    """Session without credentials, whose redirects are followed by :func:`_open`.

    Proxies and certificates come from the environment.
    """

    def __init__(self) -> None:
        super().__init__()
        # Any authentication, even one that adds nothing, keeps requests from reading .netrc.
        self.auth = _no_credentials
        self.headers["User-Agent"] = f"palletfit/{__version__}"

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        return None

    def redirect(self, response: requests.Response) -> str | None:
        """Read the address that a response redirects to, if it does."""
        return super().get_redirect_target(response)


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _attempt(kind: Kind, url: str, temporary: Path, settings: DownloadSettings) -> str:
    """Fetch a file once, and return its content type."""
    try:
        with _Session() as session, _open(session, kind, url, settings) as response:
            _check_status(response, url)
            _store(response, url, temporary, settings)
            return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    except requests.RequestException as error:
        raise _explain(error, url, settings) from None


def _open(session: _Session, kind: Kind, url: str, settings: DownloadSettings) -> requests.Response:
    """Follow redirects, each of which must lead to an allowed host."""
    hop = url
    for _ in range(MAX_REDIRECTS + 1):
        check_address(hop, settings, start=url)
        host = urlsplit(hop).hostname or ""
        if is_noted(host):
            raise _UnresolvedError(host, ", as another file has shown", attempts=1)
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
        hop = join_addresses(hop, target)
    raise DownloadError(
        f"There are more than {MAX_REDIRECTS} redirects.",
        remedy="Check the address in a browser; the server may lead in a circle.",
        file=public_address(url),
    )


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
    raise DownloadError(f"{problem}.", remedy=remedy, file=public_address(url))


def _retry_after(response: requests.Response) -> float:
    """Read the seconds that the server asks to wait; 0 if none (RFC 9110, section 10.2.3)."""
    header = response.headers.get("Retry-After")
    if header is None:
        return 0.0
    try:
        return float(Retry().parse_retry_after(header))
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0


def _store(
    response: requests.Response, url: str, temporary: Path, settings: DownloadSettings
) -> None:
    """Write the body of a response to a file, up to the allowed size."""
    length = response.headers.get("Content-Length", "")
    declared = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
    limit = settings.max_archive_bytes
    if declared is not None and declared > limit:
        raise _too_large(url, limit)
    size = 0
    with temporary.open("wb") as file, _Progress(public_address(url), declared) as progress:
        for chunk in response.iter_content(_CHUNK_BYTES):
            size += len(chunk)
            if size > limit:
                raise _too_large(url, limit)
            file.write(chunk)
            progress.advance(len(chunk))
    if size == 0:
        raise _TransientError("The answer is empty", remedy="Try again later.")
    logger.info("Fetched %s: %d bytes", public_address(url), size)


def _too_large(url: str, limit: int) -> DownloadError:
    return DownloadError(
        f"The file is larger than {limit} bytes.",
        remedy="If you trust it, raise download.max_archive_bytes.",
        file=public_address(url),
    )


class _Progress:
    """Progress of one download: a bar on a terminal, lines in a log otherwise."""

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
        time_now = time.monotonic()
        if self._bar.disable and time_now - self._last_line >= LOG_INTERVAL:
            self._last_line = time_now
            of_total = "" if self._total is None else f" of {self._total}"
            logger.info("Fetching %s: %d%s bytes", self._name, self._done, of_total)


def _explain(
    error: requests.RequestException, url: str, settings: DownloadSettings
) -> _TransientError | DownloadError:
    """Classify an exception of requests, whose message may hold addresses with secrets."""
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
            file=public_address(url),
        )
    if any(isinstance(cause, requests.Timeout | ReadTimeoutError) for cause in causes):
        return _TransientError(
            f"The server sent nothing for {settings.timeout:g} s",
            remedy="Check the network and try again later, or raise download.timeout.",
        )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        host = urlsplit((error.request.url if error.request else None) or url).hostname or ""
        return _UnresolvedError(host, reason, attempts=NAME_ATTEMPTS)
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
        file=public_address(url),
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all its causes, which libraries store in different attributes."""
    visited: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in visited:
            continue
        visited.add(id(cause))
        yield cause
        waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
