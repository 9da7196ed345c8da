/*
 * Entries of tables that refer to blob files: how much of which, and, where every byte is looked
 * at, that the value is there. A blob file that cannot be read is told of by itself, and not once
 * more for every entry that refers to it.
 */
#include "engine/verify/verify_private.h"

#include "engine/base/hash.h"
#include "engine/base/memory.h"

void value_tally_release(struct value_tally *tally)
{
    for (size_t i = 0; i < VERIFY_OPEN_BLOBS; i++)
        table_close(tally->open[i].table);
    if (tally->cache != NULL)
        block_cache_free(tally->cache);
    mem_free(tally->uses);
    buffer_release(&tally->key);
    *tally = (struct value_tally){0};
}

bool verify_uses_equal(const struct blob_use *a, size_t a_count, const struct blob_use *b,
                       size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++) {
        if (a[i].number != b[i].number || a[i].entry_count != b[i].entry_count ||
            a[i].bytes != b[i].bytes)
            return false;
    }
    return true;
}

/* The place of blob file `number`, which is made; NULL without memory. */
static struct blob_use *use_of(struct value_tally *t, uint64_t number)
{
    size_t low = 0, limit = t->use_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (t->uses[middle].number < number)
            low = middle + 1;
        else
            limit = middle;
    }
    if (low < t->use_count && t->uses[low].number == number)
        return &t->uses[low];
    if (t->use_count == t->use_room) {
        size_t room = t->use_room == 0 ? 8 : t->use_room * 2;
        struct blob_use *grown = mem_resize(t->uses, room * sizeof *grown);
        if (grown == NULL)
            return NULL;
        t->uses = grown;
        t->use_room = room;
    }
    memmove(t->uses + low + 1, t->uses + low, (t->use_count - low) * sizeof *t->uses);
    t->uses[low] = (struct blob_use){.number = number};
    t->use_count++;
    return &t->uses[low];
}

/* ---- looking for the value ------------------------------------------------------------------- */

static lsm_status prepare(struct verify *v, struct value_tally *t, lsm_error *err)
{
    if (t->cache != NULL)
        return LSM_OK;
    t->cache = block_cache_new(0);
    if (t->cache == NULL)
        return lsm_fail_memory(err, sizeof t->env);
    t->env = (struct table_env){.io = v->io, .dir = v->dir, .cache = t->cache};
    memcpy(t->env.uuid, v->env.uuid, sizeof t->env.uuid);
    return LSM_OK;
}

static bool is_of_the_machine(lsm_status status)
{
    return status == LSM_NO_MEMORY || status == LSM_CANCELLED;
}

/* *table is NULL when the file cannot be read. */
static lsm_status open_blob(struct verify *v, struct value_tally *t, uint64_t number,
                            struct table **table, lsm_error *err)
{
    size_t oldest = 0;
    for (size_t i = 0; i < VERIFY_OPEN_BLOBS; i++) {
        if (t->open[i].number == number) {
            t->open[i].used_at = ++t->clock;
            *table = t->open[i].table;
            return LSM_OK;
        }
        if (t->open[i].used_at < t->open[oldest].used_at)
            oldest = i;
    }
    lsm_status status = prepare(v, t, err);
    if (status != LSM_OK)
        return status;
    table_close(t->open[oldest].table);
    t->open[oldest].table = NULL;
    t->open[oldest].number = number;
    t->open[oldest].used_at = ++t->clock;
    status = table_open_kind(&t->env, FILE_BLOB, number, 0, &t->open[oldest].table, err);
    *table = t->open[oldest].table;
    return is_of_the_machine(status) ? status : LSM_OK;
}

static lsm_status look_for(struct verify *v, struct value_tally *t, lsm_slice key, uint64_t trailer,
                           const struct blob_reference *reference, struct table_problem *problem,
                           lsm_error *err)
{
    struct table *table = NULL;
    struct table_found found;
    bool is_found = false;
    uint64_t sequence = entry_sequence(trailer);
    lsm_status status = open_blob(v, t, reference->number, &table, err);
    if (status != LSM_OK || table == NULL)
        return status;
    epoch_enter();
    status = table_get(table, key, hash_key(key.data, key.size), sequence, TABLE_NO_FILL, &is_found,
                       &found, err);
    epoch_exit();
    if (status != LSM_OK)
        return is_of_the_machine(status) ? status : LSM_OK;
    if (!is_found || found.trailer != entry_trailer(sequence, ENTRY_PUT))
        *problem = (struct table_problem){"an entry refers to a value that is not there", sequence,
                                          is_found ? entry_sequence(found.trailer) : 0};
    else if (found.value.size != reference->size)
        *problem = (struct table_problem){"an entry refers to a value of another size",
                                          reference->size, found.value.size};
    if (is_found && found.owned)
        block_drop(found.block);
    return verify_go_on(v, err);
}

/* ---- the entries ----------------------------------------------------------------------------- */

static lsm_status check_entry(struct verify *v, const struct walk_block *block, size_t index,
                              bool is_full, struct value_tally *t, struct table_problem *problem,
                              lsm_error *err)
{
    struct blob_reference reference;
    if (!blob_reference_decode(block_value(&block->view, index), &reference)) {
        *problem = (struct table_problem){"an entry does not say which value it refers to", 0, 0};
        return LSM_OK;
    }
    struct blob_use *use = use_of(t, reference.number);
    if (use == NULL || !block_copy_key(&block->view, index, &t->key))
        return lsm_fail_memory(err, sizeof *use);
    use->entry_count++;
    use->bytes += t->key.size + reference.size;
    if (!is_full)
        return LSM_OK;
    return look_for(v, t, buffer_slice(&t->key), block_trailer(&block->view, index), &reference,
                    problem, err);
}

lsm_status verify_values(struct verify *v, const struct walk_block *block, bool is_full,
                         struct value_tally *tally, struct table_problem *problem, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < block->view.count && status == LSM_OK && problem->what == NULL; i++) {
        if (entry_type_of(block_trailer(&block->view, i)) == ENTRY_BLOB)
            status = check_entry(v, block, i, is_full, tally, problem, err);
    }
    return status;
}
