#!/bin/sh
# The pages are clean, and the table of statuses in lsm(7) is LSM_STATUS_LIST.
. "${top_srcdir:?}/tests/tool/prelude.sh"
need mandoc
count=0
for page in "$top_builddir"/man/*.[1357]; do
    [ -e "$page" ] || { fail 'there are no pages'; break; }
    count=$((count + 1))
    # An alias is one line that includes another page.
    if [ "$(head -c 4 "$page")" = '.so ' ]; then
        target=$top_builddir/man/$(sed 's,.so man3/,,' "$page")
        name=$(basename "$page" .3)
        grep -qE "^(lsm.*, )?$name\b.* .- " "$target" || fail "$page includes a page without its name"
        continue
    fi
    ! grep -q '@[A-Z_]*@' "$page" || fail "$page holds an unset variable"
    mandoc -Tlint -W warning "$page" || fail "$page"
done
echo "$count pages"
sed -nE 's/^ *X\((LSM_[A-Z_]+), ([0-9]+), "(.*)"\).*/\1\t\2\t\3/p' "$top_srcdir/engine/lsm.h" >wanted
grep -E "^LSM_[A-Z_]+$(printf '\t')[0-9]+$(printf '\t')" "$top_builddir/man/lsm.7" >got
[ -s wanted ] || fail 'LSM_STATUS_LIST was not found'
same got wanted
# Every option of lsm_options and lsm_cf_options stands in lsm(7).
sed -nE '/^typedef struct lsm_(cf_)?options \{/,/^\}/s/^ +[a-z0-9_ ]+[ *]([a-z0-9_]+);.*/\1/p' \
    "$top_srcdir/engine/lsm.h" | grep -vxE 'struct_size|cf|listener_context|compression_level' >options
[ "$(wc -l <options)" -gt 20 ] || fail 'the options were not found'
while read -r option; do
    grep -q "^$option$(printf '\t')" "$top_builddir/man/lsm.7" || fail "$option is not in lsm(7)"
done <options
finish
