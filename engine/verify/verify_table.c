/*
 * One table: its ends, its blocks, and what it says of itself. One fault is told once: what follows
 * from a lost footer, a cut file or a damaged block is not told again.
 */
#include "engine/verify/verify_private.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <stdio.h>

#define MOST_PLACES   (UINT64_C(1) << 24)  /* a second's worth, about */
#define MOST_REPLACED ((size_t)1 << 20)    /* files one table may say it replaced */
#define ASK_EVERY     ((uint64_t)64 << 10) /* bytes of blocks, whether to go on */

/* A table on its way. */
struct inspection {
    struct verify *v;
    const struct walk_env *env;
    struct verify_table *t;
    struct walk_table *walk;
    const struct table_properties *properties; /* NULL: not sound */
    bool is_cut; /* shorter than the manifest says: the inventory told it */
    bool has_cf; /* of the manifest, or else of the properties */
    uint32_t cf; /* */
    bool is_full;
    bool told_filter;     /* that it misses keys, once */
    bool has_fault;       /* anything was told */
    bool has_lost_blocks; /* what was not read, or damaged: sums mean nothing */
    uint64_t places_left; /* pieces of 256 bytes that may still be hashed to find their place */
    uint64_t unasked;     /* bytes of blocks since the caller was asked whether to go on */
    struct block_tally tally;
    struct value_tally values;
    lsm_error *err;
};

/* ---- telling --------------------------------------------------------------------------------- */

static lsm_finding finding_in(const struct inspection *x, enum finding_id id)
{
    lsm_finding f = finding_of(id);
    f.file = x->walk->name;
    if (x->has_cf)
        finding_family(&f, x->cf, NULL);
    return f;
}

static void blame_whole_range(const struct inspection *x, lsm_finding *f)
{
    if (x->walk->has_bounds)
        finding_range(f, x->walk->first, x->walk->last);
}

/* "what", with both numbers when they say something, or why it cannot be read. */
static lsm_status say_problem(struct inspection *x, lsm_finding *f, const char *subject,
                              const struct table_problem *problem, int unreadable)
{
    x->has_fault = true;
    if (unreadable != 0)
        return verify_say(x->v, f, x->err, "%s cannot be read from the device (error %d)", subject,
                          unreadable);
    if (problem->what == NULL || (problem->expected == 0 && problem->found == 0))
        return verify_say(x->v, f, x->err, "%s: %s", subject,
                          problem->what == NULL ? "it is damaged" : problem->what);
    finding_numbers(f, problem->expected, problem->found);
    return verify_say(x->v, f, x->err, "%s: %s (expected %" PRIu64 ", found %" PRIu64 ")", subject,
                      problem->what, problem->expected, problem->found);
}

/* ---- pass 3: the ends ------------------------------------------------------------------------ */

static lsm_status judge_footers(struct inspection *x)
{
    const struct walk_table *w = x->walk;
    const struct walk_part *first = &w->footers[0], *second = &w->footers[1];
    if (w->is_foreign) {
        lsm_finding f = finding_in(x, FINDING_TABLE_FOREIGN);
        verify_blame_meta(&f, x->t->meta);
        finding_numbers(&f, x->t->number, w->number);
        x->has_fault = true;
        return verify_say(x->v, &f, x->err, "%s",
                          first->problem.what != NULL ? first->problem.what
                                                      : "the table is another one");
    }
    if (first->verdict == WALK_NEWER || second->verdict == WALK_NEWER) {
        lsm_finding f = finding_in(x, FINDING_NEWER_FORMAT);
        x->has_fault = true;
        return verify_tell(x->v, &f, x->err);
    }
    if (x->is_cut)
        return LSM_OK;
    if (first->verdict == WALK_LOST) {
        lsm_finding f = finding_in(x, FINDING_TABLE_SHORT);
        blame_whole_range(x, &f);
        return say_problem(x, &f, "the table", &first->problem, 0);
    }
    if (first->verdict != WALK_SOUND && second->verdict != WALK_SOUND) {
        lsm_finding f = finding_in(x, FINDING_FOOTER_LOST);
        blame_whole_range(x, &f);
        finding_place(&f, w->name, first->extent.offset, 2 * TABLE_PAGE_SIZE);
        return say_problem(x, &f, "both footers", &second->problem, 0);
    }
    if (w->footers_differ) {
        lsm_finding f = finding_in(x, FINDING_FOOTERS_DIFFER);
        finding_place(&f, w->name, first->extent.offset, 2 * TABLE_PAGE_SIZE);
        x->has_fault = true;
        return verify_tell(x->v, &f, x->err);
    }
    for (size_t i = 0; i < TABLE_FOOTER_COUNT; i++) {
        const struct walk_part *part = &w->footers[i];
        if (part->verdict == WALK_SOUND)
            continue;
        lsm_finding f = finding_in(x, FINDING_FOOTER_COPY);
        finding_place(&f, w->name, part->extent.offset, part->extent.size);
        return say_problem(x, &f, i == 0 ? "the first footer" : "the second footer", &part->problem,
                           0);
    }
    return LSM_OK;
}

