#!/bin/sh
# A disk that is really full, a small tmpfs: every tool says so in a sentence and by its exit code,
# the database stays sound, and goes on when there is space again.
: "${top_builddir:?run me with make check}" "${top_srcdir:?}"
if [ -z "${INSIDE-}" ]; then # a mount that nobody else sees, and that ends with this script
    for spaces in -Urm -m; do
        if unshare $spaces mount -t tmpfs tmpfs /mnt 2>/dev/null; then
            INSIDE=yes exec unshare $spaces sh "$0"
        fi
    done
    echo 'no file system can be mounted here, not even in a namespace of its own'
    exit 77
fi
. "${top_srcdir:?}/tests/tool/prelude.sh"
mkdir disk
mount -t tmpfs -o size=12m tmpfs disk || exit 99
trap 'umount disk; rm -rf "$work"' EXIT
small=memtable_size=256KiB,memtable_count=2,stage_size=64KiB,wal_segment_size=256KiB,table_size=256KiB

# fill KIB: leaves so much of the disk.
fill() {
    left=$(($(stat -f -c '%a * %S / 1024' disk)))
    head -c $(((left - $1) * 1024)) /dev/zero >disk/ballast || fail "no ballast of $((left - $1)) KiB"
}

# full COMMAND...: it cannot work, for want of space, and says so.
full() {
    expect 8 "$@"
    says err 'No space left on device'
    lacks err 'corrupt'
}

# sound WHAT: verify finds nothing, and what was there before is there.
sound() {
    expect 0 lsm-verify -q --level=full disk/db
    expect 0 lsm-dump -p -f now disk/db
    pairs now >now.pairs
    [ "$(comm -23 old.pairs now.pairs | wc -l)" = 0 ] || fail "$1: what was there before is not"
    [ "$(comm -13 all.pairs now.pairs | wc -l)" = 0 ] || fail "$1: there is what nobody wrote"
}

awk 'BEGIN { srand(7); for (i = 0; i < 2000; i++) printf "old%05d\n%d %d %d\n", i, rand() * 1e9, rand() * 1e9, rand() * 1e9 }' >old.text
awk 'BEGIN { srand(8); for (i = 0; i < 40000; i++) printf "new%05d\n%d %d %d %d\n", i, rand() * 1e9, rand() * 1e9, rand() * 1e9, rand() * 1e9 }' >new.text
expect 0 lsm-load -q -T --create --options=$small -f old.text disk/db
expect 0 lsm-load -q -T --create --bulk -f old.text reference
expect 0 lsm-dump -p -f old.dump reference
pairs old.dump >old.pairs
expect 0 lsm-load -q -T --bulk -f new.text reference
expect 0 lsm-dump -p -f all.dump reference
pairs all.dump >all.pairs
expect 0 lsm-dump --digest reference
cp out digest

# Loading stops, whichever way.
expect 0 lsm-dump --digest disk/db
cp out before
fill 400
for way in --atomic --bulk ''; do
    # shellcheck disable=SC2086 # none is no argument
    full lsm-load -q -T $way --options=$small -f new.text disk/db
    expect 0 lsm-verify -q --level=full disk/db
    [ -z "$way" ] || { expect 0 lsm-dump --digest disk/db; same out before; }
done
sound 'load on a full disk'

# Reading and verifying need no space, a dump does, and leaves nothing half done.
fill_rest=disk/rest
head -c 12M /dev/zero >$fill_rest 2>/dev/null
expect 0 lsm-verify -q disk/db
sound 'no byte left'
full lsm-dump -p -f disk/dump disk/db
[ "$(find disk -maxdepth 1 -name 'dump*')" = '' ] || fail 'half a dump is left'
full lsm-load -q -T --options=$small -f new.text disk/db
rm $fill_rest

# With space again all goes on where it was.
rm disk/ballast
expect 0 lsm-load -q -T --options=$small -f new.text disk/db
expect 0 lsm-dump --digest disk/db
same out digest

# Merging: nothing is lost, and the space of what it had begun is given back.
cp old.pairs older.pairs && cp all.pairs old.pairs
used=$(du -sk disk/db | cut -f1)
fill 300
full lsm-compact -q --bottommost=force --options=$small disk/db
sound 'compact on a full disk'
[ "$(du -sk disk/db | cut -f1)" -le $((used + 300)) ] || fail 'compact keeps what it had begun'
rm disk/ballast
expect 0 lsm-compact -q --bottommost=force --options=$small disk/db
sound 'compact'

# Repairing: the old state, or the new one.
table=$(find disk/db -name '*.sst' -size +64k | sort | tail -n 1)
dd if=/dev/zero of="$table" bs=4096 seek=8 count=1 conv=notrunc 2>/dev/null
(cd disk/db && find . -type f ! -name LOCK -exec cksum {} + | sort -k3) >sums
head -c 12M /dev/zero >disk/ballast 2>/dev/null
expect 12 lsm-repair -q -y disk/db
says err 'No space left on device'
(cd disk/db && find . -type f ! -name LOCK -exec cksum {} + | sort -k3) >sums.after
same sums sums.after
expect 4 lsm-verify -q disk/db
rm disk/ballast
expect 65 lsm-repair -q -y disk/db
expect 0 lsm-verify -q --level=full disk/db
finish
