#!/bin/sh
# Every workload of lsm-bench runs and reads back what was written. Nothing is timed.
. "${top_srcdir:?}/tests/tool/prelude.sh"
bench=$top_builddir/bench/lsm-bench
need "$bench" "$top_builddir/tests/tool/json_lines"
mkdir databases
export TMPDIR="$work/databases"

# runs WORKLOADS OPTION...: passes with --verify, and gives a line of JSON a workload.
runs() {
    workloads=$1
    shift
    rm -f json
    expect 0 "$bench" --num=2000 --verify --json=json --workloads="$workloads" "$@"
    for workload in $(echo "$workloads" | tr ',' ' '); do
        grep -q "\"workload\":\"$workload\".*\"operations\":[1-9]" json || fail "no result of $workload: $*"
    done
}

reads=readrandom,readmissing,multiget,readseq,readreverse,seekrandom
ycsb='ycsb-a,ycsb-b,ycsb-c,ycsb-d,ycsb-e,ycsb-f'
series=ts-append,ts-scan,ts-expire
small='--memtable=256KiB --cache=1MiB'
"$bench" --list-engines >engines 2>absent || fail "no list of engines"
says engines lsm
engines=$(cat engines)

# Everything with libengine.
# shellcheck disable=SC2086 # a list of options
set -- $small --options=stage_size=256KiB,wal_segment_size=1MiB
runs "fillseq,$reads,settle,$reads,flush,$reads" "$@"
runs "fillrandom,overwrite,flush,compact,$reads,reopen,$reads,evict,$reads" "$@"
runs "fillbatch,fillsync,recover,$reads" "$@"
runs "fillrandom,$ycsb,deleterandom,readmissing,readrandom,settle,readseq" "$@"
runs "fillseq,$series,flush,ts-scan,readseq" "$@" --threads=3
runs "fillrandom,readwhilewriting,$reads" "$@" --threads=3 --key-format=user
runs "fillseq,seekrandom,overwrite,readrandom" "$@" --key-format=decimal --keep-iterator \
    --batch=7 --compression=none --filter-bits=0 --key-size=30 --value-size=1000
runs overwrite "$@" --duration=1 --sync --histogram
runs "fillrandom,settle,readrandom" --options='workers=1,block_size=4KiB'

runs "checkpoint,fillrandom,checkpoint,overwrite,settle,checkpoint,readseq" "$@"
mkdir -p taken.copy/there
expect 8 "$bench" --num=10 --workloads=fillseq,checkpoint --db=taken
[ -d taken.copy/there ] || fail "a checkpoint has replaced what was there"

# Each call of the others at least once.
for engine in ${engines#lsm}; do
    # shellcheck disable=SC2086
    set -- --engine="$engine" $small
    runs "fillrandom,$reads,overwrite,flush,compact,$reads,evict,$reads" "$@"
    runs "fillbatch,recover,$ycsb,deleterandom,readmissing,readwhilewriting" "$@" --threads=2
    runs "fillseq,$series,settle,readseq,reopen,seekrandom" "$@" --compression=none --filter-bits=0
    runs fillsync "$@" --sync --syncs=20
    case $engine in
    leveldb) expect 4 "$bench" --workloads=checkpoint "$@" ;;
    *) runs "checkpoint,fillrandom,checkpoint,overwrite,settle,checkpoint,readseq" "$@" ;;
    esac
done

