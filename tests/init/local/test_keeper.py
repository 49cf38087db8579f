"""What ends of the services of `make ui` is started again, a few times, and never behind the back of `make stop`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from init.local import keeper
from init.local.errors import SetupError
from init.local.keeper import TRIES, WINDOW_S, Keeper, Part, ended_log
from init.local.log_server import LOG_SERVER
from init.local.mysql import MysqlServer, is_installed
from init.local.processes import Service, birth, one_at_a_time
from init.local.stack import KEEPER, service_names, stop_services
from init.local.ui import COMMANDS
from tests.support.servers import HARD_PASSWORD, private_spark, scratch_folder, spark_environment
from tests.support.site import Site, running_site, start
from tests.support.waiting import wait_until

needs_mysql = pytest.mark.skipif(not is_installed(), reason="no MySQL server is installed here")
STUDY = "objective: quadratic\nretries: 0\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch_folder() as path:
        yield path


class Watched:
    """A keeper of one real process, with a clock that the test sets."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.service = Service("sleeper", folder)
        self.lock, self.told, self.now, self.command = folder / "lock", list[str](), 0.0, command
        self.starts = 0
        part = Part("sleeper", (self.service,), self.start)
        self.keeper = Keeper([part], self.lock, self.told.append, clock=self.clock)

    def start(self) -> None:
        self.starts += 1
        self.service.start(self.command, dict(os.environ), {})

    def clock(self) -> float:
        return self.now

    def look_at(self, now: float) -> None:
        self.now = now
        self.keeper.look()

    def ends(self) -> None:
        wait_until(lambda: not self.service.running(), "the process to end")

    def kill(self) -> None:
        os.kill(self.service.pid, signal.SIGKILL)
        self.ends()


@pytest.fixture
def sleeper(folder: Path) -> Iterator[Watched]:
    watched = Watched(folder, ["sleep", "600"])
    watched.start()
    yield watched
    watched.service.stop()


@pytest.fixture
def quitter(folder: Path) -> Watched:
    return Watched(folder, ["sh", "-c", "echo no such port >&2; exit 3"])


def test_what_runs_is_left_alone(sleeper: Watched) -> None:
    pid = sleeper.service.pid
    sleeper.look_at(0)
    assert (sleeper.service.pid, sleeper.told) == (pid, [])


def test_what_ended_is_started_again_after_a_pause(sleeper: Watched) -> None:
    sleeper.kill()
    sleeper.look_at(0)
    assert not sleeper.service.running()
    sleeper.look_at(1)
    assert sleeper.service.running()
    (line,) = sleeper.told
    log = ended_log(sleeper.service)
    assert line == f"sleeper has ended; it is started again in 1 s (try 1 of {TRIES}), its log becomes {log}"


def test_the_log_of_what_ended_is_kept(quitter: Watched) -> None:
    quitter.start()
    quitter.ends()
    quitter.look_at(0)
    quitter.look_at(1)
    quitter.ends()
    assert ended_log(quitter.service).read_text() == "no such port\n"


def test_what_ends_at_once_each_time_is_given_up_with_a_clear_line(quitter: Watched) -> None:
    quitter.start()
    now = 0.0
    for _ in range(TRIES + 3):
        quitter.ends()
        quitter.look_at(now)
        now += 2**TRIES  # longer than any pause
        quitter.look_at(now)
    assert quitter.starts == 1 + TRIES
    pauses = [line.partition("again in ")[2].partition(" s")[0] for line in quitter.told[:-1]]
    assert pauses == ["1", "2", "4", "8", "16"]
    assert quitter.told[-1] == (
        f"sleeper has ended 6 times within 10 minutes and is left alone: see {quitter.service.log},"
        " put right what it says there, and run `make ui` again"
    )


def test_what_ends_now_and_then_is_started_again_for_ever(sleeper: Watched) -> None:
    now = 0.0
    for _ in range(2 * TRIES):
        sleeper.kill()
        sleeper.look_at(now)
        sleeper.look_at(now + 16)
        assert sleeper.service.running()
        now += WINDOW_S / (TRIES - 1)


def test_one_that_is_given_up_does_not_keep_another_from_coming_back(folder: Path, quitter: Watched) -> None:
    other = Service("other", folder)
    part = Part("other", (other,), lambda: other.start(["sleep", "600"], dict(os.environ), {}))
    quitter.keeper.parts = [*quitter.keeper.parts, part]
    try:
        for now in range(0, 1000, 40):
            quitter.look_at(now)
            if quitter.service.pid_file.exists():
                quitter.ends()
        assert other.running()
    finally:
        other.stop()


