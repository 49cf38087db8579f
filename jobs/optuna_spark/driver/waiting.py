"""A run whose tasks do not start says what it waits for. It ends where nobody can give what it needs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from optuna_spark.distribution.cluster_state import (
    ClusterState,
    Part,
    busy_with,
    cores_allowed,
    lacking,
    master_asker,
    wanted_by,
)
from optuna_spark.driver.progress import PREFIX
from optuna_spark.errors import ResourcesError
from optuna_spark.shown import duration

if TYPE_CHECKING:
    from pyspark import SparkContext

log = logging.getLogger(__name__)

SAY_S = 30.0


class Waiting:
    """Watches the time in which no Spark task of the run is at work. Not thread-safe.

    Args:
        context: The run's Spark context.
        patience_s: How long to wait for what no worker has. The time begins anew when a worker joins the cluster.
        ask: Asks what the cluster has; None where nobody can tell.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        context: SparkContext,
        patience_s: float,
        ask: Callable[[], ClusterState | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context, self._patience_s, self._clock = context, patience_s, clock
        self._ask = ask or master_asker(context)
        self._has_met_worker = False
        self._begin()

    def _begin(self) -> None:
        self._since = self._hopeless_since = math.nan
        self._said = -math.inf
        self._known: frozenset[str] = frozenset()

    def look(self) -> None:
        """Say now and then what the run waits for, if it waits.

        Raises:
            ResourcesError: No worker has had what one executor needs, for too long.
        """
        if (at_work := is_at_work(self._context)) is None:
            return
        if at_work:
            self._has_met_worker = True
            self._begin()
            return
        now = self._clock()
        if math.isnan(self._since):
            self._since = self._said = now  # the first line comes after SAY_S: a start takes its time
        cluster = self._ask()
        wanted = wanted_by(self._context, cluster)
        problem = self._problem(wanted, cluster)
        self._count_hopeless(problem, cluster, now)
        if now - self._said >= SAY_S:
            self._said = now
            log.info("%s %s", PREFIX, self._line(wanted, cluster, problem, now))
        if problem is not None and now - self._hopeless_since >= self._patience_s:
            raise ResourcesError(problem)

    def is_idle(self) -> bool:
        """Whether no Spark task is at work, for certain."""
        return is_at_work(self._context) is False

    def _problem(self, wanted: Part, cluster: ClusterState | None) -> str | None:
        limit = cores_allowed(self._context)
        if limit is not None and limit < wanted.cores:
            return f"an executor needs {wanted.cores} cores, and spark.cores.max allows {limit} in all"
        if cluster is None or (not cluster.workers and self._has_met_worker):
            return None  # a cluster that has lost its workers gets others, or the same ones again
        self._has_met_worker = self._has_met_worker or bool(cluster.workers)
        return lacking(wanted, cluster)

    def _count_hopeless(self, problem: str | None, cluster: ClusterState | None, now: float) -> None:
        workers = frozenset(cluster.workers if cluster is not None else ())
        joined, self._known = bool(workers - self._known), workers
        if problem is None:
            self._hopeless_since = math.nan
        elif math.isnan(self._hopeless_since) or joined:
            self._hopeless_since = now

    def _line(self, wanted: Part, cluster: ClusterState | None, problem: str | None, now: float) -> str:
        begun = f"No Spark task is at work, for {duration(now - self._since)}: "
        if problem is not None:
            left = max(0.0, self._patience_s - (now - self._hopeless_since))
            return f"{begun}{problem} (the task ends in {duration(left)} unless a worker joins that has it)"
        if cluster is None:
            return f"{begun}waiting for the cluster to start executors (there is no master's page to ask why)"
        if not cluster.workers:
            return f"{begun}the cluster has no worker at the moment, and {wanted} is needed for an executor"
        busy = busy_with(cluster, self._context.applicationId)
        return f"{begun}waiting for {wanted} for an executor" + (f"; the cluster is busy with {busy}" if busy else "")


def is_at_work(context: SparkContext) -> bool | None:
    """Whether a Spark task of the application is at work; None if Spark does not say."""
    try:
        return bool(active_tasks(context))
    except Exception as error:  # noqa: BLE001  # Spark's Java has gone: the launch of the workers says why
        log.debug("Spark does not say whether tasks are at work: %s", type(error).__name__)
        return None


def active_tasks(context: SparkContext) -> int:
    """How many Spark tasks of the application are at work."""
    tracker = context.statusTracker()
    stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
    return sum(stage.numActiveTasks for stage in stages if stage is not None)
