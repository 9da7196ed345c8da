#!/bin/sh
# Writes of a killed process that reach the disk long after its death: the database is on an inner
# file system in a file of an outer one, which is frozen while the process dies. Its survivor takes
# over; then the outer one is thawed, so that the dead one's writes end among the survivor's.
# Everything acknowledged is there afterwards, read from the disk.
#
# Needs root, loop devices, ext4 and fsfreeze; without them it is skipped.
rounds=${ZOMBIE_ROUNDS:-2}
program=$PWD/tests/crash/zombie_io
top=$(mktemp -d "${TMPDIR:-/tmp}/lsm-zombie-XXXXXX") || exit 99
outer=$top/outer inner=$top/inner frozen=

skip() {
    echo "skipped: $1"
    exit 77
}

clean() {
    [ -z "$frozen" ] || fsfreeze -u "$outer"
    for pid in $first $second; do
        kill -9 "$pid" 2>/dev/null
    done
    wait 2>/dev/null
    mountpoint -q "$inner" 2>/dev/null && umount "$inner"
    mountpoint -q "$outer" 2>/dev/null && umount "$outer"
    rm -rf "$top"
}
trap clean EXIT
trap 'exit 99' HUP INT TERM

[ "$(id -u)" -eq 0 ] || skip 'only root mounts'
PATH=$PATH:/usr/sbin:/sbin
for tool in losetup fsfreeze mkfs.ext4 mountpoint; do
    command -v $tool >/dev/null || skip "there is no $tool"
done

# make IMAGE SIZE DIR: a file system in a file, mounted.
make() {
    truncate -s "$2" "$1" && mkfs.ext4 -q -F "$1" && mkdir -p "$3" &&
        mount -o loop "$1" "$3" 2>"$top/refused"
}
make "$top/outer.img" 256M "$outer" || skip "a loop mount is refused: $(cat "$top/refused")"
make "$outer/inner.img" 128M "$inner" || skip "a second loop mount is refused"
fsfreeze -f "$outer" 2>"$top/refused" || skip "fsfreeze is refused: $(cat "$top/refused")"
fsfreeze -u "$outer" || exit 99

# Kills and waits: a process that sleeps in the frozen disk is gone only when it is thawed.
fail() {
    echo "FAILED in round $round: $1"
    exit 1
}

first= second=
round=1
while [ "$round" -le "$rounds" ]; do
    rm -f "$top/board"
    "$program" write "$inner/db" "$top/board" 0 &
    first=$!
    "$program" write "$inner/db" "$top/board" 1 &
    second=$!
    sleep 1
    kill -0 $first && kill -0 $second || fail 'a writer has ended'
    fsfreeze -f "$outer" || fail 'fsfreeze'
    frozen=yes
    sleep 0.3
    kill -9 $first # with its writes under way
    sleep 1
    kill -0 $second || fail 'the survivor has ended in the frozen disk'
    fsfreeze -u "$outer" || fail 'fsfreeze -u'
    frozen=
    sleep 1
    kill -0 $second || fail 'the survivor has ended after the thaw'
    kill -9 $second
    wait 2>/dev/null
    umount "$inner" && mount -o loop "$outer/inner.img" "$inner" || fail 'mounting again'
    "$program" check "$inner/db" "$top/board" || fail 'see above'
    "$program" check "$inner/db" "$top/board" || fail 'see above, at the second look'
    rm -rf "$inner/db"
    round=$((round + 1))
done