static lsm_status say_padding(struct inspection *x, uint64_t offset)
{
    lsm_finding f = finding_in(x, FINDING_PADDING);
    finding_place(&f, x->walk->name, offset, 1);
    x->has_fault = true;
    return verify_tell(x->v, &f, x->err);
}

struct part_kind {
    const char *name;
    enum finding_id damaged, malformed;
};

static lsm_status judge_part(struct inspection *x, const struct walk_part *part,
                             const struct part_kind *kind)
{
    enum finding_id id = kind->damaged;
    switch (part->verdict) {
    case WALK_ABSENT:
        return LSM_OK;
    case WALK_SOUND:
        return part->padding_is_bad ? say_padding(x, part->padding_offset) : LSM_OK;
    case WALK_TOO_LARGE:
        x->has_lost_blocks = x->has_lost_blocks || kind->damaged == FINDING_DICTIONARY_DAMAGED;
        verify_unmeasured(x->v, 3, x->walk->name,
                          "%s takes more memory than there may be used for it", kind->name);
        return LSM_OK;
    case WALK_NEWER:
        id = FINDING_NEWER_FORMAT;
        break;
    case WALK_MALFORMED:
        id = kind->malformed;
        break;
    case WALK_LOST:
        if (x->is_cut || x->walk->footers[0].verdict == WALK_LOST)
            return LSM_OK; /* follows from the size */
        break;
    case WALK_DAMAGED:
    case WALK_UNREADABLE:
    case WALK_FOREIGN:
        break;
    }
    lsm_finding f = finding_in(x, id);
    if (part->verdict != WALK_LOST)
        finding_place(&f, x->walk->name, part->extent.offset, part->extent.size);
    if (id == FINDING_DICTIONARY_DAMAGED)
        blame_whole_range(x, &f);
    struct table_problem problem = part->problem;
    if (part->verdict == WALK_LOST)
        problem = (struct table_problem){"it is nowhere in the file", 0, 0};
    return say_problem(x, &f, kind->name, &problem, part->verdict == WALK_UNREADABLE ? 5 : 0);
}

static lsm_status judge_parts(struct inspection *x)
{
    static const struct part_kind kinds[] = {
        {"the properties", FINDING_PROPERTIES_DAMAGED, FINDING_PROPERTIES_MALFORMED},
        {"the index", FINDING_INDEX_DAMAGED, FINDING_INDEX_MALFORMED},
        {"the filter", FINDING_FILTER_DAMAGED, FINDING_FILTER_MALFORMED},
        {"the dictionary", FINDING_DICTIONARY_DAMAGED, FINDING_DICTIONARY_DAMAGED},
    };
    const struct walk_table *w = x->walk;
    const struct walk_part *parts[] = {&w->properties, &w->index, &w->filter, &w->dictionary};
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < sizeof parts / sizeof *parts; i++)
        status = judge_part(x, parts[i], &kinds[i]);
    return status;
}

