#!/usr/bin/env bash
# Databricks init script: makes a node of the cluster ready to tune with Optuna. For a Volume or the workspace.
#
# Every node gets the Python packages. The driver gets a MySQL server too when TUNING_DATABASE is driver: bound to
# DB_DRIVER_IP, one database, one account that may use nothing else, with a random password. The job finds its URL in
# $TUNING_HOME/storage-url, readable by root only. Runs again without harm; prints no password.
#
# Set by Databricks: DB_IS_DRIVER, DB_DRIVER_IP. From the cluster's environment variables, all optional:
#   TUNING_DATABASE     driver: MySQL on the driver; external (default): none
#   TUNING_DB_PASSWORD  {{secrets/<scope>/<key>}}: a password of your own (letters, digits, - and _), not a random one
#   TUNING_DB_PORT      3306
#   TUNING_HOME         /var/lib/tuning
#   TUNING_PYTHON       /databricks/python/bin/python
set -euo pipefail

database=${TUNING_DATABASE:-external}
home=${TUNING_HOME:-/var/lib/tuning}
port=${TUNING_DB_PORT:-3306}
python=${TUNING_PYTHON:-/databricks/python/bin/python}
packages=("optuna==5.0.0" "SQLAlchemy>=2,<3" "PyMySQL==1.2.4" "joblibspark==0.6.0" packaging cryptography cloudpickle)
# What the runtime brings stays as it is, whatever a package would like.
runtime_packages=(pyspark numpy pandas pyarrow)
attempts=4

say() {
    echo "init_optuna: $*"
}

fail() {
    say "$*" >&2
    exit 1
}

retry() { # command...; package sources fail now and then
    local attempt
    for attempt in $(seq "$attempts"); do
        if "$@"; then return 0; fi
        say "attempt $attempt of $attempts failed: $1 ${2:-}"
        sleep $((attempt * 3))
    done
    return 1
}

describe_node() {
    say "driver: ${DB_IS_DRIVER:-FALSE}, $(uname -m), $(nproc) cores, $("$python" --version)"
    "$python" - "${runtime_packages[@]}" xgboost <<'EOF'
import importlib.metadata as metadata, sys
for name in sys.argv[1:]:
    try:
        print(f"init_optuna: {name} {metadata.version(name)}")
    except metadata.PackageNotFoundError:
        print(f"init_optuna: {name} is not a package of this Python")
EOF
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=index,name,memory.total,driver_version --format=csv || say "nvidia-smi fails"
    else
        say "no nvidia-smi: a CPU node"
    fi
}

missing_packages() { # the packages that are not there in a version that fits
    "$python" - "${packages[@]}" <<'EOF'
import importlib.metadata as metadata, sys
try:
    from packaging.requirements import Requirement
except ImportError:
    Requirement = None
for text in sys.argv[1:]:
    try:
        requirement = Requirement(text)
        fits = requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except (TypeError, metadata.PackageNotFoundError):
        fits = False
    if not fits:
        print(text)
EOF
}

constraints() { # the runtime's packages, at the versions that are there
    "$python" - "${runtime_packages[@]}" <<'EOF'
import importlib.metadata as metadata, sys
for name in sys.argv[1:]:
    try:
        print(f"{name}=={metadata.version(name)}")
    except metadata.PackageNotFoundError:
        pass
EOF
}

