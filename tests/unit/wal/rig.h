/*
 * A log on a chosen backend, with an account of what was given to it, for the tests of engine/wal.
 *
 * Record number n (its sequence, from 1) holds bytes that follow from n and the salt it was written
 * with, so that whoever reads it back can tell whether it is the right one.
 */
#ifndef TESTS_UNIT_WAL_RIG_H
#define TESTS_UNIT_WAL_RIG_H

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/format/file_name.h"
#include "engine/format/log_record.h"
#include "engine/io/sim.h"
#include "engine/wal/wal.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RIG_MAX_RECORDS 4096
#define RIG_STAGE       ((uint64_t)16 << 10)
#define RIG_SEGMENT     ((uint64_t)32 << 10)

#define ck_ok(call)                                                                                \
    do {                                                                                           \
        lsm_error ck_error = {0};                                                                  \
        lsm_error *err = &ck_error;                                                                \
        lsm_status ck_status = (call);                                                             \
        ck_assert_msg(ck_status == LSM_OK, "%s: %s: %s", #call, lsm_strerror(ck_status),           \
                      ck_error.message);                                                           \
    } while (0)

enum rig_backend {
    RIG_SIM,
    RIG_POSIX,
    RIG_URING,
    RIG_BACKENDS,
};

struct rig {
    struct sim_disk *disk; /* NULL on the host */
    struct io *io;
    char path[200];
    struct wal_options options;
    struct shm_layout *layout; /* of the life that is running */
    struct wal *wal;           /* NULL: closed */
    uint64_t from, from_chain; /* what a manifest would say */
    bool clean;
    uint64_t sequence; /* of the last record published */
    uint64_t salt;     /* of records to come */
    uint64_t salts[RIG_MAX_RECORDS];
    uint64_t ends[RIG_MAX_RECORDS]; /* positions behind them */
};

/* ---- records --------------------------------------------------------------------------------- */

static inline size_t rig_batch_size(uint64_t salt, uint64_t sequence, size_t limit)
{
    struct random_state r = random_seeded(salt * 1000003 + sequence);
    size_t small = limit < 300 ? limit : 300;
    return (size_t)(random_below(&r, 8) == 0 ? random_below(&r, limit) : random_below(&r, small));
}

static inline void rig_fill(uint64_t salt, uint64_t sequence, uint8_t *bytes, size_t size)
{
    struct random_state r = random_seeded(~salt * 1000003 + sequence);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)random_next(&r);
}

static inline bool rig_is_record(uint64_t salt, uint64_t sequence, lsm_slice batch)
{
    uint8_t *expected = malloc(batch.size + 1);
    rig_fill(salt, sequence, expected, batch.size);
    bool same = batch.size == 0 || memcmp(expected, batch.data, batch.size) == 0;
    free(expected);
    return same;
}

/* ---- life ------------------------------------------------------------------------------------ */

static inline void rig_environment(struct rig *rig, const char *backend)
{
    if (rig->disk != NULL)
        ck_ok(sim_open(rig->disk, &rig->io, err));
    else
        ck_ok(io_open(backend, &rig->io, err));
    ck_ok(io_dir_open(rig->io, rig->path, IO_DIR_CREATE, 0, &rig->options.dir, err));
    rig->options.io = rig->io;
}

/* False, with the reason printed, where the backend is refused. */
static inline bool rig_init(struct rig *rig, enum rig_backend backend, uint64_t seed)
{
    static const char *const names[] = {"sim", "posix", "uring"};
    *rig = (struct rig){.salt = seed};
    rig->options =
        (struct wal_options){.stage_size = RIG_STAGE, .segment_size = RIG_SEGMENT, .mode = 0600};
    memcpy(rig->options.uuid, "0123456789abcdef", sizeof rig->options.uuid);
    if (backend == RIG_SIM) {
        rig->disk = sim_disk_new(seed);
        snprintf(rig->path, sizeof rig->path, "disk/db");
    } else {
        lsm_error err = {0};
        struct io *probe;
        if (io_open(names[backend], &probe, &err) == LSM_UNSUPPORTED) {
            printf("skipped on %s: %s\n", names[backend], err.message);
            return false;
        }
        io_close(probe);
        const char *root = getenv("TMPDIR");
        snprintf(rig->path, sizeof rig->path, "%s/lsm-wal-XXXXXX", root != NULL ? root : "/tmp");
        ck_assert_ptr_nonnull(mkdtemp(rig->path));
    }
    rig_environment(rig, names[backend]);
    return true;
}

struct rig_check {
    struct rig *rig;
    uint64_t position; /* where the next one begins */
    uint64_t next;     /* its number; 0: any */
    uint64_t count;
    const char *wrong;
};

static inline lsm_status rig_visit(void *context, uint64_t position, uint64_t end,
                                   uint64_t sequence, lsm_slice batch, lsm_error *err)
{
    (void)err;
    struct rig_check *c = context;
    if (position != c->position && c->wrong == NULL)
        c->wrong = "records do not lie behind each other";
    if (c->next != 0 && sequence != c->next && c->wrong == NULL)
        c->wrong = "a record is out of order";
    bool right =
        sequence < RIG_MAX_RECORDS && rig_is_record(c->rig->salts[sequence], sequence, batch);
    if (!right && c->wrong == NULL)
        c->wrong = "a record holds other bytes than it was given";
    if (end != position + log_record_size(batch.size) && c->wrong == NULL)
        c->wrong = "a record has another size than its batch asks for";
    c->position = end;
    c->next = sequence + 1;
    c->count++;
    return LSM_OK;
}

