/*
 * The way of an entry: into a chunk; a full chunk is handed to the thread, which sorts it and
 * writes it away, while the other chunk is filled. As long as a family's entries come in key order
 * its chunks are handed over early and written to tables at once; a chunk that is not in order
 * becomes a run. The last chunk stays in memory and is merged with them.
 */
#include "engine/compact/intake_private.h"

#include "engine/base/cancel.h"
#include "engine/base/memory.h"
#include "engine/base/step.h"

#define ITEMS_AHEAD    8                 /* whose bytes are fetched while others are written */
#define ENDS_TOGETHER  64                /* tables whose files are open at the same time */
#define IN_ORDER_BYTES ((size_t)1 << 20) /* of entries in order that are handed over together */

/* ---- writing (the thread's, or the caller's where there is none) ----------------------------- */

static struct intake_family *find_family(struct intake *in, uint32_t cf)
{
    pthread_mutex_lock(&in->lock);
    struct intake_family *family = in->families;
    while (family != NULL && family->id != cf)
        family = family->next;
    pthread_mutex_unlock(&in->lock);
    return family;
}

/* Sorted items came in this order when their records stand in it. */
static bool came_in_order(const struct chunk_part *part)
{
    for (size_t i = 1; i < part->count; i++) {
        if (part->items[i].place < part->items[i - 1].place)
            return false;
    }
    return true;
}

/* May the part go behind what the stream holds? */
static bool goes_to_stream(const struct intake_family *family, const struct chunk_part *part)
{
    const struct stream *s = &family->stream;
    if (family->run_count > 0 ||
        (s->has_last &&
         slice_compare(buffer_slice(&s->last_key), chunk_key(part->chunk, part->items)) >= 0))
        return false;
    return came_in_order(part);
}

static lsm_status write_to_stream(struct intake *in, struct intake_family *family,
                                  const struct chunk_part *part, lsm_error *err)
{
    struct stream *s = &family->stream;
    lsm_status status = LSM_OK;
    for (size_t i = 0, next; status == LSM_OK && i < part->count; i = next) {
        const struct head_item *item = item_that_counts(in, part, i, &next);
        if (i + ITEMS_AHEAD < part->count)
            chunk_prefetch(part->chunk, &part->items[i + ITEMS_AHEAD]);
        const uint8_t *record = chunk_record(part->chunk, item);
        status = stream_add(s, record_key(record), (enum entry_type)record_at(record).type,
                            record_value(record), err);
    }
    lsm_slice last = chunk_key(part->chunk, &part->items[part->count - 1]);
    s->has_last = true;
    if (status == LSM_OK && !buffer_assign(&s->last_key, last))
        status = lsm_fail_memory(err, last.size);
    return status;
}

/* The chunk's next family from item `first` on. */
static struct chunk_part next_part(const struct chunk *c, size_t first)
{
    struct chunk_part part = {.chunk = c, .items = c->items + first};
    while (first + part.count < c->count && part.items[part.count].mark == part.items->mark)
        part.count++;
    return part;
}

/* `is_last`: what does not go to a stream stays where it is, for the merge. */
static lsm_status write_chunk(struct intake *in, struct chunk *c, bool is_last, lsm_error *err)
{
    if (!chunk_sort(c))
        return lsm_fail_memory(err, c->count * sizeof *c->items);
    lsm_status status = LSM_OK;
    for (size_t first = 0; status == LSM_OK && first < c->count;) {
        struct chunk_part part = next_part(c, first);
        struct intake_family *family = find_family(in, part.items->mark);
        first += part.count;
        if (goes_to_stream(family, &part))
            status = write_to_stream(in, family, &part, err);
        else if (is_last)
            family->rest = part;
        else
            status = run_write(in, family, &part, err);
    }
    if (!is_last)
        chunk_clear(c);
    return status;
}

static void *writer_thread(void *argument)
{
    struct intake *in = argument;
    pthread_mutex_lock(&in->lock);
    for (;;) {
        while (in->full == NULL && !in->is_ending)
            pthread_cond_wait(&in->changed, &in->lock);
        if (in->full == NULL)
            break;
        struct chunk *c = in->full;
        if (in->status == LSM_OK) {
            lsm_error error = {0};
            pthread_mutex_unlock(&in->lock);
            lsm_status status = write_chunk(in, c, false, &error);
            pthread_mutex_lock(&in->lock);
            if (status != LSM_OK) {
                in->status = status;
                status_copy(&in->error, &error);
            }
        }
        in->full = NULL;
        pthread_cond_broadcast(&in->changed);
    }
    pthread_mutex_unlock(&in->lock);
    return NULL;
}

/* Waits until the thread has nothing to do; its failure, if any. */
static lsm_status await_writer_locked(struct intake *in, lsm_error *err)
{
    int before = cancel_hold();
    while (in->full != NULL)
        pthread_cond_wait(&in->changed, &in->lock);
    cancel_release(before);
    if (in->status != LSM_OK)
        status_copy(err, &in->error);
    return in->status;
}

