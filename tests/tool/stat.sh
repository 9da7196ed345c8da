#!/bin/sh
# lsm-stat says what a database is doing, whoever has it open and in whatever state that is.
. "${top_srcdir:?}/tests/tool/prelude.sh"

# member PATH: of the JSON object in ./out.
member() {
    json_lines "$1" <out
}

# expect_member PATH VALUE
expect_member() {
    got=$(member "$1") || fail "no JSON: $(head -c 200 out)"
    [ "$got" = "$2" ] || fail "$1 is '$got' instead of '$2'"
}

# Whether ./out is in Prometheus' text format, line by line.
check_metrics() {
    awk '
    function bad(why) { print "    line " NR ": " why ": " $0; failed = 1 }
    /^# HELP / { if ($3 in help) bad("a second HELP"); if (NF < 4) bad("no text"); help[$3] = 1; next }
    /^# TYPE / {
        if (!($3 in help) || ($3 in type)) bad("TYPE without HELP, or again")
        if ($4 != "gauge" && $4 != "counter") bad("no type")
        if ($4 == "counter" && $3 !~ /_total$/ && $3 != "lsm_sequence") bad("a counter without _total")
        type[$3] = $4; current = $3; next
    }
    /^#/ || /^$/ { bad("unknown"); next }
    {
        if (!match($0, /^lsm_[a-z0-9_]+/)) { bad("no name"); next }
        if (substr($0, 1, RLENGTH) != current) bad("not behind its TYPE")
        rest = substr($0, RLENGTH + 1)
        if (rest !~ /^\{([a-z_]+="([^"\\]|\\["\\n])*",?)*\} [0-9]+$/) bad("labels or value")
        if (seen[$0]++) bad("twice")
        count++
    }
    END { if (count < 10) { print "    only " count + 0 " samples"; failed = 1 } exit failed }
    ' out || fail 'the metrics are not in the text format'
}

# hold NAME DIR OPTIONS: a process that holds the database open, obeying lines in fifo NAME.
hold() {
    mkfifo "$1"
    holder "$2" "$3" <"$1" >"$1.said" 2>&1 &
    case $1 in
        a) pid_a=$! && exec 5>a ;;
        b) pid_b=$! && exec 6>b ;;
    esac
    await "$1 has it open" grep -q ok "$1.said"
}

# tell NAME LINE
tell() {
    lines=$(wc -l <"$1.said")
    case $1 in
        a) echo "$2" >&5 ;;
        b) echo "$2" >&6 ;;
    esac
    await "$1 obeyed '$2'" sh -c "[ \$(wc -l <$1.said) -gt $lines ]"
    [ "$(tail -n 1 "$1.said")" = ok ] || fail "$1: $(tail -n 1 "$1.said")"
}

# Stops a where it holds no lock: a process that is stopped with one has nothing else to say.
stop_a() {
    while :; do
        kill -STOP "$pid_a"
        await 'a is stopped' sh -c "lsm-stat -r '$db' | grep -q STOPPED"
        lsm-stat --explain-stall "$db" >stopped
        grep -q 'is stopped and holds' stopped || return 0
        kill -CONT "$pid_a"
        sleep 0.05
    done
}

# ---- nothing there
expect 8 lsm-stat nowhere
[ ! -e nowhere ] || fail 'lsm-stat made a directory'
mkdir empty
expect 8 lsm-stat empty
says err 'no database'
expect 8 lsm-stat --json empty
expect_member error.status LSM_MISSING
expect_member exit 8
[ -z "$(ls -A empty)" ] || fail 'lsm-stat made a file'

# ---- closed
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "k%06d\n%0100d\n", i, i }' |
    lsm-load -q -T --create db || fail 'lsm-load'
