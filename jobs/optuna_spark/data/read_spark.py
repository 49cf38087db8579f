"""Reads with Spark what only Spark opens: other formats and storage, and tables of its catalog.

Spark hands over the columns, and text of CSV files as text. The same rules as everywhere make the table of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from optuna_spark.errors import DataError
from optuna_spark.spec.data import FILE_FORMATS, PARQUET_ENDINGS, DataSpec
from optuna_spark.spec.run_secrets import DataSecrets

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    TableMaker = Callable[[Sequence[pa.RecordBatch]], pa.Table]

# Names are taken literally (a and A are two columns), and values in names of folders as text, like those of CSV.
LITERALLY = {"spark.sql.caseSensitive": "true", "spark.sql.sources.partitionColumnTypeInference.enabled": "false"}
# Quotes as in RFC 4180, and every cell as text: which of them are missing, and the types, follow from our own rules.
_CSV = {
    "header": "true",
    "inferSchema": "false",
    "quote": '"',
    "escape": '"',
    "multiLine": "true",
    "enforceSchema": "false",
    "mode": "FAILFAST",
}


def is_for_spark(data: DataSpec, secrets: DataSecrets) -> bool:
    """Whether only Spark can open the table, or options of its reader are given."""
    return data.format not in FILE_FORMATS or bool(data.format_options) or bool(secrets.options)


def spark_opens_store(spark: SparkSession, data: DataSpec) -> bool:
    """Whether the table is in an object store that Spark itself has a file system for.

    Then the cluster's settings say which store and account are meant. s3a is Hadoop's own name, for which there is
    none but Hadoop's.
    """
    if not data.is_store:
        return False
    if data.location.startswith("s3a://"):
        return True
    from py4j.protocol import Py4JJavaError

    # As Hadoop looks them up: https://hadoop.apache.org/docs/r3.4.1/api/org/apache/hadoop/fs/FileSystem.html
    jvm: Any = spark.sparkContext._jvm  # PySpark has no other way to Hadoop
    hadoop = jvm.org.apache.hadoop
    try:
        conf = hadoop.conf.Configuration(spark.sparkContext._jsc.hadoopConfiguration())
        hadoop.fs.FileSystem.getFileSystemClass(data.location.partition(":")[0], conf)
    except Py4JJavaError:  # there is none
        return False
    return True


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
        raise DataError(f"Spark cannot read data.path {data.location}: {words}") from None


def read_frame(spark: SparkSession, data: DataSpec, options: Mapping[str, str]) -> DataFrame:
    """Read the table with Spark, and let Spark's errors through. `options` are reader options besides the table's."""
    if data.is_catalog_table:
        return spark.table(data.location)
    kind = spark_format(spark, data)
    reader = spark.read.format(kind)
    if kind == "csv":
        reader = reader.options(**_CSV, sep=data.separator, encoding=data.encoding or "UTF-8")
    return reader.options(**{**data.format_options, **options}).load(
        list(data.paths) if len(data.paths) > 1 else data.location
    )


def spark_format(spark: SparkSession, data: DataSpec) -> str:
    """The format for Spark, which looks into no file before: the spec's, else what the first file's name says."""
    if data.format is not None:
        return data.format
    files: list[str] = spark.read.format("text").load(list(data.paths)).inputFiles()  # lists them, and reads none
    return "parquet" if files and files[0].endswith(PARQUET_ENDINGS) else "csv"


def table_maker(spark: SparkSession, frame: DataFrame, data: DataSpec) -> TableMaker:
    """What makes the table of the frame's rows, wherever they are; the columns may come under any names.

    Raises:
        DataError: In what is returned: `data.columns` names no column, or two have the same name.
    """
    names, folders = list(frame.columns), _folder_names(frame, data)
    is_csv = not data.is_catalog_table and spark_format(spark, data) == "csv"

    def table_of(batches: Sequence[pa.RecordBatch]) -> pa.Table:
        from optuna_spark.data.files.from_spark import table_of_batches

        return table_of_batches(batches, names, folders, data, is_csv=is_csv)

    return table_of


def _folder_names(frame: DataFrame, data: DataSpec) -> frozenset[str]:
    """The columns that Spark found in the names of folders, `year=2024`."""
    file = "" if data.is_catalog_table else next(iter(frame.inputFiles()), "")
    return frozenset(unquote(part.partition("=")[0]) for part in file.split("/")[:-1] if "=" in part)