static lsm_status say_properties(struct inspection *x, enum finding_id id, const char *what,
                                 uint64_t expected, uint64_t found)
{
    lsm_finding f = finding_in(x, id);
    const struct walk_part *part = &x->walk->properties;
    finding_place(&f, x->walk->name, part->extent.offset, part->extent.size);
    struct table_problem problem = {what, expected, found};
    return say_problem(x, &f, "the properties", &problem, 0);
}

/* What has to agree without a look at the blocks. */
static lsm_status compare_parts(struct inspection *x)
{
    const struct walk_table *w = x->walk;
    const struct table_properties *p = x->properties;
    if (p == NULL || w->index.verdict != WALK_SOUND || w->table_index.count == p->block_count)
        return LSM_OK;
    lsm_finding f = finding_in(x, FINDING_INDEX_BLOCKS);
    finding_place(&f, w->name, w->index.extent.offset, w->index.extent.size);
    struct table_problem problem = {"it names another number of blocks than the properties",
                                    p->block_count, w->table_index.count};
    return say_problem(x, &f, "the index", &problem, 0);
}

static lsm_status compare_meta(struct inspection *x)
{
    const struct table_properties *p = x->properties;
    const struct table_meta *m = x->t->meta;
    if (p == NULL || m == NULL)
        return LSM_OK;
    struct table_problem problem = {NULL, 0, 0};
    if (m->cf != p->cf)
        problem = (struct table_problem){"another column family", m->cf, p->cf};
    else if (m->entry_count != p->entry_count)
        problem =
            (struct table_problem){"another number of entries", m->entry_count, p->entry_count};
    else if (m->delete_count != p->delete_count)
        problem =
            (struct table_problem){"another number of deletions", m->delete_count, p->delete_count};
    else if (m->raw_size != p->raw_size)
        problem =
            (struct table_problem){"another size of keys and values", m->raw_size, p->raw_size};
    else if (m->min_sequence != p->min_sequence)
        problem = (struct table_problem){"another smallest sequence number", m->min_sequence,
                                         p->min_sequence};
    else if (m->max_sequence != p->max_sequence)
        problem = (struct table_problem){"another largest sequence number", m->max_sequence,
                                         p->max_sequence};
    else if (!slice_equal(m->smallest, p->smallest))
        problem = (struct table_problem){"another first key", 0, 0};
    else if (!slice_equal(m->largest, p->largest))
        problem = (struct table_problem){"another last key", 0, 0};
    else if (!verify_uses_equal(m->blobs, m->blob_count, p->blobs, p->blob_count))
        problem = (struct table_problem){"other references to blob files", 0, 0};
    if (problem.what == NULL)
        return LSM_OK;
    lsm_finding f = finding_in(x, FINDING_META_DIFFERS);
    verify_blame_meta(&f, m);
    const struct walk_part *part = &x->walk->properties;
    finding_place(&f, x->walk->name, part->extent.offset, part->extent.size);
    return say_problem(x, &f, "the properties say something else than the manifest", &problem, 0);
}

/* The same for a blob file, and that it is one. */
static lsm_status compare_blob(struct inspection *x)
{
    const struct table_properties *p = x->properties;
    const struct blob_meta *m = x->t->blob;
    if (p == NULL)
        return LSM_OK;
    if (p->is_blob != x->t->is_blob) {
        lsm_finding f = finding_in(x, FINDING_TABLE_FOREIGN);
        x->has_fault = true;
        return verify_say(x->v, &f, x->err, "the file says that it is %s",
                          p->is_blob ? "a blob file" : "a table");
    }
    if (m == NULL)
        return LSM_OK;
    struct table_problem problem = {NULL, 0, 0};
    if (m->cf != p->cf)
        problem = (struct table_problem){"another column family", m->cf, p->cf};
    else if (m->entry_count != p->entry_count)
        problem =
            (struct table_problem){"another number of values", m->entry_count, p->entry_count};
    else if (m->raw_size != p->raw_size)
        problem =
            (struct table_problem){"another size of keys and values", m->raw_size, p->raw_size};
    if (problem.what == NULL)
        return LSM_OK;
    lsm_finding f = finding_in(x, FINDING_META_DIFFERS);
    const struct walk_part *part = &x->walk->properties;
    finding_place(&f, x->walk->name, part->extent.offset, part->extent.size);
    return say_problem(x, &f, "the properties say something else than the manifest", &problem, 0);
}

