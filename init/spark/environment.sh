# shellcheck shell=bash
# Which variables of this shell stay behind when a Spark program starts: environment.txt says which may go along.

environment_list=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/environment.txt

kept_names() { # who...; prints names, one a line, * for any end
    local who name further
    while read -r who name; do
        case " $* " in *" $who "*) echo "$name" ;; esac
    done <"$environment_list"
    read -ra further <<<"${TUNING_SPARK_ENVIRONMENT:-}"
    if [ ${#further[@]} -gt 0 ]; then printf '%s\n' "${further[@]//,/}"; fi
}

leave_behind() { # who...; sets `without`, options of env(1): names only, since values would show in the list of processes
    local kept entry name pattern
    mapfile -t kept < <(kept_names "$@")
    without=()
    # Not compgen -e: it knows neither functions nor names that are no shell variable's, and both are handed on.
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
