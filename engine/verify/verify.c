/*
 * lsm_verify(): one pass after the other over what is shared, the manifest, the directory, tables,
 * log, and tables against each other.
 */
#include "engine/verify/verify.h"
#include "engine/verify/verify_private.h"

#include "engine/base/cancel.h"
#include "engine/base/memory.h"

#define ATTEMPTS 3 /* when the database is opened meanwhile, it is done anew by joining */

/* ---- options --------------------------------------------------------------------------------- */

static lsm_status take_options(struct verify *v, const lsm_verify_options *given, lsm_error *err)
{
    v->options = (lsm_verify_options)LSM_VERIFY_OPTIONS_INIT;
    if (given != NULL) {
        if (given->struct_size != sizeof *given)
            return lsm_fail(err, LSM_INVALID, "the options begin with a size of %zu, not %zu",
                            given->struct_size, sizeof *given);
        v->options = *given;
    }
    lsm_verify_options *o = &v->options;
    if ((unsigned)o->level > LSM_VERIFY_FULL)
        return lsm_fail(err, LSM_INVALID, "there is no level %u of verification",
                        (unsigned)o->level);
    if (o->sample_percent > 100)
        return lsm_fail(err, LSM_INVALID, "a sample of %u percent is impossible",
                        o->sample_percent);
    if (o->threads == 0)
        o->threads = VERIFY_DEFAULT_THREADS;
    if (o->threads > VERIFY_MAX_THREADS)
        o->threads = VERIFY_MAX_THREADS;
    if (o->memory_limit == 0)
        o->memory_limit = VERIFY_DEFAULT_MEMORY;
    v->ignored = mem_alloc_zeroed(FINDING_COUNT * sizeof *v->ignored);
    if (v->ignored == NULL)
        return lsm_fail_memory(err, FINDING_COUNT);
    for (size_t i = 0; i < o->ignored_count; i++) {
        enum finding_id id = finding_parse(o->ignored[i]);
        if (id == FINDING_COUNT)
            return lsm_fail(err, LSM_INVALID, "there is no finding called '%s'", o->ignored[i]);
        v->ignored[id] = true;
    }
    return LSM_OK;
}

/* Families and the file that were asked for have to be there. */
static lsm_status check_wishes(struct verify *v, lsm_error *err)
{
    const struct version_edit *state = &v->replay.state;
    for (size_t i = 0; v->state_is_whole && i < v->options.family_count; i++) {
        bool is_there = false;
        for (size_t k = 0; k < state->created_count; k++)
            is_there = is_there || strcmp(state->created[k].name, v->options.families[i]) == 0;
        if (!is_there)
            return lsm_fail(err, LSM_INVALID, "there is no column family called '%s'",
                            v->options.families[i]);
    }
    if (v->options.file == NULL)
        return LSM_OK;
    for (size_t i = 0; i < v->table_count; i++) {
        char name[FILE_NAME_SIZE];
        enum file_kind kind = v->tables[i].is_blob ? FILE_BLOB : FILE_TABLE;
        if (strcmp(file_name_make(kind, v->tables[i].number, name), v->options.file) == 0)
            return LSM_OK;
    }
    return lsm_fail(err, LSM_INVALID, "'%s' is no table of the database", v->options.file);
}

/* ---- the passes ------------------------------------------------------------------------------ */

static void forget(struct verify *v)
{
    for (size_t i = 0; i < v->table_count; i++)
        mem_free(v->tables[i].replaced);
    mem_free(v->tables);
    v->tables = NULL;
    v->table_count = 0;
    walk_dir_release(&v->listing);
    replay_release(&v->replay);
    db_view_release(&v->view);
    if (v->db != NULL)
        (void)lsm_close(v->db, NULL);
    v->db = NULL;
    v->result = (lsm_verify_result){.struct_size = sizeof v->result};
    v->current_size = 0;
    v->manifest_number = 0;
    v->has_uuid = v->has_state = v->state_is_whole = false;
    atomic_store(&v->came_in, false);
}

