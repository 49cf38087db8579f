"""optuna-dashboard as a read-only part of another web site, below any path.

The dashboard expects to be a site of its own: its page and its script use /static, /api and /dashboard as absolute
paths. `dashboard_files` rewrites these few places. It knows the files of one version, and refuses any other.
"""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata, resources
from typing import Any
from urllib.parse import parse_qs
from wsgiref.util import setup_testing_defaults

import optuna_dashboard
from optuna.storages import BaseStorage

from optuna_spark.errors import TuningError
from tuning_pipeline.exports.spreadsheet import guarded_table
from tuning_pipeline.pages.shown_storage import ShownStorage

VERSION = "0.21.0"
READ_ONLY = "The dashboard inside Airflow is read-only: change a study by its file or its trigger form."

# Places in the script: (text, its replacement, how often it occurs). The first one is the API client's base URL.
_SCRIPT_PLACES = (
    ("}}(void 0),Q$=({children:e})=>", "}}({base}),Q$=({children:e})=>", 1),
    (
        'environment:"optuna-dashboard",url_prefix:"/dashboard"',
        'environment:"optuna-dashboard",url_prefix:{base}+"/dashboard"',
        1,
    ),
    ("`/csv/${e.id}", "{base}+`/csv/${e.id}", 2),
)
# Hides the buttons that create, rename or delete a study, because each would only get a `refusal`.
_HIDDEN = 'button:has([data-testid="AddBoxIcon"]), [aria-label="rename study"], [aria-label="delete study"]'
_PAGE_PLACES = (
    ('src="/static/bundle.js"', 'src="{path}/static/bundle.js"', 1),
    ("</head>", f"<style>{_HIDDEN} {{ display: none !important; }}</style></head>", 1),
)


class DashboardChangedError(TuningError):
    """The installed optuna-dashboard is not the one that this module knows."""


@dataclass(frozen=True)
class Reply:
    """An HTTP reply."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal() -> Reply:
    """The reply to every method but GET and HEAD. The dashboard's page shows its text."""
    return _reply(405, READ_ONLY, Allow="GET, HEAD")


class Dashboard:
    """The dashboard over one storage. `reply`, which is thread-safe, answers all requests.

    Args:
        storage: What it shows.
        look: Asked after an internal error of the dashboard, which does not say why. Raises if the database is away.
    """

    def __init__(self, storage: BaseStorage, look: Callable[[], None] = lambda: None) -> None:
        self.storage, self._look = storage, look
        self._app: Callable[..., Iterable[bytes]] = optuna_dashboard.wsgi(ShownStorage(storage))

    def reply(self, path: str, query: str, base: str) -> Reply:
        """Answer a GET request.

        Args:
            path: Path below the dashboard, for example /api/studies.
            query: Query string.
            base: Path of the dashboard itself, for example /airflow/tuning/optuna.

        Raises:
            DashboardChangedError: See `dashboard_files`.
            Exception: What `look` raises.
        """
        if problem := self._problem(path, query):
            return problem
        page, script = dashboard_files(base)
        if path == "/static/bundle.js":
            headers = {"Content-Type": "text/javascript", "Content-Encoding": "gzip", "Cache-Control": "max-age=3600"}
            return Reply(200, script, headers)
        if path == "/":
            return Reply(302, b"", {"Location": f"{base}/dashboard"})
        reply = call_wsgi(self._app, path, query)
        if reply.status == 500:
            self._look()
        # Optuna's plots raise for a study that has nothing to draw, which the dashboard reports as its own error.
        if reply.status == 500 and "/plot/" in path:
            return _reply(400, "This study has nothing to draw there; the API server's log says more.")
        if path.startswith("/csv/") and reply.status == 200:
            headers = {k: v for k, v in reply.headers.items() if k != "Content-Length"}
            return Reply(reply.status, guarded_table(reply.body), headers)
        if path == "/dashboard" or path.startswith("/dashboard/"):
            headers = {k: v for k, v in reply.headers.items() if k in ("Content-Type", "Content-Security-Policy")}
            return Reply(reply.status, page, headers)
        return reply

    def _problem(self, path: str, query: str) -> Reply | None:
        """The reply to a bad request that the dashboard itself would answer with an internal error; else None."""
        after = parse_qs(query, keep_blank_values=True).get("after", ["0"])
        if not all(_NUMBER.fullmatch(value) for value in after):
            return _reply(400, "`after` must be a whole number of at least 0.")
        asked = _STUDY.match(path)
        if asked is None:
            return None
        try:
            self.storage.get_study_name_from_id(int(asked["number"]) if _NUMBER.fullmatch(asked["number"]) else -1)
        except KeyError:
            return _reply(404, "There is no such study.")
        return None


# Paths that belong to one study, which they name by its number.
_STUDY = re.compile(r"/(api/studies|csv|dashboard/studies)/(?P<number>[^/]*)")
_NUMBER = re.compile(r"[0-9]{1,9}")


def _reply(status: int, reason: str, **headers: str) -> Reply:
    return Reply(status, json.dumps({"reason": reason}).encode(), {"Content-Type": "application/json", **headers})


@lru_cache(maxsize=4)
def dashboard_files(base: str) -> tuple[bytes, bytes]:
    """The dashboard's page, and its script compressed with gzip, for a dashboard at the path `base`.

    Raises:
        DashboardChangedError: Another version is installed, or a place to rewrite was not found.
    """
    installed = metadata.version("optuna-dashboard")
    if installed != VERSION:
        raise DashboardChangedError(f"optuna-dashboard {VERSION} is needed inside Airflow, {installed} is installed")
    package = resources.files(optuna_dashboard)
    page = _rewrite(package.joinpath("index.html").read_text("utf-8"), _PAGE_PLACES, base)
    script = _rewrite(package.joinpath("public", "bundle.js").read_text("utf-8"), _SCRIPT_PLACES, base)
    return page.encode(), gzip.compress(script.encode(), compresslevel=6)


def _rewrite(text: str, places: Iterable[tuple[str, str, int]], base: str) -> str:
    for old, new, count in places:
        found = text.count(old)
        if found != count:
            raise DashboardChangedError(
                f"optuna-dashboard has changed inside: {old!r} is there {found} times, not {count}"
            )
        text = text.replace(old, new.replace("{base}", json.dumps(base)).replace("{path}", base))
    return text


def call_wsgi(app: Callable[..., Iterable[bytes]], path: str, query: str) -> Reply:
    """Send a GET request to a WSGI application."""
    # WSGI passes bytes as Latin-1 characters: https://peps.python.org/pep-3333/#unicode-issues
    info = path.encode("utf-8", "replace").decode("latin-1")
    environ: dict[str, Any] = {"PATH_INFO": info, "QUERY_STRING": query, "HTTP_ACCEPT_ENCODING": ""}
    setup_testing_defaults(environ)
    environ |= {"wsgi.input": io.BytesIO(), "wsgi.multithread": True}
    started: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
        started.update(status=int(status.split()[0]), headers=dict(headers))

    chunks = app(environ, start_response)
    try:
        body = b"".join(chunks)
    finally:
        getattr(chunks, "close", lambda: None)()
    return Reply(started["status"], body, started["headers"])
