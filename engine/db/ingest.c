/*
 * Ingests: the public calls. What is added becomes tables that nobody names (engine/compact/
 * intake.h); the commit makes them part of the database with one edit (ingest_commit.c).
 */
#include "engine/db/ingest_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/db/batch_private.h"

#define INGEST_MAGIC          UINT32_C(0x696e6765)
#define INGEST_MEMORY_DEFAULT ((size_t)256 << 20)
#define INGEST_MEMORY_PART    8 /* of `memory` */
#define INGEST_MEMORY_MIN     ((size_t)64 << 10)

static lsm_status check(const lsm_ingest *in, lsm_error *err)
{
    if (in == NULL || in->magic != INGEST_MAGIC)
        return lsm_fail(err, LSM_INVALID, "the ingest is NULL or was freed");
    lsm_status status = db_check_write(in->db, err);
    if (status != LSM_OK)
        return status;
    if (in->state == INGEST_COMMITTED)
        return lsm_fail(err, LSM_INVALID, "the ingest into '%s' was committed", in->db->path);
    if (in->state == INGEST_FAILED)
        return lsm_fail(err, LSM_INVALID, "the ingest into '%s' has failed; begin another",
                        in->db->path);
    return LSM_OK;
}

/* An eighth of the number for all. */
static size_t default_memory(const lsm_db *db)
{
    uint64_t part = db->options.memory / INGEST_MEMORY_PART;
    return part == 0 || part > INGEST_MEMORY_DEFAULT ? INGEST_MEMORY_DEFAULT : (size_t)part;
}

static lsm_status resolve(const lsm_db *db, const lsm_ingest_options *given,
                          lsm_ingest_options *options, lsm_error *err)
{
    static const lsm_ingest_options defaults = LSM_INGEST_OPTIONS_INIT;
    *options = given == NULL ? defaults : *given;
    if (options->struct_size != sizeof *options)
        return lsm_fail(err, LSM_INVALID,
                        "lsm_ingest_options has struct_size %zu, not %zu; begin with "
                        "LSM_INGEST_OPTIONS_INIT",
                        options->struct_size, sizeof *options);
    if (options->memory_limit == 0)
        options->memory_limit = default_memory(db);
    if (options->memory_limit < INGEST_MEMORY_MIN)
        return lsm_fail(err, LSM_INVALID, "a memory_limit of %zu bytes is under %zu",
                        options->memory_limit, INGEST_MEMORY_MIN);
    return LSM_OK;
}

static bool tell_progress(void *context, uint64_t bytes_done)
{
    lsm_ingest *in = context;
    uint64_t total = in->added_bytes < bytes_done ? bytes_done : in->added_bytes;
    return in->options.progress(in->options.progress_context, bytes_done, total);
}

/* Gives back what an ingest that is not open any more needs no longer. */
static void end(lsm_ingest *in, enum ingest_state state)
{
    intake_free(in->intake);
    in->intake = NULL;
    block_cache_charge(in->db->tables.cache, -in->charged);
    in->charged = 0;
    db_outputs_end(in->db, &in->outputs);
    in->state = state;
}

/* What it sorts in, and what it holds of the tables that it writes, comes out of the cache. */
static void charge(lsm_ingest *in)
{
    const lsm_options *o = &in->db->options;
    struct db_memory_parts parts;
    db_memory_parts(o, &parts);
    uint64_t limit = in->options.memory_limit;
    in->charged = (int64_t)((limit < o->memory ? limit : o->memory) + parts.written);
    block_cache_charge(in->db->tables.cache, in->charged);
}

