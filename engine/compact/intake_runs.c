/* Sorting what does not fit into memory: runs, and those that are merged on the way because there
 * are too many of them to be read together. */
#include "engine/compact/intake_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/file_name.h"

#define FAN_IN_MIN  16 /* runs of a tier that are merged into one of the next */
#define FAN_IN_MAX  256
#define ITEMS_AHEAD 8 /* whose records are fetched while others are written */

/* ---- writing --------------------------------------------------------------------------------- */

lsm_status run_begin(struct intake *in, uint64_t expected, struct run_writer *w, lsm_error *err)
{
    const struct compact_env *env = in->options.env;
    lsm_status status = LSM_OK;
    if (in->spills.file == NULL)
        status = spill_file_open(&in->spills, env->tables, version_new_file_number(env->set), err);
    if (status == LSM_OK)
        status = spill_begin(&w->spill, &in->spills, err);
    w->step = expected / RUN_MARKS + 1;
    return status;
}

static bool add_mark(struct run_writer *w, lsm_slice key)
{
    struct buffer *marks = &w->run.marks;
    size_t size = key.size < MARK_SIZE ? key.size : MARK_SIZE;
    buffer_append_u64(marks, spill_position(&w->spill));
    buffer_append_u8(marks, (uint8_t)size);
    buffer_append(marks, key.data, size);
    w->run.mark_count++;
    w->next_mark = w->run.entries + w->step;
    return !marks->failed;
}

static lsm_status count_entry(struct run_writer *w, lsm_slice key, size_t value_size,
                              lsm_error *err)
{
    if (w->run.entries == w->next_mark && !add_mark(w, key))
        return lsm_fail_memory(err, w->run.marks.capacity);
    w->run.entries++;
    w->run.raw_size += key.size + value_size;
    return LSM_OK;
}

lsm_status run_add(struct run_writer *w, enum entry_type type, lsm_slice key, lsm_slice value,
                   lsm_error *err)
{
    static const uint8_t zeros[RECORD_ALIGNMENT];
    struct record head = {
        .value_size = (uint32_t)value.size, .key_size = (uint16_t)key.size, .type = (uint8_t)type};
    size_t rest = record_size(key.size, value.size) - sizeof head - key.size - value.size;
    lsm_status status = count_entry(w, key, value.size, err);
    if (status == LSM_OK)
        status = spill_append(&w->spill, &head, sizeof head, err);
    if (status == LSM_OK)
        status = spill_append(&w->spill, key.data, key.size, err);
    if (status == LSM_OK)
        status = spill_append(&w->spill, value.data, value.size, err);
    return status == LSM_OK ? spill_append(&w->spill, zeros, rest, err) : status;
}

/* The next place among the family's runs, the caller's to fill and count. */
static struct intake_run *next_run(struct intake_family *family)
{
    if (family->run_count == family->run_room) {
        size_t room = family->run_room == 0 ? 16 : family->run_room * 2;
        struct intake_run *grown = mem_resize(family->runs, room * sizeof *grown);
        if (grown == NULL)
            return NULL;
        family->runs = grown;
        family->run_room = room;
    }
    return &family->runs[family->run_count];
}

lsm_status run_end(struct run_writer *w, struct intake_family *family, uint32_t tier,
                   lsm_error *err)
{
    struct intake_run *run = next_run(family);
    lsm_status status = run == NULL ? lsm_fail_memory(err, family->run_room * 2 * sizeof *run)
                                    : spill_end(&w->spill, &w->run.spill, err);
    if (status == LSM_OK) {
        *run = w->run;
        run->tier = tier;
        w->run.marks = (struct buffer){0};
        family->run_count++;
    }
    run_abort(w);
    STEP("intake: run written");
    return status;
}

void run_abort(struct run_writer *w)
{
    spill_abort(&w->spill);
    buffer_release(&w->run.marks);
}

/* Records go as they lie in the chunk. */
static lsm_status write_part(struct intake *in, const struct chunk_part *part, struct run_writer *w,
                             lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0, next; status == LSM_OK && i < part->count; i = next) {
        const struct head_item *item = item_that_counts(in, part, i, &next);
        if (i + ITEMS_AHEAD < part->count)
            chunk_prefetch(part->chunk, &part->items[i + ITEMS_AHEAD]);
        const uint8_t *record = chunk_record(part->chunk, item);
        status = count_entry(w, record_key(record), record_value(record).size, err);
        if (status == LSM_OK)
            status = spill_append(&w->spill, record, record_size_at(record), err);
    }
    return status;
}

