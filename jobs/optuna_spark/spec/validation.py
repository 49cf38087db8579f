"""Which rows a trial trains on and which it is judged by, as a study file says it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from optuna_spark.errors import SpecError
from optuna_spark.spec.form_fields import DATA, plain
from optuna_spark.spec.key import check_limits, key

DEFAULT_HOLDOUT = 0.2


@dataclass(frozen=True)
class ValidationSpec:
    """Which rows a trial trains on and which it is judged by."""

    holdout: float | None = key(
        None,
        "Share of the rows kept for validation; not used with folds. null: 0.2.",
        above=0,
        below=1,
        field=plain(DATA),
    )
    folds: int | None = key(
        None,
        "Folds of a cross-validation, each trained once in a trial; its value is their mean. null: one training with"
        " the hold-out.",
        minimum=2,
        maximum=1_000,
        field=plain(DATA),
    )
    seed: int | None = key(
        None,
        "Seed of the split alone, so that studies with other seeds validate on the same rows. null: that of the study.",
        minimum=0,
        maximum=2**32 - 1,
    )
    stratify: bool | None = key(
        None, "Whether each part has about the same share of each class. null: yes where the label is classes."
    )
    group: str | None = key(
        None, "Column whose equal values stay on one side, such as a patient or a customer; no feature."
    )
    time: str | None = key(
        None,
        "Column of times or numbers: rows are trained on that lie before those validated on, with folds in windows that"
        " expand; no feature.",
    )
    split: str | None = key(
        None,
        "Column that says the side of each row, train or validation, or the number of the fold that validates on it"
        " (-1: none); no feature.",
    )

    def __post_init__(self) -> None:
        check_limits(self)
        for decides, nothing_left_to in _DECIDES.items():
            others = [name for name in nothing_left_to if getattr(self, name) not in (None, False)]
            if getattr(self, decides) is not None and others:
                raise SpecError(f"{decides} already decides which rows validate: remove {others[0]}")

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the table that the section names, by key."""
        named = {name: getattr(self, name) for name in ("group", "time", "split")}
        return {name: column for name, column in named.items() if column is not None}

    @property
    def given(self) -> tuple[str, ...]:
        """The keys that say something."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)


_DECIDES = {
    "split": ("holdout", "folds", "seed", "stratify", "group", "time"),
    "time": ("seed", "stratify", "group"),
}
