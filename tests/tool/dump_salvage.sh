#!/bin/sh
# lsm-dump --salvage: everything that is whole, and the ranges of what is not.
. "${top_srcdir:?}/tests/tool/prelude.sh"

# Two families in tables of two levels, and a log that no table holds yet: a killed process left it.
awk 'BEGIN { for (i = 0; i < 4000; i++) printf "key%06d\nfirst %d %d\n", i, i, i * i }' >first.text
awk 'BEGIN { for (i = 0; i < 4000; i += 3) printf "key%06d\nsecond %d\n", i, i }' >second.text
expect 0 lsm-load -T --create -f first.text db
printf 'a\n1\nb\n2\n' | lsm-load -q -T --create -s 'other one' db
# Keys that came and went, and the tables that a compaction replaced.
printf 'put 0 100 10\nflush\n' | holder db '' >said
mkdir replaced
cp db/*.sst replaced
printf 'delete 0 100\nflush\ncompact\n' | holder db '' >said
lsm-compact -q db
expect 0 lsm-load -T -f second.text db
mkfifo orders
holder db '' <orders >said 2>&1 &
pid=$!
exec 5>orders
echo 'put 0 300 40' >&5
echo 'delete 10 20' >&5
echo 'put 5 3 7' >&5
echo sync >&5
echo 'put 400 2 9' >&5
echo sync >&5
# shellcheck disable=SC2016 # for the inner shell
await 'the holder wrote' sh -c '[ "$(grep -c ok said)" = 7 ]'

# While others have it open, and after a kill: byte by byte the same as without --salvage.
same_dumps() {
    for options in '' -p --compat=lmdb --compat=native --compat=jsonl '--cf default --prefix=key001' \
        '--start=key003 --end=key-00000015' '--digest' '-l'; do
        # shellcheck disable=SC2086 # a list
        expect 0 lsm-dump $options "$1"
        cp out wanted
        # shellcheck disable=SC2086
        expect 0 lsm-dump --salvage $options "$1"
        same out wanted
        [ ! -s err ] || { fail "salvage of $1 complains:"; cat err; }
    done
}
same_dumps db
kill -KILL "$pid"
wait "$pid" 2>wait.err
exec 5>&-
find db -type f -exec cksum {} + | sort >sums
same_dumps db
find db -type f -exec cksum {} + | sort >got
same got sums
lsm-dump db >whole.dump
lsm-dump -p db >whole.text

# Every version, the newest last; loading them gives the newest again, but for deleted keys.
expect 0 lsm-dump -R -p --cf default --prefix=key000003 db
awk '/^ /' out >got
printf ' key000003\n first 3 9\n key000003\n second 3\n' >wanted
same got wanted
expect 0 lsm-dump -p --aggressive --cf default --prefix=key-00000006 db
[ "$(grep -c '^ key-' out)" = 2 ] || fail 'not both versions of key-00000006'
expect 0 lsm-dump --aggressive -p --cf default --prefix=key-00000012 db
[ "$(grep -c '^ key-' out)" = 1 ] || fail 'the version before the deletion is not there'

# A block: its keys are missing or older, all others are there, nothing else is.
big=$(find db -name '*.sst' -size +20k -exec ls -S {} + | head -n 1)
big=$(basename "$big")
cp -r db bad
printf damagedamage | dd of="bad/$big" bs=1 seek=9000 conv=notrunc 2>dd.err
expect 4 lsm-dump bad
tail -n 1 out >last
lacks last DATA=END
expect 68 lsm-dump -r --show-data --cf default bad
cp out got.dump
cp err gap
says got.dump DATA=END
[ "$(grep -c 'gap:' gap)" = 1 ] || fail 'not one gap'
says gap "'$big' at offset"
first=$(sed -n "s/.*keys from '\([^']*\)' to .*/\1/p" gap)
last=$(sed -n "s/.* to '\([^']*\)' may be.*/\1/p" gap)
if [ -z "$first" ] || [ -z "$last" ]; then fail "no range in $(cat gap)"; fi
lsm-dump -p --cf default bad >strict.text 2>strict.err
lsm-dump -rp --cf default bad >got.text 2>err
pairs got.text >got.pairs
lsm-dump -p --cf default db >default.text
pairs default.text >whole.pairs
awk -v first="$first" -v last="$last" '$1 < first || $1 > last' whole.pairs >wanted
awk -v first="$first" -v last="$last" '$1 < first || $1 > last' got.pairs >got
same got wanted
[ "$(wc -l <got.pairs)" -lt "$(wc -l <whole.pairs)" ] || fail 'nothing is missing'
[ "$(wc -l <got.pairs)" -gt 3700 ] || fail 'more than a block is missing'
expect 68 lsm-dump -r --cf default bad
says err '[9 bytes]'
lacks err "$first"
expect 68 lsm-dump --salvage --compat=lmdb -f file bad
[ "$(grep -c 'gap:' err)" = 1 ] || fail 'a gap was told twice'
says file DATA=END
expect 0 lsm-load --create -f file loaded
rm -r file loaded

