/* Numbers and texts about an open database. Each name has one function. */
#include "engine/db/db_private.h"

#include "engine/base/parse.h"

#include <stdio.h>

struct question {
    lsm_db *db;
    struct db_state *state;
    bool all;    /* over all families */
    uint32_t cf; /* otherwise this one */
};

static bool asks_for(const struct question *q, const struct version_cf *cf)
{
    return q->all || cf->id == q->cf;
}

enum level_sum {
    SUM_ENTRIES,
    SUM_TABLES,
    SUM_BYTES,
    SUM_LEVEL0,
    SUM_LEVELS,
};

static uint64_t sum_levels(const struct question *q, enum level_sum what)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < q->state->version->family_count; i++) {
        const struct version_cf *cf = q->state->version->families[i];
        if (!asks_for(q, cf))
            continue;
        for (size_t level = 0; level < VERSION_LEVELS; level++) {
            const struct version_level *l = &cf->levels[level];
            if (what == SUM_TABLES || (what == SUM_LEVEL0 && level == 0))
                sum += l->count;
            else if (what == SUM_BYTES)
                sum += l->bytes;
            else if (what == SUM_LEVELS && l->count > 0 && level + 1 > sum)
                sum = level + 1;
            for (size_t f = 0; what == SUM_ENTRIES && f < l->count; f++) {
                const struct table_meta *m = &l->files[f]->meta;
                sum += m->entry_count - 2 * (m->delete_count < m->entry_count / 2
                                                 ? m->delete_count
                                                 : m->entry_count / 2);
            }
        }
    }
    return sum;
}

static uint64_t get_entries(const struct question *q)
{
    uint64_t sum = sum_levels(q, SUM_ENTRIES);
    for (size_t i = 0; i < q->state->memtable_count; i++)
        sum += memtable_entry_count(q->state->memtables[i]->table);
    return sum;
}

static uint64_t get_level0(const struct question *q)
{
    return sum_levels(q, SUM_LEVEL0);
}

static uint64_t get_tables(const struct question *q)
{
    return sum_levels(q, SUM_TABLES);
}

static uint64_t get_table_bytes(const struct question *q)
{
    return sum_levels(q, SUM_BYTES);
}

enum blob_sum {
    BLOB_FILES,
    BLOB_RAW,
    BLOB_LIVE,
};

static uint64_t sum_blobs(const struct question *q, enum blob_sum what)
{
    const struct version *version = q->state->version;
    uint64_t sum = 0;
    for (size_t i = 0; i < version->blob_count; i++) {
        const struct version_blob *blob = &version->blobs[i];
        const struct version_cf *cf = version_find_cf(version, blob->meta.cf);
        if (cf == NULL || !asks_for(q, cf))
            continue;
        sum += what == BLOB_FILES ? blob->meta.size
               : what == BLOB_RAW ? blob->meta.raw_size
                                  : blob->live_bytes;
    }
    return sum;
}

static uint64_t get_blob_bytes(const struct question *q)
{
    return sum_blobs(q, BLOB_FILES);
}

static uint64_t get_blob_raw(const struct question *q)
{
    return sum_blobs(q, BLOB_RAW);
}

static uint64_t get_blob_live(const struct question *q)
{
    return sum_blobs(q, BLOB_LIVE);
}

static uint64_t get_levels(const struct question *q)
{
    return sum_levels(q, SUM_LEVELS);
}

static uint64_t get_memtable_bytes(const struct question *q)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < q->state->memtable_count; i++)
        sum += memtable_bytes_used(q->state->memtables[i]->table);
    return sum;
}

static uint64_t get_cache_bytes(const struct question *q)
{
    return block_cache_bytes(q->db->tables.cache);
}

static struct shm_frames_counts shared_counts(const struct question *q)
{
    struct shm_frames_counts counts = {0};
    struct shm_frames *frames = block_cache_frames(q->db->tables.cache);
    if (frames != NULL)
        shm_frames_count(frames, &counts);
    return counts;
}

static uint64_t get_shared_bytes(const struct question *q)
{
    return shared_counts(q).bytes;
}

static uint64_t get_shared_found(const struct question *q)
{
    return shared_counts(q).found;
}

static uint64_t get_cache_hits(const struct question *q)
{
    uint64_t hits, misses;
    block_cache_counts(q->db->tables.cache, &hits, &misses);
    return hits;
}

static uint64_t get_cache_misses(const struct question *q)
{
    uint64_t hits, misses;
    block_cache_counts(q->db->tables.cache, &hits, &misses);
    return misses;
}

static uint64_t get_snapshots(const struct question *q)
{
    pthread_mutex_lock(&q->db->snapshot_lock);
    uint64_t count = q->db->snapshot_count;
    pthread_mutex_unlock(&q->db->snapshot_lock);
    return count;
}

static uint64_t get_sequence(const struct question *q)
{
    return atomic_load(&q->db->layout->commit.visible_sequence);
}

static uint64_t get_largest_batch(const struct question *q)
{
    return q->db->wal == NULL ? 0 : wal_max_batch(q->db->wal);
}

