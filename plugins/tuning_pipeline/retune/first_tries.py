"""What a run tries first: the parameters published last, the study file's own sets, and those of the last export."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tuning_pipeline.exports.published import published_params
from tuning_pipeline.retune.warm_start import warm_started

if TYPE_CHECKING:
    from optuna_spark.spec.tuning import TuningSpec
    from tuning_pipeline.study_file.study_file import StudyFile

log = logging.getLogger(__name__)


def with_first_tries(spec: TuningSpec, study: StudyFile) -> TuningSpec:
    """The spec with all that a run of the study tries first.

    With `publish: better` the parameters published last come first: their value in the run's own study is what its best
    value is compared with. A study that has a trial with them runs none again.

    Args:
        spec: The run.
        study: The study.
    """
    settings = study.settings.retune
    started = warm_started(spec, study.exports_base(), settings.warm_start)
    if settings.publish != "better":
        return started
    params = published_params(study.exports_base(), spec.study_name)
    if params is None:
        return started
    if not spec.allows(params):
        log.info("publish: the parameters published last do not fit the search space any more, and are not run again")
        return started
    return started.with_changes(enqueue=(params, *(one for one in started.enqueue if one != params)))
