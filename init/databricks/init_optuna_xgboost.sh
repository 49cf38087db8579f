#!/usr/bin/env bash
# Databricks init script, to run after init_optuna.sh: installs what the xgboost objective needs, and cuDF on GPU nodes.
#
# The packages come from lock files with hashes (requirements/databricks-xgboost.txt, databricks-cudf.txt). The release of
# cuDF must fit the runtime's pandas: 26.06 is the last one for pandas 2. No package that Spark works with is replaced. The
# script may run again without harm.
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

# Puts install_locked.py and the lock files into $scratch. A script that Airflow has sent contains them, as the function
# `carried`; otherwise they are beside this script.
unpack() {
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
