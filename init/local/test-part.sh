#!/usr/bin/env bash
# test-part.sh databricks: only the tests of the target databricks, on both sides. `make test` runs them, too.
# test-part.sh matrix: the whole matrix of docs/runs.md. `make test` runs a part of it.
set -euo pipefail
cd "$(dirname "$0")/../.."

export TUNING_SPARK_ENV=${TUNING_SPARK_ENV:-$PWD/.state/envs/spark}
for name in $(compgen -e); do
    case $name in AIRFLOW*) unset "$name" ;; esac
done
export AIRFLOW_HOME=$PWD/.state/test/airflow
export AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False
export SPARK_LOCAL_IP=127.0.0.1
PATH=$PWD/init/spark/bin:$PWD/.state/envs/airflow/bin:$PATH

case ${1:?usage: test-part.sh databricks|matrix} in
    databricks)
        .state/envs/spark/bin/python -m pytest tests/jobs/storage/test_study_copy.py tests/jobs/entry/test_databricks_notebook.py
        .state/envs/airflow/bin/python -m pytest tests/plugins/targets/databricks tests/whole/test_databricks*.py tests/init/databricks
        ;;
    matrix) TEST_MATRIX=1 .state/envs/airflow/bin/python -m pytest tests/whole/test_matrix.py ;;
    *) echo "error: unknown part $1" >&2; exit 2 ;;
esac
