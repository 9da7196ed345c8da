#!/bin/sh
# The bash completion of every tool knows the options of its --help, their words and files.
. "${top_srcdir:?}/tests/tool/prelude.sh"
need bash
cat >complete.bash <<'END'
# complete.bash FILE TOOL WORD...: prints what the last word can become.
source "$1"
shift
# As an interactive bash does, which the scripts of a completion may rely on.
compopt() { :; }
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
declare -A functions
read -r _ _ function _ <<<"$(complete -p "$1")"
previous=${COMP_WORDS[COMP_CWORD - 1]}
"$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "$previous"
[[ ${#COMPREPLY[@]} == 0 ]] || printf '%s\n' "${COMPREPLY[@]}"
END
becomes() {
    bash complete.bash "$top_srcdir/completions/lsm-tools.bash" "$@"
}
# wants WORDS TOOL WORD...: the last word becomes one of these, and nothing else.
wants() {
    wanted=$1
    shift
    got=$(becomes "$@" | sort | tr '\n' ' ')
    [ "$got" = "$wanted${wanted:+ }" ] || fail "'$*' becomes '$got' instead of '$wanted'"
}

mkdir -p here/db.d here/logs
: >here/file
tools=0
for tool in lsm-compact lsm-dump lsm-load lsm-repair lsm-stat lsm-verify; do
    grep -qw -- "$tool" "$top_srcdir/completions/lsm-tools.bash" || fail "$tool has no completion"
    [ -x "$top_builddir/$tool" ] || continue
    tools=$((tools + 1))
    "$tool" --help | sed -n 's/^ \{2,6\}\(-.*\)/\1/p' | sed 's/  .*//' | tr ', ' '\n' |
        grep -oE -- '^(--[a-z-]+|-[A-Za-z])' | sort -u >wanted
    becomes "$tool" - | sed 's/=$//' | sort >got
    [ "$(wc -l <wanted)" -gt 8 ] || fail "the options of $tool were not found"
    same got wanted
    wants '--help' "$tool" --hel
    wants '--version' "$tool" --vers
    wants 'here/db.d here/logs' "$tool" here/
    wants '' "$tool" nothing-like-it
done
[ $tools -ge 4 ] || fail "there are only $tools tools"
wants '--progress=' lsm-dump --prog
wants 'auto posix uring' lsm-dump --io = ''
wants 'auto posix uring' lsm-dump --io =
wants 'uring' lsm-dump --io = u
wants 'uring' lsm-dump --io u
wants 'here/db.d here/file here/logs' lsm-load -f here/
wants 'here/file' lsm-load --file = here/f
wants 'none zstd' lsm-compact --compression = ''
wants 'changed force skip' lsm-compact --bottommost = ''
wants '' lsm-compact --max-bytes = ''
wants 'here/db.d' lsm-compact --status here/d
finish
