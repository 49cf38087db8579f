"""A stand-in for a Databricks workspace that runs what is submitted to it, for real.

It keeps /Volumes, /Workspace and /dbfs in a folder, checks every request strictly, runs the cluster's init scripts
under bash and the submitted spark_python_task on a local Spark, each run in a process group of its own. What it does
not know it refuses, and remembers as a problem for the test.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from init.local.ports import free_ports
from tests.support.databricks_check import refuse_bad_submission
from tests.support.processes import processes_naming, session_members
from tests.support.servers import scratch_folder, spark_environment
from tests.support.submit import QUICK_JVM, SUBMIT

TOKEN = "dapi-stand-in"
VOLUME = "/Volumes/main/default/tuning"
MOUNTS = ("Volumes", "Workspace", "dbfs")
SECRET = re.compile(r"\{\{secrets/([^/]+)/([^}]+)\}\}")
# Spark properties that make no sense on a local Spark without GPUs.
NOT_LOCAL = ("spark.databricks.", "spark.master", "spark.task.resource.gpu")
# Cores, memory in MiB and GPUs of a node type, as a workspace lists them.
NODE_TYPES: dict[str, tuple[float, int, int | None]] = {
    "i3.xlarge": (4.0, 31232, 0),
    "i3.4xlarge": (16.0, 124928, 0),
    "g4dn.xlarge": (4.0, 16384, 1),
}


@dataclass
class Answer:
    status: int
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):  # noqa: N818  # an answer, not a mistake
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = Answer(status, {"error_code": code, "message": message})


@dataclass
class Faults:
    """What goes wrong, as a test sets it.

    Attributes:
        every: Each so-manieth request is answered 429 or 503; 0 = never.
        start_s: How long a cluster takes to start.
        cluster: A message: no cluster starts, and this is why ...
        cluster_code: ... with this termination code.
        lose_cluster_after: The cluster of the next run vanishes when its output matches this pattern.
        cancel_when: Somebody cancels the next run in the workspace once this is true.
        lose_answer: The next submission is carried out, but its answer is a 503.
        forbidden: Paths of the API that the token may not use.
    """

    every: int = 11
    start_s: float = 0.3
    cluster: str | None = None
    cluster_code: str = "CLUSTER_ERROR"
    lose_cluster_after: str | None = None
    cancel_when: Callable[[], bool] | None = None
    lose_answer: bool = False
    forbidden: tuple[str, ...] = ()


@dataclass
class Run:
    """A run, and the processes that carry it out."""

    run_id: int
    payload: dict[str, Any]
    folder: Path
    url: str
    life: str = "PENDING"
    result: str = ""
    message: str = ""
    code: str = ""
    error: str = ""
    group: int | None = None
    cancelled: bool = False
    timed_out: bool = False

    @property
    def task_run_id(self) -> int:
        return self.run_id + 1

    @property
    def processes(self) -> list[int]:
        """What lives of its job: Spark's Python daemon is in a group of its own, but in the same session."""
        return session_members(self.group) if self.group else []

    @property
    def log(self) -> Path:
        return self.folder / "output.txt"

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def stopped(self) -> bool:
        """Whether somebody wanted it to end."""
        return self.cancelled or self.timed_out

    @property
    def ended(self) -> bool:
        return self.life in ("TERMINATED", "INTERNAL_ERROR", "SKIPPED")

    def state(self) -> dict[str, Any]:
        state = {"life_cycle_state": self.life, "state_message": self.message}
        return {**state, "result_state": self.result} if self.result else state

    def describe(self) -> dict[str, Any]:
        (task,) = self.payload["tasks"]
        details = {"termination_details": {"code": self.code, "message": self.message}} if self.ended else {}
        return {
            "job_id": 7,
            "run_id": self.run_id,
            "run_name": self.payload["run_name"],
            "run_page_url": self.url,
            "state": self.state(),
            "status": {"state": "TERMINATED" if self.ended else self.life, **details},
            "tasks": [
                {
                    **{key: task[key] for key in ("task_key", "spark_python_task")},
                    "run_id": self.task_run_id,
                    "state": self.state(),
                    "start_time": 1,
                }
            ],
        }

    def end(self, life: str, result: str, message: str, code: str) -> None:
        self.life, self.result, self.message, self.code = life, result, message, code


