#!/bin/sh
# Damaged tables end a tool with 4; a dump of them has no end; what is whole is still served.
. "${top_srcdir:?}/tests/tool/prelude.sh"
random_dump 2718 6000 | lsm-load -q --create db || fail 'lsm-load'
printf 'a\n1\n' | lsm-load -q -T --create -s small db
expect 0 lsm-compact db
lsm-dump --cf small db >small.wanted
table=$(find db -name '*.sst' -size +64k | head -n 1)
[ -n "$table" ] || { fail 'there is no table to damage'; finish; }
size=$(stat -c %s "$table")
printf damagedamage | dd of="$table" bs=1 seek=$((size / 2)) conv=notrunc 2>dd.err ||
    fail 'dd'

expect 4 lsm-dump --cf default db
lacks out DATA=END
says err "$(basename "$table")"
cut=$(grep -c '^ ' out)
[ "$cut" -gt 0 ] || fail 'what stands before the damage was not dumped'
expect 4 lsm-dump --json --cf default db
lacks out '"end"'
echo before >file
expect 4 lsm-dump -f file db
says file before
[ "$(find . -name '*.tmp' | wc -l)" = 0 ] || fail 'a temporary file is left'
expect 4 lsm-dump --digest db
expect 0 lsm-dump --cf small db
same out small.wanted

# The other family is compacted, the damaged one is left as it is.
expect 4 lsm-compact --bottommost=force --json db
cp out compact.json
[ "$(json_lines error.status <compact.json)" = LSM_CORRUPT ] || fail 'no damage in the JSON object'
[ "$(json_lines families.1.after.tables <compact.json)" = 1 ] || fail 'family small was not compacted'
[ -e "$table" ] || fail 'the damaged table was removed'
expect 0 lsm-dump --cf small db
same out small.wanted

# A manifest that cannot be read: nothing works, and nothing is changed.
printf damagedamage | dd of="$(find db -name 'MANIFEST-*' | sort | tail -n 1)" bs=1 seek=100 \
    conv=notrunc 2>dd.err
for tool in lsm-dump lsm-compact 'lsm-load -T -f /dev/null'; do
    find db -type f ! -name LOCK -exec cksum {} + | sort >wanted
    # shellcheck disable=SC2086 # a list
    expect 4 $tool db
    find db -type f ! -name LOCK -exec cksum {} + | sort >got
    same got wanted
done
finish
