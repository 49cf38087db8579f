"""Links on the page of the tune task, to watch the trials while they run.

Airflow itself stores a task's links when the task ends. `show_links` stores them when it starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

from tuning_pipeline.targets.standalone.submission import master_addresses

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Connection, Context
    from airflow.sdk.types import TaskInstanceKey

# Key in the extra of a Spark connection: the address of the master's web page.
WEB_PAGE = "web_page"
MASTER_WEB_PORT = 8080


class StudyLink(BaseOperatorLink):
    """The study's page in the Optuna dashboard inside Airflow."""

    name = "Optuna dashboard"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        study = getattr(operator, "study", None)
        return study_page(study.settings.study, study.settings.connections.database) if study is not None else ""


class SparkLink(BaseOperatorLink):
    """The Spark master's page. It lists the application, and links to its jobs while it runs."""

    name = "Spark UI"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        return str(getattr(operator, "spark_page", ""))


def study_page(study_name: str, database: str) -> str:
    """The address of a study's page, below Airflow's base URL. `database` is the id of its connection."""
    base = str(conf.get("api", "base_url", fallback="http://localhost:8080")).rstrip("/")
    return f"{base}/tuning/study/{quote(study_name, safe='')}?database={quote(database, safe='')}"


def spark_page(connection: Connection, master: str) -> str:
    """The address of the Spark master's web page: from the connection's extra, else Spark's default port."""
    given = connection.extra_dejson.get(WEB_PAGE)
    if given:
        return str(given)
    addresses = master_addresses(master)
    return f"http://{addresses[0][0]}:{MASTER_WEB_PORT}" if addresses else ""


def show_links(operator: BaseOperator, context: Context) -> None:
    """Store the links of a task that starts, in the XComs that Airflow's pages read."""
    task_instance: Any = context["ti"]
    for link in operator.operator_extra_links:
        address = link.get_link(operator, ti_key=task_instance)
        task_instance.xcom_push(key=link.xcom_key, value=address)
