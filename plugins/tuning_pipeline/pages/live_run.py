"""What the tab of a run shows while there is no report, or beside one: read anew for each look, within bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuning_pipeline.database.connections import find_connection
from tuning_pipeline.database.finish_marks import ended_early, finish_requested_by
from tuning_pipeline.database.run_numbers import RunNumbers, run_numbers
from tuning_pipeline.database.study_runs import read_runs, settings_digest
from tuning_pipeline.pages.tuning_run import (
    DECIDE,
    MADE,
    PREPARE,
    SETTINGS,
    SKIPPED_BECAUSE,
    TuningRun,
    workspace_page,
)
from tuning_pipeline.runs.identity import RunIdentity
from tuning_pipeline.study_file.keys.study_keys import StudyKeys

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


@dataclass(frozen=True)
class LiveRun:
    """A run as its tab shows it.

    Attributes:
        run: The run.
        skipped: Why it does not tune; empty if it does.
        cards: The cards of its failed tasks.
        total: How many trials it adds to its study.
        numbers: Where it stands; None before it has a study that Airflow can read.
        finishing: Who has asked it to finish; empty if nobody has.
        early: Why it ended before its trials were spent; empty if it did not.
        workspace: Address of its page in the Databricks workspace; empty for other targets.
    """

    run: TuningRun
    skipped: str = ""
    cards: tuple[str, ...] = ()
    total: int = 0
    numbers: RunNumbers | None = None
    finishing: str = ""
    early: str = ""
    workspace: str = ""

    @property
    def is_over(self) -> bool:
        return self.run.is_over

    @property
    def is_tuning(self) -> bool:
        return self.run.is_tuning

    @property
    def left_s(self) -> float | None:
        """About how many seconds the rest takes; None where nobody can know."""
        if self.numbers is None or not self.numbers.per_s or not self.is_tuning:
            return None
        return max(0, self.total - self.numbers.finished) / self.numbers.per_s


def key_of(run: TuningRun) -> str:
    """The key of the run's trials.

    DAG and run id are part of it, so somebody who rewrites the XCom makes the run an unknown one, not another one.
    """
    left = (run.left(task.task_id, MADE) for task in run.tasks)
    return RunIdentity(run.dag_id, run.run_id, next((made for made in left if isinstance(made, str)), "")).key


def live_run(run: TuningRun, storage: RDBStorage | None, finishing: str = "") -> LiveRun:
    """Read what the tab shows.

    Args:
        run: The run.
        storage: Its study's database; None if the study lives in a file on a cluster.
        finishing: In that case, who has asked the run to finish.
    """
    skipped = str(run.left(DECIDE, SKIPPED_BECAUSE) or "")
    cards, workspace = tuple(run.cards()), _workspace(run)
    if storage is None or skipped:
        return LiveRun(run, skipped, cards, run.place.trials, finishing=finishing, workspace=workspace)
    name, key = run.place.study, key_of(run)
    try:
        numbers = run_numbers(name, key, storage)
    except KeyError:  # prepare_study has not made it yet
        return LiveRun(run, skipped, cards, run.place.trials, workspace=workspace)
    own = read_runs(name, storage).own
    has_begun = key in own
    return LiveRun(
        run=run,
        cards=cards,
        total=_total(run, own.get(key)),
        numbers=numbers,
        finishing=(has_begun and finish_requested_by(name, key, storage)) or "",
        # The note of an earlier try stays in the study until the run ends once more.
        early=(has_begun and not run.is_tuning and ended_early(name, key, storage)) or "",
        workspace=workspace,
    )


def _total(run: TuningRun, digest: str | None) -> int:
    """How many trials the run adds: as its settings say, which its form may have changed."""
    document = run.left(PREPARE, SETTINGS)
    # The study holds the digest of the settings, so that nobody can show others by rewriting the XCom.
    if not isinstance(document, dict) or settings_digest(document) != digest:
        return run.place.trials
    return int(document.get("trials") or StudyKeys.trials)


def _workspace(run: TuningRun) -> str:
    connection = find_connection(run.place.databricks) if run.place.databricks else None
    return workspace_page(run, connection.host) if connection is not None and connection.host else ""
