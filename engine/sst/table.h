/*
 * A table (SSTable): one immutable file of sorted entries of one column family.
 *
 *   data blocks ... | dictionary? | filter | index | properties | footer | footer again
 *
 * Data blocks are columnar: tags (one hash byte an entry) for point reads, 8-byte heads after the
 * block's common prefix for searches, offsets, then the rest of keys and the values; the decoded
 * form is the stored form. The index is an array of {head, block place} after the table's common
 * prefix and stays in memory, as the filter does, while the table is open. Byte by byte:
 * lsm-format(5), engine/format/block.h, engine/format/table_format.h.
 *
 * Every checksum is seeded with database uuid, file number and offset, so that a block in the wrong
 * place is damage too.
 */
#ifndef ENGINE_SST_TABLE_H
#define ENGINE_SST_TABLE_H

#include "engine/format/block.h"
#include "engine/format/entry.h"
#include "engine/format/file_name.h"
#include "engine/format/table_index.h"
#include "engine/format/table_meta.h"
#include "engine/io/io.h"
#include "engine/iter/iter.h"
#include "engine/sst/cache.h"
#include "engine/sst/read_lane.h"

#include <stdatomic.h>

#define TABLE_UUID_SIZE 16

/* What all tables of a database share. Outlives them. */
struct table_env {
    struct io *io;
    struct io_dir *dir;
    uint8_t uuid[TABLE_UUID_SIZE];
    struct block_cache *cache;
    struct io_queue_pool *queues; /* for iterators; NULL: they make their own */
    _Atomic int64_t *ahead_left; /* bytes that all iterators may still take to read ahead; what they
                                    need takes it below 0. NULL: as many as they like */
    uint32_t mode;               /* permission bits of new files */
    bool is_buffered;            /* read and write through the page cache, not past it */
};

