"""Somebody who answers in a MySQL server's place, and asks whoever logs in for the password itself."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html
_CAPABILITIES = 0x0008 | 0x0200 | 0x8000 | 0x80000  # with a database, protocol 4.1, secure connection, plugins
_SALT = b"01234567890123456789"
_GREETING = (
    b"\x0a8.4.0\0"
    + struct.pack("<I", 1)
    + _SALT[:8]
    + b"\0"
    + struct.pack("<HBHHB", _CAPABILITIES & 0xFFFF, 45, 2, _CAPABILITIES >> 16, 21)
    + bytes(10)
    + _SALT[8:]
    + b"\0mysql_native_password\0"
)
_SWITCH = b"\xfemysql_clear_password\0"


class Impostor:
    """Serves one client.

    Attributes:
        heard: What it said after it was asked for the password.
    """

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._listener.close()
        self._thread.join(60)

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client:
            client.sendall(_packet(0, _GREETING))
            client.recv(65536)
            client.sendall(_packet(2, _SWITCH))
            while data := client.recv(65536):
                self.heard += data


def _packet(number: int, content: bytes) -> bytes:
    return struct.pack("<I", len(content))[:3] + bytes([number]) + content


@contextmanager
def impostor() -> Iterator[Impostor]:
    stranger = Impostor()
    try:
        yield stranger
    finally:
        stranger.close()
