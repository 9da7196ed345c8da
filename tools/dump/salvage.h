/*
 * What is whole of a damaged database, in memory and through its files: nothing is written.
 *
 * Every source (a table, the log) is a sorted run of versions of keys; what is damaged in it is
 * left out and told as a gap. All runs of a family merged, the newest version of each key is what
 * the database holds: the numbers of the versions say which is newer, whatever the levels were.
 */
#ifndef TOOLS_DUMP_SALVAGE_H
#define TOOLS_DUMP_SALVAGE_H

#include "engine/inspect/walk_values.h"
#include "engine/iter/iter.h"
#include "tools/cli/key_set.h"
#include "tools/dump/files.h"

struct salvage_family {
    uint32_t id;
    char *name; /* owned */
};

struct salvage_table {
    struct table_meta meta; /* owned */
    bool has_bounds;        /* meta.smallest and .largest hold */
    bool is_live;           /* the manifest says all that meta does */
};

/* A version of a key from the log. */
struct salvage_entry {
    uint32_t cf;
    uint32_t key_size;
    uint64_t trailer;
    size_t offset; /* of the key in salvage_log.bytes; the value stands behind it */
    size_t value_size;
};

struct salvage_log_damage {
    char file[FILE_NAME_SIZE];
    char text[256];
    uint64_t offset, length;
    bool is_harmless;
};

struct salvage_log {
    struct text bytes;
    struct salvage_entry *entries; /* owned; by family, key, and newest first */
    size_t count, room;
    uint64_t last_sequence;
    struct salvage_log_damage *damages; /* owned */
    size_t damage_count;
};

/* A table of which it cannot be told whether it is live. */
struct salvage_doubt {
    char file[FILE_NAME_SIZE];
    bool has_family; /* else any */
    uint32_t cf;
    bool has_first, has_last;
    struct text first, last;
};

struct salvage {
    struct dumper *dumper;
    struct dump_files files;
    struct salvage_family *families; /* by id; owned */
    size_t family_count;
    struct salvage_table *tables; /* owned */
    size_t table_count;
    struct salvage_log log;

    struct key_set told;      /* gaps, so that each is told once */
    bool is_rebuilt;          /* no manifest could be replayed: tables say which of them are live */
    struct version_edit gone; /* dropped: families that were there before */
    struct salvage_doubt *doubts; /* owned */
    size_t doubt_count;
    struct walk_values values; /* of blob files */
    bool found_damage, lost_data;
    uint64_t block_bytes;
    lsm_error failure; /* of an iterator */
};

/* ---- salvage_tell.c
 * ------------------------------------------------------------------------------- */

/* What is missing: a run of bytes in a file, and the keys that it may have held. */
struct salvage_gap {
    uint64_t table;   /* number; 0: of the log */
    const char *file; /* borrowed, as all */
    uint64_t offset, length;
    bool has_family;
    uint32_t cf;
    bool has_first, has_last;
    lsm_slice first, last;
    bool is_value; /* of one entry, which is met once */
    const char *what;
};

/* Says so on stderr, once, unless --cf or the range leave it out. */
void salvage_tell(struct salvage *s, const struct salvage_gap *gap);
/* Keys that may be older than they were, or be there although they were deleted. */
void salvage_tell_doubtful(struct salvage *s, const struct salvage_gap *gap);
/* Damage by which no version of a key is lost. */
void salvage_tell_harmless(struct salvage *s, const char *file, uint64_t offset, const char *what);

/* ---- salvage_tables.c ------------------------------------------------------------------------ */

/* Where no manifest could be replayed: makes s->files.state out of what the tables say. Returns the
 * code. */
int salvage_rebuild_state(struct salvage *s);
/* Fills s->tables and s->families out of the state. Returns the code. */
int salvage_find_tables(struct salvage *s);

/* ---- salvage_chain.c ------------------------------------------------------------------------- */

/*
 * An iterator, forwards only, over tables of one family whose ranges follow each other, one open at
 * a time. `tables` is copied. Never NULL.
 */
struct iter *salvage_chain_new(struct salvage *s, const struct salvage_table *const *tables,
                               size_t count);

/* ---- salvage_log.c --------------------------------------------------------------------------- */

/* Reads the log behind what tables hold. Returns the code. */
int salvage_read_log(struct salvage *s);
void salvage_log_release(struct salvage_log *log);
/* The log's versions of the family: an iterator as above, or NULL when there are none. */
struct iter *salvage_log_iter(struct salvage *s, uint32_t cf);

#endif