/* Who replaced whom is judged when all tables were read. */
static lsm_status take_lineage(struct inspection *x)
{
    const struct table_properties *p = x->properties;
    if (p == NULL || p->replaced_count == 0 || p->replaced_count > MOST_REPLACED)
        return LSM_OK;
    size_t size = p->replaced_count * sizeof *x->t->replaced;
    x->t->replaced = mem_alloc(size);
    if (x->t->replaced == NULL)
        return lsm_fail_memory(x->err, size);
    memcpy(x->t->replaced, p->replaced, size);
    x->t->replaced_count = p->replaced_count;
    return LSM_OK;
}

/* ---- pass 4: the blocks ---------------------------------------------------------------------- */

static void blame_block(const struct inspection *x, const struct walk_block *b, lsm_finding *f)
{
    finding_place(f, x->walk->name, b->offset, b->length);
    if (!b->has_first && !b->has_last)
        return;
    f->has_range = true;
    f->first = b->first;
    f->last = b->last;
    f->first_open = !b->has_first;
    f->last_open = !b->has_last;
}

static lsm_status say_block(struct inspection *x, const struct walk_block *b, enum finding_id id,
                            const struct table_problem *problem)
{
    char subject[48] = "a block";
    lsm_finding f = finding_in(x, id);
    blame_block(x, b, &f);
    if (b->has_index)
        snprintf(subject, sizeof subject, "block %" PRIu32, b->index);
    if (id == FINDING_FILTER_MISSES) {
        if (x->told_filter)
            return LSM_OK;
        x->told_filter = true;
        finding_place(&f, x->walk->name, x->walk->filter.extent.offset,
                      x->walk->filter.extent.size);
    }
    return say_problem(x, &f, subject, problem, b->unreadable);
}

/* ---- whole, but elsewhere -------------------------------------------------------------------- */

static bool fits(const struct walk_block *b, const uint8_t *uuid, uint64_t number, uint64_t offset)
{
    const uint8_t *at = b->stored.data;
    size_t covered = TABLE_FRAME_SIZE - 8 + bytes_get_u32(at + 16);
    return hash_bytes(at + 8, covered, hash_place(uuid, number, offset)) == bytes_get_u64(at);
}

/* Is it a block of another table of the database, or of another place in this one? Looked for in a
 * bounded number of places. */
static bool is_misplaced(struct inspection *x, const struct walk_block *b)
{
    const struct walk_table *w = x->walk;
    size_t size = b->stored.size;
    if (b->fault != FINDING_BLOCK_CHECKSUM || size < TABLE_FRAME_SIZE ||
        bytes_get_u32((const uint8_t *)b->stored.data + 16) > size - TABLE_FRAME_SIZE)
        return false;
    uint64_t cost = size / 256 + 1;
    for (size_t i = 0; i < x->v->table_count && x->places_left > cost;
         i++, x->places_left -= cost) {
        if (fits(b, w->uuid, x->v->tables[i].number, b->offset))
            return true;
    }
    for (size_t i = 0; i < w->table_index.count && x->places_left > cost;
         i++, x->places_left -= cost) {
        if (fits(b, w->uuid, w->number, w->table_index.offsets[i]))
            return true;
    }
    return false;
}

static lsm_status judge_lost(struct inspection *x, const struct walk_block *b)
{
    x->has_lost_blocks = true;
    x->tally.has_last = false;
    if (b->fault == FINDING_DICTIONARY_DAMAGED) /* told with the dictionary */
        return LSM_OK;
    if (x->is_cut && b->offset + b->length >= x->walk->data_limit)
        return LSM_OK; /* follows from the size */
    if (is_misplaced(x, b))
        return say_block(x, b, FINDING_BLOCK_MISPLACED,
                         &(struct table_problem){"it belongs to another place or table", 0, 0});
    return say_block(x, b, b->fault, &b->problem);
}

