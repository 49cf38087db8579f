#!/usr/bin/env bash
# Runs `airflow ...` in a container. `init` makes ready what the services need: metadata database and logins.
set -euo pipefail
umask 077

# SimpleAuthManager reads its passwords from a file. It is meant for one team on loopback; see README.md.
write_passwords() {
    python3 - "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE" <<'PYTHON'
import json
import os
import pathlib
import sys

names = {"admin": "TUNING_ADMIN_PASSWORD", "viewer": "TUNING_VIEWER_PASSWORD"}
path = pathlib.Path(sys.argv[1])
path.write_text(json.dumps({user: os.environ[name] for user, name in names.items()}))
path.chmod(0o600)
PYTHON
}

case ${1:-} in
    init)
        airflow db migrate
        # The studies' tune tasks wait for a slot of this pool: as many run at once as the cluster can hold.
        airflow pools set tuning_spark "${TUNING_POOL_SLOTS:-1}" "studies that use the Spark cluster at once"
        ;;
    api-server)
        write_passwords
        exec airflow "$@"
        ;;
    *)
        exec airflow "$@"
        ;;
esac
