"""Ways of starting a run x its mode x what is done to it x its state: what the study, exports and events hold then.

One Airflow with its real services and one MySQL server play all stories of tests/support/matrix.py at once; each cell
is then one test. Spark is not what this is about: the driver runs without it (tests/support/plain_submit.py).
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from init.local import airflow, machine, passwords
from init.local.layout import REPOSITORY, Layout
from init.local.mysql import MysqlServer, find_program
from optuna_spark.storage.optuna_storage import create_storage
from tests.support.airflow import DAGS
from tests.support.cards import unwrapped
from tests.support.matrix import STORIES, USUAL, Story, table
from tests.support.matrix_actions import GATED, STARTER
from tests.support.matrix_stage import Condition, Held, Play, Stage
from tests.support.plain_submit import install
from tests.support.servers import scratch_folder, spark_environment
from tests.support.site import Site, checkout, end_services, serve

pytestmark = pytest.mark.slow

STEP_LIMIT_S = 600.0  # far from what a step takes: a safety net
ALL = os.environ.get("TEST_MATRIX") == "1"
WHOLE = pytest.mark.skipif(not ALL, reason="part of the whole matrix: run `make test-matrix`")
CELLS = [
    pytest.param(story, n, id=f"{story.name}-{n}: {cell.does.words}", marks=[] if story in USUAL else [WHOLE])
    for story in STORIES
    for n, cell in enumerate(story.cells)
]


class Seen:
    """What a cell's step left, as it was seen right after it; or why the story did not come so far."""

    def __init__(self, held: Held | None, said: str, error: Exception | None = None) -> None:
        self.held, self.said, self.error = held, said, error


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest) -> Iterator[Mapping[tuple[str, int], Seen]]:
    """Every cell of the stories that this session of pytest asks for, played."""
    if find_program() is None or not spark_environment().exists():
        pytest.skip("needs a MySQL server and the Spark environment: run `make setup`")
    with scratch_folder() as folder:
        layout, stories = checkout(folder, {}), wanted(request.session.items)
        prepare(layout, stories)
        try:
            dags = len(stories) + sum(story.twin is not None for story in stories)
            yield play(stories, *started(layout, dags))
        finally:
            end_services(layout)


def wanted(items: Sequence[pytest.Item]) -> list[Story]:
    """The stories of the tests that are to run."""
    names = {
        item.callspec.params["story"].name
        for item in items
        if hasattr(item, "callspec") and "story" in item.callspec.params
        if ALL or item.callspec.params["story"] in USUAL
    }
    return [story for story in STORIES if story.name in names]


def prepare(layout: Layout, stories: Sequence[Story]) -> None:
    """A checkout whose spark-submit is the tests' own, with a DAG folder for each story.

    A task parses its DAG's file with all its study files: of one file for all stories, each task would read them all.
    """
    own = layout.root / "init"
    own.unlink()
    install(own / "spark" / "bin")
    (layout.root / "dags" / "starter.py").write_text(STARTER)
    for story in stories:
        studies = studies_of(layout, story)
        studies.mkdir(parents=True)
        (studies.parent / "tuning.py").write_bytes((DAGS / "tuning.py").read_bytes())
        (studies / f"{story.name}.yaml").write_text(story.text)
        (studies / f"{story.name}.py").write_text(GATED)
        if story.twin is not None:
            twin = layout.root / "dags" / f"{story.name}_twin" / "studies" / f"{story.name}_twin.yaml"
            twin.parent.mkdir(parents=True)
            (twin.parents[1] / "tuning.py").write_bytes((DAGS / "tuning.py").read_bytes())
            twin.write_text(story.twin)
    write_config(layout)


def studies_of(layout: Layout, story: Story) -> Path:
    return layout.root / "dags" / story.name / "studies"


