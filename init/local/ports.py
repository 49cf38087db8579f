"""Free loopback ports."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, islice, repeat
from pathlib import Path

LOOPBACK = "127.0.0.1"
FIRST_PORT = 20_000
KERNELS_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")  # its first and last port


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, below those that the kernel gives to whoever asks for any port.

    Another process may take one before it is used, which is rarer below that range: whoever starts a server with it
    has to be ready to try again.
    """
    with ExitStack() as probes:
        return list(islice(_bound(probes), count))


def same_ports(*wished: object) -> list[int]:
    """The ports a server had before, each of them as long as it can be had; a free one in its place otherwise."""
    spare = iter(free_ports(len(wished)))  # together, so that none is given twice
    return [port if isinstance(port, int) and can_be_had(port) else next(spare) for port in wished]


def can_be_had(port: int) -> bool:
    """Whether a server that starts now gets this port: nobody listens there."""
    with socket.socket() as probe:
        # As servers do: connections of the one before, which the kernel remembers for a minute, keep nobody out.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _bound(probes: ExitStack) -> Iterator[int]:
    """Ports that can be bound, which `probes` holds; the kernel's own choice when there are no more below its range."""
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
    """Whether anything listens there."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout_s):
            return True
    except OSError:
        return False
