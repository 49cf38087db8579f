"""Where the keys of an object store may be sent to."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def problem_of_endpoint(url: str) -> str | None:
    """Why the keys of a store may not go to this address; None if they may: over https, or to this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.path.strip("/") or parts.query:
        return "must be https://<host> or https://<host>:<port>, without a login or a path"
    if parts.scheme == "http" and not _is_loopback(host):
        return "must be https://, since over http:// anyone on the way reads the table (http:// is for this machine)"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
