/*
 * Reading ahead of an iterator: windows of neighbouring blocks that are not in the cache, read by a
 * queue of its own while the blocks before them are used.
 */
#ifndef ENGINE_SST_TABLE_AHEAD_H
#define ENGINE_SST_TABLE_AHEAD_H

#include "engine/sst/table_private.h"

#define TABLE_AHEAD_FIRST       ((size_t)64 << 10) /* bytes of a window; the next is twice as large, */
#define TABLE_AHEAD_MAX         ((size_t)1 << 20)   /* up to this */
#define TABLE_AHEAD_DEPTH       2                   /* windows in flight */
#define TABLE_AHEAD_WHOLE       ((size_t)256 << 10) /* bytes of a window when all will be read, */
#define TABLE_AHEAD_WHOLE_DEPTH 4                   /* and how many are in flight */
#define TABLE_AHEAD_WINDOWS     (TABLE_AHEAD_WHOLE_DEPTH + 1) /* one more is being used */

struct table_window {
    struct io_request request;
    uint8_t *memory; /* owned; kept for later windows */
    size_t capacity;
    uint32_t first, limit; /* blocks; first == limit: nobody wants it any more */
    bool in_flight;
};

/* Zeroed and then started. */
struct table_ahead {
    struct table *table;
    struct io_queue *queue; /* made at the first window */
    bool refused;           /* no queue to be had: everything is read when it is needed */
    size_t first_size;      /* of the first window, */
    size_t max_size;        /* and the largest */
    size_t size;            /* of the next window */
    unsigned depth;
    uint32_t next; /* block that no window has looked at yet */
    struct table_window windows[TABLE_AHEAD_WINDOWS];
};

void table_ahead_init(struct table_ahead *a, struct table *table, size_t first_size,
                      size_t max_size, unsigned depth);
/* Waits for what is in flight. */
void table_ahead_release(struct table_ahead *a);

/* The iterator goes over another table. Waits for what is in flight. */
void table_ahead_turn_to(struct table_ahead *a, struct table *table);

/* The iterator went elsewhere: windows are forgotten, sizes begin anew. */
void table_ahead_stop(struct table_ahead *a);

/* The iterator is at block `index`: asks for what comes. */
lsm_status table_ahead_advance(struct table_ahead *a, uint32_t index, lsm_error *err);

/* The bytes of block `index` in a window, waiting for them; NULL in *bytes when no window has
 * them. Valid until the next call. */
lsm_status table_ahead_take(struct table_ahead *a, uint32_t index, const uint8_t **bytes,
                            lsm_error *err);

#endif
