"""The account that a server started by root runs under: a number of this checkout's own, which nobody else has."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

# Above what systemd and others hand out, https://systemd.io/UIDS-GIDS; then what a container with 65,536 numbers has.
RANGES = ((1_900_000_000, 200_000_000), (20_000, 40_000))


def open_path(folder: Path) -> int | None:
    """Makes the server's folder, and for root chooses the account, user and group in one, its server runs under.

    Returns:
        None to run as the present account: it is not root, or no other account can reach the folder (a checkout
        below /root).
    """
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    if os.geteuid() != 0:
        return None
    for account in candidates(folder):
        os.chown(folder.parent, 0, account)
        folder.parent.chmod(0o710)
        os.chown(folder, account, account)
        if subprocess.run([*run_as(account), "test", "-w", folder], stderr=subprocess.DEVNULL).returncode == 0:
            give_to(folder, account)
            return account
    os.chown(folder.parent, 0, 0)
    folder.parent.chmod(0o700)
    give_to(folder, 0)
    return None


def candidates(folder: Path) -> Iterator[int]:
    """Numbers that no account here has, the same ones for the same folder."""
    place = int.from_bytes(sha256(os.fsencode(folder.resolve())).digest()[:8])
    for start, length in RANGES:
        number = start + place % length
        while is_taken(number):
            number = start + (number + 1 - start) % length
        if is_mapped(number):
            yield number


def is_taken(number: int) -> bool:
    """Whether an account or a group has this number."""
    for look_up in (pwd.getpwuid, grp.getgrgid):
        try:
            look_up(number)
            return True
        except KeyError:
            pass
    return False


def is_mapped(number: int) -> bool:
    """Whether there is such an account and such a group in this container: user_namespaces(7)."""
    return all(
        any(first <= number < first + count for first, _, count in _map(file)) for file in ("uid_map", "gid_map")
    )


def _map(file: str) -> list[list[int]]:
    return [[int(field) for field in line.split()] for line in Path("/proc/self", file).read_text().splitlines()]


def run_as(account: int | None) -> list[str]:
    """What comes before a command that is to run under the account."""
    if account is None:
        return []
    return ["setpriv", "--reuid", str(account), "--regid", str(account), "--clear-groups"]


def give_to(path: Path, account: int | None) -> None:
    """Makes the account the owner of a file, or of a folder and all in it, whoever had it before."""
    if account is None:
        return
    os.chown(path, account, account)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(Path(folder, name), account, account, follow_symlinks=False)