static uint64_t get_log_bytes(const struct question *q)
{
    return q->db->wal == NULL ? 0 : wal_bytes_written(q->db->wal);
}

static uint64_t get_flush_bytes(const struct question *q)
{
    return atomic_load(&q->db->statistics.flush_bytes_written);
}

static uint64_t get_compaction_written(const struct question *q)
{
    return atomic_load(&q->db->statistics.compaction_bytes_written);
}

static uint64_t get_compaction_running(const struct question *q)
{
    uint64_t sum = 0;
    for (uint32_t j = 0; q->db->slot != NULL && j < SHM_SLOT_JOBS; j++) {
        const struct shm_job *job = &q->db->slot->jobs[j];
        if (atomic_load(&job->state) == SHM_JOB_RUNNING)
            sum += atomic_load(&job->bytes_written);
    }
    return sum;
}

static uint64_t get_compaction_read(const struct question *q)
{
    return atomic_load(&q->db->statistics.compaction_bytes_read);
}

static uint64_t get_read_merges(const struct question *q)
{
    return atomic_load(&q->db->statistics.read_merges);
}

static uint64_t get_stall(const struct question *q)
{
    return atomic_load(&q->db->statistics.stall_us);
}

static uint64_t get_stall_count(const struct question *q)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < SHM_WAIT_KINDS; i++)
        sum += atomic_load(&q->db->slot->report.waits[i].count);
    return sum;
}

static uint64_t get_stall_longest(const struct question *q)
{
    uint64_t longest = 0;
    for (size_t i = 0; i < SHM_WAIT_KINDS; i++) {
        uint64_t us = atomic_load(&q->db->slot->report.waits[i].longest_us);
        longest = us > longest ? us : longest;
    }
    return longest;
}

static uint64_t get_submissions(const struct question *q)
{
    return io_submission_count(q->db->io);
}

static uint64_t get_memory(const struct question *q)
{
    uint64_t sum = get_cache_bytes(q) + version_set_memory(q->db->versions);
    sum += shared_counts(q).backed;
    return sum + (q->db->segment == NULL ? 0 : shm_segment_bytes(q->db->segment));
}

static const struct property {
    const char *name;
    uint64_t (*get)(const struct question *q);
} properties[] = {
    {"entries", get_entries},
    {"level0-tables", get_level0},
    {"tables", get_tables},
    {"table-bytes", get_table_bytes},
    {"blob-bytes", get_blob_bytes},
    {"blob-bytes-raw", get_blob_raw},
    {"blob-bytes-live", get_blob_live},
    {"levels", get_levels},
    {"memtable-bytes", get_memtable_bytes},
    {"cache-bytes", get_cache_bytes},
    {"cache-hits", get_cache_hits},
    {"cache-misses", get_cache_misses},
    {"shared-cache-bytes", get_shared_bytes},
    {"shared-cache-found", get_shared_found},
    {"snapshots", get_snapshots},
    {"sequence", get_sequence},
    {"log-bytes-written", get_log_bytes},
    {"flush-bytes-written", get_flush_bytes},
    {"compaction-bytes-written", get_compaction_written},
    {"compaction-bytes-read", get_compaction_read},
    {"compaction-bytes-running", get_compaction_running},
    {"read-merges", get_read_merges},
    {"stall-us", get_stall},
    {"stall-count", get_stall_count},
    {"stall-longest-us", get_stall_longest},
    {"io-submissions", get_submissions},
    {"largest-batch", get_largest_batch},
    {"memory-bytes", get_memory},
};

static lsm_status question_begin(lsm_db *db, lsm_cf *cf, const char *name, struct question *q,
                                 lsm_error *err)
{
    lsm_status status = db_check(db, err);
    if (status == LSM_OK)
        status = db_refresh(db, err);
    if (status == LSM_OK && name == NULL)
        status = lsm_fail(err, LSM_INVALID, "the property's name is NULL");
    *q = (struct question){.db = db, .all = cf == NULL};
    if (status == LSM_OK)
        status = db_check_cf(db, cf, &q->cf, err);
    if (status == LSM_OK)
        q->state = db_state_acquire(db);
    return status;
}

LSM_API lsm_status lsm_property(lsm_db *db, lsm_cf *cf, const char *name, uint64_t *value,
                                lsm_error *err)
{
    struct question q;
    lsm_status status = question_begin(db, cf, name, &q, err);
    if (status == LSM_OK && value == NULL) {
        db_state_drop(q.state);
        return lsm_fail(err, LSM_INVALID, "the place for the value is NULL");
    }
    if (status != LSM_OK)
        return status;
    status = LSM_INVALID;
    for (size_t i = 0; i < sizeof properties / sizeof *properties; i++) {
        if (strcmp(properties[i].name, name) == 0) {
            *value = properties[i].get(&q);
            status = LSM_OK;
        }
    }
    db_state_drop(q.state);
    return status == LSM_OK ? status : lsm_fail(err, status, "there is no property '%s'", name);
}