static void stop_thread(struct intake *in)
{
    if (!in->has_thread)
        return;
    pthread_mutex_lock(&in->lock);
    in->is_ending = true;
    pthread_cond_broadcast(&in->changed);
    pthread_mutex_unlock(&in->lock);
    int before = cancel_hold();
    pthread_join(in->thread, NULL);
    cancel_release(before);
    in->has_thread = false;
}

/* ---- making and freeing ---------------------------------------------------------------------- */

lsm_status intake_new(const struct intake_options *options, struct intake **intake, lsm_error *err)
{
    struct intake *in = mem_alloc_zeroed(sizeof *in);
    if (in == NULL)
        return lsm_fail_memory(err, sizeof *in);
    in->options = *options;
    pthread_mutex_init(&in->lock, NULL);
    pthread_cond_init(&in->changed, NULL);
    if (options->in_background) {
        int failed = pthread_create(&in->thread, NULL, writer_thread, in);
        if (failed != 0) {
            intake_free(in);
            return lsm_fail_errno(err, failed, "no thread could be made for an ingest into '%s'",
                                  io_dir_path(options->env->tables->dir));
        }
        in->has_thread = true;
    }
    *intake = in;
    return LSM_OK;
}

void intake_free(struct intake *in)
{
    if (in == NULL)
        return;
    stop_thread(in);
    while (in->families != NULL) {
        struct intake_family *family = in->families;
        in->families = family->next;
        stream_release(&family->stream);
        runs_release(in, family);
        buffer_release(&family->newest_key);
        mem_free(family->name);
        mem_free(family);
    }
    spill_file_close(&in->spills);
    chunk_release(&in->chunks[0]);
    chunk_release(&in->chunks[1]);
    pthread_cond_destroy(&in->changed);
    pthread_mutex_destroy(&in->lock);
    mem_free(in);
}

bool intake_knows(struct intake *in, uint32_t cf)
{
    if (in->recent == NULL || in->recent->id != cf) {
        struct intake_family *family = find_family(in, cf);
        if (family == NULL)
            return false;
        in->recent = family;
    }
    return true;
}

lsm_status intake_add_family(struct intake *in, uint32_t cf, const char *name,
                             const lsm_cf_options *options, lsm_error *err)
{
    struct intake_family *family = mem_alloc_zeroed(sizeof *family);
    char *copy = mem_copy_text(name);
    if (family == NULL || copy == NULL) {
        mem_free(family);
        mem_free(copy);
        return lsm_fail_memory(err, sizeof *family);
    }
    family->id = cf;
    family->name = copy;
    family->options = *options;
    family->in_order = true;
    family->stream = (struct stream){.env = in->options.env, .family = family};
    pthread_mutex_lock(&in->lock);
    family->next = in->families;
    in->families = family;
    pthread_mutex_unlock(&in->lock);
    in->recent = family;
    return LSM_OK;
}

/* ---- adding ---------------------------------------------------------------------------------- */

/* Is the entry above all of its family that came before? */
static lsm_status note_order(struct intake_family *family, struct chunk *c, lsm_slice key,
                             lsm_error *err)
{
    if (!c->is_unsorted && c->count > 0) {
        const struct head_item *last = &c->items[c->count - 1];
        c->is_unsorted = last->mark > family->id ||
                         (last->mark == family->id && slice_compare(chunk_key(c, last), key) > 0);
    }
    if (!family->in_order)
        return LSM_OK;
    if (family->has_newest && slice_compare(buffer_slice(&family->newest_key), key) >= 0) {
        family->in_order = false;
        buffer_release(&family->newest_key);
        return LSM_OK;
    }
    family->has_newest = true;
    return buffer_assign(&family->newest_key, key) ? LSM_OK : lsm_fail_memory(err, key.size);
}

/* The chunk is full: it goes to the thread, and the other one is filled. */
static lsm_status hand_over(struct intake *in, lsm_error *err)
{
    struct chunk *c = &in->chunks[in->filling];
    if (!in->has_thread)
        return write_chunk(in, c, false, err);
    pthread_mutex_lock(&in->lock);
    lsm_status status = await_writer_locked(in, err);
    if (status == LSM_OK) {
        in->full = c;
        in->filling ^= 1;
        pthread_cond_broadcast(&in->changed);
    }
    pthread_mutex_unlock(&in->lock);
    return status;
}

static bool chunk_is_full(const struct intake *in, const struct chunk *c, lsm_slice key,
                          lsm_slice value)
{
    if (c->count == 0)
        return false;
    return (c->in_order && c->used >= IN_ORDER_BYTES) ||
           chunk_memory(c) + key.size + value.size >= in->options.memory / 2 ||
           !chunk_has_room(c, key, value);
}

