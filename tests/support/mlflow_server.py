"""A real MLflow tracking server on loopback, with its runs in SQLite. It may be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from init.local.layout import REPOSITORY, Layout
from init.local.ports import free_ports
from tests.support.waiting import wait_until

# The Python that has MLflow's server: requirements/mlflow.txt, in an environment of its own.
PYTHON_VARIABLE = "TUNING_MLFLOW_PYTHON"


def server_python() -> Path:
    return Path(os.environ.get(PYTHON_VARIABLE, Layout(REPOSITORY).mlflow_env / "bin" / "python"))


class MlflowServer:
    """The server. Call `kill` at the end.

    Args:
        folder: For its database, artifacts and log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_ports(1)[0]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            str(server_python()), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.sqlite3",
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        own = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | own, start_new_session=True
            )
        wait_until(self._answers, f"MLflow's server, see {self.folder}/server.log", every_s=0.2)

    def kill(self) -> None:
        """End it without a chance to tidy up, its workers too."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class Guarded(ThreadingHTTPServer):
    """A real MLflow server behind a door that opens for one login, as a proxy with accounts has it."""

    def __init__(self, inner: str, authorization: str) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.inner, self.authorization = inner, authorization
        self.let_in = self.turned_away = 0


class _Door(BaseHTTPRequestHandler):
    server: Guarded

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
        if self.headers.get("Authorization") != self.server.authorization:
            self.server.turned_away += 1
            self.send_error(401)
            return
        self.server.let_in += 1
        request = urllib.request.Request(self.server.inner + self.path, body, method=self.command)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                self._answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, error.read())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def guarded(inner: str, authorization: str) -> Iterator[Guarded]:
    """The door, open while the block runs.

    Args:
        inner: Address of the real server.
        authorization: The only header of this name that is let in.
    """
    door = Guarded(inner, authorization)
    thread = threading.Thread(target=door.serve_forever, daemon=True)
    thread.start()
    try:
        yield door
    finally:
        door.shutdown()
        door.server_close()
