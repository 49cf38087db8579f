"""The folders of a checkout."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from init.local.errors import SetupError

REPOSITORY = Path(__file__).resolve().parents[2]
# Airflow's configuration replaces %(name)s and $NAME, a ? begins the options of SQLite's URL, a : separates folders of
# PATH.
NOT_IN_PATHS = "%$?:"


@dataclass(frozen=True)
class Layout:
    """The folders of one checkout."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / ".state"

    @property
    def requirements(self) -> Path:
        return self.root / "requirements"

    @property
    def tools(self) -> Path:
        return self.state / "tools"

    @property
    def airflow_env(self) -> Path:
        return self.state / "envs" / "airflow"

    @property
    def spark_env(self) -> Path:
        return self.state / "envs" / "spark"

    @property
    def bench_env(self) -> Path:
        return self.state / "envs" / "bench"

    @property
    def mlflow_env(self) -> Path:
        return self.state / "envs" / "mlflow"

    @property
    def audit_env(self) -> Path:
        return self.state / "envs" / "audit"

    @property
    def s3_env(self) -> Path:
        return self.state / "envs" / "s3"

    @property
    def docs_env(self) -> Path:
        return self.state / "envs" / "docs"

    @property
    def airflow_home(self) -> Path:
        return self.state / "airflow"

    @property
    def exports(self) -> Path:
        return self.root / "exports"

    @property
    def scratch(self) -> Path:
        """Temporary files of Airflow, its tasks and their drivers."""
        return self.state / "tmp"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    def prepare(self) -> None:
        """Makes the state folder. Other accounts cannot read it, whatever the umask was.

        Raises:
            SetupError: The checkout's path has a character that something reads as more than that.
        """
        bad = sorted({c for c in str(self.root) if c in NOT_IN_PATHS or not c.isprintable()})
        if bad:
            raise SetupError(
                f"the path of this checkout must not hold {' or '.join(map(repr, bad))}, which Airflow, SQLite or PATH"
                f" would read as something else, got {str(self.root)!r}: move it to another folder"
            )
        os.umask(0o077)
        self.state.mkdir(exist_ok=True)
        # Keeps the group's right to pass through, which the MySQL server's account needs (accounts.open_path).
        self.state.chmod(self.state.stat().st_mode & 0o710)
        self.logs.mkdir(exist_ok=True)
