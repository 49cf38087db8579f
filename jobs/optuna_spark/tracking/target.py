"""Which MLflow experiment the trials of a study go to, and how to reach it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field

from optuna_spark.errors import SpecError
from optuna_spark.spec.run_secrets import TrackingSecrets
from optuna_spark.spec.tuning import TuningSpec

PACKAGE = "mlflow"


@dataclass(frozen=True)
class TrackingTarget:
    """The mirror of one study.

    Attributes:
        server: Address and login of the MLflow server.
        experiment: Name of the experiment.
        study: Name of the study.
        metric_names: Names of the values of a trial; empty: value, or value_0 and so on.
    """

    server: TrackingSecrets = field(repr=False)
    experiment: str
    study: str
    metric_names: tuple[str, ...] = ()


def tracking_target(spec: TuningSpec, server: TrackingSecrets | None) -> TrackingTarget | None:
    """The mirror that a run asks for; None if it asks for none.

    Raises:
        SpecError: The server's address is not known, or this Python has no MLflow.
    """
    if spec.tracking is None:
        return None
    if server is None:
        raise SpecError(
            f"tracking.mlflow {spec.tracking.mlflow!r} is an Airflow connection: start the run from Airflow"
        )
    if importlib.util.find_spec(PACKAGE) is None:
        raise SpecError(
            "tracking needs the package mlflow-skinny, which is not installed here: install the locked packages anew"
            " (make setup), or remove tracking from the study file"
        )
    return TrackingTarget(server, spec.tracking.experiment or spec.study_name, spec.study_name, spec.metric_names)
