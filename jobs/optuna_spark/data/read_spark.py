"""Reads a training table with Spark: any format and storage that Spark knows, or a table of its catalog."""

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
    """Read the table with Spark.

    Args:
        spark: The session.
        data: The table.
        secrets: Holds the reader options that are secret, and so not in `data`.

    Raises:
        SpecError: The table is one of scikit-learn's, which Spark cannot read.
        DataError: There is no such table, or Spark does not know the format.
    """
    secrets = secrets or DataSecrets()
    with spark_errors(data, secrets):
        return read_unguarded(spark, data, secrets.options)


@contextmanager
def spark_errors(data: DataSpec, secrets: DataSecrets) -> Iterator[None]:
    """Turn Spark's errors into a DataError of one sentence.

    It has Spark's own text, or only the name of Spark's error class if errors may not quote the table.
    """
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
        # Without the cause, because that would be shown too and may quote an option or the table.
        raise DataError(f"Spark cannot read data.path {data.path}: {words}") from None


def read_unguarded(spark: SparkSession, data: DataSpec, options: Mapping[str, str]) -> DataFrame:
    """Read as `read_frame` does, but let Spark's errors through. `options` are reader options besides the table's."""
    if data.is_catalog_table:
        return spark.table(data.path)
    if data.is_bundled:
        raise SpecError(f"data.path {data.path} is not a file Spark can read; use distribution rdd or joblib")
    kind = data.format_of(data.path)
    reader = spark.read.format(kind)
    if kind == "csv":
        reader = reader.options(header=True, inferSchema=True, sep=data.separator)
    return reader.options(**{**data.format_options, **options}).load(data.path)
