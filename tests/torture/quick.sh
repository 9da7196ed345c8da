#!/bin/sh
# The quick runs of the torture suites named in the environment (SUITES), else of those that take a
# few seconds together. make check-torture runs them all, at length.
: "${top_builddir:?run me with make check}"
if [ -z "${TMPDIR-}" ] && [ -w /dev/shm ]; then # syncing costs nothing there
    TMPDIR=/dev/shm
    export TMPDIR
fi
failed=0
for suite in ${SUITES:-bitflip truncate symlink readonly boundary clean repair-crash}; do
    "$top_builddir/tests/torture/torture" "$suite" || failed=1
done
# Those of random damage, which are long by themselves, in part.
if [ -z "${SUITES-}" ]; then
    for suite in salvage smash missing; do
        "$top_builddir/tests/torture/torture" "$suite" --cases 40 || failed=1
    done
fi
exit $failed
