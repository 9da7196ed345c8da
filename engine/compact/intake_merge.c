/*
 * Merging what an intake put aside: runs, tables that were finished too early, and what is still in
 * memory. A tournament of the sources by the heads of their keys, the eight bytes behind what all
 * keys of the family begin with; see engine/iter/merging.c, which does the same for sources that
 * know nothing of each other.
 *
 * Each source has a key once. Of several sources' entries of a key the one that counts wins the
 * match, and comes first.
 */
#include "engine/compact/intake_private.h"

#include "engine/base/memory.h"
#include "engine/iter/iter.h"

#define CHECK_BYTES (UINT64_C(1) << 20) /* merged between two looks at the cancel flag */
#define ITEMS_AHEAD 8                   /* whose records are fetched while others are written */
#define TABLE_AHEAD ((size_t)1 << 20)   /* bytes read ahead of a table */

enum source_kind {
    SOURCE_TABLES, /* one behind the other */
    SOURCE_RUN,
    SOURCE_REST,
};

struct source {
    enum source_kind kind;
    bool is_done;
    enum entry_type type; /* of the entry, as are */
    lsm_slice key, value; /* borrowed until it moves */

    struct spill_reader run;

    struct chunk_part rest;
    size_t next_item;

    size_t next_table;
    struct table *table; /* owned, as is */
    struct iter *walk;   /* NULL: no table is open */
};

struct merge {
    const struct merge_wish *wish;
    size_t prefix;          /* bytes that all keys begin with */
    struct source *sources; /* owned, as are; older ones first */
    uint64_t *heads;        /* of the sources' keys; of one that is done the last to win */
    uint32_t *losers;       /* [1, count): of the matches */
    uint32_t count, winner;
    uint64_t raw_done, raw_told;
    uint64_t key_head; /* of the last entry */
    struct buffer key;
    bool has_key;
};

/* ---- sources --------------------------------------------------------------------------------- */

static lsm_status open_table(const struct merge *m, struct source *s, lsm_error *err)
{
    const struct intake_table *t = &m->wish->family->tables[s->next_table++];
    struct table_iter_options options = {.flags = TABLE_NO_FILL, .readahead = TABLE_AHEAD};
    lsm_status status =
        table_open(m->wish->in->options.env->tables, t->number, t->size, &s->table, err);
    if (status == LSM_OK)
        status = table_iter_new(s->table, &options, &s->walk, err);
    return status;
}

static void close_table(struct source *s)
{
    iter_release(s->walk);
    table_close(s->table);
    s->walk = NULL;
    s->table = NULL;
}

/* The entry at the walk, or the first one of the next table. */
static lsm_status take_from_tables(const struct merge *m, struct source *s, lsm_error *err)
{
    while (!s->walk->valid) {
        if (s->walk->status != LSM_OK)
            return lsm_fail(err, s->walk->status,
                            "a table of an ingest into '%s' cannot be read back",
                            io_dir_path(m->wish->in->options.env->tables->dir));
        close_table(s);
        s->is_done = s->next_table == m->wish->family->table_count;
        if (s->is_done)
            return LSM_OK;
        lsm_status status = open_table(m, s, err);
        if (status != LSM_OK)
            return status;
        s->walk->ops->first(s->walk);
    }
    const struct iter_entry *e = s->walk->entry;
    s->type = entry_type_of(e->trailer);
    s->key = e->key;
    s->value = e->value;
    return LSM_OK;
}

static lsm_status begin_tables(const struct merge *m, struct source *s, lsm_error *err)
{
    const struct intake_family *f = m->wish->family;
    lsm_slice first = m->wish->first;
    while (first.data != NULL && s->next_table < f->table_count &&
           slice_compare(buffer_slice(&f->tables[s->next_table].largest), first) < 0)
        s->next_table++;
    s->is_done = s->next_table == f->table_count;
    if (s->is_done)
        return LSM_OK;
    lsm_status status = open_table(m, s, err);
    if (status != LSM_OK)
        return status;
    if (first.data != NULL)
        iter_seek(s->walk, first, ENTRY_MAX_TRAILER);
    else
        s->walk->ops->first(s->walk);
    return take_from_tables(m, s, err);
}

static inline void take_record(struct source *s, const uint8_t *at)
{
    struct record r = record_at(at);
    s->type = (enum entry_type)r.type;
    s->key = (lsm_slice){at + sizeof r, r.key_size};
    s->value = (lsm_slice){at + sizeof r + r.key_size, r.value_size};
}

static inline lsm_status take_from_run(struct source *s, lsm_error *err)
{
    const uint8_t *record = NULL;
    lsm_status status = spill_next(&s->run, &record, err);
    s->is_done = record == NULL;
    if (record != NULL)
        take_record(s, record);
    return status;
}

