#!/usr/bin/env bash
# Stops this machine's Spark worker and master, or only one of them: init/spark/stop.sh [worker|master]
set -euo pipefail
# shellcheck source=init/spark/common.sh
source "$(dirname "$(readlink -f "$0")")/common.sh"

case ${1:-all} in
    all) stop_daemon worker; stop_daemon master ;;
    worker | master) stop_daemon "$1" ;;
    *) fail "usage: $0 [worker|master]" ;;
esac
if ! is_running master && ! is_running worker; then clear_scratch; fi
