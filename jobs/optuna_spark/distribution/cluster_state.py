"""What a Spark standalone cluster has, as its master's page says, and whether an executor of a run fits anywhere."""

from __future__ import annotations

import http.client
import json
import os
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from optuna_spark.shown import shown

if TYPE_CHECKING:
    from pyspark import SparkContext

# Environment variable with the address of the master's page. Without it, the page is at Spark's default port.
PAGE_VARIABLE = "TUNING_SPARK_PAGE"
DEFAULT_PORT = 8080
ANSWER_S = 5.0
LONGEST_ANSWER = 32 * 1024 * 1024


@dataclass(frozen=True)
class Part:
    """A part of a machine: what a worker has, or what one executor needs."""

    cores: int
    memory_mib: int
    gpus: int

    def holds(self, wanted: Part) -> bool:
        return self.cores >= wanted.cores and self.memory_mib >= wanted.memory_mib and self.gpus >= wanted.gpus

    def __str__(self) -> str:
        parts = [_count(self.cores, "core"), f"{self.memory_mib:,} MiB of memory"]
        return " and ".join(parts) if not self.gpus else f"{', '.join(parts)} and {_count(self.gpus, 'GPU')}"


@dataclass(frozen=True)
class Application:
    """An application that the master knows and that has not ended."""

    id: str
    name: str
    cores: int
    memory_mib: int


@dataclass(frozen=True)
class ClusterState:
    """The living workers, by their ids, and the applications."""

    workers: Mapping[str, Part]
    applications: tuple[Application, ...] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> ClusterState:
        """Read the master's page /json.

        Raises:
            KeyError, TypeError, ValueError: It is no such page.
        """
        workers = {
            str(w["id"]): Part(int(w["cores"]), int(w["memory"]), _gpus(w.get("resources", {})))
            for w in document["workers"]
            if w["state"] == "ALIVE"
        }
        applications = (
            Application(str(a["id"]), shown(str(a["name"])), int(a["cores"]), int(a["memoryperexecutor"]))
            for a in document["activeapps"]
        )
        return cls(workers, tuple(applications))


def _gpus(resources: Mapping[str, Any]) -> int:
    """How many GPUs a worker has; its resources are as Spark's ResourceInformation.toJson shows them."""
    return len(resources["gpu"]["addresses"]) if "gpu" in resources else 0


def lacking(wanted: Part, cluster: ClusterState) -> str | None:
    """What no worker of the cluster has, in words with both numbers; None if a worker could hold the executor.

    Args:
        wanted: What one executor needs.
        cluster: The cluster. What others use of it at the moment does not matter here.
    """
    workers = cluster.workers.values()
    if not workers:
        return "the cluster has no worker"
    if any(worker.holds(wanted) for worker in workers):
        return None
    for have, need, words in (
        (max(w.cores for w in workers), wanted.cores, _count(wanted.cores, "core")),
        (max(w.gpus for w in workers), wanted.gpus, _count(wanted.gpus, "GPU")),
        (max(w.memory_mib for w in workers), wanted.memory_mib, f"{wanted.memory_mib:,} MiB of memory"),
    ):
        if have < need:
            return f"no worker has {words}; the largest has {have:,}"
    return f"no worker has {wanted} together"


def busy_with(cluster: ClusterState, own_id: str) -> str:
    """The other applications that have cores, in words; empty if there are none."""
    others = [a for a in cluster.applications if a.id != own_id and a.cores]
    return ", ".join(f"{a.name} ({_count(a.cores, 'core')})" for a in others)


def wanted_by(context: SparkContext, cluster: ClusterState | None) -> Part:
    """What one executor of this application needs, by its Spark properties and by what the master was asked for."""
    conf = context.getConf()
    task = int(conf.get("spark.task.cpus", "1") or 1)
    own = [a for a in cluster.applications if a.id == context.applicationId] if cluster else []
    return Part(
        # Without spark.executor.cores an executor gets all cores of its worker, and a task needs its own of them.
        cores=max(task, int(conf.get("spark.executor.cores", "1") or 1)),
        memory_mib=own[0].memory_mib if own else 0,
        gpus=int(float(conf.get("spark.executor.resource.gpu.amount", "0") or 0)),
    )


def cores_allowed(context: SparkContext) -> int | None:
    """How many cores the application may have in all, on a standalone cluster; None: no limit is set."""
    limit = context.getConf().get("spark.cores.max", None)
    return int(limit) if limit and (context.master or "").startswith("spark://") else None


def master_asker(context: SparkContext) -> Callable[[], ClusterState | None]:
    """A function that asks the master's page for the cluster's state; None where there is no page, or no answer."""
    page = os.environ.get(PAGE_VARIABLE) or _default_page(context.master or "")
    return lambda: ask_master(page) if page else None


def ask_master(page: str) -> ClusterState | None:
    """The cluster's state; None if the page does not answer, or is another program's or a standby master's."""
    if not page.startswith(("http://", "https://")):
        return None
    # Without a proxy, which the environment may name: the master is as near as the executors.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{page.rstrip('/')}/json/", timeout=ANSWER_S) as answer:
            document = json.loads(answer.read(LONGEST_ANSWER))
        return ClusterState.of(document) if document["status"] == "ALIVE" else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, http.client.HTTPException):
        return None


def _default_page(master: str) -> str | None:
    if not master.startswith("spark://"):
        return None
    host = urlsplit(master.split(",")[0]).hostname
    return f"http://{f'[{host}]' if host and ':' in host else host}:{DEFAULT_PORT}" if host else None


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