/* Replays; the records are checked, but not their number. */
static inline lsm_status rig_replay(struct rig *rig, struct wal_end *end, lsm_error *err)
{
    struct rig_check check = {.rig = rig, .position = rig->from};
    lsm_status status = wal_replay(&rig->options, rig->from, rig->from_chain, rig->clean, rig_visit,
                                   &check, end, err);
    ck_assert_msg(check.wrong == NULL, "%s (before position %" PRIu64 ")", check.wrong,
                  check.position);
    if (status == LSM_OK) {
        ck_assert_uint_eq(end->record_count, check.count);
        ck_assert_uint_eq(end->position, check.position);
    }
    return status;
}

static inline lsm_status rig_open_at(struct rig *rig, const struct wal_end *end, lsm_error *err)
{
    rig->layout = aligned_alloc(64, (sizeof *rig->layout + 63) / 64 * 64);
    memset(rig->layout, 0, sizeof *rig->layout);
    rig->options.layout = rig->layout;
    rig->sequence = end->last_sequence != 0 ? end->last_sequence : rig->sequence;
    return wal_open(&rig->options, end, &rig->wal, err);
}

/* Replays and opens. */
static inline lsm_status rig_open(struct rig *rig, struct wal_end *end, lsm_error *err)
{
    lsm_status status = rig_replay(rig, end, err);
    if (status == LSM_OK)
        status = rig_open_at(rig, end, err);
    return status;
}

static inline void rig_start(struct rig *rig, struct wal_end *end)
{
    struct wal_end found;
    ck_ok(rig_open(rig, end != NULL ? end : &found, err));
}

/* As a process that dies: nothing more is written. */
static inline void rig_abandon(struct rig *rig)
{
    wal_abandon(rig->wal);
    rig->wal = NULL;
    free(rig->layout);
    rig->layout = NULL;
}

static inline uint64_t rig_staged(const struct rig *rig)
{
    return atomic_load(&rig->layout->commit.staged);
}
static inline uint64_t rig_written(const struct rig *rig)
{
    return atomic_load(&rig->layout->commit.written);
}
static inline uint64_t rig_durable(const struct rig *rig)
{
    return atomic_load(&rig->layout->commit.durable);
}

/* What a clean close does: the tables hold everything, and the manifest says so. */
static inline void rig_close_clean(struct rig *rig)
{
    rig->from = rig_staged(rig);
    rig->from_chain = rig->layout->commit.chain;
    rig->clean = true;
    ck_ok(wal_close(rig->wal, true, err));
    rig->wal = NULL;
    free(rig->layout);
    rig->layout = NULL;
}

static inline lsm_status rig_unlink_visit(void *context, const char *name, lsm_error *err)
{
    return io_dir_unlink(context, name, NULL, err);
}

static inline void rig_close_environment(struct rig *rig)
{
    io_dir_close(rig->options.dir);
    io_close(rig->io);
}

static inline void rig_release(struct rig *rig)
{
    if (rig->wal != NULL || rig->layout != NULL)
        rig_abandon(rig);
    if (rig->disk == NULL) {
        ck_ok(io_dir_list(rig->options.dir, rig_unlink_visit, rig->options.dir, err));
        ck_ok(io_dir_remove(rig->io, rig->path, err));
    }
    rig_close_environment(rig);
    sim_disk_free(rig->disk);
}

/* A machine comes back after a crash. */
static inline void rig_crash(struct rig *rig, enum sim_crash crash, uint64_t seed)
{
    if (rig->wal != NULL || rig->layout != NULL)
        rig_abandon(rig);
    rig_close_environment(rig);
    sim_crash(rig->disk, crash, seed);
    rig_environment(rig, NULL);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Stages and publishes the next record, with this many bytes; the ring is emptied first when it has
 * no room. */
static inline lsm_status rig_put_sized(struct rig *rig, size_t size, uint64_t *end, lsm_error *err)
{
    lsm_status status = LSM_OK;
    while (status == LSM_OK && !wal_has_room_locked(rig->wal, size))
        status = wal_write_locked(rig->wal, rig_staged(rig), err);
    if (status != LSM_OK)
        return status;
    uint8_t *bytes = malloc(size + 1);
    uint64_t sequence = rig->sequence + 1;
    rig_fill(rig->salt, sequence, bytes, size);
    size_t cut = size / 3;
    lsm_slice pieces[] = {{bytes, cut}, {NULL, 0}, {bytes + cut, size - cut}};
    ck_assert_uint_lt(sequence, RIG_MAX_RECORDS);
    rig->salts[sequence] = rig->salt;
    status = wal_stage_locked(rig->wal, sequence, pieces, 3, end, err);
    free(bytes);
    if (status != LSM_OK)
        return status;
    rig->ends[sequence] = *end;
    wal_publish_locked(rig->wal);
    rig->sequence = sequence;
    return LSM_OK;
}

static inline lsm_status rig_put(struct rig *rig, uint64_t *end, lsm_error *err)
{
    size_t size = rig_batch_size(rig->salt, rig->sequence + 1, wal_max_batch(rig->wal));
    return rig_put_sized(rig, size, end, err);
}

static inline int rig_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}

#endif
