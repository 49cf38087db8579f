"""The packages that the operating system must provide, and their installation if we may install."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from init.local import mysql
from init.local.console import detail, run_step, say
from init.local.errors import SetupError

JAVA_MINIMUM = 17
# Chrome works too. On Ubuntu the package chromium-browser installs a snap.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Seconds to wait for another apt: a machine that was just started may install its own updates.
APT_LOCK_S = 600


@dataclass(frozen=True)
class Need:
    """Something that this machine must have.

    Attributes:
        title: Its name for people.
        present: Whether it is there.
        packages: Sets of packages that provide it, the best one first.
    """

    title: str
    present: Callable[[], bool]
    packages: tuple[tuple[str, ...], ...]


def java_home() -> str | None:
    """The JAVA_HOME of a Java that Spark can use; None if there is none."""
    candidates = [os.environ.get("JAVA_HOME"), _home_of(shutil.which("java"))]
    candidates += [str(folder) for folder in sorted(Path("/usr/lib/jvm").glob("*"), reverse=True)]
    return next((home for home in candidates if home and java_version(home) >= JAVA_MINIMUM), None)


def _home_of(java: str | None) -> str | None:
    return str(Path(java).resolve().parents[1]) if java else None


def java_version(home: str) -> int:
    """The major version of the Java at `home`; 0 if none runs there."""
    try:
        said = subprocess.run([f"{home}/bin/java", "-version"], capture_output=True, text=True).stderr
    except OSError:
        return 0
    version = re.search(r'version "(\d+)', said)
    return int(version[1]) if version else 0


@dataclass(frozen=True)
class Needs:
    """What a machine must have (`required`), and what a run can do without (`wished`)."""

    required: tuple[Need, ...]
    wished: tuple[Need, ...] = ()


def needs_of_spark() -> Needs:
    """Python's venv module and Java."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    venv = [f"python{version}-venv", "python3-venv"]
    java = [f"openjdk-{release}-jre-headless" for release in (17, 21, 25)]
    return Needs(
        (
            Need("Python's venv module", lambda: importlib.util.find_spec("ensurepip") is not None, alone(venv)),
            Need(f"Java {JAVA_MINIMUM} or later", lambda: java_home() is not None, alone(java)),
        )
    )


def needs_of_runs() -> Needs:
    """The needs of Spark, and a MySQL server. Without a server, studies are kept in SQLite.

    The `-core` packages have the same server program, but no system service that would start by itself.
    """
    servers = (
        ("mariadb-server-core", "mariadb-client-core"),
        ("mariadb-server-core-10.6", "mariadb-client-core-10.6"),
        ("mysql-server-core-8.0", "mysql-client-core-8.0"),
        ("mysql-server-core", "mysql-client-core"),
    )
    return Needs(needs_of_spark().required, (Need("a MySQL server", mysql.is_installed, servers),))


def needs_of_tests() -> Needs:
    """All that a run needs or can use, and the programs that only tests start."""
    browsers = (("chromium", "chromium-driver"), ("chromium-browser", "chromium-chromedriver"))
    clients = (("mariadb-client-core",), ("mariadb-client-core-10.6",), ("mysql-client-core-8.0",))
    runs = needs_of_runs()
    return Needs(
        (
            *runs.required,
            *runs.wished,
            Need("a MySQL client", lambda: find("mariadb", "mysql") is not None, clients),
            Need("Chromium and its driver", lambda: bool(find(*BROWSERS) and find("chromedriver")), browsers),
            Need("git", lambda: find("git") is not None, alone(["git"])),
        )
    )


def find(*names: str) -> str | None:
    """The path of the first of these programs that is installed; None if none is."""
    return next(filter(None, map(shutil.which, names)), None)


def alone(packages: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple((package,) for package in packages)


def provide(log: Path, needs: Needs) -> bool:
    """Installs what is missing. The output of apt goes to the log.

    Returns:
        Whether all that is wished is there. What is required is always there when this returns.

    Raises:
        SetupError: Something required is missing and cannot be installed. Says what to install.
    """
    required = lacking(needs.required)
    missing = required + lacking(needs.wished)
    if not missing:
        return True
    apt = Apt.usable(log)
    if apt is None:
        if required:
            reason = "this is not root and sudo cannot be used" if shutil.which("apt-get") else "there is no apt here"
            raise SetupError(how_to_install(missing, reason))
        return False
    for need in missing:
        apt.install(need)
    if still := lacking(needs.required):
        raise SetupError(how_to_install(still, f"apt did not install it (see {log})"))
    return not lacking(needs.wished)


def lacking(needs: Sequence[Need]) -> list[Need]:
    return [need for need in needs if not need.present()]


def how_to_install(missing: Sequence[Need], reason: str) -> str:
    titles = ", ".join(need.title for need in missing)
    packages = " ".join(dict.fromkeys(package for need in missing for package in need.packages[0]))
    return (
        f"this machine lacks {titles}, and {reason}. Install what is missing, then run the same command again; "
        f"on Debian and Ubuntu:\n   sudo apt-get install --no-install-recommends {packages}"
    )


@dataclass(frozen=True)
class Apt:
    """apt-get, run with the rights to install."""

    prefix: tuple[str, ...]
    log: Path

    @staticmethod
    def usable(log: Path) -> Apt | None:
        if not shutil.which("apt-get"):
            return None
        if os.geteuid() == 0:
            return Apt((), log)
        if not shutil.which("sudo"):
            return None
        if subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
            return Apt(("sudo",), log)
        # A person at a terminal can type the password.
        if sys.stdin.isatty() and subprocess.run(["sudo", "-v"]).returncode == 0:
            return Apt(("sudo",), log)
        return None

    def install(self, need: Need) -> bool:
        """Installs the first set of packages that this system knows. Returns whether it could."""
        say(f"installing {need.title} with apt (once)")
        if not any(map(self._known, need.packages)):
            self._run("reading the package lists", "update")
        packages = next(filter(self._known, need.packages), None)
        if packages is None:
            detail(f"apt knows none of {', '.join(first for first, *_ in need.packages)}")
            return False
        return self._run(f"installing {packages[0]}", "install", "--yes", "--no-install-recommends", *packages)

    def _known(self, packages: Sequence[str]) -> bool:
        shown = subprocess.run(["apt-cache", "policy", *packages], capture_output=True, text=True).stdout
        return shown.count("Candidate:") == len(packages) and "Candidate: (none)" not in shown

    def _run(self, what: str, *arguments: str) -> bool:
        quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1"]
        # Everybody must be able to read what apt installs, but our own umask forbids that.
        script = f'umask 022; exec apt-get -q -o DPkg::Lock::Timeout={APT_LOCK_S} "$@"'
        command = [*self.prefix, *quiet, "sh", "-c", script, "apt-get", *arguments]
        try:
            run_step(what, command, log=self.log)
        except SetupError as error:
            detail(str(error))
            return False
        return True
