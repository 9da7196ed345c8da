#!/bin/sh
# The bar and the lines of -C.
. "${top_srcdir:?}/tests/tool/prelude.sh"
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "k%06d\n%0100d\n", i, i }' >input
expect 0 lsm-load -T --create -f input db
[ ! -s err ] || fail 'a bar without a terminal'
lsm-load -T --create -f input -C 5 db 5>lines >/dev/null || fail 'lsm-load -C'
awk 'NF != 4 || $1 != 1 || $4 != "load" || $2 > $3 { exit 1 } END { if (NR < 1) exit 1 }' lines ||
    { fail 'lines of -C are not "pass current maximum name"'; cat lines; }
[ "$(tail -n 1 lines | awk '{ print $2 == $3 }')" = 1 ] || fail 'the last line is not the end'
expect 0 lsm-load -T --progress=always -f input db
says err 'load ['
says err '/s'
awk 'BEGIN { RS = "\r" } length($0) > 85 { exit 1 }' err || fail 'the bar is wider than a terminal'
tail -c 4 err | od -An -c | grep -q '033   \[   K' || fail 'the bar is not cleared at the end'
expect 0 lsm-dump --progress=always --rate=1M db
says err 'default ['
expect 0 lsm-load -T --progress=never -f input db
[ ! -s err ] || fail 'a bar in spite of --progress=never'
mkfifo pipe
cat input >pipe &
expect 0 lsm-load -T --progress=always db <pipe
lacks err ETA

# A message clears the bar before it.
printf 'odd\n' >>input
expect 8 lsm-load -T --progress=always -f input db
awk 'BEGIN { RS = "\r" } /has no value/ { found = 1; if ($0 !~ /^\033\[Klsm-load: /) exit 1 }
     END { if (!found) exit 1 }' err || fail 'the bar stands in front of the message'

# SIGUSR1 turns it on, SIGUSR2 off.
is_cleared() {
    tail -c 4 err | od -An -c | grep -q '\\r 033   \[   K'
}
: >lines
lsm-dump --rate=10K -C 4 db 4>lines >/dev/null 2>err &
dumper=$!
await 'the dump has begun' [ -s lines ]
[ ! -s err ] || fail 'a bar before SIGUSR1'
kill -USR1 $dumper
await 'SIGUSR1 draws a bar' [ -s err ]
kill -USR2 $dumper
await 'SIGUSR2 clears the bar' is_cleared
kill -TERM $dumper
wait $dumper
[ $? = 32 ] || fail 'SIGTERM does not end it with 32'
finish