# Where the damage is not asked for there is none.
expect 0 lsm-dump -r --cf 'other one' bad
expect 0 lsm-dump -r --cf default --start=zz bad
expect 68 lsm-dump -r --digest --json bad
[ "$(json_lines exit <out)" = 68 ] || fail 'no exit code in the JSON object'

# Parts without which every block is found: damage, but nothing is lost.
for place in footer index; do
    rm -rf bad
    cp -r db bad
    size=$(stat -c %s "bad/$big")
    at=$((size - 4090))
    if [ $place = index ]; then
        at=$(($(lsm-dump --sst="$big" db | sed -n 's/.*name=index .*offset=\([0-9]*\).*/\1/p') + 60))
    fi
    printf damagedamage | dd of="bad/$big" bs=1 seek=$at conv=notrunc 2>dd.err
    expect 4 lsm-dump -r bad
    same out whole.dump
    says err 'nothing is lost by it'
done

# A table that is gone or cut off.
rm -rf bad
cp -r db bad
rm "bad/$big"
expect 68 lsm-dump -rp bad
says err "'$big'"
pairs out >got.pairs
grep -c second got.pairs >count
[ "$(cat count)" = 1334 ] || fail "$(cat count) of the 1334 keys in other tables"
cp "db/$big" bad
truncate -s 20000 "bad/$big"
expect 68 lsm-dump -r bad

# The log: a record is skipped, or put right when only one byte is wrong.
wal=$(find db -name '*.wal' | head -n 1)
wal=$(basename "$wal")
record=$(lsm-dump --wal="$wal" --show-data db | grep -B1 "key='key-00000100'" | head -n 1)
at=$(echo "$record" | sed 's/.*offset=\([0-9]*\) .*/\1/')
for damage in 'x' damagedamage; do
    rm -rf bad
    cp -r db bad
    rm bad/STAGE # which has the record, too
    printf '%s' $damage | dd of="bad/$wal" bs=1 seek=$((at + 60)) conv=notrunc 2>dd.err
    expect 4 lsm-dump bad
    if [ $damage = x ]; then
        expect 4 lsm-dump -r bad
        same out whole.dump
        says err 'nothing is lost by it'
        continue
    fi
    expect 68 lsm-dump -r -p bad
    says err "any family: keys from the first to the last may be missing, or older than they were: '$wal'"
    [ "$(diff whole.text out | grep -c '^<')" = 2 ] || fail 'not just one pair is missing'
    [ "$(diff whole.text out | grep -c '^>')" = 0 ] || fail 'something came up'
done
cp db/STAGE bad
expect 4 lsm-dump -r bad
same out whole.dump

# Without CURRENT, without manifests, without both: the tables say which of them are live.
for lost in CURRENT 'MANIFEST-*' 'CURRENT MANIFEST-*'; do
    rm -rf bad
    cp -r db bad
    # shellcheck disable=SC2086 # a list
    (cd bad && rm $lost)
    expect 4 lsm-dump bad
    cp -n replaced/*.sst bad # as a kill leaves them: nothing of them comes back
    expect 4 lsm-dump -R -p --prefix=key-00000050 bad
    [ "$(grep -c '^ key-00000050' out)" -ge 2 ] || fail 'the replaced version is not there'
    expect 4 lsm-dump -r bad
    same out whole.dump
    says err 'the tables themselves say which of them are live'
    expect 4 lsm-dump -r -l bad
    printf 'default\nother one\n' >wanted
    same out wanted
done
manifest=$(sed -n 's/^manifest //p' db/CURRENT)
rm -rf bad
cp -r db bad
printf damagedamage | dd of="$(printf 'bad/MANIFEST-%06d' "$manifest")" bs=1 seek=100 conv=notrunc \
    2>dd.err
expect 4 lsm-dump -r bad
same out whole.dump
rm -rf empty
mkdir empty
expect 8 lsm-dump -r empty
says err 'there is no database'

expect 16 lsm-dump -r --at=1 db
expect 16 lsm-dump -r --manifest db
finish
