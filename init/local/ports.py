"""Free loopback ports."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, islice, repeat
from pathlib import Path

LOOPBACK = "127.0.0.1"
FIRST_PORT = 20_000
SOON_S = 3.0
# Holds the first and last port that the kernel gives to programs that ask for any port.
KERNELS_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens now.

    Another process may still take one before it is used, so the caller must be ready to try again. That happens rarely
    below the range from which the kernel hands out ports, so these ports are below it.
    """
    # The probes hold all ports until the end, so that none is returned twice.
    with ExitStack() as probes:
        return list(islice(_bound(probes), count))


def same_ports(*wished: object) -> list[int]:
    """The wished ports, each replaced by a free one if it is None or taken.

    A server that was killed may hold its port for a moment longer, so a taken one is waited for.
    """
    spare = iter(free_ports(len(wished)))  # in one call, so that they differ
    return [port if isinstance(port, int) and _can_soon_be_had(port) else next(spare) for port in wished]


def _can_soon_be_had(port: int) -> bool:
    deadline = time.monotonic() + SOON_S
    while not can_be_had(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def can_be_had(port: int) -> bool:
    """Whether a server that starts now would get this port."""
    with socket.socket() as probe:
        # Servers set this option, too. Without it, closed connections of an earlier server block the port for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _bound(probes: ExitStack) -> Iterator[int]:
    """Ports that can be bound, held by `probes`. When none is left below the kernel's range, the kernel chooses."""
    below = range(FIRST_PORT, int(KERNELS_RANGE.read_text().split()[0]))
    for port in chain(random.SystemRandom().sample(below, len(below)), repeat(0)):
        probe = probes.enter_context(socket.socket())
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            if port == 0:
                raise
            continue
        yield int(probe.getsockname()[1])


def accepts(port: int, timeout_s: float = 1.0) -> bool:
    """Whether anything listens on the port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout_s):
            return True
    except OSError:
        return False
