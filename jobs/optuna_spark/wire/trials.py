"""The study's trials as a worker reads them: Optuna's FrozenTrial as JSON, and back."""

from __future__ import annotations

import datetime
import functools
import json

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.storage.choices import internal_repr
from optuna_spark.storage.trial_record import lasting_system_attrs
from optuna_spark.wire.frames import Message

# Texts of distributions repeat from trial to trial. Nobody changes a distribution, so trials may share one.
_distribution = functools.lru_cache(maxsize=4096)(json_to_distribution)


def trial_text(trial: FrozenTrial) -> str:
    """A trial as JSON. Moments are naive local time of the driver, as in an Assignment."""
    distributions = trial.distributions
    message = {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "start": _text(trial.datetime_start),
        "complete": _text(trial.datetime_complete),
        "params": {name: internal_repr(distributions[name], value) for name, value in trial.params.items()},
        "distributions": {name: distribution_to_json(one) for name, one in distributions.items()},
        "user_attrs": trial.user_attrs,
        "system_attrs": lasting_system_attrs(trial),
        "reports": list(trial.intermediate_values.items()),
    }
    return json.dumps(message, separators=(",", ":"))


def read_trial(message: Message) -> FrozenTrial:
    """The trial that `trial_text` wrote, from the JSON's content. Its id is its number."""
    distributions = {name: _distribution(text) for name, text in message["distributions"].items()}
    return FrozenTrial(
        number=message["number"],
        trial_id=message["number"],
        state=TrialState[message["state"]],
        value=None,
        values=message["values"],
        datetime_start=_moment(message["start"]),
        datetime_complete=_moment(message["complete"]),
        params={name: distributions[name].to_external_repr(value) for name, value in message["params"].items()},
        distributions=distributions,
        user_attrs=message["user_attrs"],
        system_attrs=message["system_attrs"],
        intermediate_values=dict(message["reports"]),
    )


def _text(moment: datetime.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: str | None) -> datetime.datetime | None:
    return None if text is None else datetime.datetime.fromisoformat(text)
