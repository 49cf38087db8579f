"""What an objective may ask of its trial's study when the study is in the driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optuna.study import StudyDirection


class RemoteStudy:
    """The part of `optuna.Study` that objectives and pruning callbacks use: name, directions and `stop`.

    Args:
        name: The study's.
        directions: minimize or maximize, one per value.
        stop: Asks the driver to start no further trial.
    """

    def __init__(self, name: str, directions: Sequence[str], stop: Callable[[], None]) -> None:
        self.study_name = name
        self.directions = [StudyDirection[d.upper()] for d in directions]
        self._stop = stop

    @property
    def direction(self) -> StudyDirection:
        if len(self.directions) > 1:
            raise RuntimeError("A single direction cannot be retrieved from a multi-objective study.")
        return self.directions[0]

    def stop(self) -> None:
        """Start no further trial; those that run may end."""
        self._stop()

    def __getattr__(self, name: str) -> object:
        raise AttributeError(
            f"trial.study.{name} is not available here, because the study is in the driver: an objective may use"
            " study_name, direction, directions and stop(); with coordination database it has all of the study"
        )
