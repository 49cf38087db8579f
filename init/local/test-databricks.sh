#!/usr/bin/env bash
# The tests of target databricks alone, on both sides; what `make test` runs among others.
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

.state/envs/spark/bin/python -m pytest tests/jobs/test_study_copy.py tests/jobs/test_databricks_notebook.py
.state/envs/airflow/bin/python -m pytest tests/test_databricks*.py tests/test_init_databricks.py