static lsm_status judge_values(struct inspection *x, const struct walk_block *b)
{
    struct table_problem problem = {NULL, 0, 0};
    if (x->t->is_blob) {
        for (size_t i = 0; i < b->view.count; i++) {
            if (entry_type_of(block_trailer(&b->view, i)) != ENTRY_PUT)
                problem = (struct table_problem){"an entry of a blob file is no value", 0, 0};
        }
        return problem.what == NULL ? LSM_OK : say_block(x, b, FINDING_ENTRY_TYPE, &problem);
    }
    lsm_status status = verify_values(x->v, b, x->is_full, &x->values, &problem, x->err);
    if (status == LSM_OK && problem.what != NULL)
        status = say_block(x, b, FINDING_BLOB_REFERENCE, &problem);
    return status;
}

static lsm_status judge_block(struct inspection *x, struct walk_block *b)
{
    lsm_status status = b->padding_is_bad ? say_padding(x, b->padding_offset) : LSM_OK;
    if (status != LSM_OK)
        return status;
    if (b->too_large) {
        x->has_lost_blocks = true;
        x->tally.has_last = false;
        verify_unmeasured(
            x->v, 4, x->walk->name,
            "the block at offset %" PRIu64 " has %" PRIu32
            " bytes, more than there may be used for it; only its checksum was tested",
            b->offset, b->frame.raw_size);
        return LSM_OK;
    }
    enum finding_id fault = FINDING_COUNT;
    struct table_problem problem = {NULL, 0, 0};
    status =
        verify_block(b, x->properties, x->walk, x->is_full, &x->tally, &fault, &problem, x->err);
    if (status == LSM_OK && fault == FINDING_COUNT && x->has_cf && b->frame.cf != x->cf) {
        fault = FINDING_BLOCK_FAMILY;
        problem = (struct table_problem){"it belongs to another column family", x->cf, b->frame.cf};
    }
    if (status == LSM_OK && fault == FINDING_COUNT)
        return judge_values(x, b);
    if (status != LSM_OK)
        return status;
    x->has_lost_blocks = true; /* sums may be off for the same reason */
    if (!b->has_first && block_copy_key(&b->view, 0, &x->tally.key)) {
        b->first = buffer_slice(&x->tally.key);
        b->last = buffer_slice(&x->tally.last_key);
        b->has_first = b->has_last = slice_compare(b->first, b->last) <= 0;
    }
    return say_block(x, b, fault, &problem);
}

/* With --sample: is this block read? Decided by the seed, the file and the block alone. */
static bool is_sampled(const struct inspection *x, uint32_t block)
{
    struct random_state r =
        random_seeded(x->v->options.seed ^ (x->t->number << 32) ^ (block + UINT64_C(1)));
    return random_below(&r, 100) < x->v->options.sample_percent;
}

static bool is_sample(const struct inspection *x)
{
    return x->v->options.sample_percent != 0 && x->v->options.sample_percent < 100 &&
           x->walk->index.verdict == WALK_SOUND;
}

/* Jumps over blocks that are not to be read; false at the end. */
static bool jump(struct inspection *x, uint32_t *block)
{
    uint32_t count = x->walk->table_index.count, from = *block;
    while (*block < count && !is_sampled(x, *block))
        ++*block;
    if (*block > from) {
        walk_table_skip(x->walk, *block - from);
        x->has_lost_blocks = true;
        x->tally.has_last = false;
    }
    return *block < count;
}

/* Between two blocks: is the work still wanted? The caller is asked now and then only. */
static lsm_status pause_walk(struct inspection *x, const struct walk_block *b)
{
    x->unasked += b->length;
    if (x->unasked < ASK_EVERY)
        return verify_go_on(x->v, x->err);
    x->unasked = 0;
    return verify_progress(x->v, 0, x->err);
}

