/*
 * Epochs: how a reader thread uses shared structures (versions, tables, cached blocks) without
 * taking a lock or a reference, and how what was replaced is freed once no reader can still see it.
 *
 *     epoch_enter();  pointer = atomic_load(&shared);  ... use it ...  epoch_exit();
 *
 *     old = atomic_exchange(&shared, new);  epoch_retire(free_it, old);   // a writer
 *
 * A thread announces the epoch it entered in a slot of its own (one exchange on a line nobody else
 * writes). Retired things carry the epoch at which they were unlinked and are freed when every
 * announced epoch is later. Enter and exit nest. Whoever needs a thing after epoch_exit() takes a
 * reference while inside.
 *
 * Slots are per process and shared by all open databases; a thread gets one at its first enter and
 * gives it back when it ends. Threads beyond EPOCH_SLOT_COUNT share one slot under a lock.
 * After fork the child must not use it (handles refuse first).
 */
#ifndef ENGINE_BASE_EPOCH_H
#define ENGINE_BASE_EPOCH_H

#include <stdbool.h>
#include <stdint.h>

#define EPOCH_SLOT_COUNT 1024

void epoch_enter(void);
void epoch_exit(void);

/* True between enter and exit, for assertions. */
bool epoch_is_inside(void);

/*
 * Calls retire(thing) once no thread that is inside now is still inside; on this thread or on a
 * later caller's. Never allocates per call: the link is inside the thing.
 */
struct epoch_retired {
    struct epoch_retired *next;
    void (*retire)(struct epoch_retired *thing);
    uint64_t epoch; /* when it was unlinked */
};
void epoch_retire(struct epoch_retired *thing, void (*retire)(struct epoch_retired *thing));

/* Frees what can be freed now. */
void epoch_collect(void);

/* Waits until everything retired before the call is freed, by whatever thread. Not while inside, and
 * not from a retire function. */
void epoch_drain(void);

#endif
