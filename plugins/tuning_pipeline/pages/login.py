"""Who may see what, and the page for somebody who is not logged in."""

from __future__ import annotations

import html
from typing import Annotated
from urllib.parse import quote, urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user
from airflow.sdk.configuration import conf
from fastapi import Depends, HTTPException, Request

User = Annotated[BaseUser, Depends(get_user)]


class NotAllowedError(HTTPException):
    """Somebody who is logged in may not do this."""

    def __init__(self, reason: str) -> None:
        super().__init__(403, reason)


def may_read_studies(user: User) -> None:
    """Check that the user may read all DAGs: the dashboard shows the studies of all.

    Raises:
        HTTPException: 401 without a login, 403 without the permission.
    """
    if not get_auth_manager().is_authorized_dag(method="GET", user=user):
        raise NotAllowedError("You may not read all DAGs, and the dashboard shows the studies of all of them.")


def may_read_run(dag_id: str, user: User) -> None:
    """Check that the user may read the XComs of this DAG.

    Raises:
        HTTPException: 401 without a login, 403 without the permission.
    """
    if not can_read_run(dag_id, user):
        raise NotAllowedError(f"You may not read the runs of DAG {dag_id}.")


def can_read_run(dag_id: str, user: BaseUser) -> bool:
    """Whether the user may read the XComs of this DAG, which the tab of a run shows."""
    return get_auth_manager().is_authorized_dag(
        method="GET", access_entity=DagAccessEntity.XCOM, details=DagDetails(id=dag_id), user=user
    )


def can_edit_run(dag_id: str, user: BaseUser) -> bool:
    """Whether the user may edit runs of this DAG, as Airflow asks before it marks one."""
    return get_auth_manager().is_authorized_dag(
        method="PUT", access_entity=DagAccessEntity.RUN, details=DagDetails(id=dag_id), user=user
    )


def may_edit_run(dag_id: str, user: User, request: Request) -> BaseUser:
    """Check that the user may edit runs of this DAG, and that no other site sends the request for them.

    Raises:
        HTTPException: 401 without a login, 403 without the permission or from another site.
    """
    if not can_edit_run(dag_id, user):
        raise NotAllowedError(f"You may not edit the runs of DAG {dag_id}.")
    if not is_from_here(request):
        raise NotAllowedError("This request comes from another site's page: open the run's tab, and press there.")
    return user


def is_from_here(request: Request) -> bool:
    """Whether a request comes from a page of this Airflow, or from no page at all.

    Every browser says with a POST which site's page sends it, and no page can change that. A page in a sandbox, such as
    a report, belongs to no site: https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site in ("same-origin", "none")
    if origin is None:  # a program, which sends its own token
        return True
    base = urlsplit(str(conf.get("api", "base_url", fallback="")))
    return urlsplit(origin).netloc in {request.headers.get("host"), base.netloc} - {None, ""}


def login_address(request: Request) -> str:
    """Airflow's login page, which leads back to the page that was asked for."""
    path = request.scope.get("root_path", "")
    base = path.removesuffix("/tuning")
    back = urlsplit(str(request.url))
    query = f"?{back.query}" if back.query else ""
    # A path alone: behind a proxy this process does not know its own address.
    return f"{base}/api/v2/auth/login?next={quote(f'{back.path}{query}', safe='')}"


def login_sentence(request: Request) -> str:
    """HTML: what to do without a login."""
    address = html.escape(login_address(request))
    return f'Your login has ended, or there was none. <a href="{address}">Log in</a> to come back to this page.'
