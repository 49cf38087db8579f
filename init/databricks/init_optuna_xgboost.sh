#!/usr/bin/env bash
# Databricks init script, after init_optuna.sh: what the xgboost objective needs, cuDF on nodes with a GPU included.
#
# cuDF is pinned by the runtime's pandas: 26.06 is the last release for pandas 2, 26.10 wants pandas 3. Nothing of the
# runtime is replaced but XGBoost. Runs again without harm.
#
#   TUNING_PYTHON        /databricks/python/bin/python
#   PIP_EXTRA_INDEX_URL  a further package index, as pip knows it
set -euo pipefail

python=${TUNING_PYTHON:-/databricks/python/bin/python}
# 3.2 is built for CUDA 12, which the runtime has.
packages=("xgboost==3.2.0")
runtime_packages=(pyspark numpy pandas)
attempts=4

say() {
    echo "init_optuna_xgboost: $*"
}

fail() {
    say "$*" >&2
    exit 1
}

version_of() { # package; empty when it is not there
    "$python" -c 'import importlib.metadata as m, sys; print(m.version(sys.argv[1]))' "$1" 2>/dev/null || true
}

constraints() {
    local name version
    for name in "${runtime_packages[@]}"; do
        version=$(version_of "$name")
        if [ -n "$version" ]; then echo "$name==$version"; fi
    done
}

cudf_for() { # pandas version
    case $1 in
        2.*) echo "cudf-cu12==26.6.*" ;;
        3.0.*) echo "cudf-cu12==26.10.*" ;;
        *) return 1 ;;
    esac
}

fits() { # requirement name==version, with * at its end allowed
    local name=${1%%==*} wanted=${1#*==} version
    version=$(version_of "$name")
    # shellcheck disable=SC2053 # the right side is a pattern on purpose
    [ -n "$version" ] && [[ $version == $wanted ]]
}

install() { # requirement...
    local missing=() requirement attempt file
    for requirement in "$@"; do
        if fits "$requirement"; then say "$requirement is there"; else missing+=("$requirement"); fi
    done
    if [ ${#missing[@]} -eq 0 ]; then return; fi
    say "installing ${missing[*]}"
    file=$(mktemp)
    constraints >"$file"
    for attempt in $(seq "$attempts"); do
        if "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
            --constraint "$file" "${missing[@]}"; then
            break
        fi
        [ "$attempt" -lt "$attempts" ] || fail "pip cannot install ${missing[*]}: see its words above"
        sleep $((attempt * 3))
    done
    check_runtime "$file"
    rm -f "$file"
}

check_runtime() { # file with the versions before
    local changed
    changed=$(constraints | grep -vxFf "$1" | grep -E "^($(cut -d= -f1 "$1" | paste -sd '|')|pyspark)==" || true)
    [ -z "$changed" ] || fail "pip changed a package of the runtime, now: $changed"
}

[ -x "$python" ] || fail "no Python at $python: set TUNING_PYTHON"
if command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=index,name --format=csv; then
    pandas=$(version_of pandas)
    if cudf=$(cudf_for "${pandas:-none}"); then
        packages+=("$cudf")
    else
        say "no cuDF is known for pandas ${pandas:-(missing)}: read the table with distribution dataframe"
    fi
else
    say "no GPU on this node: no cuDF"
fi
install "${packages[@]}"
say "done"
