/*
 * The set: the current version and the manifest that makes it survive.
 *
 * An edit goes through four steps, in this order: the next version is built in memory (an edit that
 * does not fit fails here, with no effect), the edit is appended and synced, the files it removed
 * are marked, the version is installed. When the append breaks the manifest, a new one is begun
 * with a snapshot of the next version; when that fails too nobody can tell what the disk holds, and
 * the set refuses all further edits.
 */
#include "engine/version/set_private.h"

#include "engine/base/memory.h"
#include "engine/format/file_name.h"
#include "engine/version/lost_edits.h"

#include <assert.h>

struct version_set *version_set_new(const struct version_options *options)
{
    struct version_set *set = mem_alloc_zeroed(sizeof *set);
    if (set == NULL)
        return NULL;
    set->options = *options;
    set->next_file_number =
        options->next_file_number == NULL ? &set->own_file_number : options->next_file_number;
    dead_files_init(&set->dead, options->env->dir, options->may_remove,
                    options->may_remove_context);
    table_pool_init(&set->pool, options->env, options->max_open_tables, options->max_table_bytes,
                    options->read_only ? NULL : &set->dead);
    pthread_mutex_init(&set->current_lock, NULL);
    return set;
}

bool version_set_close(struct version_set *set)
{
    if (set == NULL)
        return false;
    if (set->current != NULL)
        version_drop(&set->current->base);
    epoch_drain();
    table_pool_release(&set->pool);
    dead_files_clean(&set->dead);
    bool some_stay = set->dead.first != NULL;
    dead_files_release(&set->dead);
    manifest_close(&set->manifest);
    pthread_mutex_destroy(&set->current_lock);
    mem_free(set);
    return some_stay;
}

struct version *version_set_current(struct version_set *set)
{
    pthread_mutex_lock(&set->current_lock);
    struct version *current = &set->current->base;
    version_keep(current);
    pthread_mutex_unlock(&set->current_lock);
    return current;
}

void version_set_install(struct version_set *set, struct live_version *version)
{
    version->base.number = version_set_number(set);
    pthread_mutex_lock(&set->current_lock);
    struct live_version *old = set->current;
    set->current = version;
    pthread_mutex_unlock(&set->current_lock);
    if (old != NULL)
        version_drop(&old->base);
}

uint64_t version_new_file_number(struct version_set *set)
{
    return atomic_fetch_add_explicit(set->next_file_number, 1, memory_order_relaxed);
}

