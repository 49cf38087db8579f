"""The pipeline's pages and links, as an Airflow plugin.

Every Airflow process loads this, but only the API server needs the pages, so they are built when the first request
comes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk.configuration import conf


@cache
def _pages() -> Callable[..., Awaitable[None]]:
    from tuning_pipeline.pages.pages import pages

    return pages()


async def tuning_pages(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application below /tuning."""
    await _pages()(scope, receive, send)


def _base_path() -> str:
    return urlsplit(str(conf.get("api", "base_url", fallback=""))).path.rstrip("/")


FASTAPI_APPS = [{"app": tuning_pages, "url_prefix": "/tuning", "name": "Tuning"}]
EXTERNAL_VIEWS = [
    {
        "name": "Optuna",
        "href": f"{_base_path()}/tuning/studies",
        "destination": "nav",
        "url_route": "optuna",
        "category": "browse",
    },
    {
        "name": "Last best",
        "href": f"{_base_path()}/tuning/latest/{{DAG_ID}}",
        "destination": "dag",
        "url_route": "last-best",
    },
    {
        "name": "Best trials",
        "href": f"{_base_path()}/tuning/report/{{DAG_ID}}/{{RUN_ID}}",
        "destination": "dag_run",
        "url_route": "best-trials",
    },
]


class TuningPlugin(AirflowPlugin):
    """A nav page with the Optuna dashboard, a tab with the report on every run, and the last one's on every DAG."""

    name = "tuning"
    fastapi_apps = FASTAPI_APPS
    external_views = EXTERNAL_VIEWS
