#!/bin/sh
# lsm-dump --at: the state of a snapshot that another process holds, and no other.
. "${top_srcdir:?}/tests/tool/prelude.sh"

mkfifo orders
holder db create=true <orders >said 2>&1 &
pid=$!
exec 5>orders
await 'the holder has it open' grep -q ok said

tell() {
    lines=$(grep -c . said)
    echo "$1" >&5
    # shellcheck disable=SC2016 # for the inner shell
    await "the holder did '$1'" sh -c '[ "$(grep -c . said)" -gt "$1" ] && tail -n 1 said | grep -q ok' \
        sh "$lines"
}

tell 'put 0 100 10'
lsm-dump db >wanted
tell snapshot
sequence=$(lsm-dump --json --digest db | json_lines sequence)
tell token
token=$(grep lsm1- said)
tell 'delete 0 50'
tell 'put 200 10 4'
tell compact
lsm-dump db >now
cmp -s wanted now && fail 'nothing changed'

expect 0 lsm-dump --at="$token" db
same out wanted
expect 0 lsm-dump --at="$sequence" db
same out wanted
expect 0 lsm-dump --at="$token" --digest --json db
[ "$(json_lines sequence <out)" = "$sequence" ] || fail "the token's sequence is not $sequence"
newest=$(lsm-dump --json --digest db | json_lines sequence)
expect 0 lsm-dump --at="$newest" db
same out now

# Not held: said, with nothing written.
expect 8 lsm-dump --at=$((sequence - 1)) -f file db
says err "the newest is $newest"
expect 8 lsm-dump --at=$((newest + 1)) -f file db
[ ! -e file ] || fail 'a refused dump left a file'
expect 16 lsm-dump --at="${token}0" db
expect 16 lsm-dump --at=yesterday db
tell release
expect 8 lsm-dump --at="$token" db
says err released
expect 8 lsm-dump --at="$sequence" db

# Nobody has it open: only the newest state is there.
exec 5>&-
wait "$pid" || fail 'the holder failed'
expect 8 lsm-dump --at="$token" db
says err 'not held any more'
newest=$(lsm-dump --json --digest db | json_lines sequence)
expect 0 lsm-dump --at="$newest" db
expect 8 lsm-dump --at="$sequence" db
finish
