#!/usr/bin/env bash
# Creates the studies' database (utf8mb4), and an account that may use it and nothing else. The script may run again
# without harm: it sets a changed password, and revokes rights beyond the listed ones.
#
#   sudo init/mysql/create-account.sh --allow-from '10.0.0.%'
#
# --allow-from is the addresses, as the server sees them, of Airflow and of Spark's driver (with coordination: database
# also of the workers). If there are other accounts of this name for more hosts, the script names them and keeps them.
#
# With --ssl-mode REQUIRED, VERIFY_CA or VERIFY_IDENTITY the account may only be used over TLS. The script itself then
# connects to --host over TLS, or sends nothing. MariaDB's client can guarantee that only with VERIFY_IDENTITY, MySQL's
# client with all three.
#
# The account's password comes from TUNING_DB_PASSWORD or --password-file, or the script asks for it. It is never an
# argument, because every user of the machine can read those. The administrator is root, through the server's socket. With
# --host it is the account --admin-user, with its password in TUNING_DB_ADMIN_PASSWORD (or asked for).
set -euo pipefail

database=optuna
user=tuning
allow_from=
ssl_mode=
ssl_ca=
ssl_cert=
ssl_key=
host=
port=3306
admin_user=root
password_file=

usage() {
    echo "usage: $0 --allow-from PATTERN [--database optuna] [--user tuning] [--password-file FILE]"
    echo "          [--host ADDRESS] [--port 3306] [--admin-user root]"
    echo "          [--ssl-mode DISABLED|REQUIRED|VERIFY_CA|VERIFY_IDENTITY] [--ssl-ca FILE]"
    echo "          [--ssl-cert FILE] [--ssl-key FILE]"
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
        --ssl-mode) ssl_mode=${2^^}; shift 2 ;;
        --ssl-ca) ssl_ca=$2; shift 2 ;;
        --ssl-cert) ssl_cert=$2; shift 2 ;;
        --ssl-key) ssl_key=$2; shift 2 ;;
        *) usage >&2; fail "unknown argument: $1" ;;
    esac
done

[[ $database =~ ^[A-Za-z0-9_]{1,64}$ ]] || fail "--database must be letters, digits and _, got '$database'"
[[ $user =~ ^[A-Za-z0-9_]{1,32}$ ]] || fail "--user must be letters, digits and _, got '$user'"
[ -n "$allow_from" ] ||
    fail "--allow-from is missing: name the hosts the account may connect from, such as '10.0.0.%' (% is every host)"
[[ $allow_from =~ ^[A-Za-z0-9_.:%/-]+$ ]] || fail "--allow-from must be a host, an address or a pattern with %, got '$allow_from'"
[[ $port =~ ^[0-9]+$ ]] || fail "--port must be a number, got '$port'"

must_be_sealed() {
    [ -n "$ssl_mode" ] && [ "$ssl_mode" != DISABLED ]
}

check_tls() {
    local verifies=no file
    case $ssl_mode in
        '' | DISABLED | REQUIRED) ;;
        VERIFY_CA | VERIFY_IDENTITY) verifies=yes ;;
        *) fail "--ssl-mode must be DISABLED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY, got '$ssl_mode'" ;;
    esac
    for file in "$ssl_ca" "$ssl_cert" "$ssl_key"; do
        [ -n "$file" ] || continue
        [ -n "$host" ] || fail "--ssl-ca, --ssl-cert and --ssl-key are for --host: the socket needs no TLS"
        [ -r "$file" ] || fail "a file for TLS cannot be read: $file"
    done
    if [ -n "$ssl_ca" ] && [ $verifies = no ]; then fail "--ssl-ca needs --ssl-mode VERIFY_CA or VERIFY_IDENTITY"; fi
    if [ -n "$host" ] && [ $verifies = yes ] && [ -z "$ssl_ca" ]; then fail "--ssl-mode $ssl_mode needs --ssl-ca"; fi
    [ "${ssl_cert:+given}" = "${ssl_key:+given}" ] || fail "--ssl-cert and --ssl-key belong together"
    if [ -n "$ssl_cert" ] && ! must_be_sealed; then fail "--ssl-cert and --ssl-key need --ssl-mode REQUIRED or more"; fi
}

is_mariadb() { # client
    [[ $("$1" --no-defaults --version) == *[Mm]aria[Dd][Bb]* ]]
}