class Workspace:
    """The state behind the endpoints."""

    def __init__(self, root: Path) -> None:
        self.root, self.faults = root, Faults()
        self.secrets: dict[tuple[str, str], str] = {}
        self.node_types = dict(NODE_TYPES)
        self.clusters: dict[str, dict[str, Any]] = {}
        self.runs: dict[int, Run] = {}
        self.tokens: dict[str, int] = {}
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.base_url = ""
        self._ids = itertools.count(1000, 10)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        for mount in ("Volumes/main/default/tuning", "Workspace/Shared", "dbfs"):
            (root / mount).mkdir(parents=True)

    def path(self, remote: str) -> Path:
        """Where a path of the workspace lies here."""
        parts = Path(unquote(remote)).parts[1:]
        assert ".." not in parts
        if parts[0] == "Volumes" and not self.root.joinpath(*parts[:4]).is_dir():
            raise Refused(404, "NOT_FOUND", f"Volume '{'.'.join(parts[1:4])}' does not exist.")
        return self.root.joinpath(*parts)

    def localised(self, text: str) -> str:
        """A text with the workspace's paths as this machine's."""
        pattern = rf"(?<![\w/])/({'|'.join(MOUNTS)})/"
        return re.sub(pattern, rf"{self.root}/\1/", text.replace("dbfs:/", "/dbfs/"))

    def submit(self, body: dict[str, Any]) -> int:
        refuse_bad_submission(body)
        (task,) = body["tasks"]
        if set(task) - {"task_key", "spark_python_task", "new_cluster", "existing_cluster_id"}:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"unexpected fields in {sorted(task)}")
        if len(json.dumps(task["spark_python_task"]["parameters"])) > 10_000:
            raise Refused(400, "INVALID_PARAMETER_VALUE", "The parameters exceed 10000 bytes.")
        with self._lock:
            token = body["idempotency_token"]
            if len(token) > 64:
                raise Refused(400, "INVALID_PARAMETER_VALUE", "idempotency_token has more than 64 characters.")
            if token in self.tokens:
                return self.tokens[token]
            run_id = next(self._ids)
            folder = self.root / "clusters" / str(run_id)
            folder.mkdir(parents=True)
            for made in (folder.parent, folder):
                made.chmod(0o711)  # whatever this process' umask is: MySQL's account must reach its data below
            run = Run(run_id, body, folder, f"{self.base_url}/#job/7/run/{run_id}")
            self.runs[run_id], self.tokens[token] = run, run_id
        self._threads.append(threading.Thread(target=self._carry_out, args=(run,), daemon=True))
        self._threads[-1].start()
        return run_id

    def cancel(self, run_id: int) -> None:
        run = self.run(run_id)
        run.cancelled = True
        self._terminate(run)

    def _time_out(self, run: Run) -> None:
        run.timed_out = not run.ended
        self._terminate(run)

    def _terminate(self, run: Run) -> None:
        if not run.ended:
            run.life = "TERMINATING"
        self._kill(run)

    def run(self, run_id: int) -> Run:
        for run in self.runs.values():
            if run_id in (run.run_id, run.task_run_id):
                return run
        raise Refused(400, "INVALID_PARAMETER_VALUE", f"Run {run_id} does not exist.")

    def stop(self) -> None:
        for run in self.runs.values():
            run.cancelled = True
            self._kill(run)
        # A run that has no process yet ends itself as soon as it has one.
        for run, thread in zip(self.runs.values(), self._threads, strict=True):
            if run.group is not None:
                thread.join(timeout=10)
        for run in self.runs.values():
            self._end_cluster(run)

    def _carry_out(self, run: Run) -> None:
        limit = threading.Timer(run.payload["timeout_seconds"], self._time_out, [run])
        limit.daemon = True
        limit.start()
        try:
            self._start_cluster(run)
        except Refused as error:
            run.end("INTERNAL_ERROR", "FAILED", str(error), error.answer.body["error_code"])
        except Exception as error:  # noqa: BLE001  # a mistake of the stand-in itself
            self.problems.append(f"the stand-in failed: {error!r}")
            run.end("INTERNAL_ERROR", "FAILED", repr(error), "INTERNAL_ERROR")
        finally:
            limit.cancel()
            self._end_cluster(run)
            if run.timed_out:
                run.end("TERMINATED", "TIMEDOUT", "Run was stopped after reaching its timeout.", "")
            elif run.cancelled:
                run.end("TERMINATED", "CANCELED", "Run cancelled.", "USER_CANCELED")

    def _start_cluster(self, run: Run) -> None:
        time.sleep(self.faults.start_s)
        (task,) = run.payload["tasks"]
        if self.faults.cluster is not None:
            raise Refused(0, self.faults.cluster_code, self.faults.cluster)
        cluster = task.get("new_cluster", {})
        environment = self._environment(run, cluster)
        for script in cluster.get("init_scripts", []):
            self._init(run, script, environment)
        if not run.stopped:
            self._run_python(run, task["spark_python_task"], cluster, environment)

    def _environment(self, run: Run, cluster: dict[str, Any]) -> dict[str, str]:
        given = {key: self._resolve(value) for key, value in cluster.get("spark_env_vars", {}).items()}
        (port,) = free_ports(1)
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "JAVA_HOME") if key in os.environ}
        return {
            **kept,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "TUNING_SPARK_ENV": str(spark_environment()),
            "DB_IS_DRIVER": "TRUE",
            "DB_DRIVER_IP": "127.0.0.1",
            "DATABRICKS_RUNTIME_VERSION": "17.3",
            "TUNING_PYTHON": str(spark_environment() / "bin" / "python"),
            "TUNING_HOME": str(run.folder / "tuning"),
            "TUNING_DB_PORT": str(port),
            **given,
        }

    def _resolve(self, value: str) -> str:
        def secret(match: re.Match[str]) -> str:
            try:
                return self.secrets[match[1], match[2]]
            except KeyError:
                message = f"Secret does not exist with scope: {match[1]} and key: {match[2]}"
                raise Refused(0, "INVALID_RUN_CONFIGURATION", message) from None

        return SECRET.sub(secret, value)

    def _init(self, run: Run, script: dict[str, Any], environment: dict[str, str]) -> None:
        ((kind, place),) = script.items()
        prefix = {"volumes": "", "workspace": "/Workspace"}[kind]
        command = ["bash", str(self.path(prefix + place["destination"]))]
        if self._process(run, command, environment) != 0 and not run.stopped:
            tail = " ".join(run.output.splitlines()[-2:])
            message = f"Cluster terminated. Reason: INIT_SCRIPT_FAILURE. {place['destination']}: exit code 1. {tail}"
            raise Refused(0, "CLUSTER_ERROR", message)

    def _run_python(self, run: Run, task: dict[str, Any], cluster: dict[str, Any], environment: dict[str, str]) -> None:
        run.life = "RUNNING"
        conf = {
            "spark.ui.enabled": "false",
            "spark.driver.memory": "512m",
            "spark.driver.extraJavaOptions": QUICK_JVM,
            **{k: v for k, v in cluster.get("spark_conf", {}).items() if not k.startswith(NOT_LOCAL)},
        }
        options = [part for name, value in conf.items() for part in ("--conf", f"{name}={value}")]
        entry = self.localised(task["python_file"])
        arguments = [self._argument(run, text) for text in task.get("parameters", [])]
        command = [str(SUBMIT), "--master", "local[4]", *options, entry, *arguments]
        # Databricks keeps nothing back; here our spark-submit stands for it.
        code = self._process(run, command, environment | {"TUNING_SPARK_ENVIRONMENT": "*"})
        if run.stopped:
            return
        if run.code == "DRIVER_ERROR":
            run.end("INTERNAL_ERROR", "FAILED", run.message, run.code)
        elif code == 0:
            run.end("TERMINATED", "SUCCESS", "", "SUCCESS")
        else:
            lines = [line for line in run.output.splitlines() if line.strip()]
            run.error = f"SystemExit: {lines[-1] if lines else code}"
            message = "Workload failed, see run output for details"
            run.end("INTERNAL_ERROR", "FAILED", message, "RUN_EXECUTION_ERROR")

    def _argument(self, run: Run, text: str) -> str:
        """An argument as this machine sees it; paths inside a JSON file are translated in a copy of it."""
        local = self.localised(text)
        if local.endswith(".json") and Path(local).is_file():
            copy = run.folder / Path(local).name
            copy.write_text(self.localised(Path(local).read_text()))
            return str(copy)
        return local

    def _process(self, run: Run, command: list[str], environment: dict[str, str]) -> int:
        with run.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o022,
            )
        run.group = process.pid
        if run.stopped:
            self._kill(run)
        while process.poll() is None:
            lost = self.faults.lose_cluster_after
            if lost is not None and re.search(lost, run.output):
                self.faults.lose_cluster_after = None
                run.code, run.message = (
                    "DRIVER_ERROR",
                    "The driver's machine was lost: its spot instance was preempted.",
                )
                self._kill(run)
            due = self.faults.cancel_when
            if due is not None and due():
                self.faults.cancel_when = None
                self.cancel(run.run_id)
            time.sleep(0.1)
        return process.returncode

    def _kill(self, run: Run) -> None:
        if run.group is not None:
            with suppress(ProcessLookupError):
                os.killpg(run.group, signal.SIGKILL)

    def _end_cluster(self, run: Run) -> None:
        """A cluster's machine goes with all it runs, the MySQL server too."""
        self._kill(run)
        for pid in processes_naming(str(run.folder)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _handler(workspace: Workspace) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                answer = self._handle(body)
            except Refused as refused:
                answer = refused.answer
            except Exception as error:  # noqa: BLE001  # strictness: what the stand-in does not take is a problem of the request
                workspace.problems.append(f"{self.command} {self.path}: {error!r}")
                answer = Answer(400, {"error_code": "INVALID_PARAMETER_VALUE", "message": str(error)})
            self._send(answer)

        def _handle(self, body: bytes) -> Answer:
            parts = urlsplit(self.path)
            workspace.requests.append(f"{self.command} {parts.path}")
            if parts.path == "/.well-known/databricks-config":
                return Answer(200, {"oidc_endpoint": f"{workspace.base_url}/oidc", "workspace_id": "42"})
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise Refused(403, "PERMISSION_DENIED", "Invalid access token.")
            if parts.path in workspace.faults.forbidden:
                raise Refused(403, "PERMISSION_DENIED", f"The token's owner may not use {parts.path}.")
            number = len(workspace.requests)
            if workspace.faults.every and number % workspace.faults.every == 0:
                status = (429, 503)[number // workspace.faults.every % 2]
                code = {429: "RESOURCE_EXHAUSTED", 503: "TEMPORARILY_UNAVAILABLE"}[status]
                return Answer(status, {"error_code": code, "message": "try again"}, {"Retry-After": "1"})
            for pattern, endpoint in ENDPOINTS.items():
                match = re.fullmatch(pattern, f"{self.command} {parts.path}")
                if match:
                    query = {key: value for key, (value,) in parse_qs(parts.query).items()}
                    return endpoint(workspace, Request(match, query, body, dict(self.headers)))
            workspace.problems.append(f"unknown endpoint {self.command} {parts.path}")
            raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{self.command} {parts.path}'")

        def _send(self, answer: Answer) -> None:
            raw = isinstance(answer.body, bytes)
            content = answer.body if raw else b"" if answer.status == 204 else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/octet-stream" if raw else "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler


@dataclass
class Request:
    match: re.Match[str]
    query: dict[str, str]
    body: bytes
    headers: dict[str, str]

    def json(self, *fields: str) -> dict[str, Any]:
        """The body; other fields than these are refused."""
        data: dict[str, Any] = json.loads(self.body or b"{}")
        unknown = set(data) - set(fields)
        if fields and unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        return data

    def fields(self, *names: str) -> dict[str, Any]:
        """Fields of the query, or of a JSON body, which the triggerer sends with a GET."""
        data = {**self.query, **self.json(*names)}
        unknown = set(data) - set(names)
        if unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        return data

    def form(self) -> dict[str, bytes]:
        """The parts of a multipart form."""
        kind = next(value for key, value in self.headers.items() if key.lower() == "content-type")
        message = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + self.body)
        parts = message.get_payload()
        assert isinstance(parts, list)
        return {str(p.get_param("name", header="content-disposition")): p.get_payload(decode=True) for p in parts}  # type: ignore[union-attr, misc]


def _submit(workspace: Workspace, request: Request) -> Answer:
    run_id = workspace.submit(request.json())
    if workspace.faults.lose_answer:
        workspace.faults.lose_answer = False
        raise Refused(503, "TEMPORARILY_UNAVAILABLE", "The answer was lost.")
    return Answer(200, {"run_id": run_id})


def _get(workspace: Workspace, request: Request) -> Answer:
    return Answer(200, workspace.run(int(request.fields("run_id")["run_id"])).describe())


def _list(workspace: Workspace, request: Request) -> Answer:
    asked = request.fields("active_only", "run_type", "expand_tasks", "limit", "page_token")
    if (asked["active_only"], asked["run_type"], asked["expand_tasks"]) != ("true", "SUBMIT_RUN", "true"):
        raise ValueError(f"not what a search for live runs asks: {asked}")
    # Two on a page, so that who asks has to turn over.
    live = [run for run in reversed(workspace.runs.values()) if not run.ended]
    first = int(asked.get("page_token", 0))
    more = {"has_more": True, "next_page_token": str(first + 2)} if len(live) > first + 2 else {"has_more": False}
    return Answer(200, {"runs": [run.describe() for run in live[first : first + 2]], **more})


def _get_output(workspace: Workspace, request: Request) -> Answer:
    run_id = int(request.fields("run_id")["run_id"])
    run = workspace.run(run_id)
    if run_id != run.task_run_id:
        raise Refused(
            400, "INVALID_PARAMETER_VALUE", "Retrieving the output of runs with multiple tasks is not supported."
        )
    body = {"metadata": run.describe(), "logs": run.output[-50_000:], "logs_truncated": len(run.output) > 50_000}
    if run.error:
        body |= {"error": run.error, "error_trace": run.output[-3000:]}
    return Answer(200, body)


def _cancel(workspace: Workspace, request: Request) -> Answer:
    workspace.cancel(int(request.json("run_id")["run_id"]))
    return Answer(200)


def _versions(workspace: Workspace, request: Request) -> Answer:
    return Answer(200, {"versions": [{"key": "17.3.x-gpu-ml-scala2.13", "name": "17.3 LTS ML (GPU)"}]})


def _node_types(workspace: Workspace, request: Request) -> Answer:
    request.fields()
    kept = {"support_cluster_tags": True, "category": "General Purpose", "is_hidden": False}
    listed = [
        {
            **{"node_type_id": name, "instance_type_id": name, "description": name, **kept},
            **{"num_cores": cores, "memory_mb": memory, "num_gpus": gpus},
        }
        for name, (cores, memory, gpus) in workspace.node_types.items()
    ]
    return Answer(200, {"node_types": listed})


def _get_cluster(workspace: Workspace, request: Request) -> Answer:
    cluster_id = request.fields("cluster_id")["cluster_id"]
    if cluster_id not in workspace.clusters:
        raise Refused(400, "INVALID_PARAMETER_VALUE", f"Cluster {cluster_id} does not exist")
    return Answer(200, {"cluster_id": cluster_id, "state": "TERMINATED", **workspace.clusters[cluster_id]})


def _put_file(workspace: Workspace, request: Request) -> Answer:
    path = workspace.path(request.match["path"])
    if set(request.query) - {"overwrite"}:
        raise ValueError(f"unknown query {request.query}")
    if not path.parent.is_dir():
        raise Refused(404, "NOT_FOUND", f"No such directory {path.parent.name}")
    path.write_bytes(request.body)
    return Answer(204)


def _delete_file(workspace: Workspace, request: Request) -> Answer:
    path = workspace.path(request.match["path"])
    if not path.is_file():
        raise Refused(404, "NOT_FOUND", "The file being accessed is not found.")
    path.unlink()
    return Answer(204)


def _get_file(workspace: Workspace, request: Request) -> Answer:
    path = workspace.path(request.match["path"])
    if not path.is_file():
        raise Refused(404, "NOT_FOUND", "The file being accessed is not found.")
    modified = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(path.stat().st_mtime))
    return Answer(200, path.read_bytes(), {"Last-Modified": modified})


