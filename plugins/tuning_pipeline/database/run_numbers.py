"""Where a run stands, read from its study's database in a few statements, whose answers do not grow with the study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.study import StudyDirection

from optuna_spark.results.best import direction_name, metric_names
from optuna_spark.results.failure_reasons import FailureReason, failure_reasons
from optuna_spark.results.snapshot import mask_passwords
from optuna_spark.storage.trial_marks import ERROR, OLD_ERROR, OLD_RUN_ID, RUN, begins_with

MAX_POINTS = 200
# The newest failed trials, whose reasons are grouped, and the newest finished ones, which give the rate.
MAX_ERRORS = 200
MAX_RECENT = 100

_TRIALS = sa.table("trials", *map(sa.column, ("trial_id", "number", "study_id", "state", "datetime_complete")))
_VALUES = sa.table("trial_values", *map(sa.column, ("trial_id", "objective", "value", "value_type")))
_SYSTEM = sa.table(
    "trial_system_attributes", *(sa.column(name, sa.String) for name in ("trial_id", "key", "value_json"))
)
_ATTRS = sa.table("trial_user_attributes", *(sa.column(name, sa.String) for name in ("trial_id", "key", "value_json")))


@dataclass(frozen=True)
class Best:
    """The best value of some trials: the value and its trial's number."""

    value: float
    trial: int


@dataclass(frozen=True)
class RunNumbers:
    """Where a run stands.

    Attributes:
        metrics, directions: Of the study's values.
        study, run: How many trials are in each state: of the study, and of this run.
        best: Best value of the study; None without one, or with several directions. As in exports, a trial that
            breaks a constraint has none.
        before: Best value of the trials of other runs, likewise.
        per_s: Finished trials of this run in a second, lately; None before there are two.
        history: For each of some equally long stretches of the study: number of its last trial, and its best value.
        failures: The reasons of the newest failed trials of this run.
    """

    metrics: Sequence[str]
    directions: Sequence[str]
    study: Mapping[str, int]
    run: Mapping[str, int]
    best: Best | None = None
    before: Best | None = None
    per_s: float | None = None
    history: Sequence[tuple[int, float]] = ()
    failures: Sequence[FailureReason] = field(default=())

    @property
    def finished(self) -> int:
        """How many trials of this run are complete or pruned."""
        return self.run.get("COMPLETE", 0) + self.run.get("PRUNED", 0)

    @property
    def improved(self) -> bool:
        """Whether this run has found the study's best value."""
        if self.best is None:
            return False
        return self.before is None or self.best.trial != self.before.trial


def run_numbers(name: str, key: str, storage: RDBStorage) -> RunNumbers:
    """Read where a run stands.

    Args:
        name: The study.
        key: The run's key.
        storage: Holds the study.

    Raises:
        KeyError: There is no such study.
        sqlalchemy.exc.DBAPIError: The database does not answer.
    """
    study = optuna.load_study(study_name=name, storage=storage)
    study_id = storage.get_study_id_from_name(name)
    directions = study.directions
    with storage.engine.connect() as connection:
        counts = _counts(connection, study_id, key)
        one = len(directions) == 1
        return RunNumbers(
            metrics=metric_names(study),
            directions=[direction_name(direction) for direction in directions],
            study=_added(counts),
            run={state: n for (mine, state), n in counts.items() if mine},
            best=_best(connection, study_id, directions[0]) if one else None,
            before=_best(connection, study_id, directions[0], other_than=key) if one else None,
            per_s=_rate(connection, study_id, key),
            history=_history(connection, study_id, directions[0]),
            failures=_failures(connection, study_id, key),
        )


def run_failures(name: str, key: str, storage: RDBStorage) -> list[FailureReason]:
    """The reasons of the newest failed trials of a run.

    Raises:
        KeyError: There is no such study.
    """
    with storage.engine.connect() as connection:
        return _failures(connection, storage.get_study_id_from_name(name), key)


def _counts(connection: sa.Connection, study_id: int, key: str) -> dict[tuple[bool, str], int]:
    mine = sa.case((_is_of_run(key), 1), else_=0).label("mine")
    query = (
        sa.select(mine, _TRIALS.c.state, sa.func.count())
        .where(_TRIALS.c.study_id == study_id)
        .group_by(mine, _TRIALS.c.state)
    )
    return {(bool(own), str(state)): int(n) for own, state, n in connection.execute(query)}


def _added(counts: Mapping[tuple[bool, str], int]) -> dict[str, int]:
    added: dict[str, int] = {}
    for (_, state), n in counts.items():
        added[state] = added.get(state, 0) + n
    return added


def _best(
    connection: sa.Connection, study_id: int, direction: StudyDirection, *, other_than: str | None = None
) -> Best | None:
    order = _VALUES.c.value.desc() if direction == StudyDirection.MAXIMIZE else _VALUES.c.value
    query = _values(study_id).with_only_columns(_VALUES.c.value, _TRIALS.c.number)
    if other_than is not None:
        query = query.where(sa.case((_is_of_run(other_than), 0), else_=1) == 1)  # `not` would leave out what has no run
    row = connection.execute(query.order_by(order, _TRIALS.c.number).limit(1)).first()
    return None if row is None else Best(float(row[0]), int(row[1]))