find_client() { # prints the first client that can guarantee --ssl-mode
    local name client found=
    for name in mariadb mysql; do
        client=$(command -v "$name") || continue
        found=$client
        if [ -n "$host" ] && must_be_sealed && [ "$ssl_mode" != VERIFY_IDENTITY ] && is_mariadb "$client"; then continue; fi
        echo "$client"
        return
    done
    [ -n "$found" ] || fail "no mariadb or mysql client is installed: install mariadb-client"
    # Tried with 10.11: --ssl and --ssl-ca alone send the password in clear text to a server that offers no TLS.
    fail "MariaDB's client cannot promise --ssl-mode $ssl_mode: use VERIFY_IDENTITY with --ssl-ca, or MySQL's client"
}

tls_options() { # one a line; they go on the client's command line, which overrides every option file
    if [ "$ssl_mode" = DISABLED ]; then
        if is_mariadb "$client"; then echo --skip-ssl; else echo --ssl-mode=DISABLED; fi
    fi
    if ! must_be_sealed; then return; fi
    if is_mariadb "$client"; then printf '%s\n' --ssl --ssl-verify-server-cert; else echo "--ssl-mode=$ssl_mode"; fi
    if [ -n "$ssl_ca" ]; then echo "--ssl-ca=$ssl_ca"; fi
    if [ -n "$ssl_cert" ]; then printf '%s\n' "--ssl-cert=$ssl_cert" "--ssl-key=$ssl_key"; fi
}

ask() { # prompt
    local answer
    [ -t 0 ] || fail "$1 is not set and there is no terminal to ask at"
    read -rsp "$1: " answer
    echo >&2
    printf '%s' "$answer"
}

sql_string() { # quotes a value; a backslash escapes, because `statements` sets sql_mode
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
    local account rights letters database_pattern
    account="'$user'@'$allow_from'"
    # The rights that Airflow's provision_database grants. plugins/tuning_pipeline/database/account.py says what for.
    rights="SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, REFERENCES"
    # As in jobs/optuna_spark/storage/optuna_tables.py: all names differ, also `lr` and `LR`. Each server reads its part.
    letters="CHARACTER SET utf8mb4 /*!80017 COLLATE utf8mb4_0900_bin */ /*M!100200 COLLATE utf8mb4_nopad_bin */"
    database_pattern=${database//_/\\_} # in GRANT, _ stands for any character
    cat <<EOF
SET SESSION sql_mode = 'STRICT_TRANS_TABLES';
CREATE DATABASE IF NOT EXISTS \`$database\` $letters;
CREATE USER IF NOT EXISTS $account IDENTIFIED BY $(sql_string "$password");
ALTER USER $account IDENTIFIED BY $(sql_string "$password");
REVOKE ALL PRIVILEGES, GRANT OPTION FROM $account;
GRANT $rights ON \`$database_pattern\`.* TO $account;
$(if must_be_sealed; then echo "ALTER USER $account REQUIRE SSL;"; fi)
SELECT Host FROM mysql.user WHERE User = '$user' AND Host <> '$allow_from' AND Host LIKE '%\\%%';
EOF
}

check_tls
client=$(find_client)

if [ -n "$password_file" ]; then
    [ -r "$password_file" ] || fail "--password-file cannot be read: $password_file"
    password=$(<"$password_file")
else
    password=${TUNING_DB_PASSWORD:-}
fi
if [ -z "$password" ]; then password=$(ask TUNING_DB_PASSWORD); fi
[ -n "$password" ] || fail "the password of $user must not be empty"

options=(--batch --skip-column-names --comments) # `statements` has a comment that the server must read
if [ -n "$host" ]; then
    admin_password=${TUNING_DB_ADMIN_PASSWORD:-}
    if [ -z "$admin_password" ]; then admin_password=$(ask TUNING_DB_ADMIN_PASSWORD); fi
    login=$(mktemp) # mktemp makes it readable by its owner only
    trap 'rm -f "$login"' EXIT
    printf '[client]\nhost=%s\nport=%s\nuser=%s\npassword=%s\n' \
        "$host" "$port" "$admin_user" "$(client_string "$admin_password")" >"$login"
    mapfile -t sealed < <(tls_options)
    options=("--defaults-extra-file=$login" --protocol=tcp "${sealed[@]}" "${options[@]}")
fi

wider=$(statements | "$client" "${options[@]}")
echo "$user from $allow_from may use the database $database"
for pattern in $wider; do
    echo "'$user'@'$pattern' lets in other hosts too: if nothing needs it, run DROP USER '$user'@'$pattern';" >&2
done
