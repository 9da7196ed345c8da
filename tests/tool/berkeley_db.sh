#!/bin/sh
# Berkeley DB reads what lsm-dump writes, and lsm-load reads what db_dump writes.
. "${top_srcdir:?}/tests/tool/prelude.sh"
need db5.3_load db5.3_dump
random_dump 4711 2000 >in.dump
pairs in.dump >in.pairs

# round NAME DUMP-OPTIONS...: out through lsm-dump, into Berkeley DB, and back.
round() {
    name=$1
    shift
    expect 0 lsm-dump "$@" -f "$name.dump" db
    expect 0 db5.3_load -f "$name.dump" "$name.bdb"
    db5.3_dump "$name.bdb" >"$name.back"
    pairs "$name.back" >"$name.pairs"
    same "$name.pairs" in.pairs
    for format in '' -p -r; do
        # shellcheck disable=SC2086 # none or one option
        db5.3_dump $format "$name.bdb" >"$name$format.theirs"
        rm -rf again
        expect 0 lsm-load --create -f "$name$format.theirs" again
        lsm-dump again >again.dump
        pairs again.dump >again.pairs
        same again.pairs in.pairs
    done
}
expect 0 lsm-load --create -f in.dump db
round hex
round print -p
round salvage --salvage
same salvage.dump hex.dump
lsm-dump db >hex.dump.2
same hex.dump hex.dump.2
printf 'VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n' >header
head -n 4 hex.dump >header.ours
same header.ours header
grep -q '[A-F]' hex.dump && grep -v END hex.dump | grep -v VERSION | grep -q '[A-F]' &&
    fail 'hexadecimal digits in upper case'

# An empty key.
printf '\nvalue of the empty key\nk\n\n' >empty-key.text
expect 0 lsm-load --create -T -f empty-key.text empty
lsm-dump empty >empty.dump
expect 0 db5.3_load -f empty.dump empty.bdb
db5.3_dump -p empty.bdb >empty.back
says empty.back ' value of the empty key'

# Several families are several databases in one file, names without escapes.
printf 'k1\nv1\n' >one.text
printf 'k2\nv2\nk3\n\n' >two.text
expect 0 lsm-load --create -T -f one.text -s 'first one' families
expect 0 lsm-load --create -T -f two.text -s second families
expect 0 lsm-dump -f families.dump families
says families.dump 'database=default'
expect 0 db5.3_load -f families.dump families.bdb
db5.3_dump -p -s 'first one' families.bdb >first.back
says first.back ' v1'
db5.3_dump -p families.bdb -s second >second.back
says second.back ' k3'
lacks second.back ' v1'
rm -rf again
db5.3_dump families.bdb >both.theirs
expect 0 lsm-load --create -f both.theirs again
lsm-dump --cf 'first one' --cf second families >wanted
lsm-dump --cf 'first one' --cf second again >got
same got wanted

# A name that only one of the peers would read is refused before a byte is written.
expect 0 lsm-load --create -T -f one.text -s 'back\slash' odd
expect 8 lsm-dump -f odd.dump odd
[ ! -e odd.dump ] || fail 'a refused dump left a file'
expect 0 lsm-dump --compat=native odd

# hash, and recno with its keys; recno without them has values only.
db5.3_dump hex.bdb | sed 's/^type=.*/type=hash/' | db5.3_load hash.bdb
db5.3_dump hash.bdb >hash.theirs
says hash.theirs type=hash
rm -rf again
expect 0 lsm-load --create -f hash.theirs again
lsm-dump again >again.dump
pairs again.dump >again.pairs
same again.pairs in.pairs
printf 'one\ntwo\n' | db5.3_load -T -t recno recno.bdb
db5.3_dump recno.bdb >recno.theirs
expect 8 lsm-load --create -f recno.theirs none
says err 'line '
db5.3_dump -k recno.bdb >recno-keys.theirs
expect 0 lsm-load --create -f recno-keys.theirs recno
lsm-dump -p recno >recno.ours
says recno.ours ' two'

# A database with duplicate keys does not fit; -n takes the first of each.
printf 'VERSION=3\nformat=print\ntype=btree\nduplicates=1\nHEADER=END\n k\n 1\n k\n 2\nDATA=END\n' |
    db5.3_load duplicates.bdb
db5.3_dump -p duplicates.bdb >duplicates.theirs
says duplicates.theirs duplicates=1
expect 8 lsm-load --create -f duplicates.theirs duplicates
says err 'the key has several values'
expect 1 lsm-load --create -n -f duplicates.theirs duplicates
lsm-dump -p duplicates >duplicates.ours
says duplicates.ours ' 1'
lacks duplicates.ours ' 2'
finish
