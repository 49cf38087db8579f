#!/usr/bin/env bash
# Installs MariaDB or MySQL on this machine, and sets the address that it listens on. May run again without harm.
#
#   sudo init/mysql/install-server.sh --bind-address 10.0.0.5
#
# The server listens only at this address, so give the one in the cluster's own network. Then create the studies' database
# and account with create-account.sh.
#
# --ssl-cert and --ssl-key are the server's certificate and key, --ssl-ca the authorities of its clients' certificates.
# With --ssl-mode REQUIRED the server refuses connections without TLS, except through this machine's socket.
set -euo pipefail

bind_address=
port=3306
conf_dir=
ssl_mode=
ssl_ca=
ssl_cert=
ssl_key=
install=yes
restart=yes

usage() {
    echo "usage: $0 --bind-address ADDRESS [--port 3306] [--conf-dir DIR] [--no-install] [--no-restart]"
    echo "          [--ssl-cert FILE --ssl-key FILE] [--ssl-ca FILE] [--ssl-mode REQUIRED]"
}

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
        --bind-address) bind_address=${2:?--bind-address needs an address}; shift 2 ;;
        --port) port=${2:?--port needs a number}; shift 2 ;;
        --conf-dir) conf_dir=${2:?--conf-dir needs a folder}; shift 2 ;;
        --ssl-mode) ssl_mode=${2:?--ssl-mode needs a mode}; shift 2 ;;
        --ssl-ca) ssl_ca=${2:?--ssl-ca needs a file}; shift 2 ;;
        --ssl-cert) ssl_cert=${2:?--ssl-cert needs a file}; shift 2 ;;
        --ssl-key) ssl_key=${2:?--ssl-key needs a file}; shift 2 ;;
        --no-install) install=no; shift ;;
        --no-restart) restart=no; shift ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; fail "unknown argument: $1" ;;
    esac
done

[[ $bind_address =~ ^[0-9A-Fa-f:.]+$ ]] || fail "--bind-address must be an IP address of this machine, got '$bind_address'"
[[ $port =~ ^[0-9]+$ ]] || fail "--port must be a number, got '$port'"
case $ssl_mode in
    '' | REQUIRED) ;;
    *) fail "--ssl-mode of a server must be REQUIRED, got '$ssl_mode'; what is verified is the client's choice" ;;
esac
[ "${ssl_cert:+given}" = "${ssl_key:+given}" ] || fail "--ssl-cert and --ssl-key belong together"
if [ -z "$ssl_cert" ] && [ -n "$ssl_mode$ssl_ca" ]; then fail "--ssl-mode and --ssl-ca need --ssl-cert and --ssl-key"; fi
for file in "$ssl_ca" "$ssl_cert" "$ssl_key"; do
    # Plain letters only, because a line break or a # would end the setting in the file.
    [[ $file =~ ^(/[A-Za-z0-9_./-]+)?$ ]] || fail "a file for TLS must be an absolute path of plain letters, got '$file'"
    [ -z "$file" ] || [ -r "$file" ] || fail "a file for TLS cannot be read: $file"
done

install_server() {
    if command -v mariadbd mysqld >/dev/null || [ -x /usr/sbin/mariadbd ] || [ -x /usr/sbin/mysqld ]; then
        return
    fi
    command -v apt-get >/dev/null || fail "there is no apt here: install mariadb-server or mysql-server yourself"
    [ "$(id -u)" -eq 0 ] || fail "installing needs root: run it with sudo"
    apt-get update -qq
    local package
    for package in mariadb-server mysql-server default-mysql-server; do
        # Not through a pipe to `grep -q`: it ends before apt-cache does, which pipefail takes for a failure.
        if [[ $(apt-cache policy "$package") == *"Candidate: "[^\(]* ]]; then
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package"
            return
        fi
    done
    fail "apt offers neither mariadb-server nor mysql-server"
}

find_conf_dir() { # prints the folder that the installed server reads last, so that our settings win
    local folder
    for folder in /etc/mysql/mariadb.conf.d /etc/mysql/mysql.conf.d /etc/my.cnf.d; do
        if [ -d "$folder" ]; then
            echo "$folder"
            return
        fi
    done
    fail "no folder for server settings below /etc/mysql: give it with --conf-dir"
}

settings() {
    cat <<EOF
# Written by init/mysql/install-server.sh
[mysqld]
bind-address = $bind_address
port = $port
character-set-server = utf8mb4
# Every Airflow task, the Spark driver and Optuna's tools hold a connection or two.
max_connections = 500
# Accounts are named by address; a slow name server must not slow down every connection.
skip-name-resolve
EOF
    if [ -n "$ssl_cert" ]; then printf 'ssl-cert = %s\nssl-key = %s\n' "$ssl_cert" "$ssl_key"; fi
    if [ -n "$ssl_ca" ]; then echo "ssl-ca = $ssl_ca"; fi
    if [ -n "$ssl_mode" ]; then echo "require_secure_transport = ON"; fi
}

restart_server() {
    local service
    if ! command -v systemctl >/dev/null || ! [ -d /run/systemd/system ]; then
        echo "no systemd here: restart the server yourself for the settings to take effect"
        return
    fi
    for service in mariadb mysql mysqld; do
        if systemctl cat "$service.service" >/dev/null 2>&1; then
            systemctl enable "$service"
            systemctl restart "$service"
            return
        fi
    done
    fail "systemd knows no mariadb or mysql service to restart"
}

if [ "$install" = yes ]; then install_server; fi
conf_dir=${conf_dir:-$(find_conf_dir)}
file=$conf_dir/90-tuning.cnf
if [ -f "$file" ] && settings | cmp -s - "$file"; then
    echo "$file is up to date"
    exit 0
fi
settings >"$file"
chmod 644 "$file"
echo "wrote $file: the server listens on $bind_address:$port"
if [ "$restart" = yes ]; then restart_server; fi
