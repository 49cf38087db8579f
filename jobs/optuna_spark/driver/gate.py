"""The driver's listening socket. It lets a connection through that begins with a proof of the run's secret.

A worker sends its opening (wire/sealing.py) at once, so most often it can be read as soon as the connection is
accepted. A connection without an opening is a stranger. It costs the driver a file descriptor and an entry in a table,
but no task and no buffer, and it gets no answer.

The table is bounded. When it is full, the address with the most strangers loses its oldest one; an IPv6 /64 network
counts as one address. So a flood of strangers pushes out its own connections first. A worker behind the same address
still gets in if its opening arrives before the table has filled up again behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import time
from collections.abc import Callable

from optuna_spark.wire.sealing import (
    INTRODUCTION_BYTES,
    PROTOCOL_BYTES,
    VERSION,
    Introduction,
    is_opening,
    protocol_bytes,
    protocol_version,
)

log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0
BACKLOG = 4096  # the kernel takes net.core.somaxconn at most
STRANGERS = 1024
ACCEPTS_AT_ONCE = 64  # then the event loop serves the workers, however many connections wait
PAUSE_S = 0.5
# `accept` fails with these while nothing is wrong with the listener: they pass once descriptors or memory are free.
_OUT_OF_HANDLES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Stranger:
    """A connection that has not proved anything yet."""

    def __init__(self, connection: socket.socket, address: str) -> None:
        self.connection, self.address = connection, address
        self.received = b""
        self.until = time.monotonic() + HANDSHAKE_S


class Strangers:
    """The table of strangers: by address, and the oldest of each address first."""

    def __init__(self) -> None:
        self._by_address: dict[str, dict[Stranger, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, stranger: Stranger) -> None:
        self._by_address.setdefault(stranger.address, {})[stranger] = None
        self._count += 1

    def discard(self, stranger: Stranger) -> None:
        of_address = self._by_address.get(stranger.address, {})
        if stranger in of_address:
            del of_address[stranger]
            self._count -= 1
            if not of_address:
                del self._by_address[stranger.address]

    def first_to_go(self) -> Stranger:
        """The oldest stranger of the address that has the most of them."""
        most = max(self._by_address.values(), key=lambda of_address: len(of_address))
        return next(iter(most))

    def late(self, now: float) -> list[Stranger]:
        """The strangers whose time for the opening is up."""
        return [s for of_address in self._by_address.values() for s in of_address if s.until <= now]

    def all(self) -> list[Stranger]:
        return [s for of_address in self._by_address.values() for s in of_address]


class Gate:
    """Accepts connections, and passes on those that prove the secret. Used in the event loop's thread.

    Args:
        secret: The run's secret.
        admit: Takes the connection of a worker, and the nonce from its opening.
    """

    def __init__(self, secret: bytes, admit: Callable[[socket.socket, bytes], None]) -> None:
        self._secret, self._admit = secret, admit
        self._loop = asyncio.get_running_loop()
        self._strangers = Strangers()
        self._limit = most_strangers()
        # Nonces of all openings so far: a recorded opening works only once. Only workers can make this set grow.
        self._openings: set[bytes] = set()
        self._turned_away = 0

    def open(self, listener: socket.socket) -> None:
        """Begin to accept. `close` closes the listener."""
        self._listener = listener
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept)
        self._timer = self._loop.call_later(1, self._look_at_the_clock)

    def close(self) -> None:
        """Stop accepting, and close the connections of all strangers."""
        self._timer.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for stranger in self._strangers.all():
            self._send_away(stranger)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except OSError as error:  # BlockingIOError: no connection is left
                if error.errno in _OUT_OF_HANDLES:
                    self._pause(error)
                return
            connection.setblocking(False)
            self._meet(Stranger(connection, network(connection.family, address[0])))

    def _pause(self, error: OSError) -> None:
        """Make room, then accept again after a pause: this process has no free file descriptor or memory."""
        log.warning("The driver cannot accept a connection now: %s", error.strerror)
        # The connection that failed stays in the backlog: without the pause the loop would try it without end.
        self._loop.remove_reader(self._listener)
        for _ in range(len(self._strangers) // 2):
            self._send_away(self._strangers.first_to_go())
        self._loop.call_later(PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        if self._listener.fileno() >= 0:  # `close` was not called during the pause
            self._loop.add_reader(self._listener, self._accept)

    def _meet(self, stranger: Stranger) -> None:
        if self._has_spoken(stranger):  # the usual case for a worker: no entry in the table
            return
        self._strangers.add(stranger)
        self._loop.add_reader(stranger.connection, self._has_spoken, stranger)
        if len(self._strangers) > self._limit:
            self._send_away(self._strangers.first_to_go())

    def _has_spoken(self, stranger: Stranger) -> bool:
        """Read what has arrived. Returns True once the stranger was let in or its connection was closed."""
        try:
            data = stranger.connection.recv(INTRODUCTION_BYTES - len(stranger.received))
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        stranger.received += data
        # A stranger that does not begin as a worker does is closed at the first wrong byte.
        if data and protocol_bytes().startswith(stranger.received[:PROTOCOL_BYTES]):
            if len(stranger.received) < INTRODUCTION_BYTES:
                return False
            introduction = Introduction.from_bytes(stranger.received[PROTOCOL_BYTES:])
            if is_opening(self._secret, introduction) and introduction.nonce not in self._openings:
                self._openings.add(introduction.nonce)
                self._forget(stranger)
                self._admit(stranger.connection, introduction.nonce)
                return True
        self._tell_version(stranger)
        self._send_away(stranger)
        return True

    def _tell_version(self, stranger: Stranger) -> None:
        """Tell a worker of another version of this package our version, so that its error can name both."""
        words = stranger.received[:PROTOCOL_BYTES]
        if len(words) == PROTOCOL_BYTES and protocol_version(words) not in (None, VERSION):
            with contextlib.suppress(OSError):  # the connection has ended, or its buffer is full
                stranger.connection.send(protocol_bytes())

    def _send_away(self, stranger: Stranger) -> None:
        self._forget(stranger)
        stranger.connection.close()
        self._turned_away += 1
        if str(self._turned_away).strip("0") == "1":  # 1, 10, 100: a flood must not fill the log
            log.info(
                "Connections that did not show the run's secret: %s, the last one from %s",
                self._turned_away,
                stranger.address,
            )

    def _forget(self, stranger: Stranger) -> None:
        self._loop.remove_reader(stranger.connection)
        self._strangers.discard(stranger)

    def _look_at_the_clock(self) -> None:
        for stranger in self._strangers.late(time.monotonic()):
            self._send_away(stranger)
        self._timer = self._loop.call_later(1, self._look_at_the_clock)


def most_strangers() -> int:
    """How many strangers the table holds: at most half of the file descriptors that this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return STRANGERS if soft == resource.RLIM_INFINITY else min(STRANGERS, soft // 2)


def network(family: int, host: str) -> str:
    """The key of a stranger's address: for IPv6 its /64 network, because one machine usually has all of that."""
    if family != socket.AF_INET6:
        return host
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"
