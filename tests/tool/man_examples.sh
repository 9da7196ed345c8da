#!/bin/sh
# The EXAMPLES of the pages of section 3 compile without warnings, and run.
. "${top_srcdir:?}/tests/tool/prelude.sh"
library=$top_builddir/.libs/libengine.so
[ -e "$library" ] || { echo 'this build has no shared library'; exit 77; }
for page in "$top_srcdir"/man/*.3.in; do
    name=$(basename "$page" .3.in)
    sed -n '/^\.SH EXAMPLES/,/^\.SH SEE/{/^\.EX/,/^\.EE/{/^\.E[XE]/d;s/\\e/\\/g;s/\\-/-/g;s/\\&//g;p}}' \
        "$page" >"$name.c"
    [ -s "$name.c" ] || { fail "$name has no example"; continue; }
    mkdir "$name"
    # shellcheck disable=SC2086 # lists
    ${CC:-cc} ${CFLAGS:-} -Werror -I"$top_srcdir" "$name.c" -o "$name/example" "$library" \
        -Wl,-rpath,"$top_builddir/.libs" || { fail "the example of $name does not compile"; continue; }
    (cd "$name" && ./example >out 2>err) || { fail "the example of $name fails"; cat "$name/err"; }
    [ ! -s "$name/err" ] || { fail "the example of $name complains"; cat "$name/err"; }
done
# Those of lsm-stat and lsm-verify run as they stand, on a database of that name.
XDG_STATE_HOME=$work/state
export XDG_STATE_HOME
for page in lsm-stat lsm-verify; do
    sed -n '/^\.SH EXAMPLES/,/^\.SH SEE/{/^\.EX/,/^\.EE/{/^\.E[XE]/d;s/\\-/-/g;p}}' \
        "$top_srcdir/man/$page.1.in"
done >stat_examples
[ "$(wc -l <stat_examples)" -gt 4 ] || fail 'lsm-stat has no examples'
printf 'hello\nworld\n' | lsm-load -q -T --create words.db || fail 'lsm-load'
while read -r command; do
    expect 0 sh -c "$command"
    [ ! -s err ] || fail "the example '$command' complains: $(cat err)"
done <stat_examples
grep -q '^lsm_open{db="words.db"} 0$' words.prom || fail 'no metrics in words.prom'
says lsm_get/out 'b is not there'
says lsm_async/out '1 found'
says lsm_iter/out 'user:1 = ann'
says lsm_snapshot/out old
says lsm_cf/out 'is now old index'
says lsm_batch/out '2 entries'
says lsm_txn/out '11 left'
says lsm_property/out '0 entries'
finish
