#!/usr/bin/env bash
# Creates the study database (utf8mb4) and the account that may use it and nothing else. Runs again without harm: a
# changed password is taken over, rights beyond the listed ones are taken away.
#
#   sudo init/mysql/create-account.sh --allow-from '10.0.0.%'
#
# The account's password comes from TUNING_DB_PASSWORD, from --password-file, or is asked for. It is never an argument:
# those can be read by every account of the machine. The administrator is root through the server's socket, or, with
# --host, the account --admin-user with its password in TUNING_DB_ADMIN_PASSWORD (or asked for).
set -euo pipefail

database=optuna
user=tuning
allow_from=%
host=
port=3306
admin_user=root
password_file=

usage() {
    echo "usage: $0 [--database optuna] [--user tuning] [--allow-from PATTERN] [--password-file FILE]"
    echo "          [--host ADDRESS] [--port 3306] [--admin-user root]"
}

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --*) [ $# -ge 2 ] || fail "$1 needs a value" ;;&
        --database) database=$2; shift 2 ;;
        --user) user=$2; shift 2 ;;
        --allow-from) allow_from=$2; shift 2 ;;
        --host) host=$2; shift 2 ;;
        --port) port=$2; shift 2 ;;
        --admin-user) admin_user=$2; shift 2 ;;
        --password-file) password_file=$2; shift 2 ;;
        *) usage >&2; fail "unknown argument: $1" ;;
    esac
done

[[ $database =~ ^[A-Za-z0-9_]{1,64}$ ]] || fail "--database must be letters, digits and _, got '$database'"
[[ $user =~ ^[A-Za-z0-9_]{1,32}$ ]] || fail "--user must be letters, digits and _, got '$user'"
[[ $allow_from =~ ^[A-Za-z0-9_.:%/-]+$ ]] || fail "--allow-from must be a host, an address or a pattern with %, got '$allow_from'"
[[ $port =~ ^[0-9]+$ ]] || fail "--port must be a number, got '$port'"

ask() { # prompt
    local answer
    [ -t 0 ] || fail "$1 is not set and there is no terminal to ask at"
    read -rsp "$1: " answer
    echo >&2
    printf '%s' "$answer"
}

sql_string() { # quotes a value; NO_BACKSLASH_ESCAPES is off, see statements
    local value=$1
    value=${value//\\/\\\\}
    printf "'%s'" "${value//\'/\'\'}"
}

client_string() { # quotes a value for an option file
    local value=$1
    value=${value//\\/\\\\}
    printf '"%s"' "${value//\"/\\\"}"
}

statements() {
    local account rights database_pattern
    account="'$user'@'$allow_from'"
    rights="SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES"
    database_pattern=${database//_/\\_} # in GRANT, _ stands for any character
    cat <<EOF
SET SESSION sql_mode = 'STRICT_TRANS_TABLES';
CREATE DATABASE IF NOT EXISTS \`$database\` CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS $account IDENTIFIED BY $(sql_string "$password");
ALTER USER $account IDENTIFIED BY $(sql_string "$password");
REVOKE ALL PRIVILEGES, GRANT OPTION FROM $account;
GRANT $rights ON \`$database_pattern\`.* TO $account;
EOF
}

client=$(command -v mariadb || command -v mysql) || fail "no mariadb or mysql client is installed: install mariadb-client"

if [ -n "$password_file" ]; then
    [ -r "$password_file" ] || fail "--password-file cannot be read: $password_file"
    password=$(<"$password_file")
else
    password=${TUNING_DB_PASSWORD:-}
fi
if [ -z "$password" ]; then password=$(ask TUNING_DB_PASSWORD); fi
[ -n "$password" ] || fail "the password of $user must not be empty"

options=(--batch)
if [ -n "$host" ]; then
    admin_password=${TUNING_DB_ADMIN_PASSWORD:-}
    if [ -z "$admin_password" ]; then admin_password=$(ask TUNING_DB_ADMIN_PASSWORD); fi
    login=$(mktemp) # mktemp makes it readable by its owner only
    trap 'rm -f "$login"' EXIT
    printf '[client]\nhost=%s\nport=%s\nuser=%s\npassword=%s\n' \
        "$host" "$port" "$admin_user" "$(client_string "$admin_password")" >"$login"
    options=("--defaults-extra-file=$login" --protocol=tcp "${options[@]}")
fi

statements | "$client" "${options[@]}"
echo "$user from $allow_from may use the database $database"
