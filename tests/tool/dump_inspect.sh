#!/bin/sh
# What lsm-dump shows of files: on whole ones, on damaged ones, on single ones, as text and as JSON.
. "${top_srcdir:?}/tests/tool/prelude.sh"

# Two tables of two families, one version of a key in each of two tables and one in the log.
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "key%06d\nfirst %d %d\n", i, i, i * i }' >first.text
expect 0 lsm-load -T --create -f first.text db
printf 'a\n1\nb\n2\n' | lsm-load -q -T --create -s 'other one' db
lsm-compact -q db
expect 0 lsm-dump --manifest db
says out 'remove file='
expect 0 lsm-dump "--manifest=$(find db -name 'MANIFEST-*' | head -n 1)"
printf 'key-00000007\nsecond\nkey000007\nsecond\n' | lsm-load -q -T db
mkfifo orders
holder db '' <orders >said 2>&1 &
pid=$!
exec 5>orders
printf 'put 0 40 30\ndelete 7 1\nsync\n' >&5
# shellcheck disable=SC2016 # for the inner shell
await 'the holder wrote' sh -c '[ "$(grep -c ok said)" = 4 ]'

# Of a database that others have open; nothing is changed.
for options in --manifest --wal=all --blocks --layout '--find=a' --properties; do
    expect 0 lsm-dump "$options" db
    [ -s out ] || fail "$options shows nothing"
done
# A segment and a manifest that the holder has made and not written to yet are no damage.
for name in 999999.wal MANIFEST-999999; do
    head -c 8192 /dev/zero >"db/$name"
    expect 0 lsm-dump --layout db
    says out "$name"
    rm "db/$name"
done
kill -KILL "$pid"
wait "$pid" 2>wait.err
exec 5>&-
head -c 8192 /dev/zero >db/999999.wal
expect 4 lsm-dump --layout db
rm db/999999.wal
find db -type f -exec cksum {} + | sort >sums

# ---- whole ones
expect 0 lsm-dump --manifest db
says out "create family=1 name='other one'"
says out 'damages=0'
lacks out key0
expect 0 lsm-dump --manifest --show-data db
says out "smallest='key000000'"
big=$(find db -name '*.sst' -size +20k -exec ls -S {} + | head -n 1)
big=$(basename "$big")
expect 0 lsm-dump --sst="$big" db
for part in filter index properties footer-1 footer-2; do
    says out "name=$part state=sound"
done
says out 'entries=3000 damages=0'
lacks out key0
cp out wanted
expect 0 lsm-dump --sst="$(echo "$big" | sed 's/^0*\([0-9]*\).*/\1/')" db
same out wanted
expect 0 lsm-dump --sst="db/$big"
same out wanted
cp "db/$big" ./elsewhere # another name, and nothing around it
expect 0 lsm-dump --sst=./elsewhere
says out 'entries=3000 damages=0'
expect 0 lsm-dump --blocks --sst="$big" db
blocks=$(grep -c ' block offset' out)
expect 0 lsm-dump --index --show-data --sst="$big" db
[ "$(grep -c ' separator block' out)" = "$blocks" ] || fail 'not one separator a block'
expect 0 lsm-dump --filter --sst="$big" db
says out keys=3000
expect 0 lsm-dump --properties --sst="$big" db
says out 'replaced file='
expect 0 lsm-dump --internal --cf 'other one' --show-data db
printf 'a@%s:put => 1\n' "$(sed -n 's/^a@\([0-9]*\).*/\1/p' out)" >wanted
head -n 1 out >got
same got wanted
expect 0 lsm-dump --internal --prefix=key000007 db
[ "$(grep -c '^key000007@[0-9]*:put$' out)" = 2 ] || fail 'not both versions of key000007'
expect 0 lsm-dump --wal=all db
says out 'entries=41'
lacks out key-
wal=$(basename "$(find db -name '*.wal')")
expect 0 lsm-dump --wal="$wal" --show-data db
says out "put family=0 name='default' key='key-00000039'"
says out "delete family=0 name='default' key='key-00000007'"
expect 0 lsm-dump --wal "db/$wal"
says out "segment file=$wal state=sound"

# --find: all three places, and where they came from.
expect 0 lsm-dump --find=key-00000007 db
[ "$(grep -c '^log family=0' out)" = 2 ] || fail 'not both records of the log'
says out 'type=delete'
says out 'type=put'
[ "$(grep -c '^  entry' out)" = 1 ] || fail 'not the one entry of a table'
says out 'level=0 state=live'
says out 'added manifest=MANIFEST-'
expect 0 lsm-dump --find=6b657930303030 --key-format=hex db
says out places=0
expect 0 lsm-dump --find=key000007 db
says out places=2
says out 'made job='
says out 'replaced file='
expect 0 lsm-dump --find=a --cf default db
says out places=0

