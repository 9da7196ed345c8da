/* The same walk as version_get()'s, which a block that is not in memory interrupts. */
#include "engine/version/search.h"

#include "engine/sst/table_fetch.h"
#include "engine/version/walk_private.h"

#include <assert.h>

void version_search_begin(struct version_search *s, const struct version_cf *cf)
{
    s->is_found = false;
    s->file = NULL;
    s->walk = walk_begin(cf, s->key, s->max_sequence);
}

bool version_search_look(struct version_search *s, struct block *block)
{
    s->is_found = table_fetch_look(s->table, block, s->key, s->hash, s->max_sequence, &s->found);
    return s->is_found;
}

lsm_status version_search_advance(struct version_search *s, bool *wants_block, lsm_error *err)
{
    assert(epoch_is_inside());
    *wants_block = false;
    while ((s->file = walk_next(&s->walk)) != NULL) {
        lsm_status status = table_slot_get(live_file_of(s->file)->slot, &s->table, err);
        if (status != LSM_OK)
            return status;
        if (!table_fetch_locate(s->table, s->key, s->hash, s->max_sequence, &s->block_index))
            continue;
        struct block *block = table_fetch_cached(s->table, s->block_index);
        *wants_block = block == NULL;
        if (block == NULL || version_search_look(s, block))
            return LSM_OK;
    }
    return LSM_OK;
}

size_t version_files_passed(const struct version_walk *walk, uint64_t found)
{
    struct version_walk w = walk_begin(walk->cf, walk->key, walk->max_sequence);
    size_t count = 0;
    for (struct version_file *file; (file = walk_next(&w)) != NULL; count++) {
        if (file->meta.min_sequence <= found && found <= file->meta.max_sequence)
            return count;
    }
    return count > 0 ? count - 1 : 0;
}
