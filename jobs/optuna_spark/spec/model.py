"""The final model of a study: what a study file says of it, and the order to train it. Standard library only."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from optuna_spark.errors import SpecError
from optuna_spark.spec.decode import from_dict, to_dict
from optuna_spark.spec.key import check_limits, key
from optuna_spark.spec.sections import NAME

_FUNCTION = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"


@dataclass(frozen=True)
class ModelSpec:
    """The final model of a study."""

    refit: bool = key(
        True,
        "After the search, train the best trial's parameters on all training rows, for the rounds that its early"
        " stopping found, and export the model. Target standalone only, so far.",
    )
    name: str | None = key(
        None, "What the model is called on its card. null: as the study.", pattern=NAME.pattern, must="be a name"
    )
    train: str | None = key(
        None,
        "Of an own objective: module:function that trains the model, in the objective's module or package. It gets the"
        " parameters and the training rows (a pyarrow.Table), and returns anything that joblib can save.",
        pattern=_FUNCTION,
        must="be module:function",
    )
    score: str | None = key(
        None,
        "Of an own objective: module:function that scores that model on the test rows. It gets the model and the rows,"
        " and returns a value for each of directions. null: the model has no test score.",
        pattern=_FUNCTION,
        must="be module:function",
    )

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class ModelOrder:
    """What the final model is trained from: the best trial of a study, as best_params.json says it.

    Attributes:
        trial: Its number.
        params: Its parameters.
        fixed: The parameters that it gave its library beside them.
        rounds: How many rounds it needs: the best iteration of the trial, counted from 1, which with several folds is
            that of their mean. None where the objective knows no rounds.
        values: Its values.
        metrics: Their names.
        about: What else the model's card says: study, run, data, versions.
    """

    trial: int
    params: dict[str, Any]
    values: tuple[Any, ...]
    metrics: tuple[str, ...]
    fixed: dict[str, Any] = field(default_factory=dict)
    rounds: int | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(to_dict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelOrder:
        """Read what `to_json` wrote.

        Raises:
            SpecError: The text is something else.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpecError(f"the order of the final model is not valid JSON: {error}") from None
        return from_dict(cls, data)
