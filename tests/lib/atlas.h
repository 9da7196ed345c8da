/*
 * Where everything in a sound database stands: every part of every file, and every entry with the
 * bytes that it takes to read it. Made from the files of a database (tests/lib/folder.h) with the
 * decoders of engine/format alone, so that what reads damaged databases is not judged by itself.
 */
#ifndef TESTS_LIB_ATLAS_H
#define TESTS_LIB_ATLAS_H

#include "engine/base/slice.h"
#include "tests/lib/folder.h"

enum atlas_kind {
    ATLAS_CURRENT,
    ATLAS_MANIFEST_HEADER,
    ATLAS_MANIFEST_FRAME,
    ATLAS_BLOCK,
    ATLAS_DICTIONARY,
    ATLAS_FILTER,
    ATLAS_INDEX,
    ATLAS_PROPERTIES,
    ATLAS_FOOTER, /* with the zeros up to the end of its page */
    ATLAS_SEGMENT_HEADER,
    ATLAS_RECORD, /* of the log, in a segment or in STAGE */
    ATLAS_KINDS,
};

/* A run of bytes with one checksum. */
struct atlas_part {
    enum atlas_kind kind;
    bool is_live; /* the database needs it: not the old manifest, not a replaced table */
    char file[FOLDER_NAME_SIZE];
    uint64_t offset;
    uint64_t size;     /* with its padding */
    uint64_t checked;  /* bytes of it that the checksum covers, and itself */
    uint64_t checksum; /* offset in the file of its 8 bytes; ATLAS_NO_CHECKSUM: as text */
    uint64_t seed;     /* of the checksum */
    uint64_t entries;  /* blocks and records */
    uint64_t position; /* records: in the log */
    uint64_t sequence; /* records: of the batch */
    uint32_t family;   /* parts of tables */
    bool is_proven;    /* it cannot be what a crash left: not the end of manifest or log */
};

#define ATLAS_NO_CHECKSUM UINT64_MAX
#define ATLAS_MAX_NEEDS   4

struct atlas_entry {
    uint32_t family;
    bool is_delete;
    lsm_slice key; /* owned */
    uint64_t sequence;
    uint64_t value_hash; /* model_hash() */
    uint32_t value_size;
    size_t needs[ATLAS_MAX_NEEDS]; /* parts: the block or record, and what it takes to read that */
    size_t need_count;
};

/* A value in a blob file. */
struct atlas_value {
    struct atlas_entry entry; /* its key is owned */
    uint64_t number;          /* of the blob file */
};

/* Zeroed is empty. All of it is sorted by nothing but the order of files and of bytes in them. */
struct atlas {
    uint8_t uuid[16];
    uint64_t manifest; /* number of that in force */
    struct atlas_part *parts;
    size_t part_count;
    struct atlas_entry *entries; /* of live parts */
    size_t entry_count;
    struct atlas_value *values; /* of live blob files */
    size_t value_count;
    uint64_t last_sequence;   /* of all */
    uint64_t proven_sequence; /* of what is in tables, and of records that are proven */
};

/* False, with a sentence on stderr, when the files are no sound database. */
bool atlas_make(struct atlas *a, const struct folder *files);
void atlas_release(struct atlas *a); /* becomes empty */

/* The part that holds the byte; NULL: none, so nothing depends on it. */
const struct atlas_part *atlas_find(const struct atlas *a, const char *file, uint64_t offset);
/* The `index`-th live part of that kind, or NULL. */
const struct atlas_part *atlas_nth(const struct atlas *a, enum atlas_kind kind, size_t index);
const char *atlas_kind_name(enum atlas_kind kind);

/* Makes the part's checksum right for the bytes that stand there now. */
void atlas_seal(const struct atlas_part *part, struct folder_file *file);

#endif