static lsm_status walk_blocks(struct inspection *x)
{
    bool samples = is_sample(x);
    uint32_t next = 0;
    for (;;) {
        struct walk_block b;
        if (samples && !jump(x, &next))
            return LSM_OK;
        next++;
        lsm_status status = walk_table_next(x->walk, &b, x->err);
        if (status != LSM_OK || b.length == 0)
            return status;
        status = b.fault == FINDING_COUNT ? judge_block(x, &b) : judge_lost(x, &b);
        if (status == LSM_OK)
            status = pause_walk(x, &b);
        if (status != LSM_OK)
            return status;
    }
}

/* ---- pass 7: what the blocks hold against what is said of them --------------------------------
 */

static lsm_status compare_counts(struct inspection *x)
{
    const struct table_properties *p = x->properties;
    const struct block_tally *t = &x->tally;
    enum finding_id id = FINDING_PROPERTY_COUNTS;
    if (t->blocks != p->block_count)
        return say_properties(x, id, "there is another number of blocks", t->blocks,
                              p->block_count);
    if (t->entries != p->entry_count)
        return say_properties(x, id, "there is another number of entries", t->entries,
                              p->entry_count);
    if (t->deletes != p->delete_count)
        return say_properties(x, id, "there is another number of deletions", t->deletes,
                              p->delete_count);
    if (t->min_sequence != p->min_sequence)
        return say_properties(x, FINDING_PROPERTY_SEQUENCE,
                              "the smallest sequence number is another", t->min_sequence,
                              p->min_sequence);
    if (t->max_sequence != p->max_sequence)
        return say_properties(x, FINDING_PROPERTY_SEQUENCE,
                              "the largest sequence number is another", t->max_sequence,
                              p->max_sequence);
    if (t->blocks > 0 && (!slice_equal(buffer_slice(&t->first_key), p->smallest) ||
                          !slice_equal(buffer_slice(&t->last_key), p->largest)))
        return say_properties(x, FINDING_PROPERTY_RANGE, "the first or last key is another", 0, 0);
    if (!verify_uses_equal(x->values.uses, x->values.use_count, p->blobs, p->blob_count))
        return say_properties(x, FINDING_BLOB_COUNTS, "there are other references to blob files", 0,
                              0);
    if (x->is_full && t->keys != p->key_count)
        return say_properties(x, id, "there is another number of keys", t->keys, p->key_count);
    if (x->is_full && t->raw_bytes != p->raw_size)
        return say_properties(x, id, "keys and values have another size", t->raw_bytes,
                              p->raw_size);
    return LSM_OK;
}

static lsm_status compare_digest(struct inspection *x)
{
    uint64_t digest = 0;
    bool is_known = false;
    lsm_status status = walk_table_digest(x->walk, &digest, &is_known, x->err);
    if (status != LSM_OK || !is_known || digest == x->properties->digest)
        return status;
    lsm_finding f = finding_in(x, FINDING_DIGEST);
    struct table_problem problem = {"it is not that of its bytes", x->properties->digest, digest};
    return say_problem(x, &f, "the digest of the file", &problem, 0);
}

