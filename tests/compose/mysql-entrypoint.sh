#!/bin/bash
# What the stand-in for the official MySQL image does at its start: the same variables, the same result.
set -euo pipefail

data=/var/lib/mysql
install --directory --owner mysql --group mysql --mode 700 "$data"
install --directory --owner mysql --group mysql /var/run/mysqld
common=(--user=mysql --datadir="$data" --secure-file-priv=NULL)
if [ ! -d "$data/mysql" ]; then
    mysqld "${common[@]}" --initialize-insecure
    init=$(mktemp)
    chown mysql "$init"
    chmod 600 "$init"
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