install_packages() {
    local missing file
    mapfile -t missing < <(missing_packages)
    if [ ${#missing[@]} -eq 0 ]; then
        say "all Python packages are there"
        return
    fi
    say "installing ${missing[*]}"
    file=$(mktemp)
    constraints >"$file"
    retry "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --constraint "$file" "${missing[@]}" || fail "pip cannot install ${missing[*]}: see its words above"
    check_runtime "$file"
    rm -f "$file"
}

check_runtime() { # file with the versions before
    local changed
    changed=$(constraints | grep -vxFf "$1" | grep -E "^($(cut -d= -f1 "$1" | paste -sd '|')|pyspark)==" || true)
    [ -z "$changed" ] || fail "pip changed a package of the runtime, now: $changed"
}

find_server() { # prints the server program
    local name
    for name in mariadbd mysqld; do
        command -v "$name" && return
        if [ -x "/usr/sbin/$name" ]; then
            echo "/usr/sbin/$name"
            return
        fi
    done
    return 1
}

install_server() {
    if find_server >/dev/null; then return; fi
    command -v apt-get >/dev/null || fail "there is no apt here to install a MySQL server with"
    # The package would start a server of its own, through systemd or not; this keeps it from it.
    local policy=/usr/sbin/policy-rc.d package
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        # shellcheck disable=SC2064 # the name is known now
        trap "rm -f '$policy'" EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    retry apt-get -o DPkg::Lock::Timeout=120 update -qq || fail "apt-get update fails: see its words above"
    # MariaDB first: Ubuntu's AppArmor profile keeps mysqld from data directories of one's own.
    for package in mariadb-server mysql-server default-mysql-server; do
        # Not through a pipe: grep -q would end before apt-cache does, which pipefail takes for a failure.
        if [[ $(apt-cache policy "$package") == *"Candidate: "[^\(]* ]]; then
            retry apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "$package" ||
                fail "apt-get cannot install $package"
            return
        fi
    done
    fail "apt offers neither mariadb-server nor mysql-server"
}

account=     # what the server runs as, for root: a number that no other program has
as_server=() # what comes before a command that is to run as the server does

choose_account() { # sets both; the server sees five variables of this environment, and no secret
    local place number as_number
    as_server=(env -i "PATH=$PATH" "HOME=$home" LANG=C.UTF-8 "TZ=${TZ:-:/etc/localtime}" "TMPDIR=$home/tmp")
    [ "$(id -u)" -eq 0 ] || return 0
    place=$(printf %s "$home" | cksum | cut -d ' ' -f 1)
    # As init/local/accounts.py chooses them.
    for number in $((1900000000 + place % 200000000)) $((20000 + place % 40000)); do
        if getent passwd "$number" >/dev/null || getent group "$number" >/dev/null; then continue; fi
        as_number=(setpriv --reuid "$number" --regid "$number" --clear-groups)
        if "${as_number[@]}" test -x "$home" 2>/dev/null; then
            as_server+=("${as_number[@]}")
            account=$number
            return
        fi
    done
    fail "no account of its own can be had for MySQL: every folder above $home must let others pass (chmod a+x)"
}

give_to_server() { # path
    if [ -n "$account" ]; then chown -R "$account:$account" "$1"; fi
}

new_password() {
    if [ -n "${TUNING_DB_PASSWORD:-}" ]; then
        [[ $TUNING_DB_PASSWORD =~ ^[A-Za-z0-9_-]{8,}$ ]] ||
            fail "TUNING_DB_PASSWORD must be at least 8 letters, digits, - and _"
        printf '%s' "$TUNING_DB_PASSWORD"
    else
        od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
    fi
}

statements() { # password; what the server runs before it lets anyone in
    cat <<EOF
CREATE DATABASE IF NOT EXISTS optuna CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS 'tuning'@'%' IDENTIFIED BY '$1';
ALTER USER 'tuning'@'%' IDENTIFIED BY '$1';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, REFERENCES ON optuna.* TO 'tuning'@'%';
ALTER USER 'root'@'localhost' IDENTIFIED BY '$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')';
EOF
}

initialise() { # server program
    local new=$home/mysql.new
    rm -rf "$new"
    mkdir -m 700 "$new"
    give_to_server "$new"
    if [[ $("$1" --no-defaults --version) == *[Mm]aria[Dd][Bb]* ]]; then
        # --force: a container's own name need not resolve.
        "${as_server[@]}" mariadb-install-db --no-defaults --force --datadir="$new" --skip-test-db \
            >"$home/initialise.log" 2>&1
    else
        "${as_server[@]}" "$1" --no-defaults --initialize-insecure --datadir="$new" >"$home/initialise.log" 2>&1
    fi || fail "the data directory cannot be made: $(tail -n 3 "$home/initialise.log")"
    mv "$new" "$home/mysql"
}

answers() { # whether the account can use the server
    [ -s "$home/storage-url" ] && "$python" - "$home/storage-url" 2>/dev/null <<'EOF'
import pathlib, sys
from sqlalchemy import make_url
import pymysql
url = make_url(pathlib.Path(sys.argv[1]).read_text().strip())
account = {"user": url.username, "password": url.password, "database": url.database}
pymysql.connect(host=url.host, port=url.port, connect_timeout=2, read_timeout=2, **account).close()
EOF
}

start_server() {
    local server address=${DB_DRIVER_IP:-} password log
    [[ $address =~ ^[0-9A-Fa-f:.]+$ ]] || fail "DB_DRIVER_IP must be an IP address, got '$address'"
    if answers; then
        say "MySQL answers already at $address:$port"
        return
    fi
    install_server
    server=$(find_server) || fail "the MySQL server is still missing after its installation"
    mkdir -p "$home"
    chmod 711 "$home"
    choose_account
    # Temporary tables lie in there: in /tmp a server removes those of every other one when it starts.
    rm -rf "$home/tmp"
    mkdir -m 700 "$home/tmp"
    give_to_server "$home/tmp"
    if [ ! -d "$home/mysql" ]; then initialise "$server"; fi
    give_to_server "$home/mysql" # an earlier version's had another account
    password=$(new_password)
    log=$home/mysql.log
    (
        umask 077
        statements "$password" >"$home/init.sql"
        printf 'mysql+pymysql://tuning:%s@%s:%s/optuna\n' "$password" "$address" "$port" >"$home/storage-url"
    )
    give_to_server "$home/init.sql"
    : >"$log"
    give_to_server "$log"
    setsid "${as_server[@]}" "$server" --no-defaults --datadir="$home/mysql" --tmpdir="$home/tmp" \
        --bind-address="$address" --port="$port" --socket="$home/mysql/server.sock" --pid-file="$home/mysql/server.pid" \
        --init-file="$home/init.sql" --skip-name-resolve --character-set-server=utf8mb4 --max-connections=500 \
        --innodb-flush-log-at-trx-commit=2 \
        </dev/null >>"$log" 2>&1 &
    wait_for_server $! "$log"
    rm -f "$home/init.sql"
    say "$("$server" --no-defaults --version | head -n 1)"
    say "MySQL answers at $address:$port, database optuna, account tuning"
}

wait_for_server() { # pid, log
    local tries
    for tries in $(seq 120); do
        if answers; then return; fi
        if [ "$tries" -gt 3 ] && ! kill -0 "$1" 2>/dev/null; then break; fi
        sleep 0.5
    done
    kill "$1" 2>/dev/null || true
    rm -f "$home/init.sql" "$home/storage-url"
    fail "MySQL does not come up: $( (grep -i error "$2" || cat "$2") | tail -n 3 | tr '\n' ' ')"
}

[ -x "$python" ] || fail "no Python at $python: set TUNING_PYTHON"
case $database in driver | external) ;; *) fail "TUNING_DATABASE must be driver or external, got '$database'" ;; esac
[[ $port =~ ^[0-9]+$ ]] || fail "TUNING_DB_PORT must be a number, got '$port'"
describe_node
install_packages
if [ "$database" = driver ] && [ "${DB_IS_DRIVER:-FALSE}" = TRUE ]; then start_server; fi
say "done"
