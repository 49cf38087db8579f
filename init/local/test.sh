#!/usr/bin/env bash
# Runs all that `make test` runs. Every part runs, even after one has failed; then the whole fails. TEST_JOBS (5) parts
# run at the same time, the longest first: they mostly wait for the servers and programs that they start.
#
# `test.sh attacks` runs only the tests of attacks, and prints the table of SECURITY.md. `test.sh show` starts nothing and
# prints what pytest would be told, a line for each part.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

export TUNING_SPARK_ENV=${TUNING_SPARK_ENV:-$PWD/.state/envs/spark}
# Settings of Airflow in this shell must not change the tests, and the tests must not touch the real AIRFLOW_HOME.
for name in $(compgen -e); do
    case $name in AIRFLOW*) unset "$name" ;; esac
done
mode=${1:-}
logs=.state/test
tries=$PWD/$logs/attacks.jsonl
wanted=(--attacks "$tries" --durations=40 --durations-min=5)
if [ "$mode" = attacks ]; then wanted+=(-m attack); fi
export AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False
export SPARK_LOCAL_IP=127.0.0.1
PATH=$PWD/init/spark/bin:$PWD/.state/envs/airflow/bin:$PATH

# name: the environment, and what its pytest runs. A folder means all of it that is not named with another part.
parts=(
    "driver spark tests/jobs/driver tests/jobs/entry"
    "ui airflow tests/whole/test_ui.py"
    "plugins airflow tests/plugins"
    "whole airflow tests/whole"
    "ended airflow tests/whole/test_ended_tasks.py"
    "init airflow tests/init"
    "databricks airflow tests/whole/test_databricks_pipeline.py tests/whole/test_databricks_killed.py"
    "jobs spark tests/jobs tests/gpu"
    "worker spark tests/jobs/worker tests/jobs/storage"
    "matrix airflow tests/whole/test_matrix.py"
    "keeper airflow tests/init/local/test_keeper.py tests/whole/test_load.py"
    "rest airflow tests"
)
failed=()
declare -A running=()

# What other parts run below the paths of this one, as options that leave it out.
others() { # name, paths...
    local name=$1 path part words other
    shift
    for path in "$@"; do
        for part in "${parts[@]}"; do
            read -ra words <<<"$part"
            if [ "${words[0]}" = "$name" ]; then continue; fi
            for other in "${words[@]:2}"; do
                case $other in "$path"/*) printf -- '--ignore=%s\n' "$other" ;; esac
            done
        done
    done
}

start() { # name, environment, paths...
    local name=$1 python=.state/envs/$2/bin/python
    shift 2
    mapfile -t left_out < <(others "$name" "$@")
    if [ "$mode" = show ]; then
        echo "$name" "$@" "${left_out[@]}"
        return
    fi
    run_part "$name" "$python" -m pytest "${wanted[@]}" "$@" "${left_out[@]}"
}

run_part() { # name, command...
    local name=$1
    shift
    echo "== $name begins; its output follows"
    # Without --default-signal, a background job of a shell ignores Ctrl-C.
    env --default-signal=INT AIRFLOW_HOME="$PWD/$logs/airflow-$name" "$@" >"$logs/$name.log" 2>&1 &
    running[$!]=$name
}

finish_one() {
    local pid code=0 name
    wait -n -p pid "${!running[@]}" || code=$?
    name=${running[$pid]}
    unset "running[$pid]"
    echo "== $name"
    cat "$logs/$name.log"
    # pytest's 5: none of the part's tests is an attack.
    if [ "$code" != 0 ] && ! { [ "$code" = 5 ] && [ "$mode" = attacks ]; }; then failed+=("$name"); fi
}

# On Ctrl-C the parts get the signal too, so that pytest stops their servers.
stop() {
    for pid in "${!running[@]}"; do kill -INT "$pid" 2>/dev/null; done
    wait
    exit 130
}
trap stop INT TERM

if [ "$mode" != show ]; then
    mkdir -p "$logs"
    rm -f "$logs"/*.log "$tries"
fi
if [ -z "$mode" ]; then run_part lint init/local/lint.sh; fi
for part in "${parts[@]}"; do
    while [ ${#running[@]} -ge "${TEST_JOBS:-5}" ]; do finish_one; done
    read -ra words <<<"$part"
    start "${words[@]}"
done
while [ ${#running[@]} -gt 0 ]; do finish_one; done
if [ "$mode" = show ]; then exit; fi

if [ "$mode" = attacks ]; then
    echo "== attacks"
    .state/envs/airflow/bin/python -m tests.support.attacks "$tries"
fi
echo "== summary"
for log in "$logs"/*.log; do
    printf '%s: %s\n' "$(basename "$log" .log)" "$(tail -n 1 "$log")"
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
echo "all passed"
