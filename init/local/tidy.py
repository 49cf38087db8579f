"""`make tidy`: removes what Airflow keeps of old runs, which are rows of its metadata database, and logs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from init.local import airflow
from init.local.console import run_step, say
from init.local.errors import SetupError
from init.local.layout import Layout

# In days. Airflow has no older runs.
LONGEST = 3650


def tidy(layout: Layout, days: str) -> None:
    """Removes what is older than `days` days. Studies and exports stay.

    Raises:
        SetupError: days is not a whole number from 1 to 3650, or the database could not be cleaned.
    """
    if not days.isdecimal() or not 1 <= int(days) <= LONGEST:
        raise SetupError(f"DAYS must be a whole number from 1 to {LONGEST}, got {days!r}")
    if not (layout.airflow_home / "airflow.db").exists():
        say("Airflow has kept nothing here yet")
        return
    remove_before(layout, datetime.now(UTC) - timedelta(days=int(days)))


def remove_before(layout: Layout, moment: datetime) -> None:
    clean: list[str | Path] = [airflow.program(layout), "db", "clean", "--yes", "--error-on-cleanup-failure"]
    # Without --skip-archive, Airflow would move the rows to other tables instead of removing them.
    clean += ["--skip-archive", "--clean-before-timestamp", moment.isoformat()]
    env = airflow.environment(layout, {}, None)
    run_step("cleaning Airflow's metadata database", clean, log=layout.logs / "tidy.log", env=env)
    tasks = layout.airflow_home / "logs"
    removed = [file for file in [*tasks.rglob("*"), *layout.logs.glob("run-*.log")] if _remove_file(file, moment)]
    for folder in sorted(tasks.rglob("*"), reverse=True):  # in this order, inner folders come before outer ones
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()
    say(f"removed Airflow's data from before {moment:%Y-%m-%d %H:%M} UTC, and {len(removed)} logs")


def _remove_file(file: Path, moment: datetime) -> bool:
    """Removes a file (or a dangling link) that was last written before `moment`. Returns whether it did."""
    if file.is_dir() or file.lstat().st_mtime >= moment.timestamp():
        return False
    file.unlink()
    return True
