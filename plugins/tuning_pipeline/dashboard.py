"""optuna-dashboard as part of another web site: below any path, and only to be looked at.

The dashboard expects to be a site of its own: its page and its script name /static, /api and /dashboard from the root.
`dashboard_files` rewrites those few places. It knows the inside of one version and refuses any other.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata, resources
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna_dashboard
from optuna.storages import BaseStorage

from optuna_spark.errors import TuningError

VERSION = "0.21.0"
READ_ONLY = "The dashboard inside Airflow is read-only: change a study by its file or its trigger form."

# In the script: (text, text below a path, how often it stands there). The first is the API client's base URL.
_SCRIPT_PLACES = (
    ("}}(void 0),Q$=({children:e})=>", "}}({base}),Q$=({children:e})=>", 1),
    (
        'environment:"optuna-dashboard",url_prefix:"/dashboard"',
        'environment:"optuna-dashboard",url_prefix:{base}+"/dashboard"',
        1,
    ),
    ("`/csv/${e.id}", "{base}+`/csv/${e.id}", 2),
)
# Buttons that would only be answered with `refusal`: create, rename and delete a study.
_HIDDEN = 'button:has([data-testid="AddBoxIcon"]), [aria-label="rename study"], [aria-label="delete study"]'
_PAGE_PLACES = (
    ('src="/static/bundle.js"', 'src="{path}/static/bundle.js"', 1),
    ("</head>", f"<style>{_HIDDEN} {{ display: none !important; }}</style></head>", 1),
)


class DashboardChangedError(TuningError):
    """The installed optuna-dashboard is not the one this module knows."""


@dataclass(frozen=True)
class Reply:
    """An HTTP reply."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal() -> Reply:
    """The answer to anything but GET and HEAD, in the words the dashboard's page shows."""
    body = json.dumps({"reason": READ_ONLY}).encode()
    return Reply(405, body, {"Content-Type": "application/json", "Allow": "GET, HEAD"})


class Dashboard:
    """The dashboard over one storage; every request is answered by `reply`, which is thread-safe."""

    def __init__(self, storage: BaseStorage) -> None:
        self.storage = storage
        self._app: Callable[..., Iterable[bytes]] = optuna_dashboard.wsgi(storage)

    def reply(self, path: str, query: str, base: str) -> Reply:
        """Answer a GET request, the only kind there is here.

        Args:
            path: Path below the dashboard, such as /api/studies.
            query: Query string.
            base: Where the dashboard lies, such as /airflow/tuning/optuna.

        Raises:
            DashboardChangedError: See `dashboard_files`.
        """
        page, script = dashboard_files(base)
        if path == "/static/bundle.js":
            headers = {"Content-Type": "text/javascript", "Content-Encoding": "gzip", "Cache-Control": "max-age=3600"}
            return Reply(200, script, headers)
        reply = call_wsgi(self._app, path, query)
        if path == "/dashboard" or path.startswith("/dashboard/"):
            headers = {k: v for k, v in reply.headers.items() if k in ("Content-Type", "Content-Security-Policy")}
            return Reply(reply.status, page, headers)
        return reply


@lru_cache(maxsize=4)
def dashboard_files(base: str) -> tuple[bytes, bytes]:
    """The dashboard's page, and its script compressed with gzip, for a dashboard that lies at `base`.

    Raises:
        DashboardChangedError: Another version is installed, or a place to rewrite is not where it was.
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
    environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "HTTP_ACCEPT_ENCODING": ""}
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
