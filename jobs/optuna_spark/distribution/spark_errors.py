"""What Spark says where it refuses an application's properties, without its stack trace."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from optuna_spark.errors import SparkSettingsError

# Exceptions of Java and Spark for a wrong value. What has to do with the network is of other classes.
_KINDS = "IllegalArgumentException|SparkIllegalArgumentException|NumberFormatException|SparkException"
_LINE = re.compile(rf"^:?\s*(?:[\w$]+\.)+(?:{_KINDS}): (.+)$", re.MULTILINE)
# They may also be about the cluster, such as a master that went away during the start. Then another try can help.
_CLUSTER = re.compile(
    r"(?i)master|connect|timed? ?out|unresponsive|stopped|bind|resolve|refused|authenticat|awaitResult|MetricsSystem"
)


def is_about_cluster(sentence: str) -> bool:
    """Whether Spark's sentence is about the cluster or the network, and not about a property."""
    return _CLUSTER.search(sentence) is not None


def settings_problem(error: BaseException) -> str | None:
    """Spark's own sentence about a property that it refuses; None if the error is about something else."""
    text = str(error)
    found = _LINE.search(text)
    if found is None:
        # pyspark turns some of Java's exceptions into its own, whose text has no class.
        own = type(error).__name__ in _KINDS.split("|") and text.strip()
        sentence = text.strip().splitlines()[0] if own else None
    else:
        sentence = found[1]
    return None if sentence is None or is_about_cluster(sentence) else sentence


@contextmanager
def readable_settings(secrets: Iterable[str]) -> Iterator[None]:
    """Turn Spark's refusal of a property into one sentence.

    Args:
        secrets: Values that the sentence must not show.

    Raises:
        SparkSettingsError: Spark refuses a property.
    """
    try:
        yield
    except Exception as error:
        sentence = settings_problem(error)
        if sentence is None:
            raise
        for secret in filter(None, secrets):
            sentence = sentence.replace(secret, "***")
        raise SparkSettingsError(f"Spark refuses the application: {sentence}") from None
