#!/bin/sh
# What a tool can still do once it has locked itself in, and that all of them do so.
. "${top_srcdir:?}/tests/tool/prelude.sh"
unset LSM_SANDBOX
mkdir outside shm in made into
printf 'a\n1\n' | lsm-load -q -T --create db || fail 'lsm-load'
for file in outside/file in/file made/file made/old into/file db/other; do
    echo hello >$file
done
here=$PWD

sandboxed r db read:outside/file >answers 2>notes
grep -q 'locked in with Landlock' notes || { cat notes; echo 'no Landlock here'; exit 77; }
says answers 'read:outside/file Permission denied'

# try EXPECTED MODE ARGUMENT... -- ATTEMPT...: each attempt ends so.
try() {
    wanted=$1
    shift
    sandboxed "$@" >answers 2>notes || fail "sandboxed $*"
    grep -q : answers || fail "no answers: $*"
    ! grep -v " $wanted\$" answers || fail "not '$wanted': $*"
}

# A reader of the database.
try ok r db read:db/CURRENT write:db/LOCK read:/proc/self/status read:/dev/shm
try 'Permission denied' r db write:db/CURRENT make:db/new remove:db/other read:outside/file \
    write:outside/file make:outside/new remove:outside/file read:/etc/passwd run:/bin/true \
    "read:$here" write:/dev/null
{ [ -e db/other ] && [ -e outside/file ]; } || fail 'a file is gone'
# A writer.
try ok w db write:db/CURRENT make:db/new read:db/new remove:db/new
try 'Permission denied' w db make:outside/new read:outside/file run:/bin/true
# What the command line names: files to read, to replace, and directories to fill.
try ok r in=in/file out=made/old out=made/fresh out=/dev/null into=into shm=shm db read:in/file \
    write:made/old make:made/fresh make:made/fresh.tmp remove:made/file make:into/new \
    remove:into/file make:shm/segment write:/dev/null
try 'Permission denied' r in=in/file out=made/old into=into db write:in/file make:in/new \
    read:outside/file make:other read:/dev/null
# Directories that are missing are made.
try ok w into=fresh newdb make:newdb/file make:fresh/file
[ -d newdb ] || fail 'the directory was not made'

# No TCP, no signals, where the kernel can forbid them.
version=$(sed -n 's/.*Landlock //p' notes)
[ "$version" -lt 4 ] || try 'Permission denied' r db connect:9
[ "$version" -lt 6 ] || try 'Operation not permitted' r db signal:$$

# The segment of those who have the database open, wherever they put it; not what a forged LOCK
# page would like to have.
mkfifo commands
holder db "shm_dir=$here/shm" <commands >holder.out &
holder=$!
exec 3>commands
is_open() { grep -q ok holder.out; }
await 'the database is open' is_open
segment=$(echo shm/lsm-*)
[ -e "$segment" ] || fail 'no segment'
try ok r db "write:$segment"
for tool in 'lsm-stat -v' 'lsm-compact -v --status' 'lsm-dump -v --digest' \
    'lsm-verify -v'; do
    # shellcheck disable=SC2086 # a list
    expect 0 $tool db
    says err 'locked in with Landlock'
done
expect 0 lsm-load -v -T -f /dev/null db
says err 'locked in with Landlock'
# One that leaves last removes the segment.
mkfifo late
lsm-dump -f late db 3>&- &
dumper=$!
has_joined() { lsm-stat -r db | grep -q "^process $dumper "; }
await 'the dump has joined' has_joined
exec 3>&-
wait $holder
[ -e "$segment" ] || fail 'the segment is gone too early'
cat late >/dev/null
wait
[ ! -e "$segment" ] || fail 'the segment is left behind'

expect 0 lsm-repair -v -n db
says err 'locked in with Landlock'

# Off when asked.
LSM_SANDBOX=off sandboxed r db read:outside/file >answers 2>notes
says answers 'read:outside/file ok'
says notes 'LSM_SANDBOX=off'
finish
