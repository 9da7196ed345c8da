#!/bin/sh
# The options of lsm-dump.
. "${top_srcdir:?}/tests/tool/prelude.sh"
printf 'a\n1\nb\n2\nb\\ff\n3\nba\n4\nc\n5\n' >five.text
expect 0 lsm-load -T --create -f five.text db
printf 'x\\00\n\\ff\n' | lsm-load -q -T --create -s 'other one' db

# Dumping changes no byte of any file, and makes none.
contents() {
    find db -type f -exec cksum {} + | sort
}
contents >wanted
for options in '' -l --digest --compat=lmdb; do
    # shellcheck disable=SC2086 # none or one option
    expect 0 lsm-dump $options --cf default db
    contents >got
    same got wanted
done

# keys OPTION...: the keys of family default, print format, on one line.
keys() {
    lsm-dump -p --cf default "$@" db | awk '/^ / { if (n++ % 2 == 0) printf "%s", $0 }'
}
for case in '|a b ba b\ff c' '--start=b|b ba b\ff c' '--end=b|a' '--start=b --end=c|b ba b\ff' \
    '--prefix=b|b ba b\ff' '--prefix=b --start=ba|ba b\ff' '--start=62ff --key-format=hex|b\ff c' \
    '--prefix=Yg== --key-format=base64|b ba b\ff' '--start=b\\ff|b\ff c' '--prefix=z|'; do
    # shellcheck disable=SC2086 # a list
    got=$(keys $(printf '%s' "${case%|*}" | sed 's/\\\\/\\/g'))
    [ "$got" = "${case#*|}" ] || [ "$got" = " ${case#*|}" ] ||
        fail "keys of '${case%|*}' are '$got' instead of '${case#*|}'"
done

expect 0 lsm-dump -l db
printf 'default\nother one\n' >wanted
same out wanted
expect 0 lsm-dump --digest db
[ "$(awk '{ print $2 }' out | tr '\n' ' ')" = '5 1 ' ] || fail 'wrong counts beside the digests'
expect 8 lsm-dump -s nobody db
says err nobody
expect 8 lsm-dump nowhere
[ ! -e nowhere ] || fail 'lsm-dump made a database'

# JSON is JSON, and comes back.
expect 0 lsm-dump --json db
cp out dump.jsonl
expect 0 json_lines <dump.jsonl
says dump.jsonl '{"key":{"hex":"62ff"},"value":"3"}'
expect 0 lsm-load --create -f dump.jsonl again
for format in bdb lmdb native jsonl; do
    rm -rf "copy.$format"
    lsm-dump --compat=$format db | lsm-load -q --create "copy.$format" ||
        fail "lsm-load refused --compat=$format"
    lsm-dump --digest "copy.$format" >got
    lsm-dump --digest db >wanted
    same got wanted
done
expect 0 lsm-dump --json --key-format=base64 --cf default db
says out '{"key":{"base64":"Yv8="},"value":"3"}'
lsm-dump --json -l db >list.json
[ "$(json_lines families.1.name <list.json)" = 'other one' ] || fail 'names are not in the JSON list'
lsm-dump --json --digest db >digest.json
[ "$(json_lines families.0.count <digest.json)" = 5 ] || fail 'no count in the JSON digest'
lsm-dump --json -l nowhere >none.json 2>/dev/null
[ "$(json_lines error.status <none.json)" = LSM_MISSING ] || fail 'no error in the JSON object'
[ "$(json_lines exit <none.json)" = 8 ] || fail 'no exit code in the JSON object'

# -f writes a file whole or not at all, through a symbolic link, with the mode it had.
echo before >file
chmod 640 file
ln -s file link
expect 8 lsm-dump -f link -s nobody db
says file before
expect 0 lsm-dump -f link db
lsm-dump db >wanted
same file wanted
[ -h link ] || fail 'the link was replaced'
[ "$(stat -c %a file)" = 640 ] || fail 'the mode of the file changed'
expect 0 lsm-dump -f /dev/null db
[ -c /dev/null ] || fail '/dev/null was replaced'
expect 8 lsm-dump -f nodir/file db
[ "$(find . -name '*.tmp' | wc -l)" = 0 ] || fail 'a temporary file is left'
if [ -c /dev/full ]; then
    lsm-dump db >/dev/full 2>err
    [ $? = 8 ] || fail 'a full stdout is no error'
    says err 'No space left'
fi

for options in '--compat=x' '-a --cf default' '--json --compat=bdb' '-p --json' '-l -f x' \
    '--start=\q' '--key-format=hex --start=6' '--key-format=roman'; do
    # shellcheck disable=SC2086 # a list
    expect 16 lsm-dump $options db
done
expect 0 lsm-dump --help
expect 0 lsm-dump --version
expect 0 lsm-dump -v db
says err 'I/O:'
finish
