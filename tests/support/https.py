"""A web server with a login and a certificate of its own, on the loopback address."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

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


def self_signed(folder: Path) -> Path:
    """A certificate for the loopback address with its key, as one PEM file; clients trust it as their only CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's own")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(PLACE))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "site.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
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
