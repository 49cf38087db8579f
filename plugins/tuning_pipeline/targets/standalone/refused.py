"""The card of an application that spark-submit refuses before its driver starts."""

from __future__ import annotations

import re

from optuna_spark.distribution.spark_errors import is_about_cluster
from tuning_pipeline.failures import Failure

# spark-submit's Java and its launcher say why in one line. The driver's own errors are in its failure file.
_REASONS = (
    re.compile(
        r'Exception in thread "main" (?:[\w$]+\.)*'
        r"(?:SparkException|IllegalArgumentException|SparkIllegalArgumentException|NumberFormatException): (.+)"
    ),
    re.compile(r"^((?:Invalid|Too small) (?:maximum|initial|minimum) heap.*)$", re.MULTILINE),
)


def refused_submission(output: str) -> Failure | None:
    """The card, with Spark's own sentence; None if the output holds none.

    Args:
        output: What spark-submit printed last.
    """
    found = next((match for reason in _REASONS if (match := reason.search(output))), None)
    if found is None or is_about_cluster(found[1]):
        return None
    return Failure(
        what=f"Spark refuses the application: {found[1].strip()}",
        next="Correct spark or resources in the study file, then run again.",
    )
