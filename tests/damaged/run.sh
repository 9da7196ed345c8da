#!/bin/sh
# One damage after the other: what verify says of it, what repair does about it, and that nothing is
# lost that was not hit.
#
#     run.sh [--update] [CASE...]
#
# A case is a folder beside this script: `damage`, how it is made (see damage.c); `verify.expected`,
# what verify must say; `repair.expected`, what repair must do, with the exit status of
# lsm-repair(1) in its last line. --update writes the last two anew, to be read before they are
# believed.
set -u
: "${top_builddir:?run me with make check}" "${top_srcdir:?}"
cases=$top_srcdir/tests/damaged
damage=$top_builddir/tests/damaged/damage
LC_ALL=C
LSM_IO=posix
export LC_ALL LSM_IO
if [ -z "${TMPDIR-}" ] && [ -w /dev/shm ]; then # syncing costs nothing there
    TMPDIR=/dev/shm
    export TMPDIR
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/lsm-damaged.XXXXXX") || exit 99
trap 'chmod -R u+rwX "$work"; rm -rf "$work"' EXIT
trap 'exit 99' HUP INT TERM
update=
[ "${1-}" != --update ] || { update=yes; shift; }
failed=0 done=0

fail() {
    echo "FAILED $case: $*"
    failed=$((failed + 1))
}

# agrees NAME: ./NAME.got is what the case expects.
agrees() {
    [ -z "$update" ] || cp "$1.got" "$cases/$case/$1.expected"
    cmp -s "$cases/$case/$1.expected" "$1.got" && return
    fail "$1 says something else:"
    diff "$cases/$case/$1.expected" "$1.got" | head -n 20
}

files() {
    find db -type f ! -name LOCK -exec cksum {} + | sort
}

# untold LIST: the pairs of LIST that are in no range of ./ranges.
untold() {
    awk 'BEGIN { id["default"] = 0; id["words"] = 1; id["late"] = 3; n = 0 }
        FNR == NR { family[n] = $1; first[n] = $2; last[n++] = $3; next }
        {   key = "x" $2
            for (i = 0; i < n; i++)
                if ((family[i] == "any" || family[i] == id[$1]) &&
                    (first[i] == "-" || first[i] <= key) && (last[i] == "-" || key <= last[i]))
                    next
            print }' ranges "$1"
}

try() {
    rm -rf "$work/case"
    mkdir "$work/case" && cd "$work/case" || exit 99
    "$damage" "$cases/$case/damage" db must all ever
    made=$?
    [ $made -ne 77 ] || { echo "$case cannot be made here"; return; }
    [ $made -eq 0 ] || { fail 'cannot be made'; return; }
    for list in must all ever; do
        sort -o $list $list
    done
    files >before
    "$damage" --verify db | sort | uniq >verify.got
    files >after
    cmp -s before after || fail 'verify changed something'
    agrees verify
    : >ranges
    "$damage" --repair db ranges >repaired
    code=$?
    { sort repaired | uniq; echo "exit $code"; } >repair.got
    agrees repair
    files >after
    [ $code -ne 0 ] || cmp -s before after || fail 'repair changed something and says it did not'
    [ $code -ne 8 ] || return
    "$damage" --verify db >second || fail 'not clean after the repair' "$(head -n 3 second)"
    "$damage" --repair db >second
    code=$?
    # What may have been lost may be said again; to do is nothing.
    [ $code -eq 0 ] || [ $code -eq 64 ] || fail "a second repair ends with $code"
    files >again
    cmp -s after again || fail 'a second repair changes something'
    "$damage" --pairs db >pairs || fail 'cannot be read after the repair'
    sed 's/^recovered-1 /words /; s/^recovered-3 /late /' pairs | sort >got
    comm -23 must got >lost
    [ ! -s lost ] || fail "$(wc -l <lost) pairs are gone that were not hit"
    { comm -23 all got; comm -13 all got; } | sort -u >other
    if ! grep -q '^forges' "$cases/$case/damage"; then
        untold other >silent
        [ ! -s silent ] || fail "$(wc -l <silent) pairs are other than before, and in no range"
    fi
    comm -13 ever got >strange
    [ ! -s strange ] || grep -q '^forges' "$cases/$case/damage" || fail "$(wc -l <strange) pairs were never written"
    grep -q '^lost:' repair.got || cmp -s all got || [ ! -s verify.got ] ||
        grep -q '^forges' "$cases/$case/damage" || fail 'pairs differ, and the report says nothing'
}

[ $# -gt 0 ] || set -- "$cases"/*/damage
for case; do
    case=${case%/damage}
    case=${case##*/}
    try
    done=$((done + 1))
done
echo "$done cases, $failed failures"
[ $failed -eq 0 ]
