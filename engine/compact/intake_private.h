/* What the parts of the intake share. */
#ifndef ENGINE_COMPACT_INTAKE_PRIVATE_H
#define ENGINE_COMPACT_INTAKE_PRIVATE_H

#include "engine/base/buffer.h"
#include "engine/compact/intake.h"

#include <pthread.h>

/* ---- chunks (intake_chunk.c) ----------------------------------------------------------------- */

struct chunk_entry {
    /* bytes_head() of the key behind what all keys begin with; 0 when nothing had to be sorted */
    uint64_t head;
    const uint8_t *bytes; /* key, value */
    uint32_t cf;
    uint32_t value_size;
    uint16_t key_size;
    uint8_t type; /* enum entry_type */
};

/* Entries in the order in which they came. Zeroed is empty. */
struct chunk {
    uint8_t *arena; /* owned */
    size_t arena_size, used;
    struct chunk_entry *entries; /* owned */
    size_t count, room;
    struct chunk_entry *scratch; /* owned; of the sorting */
    size_t scratch_room;
    bool is_unsorted; /* they do not ascend by family and key */
    bool in_order;    /* a family's came in key order, these and all before them */
};

static inline lsm_slice chunk_key(const struct chunk_entry *e)
{
    return (lsm_slice){e->bytes, e->key_size};
}

static inline lsm_slice chunk_value(const struct chunk_entry *e)
{
    return (lsm_slice){e->bytes + e->key_size, e->value_size};
}

/* Sorted entries lie anywhere in memory: the first lines of one that is written soon. */
static inline void entry_prefetch(const struct chunk_entry *e)
{
    for (size_t i = 0; i < 3; i++)
        __builtin_prefetch(e->bytes + i * 64);
}

/* Bytes of memory it needs, sorting included. */
size_t chunk_memory(const struct chunk *c);
/* False when memory is short. `arena_size`: what an arena is made with, if the entry fits. */
bool chunk_add(struct chunk *c, size_t arena_size, uint32_t cf, enum entry_type type, lsm_slice key,
               lsm_slice value);
bool chunk_has_room(const struct chunk *c, lsm_slice key, lsm_slice value);
/* By family and key; of equal keys the earlier stays first. False when memory is short. */
bool chunk_sort(struct chunk *c);
void chunk_clear(struct chunk *c); /* keeps the memory */
void chunk_release(struct chunk *c);

/* ---- tables (intake_stream.c) ---------------------------------------------------------------- */

/* Sealed tables in the making, in key order. */
struct stream {
    const struct compact_env *env;
    const struct intake_family *family;
    struct table_writer *writer; /* NULL: none is begun */
    uint64_t empty_size;         /* of its file without an entry */
    uint64_t unchecked;          /* bytes added since its size was looked at */
    struct buffer last_key;      /* of the last entry */
    bool has_last;
    struct table_writer **sealed; /* owned */
    size_t count, room;
    uint64_t entries;
};

struct intake_run {
    uint64_t number;
    uint64_t size;     /* bytes of the file */
    uint64_t raw_size; /* of keys and values */
    uint32_t tier;     /* how often its entries were merged */
};

struct intake_family {
    struct intake_family *next;
    uint32_t id;
    char *name; /* owned */
    lsm_cf_options options;

    /* of the thread that adds */
    bool in_order; /* so far every key was above all before it */
    bool has_newest;
    struct buffer newest_key;

    /* of the thread that writes */
    struct stream stream;
    struct intake_run *runs; /* owned */
    size_t run_count, run_room;
    struct buffer marks; /* some of the runs' keys: size u8, bytes */
    size_t mark_count;
};

struct intake {
    struct intake_options options;
    struct intake_family *families; /* newest first; the list grows under `lock` */
    struct intake_family *recent;   /* of the last entry */
    struct chunk chunks[2];
    unsigned filling;     /* index of the chunk that takes entries */
    uint64_t run_ordinal; /* of the next run (the writing thread's) */
    size_t table_count;   /* set by intake_finish() */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool has_thread;
    pthread_t thread;
    /* guarded by lock */
    struct chunk *full; /* for the thread; NULL: it has nothing to do */
    bool is_ending;
    lsm_status status; /* of the first failure there, */
    lsm_error error;   /* and what it was */
};

/* Entries ascend and are above has_last's key. */
lsm_status stream_add(struct stream *s, lsm_slice key, enum entry_type type, lsm_slice value,
                      lsm_error *err);
lsm_status stream_finish(struct stream *s, lsm_error *err); /* seals the last table */
void stream_release(struct stream *s);                      /* removes what is not given */

/* ---- runs (intake_merge.c) ------------------------------------------------------------------- */

/* Sequence numbers of runs: they say which of several entries of a key counts. */
uint64_t run_sequence(const struct intake *in, uint64_t ordinal);
/* Writes a run of entries [0, count), one family's, sorted. */
lsm_status run_write(struct intake *in, struct intake_family *family,
                     const struct chunk_entry *entries, size_t count, lsm_error *err);
/* Merges all runs of the family, and what its stream holds, into a new stream. */
lsm_status runs_merge(struct intake *in, struct intake_family *family, lsm_error *err);
/* The runs' files go. */
void runs_release(struct intake *in, struct intake_family *family);

/* Of entries [first, count) with one key: the one that counts; *next is behind them. */
static inline const struct chunk_entry *entry_that_counts(const struct intake *in,
                                                          const struct chunk_entry *entries,
                                                          size_t first, size_t count, size_t *next)
{
    size_t i = first + 1;
    while (i < count && entries[i].head == entries[first].head &&
           slice_equal(chunk_key(&entries[i]), chunk_key(&entries[first])))
        i++;
    *next = i;
    return &entries[in->options.keep_first ? first : i - 1];
}

#endif