/* For io_file_open(). */
static inline unsigned table_io_flags(const struct table_env *env)
{
    return env->is_buffered ? 0 : IO_FILE_DIRECT;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct table; /* any number of threads may read one */

/*
 * Opens file `number`: checks both footers, reads properties, index and filter. `size` is what the
 * manifest says (0: unknown). LSM_CORRUPT, LSM_MISSING, LSM_NEWER_FORMAT, LSM_IO name the file.
 * table_open_kind() opens a blob file as well (FILE_BLOB), which reads like a table of its values.
 */
lsm_status table_open_kind(const struct table_env *env, enum file_kind kind, uint64_t number,
                           uint64_t size, struct table **table, lsm_error *err);
lsm_status table_open(const struct table_env *env, uint64_t number, uint64_t size,
                      struct table **table, lsm_error *err);
/* Nobody uses it any more (callers go through epoch_retire). Its cached blocks leave the cache. */
void table_close(struct table *table);

uint64_t table_entry_count(const struct table *table);
uint64_t table_memory(const struct table *table); /* bytes held by index, filter, slots */
/* About how many bytes of the file hold keys in [first, limit); data NULL is an open end. */
uint64_t table_range_bytes(const struct table *table, lsm_slice first, lsm_slice limit);
const struct table_properties *table_properties(const struct table *table);
/* Sets `key` to one, or the beginning of one, before which about piece/pieces of the table's bytes
 * lie. False without memory. */
bool table_piece_key(const struct table *table, uint32_t piece, uint32_t pieces,
                     struct buffer *key);

enum table_read_flags {
    TABLE_NO_FILL = 1, /* do not put blocks into the cache */
};

struct table_found {
    uint64_t trailer;
    lsm_slice value;     /* inside block */
    struct block *block; /* usable until epoch_exit(), unless block_keep() was called */
    bool owned;          /* the block is not in the cache: the receiver must block_drop() it */
};

/*
 * The newest version of the key with sequence <= max_sequence. Inside an epoch. `hash` is
 * hash_key(key). Not found is *is_found = false.
 */
lsm_status table_get(struct table *table, lsm_slice key, uint64_t hash, uint64_t max_sequence,
                     unsigned flags, bool *is_found, struct table_found *found, lsm_error *err);

/*
 * The same in steps, for many keys at once: begin tests filter and index; when the block is not in
 * memory the caller pushes probe->request to a queue, and after it was reaped calls finish.
 */
enum table_probe_state {
    TABLE_PROBE_ABSENT, /* certainly not here */
    TABLE_PROBE_FOUND,  /* probe->found is set */
    TABLE_PROBE_READ,   /* push probe->request, then table_probe_finish() */
};

struct table_probe {
    struct table *table;
    lsm_slice key;
    uint64_t hash;
    uint64_t max_sequence;
    unsigned flags;
    struct table_found found;
    struct io_request request; /* owner is the caller's to set, before begin */
    /* The probe's own; the two flags are false before the first step. */
    bool is_located, has_block_index;
    uint32_t block_index;
    uint32_t shared; /* bytes of the key that all keys of the block begin with */
    uint32_t entry;  /* which the key may be at */
    void *read_memory;
    const struct block *block; /* seen in memory; NULL: not there */
    struct block_view view;    /* its data is NULL: not made yet */
    struct table_index_search search;
};

void table_prefetch_filter(const struct table *table, uint64_t hash);
/*
 * Steps that may be taken before begin, in this order, so that many probes wait for memory
 * together: each begins to fetch what the next one reads. locate tests the filter; false: the key
 * is certainly not here.
 */
bool table_probe_locate(struct table_probe *probe);
void table_probe_find_block(struct table_probe *probe);
void table_probe_approach(struct table_probe *probe);
void table_probe_approach_entry(struct table_probe *probe);
/* table, key, hash, max_sequence and flags were set. Inside an epoch that lasts until finish. */
lsm_status table_probe_begin(struct table_probe *probe, enum table_probe_state *state,
                             lsm_error *err);
/* Two probes that took the step find_block: would begin have both read the same block? */
bool table_probe_wants_same(const struct table_probe *a, const struct table_probe *b);
/* A probe whose read was reaped; frees its memory also on failure. */
lsm_status table_probe_finish(struct table_probe *probe, enum table_probe_state *state,
                              lsm_error *err);

struct table_iter_options {
    unsigned flags;
    size_t
        readahead; /* bytes; 0: as earlier walks went, then growing to 1 MiB, see table_ahead.h */
    bool whole;    /* the whole table will be read forwards: big reads from the start */
    lsm_slice first, limit; /* no key outside is asked for; data NULL: none. Borrowed */
    /* Shared by the iterators of one merge, which outlive no lane; NULL: it has its own. */
    struct read_lane *lane;
};

/*
 * The caller keeps the table open until the iterator is released. Failures: it->status, and the
 * details in *err, which lives as long as the iterator (may be NULL). It reads through its lane,
 * and never holds an epoch across calls. All keys of the table have to begin with it->common.
 */
lsm_status table_iter_new(struct table *table, const struct table_iter_options *options,
                          struct iter **it, lsm_error *err);
/* Makes it one over another table, as if it were new; only that the entry it stands on stays
 * until its second move. With `goes_on` the next move comes to the block that follows, in the
 * order of the walk, and the walk reads as much in advance as before. */
void table_iter_turn_to(struct iter *it, struct table *table, bool goes_on);

/* ---- writing --------------------------------------------------------------------------------- */

#define TABLE_MAX_NAME 255

/* How fast tables are written: one, or all that a job writes side by side. */
struct table_pace {
    uint64_t rate;            /* bytes a second; 0: no limit */
    _Atomic uint64_t free_at; /* when the bytes written so far are paid for, io_now_ns() */
};

struct table_write_options {
    uint64_t number; /* of the file */
    bool is_blob;    /* it is a blob file: only entries of type ENTRY_PUT */
    uint32_t cf;
    const char *cf_name;
    const lsm_cf_options *cf_options; /* for the properties; copied; NULL: not known */
    uint32_t level;                   /* for the properties */
    uint32_t block_size;              /* raw bytes aimed at */
    uint32_t filter_bits;             /* a key; 0: no filter */
    bool compress;                    /* zstd, blocks that do not shrink by an eighth stay raw */
    int compression_level;            /* of zstd */
    uint32_t dictionary_size;         /* bytes to train from the first blocks; 0: none */
    uint64_t rate;                    /* bytes a second at most; 0: no limit */
    struct table_pace *pace;          /* instead of rate; outlives the writer; NULL: none */
    uint64_t job;                     /* lineage: number of the job, this output's place in it, */
    uint32_t output_index;            /* */
    const uint64_t *replaced;         /* and the input files; borrowed until finish */
    size_t replaced_count;
    const uint64_t *replaced_jobs; /* jobs that wrote the input files; borrowed until finish */
    size_t replaced_job_count;
    /* When the entries were flushed: seconds since 1970; 0: now. */
    uint64_t oldest_time, newest_time;
};

struct table_writer;

lsm_status table_writer_new(const struct table_env *env, const struct table_write_options *options,
                            struct table_writer **writer, lsm_error *err);
/* In entry order; what entries of type ENTRY_BLOB refer to is counted. Writes behind through a
 * queue: two 1 MiB writes in flight at most. */
lsm_status table_writer_add(struct table_writer *writer, lsm_slice key, uint64_t trailer,
                            lsm_slice value, lsm_error *err);
/* Blob files that it refers to so far. */
size_t table_writer_blob_count(const struct table_writer *writer);
/* Bytes the file would have now. */
uint64_t table_writer_size(const struct table_writer *writer);
/* Writes the rest, syncs the file (not the directory), closes, and fills *meta. Frees the writer
 * whatever is returned; a failure removes the file. */
void table_writer_is_last(struct table_writer *writer); /* of its job; before finish */
/* Its lineage, which counts in place of that of the options; before finish, or before end. */
void table_writer_of_job(struct table_writer *writer, uint64_t job, uint32_t output_index,
                         bool is_last);
lsm_status table_writer_finish(struct table_writer *writer, struct table_meta *meta,
                               lsm_error *err);
/* Gives up: removes the file, frees the writer. NULL is allowed. Also for a sealed one. */
void table_writer_abort(struct table_writer *writer);

/*
 * For a table whose entries get their sequence number, one for all, when everything else is
 * written: they were added with 0, one a key. seal writes and syncs all but the end of the file,
 * closes it and keeps little memory; a failure removes the file and frees the writer. Then only
 * end, settle and abort follow. Until its end is written the file is no table.
 */
lsm_status table_writer_seal(struct table_writer *writer, lsm_error *err);
/* What is known of a sealed table: all but its size and sequence number. Valid until its end. */
const struct table_meta *table_writer_sealed(const struct table_writer *writer);
/* Writes the end, which is not durable yet; the file stays open. 0: the entries keep their 0. After
 * a failure only abort follows. */
lsm_status table_writer_end(struct table_writer *writer, uint64_t sequence, lsm_error *err);
/* Syncs what end wrote; otherwise as finish. */
lsm_status table_writer_settle(struct table_writer *writer, struct table_meta *meta,
                               lsm_error *err);

#endif