def _entries(workspace: Workspace, folder: Path) -> Iterator[tuple[str, Path, int]]:
    """Each entry of a folder: its path in the workspace, here, and its time in milliseconds."""
    if not folder.is_dir():
        raise Refused(404, "RESOURCE_DOES_NOT_EXIST", "No such directory.")
    for entry in sorted(folder.iterdir()):
        yield f"/{entry.relative_to(workspace.root)}", entry, int(entry.stat().st_mtime * 1000)


def _list_directory(workspace: Workspace, request: Request) -> Answer:
    request.fields("page_size", "page_token")
    contents = []
    for path, entry, modified in _entries(workspace, workspace.path(request.match["path"])):
        facts = {"path": path, "name": entry.name, "is_directory": entry.is_dir(), "last_modified": modified}
        contents.append(facts if entry.is_dir() else facts | {"file_size": entry.stat().st_size})
    return Answer(200, {"contents": contents})


def _dbfs_facts(path: str, entry: Path, modified: int) -> dict[str, Any]:
    size = 0 if entry.is_dir() else entry.stat().st_size
    return {"path": path, "is_dir": entry.is_dir(), "file_size": size, "modification_time": modified}


def _dbfs_status(workspace: Workspace, request: Request) -> Answer:
    path = request.fields("path")["path"]
    entry = workspace.path(f"/dbfs{path}")
    if not entry.exists():
        raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"No file or directory exists on path {path}.")
    return Answer(200, _dbfs_facts(path, entry, int(entry.stat().st_mtime * 1000)))


