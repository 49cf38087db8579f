#!/usr/bin/env bash
# Starts a Spark standalone master or worker in the foreground: `container.sh master` or `container.sh worker URL`.
set -euo pipefail

role=${1:?give master or worker}
host=$(hostname)
# Only programs that know the cluster's secret can join it or submit to it.
env -u SPARK_CONF_DIR "$(dirname "$0")/make-conf.sh" "$SPARK_CONF_DIR" /run/secrets/spark_secret "$TUNING_STATE/tmp"
export SPARK_LOCAL_HOSTNAME=$host
export SPARK_DAEMON_MEMORY=${SPARK_DAEMON_MEMORY:-512m}
case $role in
    master)
        export SPARK_MASTER_OPTS="-Dspark.master.rest.enabled=false ${SPARK_MASTER_OPTS:-}"
        exec "$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.master.Master \
            --host "$host" --port 7077 --webui-port 8080
        ;;
    worker)
        url=${2:?give the URL of the master, spark://host:7077}
        options=-Dspark.worker.cleanup.enabled=true
        discovery=$(dirname "$0")/gpu-discovery.sh
        gpus=${TUNING_GPUS:-0}
        if [ "$gpus" = all ]; then
            gpus=$(nvidia-smi --list-gpus | wc -l)
        fi
        if [ "$gpus" -gt 0 ]; then
            options="$options -Dspark.worker.resource.gpu.amount=$gpus"
            options="$options -Dspark.worker.resource.gpu.discoveryScript=$discovery"
        fi
        export SPARK_WORKER_OPTS="$options ${SPARK_WORKER_OPTS:-}"
        exec "$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.worker.Worker --host "$host" --webui-port 8081 \
            --cores "${TUNING_WORKER_CORES:-2}" --memory "${TUNING_WORKER_MEMORY:-2g}" \
            --work-dir "$TUNING_STATE/work" "$url"
        ;;
    *)
        echo "container.sh: the role must be master or worker, got '$role'" >&2
        exit 2
        ;;
esac
