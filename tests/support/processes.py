"""What a process does, by its own view of the kernel's tables."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def listening_addresses(pid: int) -> set[str]:
    """The local addresses a process listens on, by its own view of the kernel's tables."""
    sockets = {str(handle.readlink()) for handle in Path(f"/proc/{pid}/fd").iterdir() if handle.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(readable_address(fields[1].split(":")[0]))
    return found


def readable_address(kernel_hex: str) -> str:
    words = [bytes.fromhex(kernel_hex[at : at + 8])[::-1] for at in range(0, len(kernel_hex), 8)]
    address = b"".join(words)
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def session_members(leader: int) -> list[int]:
    """The processes that the leader of a session started and that still live."""
    found = []
    for pid in (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()):
        try:
            if os.getsid(pid) == leader and _state(pid) != "Z":
                found.append(pid)
        except (ProcessLookupError, FileNotFoundError):
            continue
    return found


def processes_naming(text: str) -> list[int]:
    """The processes that have a text in their command line."""
    found = []
    for pid in (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()):
        try:
            if text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except (ProcessLookupError, FileNotFoundError):
            continue
    return found


def children(parent: int) -> dict[int, str]:
    """The command lines of the processes a process has started and that still live, by pid."""
    found = {}
    for pid in (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()):
        try:
            state, its_parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
            if int(its_parent) == parent and state != "Z":
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except (ProcessLookupError, FileNotFoundError):
            continue
    return found


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
