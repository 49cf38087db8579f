#!/usr/bin/env bash
# Everything `make test` runs. All parts run; any failure makes the whole fail. The two sides run beside each other:
# each mostly waits for servers, and together they take about as long as the longer one.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

export TUNING_SPARK_ENV=${TUNING_SPARK_ENV:-$PWD/.state/envs/spark}
# Airflow's own settings of this shell must not steer the tests, nor may they touch the real AIRFLOW_HOME.
for name in $(compgen -e); do
    case $name in AIRFLOW*) unset "$name" ;; esac
done
logs=.state/test
mkdir -p "$logs"
export AIRFLOW_HOME=$PWD/$logs/airflow
export AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False
export SPARK_LOCAL_IP=127.0.0.1
PATH=$PWD/init/spark/bin:$PWD/.state/envs/airflow/bin:$PATH
failed=()

part() { # name, command...
    local name=$1
    shift
    echo "== $name"
    if ! "$@" 2>&1 | tee "$logs/$name.log"; then failed+=("$name"); fi
}

# Interrupted, both sides end as pytest does, which stops their servers. Without --default-signal a shell's background
# job ignores Ctrl-C.
spark_side=
stop() {
    [ -z "$spark_side" ] || kill -INT "$spark_side" 2>/dev/null
    wait
    exit 130
}
trap stop INT TERM

part lint init/local/lint.sh
echo "== spark-side (beside the next; its output follows)"
env --default-signal=INT .state/envs/spark/bin/python -m pytest tests/jobs tests/gpu >"$logs/spark-side.log" 2>&1 &
spark_side=$!
part airflow-side .state/envs/airflow/bin/python -m pytest tests --ignore=tests/jobs --ignore=tests/gpu
echo "== spark-side"
wait "$spark_side" || failed+=(spark-side)
spark_side=
cat "$logs/spark-side.log"

echo "== summary"
for log in "$logs"/*-side.log; do
    printf '%s: %s\n' "$(basename "$log" .log)" "$(tail -n 1 "$log")"
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
echo "all passed"
