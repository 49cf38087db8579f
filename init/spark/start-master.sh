#!/usr/bin/env bash
# Starts this machine's Spark master. Runs again without harm.
#
#   init/spark/start-master.sh --host 10.0.0.5
#
# Whoever can reach the master can run programs on the workers: give the address of a closed network, or set
# spark.authenticate and spark.authenticate.secret in a spark-defaults.conf (mode 600) and SPARK_CONF_DIR to its folder.
set -euo pipefail
# shellcheck source=init/spark/common.sh
source "$(dirname "$(readlink -f "$0")")/common.sh"

host=
port=7077
webui_port=8080
while [ $# -gt 0 ]; do
    case $1 in
        --host) host=${2:?--host needs an address}; shift 2 ;;
        --port) port=${2:?--port needs a number}; shift 2 ;;
        --webui-port) webui_port=${2:?--webui-port needs a number}; shift 2 ;;
        *) fail "unknown argument: $1 (usage: $0 --host ADDRESS [--port 7077] [--webui-port 8080])" ;;
    esac
done
[ -n "$host" ] || fail "--host must be the address the workers reach this machine at"

find_spark
export SPARK_LOCAL_IP=$host # the web page's address too; without it that is 0.0.0.0
# The REST server takes programs from anyone, without a password.
export SPARK_MASTER_OPTS="${SPARK_MASTER_OPTS:-} -Dspark.master.rest.enabled=false -Dspark.port.maxRetries=0"
start_daemon master "$host" "$port" \
    org.apache.spark.deploy.master.Master --host "$host" --port "$port" --webui-port "$webui_port"
echo "workers join it with: init/spark/start-worker.sh --master spark://$host:$port --host THEIR-ADDRESS"
