"""A web server with a login and a certificate of its own, on the loopback address."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.certificates import Authority

PLACE = "127.0.0.1"


class SecureSite(http.server.ThreadingHTTPServer):
    """Serves `files` to whoever sends one of `logins`, and writes down which header came for which path.

    Attributes:
        files: Content by path.
        logins: Accepted values of the Authorization header.
        redirects: Where a path leads to instead.
        seen: Path and Authorization header of each request.
    """

    def __init__(self, certificate: Path) -> None:
        super().__init__((PLACE, 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.logins: set[str] = set()
        self.redirects: dict[str, str] = {}
        self.seen: list[tuple[str, str | None]] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def url(self, path: str) -> str:
        return f"https://{PLACE}:{self.server_port}{path}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        site = self.server
        assert isinstance(site, SecureSite)
        login = self.headers.get("Authorization")
        site.seen.append((self.path, login))
        if self.path in site.redirects:
            self._answer(302, b"", Location=site.redirects[self.path])
        elif login not in site.logins:
            self._answer(401, b"")
        else:
            self._answer(200, site.files[self.path])

    def _answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def site_certificate(folder: Path) -> Path:
    """A certificate for the loopback address with its key and its authority's, as one PEM file that clients trust."""
    authority = Authority(folder, "site")
    signed = authority.sign("loopback", [PLACE])
    file = folder / "site.pem"
    file.write_bytes(b"".join(part.read_bytes() for part in (signed.key, signed.cert, authority.ca)))
    return file


@contextmanager
def secure_site(certificate: Path) -> Iterator[SecureSite]:
    """The server, running."""
    site = SecureSite(certificate)
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        thread.join()
        site.server_close()
