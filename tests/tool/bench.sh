#!/bin/sh
# Every workload of lsm-bench runs and reads back what was written. Nothing is timed.
. "${top_srcdir:?}/tests/tool/prelude.sh"
bench=$top_builddir/bench/lsm-bench
need "$bench"
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
small='--memtable=256KiB --cache=1MiB'
engines=lsm
! "$bench" --engine=rocksdb --num=1 --workloads=settle >out 2>err || engines='lsm rocksdb'
for engine in $engines; do
    # shellcheck disable=SC2086 # a list of options
    set -- --engine="$engine" $small
    [ "$engine" != lsm ] || set -- "$@" --options=stage_size=256KiB,wal_segment_size=1MiB
    runs "fillseq,$reads,settle,$reads,flush,$reads" "$@"
    runs "fillrandom,overwrite,flush,compact,$reads,reopen,$reads,evict,$reads" "$@"
    runs "fillbatch,fillsync,recover,$reads" "$@"
    runs "fillrandom,$ycsb,deleterandom,readmissing,readrandom,settle,readseq" "$@"
    runs "fillrandom,readwhilewriting,$reads" "$@" --threads=3 --key-format=user
    runs "fillseq,seekrandom,overwrite,readrandom" "$@" --key-format=decimal --keep-iterator \
        --batch=7 --compression=none --filter-bits=0 --key-size=30 --value-size=1000
    runs overwrite "$@" --duration=1 --sync --histogram
done
runs "fillrandom,settle,readrandom" --options='workers=1,block_size=4KiB'

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
