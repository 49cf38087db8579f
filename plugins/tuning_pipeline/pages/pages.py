"""The pipeline's pages inside Airflow: the Optuna dashboard, and a tab for each run.

All are behind Airflow's login. People who may read all DAGs may see the dashboard. People who may read the XComs of a
DAG may see the tabs of its runs. Nothing changes anything but the button *Finish now*, for who may edit the run.
"""

from __future__ import annotations

import html
import logging
from functools import cache
from typing import Annotated
from urllib.parse import quote

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from optuna_spark.errors import TuningError
from tuning_pipeline.database.finish_marks import request_finish
from tuning_pipeline.exports.report.page_policy import CONTENT_POLICY
from tuning_pipeline.failures import TaskError, describe_failure
from tuning_pipeline.pages import cluster_finish
from tuning_pipeline.pages.dashboard import Reply, refusal
from tuning_pipeline.pages.databases import Databases
from tuning_pipeline.pages.live_page import Links, live_page
from tuning_pipeline.pages.live_run import LiveRun, key_of, live_run
from tuning_pipeline.pages.login import (
    NotAllowedError,
    User,
    can_edit_run,
    can_read_run,
    login_sentence,
    may_edit_run,
    may_read_run,
    may_read_studies,
)
from tuning_pipeline.pages.pool_wait import pool_wait
from tuning_pipeline.pages.run_report import folder_below, has_report, read_report, with_sentence
from tuning_pipeline.pages.style import STYLE
from tuning_pipeline.pages.tuning_run import EXPORT_TASK, PUBLISHED, TuningRun, newest_run, study_place, tuning_run
from tuning_pipeline.study_file.keys.study_keys import ConnectionIds

log = logging.getLogger(__name__)

