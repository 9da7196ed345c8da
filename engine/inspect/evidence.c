#include "engine/inspect/evidence.h"

#include "engine/inspect/walk_table.h"

static lsm_status ask(const void *context, uint64_t number, uint64_t *max_sequence, lsm_error *err)
{
    struct walk_table_options options = {.number = number};
    struct walk_table *walk = NULL;
    lsm_status status = walk_table_open(context, &options, &walk, err);
    if (status == LSM_OK && walk->properties.verdict == WALK_SOUND && !walk->is_foreign)
        *max_sequence = walk->table_properties.max_sequence;
    walk_table_close(walk);
    return status == LSM_MISSING || status == LSM_CORRUPT ? LSM_OK : status;
}

lsm_status evidence_gather(const struct walk_env *env, const struct walk_dir *list,
                           const struct edit_mark *mark, struct buffer *numbers,
                           struct lost_edits_evidence *evidence, lsm_error *err)
{
    buffer_clear(numbers);
    for (size_t i = 0; i < list->count; i++) {
        const struct walk_file *f = &list->files[i];
        if (f->name == WALK_NAME_OURS && f->kind == FILE_TABLE && walk_file_is_plain(f))
            buffer_append(numbers, &f->number, sizeof f->number);
    }
    *evidence = (struct lost_edits_evidence){.mark = *mark, .ask = ask, .context = env};
    if (numbers->failed)
        return lsm_fail_memory(err, numbers->capacity);
    evidence->tables = (const uint64_t *)(const void *)numbers->data;
    evidence->table_count = numbers->size / sizeof *evidence->tables;
    return LSM_OK;
}
