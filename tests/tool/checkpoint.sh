#!/bin/sh
# lsm-dump --checkpoint: a database of one moment of another one that is written to meanwhile. It is
# sound, has its own life, and is there whole or not at all.
. "${top_srcdir:?}/tests/tool/prelude.sh"
XDG_STATE_HOME=$work/state
export XDG_STATE_HOME

# absent FILE...: none of them is there.
absent() {
    for file; do
        [ ! -e "$file" ] || fail "there is '$file'"
    done
}
links() { stat -c %h "$1"/*.sst | sort -n | tail -n 1; }

mkfifo orders
holder db create=true,memtable_size=256KiB,table_size=64KiB <orders >said 2>&1 &
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

tell 'put 0 3000 300'
tell flush
tell 'put 3000 100 300'
lsm-dump db >wanted

# Beside who has it open: what it held, in tables and in memory.
expect 0 lsm-dump --checkpoint=copy db
[ ! -s out ] || fail "a checkpoint without -v says '$(cat out)'"
[ ! -s err ] || fail "a checkpoint without -v says '$(cat err)'"
absent copy.partial
[ "$(links copy)" = 2 ] || fail 'no table is shared'
expect 0 lsm-dump -v --checkpoint=own --copy db
says err 'own'
[ "$(links own)" = 1 ] || fail 'a table of --copy is shared'
tell 'put 0 3000 200'
tell 'delete 100 500'
tell compact
for made in copy own; do
    expect 0 lsm-verify --level=full $made
    [ ! -s err ] || fail "lsm-verify warns of $made: $(cat err)"
    lacks out 2-hard-link
    expect 0 lsm-dump $made
    cmp -s out wanted || fail "the dump differs"
done
expect 0 lsm-verify db

expect 0 lsm-dump --json --checkpoint=third db
[ "$(json_lines checkpoint <out)" = third ] || fail 'the JSON does not say what was made'

# What is there already stays.
expect 8 lsm-dump --checkpoint=copy db
says err copy
expect 8 lsm-dump --checkpoint=no/where db
expect 8 lsm-dump --checkpoint=new nothing
absent new new.partial
expect 16 lsm-dump --copy db
expect 16 lsm-dump --checkpoint=new --at=3 db
expect 16 lsm-dump --checkpoint=new -l db
expect 16 lsm-dump --checkpoint=new --cf=default db

# A copy that is slow enough to be ended leaves nothing; one that is killed is cleared up.
lsm-dump --copy --rate=1K --checkpoint=slow db 2>slow.err &
slow=$!
await 'the copy has begun' sh -c 'ls slow.partial/*.sst 2>&1 | grep -q "sst$"'
expect 8 lsm-dump --checkpoint=slow db
says err slow.partial
kill -INT $slow
wait $slow
[ $? = 32 ] || fail "an interrupted checkpoint ended with $?"
absent slow slow.partial
lsm-dump --copy --rate=1K --checkpoint=slow db 2>slow.err &
slow=$!
await 'the copy has begun' sh -c 'ls slow.partial/*.sst 2>&1 | grep -q "sst$"'
kill -KILL $slow
wait $slow 2>killed
[ -d slow.partial ] || fail 'a killed checkpoint is not in slow.partial'
absent slow
expect 0 lsm-dump --checkpoint=slow db
absent slow.partial
expect 0 lsm-verify slow

echo 'put 0 0 0' >&5
exec 5>&-
wait $pid || fail 'the holder'

# Damage to what is shared is in both; a repair of one writes nothing into the other's file.
expect 0 lsm-dump --checkpoint=shared db
table=$(find shared -name '*.sst' -size +8 | sort | head -n 1)
name=$(basename "$table")
[ "$(stat -c %h "$table")" -gt 1 ] || fail "$name is not shared"
printf 'X' | dd of="$table" bs=1 seek=5000 conv=notrunc 2>dd.err
expect 4 lsm-verify shared
expect 4 lsm-verify db
cp "db/$name" damaged
expect 1 lsm-repair -y shared
expect 0 lsm-verify shared
same "db/$name" damaged
expect 1 lsm-repair -y db
expect 0 lsm-verify db

# Nobody has it open, and the log is all there is.
expect 0 lsm-dump --checkpoint=closed db
lsm-dump db >wanted
expect 0 lsm-dump closed
cmp -s out wanted || fail "the dump differs"
expect 0 lsm-verify closed
finish
