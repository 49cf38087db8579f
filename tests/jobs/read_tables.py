"""Submitted by a test: reads tables with every reader on Spark, in one application, and prints what each gave.

The tables are in a file: a JSON list of [name, keys of `data`, xgboost.task].
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

Asked = tuple[str, dict[str, Any], str]
Facts = dict[str, Any]


def facts(data: dict[str, Any], task: str, table: pa.Table | None = None, device: str = "cpu") -> Facts:
    """What an objective is given of a table: of one of its own, and of XGBoost."""
    from optuna_spark.data.load import forget_datasets, load_dataset
    from optuna_spark.data.table import forget_tables, read_table
    from optuna_spark.device import Device
    from optuna_spark.errors import DataError
    from optuna_spark.spec.data import DataSpec
    from optuna_spark.spec.decode import from_dict

    forget_tables()
    forget_datasets()
    spec = from_dict(DataSpec, data)
    try:
        whole = read_table(spec) if table is None else table
        dataset = load_dataset(spec, task, Device(device, 0 if device == "cuda" else None, 1), table)  # type: ignore[arg-type]
    except DataError as error:
        return {"error": str(error)}
    matrix = dataset.features if device == "cpu" else dataset.features.get()
    return {
        "types": {field.name: str(field.type) for field in whole.schema},
        "values": repr(whole.to_pydict())[:4000],
        "features": list(dataset.names),
        "matrix": repr(matrix.tolist())[:4000],
        "labels": dataset.labels.values.tolist(),
        "classes": repr(dataset.labels.classes),
        "categories": repr(dataset.categories),
    }


def facts_of_frame(spark: SparkSession, data: dict[str, Any], task: str, packed: Any) -> list[Facts]:
    """The same, of the table that Spark brings to its workers: one for each of two."""
    from optuna_spark.distribution.dataframe import copies_of
    from optuna_spark.distribution.packed_table import unpack
    from optuna_spark.errors import DataError

    def of_copy(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        found = facts(data, task, unpack(list(batches)))
        yield pa.RecordBatch.from_arrays([pa.array([json.dumps(found)])], ["facts"])

    try:
        with packed() as whole:
            rows = copies_of(whole, 2).mapInArrow(of_copy, "facts string").collect()
    except DataError as error:
        return [{"error": str(error)}] * 2
    return [json.loads(row["facts"]) for row in rows]


def by_rdd(spark: SparkSession, asked: list[Asked]) -> list[Facts]:
    return list(spark.sparkContext.parallelize(asked, 2).map(lambda one: facts(one[1], one[2])).collect())


def by_joblib(_spark: SparkSession, asked: list[Asked]) -> list[Facts]:
    import joblib
    from joblibspark import register_spark

    register_spark()
    halves = [asked[: len(asked) // 2], asked[len(asked) // 2 :]]
    with warnings.catch_warnings(), joblib.parallel_backend("spark", n_jobs=2):
        warnings.simplefilter("ignore")
        calls = (joblib.delayed(lambda half: [facts(one[1], one[2]) for one in half])(half) for half in halves)
        return [found for half in joblib.Parallel(batch_size=1)(calls) for found in half]


def by_dataframe(spark: SparkSession, asked: list[Asked]) -> list[Facts]:
    """As distribution dataframe reads."""
    from optuna_spark.distribution.dataframe import packed_table
    from optuna_spark.spec.data import DataSpec
    from optuna_spark.spec.decode import from_dict
    from optuna_spark.spec.run_secrets import DataSecrets

    def found(data: dict[str, Any], task: str) -> Facts:
        first, second = facts_of_frame(
            spark, data, task, lambda: packed_table(spark, from_dict(DataSpec, data), DataSecrets())
        )
        return first if first == second else {"two workers differ": [first, second]}

    return [found(data, task) for _, data, task in asked]


def by_spark(spark: SparkSession, asked: list[Asked]) -> list[Facts]:
    """As distribution dataframe reads what is no file to executors: an option of Spark's reader has it read so."""
    options = {"format_options": {"ignoreMissingFiles": "false"}}
    return by_dataframe(spark, [(name, {**data, **options}, task) for name, data, task in asked])


READERS: dict[str, Callable[[SparkSession, list[Asked]], list[Facts]]] = {
    "rdd": by_rdd, "joblib": by_joblib, "dataframe": by_dataframe, "spark": by_spark,
}  # fmt: skip


def main(reader: str, file: str) -> None:
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    asked = json.loads(Path(file).read_text())
    found = {}
    for name in reader.split(","):
        found[name] = dict(zip([one[0] for one in asked], READERS[name](spark, asked), strict=True))
    Path(file).with_suffix(".found").write_text(json.dumps(found))
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