LSM_API lsm_status lsm_ingest_begin(lsm_db *db, const lsm_ingest_options *options,
                                    lsm_ingest **ingest, lsm_error *err)
{
    lsm_ingest_options resolved;
    lsm_status status = db_check_write(db, err);
    if (status == LSM_OK)
        status = resolve(db, options, &resolved, err);
    if (status == LSM_OK && ingest == NULL)
        status = lsm_fail(err, LSM_INVALID, "the place for the ingest is NULL");
    if (status != LSM_OK)
        return status;
    lsm_ingest *in = mem_alloc_zeroed(sizeof *in);
    if (in == NULL)
        return lsm_fail_memory(err, sizeof *in);
    in->magic = INGEST_MAGIC;
    in->db = db;
    in->options = resolved;
    in->env = (struct compact_env){.tables = &db->tables, .set = db->versions};
    if (resolved.progress != NULL) {
        in->env.progress = tell_progress;
        in->env.progress_context = in;
    }
    struct intake_options take = {.env = &in->env,
                                  .memory = resolved.memory_limit,
                                  .in_background = db_has_workers(db),
                                  .merge_threads = db_has_workers(db) ? db->options.workers : 1,
                                  .keep_first = resolved.keep_first};
    status = intake_new(&take, &in->intake, err);
    if (status != LSM_OK) {
        mem_free(in);
        return status;
    }
    charge(in);
    db_outputs_begin(db, &in->outputs);
    atomic_fetch_add(&db->ingest_count, 1);
    STEP("ingest: begun");
    *ingest = in;
    return LSM_OK;
}

/* The family's name and options are those of now. */
static lsm_status learn_family(lsm_ingest *in, uint32_t cf, lsm_error *err)
{
    lsm_db *db = in->db;
    lsm_status status = db_refresh(db, err);
    if (status != LSM_OK)
        return status;
    struct db_state *state = db_state_acquire(db);
    const struct version_cf *family = version_find_cf(state->version, cf);
    if (family == NULL)
        status = lsm_fail(err, LSM_MISSING, "column family %" PRIu32 " of '%s' was dropped", cf,
                          db->path);
    else
        status = intake_add_family(in->intake, cf, family->name, &family->options, err);
    db_state_drop(state);
    return status;
}

static lsm_status add(lsm_ingest *in, lsm_cf *cf, enum entry_type type, lsm_slice key,
                      lsm_slice value, lsm_error *err)
{
    uint32_t id = 0;
    lsm_status status = check(in, err);
    if (status == LSM_OK)
        status = db_check_cf(in->db, cf, &id, err);
    if (status == LSM_OK)
        status = batch_check_entry(key, value, err);
    if (status == LSM_OK && !intake_knows(in->intake, id))
        status = learn_family(in, id, err);
    if (status != LSM_OK)
        return status;
    status = intake_add(in->intake, id, type, key, value, err);
    in->added_bytes += key.size + value.size;
    if (status != LSM_OK)
        end(in, INGEST_FAILED);
    return status;
}

LSM_API lsm_status lsm_ingest_put(lsm_ingest *ingest, lsm_cf *cf, lsm_slice key, lsm_slice value,
                                  lsm_error *err)
{
    return add(ingest, cf, ENTRY_PUT, key, value, err);
}

LSM_API lsm_status lsm_ingest_delete(lsm_ingest *ingest, lsm_cf *cf, lsm_slice key, lsm_error *err)
{
    return add(ingest, cf, ENTRY_DELETE, key, LSM_SLICE(NULL, 0), err);
}

LSM_API lsm_status lsm_ingest_commit(lsm_ingest *ingest, lsm_error *err)
{
    lsm_status status = check(ingest, err);
    if (status != LSM_OK)
        return status;
    status = intake_finish(ingest->intake, err);
    STEP("ingest: sealed");
    if (status == LSM_OK) {
        ingest->entry_count = intake_entry_count(ingest->intake);
        ingest->sequence = atomic_load(&ingest->db->layout->commit.visible_sequence);
        if (intake_table_count(ingest->intake) > 0)
            status = ingest_install(ingest, err);
    }
    end(ingest, status == LSM_OK ? INGEST_COMMITTED : INGEST_FAILED);
    STEP("ingest: over");
    if (status != LSM_OK)
        db_orphans_expect(ingest->db);
    return status;
}

LSM_API void lsm_ingest_free(lsm_ingest *ingest)
{
    if (ingest == NULL || ingest->magic != INGEST_MAGIC)
        return;
    /* In a forked child the files, and the thread, are the parent's. */
    if (ingest->db->fork_count != db_fork_count())
        return;
    if (ingest->state == INGEST_OPEN)
        end(ingest, INGEST_FAILED);
    ingest->magic = 0;
    atomic_fetch_sub(&ingest->db->ingest_count, 1);
    mem_free(ingest);
}

LSM_API uint64_t lsm_ingest_sequence(const lsm_ingest *ingest)
{
    return ingest->sequence;
}

LSM_API uint64_t lsm_ingest_count(const lsm_ingest *ingest)
{
    return ingest->entry_count;
}
