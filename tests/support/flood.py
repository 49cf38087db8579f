"""Strangers who never say who they are: opens connections to a port until its input ends. A program of its own.

    python -m tests.support.flood PORT HELD RATE

HELD at once, then RATE a second; every other one sends the first half of an opening, the others nothing. It prints how
many it has opened. What it closes it resets, so that no port stays busy.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import struct
import sys
import time
from collections import deque

from optuna_spark.wire.sealing import protocol_bytes

MOST = 4000
SPARE = 50  # files that the program itself needs
AT_ONCE = 100
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: no TIME_WAIT


def main(port: int, held: int, rate: int) -> None:
    connections: deque[socket.socket] = deque()
    most = _most()
    opened, begun = 0, time.monotonic()
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        due = held + int(rate * (time.monotonic() - begun)) - opened
        for _ in range(min(due, AT_ONCE)):
            connections.append(_open(port, opened % 2 == 0))
            opened += 1
        while len(connections) > most:
            connections.popleft().close()
        print(opened, flush=True)  # noqa: T201 - for the test that started it


def _most() -> int:
    """As many connections as this machine lets one process have open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + SPARE + AT_ONCE
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed - SPARE - AT_ONCE


def _open(port: int, silent: bool) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.setblocking(False)
    connection.connect_ex(("127.0.0.1", port))
    if not silent:
        with contextlib.suppress(OSError):  # not connected yet
            connection.send(protocol_bytes() + bytes(30))
    return connection


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
