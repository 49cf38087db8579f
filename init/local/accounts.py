"""The account for a server that root starts: a user id that belongs to this checkout and to nobody else."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

# The first range is above all ids that systemd and others hand out (https://systemd.io/UIDS-GIDS). The second one is
# for containers that have only 65,536 ids.
RANGES = ((1_900_000_000, 200_000_000), (20_000, 40_000))


def open_path(folder: Path) -> int | None:
    """Makes the server's folder. For root, also chooses the account (user and group id) that the server runs under.

    Returns:
        The account. None means the present one: it is not root, or no other account can reach the folder, as in a
        checkout below /root.
    """
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    if os.geteuid() != 0:
        return None
    for account in candidates(folder):
        # The account may pass through the parent folder, but not list it.
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
    """Ids that no account here has. The same folder always gives the same ids, so that a restarted server keeps its."""
    place = int.from_bytes(sha256(os.fsencode(folder.resolve())).digest()[:8])
    for start, length in RANGES:
        number = start + place % length
        while is_taken(number):
            number = start + (number + 1 - start) % length
        if is_mapped(number):
            yield number


def is_taken(number: int) -> bool:
    """Whether a user or a group has this id."""
    for look_up in (pwd.getpwuid, grp.getgrgid):
        try:
            look_up(number)
            return True
        except KeyError:
            pass
    return False


def is_mapped(number: int) -> bool:
    """Whether this id exists in the present container, as user and as group: user_namespaces(7)."""
    return all(
        any(first <= number < first + count for first, _, count in _map(file)) for file in ("uid_map", "gid_map")
    )


def _map(file: str) -> list[list[int]]:
    return [[int(field) for field in line.split()] for line in Path("/proc/self", file).read_text().splitlines()]


def run_as(account: int | None) -> list[str]:
    """The words to put before a command, so that it runs under the account."""
    if account is None:
        return []
    return ["setpriv", "--reuid", str(account), "--regid", str(account), "--clear-groups"]


def give_to(path: Path, account: int | None) -> None:
    """Makes the account the owner of a file, or of a folder and all that is in it."""
    if account is None:
        return
    os.chown(path, account, account)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(Path(folder, name), account, account, follow_symlinks=False)
