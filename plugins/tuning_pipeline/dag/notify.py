"""Who is told when a task fails: the study file names one of Airflow's notifiers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from optuna_spark.errors import SpecError


def load_notifier(name: str | None) -> Callable[[Any], Any] | None:
    """The notifier or function under `module:name`, which Airflow calls with the context of a failed task.

    Raises:
        SpecError: There is no such module or name, or it cannot be called.
    """
    if name is None:
        return None
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise SpecError(f"on_failure must be module:name, got {name!r}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"on_failure {name!r} cannot be imported ({error}): put the module into plugins/") from error
    if not callable(found):
        raise SpecError(f"on_failure {name!r} must be a notifier or a function, got {type(found).__name__}")
    return found  # type: ignore[no-any-return]  # what a module holds is not known before