lsm_status intake_add(struct intake *in, uint32_t cf, enum entry_type type, lsm_slice key,
                      lsm_slice value, lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (chunk_is_full(in, &in->chunks[in->filling], key, value))
        status = hand_over(in, err);
    struct chunk *c = &in->chunks[in->filling];
    struct intake_family *family = in->recent;
    if (status == LSM_OK && family->id != cf)
        in->recent = family = find_family(in, cf);
    if (status == LSM_OK)
        status = note_order(family, c, key, err);
    if (status != LSM_OK)
        return status;
    c->in_order = (c->count == 0 || c->in_order) && family->in_order;
    if (!chunk_add(c, in->options.memory / 2, cf, type, key, value))
        return lsm_fail_memory(err, key.size + value.size);
    return LSM_OK;
}

static lsm_status finish_family(struct intake *in, struct intake_family *f, lsm_error *err)
{
    bool is_merged = f->run_count > 0 || f->rest.count > 0;
    lsm_status status = is_merged ? runs_merge(in, f, err) : stream_finish(&f->stream, err);
    in->table_count += f->stream.count;
    f->rest = (struct chunk_part){0};
    return status;
}

lsm_status intake_finish(struct intake *in, lsm_error *err)
{
    lsm_status status = LSM_OK;
    struct chunk *last = &in->chunks[in->filling];
    if (in->has_thread) {
        pthread_mutex_lock(&in->lock);
        status = await_writer_locked(in, err);
        pthread_mutex_unlock(&in->lock);
        stop_thread(in);
    }
    chunk_release(&in->chunks[in->filling ^ 1]);
    if (status == LSM_OK)
        status = write_chunk(in, last, true, err);
    for (struct intake_family *f = in->families; status == LSM_OK && f != NULL; f = f->next)
        status = finish_family(in, f, err);
    chunk_release(last);
    spill_file_close(&in->spills);
    STEP("intake: merged");
    if (status == LSM_OK && in->table_count > 0)
        status = io_dir_sync(in->options.env->tables->dir, err);
    return status;
}

/* ---- giving ---------------------------------------------------------------------------------- */

size_t intake_table_count(const struct intake *in)
{
    return in->table_count;
}

const struct table_meta *intake_table(const struct intake *in, size_t index)
{
    const struct intake_family *f = in->families;
    for (; index >= f->stream.count; f = f->next)
        index -= f->stream.count;
    return table_writer_sealed(f->stream.sealed[index]);
}

uint64_t intake_entry_count(const struct intake *in)
{
    uint64_t count = 0;
    for (const struct intake_family *f = in->families; f != NULL; f = f->next)
        count += f->stream.entries;
    return count;
}

struct giving {
    uint64_t job, sequence;
    uint32_t index, count;
};

/* Writes the ends of tables [first, limit). */
static lsm_status write_ends(struct intake_family *f, struct giving *g, size_t first, size_t limit,
                             lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = first; status == LSM_OK && i < limit; i++) {
        struct table_writer *writer = f->stream.sealed[i];
        table_writer_of_job(writer, g->job, g->index, g->index + 1 == g->count);
        g->index++;
        status = table_writer_end(writer, g->sequence, err);
    }
    return status;
}

static lsm_status settle_table(struct intake_family *f, size_t index, uint32_t level,
                               struct version_edit *edit, lsm_error *err)
{
    struct table_meta meta = {0};
    struct table_writer *writer = f->stream.sealed[index];
    f->stream.sealed[index] = NULL;
    lsm_status status = table_writer_settle(writer, &meta, err);
    STEP("intake: a table ended");
    meta.level = level;
    if (status == LSM_OK)
        status = edit_add_table(edit, &meta, err);
    table_meta_release(&meta);
    return status;
}

/* The ends of a family's tables. Writers wait meanwhile: a group of them is written before the
 * first is synced, so that the file system has one flush to do for all, and little for the rest. */
static lsm_status give_tables(struct intake_family *f, struct giving *g, const uint32_t *levels,
                              struct version_edit *edit, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t first = 0, limit; status == LSM_OK && first < f->stream.count; first = limit) {
        limit = f->stream.count - first < ENDS_TOGETHER ? f->stream.count : first + ENDS_TOGETHER;
        status = write_ends(f, g, first, limit, err);
        for (size_t i = first; status == LSM_OK && i < limit; i++)
            status = settle_table(f, i, levels[i], edit, err);
    }
    return status;
}

lsm_status intake_give(struct intake *in, uint64_t sequence, const uint32_t *levels,
                       struct version_edit *edit, lsm_error *err)
{
    lsm_status status = LSM_OK;
    struct giving giving = {.job = intake_table(in, 0)->number,
                            .sequence = sequence,
                            .count = (uint32_t)in->table_count};
    for (struct intake_family *f = in->families; status == LSM_OK && f != NULL; f = f->next) {
        status = give_tables(f, &giving, levels, edit, err);
        levels += f->stream.count;
    }
    return status;
}
