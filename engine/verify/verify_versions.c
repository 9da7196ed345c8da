/*
 * Reads look from above and stop at the first version of a key, so what lies below must be older.
 * Sequence numbers of whole tables prove that for most pairs of them; the others are walked side by
 * side over the keys that they share.
 */
#include "engine/verify/verify_private.h"

#include "engine/base/memory.h"
#include "engine/iter/iter.h"

#define READAHEAD   ((size_t)256 << 10)
#define LOOK_PERIOD 65536u /* entries between two looks whether to go on */

struct pairs {
    struct verify *v;
    struct table_env env;
    struct verify_table **tables; /* by family, level, first key */
    size_t count;
    lsm_error *err;
};

/* ---- two tables side by side ----------------------------------------------------------------- */

struct side {
    struct table *table;
    struct iter *it;
    lsm_error error;
};

static void side_close(struct side *s)
{
    iter_release(s->it);
    table_close(s->table);
}

static lsm_status side_open(struct pairs *p, struct side *s, const struct table_meta *meta,
                            lsm_slice first)
{
    struct table_iter_options options = {.flags = TABLE_NO_FILL, .readahead = READAHEAD};
    *s = (struct side){.table = NULL};
    lsm_status status = table_open(&p->env, meta->number, meta->size, &s->table, &s->error);
    if (status == LSM_OK)
        status = table_iter_new(s->table, &options, &s->it, &s->error);
    if (status == LSM_OK) {
        iter_seek(s->it, first, ENTRY_MAX_TRAILER);
        status = s->it->status;
    }
    if (status != LSM_OK)
        status_copy(p->err, &s->error);
    return status;
}

/* Moves both on until they stand on one key; false at the end of either. */
static bool meet(struct side *a, struct side *b)
{
    while (a->it->valid && b->it->valid) {
        int order = slice_compare(a->it->entry->key, b->it->entry->key);
        if (order == 0)
            return true;
        iter_next(order < 0 ? a->it : b->it);
    }
    return false;
}

/* The oldest version of the key on which `s` stands; it stands behind it afterwards. */
static lsm_status oldest(struct side *s, struct buffer *key, uint64_t *sequence, lsm_error *err)
{
    if (!buffer_assign(key, s->it->entry->key))
        return lsm_fail_memory(err, s->it->entry->key.size);
    while (s->it->valid && slice_equal(s->it->entry->key, buffer_slice(key))) {
        *sequence = entry_sequence(s->it->entry->trailer);
        iter_next(s->it);
    }
    return LSM_OK;
}

struct inversion {
    uint64_t count;
    struct buffer first, last; /* keys */
    uint64_t above, below;     /* of the first */
};

static lsm_status note_inversion(struct inversion *i, lsm_slice key, uint64_t above, uint64_t below,
                                 lsm_error *err)
{
    if ((i->count == 0 && !buffer_assign(&i->first, key)) || !buffer_assign(&i->last, key))
        return lsm_fail_memory(err, key.size);
    if (i->count++ == 0) {
        i->above = above;
        i->below = below;
    }
    return LSM_OK;
}

static lsm_status walk_pair(struct pairs *p, struct side *a, struct side *b,
                            struct inversion *found)
{
    struct buffer key = {0};
    lsm_status status = LSM_OK;
    for (uint64_t steps = 0; status == LSM_OK && meet(a, b); steps++) {
        uint64_t below = entry_sequence(b->it->entry->trailer), above = 0;
        status = oldest(a, &key, &above, p->err);
        /* The same version twice does no harm: after a loss of manifests the log is replayed from
         * where it begins, and what it holds may be in tables, too. */
        if (status == LSM_OK && above < below)
            status = note_inversion(found, buffer_slice(&key), above, below, p->err);
        if (status == LSM_OK && steps % LOOK_PERIOD == 0)
            status = verify_progress(p->v, 0, p->err);
    }
    buffer_release(&key);
    const struct side *failed = a->it->status != LSM_OK ? a : b;
    if (status == LSM_OK && failed->it->status != LSM_OK) {
        status_copy(p->err, &failed->error);
        status = failed->it->status;
    }
    return status;
}

static lsm_status tell_inversion(struct pairs *p, const struct table_meta *a,
                                 const struct table_meta *b, const struct inversion *i)
{
    char name[FILE_NAME_SIZE], other[FILE_NAME_SIZE];
    lsm_finding f = finding_of(FINDING_NEWER_BELOW);
    f.file = file_name_make(FILE_TABLE, b->number, name);
    finding_family(&f, b->cf, NULL);
    finding_range(&f, buffer_slice(&i->first), buffer_slice(&i->last));
    finding_numbers(&f, i->above, i->below);
    return verify_say(p->v, &f, p->err,
                      "%" PRIu64 " keys have newer versions in '%s' of level %" PRIu32
                      " than above it in '%s' of level %" PRIu32,
                      i->count, name, b->level, file_name_make(FILE_TABLE, a->number, other),
                      a->level);
}

