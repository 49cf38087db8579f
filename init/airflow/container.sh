#!/usr/bin/env bash
# Runs `airflow ...` in a container. `init` makes ready what the services need: metadata database and logins.
set -euo pipefail
umask 077

# What a service needs to know it reads from the secrets it was given, each a file, and writes where it stays in memory:
# the studies' connections, and the logins, which SimpleAuthManager reads from a file (it is meant for one team on
# loopback, see README.md).
python3 - <<'PYTHON'
import json
import os
import pathlib

secrets, home = pathlib.Path("/run/secrets"), pathlib.Path(os.environ["AIRFLOW_HOME"])
# The account is for every host: only containers on the database's own network reach it, and their addresses change.
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

# Where Spark's drivers run.
if [ -e /run/secrets/spark_secret ]; then
    env -u SPARK_CONF_DIR /opt/tuning/init/spark/make-conf.sh \
        "$SPARK_CONF_DIR" /run/secrets/spark_secret "$TUNING_STATE/tmp"
fi
if [ "${1:-}" = init ]; then
    airflow db migrate
    # The studies' tune tasks wait for a slot of this pool: as many run at once as the cluster can hold.
    airflow pools set tuning_spark "${TUNING_POOL_SLOTS:-1}" "studies that use the Spark cluster at once"
    exit
fi
exec airflow "$@"