def _dbfs_list(workspace: Workspace, request: Request) -> Answer:
    found = _entries(workspace, workspace.path(f"/dbfs{request.fields('path')['path']}"))
    return Answer(
        200, {"files": [_dbfs_facts(path.removeprefix("/dbfs"), entry, modified) for path, entry, modified in found]}
    )


def _object(path: str, entry: Path, modified: int) -> dict[str, Any]:
    if entry.is_dir():
        return {"object_type": "DIRECTORY", "path": path, "object_id": 2}
    facts = {"size": entry.stat().st_size, "modified_at": modified}
    return {"object_type": "FILE", "path": path, "object_id": 1, **facts}


def _workspace_list(workspace: Workspace, request: Request) -> Answer:
    found = _entries(workspace, _workspace_path(workspace, request.fields("path")["path"]))
    return Answer(200, {"objects": [_object(*facts) for facts in found]})


def _put_directory(workspace: Workspace, request: Request) -> Answer:
    workspace.path(request.match["path"]).mkdir(parents=True, exist_ok=True)
    return Answer(204)


def _workspace_path(workspace: Workspace, path: str) -> Path:
    return workspace.path(f"/Workspace{path.removeprefix('/Workspace')}")


def _mkdirs(workspace: Workspace, request: Request) -> Answer:
    _workspace_path(workspace, request.json("path")["path"]).mkdir(parents=True, exist_ok=True)
    return Answer(200)


