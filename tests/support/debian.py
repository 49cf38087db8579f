"""Bare Debian trees, made by debootstrap, which needs root."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# What this machine's network may ask of whoever wants packages.
NETWORK_FILES = (CERTIFICATES, Path("/etc/pip.conf"), Path("/etc/resolv.conf"))
# Mounts and processes of its own: what the command mounts and starts ends with it, however it ends.
ISOLATED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")


def lacking(*programs: str) -> list[str]:
    """What is missing here to make a tree: root, or one of the programs, these among them."""
    needed = ("debootstrap", "setpriv", "unshare", *programs)
    missing = [program for program in needed if shutil.which(program) is None]
    return missing if os.geteuid() == 0 else ["root", *missing]


def debootstrap(root: Path, suite: str, packages: Sequence[str]) -> list[str | Path]:
    """The command that makes the tree `root`: Debian's essential packages, and these."""
    return [*ISOLATED, "debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, root]


def open_network(root: Path) -> None:
    """Let apt and pip in a tree reach what they reach on this machine."""
    for file in NETWORK_FILES:
        if file.exists():
            shutil.copy(file, root / file.relative_to("/"))
    (root / "etc" / "hosts").write_text(f"127.0.0.1 localhost {socket.gethostname()}\n")
    (root / "etc" / "apt" / "apt.conf.d" / "99retries").write_text('Acquire::Retries "5";\n')
