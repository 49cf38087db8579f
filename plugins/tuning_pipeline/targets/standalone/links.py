"""Links in the Details of the tune task: where to watch the trials while they run.

Airflow itself writes a task's links down when it ends; `show_links` does so when it starts.
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

# Extra of a Spark connection that says where the master's web page is.
WEB_PAGE = "web_page"
MASTER_WEB_PORT = 8080


class StudyLink(BaseOperatorLink):
    """The study's page in the Optuna dashboard inside Airflow."""

    name = "Optuna dashboard"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        study = getattr(operator, "study", None)
        return study_page(study.settings.study) if study is not None else ""


class SparkLink(BaseOperatorLink):
    """The Spark master's page, which names the application and links to its jobs while it runs."""

    name = "Spark UI"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        return str(getattr(operator, "spark_page", ""))


def study_page(study_name: str) -> str:
    """Address of a study's page below Airflow's base URL."""
    base = str(conf.get("api", "base_url", fallback="http://localhost:8080")).rstrip("/")
    return f"{base}/tuning/study/{quote(study_name, safe='')}"


def spark_page(connection: Connection, master: str) -> str:
    """Address of the Spark master's web page: the connection's extra, else Spark's usual port on the master."""
    given = connection.extra_dejson.get(WEB_PAGE)
    if given:
        return str(given)
    addresses = master_addresses(master)
    return f"http://{addresses[0][0]}:{MASTER_WEB_PORT}" if addresses else ""


def show_links(operator: BaseOperator, context: Context) -> None:
    """Put the links of a task that just starts where Airflow's pages look for them."""
    task_instance: Any = context["ti"]
    for link in operator.operator_extra_links:
        address = link.get_link(operator, ti_key=task_instance)
        task_instance.xcom_push(key=link.xcom_key, value=address)
