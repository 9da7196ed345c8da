#!/bin/sh
# lsm-compact beside others: who merges what, stopping it from another process, being stopped.
. "${top_srcdir:?}/tests/tool/prelude.sh"
# Values that do not compress, so that --rate makes the merge take its time.
awk 'BEGIN { srand(7); for (i = 0; i < 6000; i++) {
    v = ""; for (j = 0; j < 125; j++) v = v sprintf("%08x", int(rand() * 4294967295))
    printf "k%06d\n%s\n", i, v } }' | lsm-load -q -T --create db || fail 'lsm-load'
expect 0 lsm-compact -q db
lsm-dump --digest db >wanted
expect 0 lsm-compact --status db
says out 'no process has it open'
expect 0 lsm-compact --cancel db
says out 'no compaction by hand is running'

# Somebody has it open, and does nothing.
mkfifo commands
holder db create=false <commands >holder.out &
exec 3>commands
is_open() { grep -q ok holder.out; }
await 'the holder has it open' is_open
expect 0 lsm-compact --status db
says out 'nothing is being merged'
says out 'no writer waits'
expect 0 lsm-compact --cancel --json db
[ "$(json_lines asked <out)" = 0 ] || fail 'somebody was asked'

# begin: a compaction that takes long, in the background.
begin() {
    : >lines
    lsm-compact --bottommost=force --compression=none --rate=1M -C 4 db 4>lines \
        >compact.out 2>compact.err &
    compactor=$!
    await 'the compaction has begun' [ -s lines ]
}
is_merging() {
    lsm-compact --status db >status.out 2>&1
    grep -q "^merge .*process $compactor " status.out
}
begin
await 'its merge is shown' is_merging
says status.out "asked for  'default' by process $compactor ('lsm-compact')"
expect 0 lsm-compact --status --json db
[ "$(json_lines merges.0.process <out)" = "$compactor" ] || fail 'who merges is not in JSON'
[ "$(json_lines merges.0.manual <out)" = true ] || fail 'a merge by hand is not one in JSON'
[ "$(json_lines asked-for.0.calls <out)" = 1 ] || fail 'the call is not in JSON'
lsm-stat db >stat.out
says stat.out "manual merge of 'default'"

expect 0 lsm-compact --cancel db
says out 'asked 1 compaction to stop'
wait $compactor
code=$?
[ $code = 32 ] || { fail "a cancelled compaction ends with $code"; cat compact.err; }
says compact.err 'cancelled by another process'
expect 0 lsm-compact --status db
says out 'nothing is being merged'
lsm-dump --digest db >got
same got wanted

# A signal does the same.
begin
await 'its merge is shown' is_merging
kill -INT "$compactor"
wait $compactor
code=$?
[ $code = 32 ] || fail "SIGINT ended lsm-compact with $code instead of 32"
lsm-dump --digest db >got
same got wanted

# One that was killed leaves a claim that is taken back, and a database that is whole.
begin
await 'its merge is shown' is_merging
kill -KILL "$compactor"
wait $compactor 2>/dev/null
is_idle() {
    lsm-compact --status db | grep -q 'nothing is being merged'
}
await 'the dead one was cleaned up after' is_idle
expect 0 lsm-compact --cancel db
lsm-dump --digest db >got
same got wanted

# Another writes meanwhile, and both are content.
echo 'put 0 5000 100' >&3
expect 0 lsm-compact --bottommost=force db
exec 3>&-
wait
[ "$(grep -c '^ok$' holder.out)" = 2 ] || { fail 'the holder failed'; cat holder.out; }
[ "$(lsm-dump db | grep -c '^ ')" = 22000 ] || fail 'entries are missing'
finish
