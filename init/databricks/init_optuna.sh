#!/usr/bin/env bash
# Databricks init script: prepares a node of the cluster for tuning with Optuna. Put it on a Volume or in the workspace.
#
# Every node gets the Python packages of a lock file with hashes (requirements/databricks.txt). With TUNING_DATABASE=driver
# the driver also gets a MySQL server. It has one database, and one account with a random password, which may use nothing
# else. The server listens on the driver's loopback interface only, because workers need no database. With
# TUNING_DB_CLIENTS=cluster (for coordination: database) it listens at DB_DRIVER_IP, for addresses of the driver's subnet.
# The job finds the URL in $TUNING_HOME/storage-url, which only root can read.
#
# The script may run again without harm. It prints no password.
#
# Databricks sets DB_IS_DRIVER and DB_DRIVER_IP. These environment variables of the cluster are optional:
#   TUNING_DATABASE       driver: MySQL on the driver; external (default): none
#   TUNING_DB_CLIENTS     driver (default): only programs on the driver connect; cluster: the workers, too
#   TUNING_DB_ALLOW_FROM  the workers' addresses as network/netmask, for example 10.1.0.0/255.255.0.0; by default the
#                         driver's subnet
#   TUNING_DB_PASSWORD    {{secrets/<scope>/<key>}}: your own password (letters, digits, - and _) instead of a random one
#   TUNING_DB_PORT        3306
#   TUNING_HOME           /var/lib/tuning
#   TUNING_PYTHON         /databricks/python/bin/python
set -euo pipefail

database=${TUNING_DATABASE:-external}
clients=${TUNING_DB_CLIENTS:-driver}
allow_from=${TUNING_DB_ALLOW_FROM:-}
home=${TUNING_HOME:-/var/lib/tuning}
port=${TUNING_DB_PORT:-3306}
python=${TUNING_PYTHON:-/databricks/python/bin/python}
attempts=4

say() {
    echo "init_optuna: $*"
}

fail() {
    say "$*" >&2
    exit 1
}

