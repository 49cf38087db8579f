#!/usr/bin/env bash
# Prepares this machine as a Spark master or worker: installs Java, and the Spark environment in .state/envs/spark (with
# cuDF if nvidia-smi reports a GPU). Installs nothing of Airflow or MySQL. May run again without harm.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
exec "${PYTHON:-python3}" -m init.local setup --only-spark
