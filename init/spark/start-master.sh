#!/usr/bin/env bash
# Starts this machine's Spark master. May run again without harm.
#
#   init/spark/start-master.sh --host 10.0.0.5 --secret-file /etc/tuning/spark-secret
#
# Only programs that know the secret can run programs on the workers. All machines of the cluster, and those that submit,
# have the same secret. `(umask 077; openssl rand -hex 32 > FILE)` makes one. Its file may also be named by
# TUNING_SPARK_SECRET_FILE. Instead, a spark-defaults.conf of your own in SPARK_CONF_DIR may set spark.authenticate. With
# --no-authentication the master runs programs for everybody who can reach it.
set -euo pipefail
# shellcheck source=init/spark/common.sh
source "$(dirname "$(readlink -f "$0")")/common.sh"

host=
port=7077
webui_port=8080
secret_file=${TUNING_SPARK_SECRET_FILE:-}
while [ $# -gt 0 ]; do
    case $1 in
        --host) host=${2:?--host needs an address}; shift 2 ;;
        --port) port=${2:?--port needs a number}; shift 2 ;;
        --webui-port) webui_port=${2:?--webui-port needs a number}; shift 2 ;;
        --secret-file) secret_file=${2:?--secret-file needs a file}; shift 2 ;;
        --no-authentication) secret_file=-; shift ;;
        *) fail "unknown argument: $1 (usage: $0 --host ADDRESS --secret-file FILE|--no-authentication [--port 7077] [--webui-port 8080])" ;;
    esac
done
[ -n "$host" ] || fail "--host must be the address the workers reach this machine at"

find_spark
use_conf master "$secret_file"
export SPARK_LOCAL_IP=$host # also the address of the web page, which would otherwise be 0.0.0.0
# Off, because Spark's REST server runs programs for everybody, without a password.
export SPARK_MASTER_OPTS="${SPARK_MASTER_OPTS:-} -Dspark.master.rest.enabled=false -Dspark.port.maxRetries=0"
start_daemon master "$host" "$port" \
    org.apache.spark.deploy.master.Master --host "$host" --port "$port" --webui-port "$webui_port"
case $secret_file in
    -) secret_option=--no-authentication ;;
    *) secret_option="--secret-file ${secret_file:-FILE}" ;;
esac
echo "workers join it with: init/spark/start-worker.sh --master spark://$host:$port --host THEIR-ADDRESS $secret_option"