# With a witness of the machine's pauses, or the word that there is none; never both. No operation's
# time outside of pauses is longer than the longest, and without pauses the longest it is.
member() { "$top_builddir/tests/tool/json_lines" "$1" <json; }
for processes in 1 2; do
    # shellcheck disable=SC2086
    runs fillrandom,readwhilewriting,settle $small --witness --sample=1 --processes=$processes
    cp out text
    if [ -n "$(member unwitnessed)" ]; then
        says text 'witness   none'
        lacks text 'outside of pauses'
        [ -z "$(member pauses)$(member waits)" ] || fail "pauses without a witness"
        continue
    fi
    [ "$(member witnessed_processors)" -ge 1 ] || fail "no witnesses"
    [ "$(member pauses | wc -l)" = 3 ] || fail "not each workload has its pauses"
    # The writer beside the readers has none when they are done before its first put.
    timed=$(grep -c '"max_us"' json)
    [ "$timed" -ge 2 ] || fail "$timed workloads have latencies"
    [ "$(member waits | wc -l)" = "$timed" ] || fail "not each one with latencies has its waits"
    [ "$(grep -c 'outside of pauses' text)" = "$timed" ] || fail "not each workload's waits are printed"
    sed -n 's/.*"max_us":\([0-9.]*\).*"max_outside_all_us":\([0-9.]*\).*"max_outside_any_us":\([0-9.]*\).*/\1 \2 \3/p' json >longest
    [ "$(wc -l <longest)" = "$timed" ] || fail "not the longest wait of each"
    awk '$2 > $1 || $3 > $2 || $3 <= 0 { print; bad = 1 } END { exit bad }' longest ||
        fail "longer without pauses than with them: $(cat longest)"
    [ "$(member pauses | sort -u)" != 0 ] || awk '$2 != $1 { bad = 1 } END { exit bad }' longest ||
        fail "no pause and yet something is taken off: $(cat longest)"
done
# shellcheck disable=SC2086
runs fillrandom $small
lacks out 'machine:'
lacks json pauses
# Where priority is refused, nothing is said of pauses.
if setpriv --help 2>&1 | grep -q bounding-set && [ "$(id -u)" = 0 ]; then
    rm -f json
    expect 0 setpriv --bounding-set=-sys_nice --inh-caps=-sys_nice "$bench" --num=2000 \
        --workloads=fillseq --witness --json=json
    says out 'witness   none'
    says json '"unwitnessed":"real-time priority is refused'
    lacks json '"pauses"'
fi

# Several processes on one database: where the engine can.
for engine in $engines; do
    # shellcheck disable=SC2086
    set -- --engine="$engine" $small --processes=3
    case $engine in
    lsm | lmdb*)
        runs "fillrandom,$reads,fillsync,ycsb-d,readwhilewriting,fillseq,$series" "$@"
        says json '"processes":3'
        ;;
    *) expect 4 "$bench" --workloads=fillseq "$@" ;;
    esac
done

# Memory is bound by a control group, or the run is refused.
"$bench" --memory=64MiB --num=2000 --workloads=fillseq,readseq --verify >out 2>err
case $? in
0) says out 'MB for all with the page cache' ;;
4) says err 'control group' ;;
*) fail "--memory: $(cat err)" ;;
esac

# What the engine holds of the memory that it was given. Instrumented programs hold more.
rm -f json
expect 0 "$bench" --options=memory=32MiB --num=200000 --reads=10000 --threads=4 --json=json \
    --workloads=fillrandom,readwhilewriting,readrandom
[ "$(grep -c '"memory_share":' json)" = 3 ] || fail "not each result tells the memory held"
if ! grep -q '^INSTRUMENT_CFLAGS.*fsanitize' "$top_builddir/Makefile"; then
    sed -n 's/.*"workload":"\([a-z]*\)".*"memory_share":\([0-9.]*\).*/\1 \2/p' json |
        awk '$2 < 0.2 || $2 > 1.3 { print; bad = 1 } END { exit bad }' >over ||
        fail "held of 32 MiB: $(cat over)"
fi
expect 16 "$bench" --options=memory=32MiB --memtable=1MiB --workloads=fillseq

# Sets of runs by turns: an engine that cannot do a line is left out, all else is in the report.
cat >tiny.set <<'END'
# a comment
first label  | --num=500 | fillrandom, readrandom
second <&> one | --num=300 --processes=2 | fillseq
END
expect 0 "$top_srcdir/bench/compare" -b "$top_builddir/bench" -n 2 -o report -s ./tiny.set -- --verify
for engine in $engines; do
    [ "$(grep -c "\"record\":\"run\".*\"label\":\"first label\",\"engine\":\"$engine\"" report/results.jsonl)" = 2 ] ||
        fail "$engine was not run twice"
