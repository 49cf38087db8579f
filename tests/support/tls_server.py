"""A MySQL server with TLS, and certificates that fit it and that do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from init.local.mysql import MysqlServer
from tests.support.certificates import Authority
from tests.support.servers import HARD_PASSWORD, private_mysql, scratch_folder

OTHER_NAME = "localhost"  # the same machine; the server's certificate is for its address only


@dataclass(frozen=True)
class TlsServer:
    """A running server whose certificate is for 127.0.0.1.

    Attributes:
        server: The server.
        authority: Who signed its certificate, and is trusted by the server to sign those of clients.
        stranger: Another authority of the same kind.
    """

    server: MysqlServer
    authority: Authority
    stranger: Authority

    def keys(self, ssl_mode: str) -> dict[str, str]:
        """The TLS keys of a client that does it right."""
        return {"ssl_mode": ssl_mode} | ({"ssl_ca": str(self.authority.ca)} if ssl_mode.startswith("VERIFY") else {})

    def wrong_authority(self, ssl_mode: str) -> dict[str, str]:
        """The keys of a client that trusts another authority only."""
        return self.keys(ssl_mode) | {"ssl_ca": str(self.stranger.ca)}


@contextmanager
def private_tls_server() -> Iterator[TlsServer]:
    with scratch_folder() as folder:
        folder.chmod(0o755)  # the server reads its files under another account
        authority, stranger = Authority(folder, "ours"), Authority(folder, "strangers")
        own = authority.sign("server", ["127.0.0.1"])
        options = (f"--ssl-ca={authority.ca}", f"--ssl-cert={own.cert}", f"--ssl-key={own.key}")
        with private_mysql(HARD_PASSWORD, options) as server:
            yield TlsServer(server, authority, stranger)
