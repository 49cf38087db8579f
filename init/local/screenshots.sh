#!/usr/bin/env bash
# Makes the pictures of README.md and docs/ with the browser test: a real run of the default study, in a real browser.
set -euo pipefail
cd "$(dirname "$0")/../.."

for name in $(compgen -e); do
    case $name in AIRFLOW*) unset "$name" ;; esac
done
taken=.state/test/screenshots
export AIRFLOW_HOME=$PWD/.state/test/airflow SPARK_LOCAL_IP=127.0.0.1 TUNING_SCREENSHOTS=$PWD/$taken
PATH=$PWD/init/spark/bin:$PWD/.state/envs/airflow/bin:$PATH
rm -rf "$taken"
.state/envs/airflow/bin/python -m pytest tests/whole/test_ui.py -k from_the_trigger_form_to_the_report
for picture in best-trials study; do
    install -m 644 "$taken/$picture.png" "docs/images/$picture.png"
    echo "docs/images/$picture.png"
done
