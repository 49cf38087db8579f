#!/usr/bin/env bash
# Everything `make test` runs, the quick parts first. All parts run; any failure makes the whole fail.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

export TUNING_SPARK_ENV=${TUNING_SPARK_ENV:-$PWD/.state/envs/spark}
# Airflow's own settings of this shell must not steer the tests, nor may they touch the real AIRFLOW_HOME.
for name in $(compgen -e); do
    case $name in AIRFLOW*) unset "$name" ;; esac
done
mkdir -p .state/test
export AIRFLOW_HOME=$PWD/.state/test/airflow
export AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False
export SPARK_LOCAL_IP=127.0.0.1
PATH=$PWD/init/spark/bin:$PWD/.state/envs/airflow/bin:$PATH
failed=()

part() { # name, command...
    local name=$1 log=.state/test/$1.log
    shift
    echo "== $name"
    if ! "$@" 2>&1 | tee "$log"; then failed+=("$name"); fi
}

part lint init/local/lint.sh
if [ -d tests/jobs ]; then
    part spark-side .state/envs/spark/bin/python -m pytest tests/jobs tests/gpu
fi
part airflow-side .state/envs/airflow/bin/python -m pytest tests --ignore=tests/jobs --ignore=tests/gpu

echo "== summary"
for log in .state/test/*-side.log; do
    printf '%s: %s\n' "$(basename "$log" .log)" "$(tail -n 1 "$log")"
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
echo "all passed"