def _import(workspace: Workspace, request: Request) -> Answer:
    form = request.form()
    if set(form) - {"path", "format", "language", "overwrite", "content"} or form["format"] != b"RAW":
        raise ValueError(f"unexpected form {sorted(form)}")
    _workspace_path(workspace, form["path"].decode()).write_bytes(form["content"])
    return Answer(200)


def _delete(workspace: Workspace, request: Request) -> Answer:
    path = _workspace_path(workspace, request.json("path")["path"])
    if not path.is_file():
        raise Refused(404, "RESOURCE_DOES_NOT_EXIST", "Path doesn't exist.")
    path.unlink()
    return Answer(200)


def _status(workspace: Workspace, request: Request) -> Answer:
    path = request.fields("path")["path"]
    entry = _workspace_path(workspace, path)
    if not entry.exists():
        raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Path ({path}) doesn't exist.")
    return Answer(200, _object(path, entry, int(entry.stat().st_mtime * 1000)))


def _export(workspace: Workspace, request: Request) -> Answer:
    path = _workspace_path(workspace, request.fields("path", "format", "direct_download")["path"])
    if not path.is_file():
        raise Refused(404, "RESOURCE_DOES_NOT_EXIST", "Path doesn't exist.")
    return Answer(200, path.read_bytes())


