/*
 * The write-ahead log: every batch, in commit order, before it is visible to anybody.
 *
 * The log is one endless run of bytes; a *position* is an offset in it, and only ever grows. It
 * lives in two places at once:
 *
 *   stage file   a mapped ring; byte p is at p % stage_size. A commit copies its record here: that
 *                alone makes it survive kill -9 of everybody (page cache), for the price of memcpy.
 *   segments     NNNNNN.wal: header block, then the bytes from the segment's start position on,
 *                appended behind the ring by the log writer, O_DIRECT, one write in flight (a
 *                second only when the first ends on a 4 KiB border), from a private buffer.
 *
 *      reusable <= written <= staged   ring holds [reusable, staged); segments hold [.., written)
 *      durable  <= written             segments are flushed up to durable
 *
 * A partial last block is written again by the next append, so `reusable` is the start (in segment
 * offsets) of the block that holds `written`. Records never straddle two segments, and `written` is
 * always the end of one.
 *
 * Recovery follows one chain of records by position and chained checksum: segments strictly by
 * position along the seals, then the ring for whatever continues the chain. Each open draws a nonce
 * and seeds the checksums with it from its resume position on, makes everything it found durable,
 * and begins a new segment that seals the old one and holds the ring's tail, before anybody is let
 * in. A segment that was sealed by an open or a takeover is unlinked when obsolete, never recycled:
 * a dead process's write may still land in it.
 *
 * A bad record ends the log only when nothing after it proves that it had been synced (a later
 * valid record's `synced` field, a later segment's start); otherwise it is LSM_CORRUPT with the
 * exact place. A read error is never the end of the log.
 *
 * Any number of processes write one log. The first opens it with wal_open(), the others join with
 * wal_attach(); each has its own handle, and what they have to know of each other is in shm_commit.
 *
 * Locks: "append" and "sync" are the locks of shm_layout; functions ending in _locked say which one
 * they need. Who gets one of them with SHM_LOCKED_OWNER_DIED calls wal_append_takeover_locked() or
 * wal_takeover_locked() before shm_lock_repaired(). Nobody lets go of the sync lock with a write
 * begun and not finished.
 */
#ifndef ENGINE_WAL_WAL_H
#define ENGINE_WAL_WAL_H

#include "engine/base/buffer.h"
#include "engine/format/batch.h"
#include "engine/format/log_record.h"
#include "engine/io/io.h"
#include "engine/shm/segment.h"

struct wal;

struct wal_last_life {
    uint8_t nonce[HASH_UUID_SIZE];
    uint64_t durable; /* position: no record says that more was */
};

struct wal_options {
    struct io *io;
    struct io_dir *dir;          /* borrowed, outlives the log */
    uint8_t uuid[SHM_UUID_SIZE]; /* seeds every checksum */
    struct shm_layout *layout;   /* borrowed; its commit fields are set by wal_open(). NULL for
                                    wal_replay() alone */
    uint64_t stage_size;         /* multiple of 4 KiB, at least 16 KiB; wal_open() alone asks */
    uint64_t segment_size;       /* at least stage_size; multiple of 4 KiB; the same */
    uint32_t mode;               /* of new files */
    bool refuse_mapping;         /* write commits to the stage file, as where it cannot be mapped */
    /* Told wal_replay()'s context when it has visited the last record, before it searches what lies
     * behind; NULL: nobody is. */
    void (*replay_ended)(void *context);
    /* For wal_replay(): how far the log of the life with this nonce was durable when it ended, as
     * is known from elsewhere than the log; NULL: it is not. */
    const struct wal_last_life *last_life;
};

/* Where the log ends, as found. */
struct wal_end {
    uint64_t position;      /* behind the last whole record: the log goes on here */
    uint64_t segments_end;  /* segments hold the log up to here; the ring the rest */
    uint64_t chain;         /* checksum of the last record */
    uint64_t last_sequence; /* of the last record; 0 when there is none */
    uint64_t last_segment;  /* number of the newest segment; 0 when there is none */
    uint64_t next_segment;  /* a number above every .wal and .spare file's */
    uint64_t record_count;  /* replayed */
    bool is_of_last_life;   /* wal_options.last_life is about this log */
};

