#!/bin/sh
# The EXAMPLES of lsm-dump(1) run as they stand, on databases of these names.
. "${top_srcdir:?}/tests/tool/prelude.sh"
need mandoc
page=$top_builddir/man/lsm-dump.1
sed -n '/^\.SH EXAMPLES/,/^\.SH SEE/{/^\.EX/,/^\.EE/{/^\.E[XE]/d;s/\\-/-/g;s/\\e/\\/g;p}}' "$page" \
    >examples
[ "$(wc -l <examples)" -gt 7 ] || fail 'there are no examples'
long=$(printf '%080d' 1)
printf 'ant\n1\nhello\nworld\nlong\n%s\n' "$long" |
    lsm-load -q -T --create --options=blob_threshold=64 words.db || fail 'lsm-load'
lsm-compact -q words.db || fail 'lsm-compact'
printf 'long\n%s\nhello\nworld\nant\n1\n' "$long" | lsm-load -q -T --create other.db || fail 'lsm-load'
mkdir words.mdb
while read -r command; do
    case $command in
        *db5.3_load*) command -v db5.3_load >/dev/null || continue ;;
        *mdb_load*) command -v mdb_load >/dev/null || continue ;;
    esac
    expect 0 sh -c "$command"
    [ ! -s err ] || fail "the example '$command' complains: $(cat err)"
    cat out
done <examples >all
says all ' ant'
says all "value='world'"
says all "long@1:blob => 80 bytes in '"
says all 'refers file='
says all 'blob file='
says one '  3  default'
lsm-dump --digest words.db >wanted
lsm-dump --digest new.db >got
same got wanted
[ -s words.image ] || fail 'there is no image'
lacks words.image hello
# Every option of --help is in the page, and the other way round.
lsm-dump --help | grep -oE -- '(^|[ ,])-(-[a-z-]+|[A-Za-z])' | tr -d ' ,' | sort -u >wanted
sed -n '/^\.SH OPTIONS/,/^\.SH FORMATS/{s/\\-/-/g;s/\\f[A-Z]//g;p}' "$page" | grep -E '^\.(B|BI|BR) -' |
    grep -oE -- '-(-[a-z-]+|[A-Za-z]\b)' | sort -u >got
same got wanted
finish
