/*
 * The index of a table: for each data block where it is, and a separator: the previous block's last
 * entry < separator <= the block's first entry. Separators are as short as they can be, and most
 * are decided by one number: the 8-byte head after the prefix that all keys of the table share.
 *
 *     block count u32 | prefix size u16 | 2 zero bytes | separator bytes u32 | 4 zero bytes
 *     heads    u64 a block; the first block's is 0
 *     offsets  u64 a block, of its frame in the file
 *     ends     u32 a block, of its full separator among the separator bytes
 *     prefix
 *     separator bytes: nothing for a block whose head decides, else trailer u64 and the key after
 *                      the prefix
 *
 * A head decides when the separator after the prefix is at most 8 bytes long and does not end in a
 * zero byte: a key with the same head is then not below it. The trailer of a full separator is
 * ENTRY_MAX_TRAILER, unless versions of one key go over the border of two blocks: then it is the
 * largest trailer below that of the previous block's last entry.
 */
#ifndef ENGINE_FORMAT_TABLE_INDEX_H
#define ENGINE_FORMAT_TABLE_INDEX_H

#include "engine/base/buffer.h"
#include "engine/format/entry.h"
#include "engine/format/table_format.h"

/* ---- building -------------------------------------------------------------------------------- */

/* Zeroed is empty. */
struct table_index_builder {
    struct buffer keys;     /* separators in full */
    struct buffer ends;     /* u64 each: of the separator in keys */
    struct buffer trailers; /* u64 each */
    struct buffer offsets;  /* u64 each */
    uint32_t count;
};

/* The next block begins at `offset`. `last` is the last entry before it (ignored for the first). */
void table_index_add(struct table_index_builder *b, lsm_slice last, uint64_t last_trailer,
                     lsm_slice first, uint64_t offset);
/* Appends the payload for a table of keys in [smallest, largest]. LSM_NO_MEMORY, LSM_TOO_LARGE. */
lsm_status table_index_finish(const struct table_index_builder *b, lsm_slice smallest,
                              lsm_slice largest, struct buffer *to);
void table_index_builder_release(struct table_index_builder *b);

/* ---- searching ------------------------------------------------------------------------------- */

struct table_index_entry {
    uint64_t head;
    void *_Atomic slot; /* the reader's: NULL, or the block in memory */
};

#define TABLE_INDEX_GROUP 16u /* entries: four lines of memory */

struct table_index {
    struct table_index_entry *entries; /* owned, in one piece with all arrays here */
    uint64_t *samples;                 /* the first head of each group of entries */
    double sample_density;             /* samples in two heads, were they even; 0: few samples */
    uint64_t *offsets;                 /* count + 1: the last is the end of the data */
    uint32_t *ends;                    /* count + 1, the first is 0: full separators */
    uint8_t *bytes;                    /* the prefix, then the separators */
    uint32_t count;
    uint32_t prefix_size;
    uint64_t memory; /* bytes held */
};

/*
 * Decodes a payload whose checksum fitted, of a table with `data_size` bytes of data blocks.
 * False with *problem filled; problem->what is NULL when memory is short.
 */
bool table_index_decode(lsm_slice payload, uint64_t data_size, struct table_index *index,
                        struct table_problem *problem);
void table_index_release(struct table_index *index);

/* The block in which an entry equal to (key, trailer) would be: the last with a separator <= it. */
uint32_t table_index_find(const struct table_index *index, lsm_slice key, uint64_t trailer);

/*
 * table_index_find() in two steps, so that searches in several indexes, or for several keys, wait
 * for memory together: the first finds the group of entries and begins to fetch it.
 */
struct table_index_search {
    lsm_slice suffix; /* of the key, behind the index's prefix; borrowed */
    uint64_t head;    /* of the suffix */
    uint32_t first;   /* entry of the group; or the answer, */
    bool is_over;     /* which is known */
};
void table_index_search_begin(const struct table_index *index, lsm_slice key,
                              struct table_index_search *s);
/* *shared bytes of the key are those of all keys that are in the block. */
uint32_t table_index_search_end(const struct table_index *index, const struct table_index_search *s,
                                uint64_t trailer, uint32_t *shared);

/* How far the search went from the separator of `block`, which it found, to the next, in parts of
 * `whole`; `whole`: not known. */
uint64_t table_index_share(const struct table_index *index, const struct table_index_search *s,
                           uint32_t block, uint64_t whole);

/* Appends the key of a block's separator; nothing for block 0. Look at `failed`. */
void table_index_append_separator(const struct table_index *index, uint32_t block,
                                  struct buffer *to);

/* The order of block `block`'s separator against (key, trailer): <0, 0, >0. Not for block 0. */
int table_index_compare(const struct table_index *index, uint32_t block, lsm_slice key,
                        uint64_t trailer);

#endif
