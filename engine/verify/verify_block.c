/*
 * One block. The cheap part runs over every block: heads decide the order of nearly all entries, so
 * keys are put together only where two heads are equal. The full part looks at every key.
 */
#include "engine/verify/verify_private.h"

#include "engine/format/entry.h"
#include "engine/format/table_filter.h"

void block_tally_release(struct block_tally *tally)
{
    buffer_release(&tally->first_key);
    buffer_release(&tally->last_key);
    buffer_release(&tally->key);
}

/* What is looked at. */
struct look {
    const struct walk_block *block;
    const struct block_view *view;
    const struct table_properties *properties; /* NULL: not known */
    const struct walk_table *walk;
    struct block_tally *tally;
    enum finding_id *fault;
    struct table_problem *problem;
    lsm_error *err;
};

static void blame(const struct look *l, enum finding_id fault, const char *what, uint64_t expected,
                  uint64_t found)
{
    *l->fault = fault;
    *l->problem = (struct table_problem){what, expected, found};
}

static bool is_blamed(const struct look *l)
{
    return *l->fault != FINDING_COUNT;
}

/* ---- order ----------------------------------------------------------------------------------- */

/* Entry `index` against the one before, whose head is the same. LSM_NO_MEMORY. */
static lsm_status check_pair(const struct look *l, size_t index)
{
    struct buffer *key = &l->tally->key;
    if (!block_copy_key(l->view, index, key))
        return lsm_fail_memory(l->err, block_key_size(l->view, index));
    if (block_compare(l->view, index - 1, buffer_slice(key), block_trailer(l->view, index)) >= 0)
        blame(l, FINDING_BLOCK_ORDER, "an entry does not come after the one before it", 0, 0);
    return LSM_OK;
}

static bool head_is_filled(const struct block_view *v, size_t index)
{
    size_t suffix = block_suffix_size(v, index);
    if (suffix >= BLOCK_HEAD_SIZE)
        return true;
    uint64_t unused = suffix == 0 ? UINT64_MAX : UINT64_MAX >> (8 * suffix);
    return (block_head(v, index) & unused) == 0;
}

static lsm_status check_order(const struct look *l)
{
    const struct block_view *v = l->view;
    bool has_short = (v->flags & BLOCK_KEY_SIZES) != 0 || v->key_size < BLOCK_HEAD_SIZE;
    uint64_t before = 0;
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < v->count && status == LSM_OK && !is_blamed(l); i++) {
        uint64_t head = block_head(v, i);
        if (has_short && !head_is_filled(v, i))
            blame(l, FINDING_BLOCK_MALFORMED, "a short key's head is not filled up with zeros", 0,
                  0);
        else if (i > 0 && head < before)
            blame(l, FINDING_BLOCK_ORDER, "an entry does not come after the one before it", 0, 0);
        else if (i > 0 && head == before)
            status = check_pair(l, i);
        before = head;
    }
    return status;
}

/* ---- sequence numbers and types -------------------------------------------------------------- */

static void check_trailers(const struct look *l)
{
    const struct block_view *v = l->view;
    struct table_frame f = l->block->frame;
    uint64_t min = UINT64_MAX, max = 0, deletes = 0;
    for (size_t i = 0; i < v->count; i++) {
        uint64_t trailer = block_trailer(v, i), sequence = entry_sequence(trailer);
        if (!entry_type_is_known(trailer)) {
            blame(l, FINDING_ENTRY_TYPE, "an entry is of an unknown type", 0, trailer & 0xff);
            return;
        }
        min = sequence < min ? sequence : min;
        max = sequence > max ? sequence : max;
        deletes += entry_type_of(trailer) == ENTRY_DELETE;
    }
    struct block_tally *t = l->tally;
    t->deletes += deletes;
    t->min_sequence = t->blocks == 0 || min < t->min_sequence ? min : t->min_sequence;
    t->max_sequence = max > t->max_sequence ? max : t->max_sequence;
    const struct table_properties *p = l->properties;
    if (l->walk->sequence_base != 0 && f.max_sequence == 0)
        f.min_sequence = f.max_sequence = l->walk->sequence_base; /* they stand in the properties */
    if (min != f.min_sequence)
        blame(l, FINDING_BLOCK_SEQUENCE, "its smallest sequence number is another", f.min_sequence,
              min);
    else if (max != f.max_sequence)
        blame(l, FINDING_BLOCK_SEQUENCE, "its largest sequence number is another", f.max_sequence,
              max);
    else if (p != NULL && min < p->min_sequence)
        blame(l, FINDING_SEQUENCE_OUTSIDE, "a sequence number is below those of its table",
              p->min_sequence, min);
    else if (p != NULL && max > p->max_sequence)
        blame(l, FINDING_SEQUENCE_OUTSIDE, "a sequence number is above those of its table",
              p->max_sequence, max);
}

/* ---- among its neighbours -------------------------------------------------------------------- */