def write_config(layout: Layout) -> None:
    """Airflow as by default, but that it waits for its own database, and parses files once: tasks parse theirs."""
    layout.airflow_home.mkdir(exist_ok=True)
    key = secrets.token_hex(32)
    (layout.airflow_home / "airflow.cfg").write_text(
        f"[database]\nsql_alchemy_conn = sqlite:///{layout.airflow_home}/airflow.db?timeout=120\n"
        "[dag_processor]\nmin_file_process_interval = 3600\n"
        f"[api]\nsecret_key = {key}\n[api_auth]\njwt_secret = {key}\n"
    )


def started(layout: Layout, dags: int) -> tuple[Site, sa.URL]:
    known = passwords.load_or_create(layout.state / "secrets.env")
    server = MysqlServer(layout.state, known[passwords.DATABASE_ADMIN])
    server.ensure()
    connections = airflow.connections(layout, server, 0, known)
    local = json.dumps({"conn_type": "spark", "host": "local[1]"})
    site = serve(layout, {**connections, "AIRFLOW_CONN_TUNING_SPARK": local}, machine.java_home())
    site.wait_for_dags(dags + 2)  # with `starter` and `use_best_params`
    account = (server.admin_user, server.admin_password, server.host, server.port, airflow.DATABASE)
    return site, sa.URL.create("mysql+pymysql", *account)


def play(stories: Sequence[Story], site: Site, url: sa.URL) -> Mapping[tuple[str, int], Seen]:
    """All stories at once: while one waits for Airflow, the others go on."""
    site.api("PATCH", "/dags/starter", {"is_paused": False})
    make_database(site, url)
    storage = create_storage(url)
    seen: dict[tuple[str, int], Seen] = {}
    plays = {}
    for story in stories:
        stage = Stage(site, story.name, studies_of(site.layout, story), storage)
        plays[story.name] = Play(stage, steps(story, stage, seen))
    while plays:
        runs = site.api("GET", "/dags/~/dagRuns?limit=100&order_by=-id")["dag_runs"]
        for name, one in list(plays.items()):
            one.stage.runs = [run for run in runs if run["dag_id"] == one.stage.dag]
            if not goes_on(one, name, seen):
                del plays[name]
        time.sleep(0.5)
    return seen


def make_database(site: Site, url: sa.URL) -> None:
    """The first run makes it as well; here so that stories can be watched before that."""
    admin = sa.create_engine(url.set(database="mysql"))
    with admin.begin() as connection:
        connection.execute(sa.text(f"CREATE DATABASE IF NOT EXISTS {url.database} CHARACTER SET utf8mb4"))
    admin.dispose()


def goes_on(one: Play, name: str, seen: dict[tuple[str, int], Seen]) -> bool:
    try:
        return one.go_on(STEP_LIMIT_S)
    except Exception as error:  # noqa: BLE001  # the cell's own test raises it; the other stories go on
        story = next(story for story in STORIES if story.name == name)
        for n in range(len(story.cells)):
            seen.setdefault((name, n), Seen(None, "", error))
        return False


def steps(story: Story, stage: Stage, seen: dict[tuple[str, int], Seen]) -> Iterator[Condition]:
    stage.set_gate(is_open=True)
    stage.api("PATCH", f"/dags/{stage.dag}", {"is_paused": False})
    for n, cell in enumerate(story.cells):
        yield from cell.does(stage)
        held = stage.observe()
        seen[story.name, n] = Seen(held, stage.log(cell.says.label, cell.says.task) if cell.says else "")


@pytest.mark.parametrize(("story", "number"), CELLS)
def test_a_cell_of_the_matrix(story: Story, number: int, played: Mapping[tuple[str, int], Seen]) -> None:
    cell, found = story.cells[number], played[story.name, number]
    if found.error is not None:
        raise found.error
    assert found.held == cell.held
    assert cell.says is None or cell.says.text in unwrapped(found.said)


def test_the_page_has_the_table_of_the_cells() -> None:
    assert table() in (REPOSITORY / "docs" / "runs.md").read_text(encoding="utf-8")
