"""Warm start: a run first tries the best parameters of the study's last export."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from optuna_spark.spec.conditions import existing
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.exports.folders.paths import exports_base, folder_name

log = logging.getLogger(__name__)


def warm_started(spec: TuningSpec, base: str, count: int) -> TuningSpec:
    """The spec with the best parameters of the study's last export added to `enqueue`, as far as they still fit.

    Args:
        spec: The run.
        base: The folder of all exports.
        count: How many trials to add at most.
    """
    if count == 0:
        return spec
    file = exports_base(base) / folder_name(spec.study_name) / "latest" / "best_trials.json"
    try:
        records = json.loads(file.read_text())[:count]
    except FileNotFoundError:
        log.info("warm_start: study %s has no export yet", spec.study_name)
        return spec
    fitting = [found for record in records if (found := _fitting(record["params"], spec.search_space))]
    # The study file's own sets stay first; the same set twice would waste a trial.
    first = [found for found in fitting if found not in spec.enqueue]
    log.info("warm_start: trying %s parameter sets of the last export first", len(first))
    return spec.with_changes(enqueue=(*spec.enqueue, *first))


def _fitting(params: Mapping[str, Any], space: Mapping[str, ParamSpec]) -> dict[str, Any]:
    """The parameters that the search space still allows: it may have changed. The sampler chooses the others."""
    if not space:
        return dict(params)
    allowed = {name: value for name, value in params.items() if name in space and space[name].allows(value)}
    return existing(space, allowed)
