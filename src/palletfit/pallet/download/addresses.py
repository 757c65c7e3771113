"""Addresses: check them before a request, and show them in messages."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urljoin, urlsplit

from palletfit.config import DownloadSettings
from palletfit.errors import DownloadError


def join_addresses(base: str, target: str) -> str:
    """Resolve the target of a redirect; a malformed one is returned as it is."""
    try:
        return urljoin(base, target)
    except ValueError:
        return target  # malformed; the check of the address says so


def check_address(url: str, settings: DownloadSettings, *, start: str) -> None:
    """Refuse addresses that are malformed, hold secrets, or lead to a host that is not allowed."""
    redirected = "" if url == start else "A redirect leads here: "
    try:
        components = urlsplit(url)
        host, port = components.hostname or "", components.port
    except ValueError:
        host, port = "", None
    if not host or re.search(r"[\x00-\x20\x7f\\]", url):
        raise DownloadError(
            f"{redirected}The address is malformed.",
            remedy="Write it as https://host/path.",
            file=public_address(url),
        )
    if "@" in components.netloc:
        raise DownloadError(
            f"{redirected}The address holds a user name or password.",
            remedy="Remove it; only files that need no login can be fetched.",
            file=public_address(url),
        )
    port = port or {"https": 443, "http": 80}.get(components.scheme)
    bracketed = f"[{host}]" if ":" in host else host
    allowed = {entry.lower() for entry in settings.allowed_hosts}
    if not {host, bracketed, f"{bracketed}:{port}"} & allowed:
        raise DownloadError(
            f"{redirected}The host {bracketed}:{port} is not allowed.",
            remedy=f"If you trust it, add {host!r} to download.allowed_hosts.",
            file=public_address(url),
        )
    if components.scheme != "https" and not (components.scheme == "http" and _is_loopback(host)):
        raise DownloadError(
            f"{redirected}The address does not begin with https://.",
            remedy="Give the file's https address; only that shows that nobody changed the file.",
            file=public_address(url),
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def public_address(url: str, *, query: bool = False) -> str:
    """Remove possible secrets from an address: credentials, and signatures in its query."""
    if not query:
        url = re.split(r"[?#]", url, maxsplit=1)[0]
    hidden, at, visible = url.rpartition("@")
    if not at:
        return url
    scheme, separator, _ = hidden.partition("://")
    return f"{scheme + separator if separator else ''}[hidden]@{visible}"
