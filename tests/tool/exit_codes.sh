#!/bin/sh
# Every exit code that a tool's page names is produced here, alone or in a sum, and no tool produces
# one that its page does not name.
. "${top_srcdir:?}/tests/tool/prelude.sh"
: >produced

# gives CODE TOOL ARGUMENT...: it ends so.
gives() {
    expect "$@"
    echo "$2 $1" >>produced
}

# spoil DB: the newest table is not as it was written any more.
spoil() {
    newest=$(find "$1" -name '*.sst' | sort | tail -n 1)
    printf '\377' | dd of="$newest" bs=1 seek=9 conv=notrunc 2>/dev/null
}

# Two families: one with a table that shall be damaged, one that takes long to merge or dump.
awk 'BEGIN { srand(5); for (i = 0; i < 3000; i++) {
    v = ""; for (j = 0; j < 125; j++) v = v sprintf("%08x", int(rand() * 4294967295))
    printf "k%06d\n%s\n", i, v } }' >large
printf 'a\n1\nb\n2\n' >small
lsm-load -q -T --create -f small db || fail 'lsm-load'
lsm-load -q -T --create -s large -f large db || fail 'lsm-load'
lsm-load -q -T -s large -f small db || fail 'lsm-load'
printf 'c\n3\n' | lsm-load -q -T db || fail 'lsm-load'
cp -r db damaged
spoil damaged
cp -r damaged half
cp -r db incomplete
rm "$(find incomplete -name '*.sst' | sort | head -n 1)"

# cancel TOOL ARGUMENT...: SIGINT once it says on -C 4 that it has begun; the code is in $code.
cancel() {
    : >lines
    "$@" -C 4 4>lines >out 2>err &
    child=$!
    await "$1 has begun" grep -q "${begun:-.}" lines
    kill -INT $child
    wait $child
    code=$?
    echo "$1 $code" >>produced
}
gives_cancelled() {
    wanted=$1
    shift
    cancel "$@"
    [ $code = "$wanted" ] || { fail "exit code $code instead of $wanted: $* and SIGINT"; cat err; }
}

for tool in lsm-compact lsm-dump lsm-load lsm-repair lsm-stat lsm-verify; do
    gives 0 $tool --help
    gives 16 $tool --no-such-option db
    gives 16 $tool
    gives 16 $tool db another
    [ $tool = lsm-load ] || gives 8 $tool nowhere
done

gives 0 lsm-stat db
gives 4 lsm-stat incomplete
mkfifo commands
holder db create=false <commands >holder.out &
first=$!
exec 3>commands
is_open() { grep -q ok holder.out; }
await 'the database is open' is_open
holder db create=false </dev/zero >/dev/null &
dead=$!
is_there() { lsm-stat -r db | grep -q "$dead"; }
await 'another one is there' is_there
kill -STOP $first # else its keeper cleans up
is_stopped() { lsm-stat -r db | grep -q STOPPED; }
await 'the first one is stopped' is_stopped
kill -KILL $dead
wait $dead 2>/dev/null
gives 1 lsm-stat -rr db
kill -CONT $first
exec 3>&-
wait

gives 0 lsm-dump db
gives 4 lsm-dump damaged
gives 68 lsm-dump --salvage damaged
gives 8 lsm-dump --cf nobody db
gives_cancelled 32 lsm-dump --cf large --rate=1M db

gives 0 lsm-load -T --dry-run -f small db
gives 1 lsm-load -T -n -f small db
gives 8 lsm-load -T -f nowhere db
printf 'odd\n' >odd
gives 8 lsm-load -T -f odd db
lsm-dump --compat=native --cf default db | sed 's/^lsm\.xxh3=..../lsm.xxh3=0000/' >forged
gives 4 lsm-load -f forged db
gives_cancelled 32 lsm-load -T --rate=1M -f large db

gives 0 lsm-compact --status db
gives 4 lsm-compact damaged
gives 8 lsm-compact --cf nobody db
gives_cancelled 32 lsm-compact --bottommost=force --compression=none --rate=1M --cf large db
begun=large
gives_cancelled 36 lsm-compact --bottommost=force --compression=none --rate=1M half
begun=

gives 0 lsm-verify db
gives 4 lsm-verify damaged
gives_cancelled 32 lsm-verify --rate=1M db

cp -r db one
spoil one
gives 0 lsm-repair -n db
gives 4 lsm-repair -n one
gives 1 lsm-repair -y one
gives 0 lsm-repair -y one
gives 65 lsm-repair -y incomplete
gives_cancelled 32 lsm-repair -y --rate=1M db
gives 0 lsm-verify db

begun=.
gives 0 lsm-verify db
gives 4 lsm-verify damaged
gives 8 lsm-verify --since-last --state=small db
gives_cancelled 32 lsm-verify --rate=100K db

# ---- the table ----
sort -u produced >table
echo 'produced:'
awk '{ codes[$1] = codes[$1] " " $2 } END { for (tool in codes) print "    " tool ":" codes[tool] }' table
for tool in $(cut -d' ' -f1 table | sort -u); do
    sed -n '/^\.SH EXIT STATUS/,/^\.SH/p' "$top_builddir/man/$tool.1" |
        sed -nE 's/^([0-9]+)\t.*/\1/p' >named
    awk -v tool="$tool" '
        NR == FNR { named[$1] = 1; next }
        $1 == tool {
            if ($2 == 0) seen[0] = 1
            for (bit = 1; bit <= 64; bit *= 2)
                if (int($2 / bit) % 2 == 1) {
                    seen[bit] = 1
                    if (!(bit in named)) print tool " ends with " $2 ", its page does not name " bit
                }
        }
        END { for (code in named) if (!(code in seen)) print tool " never ends with " code }
    ' named table >wrong
    [ ! -s wrong ] || fail "$(cat wrong)"
done
finish
