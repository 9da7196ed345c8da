#!/bin/sh
# Each header compiles alone, without warnings.
cd "$top_srcdir" || exit 99
failed=0
for header in engine/lsm.h engine/*/*.h; do
    # shellcheck disable=SC2086 # CC and CFLAGS are lists
    echo "#include \"$header\"" |
        ${CC:-cc} $CFLAGS -Werror -Wno-unused-function -D_GNU_SOURCE -I. -I"$top_builddir" \
            -fsyntax-only -x c - || { echo "$header does not compile alone"; failed=1; }
done
exit $failed
