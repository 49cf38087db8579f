"""Installs locked packages into the Python of a cluster's node, and keeps what the Databricks runtime has.

    install_locked.py PYTHON FOLDER NAME...

FOLDER/NAME.in lists the packages to install, FOLDER/NAME.txt is their lock. A package is installed only if it is
missing, or if the installed version does not fit. It comes in the version of the lock, from a wheel with a hash of the
lock. So pip accepts no other file, and runs no code of a package to build it. The packages that Spark works with are
never replaced. The init scripts contain this program. It needs pip and nothing else.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The runtime was built with these. They are installed if they are missing, as on a bare machine, but never changed.
RUNTIME = ("pyspark", "numpy", "pandas", "pyarrow")
# 470 MB that XGBoost loads only to train one model on several GPUs (init/local/locks.py leaves it out too).
LEFT_OUT = ("nvidia-nccl-cu12",)
ATTEMPTS = 4
ROUNDS = 20

# A program for the node's Python, which may be another one than ours. For each package that does not fit it prints a
# line: name, installed version, requirement, and which package requires it.
UNMET = """
import importlib.metadata as metadata, sys
try:
    from packaging.requirements import Requirement
except ImportError:
    from pip._vendor.packaging.requirements import Requirement

pending, seen = [(Requirement(text), "the tuning job") for text in sys.argv[1:]], set()
while pending:
    wanted, by = pending.pop()
    if (str(wanted), by) in seen:
        continue
    seen.add((str(wanted), by))
    try:
        found = metadata.distribution(wanted.name)
    except metadata.PackageNotFoundError:
        print(wanted.name, "-", wanted, by, sep="\\t")
        continue
    if not wanted.specifier.contains(found.version, prereleases=True):
        print(wanted.name, found.version, wanted, by, sep="\\t")
        continue
    for text in found.requires or ():
        child = Requirement(text)
        if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in {"", *wanted.extras}):
            pending.append((child, wanted.name))
"""


def say(text: str) -> None:
    """Prints a line for the init script's log."""
    print(text, flush=True)  # noqa: T201


def main(python: str, folder: str, *names: str) -> None:
    """Installs until all requirements are met.

    Raises:
        SystemExit: A package cannot be installed. One sentence says which.
    """
    wanted: list[str] = []
    lock: dict[str, str] = {}
    for name in names:
        wanted += requirements(Path(folder, f"{name}.in").read_text(encoding="utf-8"))
        lock |= entries(Path(folder, f"{name}.txt").read_text(encoding="utf-8"))
    # In rounds, because only an installed package tells what it requires itself.
    for number in range(ROUNDS):
        packages = unmet(python, wanted, lock)
        if not packages:
            say("all Python packages are there" if number == 0 else "the Python packages are installed")
            return
        install(python, [lock[name] for name in packages])
    sys.exit(f"pip installed {', '.join(packages)} and Python does not find it: see its words above")


def requirements(text: str) -> list[str]:
    """The lines of a .in file that are not comments."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def entries(lock: str) -> dict[str, str]:
    """The lines of a lock by package. A package has two entries if some versions of Python need another one."""
    result: dict[str, str] = {}
    name = ""
    for line in lock.splitlines():
        if match := re.match(r"[A-Za-z0-9][\w.-]*(?===)", line):
            name = normal(match[0])
        if name and not line.lstrip().startswith("#"):
            result[name] = f"{result.get(name, '')}{line}\n"
    return result


def normal(name: str) -> str:
    """A package's name in the form in which names are compared.

    https://packaging.python.org/specifications/name-normalization/
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def unmet(python: str, wanted: list[str], lock: dict[str, str]) -> list[str]:
    """The packages that are missing or do not fit, as far as the installed ones tell what they require."""
    asked = subprocess.run([python, "-c", UNMET, *wanted], stdout=subprocess.PIPE, text=True, check=True)
    names = []
    for line in asked.stdout.splitlines():
        name, version, requirement, by = line.split("\t")
        if normal(name) in LEFT_OUT:
            continue
        if version != "-" and normal(name) in RUNTIME:
            sys.exit(f"{by} needs {requirement} and this runtime has {version}, which stays: take another runtime")
        if normal(name) not in lock:
            sys.exit(f"{by} needs {requirement}, which is in no lock file: run make lock")
        names.append(normal(name))
    return sorted(set(names))


def install(python: str, locked: list[str]) -> None:
    """Installs exactly these packages. Tries a few times, because an index may fail for a moment."""
    names = ", ".join(lines.split(" ")[0] for lines in locked)
    say(f"installing {names}")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("".join(locked))
        file.flush()
        for attempt in range(1, ATTEMPTS + 1):
            if subprocess.run([*command, file.name]).returncode == 0:
                return
            say(f"attempt {attempt} of {ATTEMPTS} failed")
            time.sleep(attempt)
    sys.exit(f"pip cannot install {names}: see its words above")


if __name__ == "__main__":
    main(*sys.argv[1:])
