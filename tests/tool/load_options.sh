#!/bin/sh
# The options of lsm-load.
. "${top_srcdir:?}/tests/tool/prelude.sh"
printf 'b\n2\na\n1\n' >two.text
printf 'b\nother\nc\n3\nc\nagain\n' >more.text

# No database and no column family appears by accident.
expect 8 lsm-load -T -f two.text db
says err '--create'
expect 8 lsm-load -T -f two.text --options=create=true db
expect 8 lsm-load -T -f missing.text --create db
expect 0 lsm-load -T -f two.text --create --dry-run db
says out 'would load 2 pairs'
[ ! -e db ] || fail 'a database was made'
expect 0 lsm-load -T -f two.text --create db
expect 8 lsm-load -T -f two.text -s words db
says err words
says err '--create'
expect 0 lsm-dump -l db
echo default >wanted
same out wanted

# -n keeps what is there, also what came earlier in the same input; exit code 1.
for batch in 1 1000; do
    rm -rf db
    expect 0 lsm-load -T -f two.text --create db
    expect 1 lsm-load -n -T --batch=$batch -f more.text db
    says out 'kept the values of 2 keys'
    expect 0 lsm-dump -p db
    printf ' a\n 1\n b\n 2\n c\n 3\n' >wanted
    grep '^ ' out >got
    same got wanted
done
expect 1 lsm-load -n -T --dry-run -f more.text db

# Without -n the last one wins.
expect 0 lsm-load -T -f more.text db
lsm-dump -p db | grep '^ ' >got
printf ' a\n 1\n b\n other\n c\n again\n' >wanted
same got wanted

# -s and --cf choose where sections go, and which.
expect 0 lsm-load -T -f two.text -s words --create families
expect 0 lsm-load -T -f more.text -s others --create families
lsm-dump families >families.dump
expect 0 lsm-load -f families.dump -s words=w2 --cf words --create renamed
says out 'left out 2 pairs of other sections'
lsm-dump -l renamed >got
printf 'default\nw2\n' >wanted
same got wanted
expect 8 lsm-load -f families.dump -s w3 --create renamed2
says err "-s OLD=w3"
lsm-dump --digest --cf words families | cut -c1-20 >wanted
lsm-dump --digest --cf w2 renamed | cut -c1-20 >got
same got wanted

# --atomic: all or nothing.
cat two.text >cut.text
echo odd >>cut.text
expect 8 lsm-load --atomic --create -T -f cut.text atomic
[ ! -e atomic ] || fail 'a database was made by a failed atomic load'
expect 0 lsm-load --create -T -f two.text atomic
lsm-dump --digest atomic >wanted
sed '/^DATA=END/d' families.dump >cut.dump
expect 8 lsm-load --atomic --create -f cut.dump atomic
expect 8 lsm-load --atomic -f families.dump atomic
expect 0 lsm-dump --digest atomic
same out wanted
expect 0 lsm-load --atomic -n --create -f families.dump atomic
expect 1 lsm-load --atomic -n -T -s others -f two.text atomic
says out 'kept the values of 1 keys'
expect 0 lsm-dump -p --cf others atomic
says out other
says out again
says out ' 1'
# What is larger than any batch fits, too.
awk 'BEGIN { for (i = 0; i < 12000; i++) printf "k%d\n%01000d\n", i, i }' >large.text
expect 0 lsm-load --atomic --create -T -s new --options=stage_size=1MiB -f large.text atomic
says out 'loaded 12000 pairs'
lsm-dump --cf new --digest atomic | cut -c1-25 >got
expect 0 lsm-load --create -T -f large.text plain
lsm-dump --digest plain | cut -c1-25 >wanted
same got wanted
expect 0 lsm-load -T --sync=batch --batch=500 -f large.text atomic
expect 0 lsm-load -T --sync=none --rate=1G -f large.text atomic

# Exit code 16 for wrong usage, and nothing happens.
for options in '' '--batch=0' '--batch=x' '--sync=maybe' '--unknown' '--io=magic' '--rate=1Q' \
    '--progress=often' '--options=nonsense=1' '--cf' 'db other' '-s a='; do
    directory=db
    [ -n "$options" ] || directory=
    # shellcheck disable=SC2086 # lists
    expect 16 lsm-load -T $options $directory </dev/null
    says err "Try 'lsm-load --help'"
done
expect 0 lsm-load --help
says out 'Usage: lsm-load'
expect 0 lsm-load --version
says out 'lsm-load (libengine)'
finish