/* ---- tiers ----------------------------------------------------------------------------------- */

/* A reader of each takes the least of memory that it can work with. */
size_t run_fan_in(const struct intake *in)
{
    size_t readers = in->options.merge_threads == 0 ? 1 : in->options.merge_threads;
    size_t fits = in->options.memory / 2 / (readers * SPILL_WINDOWS * SPILL_PIECE);
    return fits < FAN_IN_MIN ? FAN_IN_MIN : fits > FAN_IN_MAX ? FAN_IN_MAX : fits;
}

static void drop_run(struct intake_run *run)
{
    buffer_release(&run->marks);
}

/* The last runs, which are of one tier, become one of the next. */
static lsm_status merge_last(struct intake *in, struct intake_family *family, size_t fan_in,
                             lsm_error *err)
{
    struct run_writer writer = {0};
    size_t first = family->run_count - fan_in;
    uint64_t expected = 0;
    for (size_t i = first; i < family->run_count; i++)
        expected += family->runs[i].entries;
    lsm_status status = run_begin(in, expected, &writer, err);
    if (status == LSM_OK)
        status = intake_merge(&(struct merge_wish){.in = in,
                                                   .family = family,
                                                   .first_run = first,
                                                   .memory = in->options.memory / 2,
                                                   .run = &writer},
                              err);
    if (status != LSM_OK) {
        run_abort(&writer);
        return status;
    }
    uint32_t tier = family->runs[first].tier + 1;
    while (family->run_count > first)
        drop_run(&family->runs[--family->run_count]);
    return run_end(&writer, family, tier, err);
}

static lsm_status merge_tiers(struct intake *in, struct intake_family *family, lsm_error *err)
{
    size_t fan_in = run_fan_in(in);
    lsm_status status = LSM_OK;
    while (status == LSM_OK && family->run_count >= fan_in &&
           family->runs[family->run_count - fan_in].tier ==
               family->runs[family->run_count - 1].tier)
        status = merge_last(in, family, fan_in, err);
    return status;
}

/* All that is between two keys begins with what both begin with. */
lsm_status runs_note_ends(struct intake_family *family, lsm_slice smallest, lsm_slice largest,
                          lsm_error *err)
{
    lsm_slice ends[] = {smallest, largest};
    for (unsigned i = 0; i < 2; i++) {
        if (family->has_prefix)
            family->prefix.size = slice_common_prefix(buffer_slice(&family->prefix), ends[i]);
        else if (!buffer_assign(&family->prefix, ends[i]))
            return lsm_fail_memory(err, ends[i].size);
        family->has_prefix = true;
    }
    return LSM_OK;
}

lsm_status run_write(struct intake *in, struct intake_family *family, const struct chunk_part *part,
                     lsm_error *err)
{
    struct run_writer writer = {0};
    lsm_status status = run_begin(in, part->count, &writer, err);
    if (status == LSM_OK)
        status = write_part(in, part, &writer, err);
    if (status == LSM_OK)
        status = runs_note_ends(family, chunk_key(part->chunk, &part->items[0]),
                                chunk_key(part->chunk, &part->items[part->count - 1]), err);
    if (status != LSM_OK) {
        run_abort(&writer);
        return status;
    }
    status = run_end(&writer, family, 0, err);
    return status == LSM_OK ? merge_tiers(in, family, err) : status;
}

static void remove_table(const struct intake *in, uint64_t number)
{
    char name[FILE_NAME_SIZE];
    (void)io_dir_unlink(in->options.env->tables->dir, file_name_make(FILE_TABLE, number, name),
                        NULL, NULL);
}

void runs_release(struct intake *in, struct intake_family *family)
{
    while (family->run_count > 0)
        drop_run(&family->runs[--family->run_count]);
    mem_free(family->runs);
    buffer_release(&family->prefix);
    family->has_prefix = false;
    family->runs = NULL;
    family->run_room = 0;
    for (size_t i = 0; i < family->table_count; i++) {
        remove_table(in, family->tables[i].number);
        buffer_release(&family->tables[i].smallest);
        buffer_release(&family->tables[i].largest);
    }
    mem_free(family->tables);
    family->tables = NULL;
    family->table_count = 0;
}
