"""Two studies whose names differ in case only, in one MySQL database, which takes them for one."""

from __future__ import annotations

from collections.abc import Iterator

import pymysql
import pytest
import sqlalchemy

from init.local.mysql import MysqlServer
from optuna_spark.spec.tuning import TuningSpec
from tests.support.cards import unwrapped
from tuning_pipeline.database.prepare_study import prepare_study
from tuning_pipeline.failures import describe_failure, readable_failures


@pytest.fixture
def url(mysql_server: MysqlServer) -> Iterator[sqlalchemy.URL]:
    host, port = mysql_server.host, mysql_server.port
    user, password = mysql_server.admin_user, mysql_server.admin_password
    connection = pymysql.connect(host=host, port=port, user=user, password=password, autocommit=True)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE letters CHARACTER SET utf8mb4")
        yield sqlalchemy.URL.create("mysql+pymysql", user, password, host, port, "letters")
        cursor.execute("DROP DATABASE letters")


@pytest.mark.parametrize("mode", ["resume", "reset", "create"])
def test_the_second_is_told_at_the_first_try_and_the_first_is_left_alone(mode: str, url: sqlalchemy.URL) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    prepare_study(TuningSpec("q", run_id="run 1"), url, "create")
    with pytest.raises(AirflowFailException) as caught:
        readable_failures(prepare_study)(TuningSpec("Q", run_id="run 2"), url, mode)
    text = unwrapped(str(caught.value))
    assert "the database holds study 'q', and takes the name 'Q' for the same" in text
    assert "Choose a study name that differs from the other one in more than capital letters." in text
    assert prepare_study(TuningSpec("q", run_id="run 1"), url, "create")["study"] == "q"


def test_the_card_is_final_for_the_driver_as_well() -> None:
    from optuna_spark.errors import StudyNameError
    from tuning_pipeline.failures import driver_failure

    assert not driver_failure({"error": StudyNameError.__name__, "what": "w"}, "log").retry
    assert not describe_failure(StudyNameError("w")).retry