static void check_place(const struct look *l, lsm_slice first)
{
    const struct block_tally *t = l->tally;
    if (t->has_last && entry_compare(buffer_slice(&t->last_key), t->last_trailer, first,
                                     block_trailer(l->view, 0)) >= 0)
        blame(l, FINDING_BLOCKS_ORDER, "it does not begin behind the block before it", 0, 0);
    else if (l->properties != NULL && slice_compare(first, l->properties->smallest) < 0)
        blame(l, FINDING_KEY_OUTSIDE, "its first key is below those of its table", 0, 0);
}

static void check_end(const struct look *l, lsm_slice last)
{
    if (l->properties != NULL && slice_compare(last, l->properties->largest) > 0)
        blame(l, FINDING_KEY_OUTSIDE, "its last key is above those of its table", 0, 0);
}

/* The separator in front: above all before it, not above the first entry. */
static void check_separator(const struct look *l, lsm_slice first)
{
    const struct block_tally *t = l->tally;
    const struct table_index *index = &l->walk->table_index;
    if (!l->block->has_index || l->block->index == 0)
        return;
    uint32_t block = l->block->index;
    if (table_index_compare(index, block, first, block_trailer(l->view, 0)) > 0)
        blame(l, FINDING_INDEX_SEPARATOR, "its separator in the index is above its first entry", 0,
              0);
    else if (t->has_last &&
             table_index_compare(index, block, buffer_slice(&t->last_key), t->last_trailer) <= 0)
        blame(l, FINDING_INDEX_SEPARATOR,
              "its separator in the index is not above the block before it", 0, 0);
}

/* ---- every key ------------------------------------------------------------------------------- */

static lsm_status check_keys(const struct look *l)
{
    const struct block_view *v = l->view;
    struct block_tally *t = l->tally;
    lsm_slice filter = l->walk->filter_bytes;
    uint64_t before = 0;
    for (size_t i = 0; i < v->count && !is_blamed(l); i++) {
        if (!block_copy_key(v, i, &t->key))
            return lsm_fail_memory(l->err, block_key_size(v, i));
        uint64_t hash = hash_key(t->key.data, t->key.size);
        if (v->data[BLOCK_HEADER_SIZE + i] != (uint8_t)(hash >> 32))
            blame(l, FINDING_BLOCK_TAGS, "a tag is not that of its key", (uint8_t)(hash >> 32),
                  v->data[BLOCK_HEADER_SIZE + i]);
        else if (filter.size > 0 && !table_filter_may_have(filter.data, filter.size, hash))
            blame(l, FINDING_FILTER_MISSES, "the filter denies a key of it", 0, 0);
        /* Equal keys stand together; equal hashes alone are not enough, but different ones are. */
        bool is_new =
            i == 0 ? !t->has_last || !slice_equal(buffer_slice(&t->last_key), buffer_slice(&t->key))
                   : hash != before ||
                         block_compare(v, i - 1, buffer_slice(&t->key), ENTRY_MAX_TRAILER) < 0;
        t->keys += is_new;
        t->raw_bytes += t->key.size + block_value(v, i).size;
        before = hash;
    }
    return LSM_OK;
}

static lsm_status note_ends(const struct look *l)
{
    struct block_tally *t = l->tally;
    const struct block_view *v = l->view;
    if (t->blocks == 0 && !block_copy_key(v, 0, &t->first_key))
        return lsm_fail_memory(l->err, block_key_size(v, 0));
    if (!block_copy_key(v, v->count - 1, &t->last_key))
        return lsm_fail_memory(l->err, block_key_size(v, v->count - 1));
    t->last_trailer = block_trailer(v, v->count - 1);
    t->has_last = true;
    t->blocks++;
    t->entries += v->count;
    return LSM_OK;
}

lsm_status verify_block(const struct walk_block *block, const struct table_properties *properties,
                        const struct walk_table *walk, bool is_full, struct block_tally *tally,
                        enum finding_id *fault, struct table_problem *problem, lsm_error *err)
{
    struct look l = {.block = block,
                     .view = &block->view,
                     .properties = properties,
                     .walk = walk,
                     .tally = tally,
                     .fault = fault,
                     .problem = problem,
                     .err = err};
    *fault = FINDING_COUNT;
    *problem = (struct table_problem){NULL, 0, 0};
    if (block->frame.entry_count != block->view.count)
        blame(&l, FINDING_BLOCK_COUNT, "it holds another number of entries than its frame says",
              block->frame.entry_count, block->view.count);
    lsm_status status = is_blamed(&l) ? LSM_OK : check_order(&l);
    if (status == LSM_OK && !is_blamed(&l))
        check_trailers(&l);
    if (status == LSM_OK && !block_copy_key(&block->view, 0, &tally->key))
        status = lsm_fail_memory(err, block_key_size(&block->view, 0));
    if (status == LSM_OK && !is_blamed(&l))
        check_place(&l, buffer_slice(&tally->key));
    if (status == LSM_OK && !is_blamed(&l) && is_full)
        check_separator(&l, buffer_slice(&tally->key));
    if (status == LSM_OK && !is_blamed(&l) && is_full)
        status = check_keys(&l);
    if (status == LSM_OK)
        status = note_ends(&l);
    if (status == LSM_OK && !is_blamed(&l))
        check_end(&l, buffer_slice(&tally->last_key));
    return status;
}