/* ---- texts ----------------------------------------------------------------------------------- */

static void text_levels(const struct question *q, struct buffer *text)
{
    char line[160], size[PARSE_SIZE_TEXT], target[PARSE_SIZE_TEXT];
    for (size_t i = 0; i < q->state->version->family_count; i++) {
        const struct version_cf *cf = q->state->version->families[i];
        if (!asks_for(q, cf))
            continue;
        uint64_t targets[VERSION_LEVELS];
        compact_level_targets(cf, targets);
        buffer_append(text, cf->name, strlen(cf->name));
        int n = snprintf(line, sizeof line, "\n  %5s %7s %12s %12s %12s\n", "level", "tables",
                         "size", "target", "entries");
        buffer_append(text, line, (size_t)n);
        for (size_t level = 0; level < VERSION_LEVELS; level++) {
            const struct version_level *l = &cf->levels[level];
            uint64_t entries = 0;
            for (size_t f = 0; f < l->count; f++)
                entries += l->files[f]->meta.entry_count;
            if (level == 0)
                snprintf(target, sizeof target, "%" PRIu64 " tables", targets[0]);
            else if (targets[level] == UINT64_MAX)
                snprintf(target, sizeof target, "no limit");
            else
                parse_format_size(targets[level], target);
            n = snprintf(line, sizeof line, "  %5zu %7zu %12s %12s %12" PRIu64 "\n", level,
                         l->count, parse_format_size(l->bytes, size), target, entries);
            buffer_append(text, line, (size_t)n);
        }
    }
}

static void append_text(struct buffer *text, const char *more)
{
    buffer_append(text, more, strlen(more));
}

static void text_io(const struct question *q, struct buffer *text)
{
    append_text(text, io_name(q->db->io));
    append_text(text, ": ");
    append_text(text, io_reason(q->db->io));
    if (q->db->wal != NULL) {
        append_text(text, "; log: ");
        append_text(text, wal_path_text(q->db->wal));
    }
}

static void text_stall(const struct question *q, struct buffer *text)
{
    static const char *const reasons[] = {"none", "every memtable waits for its flush",
                                          "compaction is behind: too many level-0 tables",
                                          "the log cannot be written fast enough"};
    append_text(text, reasons[atomic_load(&q->db->throttle.reason) % 4]);
}

static void append_waits(struct buffer *text, const char *whose, const struct shm_waits *waits)
{
    char line[160];
    for (size_t i = 0; i < SHM_WAIT_KINDS; i++) {
        int n =
            snprintf(line, sizeof line, "%-8s %-10s %10" PRIu64 " %14" PRIu64 " %12" PRIu64 "\n",
                     whose, shm_wait_name((enum shm_wait)i), atomic_load(&waits[i].count),
                     atomic_load(&waits[i].total_us), atomic_load(&waits[i].longest_us));
        buffer_append(text, line, (size_t)n);
    }
}

static void text_stalls(const struct question *q, struct buffer *text)
{
    char line[160];
    int n = snprintf(line, sizeof line, "%-8s %-10s %10s %14s %12s\n", "whose", "waited for",
                     "times", "in all us", "longest us");
    buffer_append(text, line, (size_t)n);
    append_waits(text, "own", q->db->slot->report.waits);
    append_waits(text, "all", q->db->layout->ctl.waits);
}

static void text_uuid(const struct question *q, struct buffer *text)
{
    char hex[3];
    for (size_t i = 0; i < TABLE_UUID_SIZE; i++) {
        snprintf(hex, sizeof hex, "%02x", q->db->tables.uuid[i]);
        append_text(text, hex);
    }
}

static const struct text_property {
    const char *name;
    void (*make)(const struct question *q, struct buffer *text);
} text_properties[] = {
    {"io", text_io},         {"levels", text_levels}, {"stall", text_stall},
    {"stalls", text_stalls}, {"uuid", text_uuid},
};

LSM_API lsm_status lsm_property_text(lsm_db *db, lsm_cf *cf, const char *name, char *text,
                                     size_t capacity, size_t *size, lsm_error *err)
{
    struct question q;
    lsm_status status = question_begin(db, cf, name, &q, err);
    if (status != LSM_OK)
        return status;
    struct buffer made = {0};
    bool known = false;
    for (size_t i = 0; i < sizeof text_properties / sizeof *text_properties; i++) {
        if (strcmp(text_properties[i].name, name) == 0) {
            text_properties[i].make(&q, &made);
            known = true;
        }
    }
    db_state_drop(q.state);
    if (!known)
        return lsm_fail(err, LSM_INVALID, "there is no property '%s'", name);
    if (made.failed) {
        buffer_release(&made);
        return lsm_fail_memory(err, made.size);
    }
    size_t copied = capacity == 0 ? 0 : made.size < capacity - 1 ? made.size : capacity - 1;
    if (copied > 0)
        memcpy(text, made.data, copied);
    if (capacity > 0)
        text[copied] = '\0';
    if (size != NULL)
        *size = made.size;
    buffer_release(&made);
    return LSM_OK;
}
