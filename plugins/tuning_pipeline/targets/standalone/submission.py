"""Pure functions that build what is passed to spark-submit."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.study_file.keys.spark import SparkSettings, conf_text
from tuning_pipeline.study_file.study_file import StudyFile
from tuning_pipeline.targets.package import cluster_file, code_of, gpu_amount, shipped

APPLICATION = cluster_file("jobs/tune.py")
URL_VARIABLE = "OPTUNA_STORAGE_URL"
# In the application's scratch folder: why it failed, and where it stands.
FAILURE_FILE, PROGRESS_FILE = "failure.json", "progress.json"
# In bytes, as in init/spark/environment.sh, which says why.
LONGEST_TMPDIR = 75


@dataclass(frozen=True)
class Submission:
    """The arguments of SparkSubmitOperator. No value is a secret."""

    application: str
    application_args: list[str]
    conf: dict[str, str]
    name: str
    py_files: str
    archives: str | None


def submission(
    study: StudyFile, spec: TuningSpec, package_zip: Path, spec_file: Path, secrets_file: Path | None = None
) -> Submission:
    """The submission of a run.

    Args:
        study: The study, with the changes from the run's form.
        spec: The run.
        package_zip: The zip that `pack_package` wrote; `ship` puts the zips of the study's own packages beside it.
        spec_file: File with the spec for the driver. Not an argument, because every user of the machine can read those,
            and the kernel limits their length.
        secrets_file: File with the secrets of the study's connections, if it names any.
    """
    settings = study.settings.spark
    files = [package_zip, *shipped(code_of(study), package_zip.parent), *settings.py_files]
    return Submission(
        application=str(APPLICATION),
        application_args=[
            "--spec-file",
            str(spec_file),
            *(["--secrets-file", str(secrets_file)] if secrets_file else []),
        ],
        conf=spark_conf(spec, settings),
        name=f"tune {spec.study_name}",
        py_files=",".join(map(str, files)),
        archives=",".join(map(shipped_archive, settings.archives)) or None,
    )


def shipped_archive(archive: str) -> str:
    """An archive (`path#name`) in the form that Spark accepts: a path with a blank in it must be a URI."""
    path, mark, name = archive.partition("#")
    return f"file://{quote(path)}{mark}{name}" if path.startswith("/") and quote(path) != path else archive


def spark_conf(spec: TuningSpec, settings: SparkSettings) -> dict[str, str]:
    """Spark properties, derived from tasks and resources. The study file's own properties win."""
    conf = {
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "WARN",
        **_resource_conf(spec, settings.executor_cores),
    }
    sizes = {"spark.executor.memory": settings.executor_memory, "spark.driver.memory": settings.driver_memory}
    conf |= {key: size for key, size in sizes.items() if size}
    return conf | {key: conf_text(value) for key, value in settings.conf.items()}


def _resource_conf(spec: TuningSpec, executor_cores: int | None) -> dict[str, str]:
    cpus, gpus = spec.resources.cpus_per_task, spec.resources.gpus_per_task
    # How many tasks share an executor: on a GPU as many as fit, on CPUs as many as `executor_cores` allows.
    per_executor = max(1, (executor_cores or cpus) // cpus)
    conf = {"spark.task.cpus": str(cpus)}
    if gpus:
        sharing = max(1, math.floor(1 / gpus + 1e-9))  # rounding may leave 1 / gpus just below a whole number
        per_executor = min(sharing, per_executor) if executor_cores else sharing
        conf["spark.executor.resource.gpu.amount"] = f"{max(1, math.ceil(gpus))}"
        conf["spark.task.resource.gpu.amount"] = gpu_amount(spec)
        # A process keeps the GPU that it first used. A reused worker could not switch to that of its next task.
        conf["spark.python.worker.reuse"] = "false"
    if gpus or executor_cores or cpus > 1:
        conf["spark.executor.cores"] = str(executor_cores or cpus * per_executor)
    executors = math.ceil(spec.tasks / per_executor)
    conf["spark.cores.max"] = str(executors * int(conf.get("spark.executor.cores", cpus)))
    return conf


def master_addresses(master: str) -> list[tuple[str, int]]:
    """Hosts and ports in a standalone master URL, which may name several (`spark://a:7077,b:7077`); else empty."""
    if not master.startswith("spark://"):
        return []
    places = [place.rpartition(":") for place in master.removeprefix("spark://").split(",")]
    return [(host.strip("[]"), int(port)) for host, _, port in places if port.isdigit()]


def driver_environment(url: str, scratch: Path, spark_page: str) -> Mapping[str, str]:
    """The environment variables of the driver.

    Args:
        url: The storage URL. It has the password, so it goes nowhere else.
        scratch: The folder for what the driver tells the task: FAILURE_FILE and PROGRESS_FILE.
        spark_page: The address of the Spark master's page.
    """
    return {
        "TUNING_SPARK_PAGE": spark_page,  # the driver asks the master there what the cluster has
        URL_VARIABLE: url,
        "TUNING_FAILURE_FILE": str(scratch / FAILURE_FILE),
        "TUNING_PROGRESS_FILE": str(scratch / PROGRESS_FILE),
        # Without the time, because Airflow's log has it in each line.
        "TUNING_LOG_FORMAT": "%(message)s",
        **_temporary(scratch),
        # Airflow kills the task's processes 5 s after SIGTERM, but the driver may need longer to end (driver_end.py).
        "TUNING_OWN_SESSION": "1",
    }


def _temporary(scratch: Path) -> dict[str, str]:
    """TMPDIR of the driver: a folder of the task's own, which goes with it, or which the next task removes.

    Nothing if its path is too long for the sockets that Python's multiprocessing makes there.
    """
    return {"TMPDIR": str(scratch)} if len(os.fsencode(scratch)) <= LONGEST_TMPDIR else {}
