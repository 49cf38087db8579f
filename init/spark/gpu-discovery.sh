#!/bin/sh
# Prints this machine's GPUs in the form that Spark expects, for example {"name": "gpu", "addresses": ["0","1"]}
# https://spark.apache.org/docs/latest/configuration.html#custom-resource-scheduling-and-configuration-overview
set -eu

indices=$(nvidia-smi --query-gpu=index --format=csv,noheader)
if [ -z "$indices" ]; then
    echo "nvidia-smi reports no GPU" >&2
    exit 1
fi
addresses=$(echo "$indices" | sed 's/.*/"&"/' | paste -s -d ',' -)
echo "{\"name\": \"gpu\", \"addresses\": [$addresses]}"
