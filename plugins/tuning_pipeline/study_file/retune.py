"""When a study is tuned again, and what such a run starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from optuna_spark.errors import SpecError


@dataclass(frozen=True)
class RetuneSettings:
    """Runs that nobody triggers by hand: by the schedule, or because data changed.

    Attributes:
        assets: Names or URIs of Airflow assets; an update of any of them starts a run.
        mode: What a run whose conf says no mode does with the stored study: resume goes on with it, reset begins anew.
        rule: always; new_data: only when the data differs from what was tuned on last; drift: only when the best
            trial, run again on today's data, has another value.
        drift: How much that value has to move, as a share of the old one.
        warm_start: So many of the best trials of the last export are tried first.
        publish: always; better: the asset event only when the best value beats the one published last.
    """

    assets: tuple[str, ...] = ()
    mode: Literal["resume", "reset"] = "resume"
    rule: Literal["always", "new_data", "drift"] = "always"
    drift: float = 0.05
    warm_start: int = 0
    publish: Literal["always", "better"] = "always"

    def __post_init__(self) -> None:
        if any(not name.strip() for name in self.assets):
            raise SpecError("assets must be names or URIs of assets, got an empty text")
        if self.drift <= 0:
            raise SpecError(f"drift must be above 0, got {self.drift:g}")
        if self.warm_start < 0:
            raise SpecError(f"warm_start must be at least 0, got {self.warm_start}")


def check_retune(settings: RetuneSettings, *, has_data: bool, directions: int) -> None:
    """Refuse a rule that the study cannot follow.

    Raises:
        SpecError: new_data without data; drift or better with several directions.
    """
    if settings.rule == "new_data" and not has_data:
        raise SpecError("rule new_data needs data.path; without data use always or drift", "retune")
    if directions > 1 and settings.rule == "drift":
        raise SpecError("rule drift works with one direction only; use always or new_data", "retune")
    if directions > 1 and settings.publish == "better":
        raise SpecError("publish better works with one direction only; use always", "retune")