/* Told every record in order. `position` is its first byte, `end` the one behind it. */
typedef lsm_status (*wal_visit)(void *context, uint64_t position, uint64_t end, uint64_t sequence,
                                lsm_slice batch, lsm_error *err);

/*
 * Reads the log from `from` (a record's start: the oldest position that tables do not hold yet) to
 * its end. Changes nothing on disk, so it serves read-only opens and inspection.
 *
 * chain  The checksum of the record before `from`, 0 when unknown.
 * clean  The database was closed cleanly at `from`, so it is no damage that there is no segment.
 *        One that is there was begun by a later open, or left by a close that was cut short; it is
 *        read as always. So the mark that says clean may stay until the next one replaces it.
 *
 * LSM_CORRUPT: a missing segment, a hole, or a damaged record that had been synced.
 */
lsm_status wal_replay(const struct wal_options *options, uint64_t from, uint64_t chain, bool clean,
                      wal_visit visit, void *context, struct wal_end *end, lsm_error *err);

/*
 * Opens the log for writing at `end` (all zero for a new database): the stage file is made or
 * mapped, the old segments and the ring's tail are made durable, and a new segment is begun.
 * Everything of wal_end was applied by the caller. On return written = durable = end->position.
 * After a failure the log is as good as before, but has to be replayed before another try.
 */
lsm_status wal_open(const struct wal_options *options, const struct wal_end *end, struct wal **wal,
                    lsm_error *err);

/*
 * Joins a log that another process has opened and that may be in use: maps the stage file and reads
 * nothing else. Sizes are those of the opener. LSM_CORRUPT when the stage file is another one.
 */
lsm_status wal_attach(const struct wal_options *options, struct wal **wal, lsm_error *err);
/* Leaves it to the others, who need nothing of this process. No lock is held. NULL is allowed. */
void wal_detach(struct wal *wal);

/*
 * Ends writing, for the last process. With `clean` (the caller has made a manifest edit durable
 * that says the log is empty and ends at its staged position) segments are kept as spares for the
 * next open. Frees `wal` whatever is returned. NULL is allowed.
 */
lsm_status wal_close(struct wal *wal, bool clean, lsm_error *err);

/* Frees the handle as the death of the process would leave it: nothing is written or synced,
 * requests in flight are only waited for. NULL is allowed. */
void wal_abandon(struct wal *wal);

/* ---- appending (append lock held) ------------------------------------------------------------ */

#define WAL_RECORD_OVERHEAD ((size_t)64) /* at most, with padding */

/* The largest batch, in bytes, that fits: half of the stage file. */
size_t wal_max_batch(const struct wal *wal);

/* Is there room in the ring for a batch of `size` bytes? If not, the caller lets go of the append
 * lock and writes the log (wal_write_locked) first. */
bool wal_has_room_locked(const struct wal *wal, size_t size);
/* Parts per million of the way from a ring that is half full to one that is full; 0: there is less
 * in it. Any thread, without a lock: as it was a moment ago. */
uint32_t wal_ring_ppm(const struct wal *wal);
/* Bytes of that half. The ring is as large as who opened first asked for. */
uint64_t wal_ring_half(const struct wal *wal);

/*
 * Makes one record of a batch given in `count` pieces and copies it into the ring behind the last
 * one published. Not seen by anybody before wal_publish_locked(); staging again replaces it.
 * Returns the position behind it. Room was checked; cannot fail, except with LSM_IO/LSM_NO_SPACE
 * where the stage file cannot be mapped (then nothing was staged) and LSM_NO_MEMORY.
 */
lsm_status wal_stage_locked(struct wal *wal, uint64_t sequence, const lsm_slice *pieces,
                            size_t count, uint64_t *end, lsm_error *err);
/* Gives what was staged to the log writer. From here on it will be recovered. */
void wal_publish_locked(struct wal *wal);

