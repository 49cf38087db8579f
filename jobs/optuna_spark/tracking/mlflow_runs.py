"""The MLflow runs of one run of a study: a parent, and a child for each trial. Needs the package mlflow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from optuna_spark.spec.run_secrets import TrackingSecrets
from optuna_spark.tracking.child_run import TRIAL, ChildRun
from optuna_spark.tracking.target import TrackingTarget

T = TypeVar("T")

STUDY, RUN_ID, KIND, TRIALS = "optuna.study", "optuna_spark.run_id", "optuna_spark.kind", "optuna_spark.trials"
PARENT, CHILD = "run", "trial"
RUNNING = "RUNNING"
PAGE = 1_000
LONGEST_RUN_NAME = 200
# In characters of names and values, for a request of at most 1 MB in which JSON writes one of them with up to six.
BATCH_CHARACTERS = 150_000
METRICS_AT_ONCE, OTHERS_AT_ONCE = 800, 90


@dataclass(frozen=True)
class _Known:
    """A trial's run that is there; `done` once all of it is."""

    run_id: str
    start_ms: int
    done: bool


def connect(server: TrackingSecrets) -> MlflowClient:
    """A client of the server. Its login stands in this process's own environment, which is where MLflow reads it.

    Nothing is tried again by the client: that would take minutes, in which it cannot be told to end.
    """
    token = server.password if not server.login else ""
    login = {"USERNAME": server.login, "PASSWORD": server.password if server.login else "", "TOKEN": token}
    for name, value in login.items():
        os.environ.pop(f"MLFLOW_TRACKING_{name}", None)
        if value:
            os.environ[f"MLFLOW_TRACKING_{name}"] = value
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    return MlflowClient(tracking_uri=server.uri)


class MlflowRuns:
    """Finds and writes the runs of one run of a study. After an error, use a new one: the server may have done it.

    Args:
        client: Of the server.
        target: The study and its experiment.
        run_id: The run's id.
    """

    def __init__(self, client: MlflowClient, target: TrackingTarget, run_id: str) -> None:
        self._client, self._target, self._run_id = client, target, run_id
        self._experiment = experiment_id(client, target.experiment)
        self._parent = self._one_parent()  # its id
        self._children = self._one_child_each()

    def write(self, child: ChildRun) -> bool:
        """Make the run of a trial, or finish one that was begun. Returns whether there was anything to do."""
        known = self._children.get(child.number)
        if known is not None and known.start_ms != child.start_ms:  # of a trial that a reset has replaced
            self._client.delete_run(known.run_id)
            known = None
        if known is not None and known.done:
            return False
        run_id = known.run_id if known is not None else self._create(child)
        for metrics, params, tags in batches(child):
            self._client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
        self._client.set_terminated(run_id, child.status, child.end_ms)
        self._children[child.number] = _Known(run_id, child.start_ms, done=True)
        return True

    def begin(self) -> None:
        """Note that the run goes on, also after an earlier start of it has ended."""
        self._client.update_run(self._parent, status=RUNNING)

    def end(self, status: str, trials: int | None = None) -> None:
        """Note that the run has ended.

        Args:
            status: Of MLflow, such as FINISHED.
            trials: How many trials it has, once every one of them is there.
        """
        if trials is not None:
            self._client.set_tag(self._parent, TRIALS, str(trials))
        self._client.set_terminated(self._parent, status)

    def remove_others(self, numbers: set[int]) -> None:
        """Delete the runs of trials that the study does not have: a reset has replaced them."""
        for number in self._children.keys() - numbers:
            self._client.delete_run(self._children.pop(number).run_id)

    def _create(self, child: ChildRun) -> str:
        tags = {
            MLFLOW_PARENT_RUN_ID: self._parent,
            STUDY: self._target.study,
            RUN_ID: self._run_id,
            KIND: CHILD,
            TRIAL: str(child.number),
        }
        run = self._client.create_run(self._experiment, child.start_ms, tags, f"trial {child.number}")
        return str(run.info.run_id)

    def _one_parent(self) -> str:
        """The parent run's id. It is made if there is none; of several, which lost answers leave, one stays."""
        runs = runs_of(self._client, self._experiment, self._target.study, PARENT)
        mine = sorted((run for run in runs if run.data.tags.get(RUN_ID) == self._run_id), key=_age)
        if not mine:
            tags = {STUDY: self._target.study, RUN_ID: self._run_id, KIND: PARENT}
            made = self._client.create_run(self._experiment, None, tags, self._run_id[:LONGEST_RUN_NAME])
            return str(made.info.run_id)
        ids = [str(run.info.run_id) for run in mine]
        for double in ids[1:]:
            for child in self._children_of(double):
                self._client.delete_run(child.info.run_id)
            self._client.delete_run(double)
        return ids[0]

    def _one_child_each(self) -> dict[int, _Known]:
        known: dict[int, _Known] = {}
        for run in sorted(self._children_of(self._parent), key=lambda run: (run.info.status == RUNNING, _age(run))):
            number = int(run.data.tags[TRIAL])
            if number in known:
                self._client.delete_run(run.info.run_id)
            else:
                known[number] = _Known(run.info.run_id, run.info.start_time, run.info.status != RUNNING)
        return known

    def _children_of(self, parent: str) -> list[Run]:
        wanted = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'"
        return [run for run in found(self._client, self._experiment, wanted) if run.data.tags.get(KIND) == CHILD]


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment's id; it is made if it is missing."""
    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else another run has made it meanwhile
                raise
            known = client.get_experiment_by_name(name)
            if known is None:
                raise
    return str(known.experiment_id)


def mirrored(client: MlflowClient, target: TrackingTarget) -> dict[str, int]:
    """How many trials the runs of the study have whose trials are all there, by the run's id."""
    parents = runs_of(client, experiment_id(client, target.experiment), target.study, PARENT)
    return {run.data.tags.get(RUN_ID, ""): int(run.data.tags[TRIALS]) for run in parents if TRIALS in run.data.tags}


def runs_of(client: MlflowClient, experiment: str, study: str, kind: str) -> list[Run]:
    # A study's name has no quote in it (spec.sections.NAME).
    wanted = f"tags.`{STUDY}` = '{study}' and tags.`{KIND}` = '{kind}'"
    return [run for run in found(client, experiment, wanted) if run.data.tags.get(STUDY) == study]


def found(client: MlflowClient, experiment: str, wanted: str) -> list[Run]:
    """All runs that a filter finds."""
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment], wanted, max_results=PAGE, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def batches(child: ChildRun) -> Iterator[tuple[Sequence[Metric], Sequence[Param], Sequence[RunTag]]]:
    """What a trial has, in parts that fit into a request each."""
    metrics = iter([Metric(point.key, point.value, point.time_ms, point.step) for point in child.metrics])
    params, tags = _parts(child.params, Param), _parts(child.tags, RunTag)
    while any(batch := (list(islice(metrics, METRICS_AT_ONCE)), next(params, []), next(tags, []))):
        yield batch


def _parts(texts: Mapping[str, str], make: Callable[[str, str], T]) -> Iterator[list[T]]:
    part: list[T] = []
    size = 0
    for name, text in texts.items():
        if part and (len(part) == OTHERS_AT_ONCE or size + len(name) + len(text) > BATCH_CHARACTERS / 2):
            yield part
            part, size = [], 0
        part.append(make(name, text))
        size += len(name) + len(text)
    if part:
        yield part


def _age(run: Run) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id
