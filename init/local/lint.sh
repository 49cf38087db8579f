#!/usr/bin/env bash
# ruff, mypy in both environments (jobs/ sees pyspark and xgboost, the rest sees Airflow), shellcheck and hadolint.
set -euo pipefail
cd "$(dirname "$0")/../.."

airflow_env=.state/envs/airflow/bin
spark_env=.state/envs/spark/bin

present() { # the folders among the arguments that exist
    for folder in "$@"; do
        if [ -e "$folder" ]; then echo "$folder"; fi
    done
}

mapfile -t python_folders < <(present dags plugins jobs init tests benchmarks examples)
"$airflow_env/ruff" check "${python_folders[@]}"
"$airflow_env/ruff" format --check --quiet "${python_folders[@]}"

mapfile -t airflow_side < <(present dags plugins init tests benchmarks)
"$airflow_env/mypy" --cache-dir .mypy_cache/airflow --exclude '^tests/(jobs|gpu)/' "${airflow_side[@]}"
mapfile -t spark_side < <(present jobs tests/jobs tests/gpu examples)
"$spark_env/mypy" --cache-dir .mypy_cache/spark "${spark_side[@]}"

mapfile -t scripts < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run init/spark/bin)
"$airflow_env/shellcheck" --external-sources "${scripts[@]}"
echo "shellcheck: ${#scripts[@]} scripts are clean"
"$airflow_env/hadolint" Dockerfile
echo "hadolint: Dockerfile is clean"
