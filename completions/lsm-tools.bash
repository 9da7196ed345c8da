# bash completion for the tools of libengine, of all of them by one function: options, and the
# words and files that they take, are read from the --help of the tool itself.
# shellcheck shell=bash

# Lines "option=argument" of a --help text; the argument is empty where there is none.
_lsm_tools_options()
{
    local line option argument
    while IFS= read -r line; do
        [[ $line =~ ^\ {2,6}- ]] || continue # deeper ones go on with a description
        line=${line#"${line%%[![:space:]]*}"}
        line=${line%%  *} # the description
        argument=
        if [[ $line =~ \[?=([^ ]+)$ ]]; then
            argument=${BASH_REMATCH[1]%]}
        elif [[ $line =~ ^-[A-Za-z]\ ([A-Z]+)$ ]]; then
            argument=${BASH_REMATCH[1]}
        fi
        while [[ $line =~ ^(--?[A-Za-z-]+) ]]; do
            option=${BASH_REMATCH[1]}
            printf '%s=%s\n' "$option" "$argument"
            line=${line#"$option"}
            [[ $line == ', '* ]] || break
            line=${line#, }
        done
    done
}

# Words for an option's argument, as --help writes it: "auto|uring|posix", "FILE", "NUMBER".
_lsm_tools_argument()
{
    local argument=$1 current=$2 words word
    case $argument in
    *FILE* | *PATH*)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        ;;
    *DIR*)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        ;;
    *[a-z]*)
        words=${argument//[\[\]]/}
        mapfile -t COMPREPLY < <(
            IFS='|'
            for word in $words; do
                word=${word%%:*} # "zstd:LEVEL"
                [[ $word == *[A-Z]* || $word != "$current"* ]] || printf '%s\n' "$word"
            done
        )
        ;;
    esac
}

_lsm_tools()
{
    local tool=$1 current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local option='' line
    local -A arguments=()
    COMPREPLY=()
    # "=" is a word of its own.
    if [[ $current == = ]]; then
        option=$before
        current=
    elif [[ $before == = ]] && ((COMP_CWORD >= 2)); then
        option=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    while IFS= read -r line; do
        arguments[${line%%=*}]=${line#*=}
    done < <("$tool" --help 2>/dev/null | _lsm_tools_options)
    if [[ -z $option && $before == -* && $before != *=* && -n ${arguments[$before]:-} &&
        $current != -* ]]; then
        option=$before
    fi
    if [[ -n $option ]]; then
        _lsm_tools_argument "${arguments[$option]:-}" "$current"
    elif [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(
            for option in "${!arguments[@]}"; do
                [[ $option == "$current"* ]] || continue
                if [[ $option == --* && -n ${arguments[$option]} ]]; then
                    printf '%s=\n' "$option"
                else
                    printf '%s\n' "$option"
                fi
            done | sort
        )
        [[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
    else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
    fi
}

complete -F _lsm_tools lsm-compact lsm-dump lsm-load lsm-repair lsm-stat lsm-verify