# --layout: every byte of every file is in an extent.
expect 0 lsm-dump --layout db
awk '/^file/ { if (NR > 1 && at != bytes) print name; split($3, b, "="); bytes = b[2]; at = 0; name = $2 }
     / \.\. / { if ($1 != at) print name " at " at; at = $3 }
     END { if (at != bytes) print name }' out >gaps
[ ! -s gaps ] || fail "layout has gaps: $(cat gaps)"

# JSON everywhere.
for options in --manifest --wal=all --blocks --index --filter --properties --internal --layout \
    --find=key000007 "--sst=$big"; do
    expect 0 lsm-dump --json "$options" db
    cp out lines
    expect 0 json_lines <lines
    tail -n 1 lines | grep -q '"record":"end","exit":0' || fail "no end in the JSON of $options"
    [ "$options" = --find=key000007 ] && options=--find=a2V5
    expect 0 lsm-dump --json --show-data --key-format=base64 "$options" db
    cp out lines
    expect 0 json_lines <lines
done
find db -type f -exec cksum {} + | sort >got
same got sums

# ---- damaged ones: exit code 4, with everything else
damage() { # FILE OFFSET
    rm -rf bad
    cp -r db bad
    printf damagedamage | dd of="bad/$1" bs=1 seek="$2" conv=notrunc 2>dd.err
}
damage "$big" 9000
expect 4 lsm-dump --sst="$big" bad
says out 'id=4-block-checksum'
says out damages=1
expect 4 lsm-dump --internal bad
[ "$(grep -c @ out)" -gt 2500 ] || fail 'one block takes all entries away'
expect 4 lsm-dump --layout bad
says out 'damage: 4-block-checksum'
key=$(lsm-dump --sst="$big" --show-data bad 2>err | sed -n "s/.*after='\([^']*\)'.*/\1/p")
expect 4 lsm-dump --find="$key" bad
says out 'id=4-block-checksum'
manifest=$(sed -n 's/^manifest //p' db/CURRENT)
manifest=$(printf 'MANIFEST-%06d' "$manifest")
damage "$manifest" 100
expect 4 lsm-dump --manifest bad
says out 'id=1-frame-checksum'
expect 4 lsm-dump --json --manifest bad
cp out lines
expect 0 json_lines <lines
expect 4 lsm-dump --blocks bad
expect 0 lsm-dump --sst="$big" bad
damage "$wal" 100
expect 4 lsm-dump --wal=all bad
damage CURRENT 3
expect 4 lsm-dump --manifest bad
expect 0 lsm-dump --manifest="$manifest" bad
expect 0 lsm-dump --sst="$big" bad
for file in "$big" "$wal" "$manifest" CURRENT STAGE; do
    rm -rf bad
    cp -r db bad
    : >"bad/$file"
    for options in --manifest --wal=all --blocks --layout --find=key000007 --image=image; do
        lsm-dump $options bad >out 2>err
        code=$?
        [ $code = 0 ] || [ $code = 4 ] || fail "$options with an empty $file ends with $code"
    done
done

# ---- images: no byte of the user's, and what is needed to see what happened
lsm-load -q -T --create -s 'Secret Family' secret <<'END'
Confidential Key
Private Value
END
mkfifo commands
holder secret '' <commands >said 2>&1 &
pid=$!
exec 5>commands
printf 'put 0 10 30\nsync\n' >&5
# shellcheck disable=SC2016
await 'the holder wrote' sh -c '[ "$(grep -c ok said)" = 3 ]'
kill -KILL "$pid"
wait "$pid" 2>wait.err
expect 0 lsm-dump --image=image secret
cp image lines
expect 0 json_lines <lines
for word in Secret Family Confidential Private key-0000 secret; do
    lacks image "$word"
done
[ "$(json_lines record <image | sort -u | tr '\n' ' ')" = \
    'add block create end file frame log manifest numbers part properties put record segment stage sum system table ' ] ||
    fail "records of the image: $(json_lines record <image | sort -u | tr '\n' ' ')"
damage "$big" 9000
expect 4 lsm-dump --image=image bad
says image 4-block-checksum
lacks image key0
lacks image bad/
expect 0 lsm-dump --image=again secret
! cmp -s image again || fail 'two images have the same secret'

