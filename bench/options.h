/* What lsm-bench was asked for. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum key_format {
    KEY_BINARY,  /* 8 bytes big-endian, then '0's: as RocksDB's db_bench */
    KEY_DECIMAL, /* zero-padded digits: as LevelDB's db_bench */
    KEY_USER,    /* "user" and zero-padded digits: as YCSB */
};

struct bench_options {
    char **arguments; /* the command line; borrowed */
    int argument_count;
    const char *directory; /* NULL: a temporary one, removed at the end */
    const char *engine;
    const char *workloads;      /* comma list */
    const char *engine_options; /* text for lsm_options_parse() */
    const char *json_file;
    const char *label; /* goes into the JSON; NULL: none */
    const char *child; /* what process_child_begin() takes; NULL: not a child */
    enum key_format key_format;
    uint64_t key_count;  /* --num */
    uint64_t read_count; /* 0: as key_count */
    uint64_t sync_count; /* 0: a hundredth of key_count */
    uint64_t seed;
    uint64_t memtable_size;
    uint64_t cache_size;
    bool has_sizes;      /* one of the two was given */
    uint64_t memory;     /* that all together may take, page cache included; 0: no limit */
    uint64_t duration_s; /* 0: until the operations are done */
    uint32_t key_size;
    uint32_t value_size;
    uint32_t threads; /* of each process */
    uint32_t processes;
    uint32_t batch_count;
    uint32_t multiget_count;
    uint32_t depth; /* of asyncrandom */
    uint32_t seek_nexts;
    uint32_t filter_bits;
    uint32_t sample_every; /* one latency of so many operations is measured */
    double compressible;   /* share of a value that is left when it is compressed */
    bool compress;
    bool sync;
    bool whole_fills;   /* duration_s does not stop what starts from an empty database */
    bool keep_data;     /* fill workloads do not start from an empty database */
    bool keep_iterator; /* seekrandom keeps one iterator instead of one a seek */
    bool verify;
    bool histogram;
    bool witness;
};

/* Fills `o`; on a bad option prints why and exits with 16, on --help exits with 0. */
void options_parse(struct bench_options *o, int argc, char **argv);

/* Prints to stderr and exits with 8: a benchmark has no use for half a result. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for a command line that cannot be obeyed: exits with 16. */
_Noreturn void die_of_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for what this engine, or this machine, cannot do: exits with 4. */
_Noreturn void die_unable(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
