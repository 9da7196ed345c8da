#include "engine/inspect/later_table.h"

#include "engine/inspect/walk_table.h"

static uint64_t last_sequence_of(const struct version_edit *state)
{
    uint64_t last = state->last_sequence;
    for (size_t i = 0; i < state->added_count; i++) {
        if (state->added[i].max_sequence > last)
            last = state->added[i].max_sequence;
    }
    return last;
}

/* *sequence is 0 where the table does not say. */
static lsm_status read_sequence(const struct walk_env *env, uint64_t number, uint64_t *sequence,
                                lsm_error *err)
{
    struct walk_table_options options = {.number = number};
    struct walk_table *walk = NULL;
    *sequence = 0;
    lsm_status status = walk_table_open(env, &options, &walk, err);
    if (status == LSM_OK && walk->properties.verdict == WALK_SOUND && !walk->is_foreign)
        *sequence = walk->table_properties.max_sequence;
    walk_table_close(walk);
    return status == LSM_MISSING || status == LSM_CORRUPT ? LSM_OK : status;
}

lsm_status later_table_find(const struct walk_env *env, const struct walk_dir *list,
                            const struct version_edit *state, struct later_table *later,
                            lsm_error *err)
{
    lsm_status status = LSM_OK;
    *later = (struct later_table){.last_sequence = last_sequence_of(state)};
    if (!state->has_log || !state->clean)
        return LSM_OK;
    for (size_t i = 0; status == LSM_OK && later->number == 0 && i < list->count; i++) {
        const struct walk_file *f = &list->files[i];
        if (f->name != WALK_NAME_OURS || f->kind != FILE_TABLE || !walk_file_is_plain(f) ||
            f->number < state->next_file_number)
            continue;
        status = read_sequence(env, f->number, &later->max_sequence, err);
        if (later->max_sequence > later->last_sequence)
            later->number = f->number;
    }
    return status;
}
