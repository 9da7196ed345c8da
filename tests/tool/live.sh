#!/bin/sh
# The tools on a database that others have open: one more process each.
. "${top_srcdir:?}/tests/tool/prelude.sh"

# A loader that waits for its input has the database open.
mkfifo pipe
lsm-load -T --create --batch=1 db <pipe >load.out 2>load.err &
loader=$!
exec 3>pipe
printf 'a\n1\nb\n2\nd\n4\n' >&3 # it writes a pair when the next one comes
sees() {
    lsm-dump -p db >seen 2>/dev/null && grep -qx " $1" seen
}
await 'a pair of the loader is there' sees 2

expect 0 lsm-compact --status db
expect 0 lsm-compact --bottommost=force db
printf 'b\nlater\nmine\nx\n' | lsm-load -q -T db || fail 'a second loader'
expect 1 lsm-load -T -n -f /dev/stdin db <<END
a
other
END
printf 'c\n3\nlost\n5\n' >&3
await 'the loader goes on' sees 3
expect 0 lsm-dump -p db
pairs out >found
printf 'a 1\nb later\nc 3\nd 4\nmine x\n' >wanted
same found wanted

# A batch of one loader is never larger than the stage file of who opened the database first allows.
mkfifo small
lsm-load -T --create --batch=1 --options=stage_size=64KiB few <small >few.out 2>few.err &
founder=$!
exec 4>small
printf 'a\n1\nb\n2\n' >&4
await 'the founder is there' lsm-dump -f before few
awk 'BEGIN { for (i = 0; i < 5000; i++) printf "k%06d\n%0100d\n", i, i }' >many
expect 0 lsm-load -T -f many few
exec 4>&-
wait $founder || fail 'the founder failed'
expect 0 lsm-dump --digest few
says out 5002

# The loader is killed: what it had said was written stays, and nobody waits for it.
kill -9 $loader
printf 'last\ny\n' | lsm-load -q -T db || fail 'a loader after the death of another'
wait $loader 2>/dev/null
exec 3>&-
expect 0 lsm-dump -p db
pairs out >found
printf 'a 1\nb later\nc 3\nd 4\nlast y\nmine x\n' >wanted
same found wanted

# Exclusively: nobody else while the one works, and not while others do.
mkfifo third
lsm-load -T --batch=1 db <third >third.out 2>third.err &
third=$!
exec 5>third
printf 'e\nfive\nf\n6\n' >&5
await 'a third loader is there' sees five
expect 8 lsm-load -T -f many --options=exclusive=true db
says err "$third"
exec 5>&-
wait $third || fail 'the third loader failed'
expect 0 lsm-load -q -T -f many --options=exclusive=true db
finish
