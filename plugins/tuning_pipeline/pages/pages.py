"""The pipeline's pages inside Airflow: the Optuna dashboard, and a report on each run.

All are behind Airflow's login. People who may read all DAGs may see the dashboard. People who may read the XComs of a
DAG may see the reports of its runs. No page changes anything.
"""

from __future__ import annotations

import html
import logging
from functools import cache
from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from optuna_spark.errors import TuningError
from optuna_spark.storage.optuna_storage import create_storage
from tuning_pipeline.database.connections import database_connection, storage_url
from tuning_pipeline.exports.page_policy import CONTENT_POLICY
from tuning_pipeline.pages.dashboard import Dashboard, refusal
from tuning_pipeline.pages.run_report import (
    EXPORT_TASK,
    export_folder,
    read_report,
    returned,
    run_state,
    with_sentence,
)
from tuning_pipeline.study_file.keys.study_keys import ConnectionIds

log = logging.getLogger(__name__)

User = Annotated[BaseUser, Depends(get_user)]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
# A report contains scripts. The policy keeps them from the reader's Airflow session and from every address.
REPORT_HEADERS = {
    "Content-Security-Policy": f"{CONTENT_POLICY}; frame-ancestors 'self'; sandbox allow-scripts allow-downloads",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
MESSAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
}
# As in tuning_pipeline.tasks.retune, which is not imported because it is made for DAG files.
DECIDE, SKIPPED_BECAUSE = "decide_retune", "skipped_because"
PUBLISHED = "published"  # as in tuning_pipeline.tasks.steps


def may_read_studies(user: User) -> None:
    """Check that the user may read all DAGs: the dashboard shows the studies of all.

    Raises:
        HTTPException: 401 without a login, 403 without the permission.
    """
    if not get_auth_manager().is_authorized_dag(method="GET", user=user):
        raise HTTPException(403, "You may not read all DAGs, and the dashboard shows the studies of all of them.")


def may_read_run(dag_id: str, user: User) -> None:
    """Check that the user may read the XComs of this DAG.

    Raises:
        HTTPException: 401 without a login, 403 without the permission.
    """
    allowed = get_auth_manager().is_authorized_dag(
        method="GET", access_entity=DagAccessEntity.XCOM, details=DagDetails(id=dag_id), user=user
    )
    if not allowed:
        raise HTTPException(403, f"You may not read the runs of DAG {dag_id}.")


@cache
def dashboard() -> Dashboard:
    """The dashboard over the studies' database.

    Raises:
        TuningError: There is no such connection, or its database does not exist yet.
    """
    connection = database_connection(ConnectionIds().database)
    return Dashboard(create_storage(storage_url(connection)))


def pages() -> FastAPI:
    """The pages below /tuning."""
    app = FastAPI(title="Tuning", openapi_url=None)

    @app.exception_handler(TuningError)
    def unavailable(_request: Request, error: TuningError) -> HTMLResponse:
        return message_page("The studies cannot be read", str(error), status=503)

    @app.api_route("/optuna/{path:path}", methods=METHODS, dependencies=[Depends(may_read_studies)])
    def optuna(path: str, request: Request) -> Response:
        base = request.scope["root_path"] + "/optuna"
        reading = request.method in ("GET", "HEAD")
        reply = dashboard().reply("/" + path.rstrip("/"), request.url.query, base) if reading else refusal()
        return Response(reply.body, reply.status, dict(reply.headers))

    @app.get("/study/{name:path}", dependencies=[Depends(may_read_studies)])
    def study(name: str, request: Request) -> Response:
        """The page of a study by its name. The dashboard itself only knows a study's number."""
        try:
            number = dashboard().storage.get_study_id_from_name(name)
        except KeyError:
            return message_page("No such study yet", f"The database holds no study {name}.", status=404)
        return RedirectResponse(f"{request.scope['root_path']}/optuna/dashboard/studies/{number}")

    @app.get("/report/{dag_id}/{run_id:path}", dependencies=[Depends(may_read_run)])
    def report(dag_id: str, run_id: str) -> Response:
        state = run_state(dag_id, run_id) if run_id else None
        folder = export_folder(dag_id, run_id) if state is not None else None
        if state is None or folder is None:
            return message_page("No such run", f"DAG {dag_id} has no run {run_id} that tunes a study.", status=404)
        try:
            found = read_report(folder)
        except OSError as error:
            return message_page("The report cannot be read", f"{folder}: {error.strerror or error}", status=404)
        if found is not None:
            verdict = returned(dag_id, run_id, EXPORT_TASK, PUBLISHED)
            whole = with_sentence(found, f"Asset event {verdict}.") if verdict else found
            return HTMLResponse(whole, headers=REPORT_HEADERS)
        if reason := returned(dag_id, run_id, DECIDE, SKIPPED_BECAUSE):
            return message_page("Nothing was tuned", str(reason))
        return no_report(state)

    return app


def no_report(state: str | None) -> HTMLResponse:
    """The page that is shown while there is no report."""
    if state == "failed":
        return message_page("The run failed", "The log of the failed task, red in the grid, ends with the reason.")
    return message_page("No report yet", f"It appears here once task {EXPORT_TASK} has succeeded.", refresh=True)


def message_page(title: str, text: str, *, status: int = 200, refresh: bool = False) -> HTMLResponse:
    """A page with one sentence."""
    again = '<meta http-equiv="refresh" content="10">' if refresh else ""
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{again}<title>{html.escape(title)}</title>'
        "<style>body{font:16px system-ui,sans-serif;margin:3rem;color:#888}h1{font-size:1.2rem}</style></head>"
        f"<body><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p></body></html>"
    )
    return HTMLResponse(page, status, MESSAGE_HEADERS)
