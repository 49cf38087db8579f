"""When a study is tuned again, and what such a run starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from optuna_spark.errors import SpecError
from optuna_spark.spec.key import check_limits, key


@dataclass(frozen=True)
class RetuneSettings:
    """Runs that nobody triggers by hand: by the schedule, or because data changed."""

    assets: tuple[str, ...] = key((), "Names or URIs of Airflow assets; an update of any of them starts a run.")
    mode: Literal["resume", "reset"] = key(
        "resume",
        "What a run whose conf says no mode does with the stored study: resume goes on with it, reset begins anew.",
    )
    rule: Literal["always", "new_data", "drift"] = key(
        "always",
        "new_data: only when the data differs from what was tuned on last. drift: only when the best trial, run again"
        " on today's data, has another value.",
    )
    drift: float = key(
        0.05, "Rule drift: how much that value has to move, as a share of the old one.", above=0, maximum=1_000_000
    )
    warm_start: int = key(
        0, "So many of the best trials of the last export are tried first.", minimum=0, maximum=10_000
    )
    publish: Literal["always", "better"] = key(
        "always",
        "better: the asset event only when the best value beats that of the parameters published last, in the same"
        " study; a study that has no trial with them (mode reset) runs one first.",
    )

    def __post_init__(self) -> None:
        if any(not name.strip() for name in self.assets):
            raise SpecError("assets must be names or URIs of assets, got an empty text")
        check_limits(self)


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
