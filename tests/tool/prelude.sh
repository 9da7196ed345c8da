# What the scripts beside it share; they read it with '.'. The tools of the build come first in PATH.
# shellcheck shell=sh
set -u
: "${top_builddir:?run me with make check}" "${top_srcdir:?}"
PATH=$top_builddir:$top_builddir/tests/tool:$PATH
LC_ALL=C
export PATH LC_ALL
work=$(mktemp -d "${TMPDIR:-/tmp}/lsm-tool.XXXXXX") || exit 99
trap 'rm -rf "$work"' EXIT
trap 'exit 99' HUP INT TERM
cd "$work" || exit 99
failed=0

# need COMMAND...: skips the script when one is absent.
need() {
    for command; do
        command -v "$command" >/dev/null || { echo "$command is absent"; exit 77; }
    done
}

fail() {
    echo "FAILED: $*"
    failed=1
}

# expect CODE COMMAND...: runs it with stdout in ./out and stderr in ./err.
expect() {
    wanted=$1
    shift
    "$@" >out 2>err
    code=$?
    [ "$code" = "$wanted" ] && return
    fail "exit code $code instead of $wanted: $*"
    sed 's/^/    /' out err | head -n 20
}

# says FILE TEXT: the file holds the text.
says() {
    grep -qF -e "$2" "$1" && return
    fail "'$2' is not in $1:"
    head -n 20 "$1"
}

lacks() {
    ! grep -qF -e "$2" "$1" || fail "'$2' is in $1"
}

same() {
    cmp -s "$1" "$2" && return
    fail "$1 and $2 differ:"
    diff "$1" "$2" | head -n 20
}

# pairs FILE: the pairs of a dump as "key value" lines, sorted; sections are put together.
pairs() {
    awk '/^ / { if (have) { print key " " substr($0, 2); have = 0 }
                else { key = substr($0, 2); have = 1 } }' "$1" | sort
}

# random_dump SEED COUNT: a dump in bytevalue format of pseudo-random binary pairs: every byte as
# a key and as a value, empty values, keys up to 40 bytes, values up to 300, and one of 70,000.
random_dump() {
    echo "seed $1" >&2
    printf 'VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n'
    awk -v seed="$1" -v count="$2" '
        function bytes(n,   s) {
            s = ""
            while (n-- > 0)
                s = s sprintf("%02x", int(rand() * 256))
            return s
        }
        BEGIN {
            srand(seed)
            for (i = 0; i < 256; i++)
                printf " %02x\n %02x\n", i, 255 - i
            print " 5c6b65790a"; print " 5c0a5c5c00ff"
            print " 656d707479"; print " "
            print " 6c6f6e67"; print " " bytes(70000)
            for (i = 0; i < count; i++) {
                print " " bytes(4 + int(rand() * 36)) sprintf("%06x", i)
                print " " bytes(int(rand() * rand() * 300))
            }
        }'
    echo DATA=END
}

# await WHAT COMMAND...: until the command succeeds, 20 s at most.
await() {
    what=$1
    tries=0
    shift
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || { fail "waited in vain until $what"; return; }
        sleep 0.1
    done
}

finish() {
    exit $failed
}
