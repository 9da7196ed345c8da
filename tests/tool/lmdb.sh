#!/bin/sh
# LMDB reads what lsm-dump writes, and lsm-load reads what mdb_dump writes.
. "${top_srcdir:?}/tests/tool/prelude.sh"
need mdb_load mdb_dump
random_dump 815 1000 >in.dump
pairs in.dump >in.pairs
expect 0 lsm-load --create -f in.dump db

# So little fits into the map of 1 MiB that mdb_load makes without being told.
for format in bdb lmdb native; do
    mkdir "$format.mdb"
    expect 0 lsm-dump --compat=$format -f "$format.dump" db
    expect 0 mdb_load -f "$format.dump" "$format.mdb"
    if [ $format = native ]; then # which always writes the family's name
        says err 'lsm.comparator'
        mdb_dump -s default "$format.mdb" >"$format.back"
    else
        mdb_dump "$format.mdb" >"$format.back"
    fi
    pairs "$format.back" >"$format.pairs"
    same "$format.pairs" in.pairs
    rm -rf again
    expect 0 lsm-load --create -s default -f "$format.back" again
    lsm-dump again >again.dump
    pairs again.dump >again.pairs
    same again.pairs in.pairs
done
says lmdb.dump maxreaders=126

# 12 MB need a larger map than mdb_load's default; --compat=lmdb says how large.
awk 'BEGIN { for (i = 0; i < 60000; i++) printf "key%08d\n%0200d\n", i, i }' >large.text
expect 0 lsm-load --create -T -f large.text large
mkdir large.mdb
lsm-dump --compat=lmdb large | mdb_load large.mdb || fail 'mdb_load ran out of its map'
mdb_dump large.mdb >large.back
pairs large.back >large.pairs
lsm-dump large >large.dump
pairs large.dump >large.wanted
same large.pairs large.wanted

# Families are named databases.
printf 'k1\nv1\n' | lsm-load -q --create -T -s first families
printf 'k2\nv2\n' | lsm-load -q --create -T -s 'second one' families
mkdir families.mdb
lsm-dump --cf first --cf 'second one' --compat=lmdb families | mdb_load families.mdb ||
    fail 'mdb_load refused families'
mdb_dump -a families.mdb >families.back
rm -rf again
expect 0 lsm-load --create -f families.back again
lsm-dump --cf first --cf 'second one' families >wanted
lsm-dump --cf first --cf 'second one' again >got
same got wanted

# LMDB refuses empty keys and keys over 511 bytes: so does --compat=lmdb, before it writes.
printf '\nempty\n' | lsm-load -q --create -T empty
expect 8 lsm-dump --compat=lmdb -f empty.dump empty
says err 'a key is empty'
[ ! -e empty.dump ] || fail 'a refused dump left a file'
for size in 511 512; do
    awk -v n=$size 'BEGIN { while (n-- > 0) printf "k"; print "\nv" }' |
        lsm-load -q --create -T "long$size"
done
expect 0 lsm-dump --compat=lmdb long511
expect 8 lsm-dump --compat=lmdb long512
says err '511 bytes'
[ ! -s out ] || fail 'a refused dump wrote to stdout'

# Print format: LMDB 0.9.24 does not escape the backslash.
printf 'k\n\\\\\\0a\n' | lsm-load -q --create -T backslash
expect 8 lsm-dump --compat=lmdb -p backslash
says err backslash
expect 0 lsm-dump --compat=lmdb backslash
mkdir backslash.mdb
lsm-dump --compat=lmdb backslash | mdb_load backslash.mdb
mdb_dump -p backslash.mdb >backslash.theirs
expect 0 lsm-load --create -f backslash.theirs again2
says err 'warning: line'
expect 0 lsm-load --create -q -f backslash.theirs again3
lacks err warning
printf 'k\nx\\\\y\n' | lsm-load -q --create -T backslash
lsm-dump --compat=lmdb backslash | mdb_load backslash.mdb
mdb_dump -p backslash.mdb >backslash.theirs
expect 8 lsm-load --create -f backslash.theirs again4
says err 'a backslash is followed by'
finish
