# shellcheck shell=bash
# The environment of a Spark program. It must not get the variables that environment.txt does not name.

# In bytes. Python's multiprocessing makes a socket below TMPDIR, and the path of a socket has at most 107.
# shellcheck disable=SC2034 # for the scripts that source this file
LONGEST_TMPDIR=75

environment_list=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/environment.txt

kept_names() { # who...; prints the names to keep, one a line; * stands for any ending
    local who name further
    while read -r who name; do
        case " $* " in *" $who "*) echo "$name" ;; esac
    done <"$environment_list"
    read -ra further <<<"${TUNING_SPARK_ENVIRONMENT:-}"
    if [ ${#further[@]} -gt 0 ]; then printf '%s\n' "${further[@]//,/}"; fi
}

leave_behind() { # who...; sets `without`, options of env(1) that unset names: values would show in the list of processes
    local kept entry name pattern
    mapfile -t kept < <(kept_names "$@")
    without=()
    # Not from compgen -e, which leaves out exported functions and names that are no shell variable. Programs get both.
    while IFS= read -r -d '' entry; do
        name=${entry%%=*}
        [ -n "$name" ] || continue
        for pattern in "${kept[@]}"; do
            # shellcheck disable=SC2053 # a pattern
            if [[ $name == $pattern ]]; then continue 2; fi
        done
        without+=("--unset=$name")
    done <"/proc/$$/environ"
}