# ---- tables that were taken in whole, and not merged yet: their blocks say no sequence number
printf 'key000007\nolder\n' | lsm-load -q -T --create taken || fail 'lsm-load'
expect 0 lsm-compact -q taken
lsm-load -q -T --bulk --options=workers=none -f first.text taken || fail 'lsm-load --bulk'
sequence=$(lsm-dump --internal --prefix=key000008 taken | sed -n 's/^key000008@\([0-9]*\):put$/\1/p')
[ "$sequence" -gt 1 ] || fail "key000008 has the sequence number '$sequence'"
printf 'key000007\nnewer\n' | lsm-load -q -T --options=workers=none taken || fail 'lsm-load'
table=$(lsm-dump --find=key000008 taken | sed -n 's/^table file=\([0-9]*.sst\).*/\1/p')
lsm-dump --blocks --sst="$table" taken >out
says out 'min_sequence=0 max_sequence=0'
lsm-dump -p --digest taken >wanted.digest
lsm-dump -R -p --prefix=key000007 taken >wanted.versions

# in_order DIR: all looks at it show that number, and the value in the middle is in the middle.
in_order() {
    lsm-dump --internal --sst="$table" --prefix=key000008 "$1" >out 2>err
    says out "key000008@$sequence:put"
    lsm-dump --find=key000008 "$1" >out 2>err
    says out "entry sequence=$sequence type=put"
    lsm-dump -q -R -p --prefix=key000007 "$1" >got
    same got wanted.versions
    lsm-dump -q -r --digest "$1" >got
    same got wanted.digest
}
in_order taken
# Without a manifest the properties tell, without properties the manifest does.
rm -rf bad
cp -r taken bad
rm bad/MANIFEST-* bad/CURRENT
in_order bad
rm -rf bad
cp -r taken bad
offset=$(lsm-dump --sst="$table" taken | sed -n 's/.*properties.*offset=\([0-9]*\).*/\1/p' | head -n 1)
[ -n "$offset" ] || fail 'no offset of the properties'
printf damagedamage | dd of="bad/$table" bs=1 seek=$((offset + 40)) conv=notrunc 2>dd.err
lsm-dump --sst="$table" bad >out
says out 'part name=properties state=damaged'
in_order bad

# ---- names that come and go: what is gone when its turn comes is no damage
while [ ! -e stop_it ]; do
    : >taken/000900.tmp
    rm taken/000900.tmp
done &
comes_and_goes=$!
good=0
for round in $(seq 100); do
    lsm-dump --layout taken >out 2>err || break
    good=$round
done
: >stop_it
wait "$comes_and_goes"
[ "$good" = 100 ] || fail "a file that went away: $(cat err)"

# ---- while others write as fast as they can, in small files that come and go
small='create=true,wal_segment_size=1MiB,stage_size=256KiB,memtable_size=1MiB'
for writer in 1 2; do
    awk -v w=$writer 'BEGIN { for (i = 0; i < 60; i++) {
        printf "put %d 3000 100\ndelete %d 400\n", w * 1000 + i * 97, w * 500 + i * 13
        if (i % 7 == 0) print "flush"
        if (i % 20 == 0) print "compact" } }' >orders.$writer
    while [ ! -e written_enough ]; do cat orders.$writer; done |
        holder busy "$small" >said.$writer 2>&1 &
    eval "pid_$writer=$!"
done
await 'the writers write' sh -c 'grep -q ok said.1'
for round in 1 2; do
    for options in '--salvage --digest' --blocks --wal=all --find=key-00003000 --layout --manifest \
        --image=image '-R --digest'; do
        # shellcheck disable=SC2086 # a list
        expect 0 lsm-dump $options busy
    done
done
# However slowly it is told: what was read is no longer where it was.
expect 0 lsm-dump --wal=all --rate=1M busy
: >written_enough
# shellcheck disable=SC2154 # set by eval
wait "$pid_1" "$pid_2" || fail 'a writer failed'
echo "$round rounds"
expect 0 lsm-dump --digest busy
cp out wanted
expect 0 lsm-dump --salvage --digest busy
same out wanted

# ---- wrong usage
for options in '--manifest --layout' '--image=x --show-data' '--sst=1 --sst=2' '--layout --at=3' \
    '--blocks --compat=bdb' '--find=\q' "--sst=db/$big" '--manifest=CURRENT' '--wal=LOCK'; do
    # shellcheck disable=SC2086 # a list
    expect 16 lsm-dump $options db
done
expect 8 lsm-dump --sst=99 db
expect 8 lsm-dump --layout nowhere
[ ! -e nowhere ] || fail 'lsm-dump made a directory'
finish
