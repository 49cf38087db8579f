"""Shared by all targets: the package as a zip, the file of a user's objective, and the GPUs of a Spark task."""

from __future__ import annotations

import zipfile
from pathlib import Path

import optuna_spark
from optuna_spark.spec.tuning import TuningSpec

PACKAGE = Path(optuna_spark.__file__).resolve().parent
# What the wheel carries beside its modules, see pyproject.toml.
_CARRIED = Path(__file__).resolve().parents[1] / "shipped"

# The same time for every file in a zip, so that equal content gives equal zips.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def shipped(path: str) -> Path:
    """A file that travels to a cluster.

    Args:
        path: Where it lies in a checkout, such as jobs/tune.py.
    """
    carried = _CARRIED / path
    return carried if carried.exists() else PACKAGE.parents[1] / path


def gpu_amount(spec: TuningSpec) -> str:
    """The value of `spark.task.resource.gpu.amount`, for a spec with GPUs."""
    gpus = spec.resources.gpus_per_task
    # joblibspark 0.6 calls int() on this property, so it gets the fraction as an argument instead (spark_tasks.py).
    if spec.distribution == "joblib" and not float(gpus).is_integer():
        return "1"
    return f"{gpus:g}"


def own_objective(folder: Path, objective: str) -> Path | None:
    """The file of a `module:function` objective beside the study file; None if there is none."""
    module = objective.partition(":")[0].partition(".")[0]
    file = folder / f"{module}.py"
    return file if ":" in objective and file.is_file() else None


def pack_package(target: Path, package: Path = PACKAGE) -> Path:
    """Write the package as a zip for `--py-files`. Equal sources give equal bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.rglob("*.py")):
            info = zipfile.ZipInfo(file.relative_to(package.parent).as_posix(), _EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return target