find db -type f -exec cksum {} + | sort >files
expect 0 lsm-stat db
says out 'nobody has it open; it was closed cleanly'
expect 0 lsm-stat -rlcwie --explain-stall db
says out 'no process has it open'
says out 'nothing stops or slows writers'
says out 'level0_stop=20'
expect 0 lsm-stat --json db
expect_member schema lsm-stat/1
expect_member state closed
expect_member files.clean true
expect_member processes '[ ]'
expect_member families.0.name default
expect_member damages '[ ]'
entries=$(member families.0.levels.0.entries)
[ "$entries" = 3000 ] || [ "$(member families.0.levels.6.entries)" = 3000 ] || fail 'not 3000 entries'
expect 0 lsm-stat --prometheus db
check_metrics
says out 'lsm_open{db="db"} 0'
expect 0 lsm-stat -rr db
expect 8 lsm-stat -l --cf=nobody db
find db -type f -exec cksum {} + | sort >files.now
same files.now files

# ---- alone
hold a db workers=1,exclusive=true
expect 0 lsm-stat db
says out 'open in one process, which lets nobody in'
expect 0 lsm-stat --json db
expect_member state alone
expect_member processes.0.pid "$pid_a"
expect_member processes.0.role alone
expect_member processes.0.workers true
exec 5>&-
wait "$pid_a" || fail 'a failed'

# ---- with a cache that is shared
rm -f a
hold a db workers=1,shared_cache=true,cache_size=16MiB
expect 0 lsm-stat --json db
expect_member processes.0.report.shared_cache_size 16777216
expect_member processes.0.report.shared_cache_bytes 0
tell a iterate
await 'a tells of its cache' sh -c 'lsm-stat -c db | grep -q "MiB by all"'
exec 5>&-
wait "$pid_a" || fail 'a failed'

# ---- shared, with somebody who reads old things
rm -f a
hold a 'we"ird\db' create=true,memtable_size=256KiB,level0_trigger=6,level0_slowdown=6,level0_stop=9
db='we"ird\db'
hold b "$db" workers=none,io=posix
expect 0 lsm-stat --json "$db"
expect_member state shared
expect_member processes.0.role workers
expect_member processes.1.role 'light client'
expect_member processes.1.report.io_backend posix
expect_member processes.1.snapshots 0
expect_member processes.1.report.iterators 0
expect_member processes.1.report.shared_cache_size 0
expect_member waits.level0.longest_us 0
expect 0 lsm-stat -w "$db"
says out 'all processes since it was opened'
lacks out 'switch'
tell a 'put 0 500 100'
tell b iterate
tell b snapshot
tell a flush
tell a 'put 0 500 100'
tell a flush
tell a compact
expect 0 lsm-stat --json "$db"
expect_member processes.1.pid "$pid_b"
expect_member processes.1.command holder
expect_member processes.1.alive true
expect_member processes.1.snapshots 1
expect_member processes.1.oldest_snapshot 500
expect_member processes.1.report.iterators 1
expect_member processes.1.blocks_tables true
expect_member processes.1.blocked_memtables 1
expect_member processes.0.blocks_tables false
expect_member processes.0.blocked_memtables 0
expect_member sequence.visible 1000
expect_member families.0.levels.0.tables 0
[ "$(member files.superseded.count)" -ge 2 ] || fail 'no tables are kept for b'
[ "$(member processes.1.versions_behind)" -ge 2 ] || fail 'b is not behind'
[ "$(member processes.0.report.flush_bytes_written)" -gt 0 ] || fail 'a flushed nothing'
expect 0 lsm-stat "$db"
says out 'open in 2 processes'
says out "kept for process $pid_b ('holder')"
expect 0 lsm-stat -r "$db"
says out "process $pid_b ('holder')"
says out 'BLOCKS     1 memtable'
expect 0 lsm-stat --explain-stall "$db"
says out "note: process $pid_b ('holder') reads tables"
expect 0 lsm-stat -i "$db"
says out 'backend    posix: '
expect 0 lsm-stat -e "$db"
says out '/lsm-'
expect 0 lsm-stat --prometheus "$db"
check_metrics
says out "lsm_process_blocks_tables{db=\"we\\\"ird\\\\db\",pid=\"$pid_b\",command=\"holder\"} 1"