static lsm_status compare_pair(struct pairs *p, const struct verify_table *upper,
                               const struct verify_table *lower)
{
    const struct table_meta *a = upper->meta, *b = lower->meta;
    struct side x = {.table = NULL}, y = {.table = NULL};
    struct inversion found = {.count = 0};
    lsm_slice first = slice_compare(a->smallest, b->smallest) > 0 ? a->smallest : b->smallest;
    lsm_status status = side_open(p, &x, a, first);
    if (status == LSM_OK)
        status = side_open(p, &y, b, first);
    if (status == LSM_OK)
        status = walk_pair(p, &x, &y, &found);
    side_close(&x);
    side_close(&y);
    if (status == LSM_OK && found.count > 0)
        status = tell_inversion(p, a, b, &found);
    buffer_release(&found.first);
    buffer_release(&found.last);
    if (status == LSM_CORRUPT || status == LSM_IO || status == LSM_MISSING) {
        char name[FILE_NAME_SIZE];
        verify_unmeasured(p->v, 7, file_name_make(FILE_TABLE, b->number, name),
                          "whether its versions are older than those above: %s",
                          p->err == NULL ? "a table cannot be read" : p->err->message);
        status = LSM_OK;
    }
    return status;
}

/* ---- which pairs ----------------------------------------------------------------------------- */

static bool keys_meet(const struct table_meta *a, const struct table_meta *b)
{
    return slice_compare(a->smallest, b->largest) <= 0 &&
           slice_compare(b->smallest, a->largest) <= 0;
}

/* In the order of reads `a` comes before `b`. */
static lsm_status check_pair(struct pairs *p, const struct verify_table *a,
                             const struct verify_table *b)
{
    if (!keys_meet(a->meta, b->meta) || a->meta->min_sequence > b->meta->max_sequence)
        return LSM_OK;
    /* Why one was not read, or not read whole, was told, or is what the caller wanted. */
    if (!a->is_sound || !b->is_sound)
        return LSM_OK;
    return compare_pair(p, a, b);
}

/* Reads of level 0 begin with the table of the highest sequence number. */
static bool is_read_first(const struct table_meta *a, const struct table_meta *b)
{
    if (a->max_sequence != b->max_sequence)
        return a->max_sequence > b->max_sequence;
    return a->number > b->number;
}

/* The first of [from, limit), all of one level, that ends at or behind the key. */
static size_t first_reaching(const struct pairs *p, size_t from, size_t limit, lsm_slice key)
{
    while (from < limit) {
        size_t middle = from + (limit - from) / 2;
        if (slice_compare(p->tables[middle]->meta->largest, key) < 0)
            from = middle + 1;
        else
            limit = middle;
    }
    return from;
}

/* Table `index` against those of one level, [from, limit). */
static lsm_status check_against(struct pairs *p, size_t index, size_t from, size_t limit)
{
    const struct verify_table *a = p->tables[index];
    uint32_t level = p->tables[from]->meta->level;
    size_t at = level == 0 ? from : first_reaching(p, from, limit, a->meta->smallest);
    lsm_status status = LSM_OK;
    for (; status == LSM_OK && at < limit; at++) {
        const struct verify_table *b = p->tables[at];
        if (slice_compare(b->meta->smallest, a->meta->largest) > 0)
            break;
        if (level == a->meta->level && (at == index || !is_read_first(a->meta, b->meta)))
            continue;
        status = check_pair(p, a, b);
    }
    return status;
}

/* Where the run of tables of one family and level that begins at `from` ends. */
static size_t end_of_level(const struct pairs *p, size_t from)
{
    const struct table_meta *m = p->tables[from]->meta;
    size_t at = from + 1;
    while (at < p->count && p->tables[at]->meta->cf == m->cf &&
           p->tables[at]->meta->level == m->level)
        at++;
    return at;
}

/* All tables of the level [from, limit) against the deeper levels of the family, and of level 0
 * against each other. */
static lsm_status check_level(struct pairs *p, size_t from, size_t limit)
{
    const struct table_meta *m = p->tables[from]->meta;
    lsm_status status = LSM_OK;
    for (size_t i = from; status == LSM_OK && m->level == 0 && i < limit; i++)
        status = check_against(p, i, from, limit);
    size_t below = limit;
    while (status == LSM_OK && below < p->count && p->tables[below]->meta->cf == m->cf) {
        size_t end = end_of_level(p, below);
        for (size_t i = from; status == LSM_OK && i < limit; i++)
            status = check_against(p, i, below, end);
        below = end;
    }
    return status;
}

lsm_status verify_versions(struct verify *v, struct verify_table **sorted, size_t count,
                           lsm_error *err)
{
    lsm_error own = {.message = ""};
    struct pairs p = {.v = v,
                      .env = {.io = v->io, .dir = v->dir},
                      .tables = sorted,
                      .count = count,
                      .err = err == NULL ? &own : err};
    memcpy(p.env.uuid, v->env.uuid, sizeof p.env.uuid);
    p.env.cache = block_cache_new(0);
    if (p.env.cache == NULL)
        return lsm_fail_memory(err, 0);
    lsm_status status = LSM_OK;
    for (size_t from = 0; status == LSM_OK && from < count;) {
        size_t limit = end_of_level(&p, from);
        status = check_level(&p, from, limit);
        from = limit;
    }
    epoch_drain();
    block_cache_free(p.env.cache);
    return status;
}
