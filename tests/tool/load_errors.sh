#!/bin/sh
# What lsm-load cannot understand ends it with a line's number, and a database is not made for it.
. "${top_srcdir:?}/tests/tool/prelude.sh"
head='VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n'

# refuse WORDS INPUT [OPTION...]: INPUT is for printf.
refuse() {
    words=$1
    # shellcheck disable=SC2059 # the escapes are meant
    printf "$2" >input
    shift 2
    rm -rf db
    expect 8 lsm-load --create "$@" -f input db
    says err "$words"
}
refuse 'line 7: the input ends without DATA=END' "$head 61\n 62\n"
refuse 'line 6: the input ends without DATA=END' "$head 61\n"
refuse 'line 6: the key of line 5 has no value' "$head 61\nDATA=END\n"
refuse 'line 5: column 4: an odd number of hexadecimal' "$head 616\n 62\nDATA=END\n"
refuse 'line 5: column 3: not a hexadecimal digit' "$head 6g\n 62\nDATA=END\n"
refuse 'line 5: the line ends with a carriage return' "$head 61\r\n 62\r\nDATA=END\r\n"
refuse 'line 5: a line with a blank in front' "${head}61\n62\nDATA=END\n"
refuse 'line 6: a header line' "${head}DATA=END\n\n"
refuse "line 2: the keyword 'speed' is unknown" 'VERSION=3\nspeed=9\nHEADER=END\nDATA=END\n'
[ ! -e db ] || fail 'a bad header made a database'
refuse 'line 1: VERSION=4' 'VERSION=4\nHEADER=END\nDATA=END\n'
refuse 'line 1: a header line' 'hello\nworld\n'
refuse 'line 1: the input ends where a header is wanted' ''
refuse 'line 2: the input ends inside a header' 'VERSION=3\n'
[ ! -e db ] || fail 'an empty input made a database'
refuse 'the number of lines is odd' 'a\n1\nb\n' -T
refuse 'line 1: column 2: a backslash' 'a\\q\n1\n' -T
refuse 'line 1: the line ends with a carriage return' 'a\r\n1\r\n' -T
refuse 'line 1: quoted object property name expected' '{]\n'
refuse 'line 3: the input ends without {"end": true}' '{"schema":"lsm-dump/1"}\n{"family":"default"}\n'
awk 'BEGIN { for (i = 0; i < 65536; i++) printf "k"; print "\nv" }' >long
rm -rf db
expect 8 lsm-load --create -T -f long db
says err 'line 1: a key of 65536 bytes is over the limit of 65535'

# --crlf reads such lines.
printf 'a\r\n1\r\n' >input
rm -rf db
expect 0 lsm-load --create --crlf -T -f input db
expect 0 lsm-dump -p db
says out ' a'
[ "$(grep -c "$(printf '\r')" out)" = 0 ] || fail 'a carriage return was loaded'

# What earlier batches wrote stays; what comes behind the error does not.
rm -rf db
awk 'BEGIN { for (i = 0; i < 25; i++) printf "k%02d\nv\n", i; print "odd" }' >input
expect 8 lsm-load --create --batch=10 -v -T -f input db
says err '20 pairs had been loaded before'
[ "$(lsm-dump db | grep -c '^ ')" = 40 ] || fail 'not the first two batches'

# Damage of a native dump is told from wrong use: 4.
printf 'a\n1\n' | lsm-load -q --create -T native
lsm-dump --compat=native native >good
rm -rf db
expect 0 lsm-load --create -f good db
sed 's/^ 31$/ 32/' good >bad
rm -rf db
expect 4 lsm-load --create -f bad db
says err 'the input was changed'
lsm-dump --json native | sed 's/"1"/"2"/' >bad
expect 4 lsm-load -f bad db
says err 'the input was changed'

# A section whose family cannot be opened or made is named by its line, too.
printf 'VERSION=3\ndatabase=%300s\nHEADER=END\nDATA=END\n' '' | tr ' ' x >long
expect 8 lsm-load --create -f long new
says err 'line 1: '
printf 'VERSION=3\nHEADER=END\nDATA=END\nVERSION=3\ndatabase=missing\nHEADER=END\n' >missing
expect 8 lsm-load -f missing db
says err 'line 4: '
says err '--create makes it'
finish
