"""`make audit`: pip-audit looks up the locked packages among known vulnerabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from init.local import environments
from init.local.console import detail, run_step, say
from init.local.errors import SetupError
from init.local.layout import Layout

LOCKS = ("airflow", "spark", "spark-gpu", "dev", "uv", "build", "docs")


def audit(layout: Layout) -> None:
    """Checks every lock that is installed on a user's machine.

    Raises:
        SetupError: A locked package has a known vulnerability. Names the package, and the version that has none.
    """
    environments.ensure_uv(layout)
    environments.build(layout, environments.audit_lock(layout))
    found = [line for name in LOCKS for line in check(layout, layout.requirements / f"{name}.txt")]
    if found:
        raise SetupError("known vulnerabilities:\n   " + "\n   ".join(dict.fromkeys(found)))


def check(layout: Layout, lock: Path) -> list[str]:
    """The known vulnerabilities of one lock's packages. Prints a line if the service cannot be asked."""
    report, log = layout.logs / f"audit-{lock.stem}.json", layout.logs / "audit.log"
    for old in (report, log):
        old.unlink(missing_ok=True)
    command: list[str | Path] = [layout.audit_env / "bin" / "python", "-m", "pip_audit", "--requirement", lock]
    command += ["--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    command += ["--format", "json", "--output", report]
    try:
        run_step(f"looking up {lock.name}", command, log=log)
    except SetupError as error:
        # pip-audit ends with 1 if it finds something, and also if it cannot ask. Only then it writes no report.
        if not report.exists():
            say(f"NOT CHECKED: {lock.name}, the vulnerability service gave no answer")
            detail(str(error))
            return []
    return read_report(lock.name, json.loads(report.read_text())["dependencies"])


def read_report(lock: str, packages: list[dict[str, Any]]) -> list[str]:
    """The vulnerabilities in a report. Prints how many packages were looked up, and how many could not be."""
    unknown = [package for package in packages if "skip_reason" in package]
    if unknown:
        say(f"NOT CHECKED: {lock}, {len(unknown)} of {len(packages)} packages; {unknown[0]['skip_reason']}")
    if len(unknown) < len(packages):
        say(f"{lock}: {len(packages) - len(unknown)} packages looked up")
    return [describe(package, known) for package in packages for known in package.get("vulns", [])]


def describe(package: dict[str, Any], known: dict[str, Any]) -> str:
    fixed = ", ".join(known["fix_versions"]) or "no version yet"
    return f"{package['name']} {package['version']}: {known['id']}, put right in {fixed}"
