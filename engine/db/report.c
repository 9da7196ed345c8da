/*
 * What a process tells of itself in its slot, for tools that look from outside. Everything is
 * stored relaxed and read by nobody here; the numbers need not fit each other.
 */
#include "engine/db/db_private.h"

#include <stdio.h>

#define STORE(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)

static void report_shared_cache(const lsm_db *db, struct shm_report *r)
{
    struct shm_frames_counts counts;
    struct shm_frames *frames = block_cache_frames(db->tables.cache);
    if (frames == NULL)
        return;
    shm_frames_count(frames, &counts);
    STORE(r->shared_cache_size, counts.capacity);
    STORE(r->shared_cache_bytes, counts.bytes);
    STORE(r->shared_cache_found, counts.found);
}

void db_report_begin(lsm_db *db)
{
    struct shm_report *r = &db->slot->report;
    uint32_t roles = SHM_ROLE_OPEN;
    roles |= db->worker_count > 0 ? SHM_ROLE_WORKERS : 0;
    roles |= db->keeper_runs ? SHM_ROLE_KEEPER : 0;
    roles |= db->options.exclusive ? SHM_ROLE_ALONE : 0;
    roles |= db->options.read_only ? SHM_ROLE_READER : 0;
    snprintf(r->io_name, sizeof r->io_name, "%s", io_name(db->io));
    snprintf(r->io_reason, sizeof r->io_reason, "%s", io_reason(db->io));
    snprintf(r->log_path, sizeof r->log_path, "%s", db->wal == NULL ? "" : wal_path_text(db->wal));
    STORE(r->cache_size, db->options.cache_size == LSM_NO_CACHE ? 0 : db->options.cache_size);
    report_shared_cache(db, r);
    STORE(r->attached_ns, io_now_ns(db->io));
    /* Release: who sees that the opening is over sees the texts. */
    atomic_store_explicit(&db->slot->roles, roles, memory_order_release);
}

void db_report(lsm_db *db)
{
    struct shm_report *r = &db->slot->report;
    uint64_t hits, misses;
    block_cache_counts(db->tables.cache, &hits, &misses);
    STORE(r->cache_hits, hits);
    STORE(r->cache_misses, misses);
    STORE(r->cache_bytes, block_cache_bytes(db->tables.cache));
    report_shared_cache(db, r);
    STORE(r->table_bytes, version_set_memory(db->versions));
    STORE(r->debt_ppm, atomic_load(&db->throttle.debt_ppm));
    STORE(r->drain_rate, atomic_load(&db->throttle.drain_rate));
    STORE(r->flush_bytes_written, atomic_load(&db->statistics.flush_bytes_written));
    STORE(r->merge_bytes_read, atomic_load(&db->statistics.compaction_bytes_read));
    STORE(r->merge_bytes_written, atomic_load(&db->statistics.compaction_bytes_written));
    STORE(r->read_merges, atomic_load(&db->statistics.read_merges));
    STORE(r->io_submissions, io_submission_count(db->io));
    STORE(r->said_ns, io_now_ns(db->io));
}

void db_report_stall(lsm_db *db, lsm_stall reason)
{
    struct shm_report *r = &db->slot->report;
    STORE(r->stall_ns, io_now_ns(db->io));
    STORE(r->stall_reason, (uint32_t)reason);
}

void db_report_work(lsm_db *db, lsm_status status, const char *sentence)
{
    struct shm_report *r = &db->slot->report;
    if (status == LSM_OK && atomic_load_explicit(&r->work_status, memory_order_relaxed) == LSM_OK)
        return;
    snprintf(r->work_error, sizeof r->work_error, "%s", sentence);
    STORE(r->work_status, (uint32_t)status);
}
