/*
 * Coming in and leaving: which processes have a database open, and who makes and removes the
 * segment they share.
 *
 * The LOCK file in the database's directory is the root of trust. Its first page (attach_page.h)
 * names the segment; bytes behind the page are locked, never written:
 *
 *   A     attach    exclusive while somebody comes in or leaves; the founder keeps it until others
 *                   may come in, the last one until the database is closed
 *   B     presence  shared by everybody attached; exclusive: nobody else is
 *   S(i)  slot i    exclusive while slot i of the segment has a living owner
 *
 * The kernel drops them with the process, so nothing that a dead process left can be taken for a
 * living one, and no process id decides anything. B changes between its modes with a gap, which
 * nobody can see: whoever looks at B holds A.
 *
 *   begin: A; B exclusive?  yes: founder: found, recover files, ready
 *                           no:  B shared, check the page, map the segment, take a slot; free A
 *   leave: A; B exclusive?  yes: last: close files, remove the segment
 *
 * A dying process may let go of its locks one after the other and late (0.2 s for each GB it had in
 * memory), but only when none of its threads runs any more. What stays then looks like a living
 * process until it is gone: a newcomer joins its segment as a survivor would, or waits.
 *
 * Every population has a segment of its own: one that lost its founder before it was ready is never
 * entered, and stores of a dying process reach the old one. A segment is entered only if it is the
 * very file that the page names and names this very LOCK file; a copied or restored directory has
 * another LOCK file and thus another population.
 *
 * An attachment serves one thread at a time in the calls below that may fail; the accessors and
 * shm_slot_is_alive() any thread. Not inherited by fork: a child must not touch it.
 */
#ifndef ENGINE_SHM_ATTACH_H
#define ENGINE_SHM_ATTACH_H

#include "engine/shm/segment.h"

#define SHM_LOCK_ATTACH       UINT64_C(4096) /* bytes of the LOCK file: A */
#define SHM_LOCK_PRESENCE     UINT64_C(4097) /* B */
#define SHM_LOCK_SLOT(index)  (UINT64_C(4160) + (index))
#define SHM_DETACH_TIMEOUT_MS 10000 /* longest wait for A when leaving */

struct shm_attachment;

enum shm_attach_mode {
    SHM_ATTACH_SHARED, /* found, or join those who are there */
    SHM_ATTACH_ALONE,  /* found; LSM_BUSY when anybody is there */
    SHM_ATTACH_JOIN,   /* join those who are there; LSM_MISSING when nobody is */
};

enum shm_attach_role {
    SHM_ATTACH_FOUNDER, /* nobody else is there, nor comes in before shm_attach_ready() */
    SHM_ATTACH_JOINED,  /* in: segment and slot are this attachment's */
};

/*
 * Gives back what the dead owner of slot `index` held elsewhere in the segment. It is repeated from
 * the start when the reaper dies before it returned LSM_OK, so it has to bear that.
 */
typedef lsm_status (*shm_reap_slot)(void *context, struct shm_layout *layout, uint32_t index,
                                    lsm_error *err);

struct shm_attach_options {
    struct io *io;
    struct io_dir *dir; /* of the database; borrowed for the attachment's life */
    const char *path;   /* of the database, for messages; as long as dir */
    uint32_t mode;      /* of a LOCK file that is made here; 0: 0600 */
    enum shm_attach_mode how;
    unsigned timeout_ms; /* longest wait for who comes in, leaves, recovers or dies */
    bool allow_remote;   /* a shared file system, too: locks there may not reach all who use it */

    /* Called when a joining process finds no free slot but dead owners. May be NULL. */
    shm_reap_slot reap;
    void *reap_context;
};

/*
 * Comes in as far as that goes without recovery.
 *
 * LSM_BUSY with the process to look at: after timeout_ms because somebody is still opening, closing
 * or dying; at once when all slots are taken; and with SHM_ATTACH_ALONE when somebody is there.
 * LSM_UNSUPPORTED when those who are there cannot be joined by this process (other mount or PID
 * namespace, other machine, other build, shared file system), LSM_CORRUPT when the page or the
 * segment is damaged; both say what differs and what to do.
 */
lsm_status shm_attach_begin(const struct shm_attach_options *options,
                            struct shm_attachment **attachment, enum shm_attach_role *role,
                            lsm_error *err);

/*
 * For the founder, when it knows the database's uuid: makes the segment (options->lock_file is set
 * here) and takes a slot. Nobody can see it before shm_attach_ready().
 */
lsm_status shm_attach_found(struct shm_attachment *attachment, const struct shm_options *options,
                            lsm_error *err);
/* For the founder, after recovery: lets others in. After a failure only leaving is possible. */
lsm_status shm_attach_ready(struct shm_attachment *attachment, lsm_error *err);

/*
 * Begins to leave. The caller's threads are at rest, its jobs ended, its pins, snapshots and locks
 * given back. *is_last: nobody else is there; close the files, then end. Otherwise end soon: nobody
 * comes in or leaves meanwhile. The segment stays usable until the end. After a failure only
 * shm_attachment_abandon() is left.
 */
lsm_status shm_detach_begin(struct shm_attachment *attachment, bool *is_last, lsm_error *err);
/* Gives the slot back, unmaps the segment and, for the last one, removes it. Frees. */
void shm_detach_end(struct shm_attachment *attachment);
/* Lets go of everything as death would, the slot to be reaped by others. Frees. NULL is allowed. */
void shm_attachment_abandon(struct shm_attachment *attachment);

/*
 * For the founder: how far the log of the population before was durable when the last of it died,
 * if it died in this life of the machine. It may have died anywhere, so this is a lower bound for
 * what is on the disk, and no record can say that more was durable.
 */
struct shm_last_words {
    bool is_known;
    uint8_t log_nonce[SHM_UUID_SIZE]; /* the log is that of the segments with this nonce */
    uint64_t durable;                 /* position in it */
};
struct shm_last_words shm_attachment_last_words(const struct shm_attachment *attachment);

/* NULL, and slot and generation 0, before shm_attach_found(). */
struct shm_segment *shm_attachment_segment(const struct shm_attachment *attachment);
uint32_t shm_attachment_slot(const struct shm_attachment *attachment);
uint32_t shm_attachment_generation(const struct shm_attachment *attachment);

/* False once the LOCK file was removed or replaced under its name: whoever opens the database now
 * knows nothing of this population, so it must not write any more. */
bool shm_attachment_is_intact(const struct shm_attachment *attachment);

/* Whether slot `index` has a living owner (a dying one lives a little longer). Costs a system call.
 */
bool shm_slot_is_alive(const struct shm_attachment *attachment, uint32_t index);

/*
 * Cleans every slot whose owner died: `reap` is called with the slot locked against everybody else,
 * then the slot is emptied and free, with a new generation. Several may do it at once. *count (may
 * be NULL) gets how many were. Stops at the first failure of `reap`, which leaves its slot for
 * another try.
 */
lsm_status shm_reap(struct shm_attachment *attachment, shm_reap_slot reap, void *context,
                    uint32_t *count, lsm_error *err);

/*
 * Whether anybody has the database in `dir` open, without coming in: LSM_OK when nobody has,
 * LSM_BUSY with the process. Writes nothing.
 */
lsm_status shm_attach_look(struct io *io, struct io_dir *dir, const char *path, lsm_error *err);

#endif
