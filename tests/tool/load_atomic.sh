#!/bin/sh
# --atomic: all pairs at one moment, or nothing, also when it is killed.
. "${top_srcdir:?}/tests/tool/prelude.sh"
awk 'BEGIN { for (i = 0; i < 60000; i++) printf "key%07d\nvalue of %d\n", (i * 7919) % 60000, i }' >many.text
awk 'BEGIN { for (i = 0; i < 60000; i += 600) printf "key%07d\nold\n", i }' >old.text
lsm-load -q -T --create -f old.text db
lsm-dump --digest db >before

# Whatever is wrong with the input, nothing is there.
head -n 100001 many.text >odd.text
{ printf 'VERSION=3\nformat=print\nHEADER=END\n'; sed 's/^/ /' many.text; } >cut.dump
for input in '-T -f odd.text' '-f cut.dump'; do
    # shellcheck disable=SC2086 # lists
    expect 8 lsm-load --atomic --sort-memory=1M $input db
    expect 0 lsm-dump --digest db
    same out before
    # shellcheck disable=SC2086
    expect 8 lsm-load --atomic --create $input fresh
    [ ! -e fresh ] || fail "a database was left by $input"
    # shellcheck disable=SC2086
    expect 8 lsm-load --atomic --create -s other $input db
    expect 0 lsm-dump -l db
    [ "$(cat out)" = default ] || fail "a family was left by $input"
done

# Cancelled or killed while it waits for more: nothing either.
for signal in INT KILL; do
    mkfifo pipe
    lsm-load -T --atomic -q db <pipe 2>err &
    pid=$!
    exec 3>pipe
    cat many.text >&3
    kill -$signal $pid
    exec 3>&-
    wait $pid
    code=$?
    [ $signal = KILL ] || [ $code = 32 ] || fail "exit code $code after SIGINT"
    rm pipe
    expect 0 lsm-dump --digest db
    same out before
done

# Whoever looks meanwhile sees all or nothing.
lsm-load -q -T --atomic --sort-memory=1M -f many.text db &
pid=$!
seen=0
while kill -0 $pid 2>/dev/null; do
    lsm-dump -p db >out 2>err || fail "a reader: $(cat err)"
    count=$(grep -c '^ value' out)
    [ "$count" = 0 ] || [ "$count" = 60000 ] || fail "$count new values were seen"
    seen=$((seen + 1))
done
wait $pid || fail 'the load'
[ $seen -gt 0 ] || fail 'nobody looked'
expect 0 lsm-dump -p db
[ "$(grep -c '^ value' out)" = 60000 ] || fail 'not all is there'
lacks out ' old'

# All that is left in the directory is named.
if [ -x "$top_builddir/lsm-verify" ]; then
    expect 0 lsm-verify --level=full db
    lacks out orphan
fi
expect 16 lsm-load --atomic --resume -T db </dev/null
finish
