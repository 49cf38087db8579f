#!/bin/bash
# What the stand-in for the official MySQL image does at its start: the same variables, as files or not, the same result.
set -euo pipefail

from_file() { # variable
    local file=$1_FILE
    if [ -n "${!file:-}" ]; then printf -v "$1" %s "$(<"${!file}")"; fi
}
from_file MYSQL_ROOT_PASSWORD
from_file MYSQL_PASSWORD

data=/var/lib/mysql
common=(--datadir="$data" --secure-file-priv=NULL)
if [ ! -d "$data/mysql" ]; then
    mysqld "${common[@]}" --initialize-insecure
    init=$(mktemp)
    cat >"$init" <<SQL
CREATE DATABASE \`$MYSQL_DATABASE\` CHARACTER SET utf8mb4;
CREATE USER '$MYSQL_USER'@'%' IDENTIFIED BY '$MYSQL_PASSWORD';
GRANT ALL ON \`$MYSQL_DATABASE\`.* TO '$MYSQL_USER'@'%';
CREATE USER 'root'@'%' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';
GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;
ALTER USER 'root'@'localhost' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';
SQL
    common+=("--init-file=$init")
fi
exec mysqld "${common[@]}" "$@"
