#!/bin/sh
# Families of every compaction style: what the tools say of them, that they verify, and that repair
# rebuilds them without a manifest.
. "${top_srcdir:?}/tests/tool/prelude.sh"

small='memtable_size=64KiB,stage_size=64KiB,wal_segment_size=64KiB,table_size=16KiB,level_base_size=16KiB,block_size=1KiB'

# lines ROUND: 3000 pairs, of which every second was there in other rounds, too.
lines() {
    awk -v round="$1" 'BEGIN {
        srand(round)
        for (i = 0; i < 3000; i++) {
            printf "key%06d\n", i % 2 ? i : i + round * 3000
            value = ""
            while (length(value) < 60)
                value = value int(rand() * 1000000000)
            print round, value
        }
    }'
}

# fill DIR OPTIONS
fill() {
    for round in 1 2 3 4; do
        lines "$round" >pairs.txt
        expect 0 lsm-load -q -T --create --options="$small,$2" "$1" --file=pairs.txt
    done
}

# rebuild DIR: without its manifests. Nobody says then what became of numbers that no file has, so
# repair may tell that something may be lost (64).
rebuild() {
    rm -f "$1"/CURRENT "$1"/MANIFEST-*
    lsm-repair -y "$1" >out 2>err
    code=$?
    case $code in 1 | 65) ;; *) fail "exit code $code: lsm-repair $1" ;; esac
}

fill leveled 'ttl=3600,compression_above=zstd:2'
expect 0 lsm-dump leveled
pairs out >wanted
[ "$(wc -l <wanted)" -gt 7000 ] || fail "only $(wc -l <wanted) pairs were loaded"

fill tiered 'compaction=tiered,size_ratio=10,compression_above=zstd'
for style in leveled tiered; do
    expect 0 lsm-verify "$style"
    expect 0 lsm-dump "$style"
    pairs out >found
    same wanted found
    expect 0 lsm-compact "$style"
    expect 0 lsm-verify "$style"
    lsm-stat -e "$style" | sed -n 's/^family //p' >options.before
    [ -s options.before ] || fail 'lsm-stat says nothing of families'
    rebuild "$style"
    lsm-stat -e "$style" | sed -n 's/^family //p' >options.after
    same options.before options.after
    expect 0 lsm-verify "$style"
    expect 0 lsm-dump "$style"
    pairs out >found
    same wanted found
done

fill said 'compaction=tiered,min_merge_width=3'
expect 0 lsm-stat -e said
says out 'compaction=tiered,size_ratio=1,min_merge_width=3,max_size_amplification=200'
expect 0 lsm-dump --manifest said
says out 'compaction=tiered'
says out 'newest_time='

# A limit that the tables go over: the oldest pairs are gone, the newest are there.
fill fifo 'compaction=fifo,fifo_size=300KiB,ttl=100000'
expect 0 lsm-verify fifo
expect 0 lsm-stat -e fifo
says out 'compaction=fifo,fifo_size=307200,ttl=100000'
expect 0 lsm-dump --manifest fifo
lacks out compress-later
expect 0 lsm-dump fifo
pairs out >found
[ "$(wc -l <found)" -lt 7000 ] || fail 'nothing was deleted'
says found "$(tail -n 1 wanted | cut -d ' ' -f 1)"
expect 0 lsm-compact fifo
rebuild fifo
expect 0 lsm-stat -e fifo
says out 'compaction=fifo,fifo_size=307200,ttl=100000'
expect 0 lsm-verify fifo
expect 0 lsm-dump fifo
pairs out >kept
[ -s kept ] || fail 'nothing is left'
comm -13 found kept >back # a worker may have deleted another table meanwhile
[ ! -s back ] || fail 'something came back'

for text in compaction=none ttl=-1 compaction=fifo fifo_size=1MiB compaction=tiered,fifo_size=1MiB \
    min_merge_width=2 compression=none,compression_above=zstd compaction=tiered,min_merge_width=1 compression_above=lz4; do
    expect 16 lsm-load -q -T --create --options="$text" refused --file=pairs.txt
    [ ! -e refused/CURRENT ] || fail "a database was made with $text"
done
exit "$failed"