/* Where to begin to look for `first`: at the last mark below it. */
static uint64_t run_position(const struct intake_run *run, lsm_slice first)
{
    uint64_t position = 0;
    const uint8_t *at = run->marks.data;
    for (size_t i = 0; first.data != NULL && i < run->mark_count; i++) {
        lsm_slice mark = {at + 9, at[8]};
        if (slice_compare(mark, first) >= 0)
            break;
        position = bytes_get_u64(at);
        at += 9 + mark.size;
    }
    return position;
}

static lsm_status begin_run(const struct merge *m, struct source *s, const struct intake_run *run,
                            lsm_error *err)
{
    lsm_slice first = m->wish->first;
    lsm_status status =
        spill_open(&s->run, &run->spill, run_position(run, first), m->wish->memory / m->count, err);
    if (status == LSM_OK)
        status = take_from_run(s, err);
    while (status == LSM_OK && first.data != NULL && !s->is_done &&
           slice_compare(s->key, first) < 0)
        status = take_from_run(s, err);
    return status;
}

static inline void take_from_rest(const struct merge *m, struct source *s)
{
    size_t i = s->next_item;
    s->is_done = i >= s->rest.count;
    if (s->is_done)
        return;
    const struct head_item *item = item_that_counts(m->wish->in, &s->rest, i, &s->next_item);
    if (i + ITEMS_AHEAD < s->rest.count)
        chunk_prefetch(s->rest.chunk, &s->rest.items[i + ITEMS_AHEAD]);
    take_record(s, chunk_record(s->rest.chunk, item));
}

