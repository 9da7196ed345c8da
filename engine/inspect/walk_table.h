/*
 * Reading a table file as one that may be damaged anywhere: every part is read and judged by
 * itself, and what is wrong with one hides nothing of the others. Pure reading: nothing is
 * compared with the manifest, and parts are not compared with each other; that is for those who
 * verify and repair.
 *
 * The footers say where the parts are; when both are lost, the parts are found by their frames. The
 * index says where the blocks are; when it is lost, they are found one behind the other, and
 * behind damage by looking for the next frame whose checksum fits its place.
 *
 *     walk_table_open(&env, &options, &walk, err);
 *     while (walk_table_next(walk, &block, err) == LSM_OK && block.length > 0)
 *         ... block.fault == FINDING_COUNT: block.view holds its entries ...
 *     walk_table_close(walk);
 *
 * Memory is bounded by env->memory_limit whatever the file says. A walk belongs to one thread.
 */
#ifndef ENGINE_INSPECT_WALK_TABLE_H
#define ENGINE_INSPECT_WALK_TABLE_H

#include "engine/format/block.h"
#include "engine/format/file_name.h"
#include "engine/format/table_format.h"
#include "engine/format/table_index.h"
#include "engine/format/table_meta.h"
#include "engine/format/table_properties.h"
#include "engine/inspect/finding.h"
#include "engine/inspect/walk_stream.h"

enum walk_verdict {
    WALK_ABSENT = 0, /* there is no such part, and need not be */
    WALK_SOUND,
    WALK_LOST,       /* where it is cannot be told */
    WALK_DAMAGED,    /* bytes are wrong */
    WALK_MALFORMED,  /* the checksum fits, and the contents are impossible */
    WALK_UNREADABLE, /* the device does not give it */
    WALK_FOREIGN,    /* it belongs to another database or number */
    WALK_NEWER,      /* of a format that this library does not know */
    WALK_TOO_LARGE,  /* over the memory limit: not looked into */
};

struct walk_part {
    enum walk_verdict verdict;
    struct table_extent extent;   /* of its frame, with padding; the page, of a footer */
    struct table_problem problem; /* what NULL when it is sound */
    bool padding_is_bad;          /* what follows the frame should be zero, and is not */
    uint64_t padding_offset;      /* where, then */
};

struct walk_table_options {
    uint64_t number;               /* of the file */
    const char *name;              /* NULL: made from the number */
    const struct table_meta *meta; /* what the manifest says of it; NULL: not known. Borrowed */
    bool is_blob;                  /* the file is a blob file */
    bool any;                      /* accept any database and number: those of the footer */
    bool want_digest;              /* see walk_table_digest() */
    bool no_index;                 /* find blocks by their frames: what the index says is wrong */
};

/* Everything about the file but its blocks. */
struct walk_table {
    char name[256];
    uint64_t number; /* that its checksums are seeded with, with the next */
    uint8_t uuid[HASH_UUID_SIZE];
    uint64_t file_size;

    struct walk_part footers[TABLE_FOOTER_COUNT];
    bool footers_differ; /* both are sound, but not the same: the last one is used */
    bool is_foreign;     /* they belong to another database or number, and !options.any: uuid and
                            number are theirs, so that the blocks can be read all the same */
    bool has_footer;     /* one is sound, or foreign */
    struct table_footer footer;

    struct walk_part dictionary, filter, index, properties;
    struct table_index table_index;           /* index.verdict is WALK_SOUND */
    struct table_properties table_properties; /* properties.verdict is WALK_SOUND */
    lsm_slice filter_bytes;                   /* filter.verdict is WALK_SOUND */

    /* Not 0: blocks that say sequence number 0 mean this one. Views are raised to it already. */
    uint64_t sequence_base;

    uint64_t data_limit;   /* blocks end here at the latest */
    lsm_slice first, last; /* bounds of all keys, from properties or the manifest */
    bool has_bounds;       /* they are set */
};

/*
 * Opens the file and judges everything but the blocks. LSM_MISSING; LSM_CORRUPT when it is no file
 * that can be opened (a link, a directory); LSM_IO, LSM_NO_MEMORY, LSM_CANCELLED. Damage is no
 * error.
 */
lsm_status walk_table_open(const struct walk_env *env, const struct walk_table_options *options,
                           struct walk_table **walk, lsm_error *err);
void walk_table_close(struct walk_table *walk); /* NULL is allowed */

/* An extent of the data: a block, or bytes in which there should be blocks. */
struct walk_block {
    uint64_t offset;
    uint64_t length;       /* up to the next extent, padding included; 0: the end was reached */
    bool has_index;        /* `index` is its number in the table's index */
    uint32_t index;        /* */
    enum finding_id fault; /* FINDING_COUNT: none; else one of pass 4, or 3-dictionary-damaged */
    bool too_large; /* over the memory limit: its checksum fits, nothing else was looked at */
    int unreadable; /* errno with which the device refused it; 0: none */
    struct table_problem problem;
    bool padding_is_bad; /* as in walk_part */
    uint64_t padding_offset;
    bool has_frame; /* the checksum fits: `frame` holds */
    struct table_frame frame;
    uint64_t checksum; /* as computed, with has_frame */
    lsm_slice stored;  /* the bytes of the extent; empty where they are too many */

    /* Without fault, and not too large: */
    struct block_view view;
    size_t raw_size;

    /* With a fault: keys that it may have held lie in [first, last]. */
    bool has_first, has_last;
    lsm_slice first, last;
};

/* The next extent, in order of the file. What it borrows is valid until the next call. */
lsm_status walk_table_next(struct walk_table *walk, struct walk_block *block, lsm_error *err);
/* Jumps over the next `count` blocks; only where the index is sound. */
void walk_table_skip(struct walk_table *walk, uint32_t count);

/*
 * Behind the last block, with options.want_digest: the digest of the file's first bytes as far as
 * the properties say. *is_known is false without sound properties, or when a part is unreadable.
 */
lsm_status walk_table_digest(struct walk_table *walk, uint64_t *digest, bool *is_known,
                             lsm_error *err);

/* The separator of block `index` > 0 in full: a key that is above all of the block before, and not
 * above any of its own. False when out of memory. */
bool walk_separator(const struct table_index *index, uint32_t block, struct buffer *key);

#endif
