#!/usr/bin/env bash
# Runs `airflow ...` in a container. With `init` it prepares what the services need: the metadata database and a pool.
set -euo pipefail
umask 077

# Each service turns the secrets that it was given (one file each) into two files, in a folder that is kept in memory:
# the connections of the studies, and the logins. SimpleAuthManager reads logins from a file. It is meant for one team on
# the loopback address (see docs/containers.md).
python3 - <<'PYTHON'
import json
import os
import pathlib

secrets, home = pathlib.Path("/run/secrets"), pathlib.Path(os.environ["AIRFLOW_HOME"])
# The account allows every host, because the addresses of containers change. Only containers on the database's own
# network can reach the server.
extra = {"client": "pymysql", "host_pattern": "%"}
server = {"conn_type": "mysql", "host": "mysql", "port": 3306, "extra": extra}


def secret(name):
    file = secrets / name
    return file.read_text().strip() if file.exists() else None


def write(name, content):
    (home / name).write_text(json.dumps({key: value for key, value in content.items() if value}))


def connection(password, **fields):
    return password and {**server, **fields, "password": password}


write("connections.json", {
    "tuning_db": connection(secret("db_password"), login="tuning", schema="optuna"),
    "tuning_db_admin": connection(secret("db_root_password"), login="root"),
})
write("passwords.json", {user: secret(f"{user}_password") for user in ("admin", "viewer")})
PYTHON

# Only the containers that run Spark's drivers get this secret.
if [ -e /run/secrets/spark_secret ]; then
    env -u SPARK_CONF_DIR /opt/tuning/init/spark/make-conf.sh \
        "$SPARK_CONF_DIR" /run/secrets/spark_secret "$TUNING_STATE/tmp"
fi
if [ "${1:-}" = init ]; then
    airflow db migrate
    # Tune tasks wait for a slot of this pool, so that no more studies run at once than the cluster can hold.
    airflow pools set tuning_spark "${TUNING_POOL_SLOTS:-1}" "studies that use the Spark cluster at once"
    exit
fi
exec airflow "$@"
