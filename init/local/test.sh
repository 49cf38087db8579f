#!/usr/bin/env bash
# Runs all that `make test` runs. Every part runs, even after one has failed; then the whole fails. The parts run at the
# same time: each mostly waits for servers, so together they take about as long as the longest one.
#
# `test.sh attacks` runs only the tests of attacks, and prints the table of SECURITY.md.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

export TUNING_SPARK_ENV=${TUNING_SPARK_ENV:-$PWD/.state/envs/spark}
# Settings of Airflow in this shell must not change the tests, and the tests must not touch the real AIRFLOW_HOME.
for name in $(compgen -e); do
    case $name in AIRFLOW*) unset "$name" ;; esac
done
logs=.state/test
mkdir -p "$logs"
tries=$PWD/$logs/attacks.jsonl
rm -f "$tries"
wanted=(--attacks "$tries" --durations=40 --durations-min=5)
if [ "${1:-}" = attacks ]; then wanted+=(-m attack); fi
export AIRFLOW_HOME=$PWD/$logs/airflow
export AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False
export SPARK_LOCAL_IP=127.0.0.1
PATH=$PWD/init/spark/bin:$PWD/.state/envs/airflow/bin:$PATH
failed=()

# These tests start Airflow's services and take the longest, so they are a part of their own.
services=(tests/whole/test_ui.py tests/whole/test_databricks_killed.py tests/whole/test_ended_tasks.py tests/init/local/test_keeper.py
    tests/whole/test_load.py tests/whole/test_matrix.py)
# Whole runs, installations and the machine's set-up: they mostly wait for programs that they start.
whole=(tests/whole tests/init)
declare -A beside=()

part() { # name, command...
    local name=$1
    shift
    echo "== $name"
    if ! "$@" 2>&1 | tee "$logs/$name.log"; then failed+=("$name"); fi
}

start_beside() { # name, command...
    local name=$1
    shift
    echo "== $name (beside the next; its output follows)"
    # Without --default-signal, a background job of a shell ignores Ctrl-C.
    env --default-signal=INT "$@" >"$logs/$name.log" 2>&1 &
    beside[$name]=$!
}

finish() { # name
    echo "== $1"
    wait "${beside[$1]}" || failed+=("$1")
    unset "beside[$1]"
    cat "$logs/$1.log"
}

# On Ctrl-C the parts get the signal too, so that pytest stops their servers.
stop() {
    for pid in "${beside[@]}"; do kill -INT "$pid" 2>/dev/null; done
    wait
    exit 130
}
trap stop INT TERM

airflow_python=.state/envs/airflow/bin/python
if [ "${1:-}" != attacks ]; then part lint init/local/lint.sh; fi
start_beside spark-side .state/envs/spark/bin/python -m pytest "${wanted[@]}" tests/jobs tests/gpu
start_beside services-side env AIRFLOW_HOME="$AIRFLOW_HOME-services" \
    $airflow_python -m pytest "${wanted[@]}" "${services[@]}"
start_beside whole-side env AIRFLOW_HOME="$AIRFLOW_HOME-whole" \
    $airflow_python -m pytest "${wanted[@]}" "${whole[@]}" "${services[@]/#/--ignore=}"
part airflow-side $airflow_python -m pytest "${wanted[@]}" \
    tests --ignore=tests/jobs --ignore=tests/gpu "${whole[@]/#/--ignore=}"
finish spark-side
finish services-side
finish whole-side

if [ "${1:-}" = attacks ]; then
    echo "== attacks"
    $airflow_python -m tests.support.attacks "$tries"
fi
echo "== summary"
for log in "$logs"/*-side.log; do
    printf '%s: %s\n' "$(basename "$log" .log)" "$(tail -n 1 "$log")"
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
echo "all passed"
