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
says out 'before: default'
says out 'after: default'
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
for options in '--range=a' '--bottommost=maybe' '--until=25h' '--max-bytes=x' '--threads=0'; do
    expect 16 lsm-compact "$options" db
done
expect 0 lsm-compact --help
expect 0 lsm-compact --version
finish
