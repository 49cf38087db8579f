#!/usr/bin/env bash
# Writes a Spark configuration folder for a cluster whose programs share a secret. Only programs that know the secret can
# join the cluster or submit to it, and all that they send each other is encrypted. May run again without harm.
#
#   init/spark/make-conf.sh FOLDER SECRET_FILE [SCRATCH]
#
# SECRET_FILE holds one line, for example from `openssl rand -hex 32`; - means a cluster without a secret. SCRATCH is the
# folder for temporary files of Spark and Java, instead of /tmp. Set SPARK_CONF_DIR to FOLDER afterwards.
#
# The files in FOLDER begin as copies of those in the present SPARK_CONF_DIR, by default init/spark/conf. The secret becomes
# one of the properties, because Spark reads it from a file only on Kubernetes. So only its owner can read FOLDER.
set -euo pipefail

fail() {
    echo "make-conf.sh: $*" >&2
    exit 1
}

[ $# -ge 2 ] && [ $# -le 3 ] || fail "usage: $0 FOLDER SECRET_FILE [SCRATCH]"
folder=$1 secret_file=$2 scratch=${3:-}
base=${SPARK_CONF_DIR:-$(dirname "$(readlink -f "$0")")/conf}

secret=
if [ "$secret_file" != - ]; then
    [ -r "$secret_file" ] || fail "the secret file cannot be read: $secret_file"
    secret=$(cat "$secret_file") # without the newline at its end
    [[ $secret =~ ^[A-Za-z0-9+/=_.-]{32,}$ ]] || fail "$secret_file must hold one line of 32 or more letters, digits" \
        "and + / = _ . -: openssl rand -hex 32 > $secret_file"
fi

umask 077
mkdir -p "$folder"
chmod 700 "$folder"
[ ! "$base" -ef "$folder" ] || fail "SPARK_CONF_DIR is $folder already: unset it, its files are what the new ones begin as"

put() { # name; writes a file in one step, because somebody may start a program at this moment
    cat >"$folder/$1.new.$$"
    chmod 600 "$folder/$1.new.$$"
    mv "$folder/$1.new.$$" "$folder/$1"
}

for file in "$base"/*; do
    name=$(basename "$file")
    case $name in spark-defaults.conf | *.new.*) ;; *) if [ -f "$file" ]; then put "$name" <"$file"; fi ;; esac
done

properties() {
    if [ -f "$base/spark-defaults.conf" ]; then cat "$base/spark-defaults.conf"; fi
    printf '\n# Written by init/spark/make-conf.sh.\n'
    [ -n "$secret" ] || return 0
    cat <<END
spark.authenticate                      true
spark.authenticate.secret               $secret
spark.network.crypto.enabled            true
spark.network.crypto.authEngineVersion  2
# Spark's default, AES/CTR, hides what is said but does not notice when somebody changes it.
spark.network.crypto.cipher             AES/GCM/NoPadding
spark.network.crypto.saslFallback       false
END
}
properties | put spark-defaults.conf

if [ -n "$scratch" ]; then
    mkdir -p "$scratch"
    # Spark's launcher passes the options in this file to every Java program that it starts, executors included. The
    # folder also takes the place of spark.local.dir, about whose setting Spark would warn.
    printf '"-Djava.io.tmpdir=%s"\n-XX:-UsePerfData\n' "$scratch" | put java-opts
fi
