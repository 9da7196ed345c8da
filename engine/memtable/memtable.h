/*
 * The memtable: every write since the last switch, sorted, in a piece of shared memory (the arena)
 * addressed by offsets only, so that any process can read it at any address.
 *
 * One memtable holds all column families: its key is the family id (4 bytes, big-endian) followed
 * by the user key. One thread at a time inserts (it holds the commit lock); any number read without
 * locks. An entry becomes reachable by one release store; what readers may *see* is decided above,
 * by sequence number.
 *
 * Two structures stand behind this interface: the permutation B+tree (btree) and a plain skiplist
 * to compare with. `struct memtable` itself is process-private and small; attach makes another one
 * over the same arena.
 *
 * Layout of the arena: header | records growing upwards ...   ... nodes growing downwards | index
 * A record's place is given by the caller's order of inserts alone (the sum of the sizes before),
 * so that the redo of an interrupted group of inserts puts every record where it was: an insert
 * that finds its own record already linked does nothing.
 */
#ifndef ENGINE_MEMTABLE_MEMTABLE_H
#define ENGINE_MEMTABLE_MEMTABLE_H

#include "engine/iter/iter.h"

#define MEMTABLE_MIN_ARENA ((size_t)64 << 10) /* bytes */
#define MEMTABLE_MAX_ARENA ((size_t)16 << 30) /* bytes; offsets are 32 bits in units of 8 bytes */

struct memtable;

enum memtable_kind {
    MEMTABLE_BTREE = 1, /* stored in the arena header: never renumber */
    MEMTABLE_SKIPLIST = 2,
};

/*
 * Formats [arena, arena + size) (8-byte aligned; its old contents do not matter) as an empty
 * memtable. `id` is a number of the caller's, kept in the header. arena is borrowed until
 * memtable_free().
 */
lsm_status memtable_new(enum memtable_kind kind, void *arena, size_t size, uint64_t id,
                        struct memtable **mt, lsm_error *err);
/* The parts [0, low) and [high, size) of an arena that memtable_new() writes to. */
void memtable_reach_new(size_t size, size_t *low, size_t *high);
/* Over an arena that memtable_new() formatted, in this or another process. LSM_CORRUPT when its
 * header does not fit. */
lsm_status memtable_attach(void *arena, size_t size, struct memtable **mt, lsm_error *err);

/*
 * The counters in the header of an arena of `size` bytes that others use, and perhaps for another
 * memtable meanwhile: only its first MEMTABLE_HEADER_SIZE bytes are read. False when they are no
 * header.
 */
#define MEMTABLE_HEADER_SIZE ((size_t)192)
struct memtable_glance {
    uint64_t id;
    uint64_t entry_count;
    uint64_t bytes_used;
};
bool memtable_look(const void *arena, size_t size, struct memtable_glance *glance);
void memtable_free(struct memtable *mt); /* leaves the arena alone; NULL is allowed */

uint64_t memtable_id(const struct memtable *mt);
uint64_t memtable_entry_count(const struct memtable *mt);  /* every version */
size_t memtable_bytes_used(const struct memtable *mt);     /* of the arena */
uint64_t memtable_min_sequence(const struct memtable *mt); /* UINT64_MAX when empty */
uint64_t memtable_max_sequence(const struct memtable *mt); /* 0 when empty */

/* An upper bound of the arena bytes that one more entry of these sizes takes, splits included. */
size_t memtable_entry_room(const struct memtable *mt, size_t key_size, size_t value_size);
/* The part of it that the entry itself takes. */
size_t memtable_record_room(size_t key_size, size_t value_size);
/* That is at most so much more than key and value. */
#define MEMTABLE_RECORD_OVERHEAD ((size_t)35)
/* Is there room for `bytes` as summed up with memtable_entry_room()? */
bool memtable_has_room(const struct memtable *mt, size_t bytes);
/*
 * A quick look at both: what `count` entries may touch, whose records take `bytes` or less, as two
 * ranges [0, low) and [high, size). True: there is room for them. False: there may be, and
 * memtable_has_room() knows.
 */
bool memtable_reach_quick(const struct memtable *mt, size_t count, size_t bytes, size_t *low,
                          size_t *high);
/* The part of the arena, as two ranges [0, low) and [high, size), that inserts of `bytes` may touch
 * from now on; the caller makes sure that it is backed by memory. */
void memtable_reach(const struct memtable *mt, size_t bytes, size_t *low, size_t *high);

/*
 * Inserts one version. One thread at a time, sequence numbers never decreasing, room checked
 * before; cannot fail. Two inserts of one key with the same sequence number (one batch): readers
 * find the later one first. `hash` is hash_key(key).
 */
void memtable_insert(struct memtable *mt, uint32_t cf, lsm_slice key, uint64_t hash,
                     uint64_t trailer, lsm_slice value);

/*
 * The same in two parts, so that the memory an insert needs is on its way while the caller does
 * something else: memtable_approach() finds the place and stores nothing in the arena,
 * memtable_insert_on() inserts there. The inserting thread may insert others in between, and may
 * leave it at the approach; nobody else inserts.
 */
#define MEMTABLE_WAY_STEPS 17
struct memtable_way {
    uint32_t cf;
    lsm_slice key; /* borrowed up to memtable_insert_on() */
    /* The memtable's own. */
    uint64_t mixed_hash;
    uint64_t progress; /* of the arena when the way was found */
    uint32_t node_low; /* and its lowest node */
    bool continues;    /* the key comes right behind the last one that was inserted */
    unsigned height;   /* steps[0] is the root, steps[height] the leaf */
    struct memtable_step {
        uint32_t node;
        unsigned index;     /* of the child that the way goes on to */
        uint32_t low, high; /* records whose keys bound the range; 0: no bound */
    } steps[MEMTABLE_WAY_STEPS];
};
void memtable_approach(struct memtable *mt, uint32_t cf, lsm_slice key, uint64_t hash,
                       struct memtable_way *way);
