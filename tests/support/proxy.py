"""TCP proxies in front of a server: to break connections at will, to slow them down, to meddle with them."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence


class Proxy:
    """Forwards to a port of this machine. `cut` breaks what is open; `target = None` lets nobody through."""

    def __init__(self, target: int | None, host: str = "127.0.0.1") -> None:
        self.target = target
        self.connections = 0
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=256)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._pumps: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def cut(self) -> None:
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def finish(self) -> None:
        """Close once all connections have been ended by those who speak, and all they said was carried."""
        for pump in self._pumps:
            pump.join(60)
        self.close()

    def forward(self, source: socket.socket, sink: socket.socket, to_target: bool, connection: int) -> None:
        """Carry bytes in one direction until that ends."""
        while data := source.recv(65536):
            sink.sendall(data)

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            try:
                assert self.target is not None
                outer = socket.create_connection(("127.0.0.1", self.target))
            except (AssertionError, OSError):
                inner.close()
                continue
            with self._lock:
                self._open |= {inner, outer}
            number, self.connections = self.connections, self.connections + 1
            for source, sink in ((inner, outer), (outer, inner)):
                pump = threading.Thread(target=self._pump, args=(source, sink, source is inner, number), daemon=True)
                self._pumps.append(pump)
                pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket, to_target: bool, connection: int) -> None:
        with contextlib.suppress(OSError):
            self.forward(source, sink, to_target, connection)
        # This direction only: what the other one still carries, a last goodbye, arrives.
        for end, half in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
            with contextlib.suppress(OSError):
                end.shutdown(half)


class SlowProxy(Proxy):
    """Everything arrives later; what follows closely, later still."""

    def __init__(self, target: int, delay_s: float) -> None:
        self._delay_s = delay_s
        super().__init__(target)

    def forward(self, source: socket.socket, sink: socket.socket, to_target: bool, connection: int) -> None:
        while data := source.recv(65536):
            time.sleep(self._delay_s)
            sink.sendall(data)


# What goes on instead of a frame: connection, whether it goes to the driver, its number there, the frame.
Meddle = Callable[[int, bool, int, bytes], Sequence[bytes]]


class ManInTheMiddle(Proxy):
    """Lets both sides of the driver's protocol introduce themselves, and then meddles with its frames.

    Args:
        target: The driver's port.
        introduction: How many bytes each side says before its first frame.
        meddle: Gives the frames that go on.
    """

    def __init__(self, target: int, introduction: int, meddle: Meddle) -> None:
        self._introduction, self._meddle = introduction, meddle
        super().__init__(target)

    def forward(self, source: socket.socket, sink: socket.socket, to_target: bool, connection: int) -> None:
        with source.makefile("rb") as stream:
            sink.sendall(stream.read(self._introduction))
            number = 0
            while header := stream.read(4):
                frame = header + stream.read(struct.unpack(">I", header)[0])
                for one in self._meddle(connection, to_target, number, frame):
                    sink.sendall(one)
                number += 1
