#!/bin/sh
# lsm-dump --salvage on damaged databases of many kinds (tests/damaged/): every pair that no damage
# touches comes out, or its loss is told; none comes out that was never there; and no option that
# looks at files does anything but to end with one of its codes.
. "${top_srcdir:?}/tests/tool/prelude.sh"
PATH=$top_builddir/tests/damaged:$PATH
count=0
for case in clean 0-current-missing 0-newer-format+table 1-edit-malformed 1-frame-checksum \
    1-manifest-missing 2-not-a-file 2-table-missing 2-table-size 3-dictionary-damaged \
    3-footer-lost 3-index-damaged 3-padding 3-table-foreign 3-table-short 3-table-short+empty \
    4-block-checksum+page 4-block-family 4-block-misplaced+swapped 4-block-order 4-block-tags \
    6-record-checksum 6-segment-header 6-segment-missing 6-segment-missing+both; do
    [ -d "$top_srcdir/tests/damaged/$case" ] || { fail "there is no $case"; continue; }
    rm -rf db new
    damage "$top_srcdir/tests/damaged/$case/damage" "$work/db" must all ever >damage.out 2>&1 ||
        { echo "$case cannot be made here"; continue; }
    count=$((count + 1))
    for options in --manifest --wal=all --blocks --layout --image=image '-R -p'; do
        # shellcheck disable=SC2086 # a list
        lsm-dump -q $options db >out 2>err
        code=$?
        case $code in
            0 | 4 | 8 | 68) ;;
            *) fail "$case: $options ends with $code" ;;
        esac
    done
    lsm-dump -r --compat=native -f whole.dump db 2>err
    code=$?
    lsm-load -q --create -f whole.dump new || fail "$case: the salvaged dump does not load"
    damage --pairs new | sort -u >got
    sort -u ever >known
    comm -23 got known >never
    [ ! -s never ] || fail "$case: $(wc -l <never) pairs were never there"
    sort -u must >wanted
    comm -13 got wanted >missing
    case $code in
        0 | 4) [ ! -s missing ] || fail "$case: $(wc -l <missing) pairs are missing in silence" ;;
        68) grep -q 'gap:' err || fail "$case: no gap was told" ;;
        *) fail "$case: the salvage ends with $code" ;;
    esac
    if [ "$case" = clean ] && [ $code != 0 ]; then fail 'a clean database is damaged'; fi
    if [ "$case" != clean ] && [ $code = 0 ]; then fail "$case: nothing was found"; fi
done
[ $count -gt 20 ] || fail "only $count cases could be made"
finish