def test_what_another_make_is_at_work_on_is_left_alone(sleeper: Watched) -> None:
    sleeper.kill()
    with one_at_a_time(sleeper.lock):
        sleeper.look_at(0)
        sleeper.look_at(100)
    assert (sleeper.service.running(), sleeper.told) == (False, [])
    sleeper.look_at(200)
    sleeper.look_at(300)
    assert sleeper.service.running()


@needs_mysql
def test_mysql_comes_back_at_the_port_that_others_know(folder: Path) -> None:
    server = MysqlServer(folder, HARD_PASSWORD, die_with_parent=True)
    server.ensure()
    try:
        port = server.port
        os.kill(server.service.pid, signal.SIGKILL)
        assert server.ensure()
        assert server.port == port
    finally:
        server.stop()


def test_spark_comes_back_at_the_ports_that_others_know() -> None:
    with private_spark(cores=2) as cluster:
        before = cluster.master_url, cluster.web_url
        os.kill(cluster.master.pid, signal.SIGKILL)
        wait_until(lambda: not cluster.master.running(), "the master to end")
        assert cluster.ensure()
        assert (cluster.master_url, cluster.web_url) == before


# --- the real services ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def started() -> Iterator[Site]:
    """All that `make ui` starts."""
    if not is_installed() or not spark_environment().exists():
        pytest.skip("needs a MySQL server and the Spark environment: run `make setup`")
    with running_site({"quick": STUDY}) as found:
        yield found


@pytest.fixture
def site(started: Site) -> Site:
    """All of it up, with a keeper that has seen nothing yet, whatever another test did."""
    Service(KEEPER, started.layout.state).stop()
    up = started
    if not all(Service(name, started.layout.state).running() for name in ("mysql", "spark-master", *COMMANDS)):
        up = start(started.layout, "")
    keeper.engage(up.layout, shell())
    return up


def shell() -> dict[str, str]:
    """This environment without what steers the tests' own Airflow."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}


def log_of_keeper(site: Site) -> str:
    return Service(KEEPER, site.layout.state).log.read_text()


def idle(site: Site) -> bool:
    """Whether the keeper is at work on nothing."""
    try:
        with one_at_a_time(site.layout.state / "run" / "setup.lock", seconds=0):
            return all(Service(name, site.layout.state).running() for name in service_names(site.layout))
    except SetupError:
        return False


def session_of(service: Service) -> list[int]:
    """The service, and all that runs in its session: what `pkill -9 -f` with its name would meet."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == service.pid:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "mysql", "spark-worker", "spark-master",
        "airflow-log-server", "airflow-api-server", "airflow-dag-processor", "airflow-triggerer", "airflow-scheduler",
    ],
)  # fmt: skip
def test_a_service_killed_with_all_its_processes_comes_back_healthy(site: Site, name: str) -> None:
    service = Service(name, site.layout.state)
    url, pid = site.services.url, service.pid
    for victim in session_of(service):
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: birth(pid) is None, f"{name} to end")
    wait_until(lambda: service.running() and service.pid != pid, f"{name} to come back: {log_of_keeper(site)}")
    wait_until(lambda: idle(site), "the keeper to be done")
    wait_until(lambda: not site.services.unwell(), "Airflow to be healthy", 300, every_s=1)
    assert site.services.url == url, log_of_keeper(site)
    assert all(one.running() for one in site.services.services)
    part = "spark" if name.startswith("spark") else name
    assert f"{part} has ended; it is started again in " in log_of_keeper(site)


@pytest.mark.slow
def test_the_next_make_ui_tells_what_ended_and_what_is_down(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    server = Service(LOG_SERVER, site.layout.state)
    pid = server.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.pid != pid and server.running(), "the keeper to start it again")
    wait_until(lambda: idle(site), "the keeper to be done")
    keeper.dismiss(site.layout)
    told = capsys.readouterr().out
    assert "since the last `make ui`:" in told
    assert f"{LOG_SERVER} has ended; it is started again" in told
    assert "down" not in told
    server.stop()
    server.adopt(1, {})  # as it is recorded after its end: another process has its number
    server.pid_file.write_text('{"pid": 1, "birth": "gone:1", "facts": {}}')
    keeper.dismiss(site.layout)
    told = capsys.readouterr().out
    assert "== the keeper of the services had ended: what ended since was not started again" in told
    assert f"== {LOG_SERVER} is down: starting it again" in told


@pytest.mark.slow
def test_nothing_is_started_again_behind_the_back_of_make_stop(site: Site) -> None:
    began = time.monotonic()
    os.kill(Service("airflow-triggerer", site.layout.state).pid, signal.SIGKILL)
    stopped = stop_services(site.layout)
    assert stopped[0] == KEEPER
    assert time.monotonic() - began < 120
    assert list((site.layout.state / "run").glob("*.pid")) == []
    time.sleep(3)  # the keeper's longest first pause, and a look
    assert list((site.layout.state / "run").glob("*.pid")) == []
