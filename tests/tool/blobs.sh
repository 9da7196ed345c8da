#!/bin/sh
# Values in blob files: what the tools say of them, whole and damaged.
. "${top_srcdir:?}/tests/tool/prelude.sh"

small='memtable_size=64KiB,stage_size=64KiB,wal_segment_size=64KiB,table_size=16KiB,level_base_size=16KiB'

# lines ROUND: 400 pairs of 100 to 900 bytes; each second key is there in every round.
lines() {
    awk -v round="$1" 'BEGIN {
        srand(round)
        for (i = 0; i < 400; i++) {
            printf "key%06d\n", i % 2 ? i : i + round * 400
            size = 100 + int(rand() * 800)
            value = ""
            while (length(value) < size)
                value = value int(rand() * 1000000000)
            print round, value
        }
    }'
}

fill() {
    for round in 1 2 3; do
        lines "$round" >pairs.txt
        expect 0 lsm-load -q -T --create --batch=20 --options="$small,$2" "$1" --file=pairs.txt
    done
}

# first_blob DIR: the name of one
first_blob() {
    for blob in "$1"/*.blob; do
        echo "${blob##*/}"
        return
    done
}

fill plain ''
fill blobs 'blob_threshold=256'
expect 0 lsm-dump plain
pairs out >wanted
expect 0 lsm-dump blobs
pairs out >found
same wanted found
[ -f "blobs/$(first_blob blobs)" ] || fail 'there is no blob file'
expect 0 lsm-verify --level=full blobs
expect 0 lsm-stat blobs
says out 'blobs  '
expect 0 lsm-stat -e blobs
says out 'blob_threshold=256'
expect 0 lsm-dump --manifest blobs
says out 'blob file='
says out 'refers file='
expect 0 lsm-dump --layout blobs
says out 'a live blob file'
expect 0 lsm-dump --properties blobs
says out 'refers file='
expect 0 lsm-dump --properties --sst="$(first_blob blobs)" blobs
says out ' blob_file'
lacks out 'not-live'
expect 0 lsm-dump --image=image blobs
says image '"blob_file":true'

# ---- damage in one that is in use, while a process has the database open
mkfifo orders
holder held 'create=true,blob_threshold=256' <orders >said 2>&1 &
pid=$!
exec 5>orders
printf 'put 0 300 400\nflush\n' >&5
# shellcheck disable=SC2016 # for the inner shell
await 'the holder wrote' sh -c '[ "$(grep -c ok said)" = 3 ]'
expect 0 lsm-dump --layout held
says out 'a live blob file'
blob=held/$(first_blob held)
cp "$blob" whole.blob
printf damagedamage | dd of="$blob" bs=1 seek=100 conv=notrunc 2>dd.err
expect 4 lsm-dump --layout held
says out 4-block-checksum
# One that nobody names may be what a job is writing.
cp "$blob" held/999999.blob
cp whole.blob "$blob"
expect 0 lsm-dump --layout held
says out 4-block-checksum
rm held/999999.blob
exec 5>&-
wait "$pid" || fail 'the holder failed'
expect 0 lsm-dump --salvage blobs
pairs out >found
same wanted found
expect 0 lsm-compact blobs
expect 0 lsm-verify --level=full blobs
expect 0 lsm-dump blobs
pairs out >found
same wanted found

# Without its manifests: the tables say what they refer to.
cp -R blobs rebuilt
rm -f rebuilt/CURRENT rebuilt/MANIFEST-*
lsm-repair -y rebuilt >out 2>err
case $? in 1 | 65) ;; *) fail 'repair does not rebuild the manifest' ;; esac
expect 0 lsm-verify --level=full rebuilt
expect 0 lsm-dump rebuilt
pairs out >found
same wanted found

# One is gone: the rest stays, and what is missing is told.
cp -R blobs gone
rm "gone/$(first_blob gone)"
expect 4 lsm-verify gone
says out '5-blob-missing'
lsm-dump --salvage gone >out 2>err && fail 'a salvaged dump says that nothing is missing'
pairs out >salvaged
expect 65 lsm-repair -y gone
says out 'lost'
expect 0 lsm-verify --level=full gone
expect 0 lsm-dump gone
pairs out >repaired
same salvaged repaired
comm -13 wanted repaired >strange
[ ! -s strange ] || fail 'pairs are there that never were'
[ -s repaired ] || fail 'nothing is left'

# files DIR: what is in it, but for LOCK and what repairs keep.
files() {
    (cd "$1" && find . -type f ! -name LOCK ! -path './lost+found/*' -exec cksum {} + | sort)
}

# undone DIR: another repair takes everything back.
undone() {
    expect 1 lsm-repair --undo-last -y "$1"
    files "$1" >got
    same got before
}

# One wrong byte is corrected in the blob file itself, of its values or of its index.
blob=$(first_blob blobs)
index=$(lsm-dump --sst="$blob" blobs | sed -n 's/.*name=index .*offset=\([0-9]*\).*/\1/p')
[ -n "$index" ] || fail 'no offset of the index'
for offset in 200 $((index + 50)); do
    rm -rf hurt
    cp -R blobs hurt
    printf '\245' | dd of="hurt/$blob" bs=1 seek="$offset" conv=notrunc 2>dd.err
    cmp -s "blobs/$blob" "hurt/$blob" && fail "the byte at $offset was so before"
    files hurt >before
    expect 1 lsm-repair -p hurt
    files blobs >sound
    files hurt >got
    same got sound
    undone hurt
done

# More than that loses the values of a block; those of the others go to a new blob file.
blob=$(basename "$(find blobs -name '*.blob' | sort | tail -n 1)")
rm -rf hurt
cp -R blobs hurt
printf damagedamage | dd of="hurt/$blob" bs=1 seek=200 conv=notrunc 2>dd.err
files hurt >before
lsm-dump --salvage hurt >out 2>err && fail 'a salvaged dump says that nothing is missing'
pairs out >salvaged
lsm-dump --internal blobs | grep ':put' | sort >puts
expect 65 lsm-repair -y hurt
[ ! -e "hurt/$blob" ] || fail 'the damaged blob file is still there'
expect 0 lsm-verify --level=full hurt
expect 0 lsm-dump hurt
pairs out >repaired
same salvaged repaired
[ "$(wc -l <repaired)" -gt $(($(wc -l <wanted) * 4 / 5)) ] || fail 'most of the values are gone'
lsm-dump --internal hurt | grep ':put' | sort >got
same got puts
undone hurt
exit "$failed"