void version_raise(_Atomic uint64_t *counter, uint64_t value)
{
    uint64_t before = atomic_load_explicit(counter, memory_order_relaxed);
    while (before < value &&
           !atomic_compare_exchange_weak_explicit(counter, &before, value, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

void version_set_last_sequence(struct version_set *set, uint64_t sequence)
{
    version_raise(&set->last_sequence, sequence);
}

void version_set_clean(struct version_set *set)
{
    epoch_collect();
    table_pool_clean(&set->pool);
    dead_files_clean(&set->dead);
}

void version_set_place(const struct version_set *set, struct version_place *place)
{
    *place = (struct version_place){.manifest_number = set->manifest.place.file_number,
                                    .previous_number = set->previous_number,
                                    .offset = set->manifest.chain.offset,
                                    .frame_number = set->manifest.chain.number,
                                    .chain = set->manifest.chain.previous};
}

void version_set_state(struct version_set *set, struct version_state *state)
{
    *state = set->state;
}

uint64_t version_set_memory(struct version_set *set)
{
    return table_pool_memory(&set->pool);
}

/* ---- applying ---------------------------------------------------------------------------------
 */

lsm_status version_set_rotate(struct version_set *set, const struct version *version,
                              const struct version_state *state, uint64_t frame_number,
                              bool *is_uncertain, lsm_error *err)
{
    const struct table_env *env = set->options.env;
    struct manifest next = {0};
    char name[FILE_NAME_SIZE];
    *is_uncertain = false;
    uint64_t number = version_new_file_number(set);
    struct version_state counted = *state;
    counted.next_file_number = atomic_load_explicit(set->next_file_number, memory_order_relaxed);
    lsm_status status = manifest_create(env, number, frame_number, version, &counted, &next, err);
    if (status != LSM_OK)
        return status;
    status = manifest_put_in_force(env, number, is_uncertain, err);
    if (status != LSM_OK) {
        manifest_close(&next);
        if (!*is_uncertain)
            (void)io_dir_unlink(env->dir, file_name_make(FILE_MANIFEST, number, name), NULL, NULL);
        return status;
    }
    if (set->previous_number != 0)
        dead_files_add(&set->dead, FILE_MANIFEST, set->previous_number, 0, next.chain.number - 1);
    set->previous_number = set->manifest.place.file_number;
    manifest_close(&set->manifest);
    set->manifest = next;
    set->state = counted;
    return LSM_OK;
}

static lsm_status fail_broken(const struct version_set *set, lsm_error *err)
{
    const struct lsm_error *first = &set->broken;
    lsm_fail(err, LSM_POISONED,
             "the manifest of '%s' cannot be written any more; reopen the database (%s)",
             io_dir_path(set->options.env->dir), first->message);
    status_place(err, first->file, first->offset);
    if (err != NULL)
        err->os_errno = first->os_errno;
    return LSM_POISONED;
}

lsm_status version_set_break(struct version_set *set, const lsm_error *first, lsm_error *err)
{
    set->broken = *first;
    return fail_broken(set, err);
}

bool version_set_is_broken(const struct version_set *set)
{
    return set->broken.status != LSM_OK;
}

lsm_status version_set_check_writable(const struct version_set *set, lsm_error *err)
{
    if (set->options.read_only)
        return lsm_fail(err, LSM_READ_ONLY, "'%s' was opened for reading only",
                        io_dir_path(set->options.env->dir));
    return set->broken.status == LSM_OK ? LSM_OK : fail_broken(set, err);
}

/* The new file's snapshot has numbers of its own, so the same tables become another version: the
 * number of the current version is that of the last frame in every process. */
lsm_status version_set_rotate_current(struct version_set *set, uint64_t frame_number,
                                      bool *is_uncertain, lsm_error *err)
{
    struct version_edit nothing = {0};
    struct live_version *same = NULL;
    *is_uncertain = false;
    lsm_status status = version_build(&set->current->base, &nothing, &set->pool, &same, err);
    if (status != LSM_OK)
        return status;
    status = version_set_rotate(set, &same->base, &set->state, frame_number, is_uncertain, err);
    if (status == LSM_OK)
        version_set_install(set, same);
    else
        version_drop(&same->base);
    return status;
}

/* Begins a new manifest when this one has grown; it goes on with the old one when that fails early
 * enough, and tries again when it has grown by as much again. */
static lsm_status roll_if_large(struct version_set *set, lsm_error *err)
{
    uint64_t least = set->options.manifest_roll_size;
    if (set->manifest.chain.offset < (least == 0 ? MANIFEST_ROLL_SIZE : least) ||
        set->manifest.chain.offset < set->manifest.roll_size)
        return LSM_OK;
    bool is_uncertain;
    lsm_error own = {0};
    lsm_status status =
        version_set_rotate_current(set, set->manifest.chain.number, &is_uncertain, &own);
    if (status == LSM_OK)
        return LSM_OK;
    if (is_uncertain)
        return version_set_break(set, &own, err);
    set->manifest.roll_size = set->manifest.chain.offset * MANIFEST_ROLL_GROW;
    return LSM_OK;
}

void version_state_apply(struct version_state *state, const struct version_edit *edit)
{
    if (edit->has_log) {
        state->log_position = edit->log_position;
        state->log_chain = edit->log_chain;
        state->clean = edit->clean;
    }
    if (edit->next_file_number > state->next_file_number)
        state->next_file_number = edit->next_file_number;
    if (edit->last_sequence > state->last_sequence)
        state->last_sequence = edit->last_sequence;
    if (edit->next_cf > state->next_cf)
        state->next_cf = edit->next_cf;
}

/* The state after the edit, and the edit's own numbers where it left them out. */
static struct version_state next_state(struct version_set *set, struct version_edit *edit)
{
    struct version_state next = set->state;
    if (edit->next_file_number == 0)
        edit->next_file_number = atomic_load_explicit(set->next_file_number, memory_order_relaxed);
    if (edit->last_sequence == 0)
        edit->last_sequence = atomic_load_explicit(&set->last_sequence, memory_order_relaxed);
    version_state_apply(&next, edit);
    return next;
}

/* What replaying the manifest would refuse must not get into it. */
lsm_status version_check_numbers(const struct version_edit *edit, const struct version_state *state,
                                 lsm_error *err)
{
    for (size_t i = 0; i < edit->added_count; i++) {
        if (edit->added[i].number >= state->next_file_number)
            return lsm_fail(err, LSM_CORRUPT,
                            "an edit adds table %" PRIu64 ", a number that was not given out yet",
                            edit->added[i].number);
    }
    for (size_t i = 0; i < edit->blob_count; i++) {
        if (edit->blobs[i].number >= state->next_file_number)
            return lsm_fail(err, LSM_CORRUPT,
                            "an edit adds blob file %" PRIu64
                            ", a number that was not given out yet",
                            edit->blobs[i].number);
    }
    for (size_t i = 0; i < edit->created_count; i++) {
        if (edit->created[i].id >= state->next_cf)
            return lsm_fail(err, LSM_CORRUPT,
                            "an edit creates column family %u, but the next one is %u",
                            edit->created[i].id, state->next_cf);
    }
    return LSM_OK;
}

static lsm_status make_durable(struct version_set *set, const struct version_edit *edit,
                               const struct version *version, const struct version_state *state,
                               lsm_error *err)
{
    bool is_broken, is_uncertain;
    lsm_error first = {0};
    lsm_status status = manifest_append(&set->manifest, edit, &is_broken, &first);
    if (status == LSM_OK) {
        set->state = *state;
        return LSM_OK;
    }
    if (!is_broken) {
        status_copy(err, &first);
        return status;
    }
    /* The edit may stand in the old manifest or not; the new one says it for certain. */
    status = version_set_rotate(set, version, state, set->manifest.chain.number + 1, &is_uncertain,
                                NULL);
    return status == LSM_OK ? LSM_OK : version_set_break(set, &first, err);
}

/* Edits that leave no other trace: families, and that everything is in tables. */
static void mark_edit(const struct version_set *set, const struct version_edit *edit)
{
    struct edit_mark mark = {.frame_number = version_set_number(set)};
    if (edit->created_count + edit->renamed_count + edit->dropped_count == 0 &&
        !(edit->has_log && edit->clean))
        return;
    memcpy(mark.uuid, set->options.env->uuid, sizeof mark.uuid);
    edit_mark_write(set->options.env->dir, &mark);
}

lsm_status version_set_apply(struct version_set *set, struct version_edit *edit, lsm_error *err)
{
    lsm_status status = version_set_check_writable(set, err);
    if (status != LSM_OK)
        return status;
    struct version_state state = next_state(set, edit);
    status = version_check_numbers(edit, &state, err);
    if (status != LSM_OK)
        return status;
    struct live_version *next = NULL;
    status = version_build(&set->current->base, edit, &set->pool, &next, err);
    if (status != LSM_OK)
        return status;
    status = roll_if_large(set, err);
    if (status == LSM_OK)
        status = make_durable(set, edit, &next->base, &state, err);
    if (status != LSM_OK) {
        version_drop(&next->base);
        return status;
    }
    mark_edit(set, edit);
    version_mark_removed(&set->current->base, edit, &next->base, version_set_number(set));
    version_set_install(set, next);
    table_pool_clean(&set->pool);
    return LSM_OK;
}
