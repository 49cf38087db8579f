"""Refuses a study whose trials fit on no node of its cluster, before anything is sent to the workspace.

Databricks starts one executor on each worker. Unless `spark.executor.cores` says otherwise, the executor has all cores
of its node, and always all of its GPUs. So a trial fits if its node has `spark.task.cpus` cores, and as many GPUs.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from databricks.sdk.errors.base import DatabricksError

from tuning_pipeline.database.connections import require_connection
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.targets.databricks.keys.settings import databricks_settings
from tuning_pipeline.targets.databricks.payload import is_single_node, spark_conf
from tuning_pipeline.targets.databricks.workspace.access import PURPOSE, open_workspace, readable_errors

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

    from optuna_spark.spec.sections import ResourceSpec
    from optuna_spark.spec.tuning import TuningSpec
    from tuning_pipeline.study_file.study_file import StudyFile
    from tuning_pipeline.targets.databricks.keys.settings import ClusterSettings, DatabricksSettings

log = logging.getLogger(__name__)

_SIZE = re.compile(r"(\d+)\s*([a-z]*)")
# How many MiB Spark means by a unit. It reads a memory property without a unit as MiB.
_MIB = {"": 1.0, "b": 2**-20, "k": 2**-10, "m": 1.0, "g": 2.0**10, "t": 2.0**20, "p": 2.0**30}


@dataclass(frozen=True)
class Node:
    """The machine that trials run on.

    Attributes:
        name: What a person reads, with the key that names it.
        cores, memory_mib: What it has.
        gpus: How many GPUs it has; None if the workspace does not say.
    """

    name: str
    cores: int
    memory_mib: int
    gpus: int | None


@dataclass(frozen=True)
class Want:
    """How much of one thing is needed, and how much a node has.

    Attributes:
        thing: In the singular.
        needed, has: How much.
        key: What a person changes.
    """

    thing: str
    needed: int
    has: int
    key: str


def check_nodes(study: StudyFile, spec: TuningSpec) -> None:
    """Check that a trial, and an executor, fits on a node of the study's cluster.

    Where the workspace does not say what the nodes have, the run goes on, and the log says so.

    Raises:
        TaskError: It does not fit, with both numbers; or the workspace does not answer at all.
    """
    settings = databricks_settings(study.settings)
    connection = require_connection(study.settings.connections.databricks, PURPOSE)
    with readable_errors(connection):
        client = open_workspace(connection)
        try:
            node = _node(client, settings)
        except (LookupError, DatabricksError) as error:
            why = str(error.args[0]) if error.args else type(error).__name__
            log.info("Whether trials fit on the cluster's nodes is not known: %s", why.partition("\n")[0])
            return
    # The properties of a cluster that exists are its own, and it runs with them.
    is_whole = bool(settings.existing_cluster_id) or is_single_node(settings.cluster)
    failure = misfit(node, spec.resources, {} if is_whole else spark_conf(study, spec, single_node=False))
    if failure is not None:
        raise TaskError(failure)


def misfit(node: Node, resources: ResourceSpec, conf: Mapping[str, str]) -> Failure | None:
    """The card of a trial or executor that does not fit on a node; None if both do.

    Args:
        node: The node.
        resources: What a trial needs.
        conf: The cluster's Spark properties; empty where no executor is asked for.
    """
    trial = [Want("core", resources.cpus_per_task, node.cores, "resources.cpus_per_task")]
    if node.gpus is not None:
        # Several trials may share a GPU, but none gets parts of two.
        gpus = math.ceil(resources.gpus_per_task - 1e-9)
        trial.append(Want("GPU", gpus, node.gpus, "resources.gpus_per_task"))
    executor = [
        Want("core", _whole(conf.get("spark.executor.cores", "")), node.cores, "spark.executor.cores"),
        Want("MiB of memory", _mib(conf.get("spark.executor.memory", "")), node.memory_mib, "spark.executor.memory"),
    ]
    return _lacking(node, "one trial", trial) or _lacking(node, "one executor", executor)


def _lacking(node: Node, who: str, wants: Sequence[Want]) -> Failure | None:
    missing = [want for want in wants if want.needed > want.has]
    if not missing:
        return None
    had = " and ".join(_count(want.has, want.thing) for want in wants)
    needed = " and ".join(f"{_count(want.needed, want.thing)} ({want.key})" for want in missing)
    lower = " and ".join(f"{want.key} to {want.has:,}{'' if want.has == 0 else ' or less'}" for want in missing)
    more = " and ".join(_count(want.needed, want.thing) for want in missing)
    return Failure(
        what=f"{node.name} has {had}, and {who} needs {needed}",
        next=f"Set {lower}, or choose nodes with {more}.",
    )


def _count(number: int, thing: str) -> str:
    plural = "" if number == 1 or " " in thing else "s"
    return f"{number:,} {thing}{plural}" if number else f"no {thing}"


@dataclass(frozen=True)
class _Machine:
    """What the study file, or a cluster that exists, says of the machine that trials run on."""

    name: str
    node_type: str | None
    env: Mapping[str, str]


def _node(client: WorkspaceClient, settings: DatabricksSettings) -> Node:
    """The machine that trials run on.

    Raises:
        LookupError: It is not known, and why.
        DatabricksError: The workspace does not say.
    """
    cluster_id = settings.existing_cluster_id
    machine = _of_existing(client, cluster_id) if cluster_id else _of_new(settings.cluster)
    listed = client.clusters.list_node_types().node_types or []
    found = next((one for one in listed if one.node_type_id == machine.node_type), None)
    if found is None or not found.num_cores or not found.memory_mb:
        raise LookupError(f"the workspace lists no node type {machine.node_type}")
    # An answer that tells GPUs of no type at all says nothing about this one.
    tells_gpus = any(one.num_gpus is not None for one in listed)
    # The number may be a fraction, where several nodes share a machine. The variable lets a worker offer other cores.
    cores = _whole(machine.env.get("SPARK_WORKER_CORES", "")) or math.ceil(found.num_cores)
    return Node(machine.name, cores, int(found.memory_mb), (found.num_gpus or 0) if tells_gpus else None)


def _of_new(cluster: ClusterSettings) -> _Machine:
    single = is_single_node(cluster)  # trials run on the driver's machine
    if cluster.instance_pool_id or (single and cluster.driver_instance_pool_id):
        raise LookupError("the instance pool decides what they are")
    key = "driver_node_type" if single and cluster.driver_node_type else "node_type"
    node_type = getattr(cluster, key)
    if not node_type:
        raise LookupError("the cluster policy decides what they are")
    return _Machine(f"databricks.cluster.{key} {node_type}", node_type, cluster.env)


def _of_existing(client: WorkspaceClient, cluster_id: str) -> _Machine:
    cluster = client.clusters.get(cluster_id)
    single = cluster.num_workers == 0 and cluster.autoscale is None
    node_type = (cluster.driver_node_type_id if single else None) or cluster.node_type_id
    name = f"databricks.existing_cluster_id {cluster_id} (nodes {node_type})"
    return _Machine(name, node_type, cluster.spark_env_vars or {})


def _whole(text: str) -> int:
    """A property that is a whole number; 0 if it is none, such as a secret of the workspace."""
    return int(text) if text.strip().isdecimal() else 0


def _mib(text: str) -> int:
    """A property that is a size, such as 8g, in MiB; 0 if it is none."""
    found = _SIZE.fullmatch(text.strip().lower())
    unit = None if found is None else _MIB.get(found[2] if found[2] == "b" else found[2].removesuffix("b"))
    return 0 if found is None or unit is None else int(int(found[1]) * unit)
