/* What the parts of the intake share. */
#ifndef ENGINE_COMPACT_INTAKE_PRIVATE_H
#define ENGINE_COMPACT_INTAKE_PRIVATE_H

#include "engine/base/buffer.h"
#include "engine/base/head_sort.h"
#include "engine/compact/intake.h"
#include "engine/compact/spill_private.h"

#include <pthread.h>

/* ---- chunks (intake_chunk.c, intake_sort.c) ----------------------------------------------------
 */

/* An entry's item: the head of its key, only of use while it is sorted; the place of its record in
 * the arena, in units of RECORD_ALIGNMENT; and as mark its family. */
#define CHUNK_ARENA_MAX ((size_t)UINT32_MAX * RECORD_ALIGNMENT)

/* Entries in the order in which they came. Zeroed is empty. */
struct chunk {
    uint8_t *arena; /* owned; records */
    size_t arena_size, used;
    struct head_item *items; /* owned */
    size_t count, room;
    struct head_item *scratch; /* owned; of the sorting */
    size_t scratch_room;
    size_t prefix_size; /* bytes that all keys begin with */
    size_t stale_heads; /* items whose heads are of bytes before the prefix's end, the first ones */
    bool has_several;   /* families */
    bool is_unsorted;   /* they do not ascend by family and key */
    bool in_order;      /* a family's came in key order, these and all before them */
};

static inline const uint8_t *chunk_record(const struct chunk *c, const struct head_item *item)
{
    return c->arena + (size_t)item->place * RECORD_ALIGNMENT;
}

static inline lsm_slice chunk_key(const struct chunk *c, const struct head_item *item)
{
    return record_key(chunk_record(c, item));
}

/* Sorted records lie anywhere in memory: the first lines of one that is read soon. */
static inline void chunk_prefetch(const struct chunk *c, const struct head_item *item)
{
    for (size_t i = 0; i < 3; i++)
        __builtin_prefetch(chunk_record(c, item) + i * 64);
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

/* Sorted items of one family. */
struct chunk_part {
    const struct chunk *chunk;
    const struct head_item *items;
    size_t count;
};

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

/* A table of the stream that has to be merged after all. */
struct intake_table {
    uint64_t number, size, raw_size;
    struct buffer smallest, largest; /* keys */
};

/* A sorted spill of one family. */
struct intake_run {
    struct spill spill;
    uint64_t entries;
    uint64_t raw_size;   /* of keys and values */
    uint32_t tier;       /* how often its entries were merged */
    struct buffer marks; /* some entries: position u64, size u8, beginning of the key */
    size_t mark_count;
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
    struct intake_run *runs; /* owned; later ones behind earlier ones */
    size_t run_count, run_room;
    bool has_prefix;
    struct buffer prefix; /* what all keys of the runs begin with */

    /* of intake_finish() */
    struct chunk_part rest;      /* entries that no run took; behind all runs */
    struct intake_table *tables; /* owned; they are before all runs */
    size_t table_count;
};

struct intake {
    struct intake_options options;
    struct intake_family *families; /* newest first; the list grows under `lock` */
    struct intake_family *recent;   /* of the last entry */
    struct chunk chunks[2];
    unsigned filling;         /* index of the chunk that takes entries */
    struct spill_file spills; /* the writing thread's */
    size_t table_count;       /* set by intake_finish() */

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

/* ---- runs (intake_runs.c) ----------------------------------------------------------------------
 */

#define RUN_MARKS 32 /* keys of each run that are remembered, to find a place in it */
#define MARK_SIZE 64 /* bytes of them at most */

/* Zeroed and then begun. */
struct run_writer {
    struct spill_writer spill;
    struct intake_run run;
    uint64_t step, next_mark; /* entries */
};
/* `expected`: entries at most. */
lsm_status run_begin(struct intake *in, uint64_t expected, struct run_writer *w, lsm_error *err);
lsm_status run_add(struct run_writer *w, enum entry_type type, lsm_slice key, lsm_slice value,
                   lsm_error *err);
/* Appends the run to the family's. The writer is released, whatever is returned. */
lsm_status run_end(struct run_writer *w, struct intake_family *family, uint32_t tier,
                   lsm_error *err);
void run_abort(struct run_writer *w);
/* Writes a run of the part, and merges runs where there are many. */
lsm_status run_write(struct intake *in, struct intake_family *family, const struct chunk_part *part,
                     lsm_error *err);
/* No key of what is to be merged is beyond the two. */
lsm_status runs_note_ends(struct intake_family *family, lsm_slice smallest, lsm_slice largest,
                          lsm_error *err);
void runs_release(struct intake *in, struct intake_family *family);
/* How many runs may be read together. */
size_t run_fan_in(const struct intake *in);

/* Of a part's items [first, count) with one key: the one that counts; *next is behind them. */
static inline const struct head_item *item_that_counts(const struct intake *in,
                                                       const struct chunk_part *part, size_t first,
                                                       size_t *next)
{
    const struct head_item *items = part->items;
    size_t i = first + 1;
    while (i < part->count && items[i].head == items[first].head &&
           slice_equal(chunk_key(part->chunk, &items[i]), chunk_key(part->chunk, &items[first])))
        i++;
    *next = i;
    return &items[in->options.keep_first ? first : i - 1];
}

/* ---- merging (intake_merge.c) ------------------------------------------------------------------
 */

/* What the parts of a merge have in common. */
struct merge_watch {
    _Atomic uint64_t raw_done; /* bytes of keys and values */
    _Atomic bool is_stopped;   /* a part has failed */
};

struct merge_wish {
    struct intake *in;
    struct intake_family *family;
    size_t first_run;          /* of the family: from this one on */
    bool takes_all;            /* its tables and what no run took as well */
    struct merge_watch *watch; /* NULL: it is the only part */
    bool is_asking;            /* it asks env->progress */
    lsm_slice first, limit;    /* keys; data NULL: an open end */
    size_t memory;             /* for reading */
    /* One of the two takes everything. */
    struct stream *stream;
    struct run_writer *run;
};
lsm_status intake_merge(const struct merge_wish *wish, lsm_error *err);

/* ---- the last merge (intake_parts.c) -----------------------------------------------------------
 */

/* Merges all that the family has into a new stream. */
lsm_status runs_merge(struct intake *in, struct intake_family *family, lsm_error *err);

#endif