static lsm_status compare_all(struct inspection *x)
{
    if (x->properties == NULL || x->has_lost_blocks || x->has_fault)
        return LSM_OK;
    lsm_status status = compare_counts(x);
    if (status == LSM_OK && x->is_full && !x->has_fault)
        status = compare_digest(x);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void count_table(struct inspection *x)
{
    struct verify *v = x->v;
    pthread_mutex_lock(&v->lock);
    v->result.tables += !x->t->is_blob;
    v->result.blob_files += x->t->is_blob;
    v->result.blocks += x->tally.blocks;
    v->result.entries += x->tally.entries;
    pthread_mutex_unlock(&v->lock);
}

static bool is_to_be_skipped(struct inspection *x)
{
    struct verify *v = x->v;
    bool skip = false;
    pthread_mutex_lock(&v->lock);
    if (v->options.skip_table != NULL && x->properties != NULL)
        skip = v->options.skip_table(v->options.context, x->walk->name, x->walk->file_size,
                                     x->properties->digest);
    if (skip)
        v->result.tables_skipped++;
    pthread_mutex_unlock(&v->lock);
    return skip;
}

static void tell_done(struct inspection *x)
{
    struct verify *v = x->v;
    bool is_sound = !x->has_fault && !x->has_lost_blocks;
    x->t->is_sound = is_sound;
    if (v->options.table_done == NULL || x->properties == NULL || is_sample(x))
        return;
    pthread_mutex_lock(&v->lock);
    v->options.table_done(v->options.context, x->walk->name, x->walk->file_size,
                          x->properties->digest, is_sound);
    pthread_mutex_unlock(&v->lock);
}

static lsm_status inspect_blocks(struct inspection *x)
{
    if (x->v->options.level == LSM_VERIFY_QUICK)
        return LSM_OK;
    if (is_to_be_skipped(x))
        return verify_progress(x->v, x->walk->file_size, x->err);
    lsm_status status = walk_blocks(x);
    if (status == LSM_OK)
        status = compare_all(x);
    if (status == LSM_OK)
        tell_done(x);
    return status;
}

static lsm_status inspect(struct inspection *x)
{
    const struct walk_table *w = x->walk;
    const struct table_meta *meta = x->t->meta;
    x->properties = w->properties.verdict == WALK_SOUND ? &w->table_properties : NULL;
    const struct blob_meta *blob = x->t->blob;
    x->has_cf = meta != NULL || blob != NULL || x->properties != NULL;
    x->cf = meta != NULL            ? meta->cf
            : blob != NULL          ? blob->cf
            : x->properties != NULL ? x->properties->cf
                                    : 0;
    x->is_cut =
        (meta != NULL && w->file_size < meta->size) || (blob != NULL && w->file_size < blob->size);
    lsm_status status = judge_footers(x);
    if (status != LSM_OK || w->is_foreign || (x->has_fault && !w->has_footer && w->data_limit == 0))
        return status;
    status = judge_parts(x);
    if (status == LSM_OK)
        status = compare_parts(x);
    if (status == LSM_OK)
        status = compare_meta(x);
    if (status == LSM_OK)
        status = compare_blob(x);
    if (status == LSM_OK)
        status = take_lineage(x);
    if (status == LSM_OK)
        status = inspect_blocks(x);
    if (status == LSM_OK)
        count_table(x);
    return status;
}

/* Nothing could be opened: the file is gone, no file, or refused. */
static lsm_status cannot_open(struct inspection *x, lsm_status status, const lsm_error *inner)
{
    char name[FILE_NAME_SIZE];
    file_name_make(x->t->is_blob ? FILE_BLOB : FILE_TABLE, x->t->number, name);
    if (status == LSM_NO_MEMORY || status == LSM_CANCELLED || status == LSM_INVALID) {
        status_copy(x->err, inner);
        return status;
    }
    if (x->t->is_told)
        return LSM_OK;
    lsm_finding f = finding_of(status != LSM_MISSING ? FINDING_UNREADABLE
                               : x->t->is_blob       ? FINDING_BLOB_MISSING
                                                     : FINDING_TABLE_MISSING);
    f.file = name;
    verify_blame_meta(&f, x->t->meta);
    return verify_say(x->v, &f, x->err, "%s", inner->message);
}

lsm_status verify_table(struct verify *v, const struct walk_env *env, struct verify_table *t,
                        lsm_error *err)
{
    bool is_full = v->options.level == LSM_VERIFY_FULL;
    struct inspection x = {
        .v = v, .env = env, .t = t, .is_full = is_full, .places_left = MOST_PLACES, .err = err};
    struct walk_table_options options = {.number = t->number,
                                         .meta = t->meta,
                                         .is_blob = t->is_blob,
                                         .want_digest = is_full && v->options.sample_percent == 0};
    lsm_error inner = {.message = ""};
    lsm_status status = walk_table_open(env, &options, &x.walk, &inner);
    if (status != LSM_OK)
        return cannot_open(&x, status, &inner);
    status = inspect(&x);
    block_tally_release(&x.tally);
    value_tally_release(&x.values);
    walk_table_close(x.walk);
    return status;
}
