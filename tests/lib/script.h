/*
 * A list of operations on a database: made from a seed, or read from text; printed as text, so that
 * a list that found a fault becomes a regression test as it is.
 *
 * Text: one operation a line, its name, then words of the form name=value, flags, and for batches
 * and multi_get one word "+..." an entry. '#' begins a comment. Families, snapshots, iterators and
 * pins are named by slot numbers; an operation on a slot that holds nothing does nothing, so any
 * part of a list is a list.
 *
 *     put cf=1 key=61*3.0007 value=17:300 sync      key: 61 61 61 00 07; value: seed 17, 300 bytes
 *     batch +put,0,00*0.6b,18:5 +save +delete,1,00*0.6b +rollback
 *     batch txn sync +put,0,6b,18:5
 *     batch ingest +put,0,6b,18:5 +delete,1,00
 *     iter_open iter=0 cf=0 snapshot=1 first=00*0.31 limit=00*0.39 keys_only
 */
#ifndef TESTS_LIB_SCRIPT_H
#define TESTS_LIB_SCRIPT_H

#include "tests/lib/model.h"

#include <stdio.h>

#define SCRIPT_FAMILIES  6 /* slots; 0 is the default family */
#define SCRIPT_SNAPSHOTS 4 /* slots are counted from 1; 0 is the newest state */
#define SCRIPT_ITERATORS 3
#define SCRIPT_PINS      4
#define SCRIPT_TAIL_MAX  12
#define SCRIPT_KEY_MAX   ((size_t)65535)

/* `byte` repeated, then `tail`. */
struct script_key {
    uint8_t byte;
    uint8_t tail_size;
    uint32_t repeat;
    uint8_t tail[SCRIPT_TAIL_MAX];
};

size_t script_key_size(const struct script_key *key);
/* `bytes` holds script_key_size() of them. */
lsm_slice script_key_bytes(const struct script_key *key, uint8_t *bytes);

#define SCRIPT_KIND_LIST(X)                                                                        \
    X(PUT, "put")                                                                                  \
    X(DELETE, "delete")                                                                            \
    X(BATCH, "batch")                                                                              \
    X(GET, "get")                                                                                  \
    X(GET_INTO, "get_into")                                                                        \
    X(MULTI_GET, "multi_get")                                                                      \
    X(PIN, "pin")                                                                                  \
    X(UNPIN, "unpin")                                                                              \
    X(SNAPSHOT, "snapshot")                                                                        \
    X(UNSNAPSHOT, "unsnapshot")                                                                    \
    X(ITER_OPEN, "iter_open")                                                                      \
    X(ITER_CLOSE, "iter_close")                                                                    \
    X(ITER_REFRESH, "iter_refresh")                                                                \
    X(ITER_FIRST, "iter_first")                                                                    \
    X(ITER_LAST, "iter_last")                                                                      \
    X(ITER_SEEK, "iter_seek")                                                                      \
    X(ITER_SEEK_FOR_PREV, "iter_seek_for_prev")                                                    \
    X(ITER_NEXT, "iter_next")                                                                      \
    X(ITER_PREV, "iter_prev")                                                                      \
    X(CF_CREATE, "cf_create")                                                                      \
    X(CF_DROP, "cf_drop")                                                                          \
    X(CF_RENAME, "cf_rename")                                                                      \
    X(FLUSH, "flush")                                                                              \
    X(COMPACT, "compact")                                                                          \
    X(WAIT_IDLE, "wait_idle")                                                                      \
    X(SYNC, "sync")                                                                                \
    X(REOPEN, "reopen")                                                                            \
    X(CRASH, "crash")                                                                              \
    X(CHECK, "check")

enum script_kind {
#define SCRIPT_KIND_ENUM(name, text) SCRIPT_##name,
    SCRIPT_KIND_LIST(SCRIPT_KIND_ENUM)
#undef SCRIPT_KIND_ENUM
        SCRIPT_KINDS,
};

enum script_flags {
    SCRIPT_F_SYNC = 1,
    SCRIPT_F_KEYS_ONLY = 2,
    SCRIPT_F_NO_FILL = 4,
    SCRIPT_F_FORCE = 8,      /* compact the bottom too */
    SCRIPT_F_CANCEL = 16,    /* compact: progress says stop */
    SCRIPT_F_READ_ONLY = 32, /* reopen: look at it once in between, opened for reading only */
    SCRIPT_F_KEY = 64,       /* key, limit, prefix are set (bounds of iterators and compactions) */
    SCRIPT_F_LIMIT = 128,    /* */
    SCRIPT_F_PREFIX = 256,   /* */
    SCRIPT_F_TXN = 512,      /* batch: as a serialisable transaction that reads what it writes */
    SCRIPT_F_ABORT = 1024,   /* that is rolled back, or an ingest that is */
    SCRIPT_F_INGEST = 2048,  /* batch: as an ingest; save and rollback in it do nothing */
};

enum script_power { SCRIPT_KILL, SCRIPT_LOSE, SCRIPT_KEEP, SCRIPT_RANDOM };

enum script_entry_kind {
    SCRIPT_ENTRY_PUT,
    SCRIPT_ENTRY_DELETE,
    SCRIPT_ENTRY_SAVE,
    SCRIPT_ENTRY_ROLLBACK,
    SCRIPT_ENTRY_KEY, /* of a multi_get */
};

struct script_entry {
    enum script_entry_kind kind;
    uint32_t family;
    struct script_key key;
    struct model_value value;
};

struct script_op {
    enum script_kind kind;
    unsigned flags;
    uint32_t family;   /* slot */
    uint32_t snapshot; /* slot; 0: none */
    uint32_t slot;     /* of the iterator or pin */
    uint32_t count;    /* steps of an iterator, capacity of get_into, cancelled call of progress */
    uint32_t name;     /* of a family: "family-<name>" */
    enum script_power power;
    uint64_t seed; /* of the crash */
    struct script_key key, limit, prefix;
    struct model_value value;
    struct script_entry *entries; /* owned by the script */
    uint32_t entry_count;
};

struct script {
    struct script_op *ops;
    size_t count, capacity;
    char options[1024]; /* "options" line: what the database is opened with; may be empty */
    char backend[16];   /* "backend" line: sim, posix, uring; may be empty */
};

/* A zeroed script is empty. */
void script_release(struct script *s);
/* Takes over op.entries. */
void script_append(struct script *s, struct script_op op);
/* One operation from a line of text; false, with the reason printed, when it does not parse. */
bool script_append_text(struct script *s, const char *line);
/* A copy of the ops for which kept[i] is set; kept NULL: of all. */
struct script script_copy(const struct script *s, const bool *kept);

void script_print_op(FILE *out, const struct script_op *op);
void script_print(FILE *out, const struct script *s); /* header lines and ops */
bool script_read(struct script *s, const char *path);

/* What the generator may use. */
struct script_profile {
    uint64_t seed;
    uint32_t op_count;
    bool crashes;          /* crash operations too */
    bool large;            /* keys to the limit, values of some 100 KiB */
    uint32_t write_weight; /* writes among 100 operations; 0: chosen by the seed */
};
struct script script_generate(const struct script_profile *profile);

#endif