Editor = Annotated[BaseUser, Depends(may_edit_run)]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
# A report contains scripts. The policy keeps them from the reader's Airflow session and from every address.
REPORT_HEADERS = {
    "Content-Security-Policy": f"{CONTENT_POLICY}; frame-ancestors 'self'; sandbox allow-scripts allow-downloads",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
# These pages have no script, whatever texts of users they show.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# What the database of a study raises: its connection is wrong, or it is away, at the first look or in the midst of one.
UNREADABLE = (TuningError, SQLAlchemyError, StorageInternalError)


@cache
def databases() -> Databases:
    """The databases that study files name."""
    return Databases()


def pages() -> FastAPI:
    """The pages below /tuning."""
    app = FastAPI(title="Tuning", openapi_url=None)
    for kind in UNREADABLE:
        app.add_exception_handler(kind, _unavailable)
    app.add_exception_handler(HTTPException, _refused)  # type: ignore[arg-type]  # likewise

    @app.get("/studies", dependencies=[Depends(may_read_studies)])
    def studies(request: Request) -> Response:
        """The way in: the only dashboard, or a list of all."""
        names = databases().names()
        if len(names) == 1:
            return RedirectResponse(f"{_dashboard_path(request, names[0])}/dashboard")
        return _database_list(request, names)

    @app.api_route("/optuna/{path:path}", methods=METHODS, dependencies=[Depends(may_read_studies)])
    def optuna(path: str, request: Request) -> Response:
        return _dashboard(ConnectionIds().database, path, request)

    @app.api_route("/databases/{conn_id}/{path:path}", methods=METHODS, dependencies=[Depends(may_read_studies)])
    def database(conn_id: str, path: str, request: Request) -> Response:
        return _dashboard(conn_id, path, request)

    @app.get("/study/{name:path}", dependencies=[Depends(may_read_studies)])
    def study(name: str, request: Request, database: str = "") -> Response:
        """The page of a study by its name. The dashboard itself only knows a study's number."""
        names = [database] if database in databases().names() else databases().names()
        problems: list[Exception] = []
        for conn_id in names:
            try:
                number = databases().dashboard(conn_id).storage.get_study_id_from_name(name)
            except KeyError:
                continue
            except UNREADABLE as error:
                problems.append(error)
                continue
            return RedirectResponse(f"{_dashboard_path(request, conn_id)}/dashboard/studies/{number}")
        if problems and len(problems) == len(names):
            raise problems[0]
        unread = [f"Not every database could be asked: {_sentence(error)}" for error in problems]
        return message_page("No such study yet", f"The database holds no study {name}.", *unread, status=404)

    @app.get("/report/{dag_id}/{run_id:path}", dependencies=[Depends(may_read_run)])
    def report(dag_id: str, run_id: str, request: Request, user: User, show: str = "") -> Response:
        run = tuning_run(dag_id, run_id) if run_id else None
        folder = folder_below(run.place.exports, run.place.study, run_id) if run is not None else None
        if run is None or folder is None:
            return message_page("No such run", f"DAG {dag_id} has no run {run_id} that tunes a study.", status=404)
        is_wanted = run.state == "success" or show == "report"
        try:
            found = read_report(folder) if is_wanted else None
            is_there = not is_wanted and has_report(folder)
        except OSError as error:
            return message_page("The report cannot be read", f"{folder}: {error.strerror or error}", status=404)
        return _tab(run, request, user, has_report=is_there) if found is None else _report(run, found)

    @app.get("/latest/{dag_id}", dependencies=[Depends(may_read_run)])
    def latest(dag_id: str, request: Request) -> Response:
        """What the study's newest run found best: the tab of that run."""
        if study_place(dag_id) is None:
            return message_page("No study", f"DAG {dag_id} tunes no study.", status=404)
        run_id = newest_run(dag_id)
        if run_id is None:
            return message_page("No run yet", f"Trigger {dag_id}: its best trials will be here.")
        return RedirectResponse(_run_path(request, "report", dag_id, run_id))

    @app.post("/finish/{dag_id}/{run_id:path}")
    def finish(dag_id: str, run_id: str, request: Request, user: Editor) -> Response:
        run = tuning_run(dag_id, run_id)
        if run is None or not (run.place.database or run.place.runs):
            return message_page("No such run", f"DAG {dag_id} has no run {run_id} to finish here.", status=404)
        if not run.is_tuning:  # a request that stays would end a later try of the run
            return message_page("The run does not tune now", *_tunes_not(run), status=409)
        try:
            _request_finish(run, user.get_name())
        except TaskError as error:
            return message_page("The run was not asked to finish", *_texts(error), status=503)
        log.info("%s asked run %s of DAG %s to finish", user.get_name(), run_id, dag_id)
        # 303: the browser asks for the tab with GET, so that loading it anew posts nothing.
        return RedirectResponse(_run_path(request, "report", run.dag_id, run.run_id), status_code=303)

    return app


def _report(run: TuningRun, report: bytes) -> HTMLResponse:
    verdict = run.left(EXPORT_TASK, PUBLISHED)
    whole = with_sentence(report, f"Asset event {verdict}.") if verdict else report
    return HTMLResponse(whole, headers=REPORT_HEADERS)


def _tunes_not(run: TuningRun) -> tuple[str, str]:
    what = f"Run {run.run_id} of DAG {run.dag_id} runs no trials now, so there is nothing to finish."
    if run.is_over:
        return what, "It has ended."
    return what, "Wait until its task tune is at work, or mark the run as failed to end it now."


def _request_finish(run: TuningRun, by: str) -> None:
    if run.place.database:
        request_finish(run.place.study, key_of(run), by, _storage(run.place.database))
    else:
        cluster_finish.request_finish(run, by)


def _dashboard(conn_id: str, path: str, request: Request) -> Response:
    if request.method not in ("GET", "HEAD"):
        return _response(refusal())
    try:
        board = databases().dashboard(conn_id)
    except KeyError:
        return message_page("No such database", f"No study file names a connection {conn_id!r}.", status=404)
    return _response(board.reply("/" + path.rstrip("/"), request.url.query, _dashboard_path(request, conn_id)))


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, dict(reply.headers))


def _dashboard_path(request: Request, conn_id: str) -> str:
    place = "optuna" if conn_id == ConnectionIds().database else f"databases/{quote(conn_id, safe='')}"
    return f"{request.scope['root_path']}/{place}"


