#!/bin/sh
# Signals end a tool with 32 and leave the database whole; where it is held exclusively a second
# process is told who holds it.
. "${top_srcdir:?}/tests/tool/prelude.sh"
printf 'a\n1\n' | lsm-load -q -T --create db

# A loader that waits for its input holds the database.
mkfifo pipe
lsm-load -T --batch=1 --options=exclusive=true db <pipe >load.out 2>load.err &
loader=$!
exec 3>pipe
printf 'b\n2\nc\n3\n' >&3
is_busy() {
    ! lsm-dump db 2>busy.err >/dev/null
}
await 'the loader has opened the database' is_busy
says busy.err "$loader"
for tool in 'lsm-dump' 'lsm-compact' 'lsm-load -T -f /dev/null'; do
    # shellcheck disable=SC2086 # a list
    expect 8 $tool db
    says err "$loader"
done
kill -INT $loader
wait $loader
code=$?
exec 3>&-
[ $code = 32 ] || fail "SIGINT ended lsm-load with $code instead of 32"
says load.err cancelled
expect 0 lsm-dump -p db
says out ' b'

# A dump that is ended by a signal has no end, and -f leaves what was there.
awk 'BEGIN { for (i = 0; i < 2000; i++) printf "k%06d\n%0100d\n", i, i }' | lsm-load -q -T db
echo before >file
for how in stdout file; do
    : >lines
    if [ $how = file ]; then
        lsm-dump --rate=10K -C 4 -f file db 4>lines 2>err &
    else
        lsm-dump --rate=10K -C 4 db 4>lines >dump.out 2>err &
    fi
    dumper=$!
    await 'the dump has begun' [ -s lines ]
    kill -TERM $dumper
    wait $dumper
    code=$?
    [ $code = 32 ] || fail "SIGTERM ended lsm-dump with $code instead of 32"
done
grep -q '^ ' dump.out || fail 'nothing was dumped before the signal'
lacks dump.out DATA=END
says file before
[ "$(find . -name '*.tmp' | wc -l)" = 0 ] || fail 'a temporary file is left'
expect 0 lsm-dump --digest db
finish
