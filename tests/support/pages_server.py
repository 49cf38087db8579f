"""Airflow's API server within the tests' process, with a study's DAG, its database, and a login for each role."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import pytest

from init.local.layout import REPOSITORY
from tests.support.airflow import QUICK_STUDY, DagFolder, migrated_home
from tests.support.connections import TUNING, set_connection

RUN = "manual__2026-01-31T00:00:00+00:00"
OTHER_DAG = "from airflow.sdk import DAG\n\ndag = DAG('stranger')\n"
ROLES = {"ann": "admin", "val": "viewer", "uma": "user"}
HTML = "text/html,application/xhtml+xml"


@dataclass(frozen=True)
class Server:
    """The server, and the DAG folder it knows.

    Attributes:
        name: Of the study file, which is this session's own: the tests' Airflow keeps its runs.
    """

    client: Any
    tokens: dict[str, str]
    folder: DagFolder
    name: str

    @property
    def dag_id(self) -> str:
        return f"tune_{self.name}"

    @property
    def storage(self) -> Path:
        """The SQLite file with the studies."""
        return self.folder.path.parent / "studies.sqlite3"

    def get(self, path: str, role: str = "viewer", **headers: str) -> Any:
        login = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        return self.client.get(path, headers=login | headers, follow_redirects=False)

    def send(self, method: str, path: str, body: Any, role: str = "user", **headers: str) -> Any:
        login = {"Authorization": f"Bearer {self.tokens[role]}"}
        return self.client.request(method, path, json=body, headers=login | headers, follow_redirects=False)

    def tab(self, run_id: str, dag_id: str = "") -> str:
        """The path of a run's tab."""
        return f"/tuning/report/{dag_id or self.dag_id}/{quote(run_id, safe='')}"

    def trigger(self, dag_id: str, run_id: str, **conf: Any) -> Any:
        self.send("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False}, "admin")
        moment = datetime.now(UTC).isoformat()
        body = {"dag_run_id": run_id, "logical_date": moment, "conf": conf}
        return self.send("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)

    def is_now(self, run_id: str, state: str, dag_id: str = "", **tasks: str) -> None:
        """Put a run and some of its tasks into these states, as a scheduler and workers do."""
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from airflow.utils.state import DagRunState
        from sqlalchemy import select

        with create_session() as session:
            wanted = (DagRun.dag_id == (dag_id or self.dag_id), DagRun.run_id == run_id)
            found = session.scalars(select(DagRun).where(*wanted)).one()
            found.set_state(DagRunState(state))
            for task in session.scalars(
                select(TaskInstance).where(TaskInstance.dag_id == found.dag_id, TaskInstance.run_id == run_id)
            ):
                task.state = tasks.get(task.task_id, task.state)

    def leave(self, run_id: str, task_id: str, key: str, value: Any, dag_id: str = "") -> None:
        """Write an XCom, as the task does, and as whoever may trigger the DAG may."""
        path = f"/api/v2/dags/{dag_id or self.dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/xcomEntries"
        assert self.send("POST", path, {"key": key, "value": value, "map_index": -1}).status_code == 201


@contextmanager
def pages_server(path: Path, **studies: str) -> Iterator[Server]:
    """The server with a small study's DAG, and one DAG for each further study file."""
    name = f"paged{uuid.uuid4().hex[:8]}"
    files = {name: f"{QUICK_STUDY}exports: {path}/exports\n", **studies}
    folder = DagFolder.create(path / "dags", **files)
    (folder.path / "stranger.py").write_text(OTHER_DAG)
    migrated_home()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__PLUGINS_FOLDER", str(REPOSITORY / "plugins"))
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "ann:admin,val:viewer,uma:user")
        set_connection(patch, TUNING, conn_type="sqlite", host=str(path / "studies.sqlite3"))
        folder.use(patch)
        study_in(f"sqlite:///{path}/studies.sqlite3")
        parse(folder, {f"tune_{file}" for file in files} | {"stranger"})
        server = started(folder, name)
        for dag_id in (server.dag_id, "stranger"):
            server.trigger(dag_id, RUN)
        yield server


def study_in(url: str) -> None:
    storage = optuna.storages.RDBStorage(url)
    study = optuna.create_study(study_name="paged", storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)


def parse(folder: DagFolder, wanted: set[str]) -> None:
    """As the DAG processor does it."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.utils.session import create_session

    DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]  # Airflow left it without
    bag = BundleDagBag(str(folder.path), bundle_path=folder.path, bundle_name="dags-folder")
    assert wanted <= set(bag.dags), bag.import_errors
    with create_session() as session:
        sync_bag_to_db(bag, "dags-folder", None, session=session)


def started(folder: DagFolder, name: str) -> Server:
    from airflow.api_fastapi.app import create_app
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    app = create_app()
    manager = app.state.auth_manager
    users = {role: SimpleAuthManagerUser(username=who, role=role.upper()) for who, role in ROLES.items()}
    tokens = {role: manager.generate_jwt(user) for role, user in users.items()}
    return Server(TestClient(app, raise_server_exceptions=False), tokens, folder, name)
