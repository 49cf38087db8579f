"""`make test-debian13`: targets of the Makefile on a bare Debian 13, with its Python 3.13 and its packages.

    python3 -m tests.support.debian_machine "run test-quick"

The machine is a tree in /var/tmp with mounts and processes of its own, which are gone when the command ends; kernel and
network are this machine's. In it is a copy of what git tracks in this checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from init.local.console import complain, run_step, say
from init.local.errors import SetupError
from init.local.layout import REPOSITORY
from tests.support.debian import CERTIFICATES, ISOLATED, debootstrap, lacking, open_network

SUITE = "trixie"
# `tini` is its process 1: it reaps what has lost its parent, as a real machine does.
PACKAGES = ("ca-certificates", "git", "make", "python3", "tini")
HOME = Path("/root")
CHECKOUT = HOME / "checkout"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": str(HOME),
    "LANG": "C.UTF-8",
    "SSL_CERT_FILE": str(CERTIFICATES),
}
ENTER = """
root=$1
shift
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
exec chroot "$root" "$@"
"""
WORD = re.compile(r"[a-z][a-z0-9-]*|[A-Z_]+=[\w.,/-]*")


def parse(what: str) -> list[str]:
    """What make is told in the machine.

    Raises:
        SetupError: It is something else than targets and settings.
    """
    words = what.split()
    if not words or not all(map(WORD.fullmatch, words)):
        raise SetupError(f'WHAT must be targets and settings of make, such as "run TRIALS=20", got {what!r}')
    return words


def check_machine() -> None:
    """Refuses before the first download what cannot work here."""
    if missing := lacking("git"):
        raise SetupError(
            f"a bare Debian 13 cannot be made here without {' and '.join(missing)}: "
            "install debootstrap and git with apt-get, then run the same command again as root"
        )


@contextmanager
def bare_debian() -> Iterator[Path]:
    """A tree with nothing but what it takes to run `make`; removed afterwards."""
    # Gigabytes: too much for a /tmp in memory.
    with tempfile.TemporaryDirectory(prefix="debian13-", dir="/var/tmp") as folder:
        root = Path(folder) / "root"
        log = Path(folder) / "debootstrap.log"
        run_step("making a bare Debian 13", debootstrap(root, SUITE, PACKAGES), log=log)
        open_network(root)
        yield root


def copy_checkout(source: Path, target: Path) -> None:
    """Copies what git tracks, as it is in the folder now, and makes a repository of it, as a clone is one."""
    for name in tracked(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, target / name)
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=target, check=True)


def tracked(source: Path) -> list[str]:
    """The files of a checkout that git tracks and that are there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=source, capture_output=True, text=True)
    if listed.returncode != 0:
        raise SetupError(f"make test-debian13 copies what git tracks, and git says: {listed.stderr.strip()}")
    return [name for name in listed.stdout.split("\0") if name and (source / name).exists()]


def inside(root: Path, command: Sequence[str | Path]) -> int:
    """Runs a command in the tree, to its end and that of everything it started. Returns its exit code."""
    entering = [*ISOLATED, "bash", "-euc", ENTER, "enter", root, *command]
    return subprocess.run([str(part) for part in entering], env=ENVIRONMENT).returncode


def main(what: str) -> int:
    os.umask(0o022)  # a machine's files are for all its accounts
    try:
        words = parse(what)
        check_machine()
        with bare_debian() as root:
            copy_checkout(REPOSITORY, root / CHECKOUT.relative_to("/"))
            say(f"make {' '.join(words)}, on a bare Debian 13")
            code = inside(root, ["tini", "--", "make", "-C", CHECKOUT, *words])
    except SetupError as error:
        complain(str(error))
        return 1
    say(f"make {' '.join(words)} on a bare Debian 13 ended with {code}")
    return code


if __name__ == "__main__":
    # As Ctrl-C does: the machine ends, and its tree goes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main(*sys.argv[1:]))
