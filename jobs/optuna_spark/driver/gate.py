"""The driver's listening socket: lets through whoever opens with a proof of the run's secret.

A worker's opening (sealing.py) arrives with the packet that ends its TCP handshake, so most often it can be read the
moment the connection is accepted. Whoever has not sent it is a stranger: a file descriptor and an entry in a table, no
task and no buffer, and a word is said to none. The table is bounded. When it is full the address with the most
strangers loses its oldest one, an IPv6 network of /64 counting as one address; so strangers push out strangers, and a
worker behind the same address needs only to have its opening here before as many have come after it.
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
ACCEPTS_AT_ONCE = 64  # then it is the workers' turn
PAUSE_S = 0.5
_OUT_OF_HANDLES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Stranger:
    """A connection that has not proved anything yet."""

    def __init__(self, connection: socket.socket, address: str) -> None:
        self.connection, self.address = connection, address
        self.received = b""
        self.until = time.monotonic() + HANDSHAKE_S


class Strangers:
    """Those who are waited for, by address, the oldest first."""

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
        """The oldest of the address that has the most."""
        most = max(self._by_address.values(), key=lambda of_address: len(of_address))
        return next(iter(most))

    def late(self, now: float) -> list[Stranger]:
        """Those whose time is up."""
        return [s for of_address in self._by_address.values() for s in of_address if s.until <= now]

    def all(self) -> list[Stranger]:
        return [s for of_address in self._by_address.values() for s in of_address]


class Gate:
    """Used in the event loop's thread.

    Args:
        secret: The run's secret.
        admit: Takes the connection of one who knows it, and the random number from its opening.
    """

    def __init__(self, secret: bytes, admit: Callable[[socket.socket, bytes], None]) -> None:
        self._secret, self._admit = secret, admit
        self._loop = asyncio.get_running_loop()
        self._strangers = Strangers()
        self._limit = most_strangers()
        self._openings: set[bytes] = set()  # those seen; only who knows the secret can add to them
        self._turned_away = 0

    def open(self, listener: socket.socket) -> None:
        """Begin to accept; the gate closes the listener."""
        self._listener = listener
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept)
        self._timer = self._loop.call_later(1, self._look_at_the_clock)

    def close(self) -> None:
        """Accept nobody any more, and send all strangers away."""
        self._timer.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for stranger in self._strangers.all():
            self._send_away(stranger)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except OSError as error:  # BlockingIOError: that was all
                if error.errno in _OUT_OF_HANDLES:
                    self._pause(error)
                return
            connection.setblocking(False)
            self._meet(Stranger(connection, network(connection.family, address[0])))

    def _pause(self, error: OSError) -> None:
        """Nothing more can be accepted: make room, or wait for somebody to leave."""
        log.warning("The driver cannot accept a connection now: %s", error.strerror)
        self._loop.remove_reader(self._listener)
        for _ in range(len(self._strangers) // 2):
            self._send_away(self._strangers.first_to_go())
        self._loop.call_later(PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        if self._listener.fileno() >= 0:  # not closed meanwhile
            self._loop.add_reader(self._listener, self._accept)

    def _meet(self, stranger: Stranger) -> None:
        if self._has_spoken(stranger):
            return
        self._strangers.add(stranger)
        self._loop.add_reader(stranger.connection, self._has_spoken, stranger)
        if len(self._strangers) > self._limit:
            self._send_away(self._strangers.first_to_go())

    def _has_spoken(self, stranger: Stranger) -> bool:
        """Read what is there; whether the stranger is let in or has been sent away now."""
        try:
            data = stranger.connection.recv(INTRODUCTION_BYTES - len(stranger.received))
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        stranger.received += data
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
        """A worker of another version of this package is told so, and says it where people look."""
        words = stranger.received[:PROTOCOL_BYTES]
        if len(words) == PROTOCOL_BYTES and protocol_version(words) not in (None, VERSION):
            with contextlib.suppress(OSError):  # it has gone, or does not read
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
    """How many are waited for at once: they may take half of the file descriptors that this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return STRANGERS if soft == resource.RLIM_INFINITY else min(STRANGERS, soft // 2)


def network(family: int, host: str) -> str:
    """What counts as one address: of IPv6 a whole /64, which is what one machine is given."""
    if family != socket.AF_INET6:
        return host
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"
