# shellcheck shell=bash
# Shared by start-master.sh, start-worker.sh and stop.sh: finds Spark, and starts and stops processes of ours.

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
spark_env=${TUNING_SPARK_ENV:-$here/../../.state/envs/spark}
# The folder for pid files, logs and scratch files of this machine's part of the cluster.
cluster_state=$(readlink -m "${TUNING_SPARK_STATE:-$here/../../.state/cluster}")
scratch=$cluster_state/tmp
# shellcheck source=init/spark/environment.sh
source "$here/environment.sh"

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

find_spark() { # sets SPARK_HOME
    local homes=("$spark_env"/lib/python3*/site-packages/pyspark)
    [ -x "${homes[0]}/bin/spark-class" ] || fail "no pyspark in $spark_env: run init/spark/install.sh, or set TUNING_SPARK_ENV"
    export SPARK_HOME=${homes[0]}
}

use_conf() { # role, file of the cluster's secret (empty: not given, -: no secret); sets SPARK_CONF_DIR and TMPDIR
    local conf=$cluster_state/conf-$1 secret_file=${2:--}
    if [ -z "$2" ] && ! grep -qsE '^[[:space:]]*spark\.authenticate[[:space:]=:]+true' "${SPARK_CONF_DIR:-}/spark-defaults.conf"; then
        fail "without a secret whoever reaches this $1 can run programs on it: make one for all machines of the cluster" \
            "(umask 077; openssl rand -hex 32 > FILE) and give --secret-file FILE, or say --no-authentication"
    fi
    if [ "$secret_file" != - ] && [ -n "$(find -L "$secret_file" -maxdepth 0 -perm /077 2>/dev/null)" ]; then
        fail "other accounts can open the secret file: chmod 600 $secret_file"
    fi
    if ! is_running master && ! is_running worker; then clear_scratch; fi
    "$here/make-conf.sh" "$conf" "$secret_file" "$scratch" || exit 1 # it has printed why
    export SPARK_CONF_DIR=$conf
    if [ "$(printf %s "$scratch" | wc -c)" -le "$LONGEST_TMPDIR" ]; then export TMPDIR=$scratch; fi
}

clear_scratch() { # removes what killed programs left behind
    rm -rf "$scratch"
}

birth() { # pid -> an id that is never used again, unlike the pid: boot and start time; empty if it does not run
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    stat=${stat##*) } # the program's name may hold spaces; what follows is field 3
    # shellcheck disable=SC2086 # one field, one argument
    set -- $stat
    # A JVM whose first thread has ended looks like a zombie, but its other threads (field 20 counts them) hold its ports.
    case $1 in Z | X) [ "${18}" -gt 1 ] || return 0 ;; esac
    echo "$(cat /proc/sys/kernel/random/boot_id):${20}"
}

is_running() { # name
    local pid born
    [ -f "$cluster_state/$1.pid" ] || return 1
    read -r pid born <"$cluster_state/$1.pid"
    [ -n "$born" ] && [ "$(birth "$pid")" = "$born" ]
}

listens() { # host port
    (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null
}

start_daemon() { # name, host and port that it listens on once it is up, main class, arguments...
    local name=$1 host=$2 port=$3 log=$cluster_state/$1.log pid
    shift 3
    if is_running "$name"; then
        echo "$name runs already"
        return
    fi
    if listens "$host" "$port"; then fail "port $port of $host is in use by another program"; fi
    umask 077
    mkdir -p "$cluster_state"
    leave_behind all daemon
    setsid env "${without[@]}" "$SPARK_HOME/bin/spark-class" "$@" </dev/null >"$log" 2>&1 &
    pid=$!
    echo "$pid $(birth "$pid")" >"$cluster_state/$name.pid"
    for _ in $(seq 300); do
        sleep 0.2
        if ! is_running "$name"; then
            tail -n 5 "$log" >&2
            fail "the $name ended at its start, see $log"
        fi
        if listens "$host" "$port"; then
            echo "$name started, log in $log"
            return
        fi
    done
    fail "the $name does not answer at $host:$port after a minute, see $log"
}

ends_within() { # name seconds
    for _ in $(seq $(($2 * 10))); do
        is_running "$1" || return 0
        sleep 0.1
    done
    return 1
}

stop_daemon() { # name
    local pid
    if ! is_running "$1"; then
        echo "$1 does not run"
        rm -f "$cluster_state/$1.pid"
        return
    fi
    read -r pid _ <"$cluster_state/$1.pid"
    kill "$pid" 2>/dev/null || true # it may have ended by itself at this moment
    if ! ends_within "$1" 10; then
        kill -KILL "$pid" 2>/dev/null || true
        ends_within "$1" 10 || fail "the $1, process $pid, does not end even when it is killed: its disk may hang"
    fi
    rm -f "$cluster_state/$1.pid"
    echo "$1 stopped"
}