ENDPOINTS: dict[str, Callable[[Workspace, Request], Answer]] = {
    r"POST /api/2\.2/jobs/runs/submit": _submit,
    r"GET /api/2\.2/jobs/runs/get": _get,
    r"GET /api/2\.2/jobs/runs/list": _list,
    r"GET /api/2\.2/jobs/runs/get-output": _get_output,
    r"POST /api/2\.2/jobs/runs/cancel": _cancel,
    r"GET /api/2\.1/clusters/spark-versions": _versions,
    r"GET /api/2\.1/clusters/list-node-types": _node_types,
    r"GET /api/2\.1/clusters/get": _get_cluster,
    r"PUT /api/2\.0/fs/files(?P<path>/Volumes/.+)": _put_file,
    r"(GET|HEAD) /api/2\.0/fs/files(?P<path>/Volumes/.+)": _get_file,
    r"DELETE /api/2\.0/fs/files(?P<path>/Volumes/.+)": _delete_file,
    r"PUT /api/2\.0/fs/directories(?P<path>/Volumes/.+)": _put_directory,
    r"GET /api/2\.0/fs/directories(?P<path>/Volumes/.+)": _list_directory,
    r"GET /api/2\.0/dbfs/get-status": _dbfs_status,
    r"GET /api/2\.0/dbfs/list": _dbfs_list,
    r"GET /api/2\.0/workspace/list": _workspace_list,
    r"POST /api/2\.0/workspace/mkdirs": _mkdirs,
    r"POST /api/2\.0/workspace/import": _import,
    r"POST /api/2\.0/workspace/delete": _delete,
    r"GET /api/2\.0/workspace/get-status": _status,
    r"GET /api/2\.0/workspace/export": _export,
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up, as a killed task does, are no news."""


@contextmanager
def databricks_workspace() -> Iterator[Workspace]:
    """A workspace that serves at `base_url` until the block ends."""
    with scratch_folder() as folder:
        folder.chmod(0o711)  # MySQL's account must reach its data below
        workspace = Workspace(folder)
        server = _Server(("127.0.0.1", 0), _handler(workspace))
        workspace.base_url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield workspace
        finally:
            workspace.stop()
            server.shutdown()
            server.server_close()
