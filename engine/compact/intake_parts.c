/* The last merge of a family is done in parts, by key, each on a thread of its own. */
#include "engine/compact/intake_private.h"

#include "engine/base/cancel.h"
#include "engine/base/memory.h"

#include <stdlib.h>

#define PART_MIN_BYTES (UINT64_C(4) << 20) /* of keys and values that are worth a thread */

/* ---- what there is to merge ------------------------------------------------------------------ */

static uint64_t rest_raw_size(const struct chunk_part *rest)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < rest->count; i++) {
        struct record r = record_at(chunk_record(rest->chunk, &rest->items[i]));
        bytes += (uint64_t)r.key_size + r.value_size;
    }
    return bytes;
}

static lsm_status keep_table(struct intake_family *family, const struct table_meta *meta,
                             lsm_error *err)
{
    struct intake_table *t = &family->tables[family->table_count++];
    *t = (struct intake_table){
        .number = meta->number, .size = meta->size, .raw_size = meta->raw_size};
    if (!buffer_assign(&t->smallest, meta->smallest) || !buffer_assign(&t->largest, meta->largest))
        return lsm_fail_memory(err, meta->smallest.size + meta->largest.size);
    return runs_note_ends(family, meta->smallest, meta->largest, err);
}

/* The stream's tables are finished, to be read. */
static lsm_status stream_to_tables(struct intake_family *family, lsm_error *err)
{
    struct stream *s = &family->stream;
    lsm_status status = stream_finish(s, err);
    if (status == LSM_OK && s->count > 0) {
        family->tables = mem_alloc_zeroed(s->count * sizeof *family->tables);
        if (family->tables == NULL)
            status = lsm_fail_memory(err, s->count * sizeof *family->tables);
    }
    for (size_t i = 0; status == LSM_OK && i < s->count; i++) {
        struct table_meta meta = {0};
        struct table_writer *writer = s->sealed[i];
        status = table_writer_end(writer, 0, err);
        if (status != LSM_OK)
            break;
        s->sealed[i] = NULL;
        status = table_writer_settle(writer, &meta, err);
        if (status == LSM_OK)
            status = keep_table(family, &meta, err);
        table_meta_release(&meta);
    }
    stream_release(s);
    return status;
}

/* ---- borders --------------------------------------------------------------------------------- */

/* A key of the family, or its beginning, and about how many bytes are from there to the next one
 * of the same source. */
struct sample {
    lsm_slice key; /* borrowed */
    uint64_t weight;
};

static int compare_samples(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;
    return slice_compare(x->key, y->key);
}

static size_t add_run_samples(struct sample *samples, const struct intake_run *run)
{
    const uint8_t *at = run->marks.data;
    for (size_t i = 0; i < run->mark_count; i++) {
        samples[i] = (struct sample){{at + 9, at[8]}, run->raw_size / run->mark_count};
        at += 9 + at[8];
    }
    return run->mark_count;
}

static size_t add_rest_samples(struct sample *samples, const struct chunk_part *rest,
                               uint64_t bytes)
{
    size_t count = rest->count < RUN_MARKS ? rest->count : RUN_MARKS;
    for (size_t i = 0; i < count; i++) {
        lsm_slice key = chunk_key(rest->chunk, &rest->items[i * rest->count / count]);
        key.size = key.size < MARK_SIZE ? key.size : MARK_SIZE;
        samples[i] = (struct sample){key, bytes / count};
    }
    return count;
}

static size_t collect_samples(const struct intake_family *family, struct sample *samples)
{
    size_t count = 0;
    for (size_t i = 0; i < family->table_count; i++) {
        lsm_slice key = buffer_slice(&family->tables[i].smallest);
        key.size = key.size < MARK_SIZE ? key.size : MARK_SIZE;
        samples[count++] = (struct sample){key, family->tables[i].raw_size};
    }
    for (size_t i = 0; i < family->run_count; i++)
        count += add_run_samples(samples + count, &family->runs[i]);
    return count + add_rest_samples(samples + count, &family->rest, rest_raw_size(&family->rest));
}

/* Where to part the keys into at most `parts`, of about the same size each: *count keys, ascending,
 * borrowed of the family; the array is the caller's. Without memory there is one part. */
static lsm_slice *find_borders(const struct intake_family *family, size_t parts, size_t *count)
{
    size_t room = family->table_count + RUN_MARKS;
    *count = 0;
    for (size_t i = 0; i < family->run_count; i++)
        room += family->runs[i].mark_count;
    struct sample *samples = mem_alloc(room * sizeof *samples);
    lsm_slice *borders = mem_alloc((parts + 1) * sizeof *borders);
    if (samples == NULL || borders == NULL) {
        mem_free(samples);
        mem_free(borders);
        return NULL;
    }
    size_t sample_count = collect_samples(family, samples);
    uint64_t total = 0, passed = 0;
    qsort(samples, sample_count, sizeof *samples, compare_samples);
    for (size_t i = 0; i < sample_count; i++)
        total += samples[i].weight;
    for (size_t i = 0; i < sample_count && *count + 1 < parts; i++) {
        bool is_behind = passed >= total / parts * (*count + 1);
        if (is_behind && passed > 0 &&
            (*count == 0 || slice_compare(borders[*count - 1], samples[i].key) < 0))
            borders[(*count)++] = samples[i].key;
        passed += samples[i].weight;
    }
    mem_free(samples);
    return borders;
}