done
[ "$(grep -c '^first label.*readrandom.*ops_per_second' report/medians.tsv)" = "$(grep -c . engines)" ] ||
    fail "medians.tsv has not every engine"
says report/ratios.txt 'Medians of 2 rounds'
says report/ratios.md '| readrandom | fillrandom |'
says report/report.html 'second &lt;&amp;&gt; one'
lacks report/report.html 'src='
for file in report.html ratios.md; do
    says "report/$file" 'Others, by design and published figures'
    says "report/$file" 'Not measured in this run'
done
says report/ratios-2.svg '</svg>'
echo '{"schema":"another"}' >>report/results.jsonl
expect 8 "$top_builddir/bench/lsm-bench-report" report/results.jsonl report
says err 'line '
expect 16 "$top_srcdir/bench/compare" -b "$top_builddir/bench" -s nonsense
expect 16 "$top_srcdir/bench/compare" -b nowhere
expect 16 "$top_builddir/bench/lsm-bench-report"

# Medians over the rounds, odd and even, and which way a ratio goes.
result() { # ENGINE WORKLOAD ONCE OPS SECONDS
    printf '{"schema":"lsm-bench/2","record":"result","label":"L","engine":"%s",' "$1"
    printf '"workload":"%s","state":"S","once":%s,"threads":1,"processes":1,' "$2" "$3"
    printf '"ops_per_second":%s,"seconds":%s}\n' "$4" "$5"
}
{
    result lmdb fast 0 100 1
    for ops in 100 400 300; do result lsm fast 0 $ops 1; done
    result lmdb fast 0 200 1
    result lsm open 1 0.5 2
    result lmdb open 1 2 0.5
} >made.jsonl
mkdir made
expect 0 "$top_builddir/bench/lsm-bench-report" made.jsonl made
says made/ratios.txt 'Medians of 1 rounds'
says made/ratios.md '| fast | S | 300/s | 2.00 |'
says made/ratios.md '| open | S | 2.00 s | 0.25 |'
says made/medians.tsv "$(printf 'fast\t1\t1\tops_per_second\tlmdb\t150\t100\t200')"
grep -v '"lsm"' made.jsonl >others.jsonl
expect 8 "$top_builddir/bench/lsm-bench-report" others.jsonl made
expect 8 "$top_builddir/bench/lsm-bench-report" absent.jsonl made

# Lines of a set that share a label stand together wherever they are; what is done once is told apart
# by the threads that filled the database. The longest wait outside of pauses is shown where it is known.
cat >apart.set <<'END'
near | --num=300 | fillseq, settle
far  | --num=300 | fillrandom
near | --num=300 --threads=2 | fillseq, settle
END
expect 0 "$top_srcdir/bench/compare" -b "$top_builddir/bench" -n 1 -e lsm -o apart -s ./apart.set -- --witness
says apart/ratios.txt 'Medians of 1 rounds'
[ "$(grep -c '^near' apart/ratios.txt)" = 1 ] || fail "a label stands twice"
[ "$(grep -c '^near.*settle.*	seconds	' apart/medians.tsv)" = 2 ] || fail "two databases are one"
[ ! -e apart/ratios-3.svg ] || fail "more drawings than labels"
if grep -q unwitnessed apart/results.jsonl; then
    lacks apart/report.html 'of pauses of any</th>'
else
    says apart/report.html 'of pauses of any</th>'
    says apart/medians.tsv max_outside_any_us
fi
lacks report/report.html 'of pauses of any</th>'

# What is asked wrongly is refused, and nothing is left behind.
expect 16 "$bench"
expect 16 "$bench" --workloads=settle extra
expect 16 "$bench" --workloads=settle --bogus
expect 16 "$bench" --workloads=settle --num=0
expect 16 "$bench" --workloads=settle --num=12x
expect 16 "$bench" --workloads=settle --key-size=8
expect 16 "$bench" --workloads=nonsense
expect 16 "$bench" --workloads=settle --engine=nonsense
[ -z "$(ls -A databases)" ] || fail "left behind: $(ls -A databases)"
finish
