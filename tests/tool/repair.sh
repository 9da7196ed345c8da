#!/bin/sh
# lsm-repair from the shell: plans, questions, exit codes, reports, undo.
. "${top_srcdir:?}/tests/tool/prelude.sh"

# dd_at FILE OFFSET COUNT: zeros there.
zero_at() {
    dd if=/dev/zero of="$1" bs=1 seek="$2" count="$3" conv=notrunc status=none
}

# flip FILE OFFSET: every bit of the byte becomes the other.
flip() {
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    printf '%b' "\\0$(printf '%o' $((255 - byte)))" |
        dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# fresh: db is what it was, without lost+found.
fresh() {
    rm -rf db copy
    cp -a whole db
}

# the_table DIR: its only or first table.
the_table() {
    for table in "$1"/*.sst; do
        echo "$table"
        return
    done
}

awk 'BEGIN { for (i = 0; i < 4000; i++) printf "key-%06d\nvalue %d of a table\n", i, i }' >pairs.txt
expect 0 lsm-load -q -T --create whole <pairs.txt
lsm-compact -q whole || fail 'lsm-compact'
lsm-dump --digest whole >digest || fail 'lsm-dump --digest'

# Nothing wrong: nothing is written, whatever was asked for.
fresh
for option in -n -p -y -i; do
    expect 0 lsm-repair $option db
    says out 'nothing is wrong'
    diff -rq whole db || fail "$option changed a healthy database"
done

# One byte: exactly, with -p, and the file is what it was.
fresh
table=$(the_table db)
flip "$table" 5000
expect 4 lsm-repair -n db
says out 4-block-checksum
says out 'exactly:'
says out 'nothing was changed'
[ ! -e db/lost+found ] || fail '-n made lost+found'
expect 1 lsm-repair -p db
says out 'corrected exactly'
cmp -s "$table" "whole/${table#db/}" || fail 'the table is not what it was'
expect 0 lsm-repair -n db
expect 0 lsm-verify -q --level=full db
lsm-dump --digest db >got || fail 'lsm-dump --digest'
same got digest

# A page: not with -p; without -y nobody is asked here; then with a report.
fresh
table=$(the_table db)
# entries of the blocks that the page has nothing of
whole_blocks=$(lsm-dump --blocks db | sed -n \
    's/.* offset=\([0-9]*\) length=\([0-9]*\) .* entries=\([0-9]*\) .*/\1 \2 \3/p' |
    awk '$1 + $2 <= 8192 || $1 >= 12288 { n += $3 } END { print n + 0 }')
[ "$whole_blocks" -gt 2000 ] || fail 'the page has most of the table'
zero_at "$table" 8192 4096
cp -a db damaged
expect 4 lsm-repair -p db
expect 4 lsm-repair db
says err '-y agrees'
diff -rq damaged db || fail 'it was changed without an agreement'
expect 65 lsm-repair -y --report=report.json db
says out 'What cannot be vouched for'
lacks out 'key-00'
says out '(--show-data)'
says report.json '"schema":"lsm-repair'
says report.json key-00
[ "$(stat -c %a report.json)" = 600 ] || fail 'others may read the report'
expect 0 lsm-verify -q --level=full db
expect 0 lsm-repair -y db
says out 'nothing is wrong'
lsm-dump -p db >dumped || fail 'lsm-dump'
[ "$(grep -c '^ key-' dumped)" -eq "$whole_blocks" ] || fail 'other blocks are lost than a page has'
expect 1 lsm-repair --undo-last db
diff -rq damaged db || fail 'undo does not give the damage back'
expect 8 lsm-repair --undo-last db
says err 'no repair'

# Undo of a database that was used since; a place of one's own; by the name of the record.
rm -rf lost
expect 65 lsm-repair -y --show-data --lost=lost db
says out 'key-00'
record=$(find lost -name undo)
[ -n "$record" ] || fail 'there is no record'
printf 'new\nvalue\n' | lsm-load -q -T db || fail 'lsm-load'
expect 8 lsm-repair --undo="$record" db
says err 'opened since'
expect 1 lsm-repair -f --undo="$record" db
expect 4 lsm-repair -n db

# A copy.
fresh
zero_at "$(the_table db)" 8192 4096
rm -rf damaged
cp -a db damaged
expect 65 lsm-repair -y --to=copy db
diff -rq damaged db || fail '--to wrote to the original'
expect 0 lsm-verify -q copy
expect 8 lsm-repair -y --to=copy db
says err 'not empty'

# Without manifest and CURRENT; on standard output as JSON.
fresh
rm db/CURRENT db/MANIFEST-*
expect 1 lsm-repair -y --json db
says out '"schema":"lsm-repair/1"'
says out '"damage-left":false'
lsm-dump --digest db >got || fail 'lsm-dump --digest'
same got digest
fresh
expect 1 lsm-repair -y --rebuild-manifest db
fresh
expect 1 lsm-repair -y --salvage-blocks db
lsm-dump --digest db >got || fail 'lsm-dump --digest'
same got digest

# Damage behind damage: -n shows the rounds that -y then does, -p does none of them.
rm -rf killed damaged
mkfifo orders
options=create=true,workers=none,memtable_size=64KiB,stage_size=64KiB,wal_segment_size=64KiB
holder killed $options,block_size=1KiB,table_size=32KiB <orders >answers 2>&1 &
pid=$!
exec 5>orders
for order in 'put 0 2000 40' flush 'put 500 1500 60' flush compact 'put 300 900 50' flush sync; do
    echo "$order" >&5
done
# shellcheck disable=SC2016 # it is the other shell's
await 'the holder obeyed' sh -c '[ "$(grep -c ok answers)" = 9 ]'
kill -9 $pid
wait $pid 2>/dev/null
exec 5>&-
for manifest in killed/MANIFEST-*; do
    size=$(stat -c %s "$manifest")
    zero_at "$manifest" $((size / 3)) $((size - size / 3))
done
cp -a killed damaged
expect 4 lsm-repair -n killed
says out 'round 2'
lacks out 'there may be more'
expect 4 lsm-repair -p killed
diff -rq --exclude=LOCK killed damaged || fail '-n or -p changed something'
lsm-repair -n --json killed >planned.json
lsm-repair -y --json killed >made.json
[ "$(json_lines rounds <planned.json)" = "$(json_lines rounds <made.json)" ] ||
    fail 'other rounds were done than planned'
[ "$(json_lines rounds.1.round <made.json)" = 2 ] || fail 'there was no second round'
expect 0 lsm-repair -n killed
expect 1 lsm-repair --undo-last killed
diff -rq --exclude=LOCK killed damaged || fail 'undo does not take all rounds back'

# Entries of a table that was taken in whole have one sequence number, which they keep when the table
# is written anew: it is below that of what came later.
awk 'BEGIN { for (i = 0; i < 400; i++) printf "k%04d\nearly\n", i }' | lsm-load -q -T --create taken
awk 'BEGIN { for (i = 0; i < 400; i++) printf "k%04d\ntaken %d\n", i, i * 7919 }' |
    lsm-load -q -T --bulk taken
printf 'k0007\nlate\n' | lsm-load -q -T taken
lsm-dump taken >before
pairs before >wanted
[ -s wanted ] || fail 'nothing was dumped'
table=$(lsm-dump --find=k0007 taken | sed -n 's/^table file=\([0-9]*\.sst\) .*/\1/p' | while read -r t; do
    lsm-dump --sst="$t" taken | grep -q ' sequence_base=' && echo "$t"; done)
place=$(lsm-dump --sst="$table" taken | sed -n 's/.*name=filter .* offset=\([0-9]*\) .*/\1/p')
zero_at "taken/$table" $((place + 40)) 30
expect 1 lsm-repair -y taken
lsm-dump taken >after
pairs after >got
same got wanted

# Wrong usage, and what is no database.
expect 16 lsm-repair -n -y db
expect 16 lsm-repair --wal=some db
expect 16 lsm-repair --cf=default db
expect 16 lsm-repair --manifest=CURRENT db
expect 8 lsm-repair -y nowhere
mkdir empty
expect 8 lsm-repair -y empty
says err 'no database'
[ -z "$(ls empty)" ] || fail 'something was made in an empty directory'
expect 4 lsm-repair -y --generation=999 db
says err MANIFEST-000999
finish