/*
 * For who took the append lock from a dead owner: the record of `size` bytes that stands in the
 * ring at `position`, published or not. Its bytes are copied to `bytes`, which *record borrows
 * from. LSM_CORRUPT when the ring does not hold it.
 */
lsm_status wal_staged_record_locked(struct wal *wal, uint64_t position, uint64_t size,
                                    struct buffer *bytes, struct log_record *record,
                                    lsm_error *err);
/* The append lock's owner died: puts in order what its death may have left of a publication. Fails
 * only where the stage file cannot be mapped and not be read; may be called again. */
lsm_status wal_append_takeover_locked(struct wal *wal, lsm_error *err);
/*
 * For doing again what a dead owner was about: *found tells whether a record stands whole behind
 * what is published, as if this handle had staged it; wal_publish_locked() then publishes it.
 * `batch` is valid until the next call that stages. LSM_NO_MEMORY, and LSM_IO as above.
 */
lsm_status wal_stage_again_locked(struct wal *wal, bool *found, uint64_t *sequence,
                                  lsm_slice *batch, uint64_t *end, lsm_error *err);

/* ---- the log writer (sync lock held) --------------------------------------------------------- */

/* Each of these goes on where the last holder of the lock stopped, whichever process that was. */

/*
 * The sync lock's owner died. It may have writes in flight which land at any later time, so its
 * segment is flushed, sealed at `written` and never written or recycled again, and another one is
 * begun behind it. When that fails (or this process dies, too) the lock may be repaired and let go
 * all the same: every call below takes over first until it was done. A failed flush poisons.
 */
lsm_status wal_takeover_locked(struct wal *wal, lsm_error *err);

/* Starts appending [written, staged) to the current segment and returns without waiting; a no-op
 * when there is nothing or a write is in flight. Begins the next segment when this one is full. The
 * write is finished, by one of the next three, before the lock is let go; after a failure none is
 * in flight. */
lsm_status wal_write_begin_locked(struct wal *wal, lsm_error *err);
/* Waits for it; moves written and reusable to the end of the last whole record, signals
 * commit.flushed. */
lsm_status wal_write_finish_locked(struct wal *wal, lsm_error *err);
/* Both, until written has reached `position`. */
lsm_status wal_write_locked(struct wal *wal, uint64_t position, lsm_error *err);
/* Writes up to `position`, then makes it durable (fdatasync) and moves durable as far as it got. A
 * failed sync poisons: ctl.poisoned is set and every later call returns LSM_POISONED. */
lsm_status wal_sync_locked(struct wal *wal, uint64_t position, lsm_error *err);

/* Segments wholly below `position` are recycled or unlinked, whoever wrote them, and so are files
 * that dead processes left. Tables that hold everything below it are durable in the manifest. */
lsm_status wal_forget_locked(struct wal *wal, uint64_t position, lsm_error *err);
/* Makes the next segment ready ahead of need. Does nothing when one is, or somebody is at it. Takes
 * time; called by a background thread of any process without any lock: */
lsm_status wal_prepare(struct wal *wal, lsm_error *err);

/*
 * Nobody has written for a while: gives back the disk space that is kept for writers, but for a
 * little. `needed`: durable tables hold everything below this position; where that is all of the
 * log, its segments go as well. Nothing happens when something is staged that is not written, or
 * there is little to give. A failure costs only space.
 */
lsm_status wal_rest_locked(struct wal *wal, uint64_t needed, lsm_error *err);

/* Has the ring mapped where writers come to next, once there are many. A hint to the kernel; for
 * the thread that writes the log. */
void wal_populate_ahead(struct wal *wal);
/* True when wal_prepare() should run: the current segment is half full, and there is no next one.
 */
bool wal_wants_spare(const struct wal *wal);
/* True when so much is staged and not written that the log writer should run (256 KiB). */
bool wal_wants_write(const struct wal *wal);
uint64_t wal_bytes_written(const struct wal *wal); /* to segments, for statistics */
/* Segments are written past the page cache: what is read back from them is on the disk. */
bool wal_is_direct(const struct wal *wal);
/* How the log is acknowledged and written, and why, for people. */
const char *wal_path_text(const struct wal *wal);

#endif
