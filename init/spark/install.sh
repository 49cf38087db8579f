#!/usr/bin/env bash
# Makes this machine ready to be a Spark master or worker: Java, and the Spark environment (with cuDF where nvidia-smi
# reports a GPU) in .state/envs/spark. Installs nothing of Airflow or MySQL. Runs again without harm.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
exec "${PYTHON:-python3}" -m init.local setup --only-spark
