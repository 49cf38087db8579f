"""Reading a training table with Spark: any format and store that Spark can read, or a table of its catalog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from optuna_spark.errors import DataError, SpecError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_secrets import DataSecrets

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def read_frame(spark: SparkSession, data: DataSpec, secrets: DataSecrets | None = None) -> DataFrame:
    """The table as Spark reads it: any format and store Spark can read, or a table or view of its catalog.

    Args:
        spark: The session.
        data: The table.
        secrets: With the reader options that `data` does not show.

    Raises:
        SpecError: A table bundled with scikit-learn, which Spark cannot read.
        DataError: There is no such table, or Spark does not know the format.
    """
    secrets = secrets or DataSecrets()
    with spark_errors(data, secrets):
        return read_unguarded(spark, data, secrets.options)


@contextmanager
def spark_errors(data: DataSpec, secrets: DataSecrets) -> Iterator[None]:
    """Spark's errors as one sentence: in its own words, or by its name for them where those may quote the table."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        text = error.java_exception.getMessage() if isinstance(error, Py4JJavaError) else str(error)
        if not data.names_in_errors:
            named = error.getCondition() if isinstance(error, PySparkException) else None
            text = named or "see the executors' logs"
        words = secrets.removed_from(text.splitlines()[0])
        # The cause would be shown too, and may quote an option or the table.
        raise DataError(f"Spark cannot read data.path {data.path}: {words}") from None


def read_unguarded(spark: SparkSession, data: DataSpec, options: Mapping[str, str]) -> DataFrame:
    """As `read_frame`, with Spark's own errors and these reader options beside the table's."""
    if data.is_catalog_table:
        return spark.table(data.path)
    if data.is_bundled:
        raise SpecError(f"data.path {data.path} is not a file Spark can read; use distribution rdd or joblib")
    kind = data.format_of(data.path)
    reader = spark.read.format(kind)
    if kind == "csv":
        reader = reader.options(header=True, inferSchema=True, sep=data.separator)
    return reader.options(**{**data.format_options, **options}).load(data.path)
