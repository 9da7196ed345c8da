#!/bin/sh
# What other engines' tools write is read, and what is wrong with it is told.
. "${top_srcdir:?}/tests/tool/prelude.sh"
wt='WiredTiger Dump (WiredTiger Version 11.0.0)\nFormat=print\nHeader\ntable:words\n'
wt=$wt'access_pattern_hint=none,key_format=u,value_format=u\nData\n'

# load WANTED INPUT [OPTION...]: INPUT is for printf, WANTED is the dump's pairs.
load() {
    # shellcheck disable=SC2059 # the escapes are meant
    printf "$1" >wanted
    # shellcheck disable=SC2059
    printf "$2" >input
    shift 2
    rm -rf db
    expect 0 lsm-load --create "$@" -f input db
    lsm-dump -p db | grep '^ ' >got
    same got wanted
}
# refuse CODE WORDS INPUT [OPTION...]
refuse() {
    code=$1
    words=$2
    # shellcheck disable=SC2059
    printf "$3" >input
    shift 3
    rm -rf db
    expect "$code" lsm-load --create "$@" -f input db
    says err "$words"
    code=
}

load ' a\n 1\\00\n b\\\\c\n \n' "${wt}a\n1\\\\00\nb\\\\\\\\c\n\n"
expect 0 lsm-dump -l db
says out words
load ' a1\n 2\n' 'WiredTiger Dump (x)\nFormat=hex\nHeader\nfile:f.wt\nkey_format=u\nData\n6131\n32\n'
expect 0 lsm-dump -l db
[ "$(cat out)" = default ] || fail "a dump of a file went to $(cat out)"
load ' a\n 1\n' "${wt}a\n1\n" -s mine
load '' "$wt"
load ' a\n 1\n' "$(printf '%s' "$wt" | sed 's/\\n/\\r\\n/g')a\r\n1\r\n" --crlf
refuse 8 'has no value' "${wt}a\n"
refuse 8 'line 2: Format=print or Format=hex is wanted' 'WiredTiger Dump\nFormat=json\n'
refuse 8 "line 3: the line 'Header' is wanted" 'WiredTiger Dump\nFormat=hex\ntable:x\n'
refuse 8 "without the line 'Data'" 'WiredTiger Dump\nFormat=hex\nHeader\ntable:x\n'
refuse 8 'record numbers' 'WiredTiger Dump\nFormat=hex\nHeader\ntable:x\nkey_format=r\nData\n'
refuse 8 'line 7: column 1: not a hexadecimal' \
    'WiredTiger Dump\nFormat=hex\nHeader\nfile:x\nkey_format=u\nData\nzz\n61\n'
refuse 8 'carriage return' "${wt}a\r\n1\r\n"
refuse 8 'line 1: a header line is wanted' 'Wired\n'

load ' a\n 1\n b\n \n' '0x61 ==> 0x31\n0x62 ==> 0x\n'
load ' a\n 1\n b\n 2\n' '0x61 : 0x31\n0x62 : 0x32\nKeys in range: 2\n'
refuse 4 'the input was changed' '0x61 ==> 0x31\nKeys in range: 2\n'
refuse 8 "line 2: a line '0xKEY ==> 0xVALUE' is wanted" '0x61 ==> 0x31\nhello\n'
refuse 8 "line 1: a line '0xKEY ==> 0xVALUE' is wanted" '0x61 0x31\n'
refuse 8 "line 1: column 10: '0x' is wanted" '0x61 ==> 31\n'
refuse 8 'line 1: column 5: an odd number' '0x616 ==> 0x31\n'
refuse 8 'line 1: column 13: not a hexadecimal' '0x61 ==> 0x3g\n'
refuse 8 'line 3: nothing is wanted behind the count' '0x61 : 0x31\nKeys in range: 1\n0x62 : 0x31\n'

# Everything goes into an ingest as well.
load ' a\n 1\n b\n 2\n' '0x62 ==> 0x32\n0x61 ==> 0x31\n' --bulk
load ' a\n 1\n b\n 2\n' "${wt}b\n2\na\n1\n" --atomic
finish
