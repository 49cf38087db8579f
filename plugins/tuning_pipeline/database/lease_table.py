"""The table of leases, which says which run works on which study. It is in the same database as Optuna's tables."""

from __future__ import annotations

import sqlalchemy as sa

from optuna_spark.database.mysql_errors import is_overtaken
from optuna_spark.database.retries import retried

_metadata = sa.MetaData()

LEASES = sa.Table(
    "optuna_spark_leases",
    _metadata,
    # A hash of the study's name, which may be too long for an index.
    sa.Column("study_key", sa.String(64), primary_key=True),
    sa.Column("study", sa.Text, nullable=False),
    sa.Column("dag_id", sa.String(250), nullable=False),
    sa.Column("run_id", sa.String(250), nullable=False),
    sa.Column("made", sa.String(40), nullable=False),
    sa.Column("since_s", sa.BigInteger, nullable=False),
    sa.Column("renewed_s", sa.BigInteger, nullable=False),
    sa.Column("busy", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)
# Makes the table if it is missing. Several tasks may do so at once.
make_lease_table = retried(_metadata.create_all, when=is_overtaken)
