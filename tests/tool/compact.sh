#!/bin/sh
# lsm-compact changes how data are stored, never what they are.
. "${top_srcdir:?}/tests/tool/prelude.sh"
for round in 1 2 3 4; do
    awk -v r=$round 'BEGIN { for (i = 0; i < 3000; i++) printf "k%06d\n%d%0100d\n", i * r, r, i }' |
        lsm-load -q -T --create db || fail 'lsm-load'
done
printf 'a\n1\n' | lsm-load -q -T --create -s small db
lsm-dump --digest db >wanted

expect 8 lsm-compact nowhere
[ ! -e nowhere ] || fail 'lsm-compact made a database'
expect 0 lsm-compact --status db
says out small
lsm-dump --digest db >got
same got wanted

expect 0 lsm-compact --range=k000100..k000200 db
expect 0 lsm-compact --prefix=k001 --cf default db
expect 0 lsm-compact --start=x --end=b db
expect 0 lsm-compact db
says out 'before:'
says out 'default'
says out 'small'
lsm-dump --digest db >got
same got wanted
expect 0 lsm-compact --bottommost=force --json --cf default db
cp out compact.json
[ "$(json_lines families.0.name <compact.json)" = default ] || fail 'no family in the JSON object'
[ "$(json_lines families.0.after.level0-tables <compact.json)" = 0 ] ||
    fail 'level 0 still holds tables'
[ "$(json_lines families.0.after.entries <compact.json)" = "$(sed -n 's/.*  \(.*\)  default/\1/p' wanted)" ] ||
    fail 'old versions are still there'
lsm-dump --digest db >got
same got wanted
expect 0 lsm-compact --bottommost=force --max-bytes=1 --cf default db
expect 0 lsm-compact --bottommost=force --threads=1 --rate=1G --io=posix db
lsm-dump --digest db >got
same got wanted
expect 0 lsm-compact -q db
[ ! -s out ] || fail '-q is not quiet'

expect 8 lsm-compact --cf nobody db
expect 8 lsm-compact --status --cf nobody db
for options in '--range=a' '--bottommost=maybe' '--until=25h' '--max-bytes=x' '--threads=0' \
    '--level=7' '--level=x' '--compression=lz4' '--compression=none,create=true' \
    '--compression=zstd:99'; do
    expect 16 lsm-compact "$options" db
done
expect 16 lsm-compact --status --cancel db

# bytes FIELD: of the default family, out of the JSON object in ./out.
bytes() {
    json_lines "families.0.$1.table-bytes" <out
}
# Another compression for once; what it left the next one puts right, and then there is nothing.
expect 0 lsm-compact --json --cf default --recompress --compression=none db
[ "$(bytes after)" -gt $((2 * $(bytes before))) ] || fail '--compression=none compresses'
expect 0 lsm-compact --json --cf default --bottommost=changed db
[ "$(bytes after)" -lt $(($(bytes before) / 2)) ] || fail '--bottommost=changed does not compress'
expect 0 lsm-compact --json --cf default --bottommost=changed db
[ "$(json_lines bytes-merged <out)" = 0 ] || fail '--bottommost=changed writes what it would not change'
expect 0 lsm-compact --json --cf default --recompress db
[ "$(json_lines bytes-merged <out)" != 0 ] || fail '--recompress does nothing'

# One level: what is new stays in level 0 when another one is asked for.
printf 'k000001\nnew\n' | lsm-load -q -T db
lsm-dump --digest db >wanted
expect 0 lsm-compact --json --cf default --level=3 db
[ "$(json_lines families.0.after.level0-tables <out)" = 1 ] || fail '--level=3 merged level 0'
expect 0 lsm-compact --json --cf default --level=0 --pause-if-stall db
[ "$(json_lines families.0.after.level0-tables <out)" = 0 ] || fail '--level=0 left level 0'
lsm-dump --digest db >got
same got wanted

# A damaged table is left alone and reported; the rest is merged.
printf 'k000002\nnew\n' | lsm-load -q -T db
printf 'a\n2\n' | lsm-load -q -T -s small db
cp -r db sound
newest=$(find db -name '*.sst' | sort | tail -n 2 | head -n 1)
printf '\377' | dd of="$newest" bs=1 seek=9 conv=notrunc 2>/dev/null
expect 4 lsm-compact --json db
says err "$(basename "$newest")"
says err 'left as it is'
[ "$(json_lines families.0.after.level0-tables <out)" = 1 ] || fail 'the damaged table is gone'
[ "$(json_lines families.1.after.level0-tables <out)" = 0 ] || fail 'the other family was not merged'
cmp -s "$newest" "sound/$(basename "$newest")" && fail 'the damage was written over'
expect 0 lsm-compact --help
expect 0 lsm-compact --version
finish
