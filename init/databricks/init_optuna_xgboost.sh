#!/usr/bin/env bash
# Databricks init script, after init_optuna.sh: what the xgboost objective needs, cuDF on nodes with a GPU included.
#
# The packages come from lock files with hashes (requirements/databricks-xgboost.txt, databricks-cudf.txt). cuDF is for
# the runtime's pandas: 26.06 is the last release for pandas 2. Nothing that Spark works with is replaced. Runs again
# without harm.
#
#   TUNING_PYTHON        /databricks/python/bin/python
#   PIP_EXTRA_INDEX_URL  a further package index, as pip knows it
set -euo pipefail

python=${TUNING_PYTHON:-/databricks/python/bin/python}
locks=(databricks-xgboost)

say() {
    echo "init_optuna_xgboost: $*"
}

fail() {
    say "$*" >&2
    exit 1
}

unpack() { # what installs the packages: a script that was sent brings it along, else it lies beside this one
    if declare -F carried >/dev/null; then
        carried "$scratch"
    else
        cp "$(dirname "$0")/install_locked.py" "$(dirname "$0")"/../../requirements/databricks*.{in,txt} "$scratch"
    fi
}

version_of() { # package; empty when it is not there
    "$python" -c 'import importlib.metadata as m, sys; print(m.version(sys.argv[1]))' "$1" 2>/dev/null || true
}

[ -x "$python" ] || fail "no Python at $python: set TUNING_PYTHON"
if command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=index,name --format=csv; then
    pandas=$(version_of pandas)
    case $pandas in
        2.*) locks+=(databricks-cudf) ;;
        *) say "no cuDF is known for pandas ${pandas:-(missing)}: read the table with distribution dataframe" ;;
    esac
else
    say "no GPU on this node: no cuDF"
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unpack
say "wanted: ${locks[*]}"
"$python" "$scratch/install_locked.py" "$python" "$scratch" "${locks[@]}" 2>&1 | sed 's/^/init_optuna_xgboost: /'
say "done"
