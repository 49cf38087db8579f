"""Shared by all targets: the package as a zip, the code of a user's objective, and the GPUs of a Spark task."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import optuna_spark
from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.study_file.beside import files_of
from tuning_pipeline.study_file.own_code import check_size, own_code
from tuning_pipeline.study_file.study_file import StudyFile

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


def code_of(study: StudyFile) -> tuple[Path, ...]:
    """The modules beside the study file that travel with it: files, and folders of packages."""
    return own_code(study.path.parent, study.settings.objective, study.settings.spark.py_files)


def shipped(modules: Iterable[Path], scratch: Path) -> list[Path]:
    """What `--py-files` is given of these modules: a file itself, a package as a zip in `scratch`."""
    return [scratch / f"{module.name}.zip" if module.is_dir() else module for module in modules]


def ship(modules: Iterable[Path], scratch: Path) -> list[Path]:
    """Make what `shipped` names: packages with all their files, which code reads with importlib.resources.

    Raises:
        SpecError: It is more than a run may send.
    """
    modules = tuple(modules)
    check_size(modules)
    targets = shipped(modules, scratch)
    for module, target in zip(modules, targets, strict=True):
        if module.is_dir():
            pack_module(target, module).chmod(0o600)
    return targets


def pack_package(target: Path) -> Path:
    """Write our own package as a zip for `--py-files`; the same sources give the same bytes."""
    return _write_zip(target, _contents(PACKAGE, (file for file in files_of(PACKAGE) if file.suffix == ".py")))


def pack_module(target: Path, module: Path) -> Path:
    """Write a user's package as a zip for `--py-files`; the same files give the same bytes.

    A folder with code in it that has no `__init__.py` gets an empty one: Python finds no other folders in a zip.
    """
    contents = _contents(module, files_of(module))
    for file in [Path(name) for name in contents if name.endswith(".py")]:
        for folder in list(file.parents)[:-1]:
            contents.setdefault((folder / "__init__.py").as_posix(), b"")
    return _write_zip(target, contents)


def _contents(module: Path, files: Iterable[Path]) -> dict[str, bytes]:
    return {file.relative_to(module.parent).as_posix(): file.read_bytes() for file in files}


def _write_zip(target: Path, contents: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, contents[name], zipfile.ZIP_DEFLATED)
    return target