void memtable_insert_on(struct memtable *mt, struct memtable_way *way, uint64_t trailer,
                        lsm_slice value);

/*
 * Filling an empty memtable at once, for several times less than as many inserts: entries are added
 * in any order of their keys and sequence numbers never decreasing, as they would be inserted; they
 * are found from memtable_bulk_end() on. Nobody else uses the memtable meanwhile, and afterwards it
 * is as any other, with the same entries at the same places. A bulk serves one memtable after the
 * other; one thread at a time.
 */
#define MEMTABLE_BULK_MAX ((size_t)1 << 22) /* entries that it collects of a memtable */
struct memtable_bulk;

/* Owned by the caller. Takes 32 bytes of memory an entry while it is used. */
lsm_status memtable_bulk_new(struct memtable_bulk **bulk, lsm_error *err);
void memtable_bulk_free(struct memtable_bulk *bulk); /* NULL is allowed */
/* `mt` is empty, and borrowed up to memtable_bulk_end(). LSM_NO_MEMORY. */
lsm_status memtable_bulk_begin(struct memtable_bulk *bulk, struct memtable *mt, lsm_error *err);
/* Would `count` more entries be inserted, as always, because they are too many to be collected?
 * Then a next memtable is the faster way. */
bool memtable_bulk_is_full(const struct memtable_bulk *bulk, size_t count);
/* Is there room for `count` entries, whose rooms by memtable_record_room() add up to `bytes`? They
 * are what is added next. Where they are too many what was collected is made a tree first. */
bool memtable_bulk_reserve(struct memtable_bulk *bulk, size_t count, size_t bytes);
/* As memtable_reach(), and for what memtable_bulk_end() will touch. They were reserved. */
void memtable_bulk_reach(const struct memtable_bulk *bulk, size_t count, size_t bytes, size_t *low,
                         size_t *high);
/* As memtable_insert(): they were reserved; cannot fail. */
void memtable_bulk_add(struct memtable_bulk *bulk, uint32_t cf, lsm_slice key, uint64_t hash,
                       uint64_t trailer, lsm_slice value);
void memtable_bulk_end(struct memtable_bulk *bulk);

/*
 * For the redo of an interrupted group: where the next record would go, and going back there. The
 * inserts that follow must repeat the interrupted ones exactly.
 */
size_t memtable_position(const struct memtable *mt);
void memtable_rewind(struct memtable *mt, size_t position);

struct memtable_entry {
    uint32_t cf;
    lsm_slice key, value; /* in the arena; valid as long as it */
    uint64_t trailer;
};

/*
 * Entries in the order of their inserts: the one at *position, which was a memtable_position() once
 * and is moved behind it; false at the end. No insert runs meanwhile.
 */
bool memtable_inserted(const struct memtable *mt, size_t *position, struct memtable_entry *entry);

struct memtable_found {
    uint64_t trailer;
    lsm_slice value; /* in the arena; valid as long as it */
};

/* A cheap "certainly not there": false means no version of the key is in it. */
bool memtable_may_contain(const struct memtable *mt, uint32_t cf, uint64_t hash);
void memtable_prefetch(const struct memtable *mt, uint32_t cf,
                       uint64_t hash); /* the index's line */

/* The newest version of the key with sequence <= max_sequence, of any type. */
bool memtable_get(const struct memtable *mt, uint32_t cf, lsm_slice key, uint64_t hash,
                  uint64_t max_sequence, struct memtable_found *found);

/* One of several keys that are looked up together. */
struct memtable_wanted {
    lsm_slice key;
    uint64_t hash; /* hash_key(key) */
    bool is_found; /* false at first; found is set */
    struct memtable_found found;
};

/*
 * memtable_get() of every key that is not found yet, all of them taking each step together, so that
 * they wait for memory together; call memtable_prefetch() for each some time before. Returns how
 * many became found.
 */
size_t memtable_get_many(const struct memtable *mt, uint32_t cf, uint64_t max_sequence,
                         struct memtable_wanted *wanted, size_t count);

/*
 * An iterator over one family: all versions, whatever is inserted meanwhile may or may not appear
 * but nothing that was there before is missed. Owned by the caller (iter_release()); the memtable
 * outlives it. Its key excludes the family id. Of two versions with one key and one sequence number
 * only the later is shown.
 */
lsm_status memtable_iter_new(const struct memtable *mt, uint32_t cf, struct iter **it,
                             lsm_error *err);

/*
 * The same for a reader: of every key it shows only what memtable_get() finds at sequence number
 * *as_of, so that a key costs one step however often it was written, and several keys at once. What
 * as_of points to is borrowed, as long as the iterator, and changes only when its next move is to a
 * place; everything up to it was inserted before.
 */
lsm_status memtable_scan_new(const struct memtable *mt, uint32_t cf, const uint64_t *as_of,
                             struct iter **it, lsm_error *err);

/* The lowest and the highest key of a family as they are now, in the arena; false when it has none.
 */
bool memtable_key_range(const struct memtable *mt, uint32_t cf, lsm_slice *lowest,
                        lsm_slice *highest);

/* The smallest family id >= `from` that has entries; false when none. For the flush. */
bool memtable_next_cf(const struct memtable *mt, uint32_t from, uint32_t *cf);

#endif