static lsm_status run_passes(struct verify *v, lsm_error *err)
{
    lsm_status status = verify_shared(v, err);
    if (status == LSM_OK)
        status = verify_identity(v, err);
    if (status == LSM_OK)
        status = verify_manifest(v, err);
    if (status == LSM_OK && !v->result.is_live)
        v->result.sequence = v->replay.state.last_sequence;
    if (status == LSM_OK && v->options.identified != NULL)
        v->options.identified(v->options.context, v->result.uuid, v->result.sequence);
    if (status == LSM_OK)
        status = verify_inventory(v, err);
    if (status == LSM_OK)
        status = check_wishes(v, err);
    if (status == LSM_OK)
        status = verify_tables(v, err);
    if (status == LSM_OK && v->options.file == NULL)
        status = verify_log(v, err);
    if (status == LSM_OK && v->options.file == NULL)
        status = verify_levels(v, err);
    v->result.bytes_read = atomic_load(&v->bytes_read);
    return status;
}

/* Once more when somebody has opened the database, before anything wrong was told. */
static lsm_status run(struct verify *v, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        status = run_passes(v, err);
        if (status != LSM_BUSY || !atomic_load(&v->came_in) || v->has_told_damage ||
            v->options.offline || i + 1 == ATTEMPTS)
            break;
        forget(v);
    }
    return status;
}

static lsm_status conclude(struct verify *v, lsm_status status, lsm_error *err)
{
    if (v->is_stopped && status == LSM_CANCELLED) {
        status_copy(err, &v->first_damage);
        return LSM_CORRUPT;
    }
    if (status != LSM_OK || v->result.damages == 0)
        return status;
    status_copy(err, &v->first_damage);
    if (v->result.damages > 1 && err != NULL)
        (void)lsm_fail(err, LSM_CORRUPT, "%" PRIu64 " damages in '%s', the first of them: %.200s",
                       v->result.damages, v->path, v->first_damage.message);
    status_place(err, v->first_damage.file, v->first_damage.offset);
    return LSM_CORRUPT;
}

static lsm_status open_directory(struct verify *v, lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (!v->is_held)
        status = io_open(v->options.io == NULL ? "auto" : v->options.io, &v->io, err);
    if (status == LSM_OK && !v->is_held)
        status = io_dir_open(v->io, v->path, 0, 0, &v->dir, err);
    if (status != LSM_OK)
        return status;
    v->env = (struct walk_env){.io = v->io, .dir = v->dir, .pace = verify_pace, .pace_context = v};
    v->pace_began_ns = io_now_ns(v->io);
    return LSM_OK;
}

static lsm_status verify(struct verify *v, const lsm_verify_options *options,
                         lsm_verify_result *result, lsm_error *err)
{
    v->result = (lsm_verify_result){.struct_size = sizeof v->result};
    pthread_mutex_init(&v->lock, NULL);
    lsm_status status = take_options(v, options, err);
    if (status == LSM_OK)
        status = open_directory(v, err);
    if (status == LSM_OK)
        status = run(v, err);
    lsm_verify_result reached = v->result;
    status = conclude(v, status, err);
    forget(v);
    mem_free(v->ignored);
    pthread_mutex_destroy(&v->lock);
    if (result != NULL)
        *result = reached;
    if (status == LSM_OK && err != NULL)
        *err = (lsm_error){0};
    return status;
}

lsm_status verify_held(struct io *io, struct io_dir *dir, const char *path,
                       const lsm_verify_options *options, lsm_verify_result *result, lsm_error *err)
{
    struct verify v = {.path = path, .is_held = true, .io = io, .dir = dir};
    return verify(&v, options, result, err);
}

LSM_API lsm_status lsm_verify(const char *path, const lsm_verify_options *options,
                              lsm_verify_result *result, lsm_error *err)
{
    if (path == NULL || path[0] == '\0')
        return lsm_fail(err, LSM_INVALID, "the path of the database is empty");
    int before = cancel_hold();
    struct verify v = {.path = path};
    lsm_status status = verify(&v, options, result, err);
    io_dir_close(v.dir);
    io_close(v.io);
    cancel_release(before);
    return status;
}

LSM_API const char *lsm_finding_id(size_t index, const char **meaning, const char **repair)
{
    if (index >= FINDING_COUNT)
        return NULL;
    const struct finding_kind *kind = finding_kind_of((enum finding_id)index);
    if (meaning != NULL)
        *meaning = kind->meaning;
    if (repair != NULL)
        *repair = kind->repair;
    return kind->id;
}
