#!/bin/sh
# --bulk: the same database as without it, whatever the order, by way of tables.
. "${top_srcdir:?}/tests/tool/prelude.sh"
random_dump 11 4000 >random.dump
lsm-load -q --create -f random.dump plain
lsm-dump --digest plain >wanted

for options in '' '--batch=700' '--sort-memory=1M' '--sync=batch' '--options=workers=none'; do
    rm -rf db
    # shellcheck disable=SC2086 # a list
    expect 0 lsm-load --bulk $options --create -f random.dump db
    expect 0 lsm-dump --digest db
    same out wanted
done
expect 0 lsm-load --bulk --create --json -f random.dump json.db
[ "$(grep -c '"pairs": *4259' out)" -ge 1 ] || fail 'not all pairs are counted'

# Sorted input, several families, and what is there already.
lsm-dump plain | lsm-load -q --bulk --create sorted || fail 'a sorted dump'
expect 0 lsm-dump --digest sorted
same out wanted
printf 'b\n2\na\n1\nb\n3\n' >three.text
expect 0 lsm-load --bulk -T -f three.text --create -s words sorted
expect 0 lsm-dump -p --cf words sorted
grep '^ ' out >got
printf ' a\n 1\n b\n 3\n' >want
same got want
expect 0 lsm-dump --digest --cf default sorted
cut -c1-25 out >got
cut -c1-25 wanted >want
same got want
printf 'a\nnew\nc\n4\n' >more.text
expect 0 lsm-load --bulk -T -f more.text -s words sorted
expect 0 lsm-dump -p --cf words sorted
grep '^ ' out >got
printf ' a\n new\n b\n 3\n c\n 4\n' >want
same got want

# -n: neither what is there, nor what came earlier in the input, is overwritten.
printf 'a\nnever\nd\nfirst\nd\nsecond\n' >kept.text
for options in --bulk --atomic '--bulk --batch=1'; do
    expect 0 lsm-load -T -q -f more.text --create "n$options"
    # shellcheck disable=SC2086
    expect 1 lsm-load -n $options -T -f kept.text "n$options"
    says out 'loaded 1 pairs'
    says out 'kept the values of 2 keys'
    expect 0 lsm-dump -p "n$options"
    grep '^ ' out >got
    printf ' a\n new\n c\n 4\n d\n first\n' >want
    same got want
done

# An empty key with an empty value, and nothing else.
printf '\n\n' >empty.text
for options in --bulk --batch=1; do
    expect 0 lsm-load -T "$options" --create -f empty.text "empty$options"
    says out 'loaded 1 pairs'
    expect 0 lsm-dump --digest "empty$options"
    mv out "digest$options"
done
same digest--bulk digest--batch=1

# An error ends it; pieces that were there before stay.
{ cat more.text; printf 'x\ny\nodd\n'; } >odd.text
expect 8 lsm-load -v --bulk --batch=2 --create -T -f odd.text odd
says err '2 pairs had been loaded before'
expect 0 lsm-dump -p odd
says out ' c'
lacks out ' x'

# Others see it while they have the database open, and no file is left that nobody names.
holder sorted >/dev/null 2>&1 </dev/null &
pid=$!
expect 0 lsm-load --bulk --sort-memory=1M -f random.dump sorted
kill $pid 2>/dev/null
wait $pid 2>/dev/null
expect 0 lsm-dump --digest --cf default sorted
cut -c1-25 out >got
cut -c1-25 wanted >want
same got want
if [ -x "$top_builddir/lsm-verify" ]; then
    expect 0 lsm-verify --level=full sorted
fi
for options in '--sort-memory=1' '--sort-memory=x' '--bulk=2'; do
    expect 16 lsm-load -T --bulk "$options" db </dev/null
done
finish
