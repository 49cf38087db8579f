"""Somebody on the wire before MySQL: clears the TLS bit of the greeting, and writes down what clients say."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

CLIENT_SSL = 0x0800  # in the capabilities of the greeting, which MySQL's protocol sends in the clear
READY = 0x0A  # the first byte of a greeting, protocol version 10


class StrippingProxy:
    """Forwards to a MySQL server of this machine that then seems to know no TLS.

    Attributes:
        heard: All that clients sent, in the order it came.
        stripped: How many greetings had the bit, and lost it.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self.heard = b""
        self.stripped = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server, contextlib.suppress(OSError):
            client.sendall(self._without_tls(_packet(server)))
            answers = threading.Thread(target=_forward, args=(server, client), daemon=True)
            answers.start()
            while data := client.recv(65536):
                self.heard += data
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)
            answers.join()

    def _without_tls(self, greeting: bytes) -> bytes:
        """https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html"""
        if greeting[4] != READY:
            return greeting
        at = greeting.index(0, 5) + 1 + 4 + 8 + 1  # past version, thread id, salt and filler
        capabilities = int.from_bytes(greeting[at : at + 2], "little")
        if capabilities & CLIENT_SSL:
            self.stripped += 1
        return greeting[:at] + (capabilities & ~CLIENT_SSL).to_bytes(2, "little") + greeting[at + 2 :]


@contextlib.contextmanager
def stripping_proxy(target: int) -> Iterator[StrippingProxy]:
    proxy = StrippingProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()


def _packet(source: socket.socket) -> bytes:
    """One packet of MySQL's protocol, its header included."""
    header = source.recv(4, socket.MSG_WAITALL)
    return header + source.recv(int.from_bytes(header[:3], "little"), socket.MSG_WAITALL)


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)