retry() { # command...; a package index may fail for a moment
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
    "$python" - pyspark numpy pandas pyarrow xgboost <<'EOF'
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

# Puts install_locked.py and the lock files into $scratch. A script that Airflow has sent contains them, as the function
# `carried`; otherwise they are beside this script.
unpack() {
    if declare -F carried >/dev/null; then
        carried "$scratch"
    else
        cp "$(dirname "$0")/install_locked.py" "$(dirname "$0")"/../../requirements/databricks*.{in,txt} "$scratch"
    fi
}

install_packages() {
    unpack
    "$python" "$scratch/install_locked.py" "$python" "$scratch" databricks 2>&1 | sed 's/^/init_optuna: /'
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
    # The package would start a server by itself. policy-rc.d keeps Debian's packages from starting services.
    local policy=/usr/sbin/policy-rc.d package
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        litter+=("$policy")
    fi
    export DEBIAN_FRONTEND=noninteractive
    retry apt-get -o DPkg::Lock::Timeout=120 update -qq || fail "apt-get update fails: see its words above"
    # MariaDB first: Ubuntu's AppArmor profile lets mysqld use no data directory but the system's.
    for package in mariadb-server mysql-server default-mysql-server; do
        # Not through a pipe to `grep -q`: it ends before apt-cache does, which pipefail takes for a failure.
        if [[ $(apt-cache policy "$package") == *"Candidate: "[^\(]* ]]; then
            retry apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "$package" ||
                fail "apt-get cannot install $package"
            return
        fi
    done
    fail "apt offers neither mariadb-server nor mysql-server"
}

account=     # the id that the server runs under if this is root; no other program has it
as_server=() # the words before a command that is to run under that account

choose_account() { # sets both; the server gets five environment variables, and no secret
    local place number as_number
    as_server=(env -i "PATH=$PATH" "HOME=$home" LANG=C.UTF-8 "TZ=${TZ:-:/etc/localtime}" "TMPDIR=$home/tmp")
    [ "$(id -u)" -eq 0 ] || return 0
    place=$(printf %s "$home" | cksum | cut -d ' ' -f 1)
    # The same choice as in init/local/accounts.py, which gives the reasons.
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

subnet_of() { # address -> its network, as network/netmask; nothing if there is none, or it has only one address
    "$python" - "$1" <<'EOF'
import fcntl, ipaddress, socket, struct, sys

def ask(request, name):  # https://man7.org/linux/man-pages/man7/netdevice.7.html
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return socket.inet_ntoa(fcntl.ioctl(any_socket, request, struct.pack("256s", name.encode()))[20:24])

for _, name in socket.if_nameindex():
    try:
        address, netmask = ask(0x8915, name), ask(0x891B, name)
    except OSError:  # an interface without an address
        continue
    network = ipaddress.ip_network(f"{address}/{netmask}", strict=False)
    if address == sys.argv[1] and network.num_addresses > 1:
        print(f"{network.network_address}/{netmask}")
EOF
}

find_clients() { # sets address (where the server listens) and allow_from (the hosts of its account)
    if [ "$clients" = driver ]; then
        address=127.0.0.1 allow_from=127.0.0.1
        return
    fi
    address=${DB_DRIVER_IP:-}
    [[ $address =~ ^[0-9A-Fa-f:.]+$ ]] || fail "DB_DRIVER_IP must be an IP address, got '$address'"
    allow_from=${allow_from:-$(subnet_of "$address")}
    [[ $allow_from =~ ^[0-9.]+/[0-9.]+$ ]] ||
        fail "TUNING_DB_ALLOW_FROM must be the workers' addresses, as network/netmask, got '$allow_from': the driver's subnet cannot be told from $address"
}

statements() { # password -> the SQL that the server runs before it accepts connections
    local user="'tuning'@'$allow_from'"
    # As in optuna_spark/storage/optuna_tables.py: all names differ, also `lr` and `LR`. Each server reads its part.
    local letters="CHARACTER SET utf8mb4 /*!80017 COLLATE utf8mb4_0900_bin */ /*M!100200 COLLATE utf8mb4_nopad_bin */"
    cat <<EOF
CREATE DATABASE IF NOT EXISTS optuna $letters;
CREATE USER IF NOT EXISTS $user IDENTIFIED BY '$1';
ALTER USER $user IDENTIFIED BY '$1';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, REFERENCES ON optuna.* TO $user;
ALTER USER 'root'@'localhost' IDENTIFIED BY '$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')';
EOF
}

initialise() { # server program
    local new=$home/mysql.new
    rm -rf "$new"
    mkdir -m 700 "$new"
    give_to_server "$new"
    if [[ $("$1" --no-defaults --version) == *[Mm]aria[Dd][Bb]* ]]; then
        # --force, because the host name of a container may not resolve.
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
    local server address password log
    find_clients
    if answers; then
        say "MySQL answers already at $address:$port"
        return
    fi
    install_server
    server=$(find_server) || fail "the MySQL server is still missing after its installation"
    mkdir -p "$home"
    chmod 711 "$home"
    choose_account
    # A folder for temporary tables: in /tmp, a server that starts removes those of every other server.
    rm -rf "$home/tmp"
    mkdir -m 700 "$home/tmp"
    give_to_server "$home/tmp"
    if [ ! -d "$home/mysql" ]; then initialise "$server"; fi
    give_to_server "$home/mysql" # an earlier version of this script ran the server under another account
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
    say "MySQL answers at $address:$port, database optuna, account tuning for $allow_from"
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
case $clients in driver | cluster) ;; *) fail "TUNING_DB_CLIENTS must be driver or cluster, got '$clients'" ;; esac
[[ $port =~ ^[0-9]+$ ]] || fail "TUNING_DB_PORT must be a number, got '$port'"
scratch=$(mktemp -d)
litter=("$scratch")
trap 'rm -rf "${litter[@]}"' EXIT
describe_node
install_packages
if [ "$database" = driver ] && [ "${DB_IS_DRIVER:-FALSE}" = TRUE ]; then start_server; fi
say "done"
