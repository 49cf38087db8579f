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


def cluster_file(path: str) -> Path:
    """A file of this project that travels to a cluster.

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


def shipped(own: Path, scratch: Path) -> Path:
    """What `--py-files` is given of one's own objective: its file, or its package as a zip in `scratch`."""
    return scratch / f"{own.name}.zip" if own.is_dir() else own


def ship(own: Path, scratch: Path) -> Path:
    """Make what `shipped` names: a package with all its files, which its code reads with importlib.resources."""
    target = shipped(own, scratch)
    if own.is_dir():
        pack_package(target, own, "*").chmod(0o600)
    return target


def pack_package(target: Path, package: Path = PACKAGE, pattern: str = "*.py") -> Path:
    """Write a package as a zip for `--py-files`; the same sources give the same bytes. Hidden files stay here."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.rglob(pattern)):
            name = file.relative_to(package.parent)
            if not file.is_file() or any(part == "__pycache__" or part.startswith(".") for part in name.parts):
                continue
            info = zipfile.ZipInfo(name.as_posix(), _EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return target
