"""python3 -m init.local.keeper FOLDER: restarts services that `make ui` started and that have ended.

It only notices processes that end, not those that hang. It gives up on a service that ends again and again: a restart
does not help it, and would only fill the disk and hide the fault. Its log says what it did, and the next `make ui`
shows that.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from init.local import airflow, machine, passwords
from init.local.console import detail, say, show
from init.local.errors import SetupError
from init.local.layout import REPOSITORY, Layout
from init.local.processes import Service, one_at_a_time
from init.local.stack import KEEPER, Stack, gpus_to_use, service_names
from init.local.ui import AirflowServices

LOOK_EVERY_S = 1.0
# It gives up on a service that ends more than TRIES times within WINDOW_S seconds.
TRIES = 5
WINDOW_S = 600.0


@dataclass(frozen=True)
class Part:
    """Services that are started together, and the function that starts them."""

    name: str
    services: tuple[Service, ...]
    start: Callable[[], object]

    def runs(self) -> bool:
        return all(service.running() for service in self.services)

    def start_again(self) -> None:
        """Starts the services. The old logs are kept beside the new ones."""
        for service in self.services:
            if service.log.exists():
                service.log.replace(ended_log(service))
        self.start()


def ended_log(service: Service) -> Path:
    return service.log.with_suffix(".ended.log")


@dataclass
class Keeper:
    """Notices services that have ended, and starts them again after a pause.

    Attributes:
        parts: The services to look after.
        lock: The lock that each `make` holds while it starts or stops services.
        tell: Takes one line for the log.
        first_pause_s: Seconds before the first restart; each further pause is twice as long.
        clock: Seconds of a monotonic clock.
    """

    parts: Sequence[Part]
    lock: Path
    tell: Callable[[str], None]
    first_pause_s: float = 1.0
    clock: Callable[[], float] = time.monotonic
    _ends: dict[str, list[float]] = field(default_factory=dict)
    _due: dict[str, float] = field(default_factory=dict)
    _given_up: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Looks at every part once, and starts those that are due."""
        if not self._down():
            self._due.clear()
            return
        try:
            with one_at_a_time(self.lock, seconds=0):
                for part in self._down():
                    self._tend(part)
        except SetupError:
            return  # another `make` starts or stops services now: what is down may be so on purpose

    def _down(self) -> list[Part]:
        return [part for part in self.parts if part.name not in self._given_up and not part.runs()]

    def _tend(self, part: Part) -> None:
        now = self.clock()
        if part.name not in self._due:
            self._note_end(part, now)
        elif now >= self._due[part.name]:
            del self._due[part.name]
            self._start(part)

    def _note_end(self, part: Part, now: float) -> None:
        ends = self._ends[part.name] = [at for at in self._ends.get(part.name, []) if now - at < WINDOW_S] + [now]
        logs = " and ".join(str(service.log) for service in part.services)
        if len(ends) > TRIES:
            self._given_up.add(part.name)
            self.tell(
                f"{part.name} has ended {len(ends)} times within {WINDOW_S / 60:g} minutes and is left alone:"
                f" see {logs}, put right what it says there, and run `make ui` again"
            )
            return
        pause = self.first_pause_s * 2 ** (len(ends) - 1)
        self._due[part.name] = now + pause
        kept = " and ".join(str(ended_log(service)) for service in part.services)
        self.tell(
            f"{part.name} has ended; it is started again in {pause:g} s (try {len(ends)} of {TRIES}),"
            f" its log becomes {kept}"
        )

    def _start(self, part: Part) -> None:
        try:
            part.start_again()
        except (SetupError, OSError) as error:
            self.tell(f"{part.name} did not start: {str(error).splitlines()[0]}")


@dataclass(frozen=True)
class Site:
    """The services that `make ui` started in one checkout, with all that is needed to start them again."""

    layout: Layout
    stack: Stack

    @classmethod
    def found(cls, layout: Layout) -> Site:
        secrets = passwords.load_or_create(layout.state / "secrets.env")
        has_mysql = "mysql" in service_names(layout)
        return cls(layout, Stack(layout, secrets, machine.java_home(), gpus_to_use(), has_mysql))

    def parts(self) -> list[Part]:
        stack = self.stack
        found = [Part("spark", (stack.spark.master, stack.spark.worker), partial(self._server, stack.spark.ensure))]
        if stack.has_mysql:
            found.insert(0, Part("mysql", (stack.mysql.service,), partial(self._server, stack.mysql.ensure)))
        services = self._airflow().services
        return found + [Part(one.name, (one,), partial(self._service, one)) for one in services]

    def _server(self, ensure: Callable[[], object]) -> None:
        """Starts a server. If it had to take another port, Airflow's services are restarted to learn of it."""
        ensure()
        if self._airflow().outdated():
            self._airflow().ensure()

    def _service(self, service: Service) -> None:
        self._airflow().start_again(service)

    def _airflow(self) -> AirflowServices:
        spark, mysql = self.stack.spark, self.stack.mysql if self.stack.has_mysql else None
        connections = airflow.connections(self.layout, mysql, spark.port, self.stack.secrets, spark_page=spark.web_url)
        return AirflowServices(self.layout, airflow.environment(self.layout, connections, self.stack.java_home))


def engage(layout: Layout, environment: Mapping[str, str]) -> None:
    """Starts the keeper, with the environment of `make ui`."""
    # `python -m` finds the package in the folder that it starts in.
    command = ["env", "--chdir", str(REPOSITORY), sys.executable, "-m", "init.local.keeper", str(layout.root)]
    Service(KEEPER, layout.state).start(command, environment, {})


def dismiss(layout: Layout) -> None:
    """Ends the keeper. Prints what it has done, and which services are down."""
    keeper = Service(KEEPER, layout.state)
    names = [name for name in service_names(layout) if name != KEEPER and not name.startswith("run-")]
    if names and not keeper.stop() and any(name.startswith("airflow-") for name in names):
        say("the keeper of the services had ended: what ended since was not started again")
    if told := [line for line in _lines(keeper.log) if line[:1].isdigit()]:
        say("since the last `make ui`:")
        for line in told:
            detail(line)
    keeper.log.unlink(missing_ok=True)
    for name in names:
        if not Service(name, layout.state).running():
            say(f"{name} is down: starting it again")


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines() if log.exists() else []


def main(root: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    layout = Layout(Path(root))
    keeper = Keeper(
        Site.found(layout).parts(),
        layout.state / "run" / "setup.lock",
        lambda text: show(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}"),
    )
    while True:
        keeper.look()
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