def _run_path(request: Request, what: str, dag_id: str, run_id: str) -> str:
    return f"{request.scope['root_path']}/{what}/{quote(dag_id, safe='')}/{quote(run_id, safe='')}"


def _tab(run: TuningRun, request: Request, user: BaseUser, *, has_report: bool) -> HTMLResponse:
    """The tab of a run that goes on, or has no report."""
    storage, problem = None, ""
    try:
        storage = _storage(run.place.database) if run.place.database else None
        live = live_run(run, storage, cluster_finish.requested_by(run))
    except UNREADABLE as error:
        storage, problem = None, f"The study cannot be read: {_sentence(error)}"
        live = live_run(run, None)
    links = Links(
        study=_study_link(request, live),
        report=f"{_run_path(request, 'report', run.dag_id, run.run_id)}?show=report" if has_report else "",
        finish=_run_path(request, "finish", run.dag_id, run.run_id)
        if (storage is not None or run.place.runs) and can_edit_run(run.dag_id, user)
        else "",
        problem=problem,
        waits=_waits(run, user),
    )
    return HTMLResponse(live_page(live, links), headers=PAGE_HEADERS)


def _waits(run: TuningRun, user: BaseUser) -> str:
    found = None if run.is_over else pool_wait(run.dag_id, run.run_id)
    return found.sentence(lambda dag_id: can_read_run(dag_id, user)) if found is not None else ""


def _sentence(error: Exception) -> str:
    what, then = _texts(error)
    return f"{what}. {then}".strip() if isinstance(error, TuningError) else what


def _texts(error: Exception) -> tuple[str, str]:
    """What a page may say of an error, and the next step: a driver's own text may quote a statement."""
    if not isinstance(error, TuningError):
        return (
            f"the database does not answer ({type(error).__name__})",
            "Look at the database, then load this page anew.",
        )
    failure = describe_failure(error)
    return failure.what, failure.next


def _storage(conn_id: str) -> RDBStorage:
    storage = databases().of_study(conn_id).storage
    assert isinstance(storage, RDBStorage)  # create_storage made it
    return storage


def _study_link(request: Request, live: LiveRun) -> str:
    if live.numbers is None:
        return ""
    place = live.run.place
    return f"{request.scope['root_path']}/study/{quote(place.study, safe='')}?database={quote(place.database)}"


def _database_list(request: Request, names: list[str]) -> HTMLResponse:
    """All databases, each with its dashboard, or with the reason why there is none."""
    items = []
    for name in names:
        shown = html.escape(name)
        try:
            board = databases().dashboard(name)
            count = len(board.storage.get_all_studies())
            address = html.escape(f"{_dashboard_path(request, name)}/dashboard")
            items.append(f'<li><a href="{address}">{shown}</a> <span class="note">{count:,} studies</span></li>')
        except UNREADABLE as error:
            items.append(f'<li>{shown} <span class="bad">{html.escape(_sentence(error))}</span></li>')
    return _page("Databases of the studies", f"<ul>{''.join(items)}</ul>")


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


async def _unavailable(request: Request, error: Exception) -> Response:
    if not isinstance(error, TuningError):
        log.warning("%s: the database does not answer", request.url.path, exc_info=error)
    if not _wants_page(request):
        return JSONResponse({"reason": _sentence(error)}, 503)
    return message_page("The studies cannot be read", *_texts(error), status=503)


async def _refused(request: Request, error: HTTPException) -> Response:
    if not _wants_page(request) or error.status_code not in (401, 403):
        return await http_exception_handler(request, error)
    if isinstance(error, NotAllowedError):
        return message_page("Not for you", str(error.detail), status=403)
    return _page("Log in", f"<p>{login_sentence(request)}</p>", status=error.status_code)


def message_page(title: str, *texts: str, status: int = 200) -> HTMLResponse:
    """A page with a few sentences."""
    return _page(title, "".join(f"<p>{html.escape(text)}</p>" for text in texts if text), status)


def _page(title: str, body: str, status: int = 200) -> HTMLResponse:
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><main><h1>{html.escape(title)}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(page, status, PAGE_HEADERS)
