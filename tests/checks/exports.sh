#!/bin/sh
# What the shared library exports is what engine/lsm.h declares, and each name has a manual page.
cd "$top_srcdir" || exit 99
library=$top_builddir/.libs/libengine.so
[ -e "$library" ] || { echo "this build has no shared library"; exit 77; }
failed=0
declared=$(sed -nE 's,/\*.*,,; s/^LSM_API .*\b(lsm_[a-z0-9_]+)\(.*/\1/p' engine/lsm.h | sort -u)
exported=$(${NM:-nm} -D --defined-only "$library" | awk '$2 ~ /[A-Z]/ { print $3 }' | sort -u)
one_sided=$(printf '%s\n' "$declared" "$exported" | sort | uniq -u)
[ -z "$one_sided" ] || { echo "declared or exported, but not both:" "$one_sided"; failed=1; }
documented=$(sed -n '/^\.SH NAME/,/\\-/p' man/*.3.in)
for name in $declared; do
    printf '%s\n' "$documented" | grep -qw "$name" || { echo "$name has no manual page"; failed=1; }
done
exit $failed