def _history(connection: sa.Connection, study_id: int, direction: StudyDirection) -> list[tuple[int, float]]:
    last = connection.execute(sa.select(sa.func.max(_TRIALS.c.number)).where(_TRIALS.c.study_id == study_id)).scalar()
    if last is None:
        return []
    stretch = _TRIALS.c.number.op("/")(int(last) // MAX_POINTS + 1)
    best = sa.func.max if direction == StudyDirection.MAXIMIZE else sa.func.min
    place = sa.func.floor(stretch).label("place")
    query = _values(study_id).with_only_columns(sa.func.max(_TRIALS.c.number), best(_VALUES.c.value))
    return [(int(number), float(value)) for number, value in connection.execute(query.group_by(place).order_by(place))]


def _rate(connection: sa.Connection, study_id: int, key: str) -> float | None:
    query = (
        _of_run(study_id, key, "COMPLETE", "PRUNED")
        .with_only_columns(_TRIALS.c.datetime_complete, _mark(RUN))
        .where(_TRIALS.c.datetime_complete.is_not(None))
        .order_by(_TRIALS.c.trial_id.desc())
        .limit(MAX_RECENT)
    )
    ends = sorted(_end(column, mark) for column, mark in connection.execute(query))
    seconds = (ends[-1] - ends[0]).total_seconds() if len(ends) > 1 else 0.0
    return (len(ends) - 1) / seconds if seconds > 0 else None


def _failures(connection: sa.Connection, study_id: int, key: str) -> list[FailureReason]:
    query = (
        _of_run(study_id, key, "FAIL")
        .with_only_columns(_TRIALS.c.number, _mark(ERROR), _mark(RUN), _old_attr(OLD_ERROR))
        .order_by(_TRIALS.c.trial_id.desc())
        .limit(MAX_ERRORS)
    )
    found = [
        (int(number), error if error is not None or run is not None else old)
        for number, error, run, old in connection.execute(query)
    ]
    errors = [(number, str(json.loads(text))) for number, text in found if text is not None]
    return failure_reasons((number, mask_passwords(text)) for number, text in errors)


def _values(study_id: int) -> sa.Select[Any]:
    """The finite first values of the complete trials that keep their constraints."""
    joined = _TRIALS.join(_VALUES, _VALUES.c.trial_id == _TRIALS.c.trial_id)
    finite = _VALUES.c.value_type == "FINITE"  # SQL knows no infinities
    complete = _TRIALS.c.state == "COMPLETE"
    return sa.select().select_from(joined).where(
        _TRIALS.c.study_id == study_id, complete, _VALUES.c.objective == 0, finite, ~_breaks_constraint()
    )  # fmt: skip


def _breaks_constraint() -> sa.ColumnElement[bool]:
    """Whether a trial has a constraint above 0, as `results.best.best_trials` asks.

    Optuna stores each as JSON text with a key of its own, or all as a list. No database reads every such number, such
    as Infinity, so this looks at the texts: what is left without zeros and negative numbers is above 0.
    """
    whole = _SYSTEM.c.key == "constraints"
    listed = sa.func.replace(_SYSTEM.c.value_json, "[", " ", type_=sa.String)
    single = sa.literal(" ") + _SYSTEM.c.value_json + sa.literal("]")
    left: sa.ColumnElement[str] = sa.case((whole, listed), else_=single)
    for nothing in (" 0.0,", " 0.0]", " 0,", " 0]", " -", " ]"):
        left = sa.func.replace(left, nothing, "", type_=sa.String)
    found = sa.or_(whole, _SYSTEM.c.key.like("constraints:%"))
    return (
        sa.select(_SYSTEM.c.trial_id).where(_SYSTEM.c.trial_id == _TRIALS.c.trial_id, found, left.like("% %")).exists()
    )


def _of_run(study_id: int, key: str, *states: str) -> sa.Select[Any]:
    """The trials of a run that are in one of these states."""
    found = sa.select().select_from(_TRIALS).where(_TRIALS.c.study_id == study_id)
    return found.where(_TRIALS.c.state.in_(states), _is_of_run(key))


def _is_of_run(key: str) -> sa.ColumnElement[bool]:
    """Whether a trial is one of a run's, as `storage.trial_marks.run_id_of` says; null for one of no run."""
    begins = begins_with(key)
    begin = sa.func.substr(_mark(RUN), 1, len(begins))
    # Only a trial without a mark is asked for what version 0.1.0 wrote, which is a text and so never equals a mark.
    return sa.func.coalesce(begin, _old_attr(OLD_RUN_ID)).in_([begins, json.dumps(key)])


def _mark(name: str) -> sa.ScalarSelect[Any]:
    found = _SYSTEM.alias()
    query = sa.select(found.c.value_json).where(found.c.trial_id == _TRIALS.c.trial_id, found.c.key == name)
    return query.correlate(_TRIALS).scalar_subquery()


def _old_attr(name: str) -> sa.ScalarSelect[Any]:
    query = sa.select(_ATTRS.c.value_json).where(_ATTRS.c.trial_id == _TRIALS.c.trial_id, _ATTRS.c.key == name)
    return query.correlate(_TRIALS).scalar_subquery()


def _end(column: datetime | str, mark: str | None) -> datetime:
    """When a trial ended: exactly if that is in its mark, else as Optuna's column has it."""
    value = json.loads(mark).get("complete", column) if mark is not None else column
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value  # SQLite has texts
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)  # the column has UTC
