# shellcheck shell=bash
# What start-master.sh, start-worker.sh and stop.sh share: finding Spark, and processes that prove to be ours.

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
spark_env=${TUNING_SPARK_ENV:-$here/../../.state/envs/spark}
# Pid files, logs and the workers' scratch files of this machine's part of the cluster.
cluster_state=${TUNING_SPARK_STATE:-$here/../../.state/cluster}

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

find_spark() { # sets SPARK_HOME
    local homes=("$spark_env"/lib/python3*/site-packages/pyspark)
    [ -x "${homes[0]}/bin/spark-class" ] || fail "no pyspark in $spark_env: run init/spark/install.sh, or set TUNING_SPARK_ENV"
    export SPARK_HOME=${homes[0]}
    export SPARK_CONF_DIR=${SPARK_CONF_DIR:-$here/conf}
}

birth() { # pid -> the boot and the clock tick it started at, empty when there is no such process
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    stat=${stat##*) } # the program's name may hold spaces; what follows is field 3
    # shellcheck disable=SC2086 # one field, one argument
    set -- $stat
    # A JVM whose first thread has ended reads as a zombie while the others (field 20 counts them) still hold its ports.
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

start_daemon() { # name, host and port it answers at when it is up, main class, arguments...
    local name=$1 host=$2 port=$3 log=$cluster_state/$1.log pid
    shift 3
    if is_running "$name"; then
        echo "$name runs already"
        return
    fi
    if listens "$host" "$port"; then fail "port $port of $host is in use by another program"; fi
    umask 077
    mkdir -p "$cluster_state"
    setsid "$SPARK_HOME/bin/spark-class" "$@" </dev/null >"$log" 2>&1 &
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
    kill "$pid" 2>/dev/null || true # it may end at this moment by itself
    if ! ends_within "$1" 10; then
        kill -KILL "$pid" 2>/dev/null || true
        ends_within "$1" 10 || fail "the $1, process $pid, does not end even when it is killed: its disk may hang"
    fi
    rm -f "$cluster_state/$1.pid"
    echo "$1 stopped"
}
