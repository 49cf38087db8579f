"""What workers read of the study, and what their objectives set on it."""

from __future__ import annotations

import json
from typing import Any

from optuna.trial import TrialState

from optuna_spark.sampling.history import HistoryStorage
from optuna_spark.storage.empty_study import METRIC_NAMES, OURS
from optuna_spark.wire.messages import Part
from optuna_spark.wire.trials import trial_text

# What one answer holds at most, unless a single trial is larger. Others wait while it is made: about 5 ms.
ANSWER_TRIALS = 100
ANSWER_CHARACTERS = 512 * 1024
# Texts of ended trials that are kept for the next worker that reads them, in characters.
KEPT = 64 * 1024 * 1024
# An objective's attributes of the study are read as a whole, and are all in the driver's memory.
MOST_ATTRS = 16 * 1024 * 1024
MOST_WAITING = 10_000


class StudyAccess:
    """Reads and changes the study for workers. Not thread-safe.

    Args:
        memory: The study in memory.
        study_id: Its id.
    """

    def __init__(self, memory: HistoryStorage, study_id: int) -> None:
        self._memory, self._id = memory, study_id
        self._texts: dict[int, str] = {}
        self._kept = 0
        self._sizes: dict[str, int] = {}  # of the attributes that objectives have set

    def read(self, part: Part, since: int) -> str:
        """A part of the study as JSON.

        Raises:
            ValueError: There is no best trial yet.
            RuntimeError: The study has several directions, so no best trial.
        """
        match part:
            case "best":
                return trial_text(self._memory.get_best_trial(self._id))
            case "attrs":
                system = self._memory.get_study_system_attrs(self._id)
                shown = {key: value for key, value in system.items() if not key.startswith(OURS)}
                return json.dumps({"user": self._memory.get_study_user_attrs(self._id), "system": shown})
            case _:
                return self._trials(since, part == "trials")

    def check_room(self) -> None:
        """Refuse one more trial to wait.

        Raises:
            RuntimeError: So many wait already that an objective must be enqueuing without end.
        """
        waiting = self._memory.get_all_trials(self._id, deepcopy=False, states=(TrialState.WAITING,))
        if len(waiting) >= MOST_WAITING:
            raise RuntimeError(f"at most {MOST_WAITING} trials may wait, and as many do: enqueue fewer in a trial")

    def set_attr(self, key: str, value: Any, system: bool) -> None:
        """Set an attribute of the study.

        Raises:
            ValueError: The attributes that objectives have set are too many, or metric names not as many as values.
        """
        directions = len(self._memory.get_study_directions(self._id))
        if system and key == METRIC_NAMES and len(value) != directions:
            raise ValueError(f"the metric names must be {directions}, got {len(value)}")
        size = len(key) + len(json.dumps(value))
        if sum(self._sizes.values()) - self._sizes.get(key, 0) + size > MOST_ATTRS:
            raise ValueError(f"attributes of the study must be at most {MOST_ATTRS} bytes of JSON together: set fewer")
        self._sizes[key] = size
        set_ = self._memory.set_study_system_attr if system else self._memory.set_study_user_attr
        set_(self._id, key, value)

    def _trials(self, since: int, with_running: bool) -> str:
        """The trials that changed since a position. Running ones change all the time: they come whole, at the end."""
        texts, size, position, changes = list[str](), 0, since, self._memory.changes
        for after, number in changes.since(since):
            if len(texts) >= ANSWER_TRIALS or size > ANSWER_CHARACTERS:
                break
            position = after
            if (text := self._text(number)) is not None:
                texts.append(text)
                size += len(text)
        else:
            position = len(changes)
        more = position < len(changes)
        if with_running and not more:
            texts += [trial_text(trial) for trial in self._memory.running()]
        return f'{{"trials":[{",".join(texts)}],"next":{position},"more":{json.dumps(more)}}}'

    def _text(self, number: int) -> str | None:
        """A trial that does not run, as JSON; None for one that runs."""
        if (kept := self._texts.get(number)) is not None:
            return kept
        trial = self._memory.get_trial(number)
        if trial.state == TrialState.RUNNING:
            return None
        text = trial_text(trial)
        if trial.state.is_finished() and self._kept + len(text) <= KEPT:
            self._texts[number] = text
            self._kept += len(text)
        return text
