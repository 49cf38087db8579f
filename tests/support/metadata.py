"""Airflow's metadata database and configuration as `make ui` makes them, made once and copied for each site.

Making them takes half a minute of two programs, for the same content each time.
"""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from init.local import airflow, passwords
from init.local.layout import REPOSITORY, Layout

FOLDER = Layout(REPOSITORY).state / "test" / "metadata"
STAMP = ".migrated"  # with which airflow.migrate knows that it has nothing to do
HOME = "{AIRFLOW_HOME}"


def take_metadata(layout: Layout, make: Callable[[], Layout]) -> None:
    """Give a site what it has not got of the two.

    Args:
        layout: The site.
        make: Prepares a checkout with a database and a configuration of its own.
    """
    home = layout.airflow_home
    home.mkdir(exist_ok=True)
    made = _made(make)
    if not (home / "airflow.cfg").exists():
        text = (made / "airflow.cfg").read_text().replace(HOME, str(home))
        passwords.write_private(home / "airflow.cfg", text)
    if not (home / "airflow.db").exists():
        _copy_database(made / "airflow.db", home / "airflow.db")
        shutil.copy(made / STAMP, home)


def _made(make: Callable[[], Layout]) -> Path:
    """The folder of the originals. Its name changes with what they depend on; the first to ask makes them."""
    parts = (REPOSITORY / "requirements" / "airflow.txt", Path(airflow.__file__), Path(__file__))
    folder = FOLDER / sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / STAMP).exists():
            home = make().airflow_home
            text = (home / "airflow.cfg").read_text().replace(str(home), HOME)
            passwords.write_private(folder / "airflow.cfg", text)
            _copy_database(home / "airflow.db", folder / "airflow.db")
            shutil.copy(home / STAMP, folder)
    return folder


def _copy_database(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)  # half of one, whose copying was interrupted
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(target)) as copy:
        original.backup(copy)
    target.chmod(0o600)
