"""Studies that start at once on an empty database: each finds tables missing, and one of them is too late."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages._rdb.models import BaseModel

from optuna_spark.database.engine import engine_options
from optuna_spark.errors import StudyNameError
from optuna_spark.sampling.open_study import open_study
from optuna_spark.shared_study.claims import CLAIMS, make_tables
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.optuna_storage import close_storage, create_storage
from tests.support.coordination import empty_database


@pytest.fixture(params=["sqlite", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> sa.URL:
    """An empty database of a kind."""
    return empty_database(request, tmp_path)


def opened(url: sa.URL) -> list[str]:
    """Opens and closes the storage; the schema versions that it holds then."""
    storage = create_storage(url)
    with storage.engine.connect() as connection:
        versions = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all()
    close_storage(storage)
    return list(versions)


def test_tables_that_appear_while_they_are_made_are_used(url: sa.URL) -> None:
    others = []

    @sa.event.listens_for(BaseModel.metadata, "before_create", once=True)
    def overtake(*_: Any, **__: Any) -> None:
        others.extend(opened(url))

    assert opened(url) == others
    assert len(others) == 1


def test_tables_of_claims_that_appear_while_they_are_made_are_used(url: sa.URL) -> None:
    engine = sa.create_engine(url, **engine_options(url))
    overtaken = []

    @sa.event.listens_for(CLAIMS.metadata, "before_create", once=True)
    def overtake(*_: Any, **__: Any) -> None:
        make_tables(engine)
        overtaken.append(True)

    make_tables(engine)
    assert overtaken
    assert sa.inspect(engine).has_table(CLAIMS.name)
    engine.dispose()


def test_many_at_once_all_get_in(url: sa.URL) -> None:
    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(opened, [url] * 6))
    assert versions == [versions[0]] * 6


@pytest.mark.parametrize("other", ["Q", "q"])
def test_a_name_that_the_database_takes_for_another_studys_is_told(url: sa.URL, other: str) -> None:
    storage = create_storage(url)
    first = "q" if other == "Q" else "Q"
    open_study(TuningSpec(first), storage)
    if url.get_backend_name() == "sqlite":
        assert open_study(TuningSpec(other), storage).trials == []
        assert len(optuna.get_all_study_names(storage)) == 2
    else:
        rule = f"the database holds study '{first}', and takes the name '{other}' for the same"
        with pytest.raises(StudyNameError, match=rule):
            open_study(TuningSpec(other), storage)
        assert optuna.get_all_study_names(storage) == [first]
    assert open_study(TuningSpec(first), storage).study_name == first
    close_storage(storage)
