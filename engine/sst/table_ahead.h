/*
 * What an iterator reads that is not in the cache: windows of neighbouring blocks.
 *
 * A walk is what follows one seek. The first block of it that is missing opens it: with that block
 * comes what the walks over this table have gone on to use lately, up to TABLE_AHEAD_HABIT bytes. A
 * walk that goes on behind that reads, as it needs them, windows that double; once it has gone over
 * TABLE_AHEAD_SURE bytes they are asked for before they are needed, two at a time, up to 1 MiB
 * each. So a walk pays for little that it does not use, and a long one waits for the disk alone.
 * The same both ways.
 *
 * Who says that much will be read, by options, has large windows from the start.
 *
 * Where memory is bound (table_env.ahead_left) windows get smaller the more there are: none waits
 * for memory, and each gets at least TABLE_AHEAD_FIRST bytes.
 */
#ifndef ENGINE_SST_TABLE_AHEAD_H
#define ENGINE_SST_TABLE_AHEAD_H

#include "engine/sst/read_lane.h"
#include "engine/sst/table_private.h"

#define TABLE_AHEAD_FIRST       ((size_t)16 << 10) /* least bytes of a window after two blocks, */
#define TABLE_AHEAD_MAX         ((size_t)1 << 20)  /* and of the largest */
#define TABLE_AHEAD_SURE        ((size_t)64 << 10)
#define TABLE_AHEAD_HABIT       ((size_t)64 << 10)
#define TABLE_AHEAD_GAP         ((size_t)16 << 10) /* bytes of cached blocks read with the others */
#define TABLE_AHEAD_SHARE       8 /* a window takes one part in so many of what is left for all */
#define TABLE_AHEAD_DEPTH       2 /* windows asked for in advance */
#define TABLE_AHEAD_WHOLE       ((size_t)256 << 10) /* bytes of a window when all will be read, */
#define TABLE_AHEAD_WHOLE_DEPTH 4                   /* and how many are asked for */
#define TABLE_AHEAD_WINDOWS     (TABLE_AHEAD_WHOLE_DEPTH + 2) /* one in use, one for single blocks */

struct table_window {
    struct lane_read read;
    uint8_t *memory; /* owned; kept for later windows */
    size_t capacity;
    uint32_t first, limit; /* blocks; first == limit: nobody wants it any more */
};

struct table_ahead_plan {
    size_t first_size, max_size; /* of windows */
    unsigned depth;
    bool is_sure; /* from the start; learns nothing */
};

struct table_ahead {
    struct table *table;
    struct read_lane *lane;
    struct table_ahead_plan plan;
    _Atomic int64_t *left;  /* table_env.ahead_left */
    lsm_slice first, limit; /* bounds of keys; data NULL: none. Borrowed */
    bool has_asked;         /* for anything, since it rested */
    bool is_open;           /* the walk has missed a block, and all below is set */
    bool is_fresh;          /* and was only announced up to now */
    bool is_backwards;
    bool is_sure;    /* asks in advance */
    bool goes_on;    /* the walk came from another table */
    uint32_t opened; /* block that was missing first, */
    uint32_t at;     /* and the last one that was come to */
    uint32_t edge;   /* forwards the end of what bounds allow, backwards its beginning */
    uint32_t next;   /* windows were made as far as here: their limit, backwards their beginning */
    size_t size;     /* of the next window */
    struct table_window windows[TABLE_AHEAD_WINDOWS];
};

/* `lane` outlives it. */
void table_ahead_init(struct table_ahead *a, struct table *table, struct read_lane *lane,
                      const struct table_ahead_plan *plan);
/* Ends the walk, waits for what is in flight, and keeps little memory. */
void table_ahead_rest(struct table_ahead *a);
void table_ahead_release(struct table_ahead *a); /* the same, and no memory */

/* The iterator goes over another table; with `goes_on` its walk does. Waits for what is in
 * flight. */
void table_ahead_turn_to(struct table_ahead *a, struct table *table, bool goes_on);

/* The walk ends: windows are forgotten. */
void table_ahead_stop(struct table_ahead *a);

/* Is the block in a window, in front of the walk? Who seeks it goes on with the walk. */
bool table_ahead_reaches(const struct table_ahead *a, uint32_t index, bool is_backwards);

/* A walk forwards will begin with block `index`, which is missing: the read waits in the lane. */
void table_ahead_approach(struct table_ahead *a, uint32_t index);

/* A walk begins at block `index`. */
void table_ahead_begin(struct table_ahead *a, uint32_t index, bool is_backwards);
/* It came to the next one, which may be in the cache. Asks for what comes, where it is sure. */
lsm_status table_ahead_follow(struct table_ahead *a, uint32_t index, lsm_error *err);

/* The bytes of block `index`, at which the walk is, waiting for them. Valid until the next call. */
lsm_status table_ahead_take(struct table_ahead *a, uint32_t index, const uint8_t **bytes,
                            lsm_error *err);

#endif