static void begin_rest(const struct merge *m, struct source *s)
{
    size_t low = 0, high = s->rest.count;
    while (m->wish->first.data != NULL && low < high) {
        size_t middle = low + (high - low) / 2;
        if (slice_compare(chunk_key(s->rest.chunk, &s->rest.items[middle]), m->wish->first) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    s->next_item = low;
    take_from_rest(m, s);
}

static inline void note_head(struct merge *m, uint32_t index)
{
    const struct source *s = &m->sources[index];
    m->heads[index] =
        s->is_done ? UINT64_MAX
                   : bytes_head((const uint8_t *)s->key.data + m->prefix, s->key.size - m->prefix);
}

static inline lsm_status move_source(struct merge *m, uint32_t index, lsm_error *err)
{
    struct source *s = &m->sources[index];
    lsm_status status = LSM_OK;
    if (s->kind == SOURCE_RUN) {
        status = take_from_run(s, err);
    } else if (s->kind == SOURCE_REST) {
        take_from_rest(m, s);
    } else {
        iter_next(s->walk);
        status = take_from_tables(m, s, err);
    }
    note_head(m, index);
    return status;
}

/* ---- the tournament -------------------------------------------------------------------------- */

/* The match of two sources whose heads are equal. */
static __attribute__((noinline)) bool beats_by_key(const struct merge *m, uint32_t a, uint32_t b)
{
    const struct source *x = &m->sources[a], *y = &m->sources[b];
    if (x->is_done || y->is_done)
        return !x->is_done || (y->is_done && a < b);
    int order = slice_compare(x->key, y->key);
    if (order != 0)
        return order < 0;
    return (a < b) == m->wish->in->options.keep_first;
}

static inline bool beats(const struct merge *m, uint32_t a, uint32_t b)
{
    uint64_t x = m->heads[a], y = m->heads[b];
    if (__builtin_expect(x == y, 0))
        return beats_by_key(m, a, b);
    return x < y;
}

/* Plays all matches; source i enters at node count + i. */
static lsm_status play_all(struct merge *m, lsm_error *err)
{
    uint32_t *winners = mem_alloc(2 * (size_t)m->count * sizeof *winners);
    if (winners == NULL)
        return lsm_fail_memory(err, 2 * (size_t)m->count * sizeof *winners);
    for (uint32_t i = 0; i < m->count; i++)
        winners[m->count + i] = i;
    for (uint32_t node = m->count - 1; node > 0; node--) {
        uint32_t left = winners[2 * node], right = winners[2 * node + 1];
        bool left_wins = beats(m, left, right);
        winners[node] = left_wins ? left : right;
        m->losers[node] = left_wins ? right : left;
    }
    m->winner = m->count == 1 ? 0 : winners[1];
    mem_free(winners);
    return LSM_OK;
}

/* The winner has moved: finds the new one. Who wins is a coin toss: without a branch. */
static inline void replay(struct merge *m)
{
    uint32_t winner = m->winner;
    for (uint32_t node = (m->count + winner) / 2; node > 0; node /= 2) {
        uint32_t other = m->losers[node];
        uint32_t change = -(uint32_t)beats(m, other, winner) & (winner ^ other);
        m->losers[node] = other ^ change;
        winner ^= change;
    }
    m->winner = winner;
}

/* ---- opening --------------------------------------------------------------------------------- */

static lsm_status merge_allocate(struct merge *m, lsm_error *err)
{
    const struct intake_family *f = m->wish->family;
    size_t count = f->run_count - m->wish->first_run;
    if (m->wish->takes_all)
        count += (size_t)(f->table_count > 0) + (f->rest.count > 0);
    m->sources = mem_alloc_zeroed(count * sizeof *m->sources);
    m->heads = mem_alloc(count * sizeof *m->heads);
    m->losers = mem_alloc(count * sizeof *m->losers);
    if (m->sources == NULL || m->heads == NULL || m->losers == NULL)
        return lsm_fail_memory(err, count * sizeof *m->sources);
    m->count = (uint32_t)count;
    return LSM_OK;
}

static lsm_status merge_open(struct merge *m, lsm_error *err)
{
    const struct intake_family *f = m->wish->family;
    lsm_status status = merge_allocate(m, err);
    if (status != LSM_OK)
        return status;
    m->prefix = f->prefix.size;
    struct source *s = m->sources;
    if (m->wish->takes_all && f->table_count > 0) {
        s->kind = SOURCE_TABLES;
        status = begin_tables(m, s++, err);
    }
    for (size_t i = m->wish->first_run; status == LSM_OK && i < f->run_count; i++) {
        s->kind = SOURCE_RUN;
        status = begin_run(m, s++, &f->runs[i], err);
    }
    if (status == LSM_OK && m->wish->takes_all && f->rest.count > 0) {
        s->kind = SOURCE_REST;
        s->rest = f->rest;
        begin_rest(m, s);
    }
    for (uint32_t i = 0; status == LSM_OK && i < m->count; i++)
        note_head(m, i);
    return status == LSM_OK ? play_all(m, err) : status;
}

static void merge_close(struct merge *m)
{
    for (uint32_t i = 0; i < m->count; i++) {
        spill_close(&m->sources[i].run);
        close_table(&m->sources[i]);
    }
    mem_free(m->sources);
    mem_free(m->heads);
    mem_free(m->losers);
    buffer_release(&m->key);
}

/* ---- merging --------------------------------------------------------------------------------- */

static lsm_status check_cancel(struct merge *m, lsm_error *err)
{
    const struct compact_env *env = m->wish->in->options.env;
    struct merge_watch *watch = m->wish->watch;
    uint64_t done = m->raw_done;
    if (watch != NULL) {
        done = m->raw_done - m->raw_told;
        done += atomic_fetch_add(&watch->raw_done, done);
    }
    m->raw_told = m->raw_done;
    if (watch != NULL && atomic_load(&watch->is_stopped))
        return lsm_fail(err, LSM_CANCELLED, "another part of the merge has failed");
    if (!m->wish->is_asking || env->progress == NULL || env->progress(env->progress_context, done))
        return LSM_OK;
    return lsm_fail(err, LSM_CANCELLED, "the caller cancelled an ingest into '%s'",
                    io_dir_path(env->tables->dir));
}

/* Is the winner's entry the first of its key, which is the one that counts? */
static inline lsm_status is_new(struct merge *m, const struct source *s, bool *answer,
                                lsm_error *err)
{
    uint64_t head = m->heads[m->winner];
    *answer = !m->has_key || head != m->key_head || !slice_equal(s->key, buffer_slice(&m->key));
    m->raw_done += s->key.size + s->value.size;
    m->has_key = true;
    m->key_head = head;
    if (*answer && !buffer_assign(&m->key, s->key))
        return lsm_fail_memory(err, s->key.size);
    return m->raw_done - m->raw_told >= CHECK_BYTES ? check_cancel(m, err) : LSM_OK;
}

static lsm_status merge_run(struct merge *m, lsm_error *err)
{
    const struct merge_wish *wish = m->wish;
    lsm_status status = LSM_OK;
    for (;;) {
        const struct source *s = &m->sources[m->winner];
        bool counts = false;
        if (s->is_done || (wish->limit.data != NULL && slice_compare(s->key, wish->limit) >= 0))
            return LSM_OK;
        status = is_new(m, s, &counts, err);
        if (status == LSM_OK && counts)
            status = wish->stream != NULL ? stream_add(wish->stream, s->key, s->type, s->value, err)
                                          : run_add(wish->run, s->type, s->key, s->value, err);
        if (status == LSM_OK)
            status = move_source(m, m->winner, err);
        if (status != LSM_OK)
            return status;
        replay(m);
    }
}

lsm_status intake_merge(const struct merge_wish *wish, lsm_error *err)
{
    struct merge m = {.wish = wish};
    lsm_status status = merge_open(&m, err);
    if (status == LSM_OK)
        status = merge_run(&m, err);
    merge_close(&m);
    return status;
}
