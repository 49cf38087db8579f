#!/usr/bin/env bash
# Starts this machine's Spark worker, with all GPUs that nvidia-smi reports. May run again without harm.
#
#   init/spark/start-worker.sh --master spark://10.0.0.5:7077 --host 10.0.0.6 --secret-file /etc/tuning/spark-secret
#
# The secret is that of the master (see start-master.sh).
set -euo pipefail
# shellcheck source=init/spark/common.sh
source "$(dirname "$(readlink -f "$0")")/common.sh"

master=
host=
gpus=auto
webui_port=8081
secret_file=${TUNING_SPARK_SECRET_FILE:-}
options=()
discovery=${TUNING_GPU_DISCOVERY:-$here/gpu-discovery.sh}
while [ $# -gt 0 ]; do
    case $1 in
        --master) master=${2:?--master needs a spark:// address}; shift 2 ;;
        --host) host=${2:?--host needs an address}; shift 2 ;;
        --gpus) gpus=${2:?--gpus needs a number or auto}; shift 2 ;;
        --webui-port) webui_port=${2:?--webui-port needs a number}; shift 2 ;;
        --cores | --memory | --port) options+=("$1" "${2:?$1 needs a value}"); shift 2 ;;
        --secret-file) secret_file=${2:?--secret-file needs a file}; shift 2 ;;
        --no-authentication) secret_file=-; shift ;;
        *) fail "unknown argument: $1 (usage: $0 --master spark://HOST:PORT --host ADDRESS --secret-file FILE|--no-authentication [--cores N] [--memory 16g] [--gpus N|auto] [--port N] [--webui-port N])" ;;
    esac
done
[[ $master == spark://* ]] || fail "--master must look like spark://HOST:PORT, got '$master'"
[ -n "$host" ] || fail "--host must be the address the others reach this machine at"
[[ $gpus =~ ^(auto|[0-9]+)$ ]] || fail "--gpus must be a number or auto, got '$gpus'"

found_gpus() {
    local addresses
    addresses=$("$discovery" 2>/dev/null) || { echo 0; return; }
    addresses=${addresses#*[} && addresses=${addresses%]*}
    echo "$addresses" | grep -o '"[^"]*"' | wc -l
}

found=$(found_gpus)
if [ "$gpus" = auto ]; then gpus=$found; fi
[ "$gpus" -le "$found" ] || fail "--gpus is $gpus but this machine reports $found (is nvidia-smi on PATH?)"

find_spark
use_conf worker "$secret_file"
export SPARK_LOCAL_IP=$host
worker_opts="${SPARK_WORKER_OPTS:-} -Dspark.worker.cleanup.enabled=true -Dspark.port.maxRetries=0"
if [ "$gpus" -gt 0 ]; then
    worker_opts+=" -Dspark.worker.resource.gpu.amount=$gpus"
    # In quotes, because spark-class splits this text at blanks, and a path may hold some.
    worker_opts+=" -Dspark.worker.resource.gpu.discoveryScript=\"$discovery\""
fi
export SPARK_WORKER_OPTS=$worker_opts
start_daemon worker "$host" "$webui_port" \
    org.apache.spark.deploy.worker.Worker --host "$host" --webui-port "$webui_port" \
    --work-dir "$cluster_state/work" "${options[@]}" "$master"
echo "it offers $gpus GPUs to $master"
