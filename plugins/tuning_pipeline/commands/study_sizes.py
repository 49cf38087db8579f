"""About how much of a database's files belongs to each study: its share of the rows."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa

# Optuna's tables with a row for each thing that a trial has.
_OF_TRIALS = (
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_user_attributes",
    "trial_system_attributes",
)
_MYSQL = "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()"
_SQLITE = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"


def study_bytes(engine: sa.Engine) -> dict[int, int]:
    """Bytes by the study's id. A database gives sizes of tables only, so rows are taken to be equally large."""
    rows: Counter[int] = Counter()
    with engine.connect() as connection:
        for table in _OF_TRIALS:
            counted = connection.execute(
                sa.text(
                    f"SELECT t.study_id, COUNT(*) FROM trials t JOIN {table} x ON x.trial_id = t.trial_id"  # noqa: S608
                    " GROUP BY t.study_id"
                )
            )
            for study, count in counted:
                rows[study] += count
        whole = connection.execute(sa.text(_SQLITE if engine.dialect.name == "sqlite" else _MYSQL)).scalar() or 0
    total = sum(rows.values())
    return {study: int(whole) * count // total for study, count in rows.items()}