# ---- killed: it is dead, and what it held is kept until somebody cleans up. The one with a keeper,
# who would do that, is stopped.
stop_a
kill -KILL "$pid_b"
wait "$pid_b" 2>wait.err
exec 6>&-
expect 0 lsm-stat --json "$db"
expect_member processes.0.run_state stopped
expect_member processes.1.alive false
expect_member processes.1.blocks_tables true
expect 0 lsm-stat --explain-stall "$db"
says out "process $pid_a ('holder') is stopped"
says out "process $pid_b ('holder') died"
expect 0 lsm-stat "$db"
says out '1 more died'
expect 1 lsm-stat -v -rr "$db"
says err 'cleaned up'
lacks out DEAD
expect 0 lsm-stat -rr "$db"
kill -CONT "$pid_a"

# ---- behind with compaction: nobody who runs has workers
tell a 'put 0 10 10'
stop_a
rm -f b
hold b "$db" workers=none
for round in 1 2 3 4 5 6; do
    tell b "put $round 10 10"
    tell b flush
done
expect 0 lsm-stat --explain-stall "$db"
says out "slows writers: compaction of 'default' is behind"
says out 'no process that runs has workers'
expect 0 lsm-stat -l "$db"
says out 'writers slowed from 6'
expect 0 lsm-stat --json "$db"
expect_member causes.0.kind level0
expect_member causes.0.effect_on_writers slows
expect 0 lsm-stat --prometheus "$db"
check_metrics
says out 'lsm_writers_held_up{db="we\"ird\\db"} 1'
kill -CONT "$pid_a"
exec 6>&-
wait "$pid_b" || fail 'b failed'

# ---- again and again
lsm-stat --watch=1 --json "$db" >watched &
watcher=$!
await 'two looks' awk 'END { exit NR < 2 }' watched
kill -TERM "$watcher"
wait "$watcher" || fail "--watch ends with $?"
json_lines state <watched >states
[ "$(sort -u states)" = shared ] || fail "--watch --json: $(sort -u states)"
exec 5>&-
wait "$pid_a" || fail 'a failed'
expect 0 lsm-stat "$db"
says out 'closed cleanly'

# ---- not closed: everybody was killed
rm -f a
hold a "$db" workers=2
tell a 'put 0 10 10'
kill -KILL "$pid_a"
wait "$pid_a" 2>wait.err
exec 5>&-
await 'it is gone' sh -c "lsm-stat '$db' | grep -q 'it was not closed'"
expect 0 lsm-compact -q "$db" # recovers it, and removes the shared memory that was left
expect 0 lsm-stat "$db"
says out 'closed cleanly'

# ---- damaged
cp -r db cut
table=$(find cut -name '*.sst' | head -n 1)
printf x >>"$table"
expect 4 lsm-stat cut
says err "$(basename "$table")"
says out 'in 1 family'
expect 4 lsm-stat --prometheus cut
check_metrics
says out 'lsm_damages{db="cut"} 1'
rm "$table"
expect 4 lsm-stat --json cut
expect_member error.status LSM_CORRUPT
expect_member damages.0.file "$(basename "$table")"
expect_member families.0.name default
printf damagedamage | dd of="$(find cut -name 'MANIFEST-*' | sort | tail -n 1)" bs=1 seek=100 \
    conv=notrunc 2>dd.err
expect 4 lsm-stat -rle cut
expect 4 lsm-stat cut
says out 'its manifest cannot be read'
echo nonsense >cut/CURRENT
expect 4 lsm-stat cut
rm cut/CURRENT
expect 4 lsm-stat cut
head -c 4096 /dev/urandom >cut/LOCK
expect 4 lsm-stat cut

# ---- options
printf '# good\nmemtable_size=1MiB, cache_size=none\n\nexclusive = true\nworkers=none # none\n' >options
sed -i 's/, /,/; s/ = /=/' options
expect 0 lsm-stat --check-config=options
says out '3 lines'
printf 'memtable_size=1MiB\nmemtable_count=99\nno_such=1\n' >options
expect 8 lsm-stat --check-config=options
says err 'options:2: '
says err 'options:3: '
expect 8 lsm-stat --check-config=options --json
expect_member error.status INPUT
expect 8 lsm-stat --check-config=nowhere
for wrong in '--watch=0' '--watch=x' '--no-such' '--json --prometheus' '--check-config=options'; do
    # shellcheck disable=SC2086 # a list
    expect 16 lsm-stat $wrong db
done
expect 16 lsm-stat
expect 0 lsm-stat --help
expect 0 lsm-stat --version
finish