static size_t wanted_parts(const struct intake *in, const struct intake_family *family)
{
    uint64_t bytes = rest_raw_size(&family->rest);
    for (size_t i = 0; i < family->table_count; i++)
        bytes += family->tables[i].raw_size;
    for (size_t i = 0; i < family->run_count; i++)
        bytes += family->runs[i].raw_size;
    uint64_t most = bytes / PART_MIN_BYTES;
    size_t wanted = most < in->options.merge_threads ? (size_t)most : in->options.merge_threads;
    return wanted == 0 ? 1 : wanted;
}

/* ---- parts ----------------------------------------------------------------------------------- */

struct part {
    struct merge_wish wish;
    struct stream stream;
    pthread_t thread;
    bool has_thread;
    lsm_status status;
    lsm_error error;
};

static void part_merge(struct part *p)
{
    p->wish.stream = &p->stream;
    p->status = intake_merge(&p->wish, &p->error);
    if (p->status == LSM_OK)
        p->status = stream_finish(&p->stream, &p->error);
    if (p->status != LSM_OK)
        atomic_store(&p->wish.watch->is_stopped, true);
}

static void *part_thread(void *argument)
{
    part_merge(argument);
    return NULL;
}

/* All but the first on threads; where none can be made, here. */
static void run_parts(struct part *parts, size_t count)
{
    for (size_t i = 1; i < count; i++)
        parts[i].has_thread = pthread_create(&parts[i].thread, NULL, part_thread, &parts[i]) == 0;
    parts[0].wish.is_asking = true;
    part_merge(&parts[0]);
    for (size_t i = 1; i < count; i++) {
        if (!parts[i].has_thread) {
            parts[i].wish.is_asking = true;
            part_merge(&parts[i]);
            continue;
        }
        int before = cancel_hold();
        pthread_join(parts[i].thread, NULL);
        cancel_release(before);
    }
}

/* The failure that the others gave up for. */
static lsm_status parts_status(const struct part *parts, size_t count, lsm_error *err)
{
    const struct part *failed = NULL;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].status != LSM_OK && (failed == NULL || failed->status == LSM_CANCELLED))
            failed = &parts[i];
    }
    if (failed == NULL)
        return LSM_OK;
    status_copy(err, &failed->error);
    return failed->status;
}

/* The parts' tables, one part's behind the other's, become the family's. */
static lsm_status take_tables(struct intake_family *family, struct part *parts, size_t count,
                              lsm_error *err)
{
    struct stream *to = &family->stream;
    for (size_t i = 0; i < count; i++)
        to->room += parts[i].stream.count;
    to->sealed = mem_alloc(to->room * sizeof(struct table_writer *));
    if (to->sealed == NULL)
        return lsm_fail_memory(err, to->room * sizeof(struct table_writer *));
    for (size_t i = 0; i < count; i++) {
        struct stream *from = &parts[i].stream;
        if (from->count > 0)
            memcpy(to->sealed + to->count, from->sealed,
                   from->count * sizeof(struct table_writer *));
        to->count += from->count;
        to->entries += from->entries;
        from->count = 0;
    }
    return LSM_OK;
}

static void init_parts(struct part *parts, size_t count, const struct merge_wish *common,
                       const lsm_slice *borders)
{
    for (size_t i = 0; i < count; i++) {
        parts[i].wish = *common;
        parts[i].stream = (struct stream){.env = common->in->options.env, .family = common->family};
        if (i > 0)
            parts[i].wish.first = borders[i - 1];
        if (i + 1 < count)
            parts[i].wish.limit = borders[i];
    }
}

static lsm_status merge_in_parts(struct intake *in, struct intake_family *family, lsm_error *err)
{
    struct merge_watch watch = {.raw_done = 0};
    size_t wanted = wanted_parts(in, family), count = 0;
    lsm_slice *borders = wanted > 1 ? find_borders(family, wanted, &count) : NULL;
    struct part *parts = mem_alloc_zeroed(++count * sizeof *parts);
    if (parts == NULL) {
        mem_free(borders);
        return lsm_fail_memory(err, count * sizeof *parts);
    }
    struct merge_wish common = {.in = in,
                                .family = family,
                                .takes_all = true,
                                .watch = &watch,
                                .memory = in->options.memory / 2 / count};
    init_parts(parts, count, &common, borders);
    run_parts(parts, count);
    lsm_status status = parts_status(parts, count, err);
    if (status == LSM_OK)
        status = take_tables(family, parts, count, err);
    for (size_t i = 0; i < count; i++)
        stream_release(&parts[i].stream);
    mem_free(parts);
    mem_free(borders);
    return status;
}

lsm_status runs_merge(struct intake *in, struct intake_family *family, lsm_error *err)
{
    const struct chunk_part *rest = &family->rest;
    lsm_status status = stream_to_tables(family, err);
    if (status == LSM_OK && rest->count > 0)
        status = runs_note_ends(family, chunk_key(rest->chunk, &rest->items[0]),
                                chunk_key(rest->chunk, &rest->items[rest->count - 1]), err);
    if (status == LSM_OK)
        status = merge_in_parts(in, family, err);
    runs_release(in, family);
    return status;
}
