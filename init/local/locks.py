"""`make lock`: makes the hashed lock files, for all platforms and Python from 3.11 on, without index addresses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from init.local.console import run_step, say
from init.local.environments import ensure_uv, uv, uv_environment
from init.local.layout import Layout


@dataclass(frozen=True)
class Recipe:
    """How one lock is made.

    Attributes:
        name: Name of the files: name.in gives name.txt.
        left_out: Dependencies that the project does not need or want.
        held_to: Lock files whose versions this one must use.
        wheels_only: Whether packages that have no wheel are refused.
    """

    name: str
    left_out: tuple[str, ...] = ()
    held_to: tuple[str, ...] = ()
    wheels_only: bool = False


RECIPES = (
    Recipe("uv", wheels_only=True),
    Recipe("build", wheels_only=True),
    Recipe("dist", wheels_only=True),
    Recipe("docs", wheels_only=True),
    # mysqlclient has no wheels, mysql-connector-python is GPL, and PyMySQL does their work.
    # pyspark-client overwrites files of pyspark, and has no spark-submit.
    Recipe("airflow", left_out=("mysqlclient", "mysql-connector-python", "pyspark-client")),
    # nvidia-nccl-cu12: 470 MB that XGBoost loads only to train one model on several GPUs.
    Recipe("spark", left_out=("nvidia-nccl-cu12",)),
    Recipe("spark-gpu"),
    Recipe("mysqlclient"),
    Recipe("bench"),
    Recipe("mlflow", wheels_only=True),
    Recipe("audit", wheels_only=True),
    Recipe("s3", wheels_only=True),
    # Installed by the Databricks init scripts. Versions are those of the Spark side, except for cuDF on pandas 2.
    Recipe("databricks", held_to=("spark.txt",), wheels_only=True),
    Recipe("databricks-xgboost", left_out=("nvidia-nccl-cu12",), held_to=("spark.txt",), wheels_only=True),
    Recipe("databricks-cudf", wheels_only=True),
    Recipe("dev", held_to=("airflow.txt", "spark.txt", "spark-gpu.txt"), wheels_only=True),
)


def compile_all(layout: Layout) -> None:
    layout.prepare()
    ensure_uv(layout)
    for recipe in RECIPES:
        say(f"resolving requirements/{recipe.name}.in")
        env = uv_environment() | {"UV_CUSTOM_COMPILE_COMMAND": "make lock"}
        run_step(f"resolving {recipe.name}", command(layout, recipe), log=layout.logs / "lock.log", env=env)


def command(layout: Layout, recipe: Recipe) -> list[str | Path]:
    folder = Path(os.path.relpath(layout.requirements))
    parts: list[str | Path] = [uv(layout), "pip", "compile", "--quiet", "--upgrade", "--universal"]
    parts += ["--python-version", "3.11", "--generate-hashes", "--no-emit-index-url"]
    for package in recipe.left_out:
        parts += ["--no-emit-package", package]
    for lock in recipe.held_to:
        parts += ["--constraints", folder / lock]
    if recipe.wheels_only:
        parts += ["--only-binary", ":all:"]
    return [*parts, folder / f"{recipe.name}.in", "--output-file", folder / f"{recipe.name}.txt"]
