/* The log of a damaged database: its versions of keys, in memory and in order. */
#include "tools/dump/salvage.h"

#include "engine/format/batch.h"
#include "engine/inspect/walk_log.h"
#include "tools/cli/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void salvage_log_release(struct salvage_log *log)
{
    text_release(&log->bytes);
    memory_free(log->entries);
    memory_free(log->damages);
    *log = (struct salvage_log){0};
}

/* ---- reading --------------------------------------------------------------------------------- */

static void keep_entry(struct salvage_log *log, uint64_t sequence, const struct batch_entry *entry)
{
    if (log->count == log->room) {
        log->room = log->room == 0 ? 1024 : 2 * log->room;
        log->entries = memory_resize(log->entries, log->room * sizeof *log->entries);
    }
    log->entries[log->count++] =
        (struct salvage_entry){.cf = entry->cf,
                               .key_size = (uint32_t)entry->key.size,
                               .trailer = entry_trailer(sequence, entry->type),
                               .offset = log->bytes.size,
                               .value_size = entry->value.size};
    text_append(&log->bytes, entry->key.data, entry->key.size);
    text_append(&log->bytes, entry->value.data, entry->value.size);
}

static lsm_status take_record(void *context, const struct walk_log_record *record, lsm_error *err)
{
    struct salvage *s = context;
    struct batch_reader r = batch_read(record->batch);
    struct batch_entry entry;
    (void)err;
    while (batch_next(&r, &entry))
        keep_entry(&s->log, record->sequence, &entry);
    if (record->sequence > s->log.last_sequence)
        s->log.last_sequence = record->sequence;
    return LSM_OK;
}

/* Told when the reading counts. */
static lsm_status take_damage(void *context, const struct walk_log_damage *damage, lsm_error *err)
{
    struct salvage_log *log = &((struct salvage *)context)->log;
    (void)err;
    if (finding_kind_of(damage->id)->severity != LSM_DAMAGE)
        return LSM_OK;
    /* There is no segment at all: nobody knows how long the log was. */
    bool all_is_missing = damage->id == FINDING_SEGMENT_MISSING && damage->file == NULL;
    log->damages = memory_resize(log->damages, (log->damage_count + 1) * sizeof *log->damages);
    struct salvage_log_damage *kept = &log->damages[log->damage_count++];
    *kept = (struct salvage_log_damage){
        .offset = damage->offset,
        .length = damage->length,
        .is_harmless = damage->is_corrected || damage->is_elsewhere ||
                       (damage->position == damage->limit && !all_is_missing),
    };
    (void)snprintf(kept->file, sizeof kept->file, "%s",
                   damage->file == NULL ? "the log" : damage->file);
    (void)snprintf(kept->text, sizeof kept->text, "%s", damage->text);
    return LSM_OK;
}

static void tell_damages(struct salvage *s)
{
    for (size_t i = 0; i < s->log.damage_count; i++) {
        const struct salvage_log_damage *damage = &s->log.damages[i];
        if (damage->is_harmless)
            salvage_tell_harmless(s, damage->file, damage->offset, damage->text);
        else
            salvage_tell(s, &(struct salvage_gap){.file = damage->file,
                                                  .offset = damage->offset,
                                                  .length = damage->length,
                                                  .what = damage->text});
    }
}

static int compare_keys(const struct salvage_entry *x, const struct salvage_entry *y,
                        const char *bytes)
{
    if (x->cf != y->cf)
        return x->cf > y->cf ? 1 : -1;
    return slice_compare((lsm_slice){bytes + x->offset, x->key_size},
                         (lsm_slice){bytes + y->offset, y->key_size});
}

/* Of two versions in one batch the later one comes first: it holds. */
static int compare_entries(const void *a, const void *b, void *context)
{
    const struct salvage_entry *x = a, *y = b;
    uint64_t newer = entry_sequence(y->trailer), older = entry_sequence(x->trailer);
    int order = compare_keys(x, y, context);
    if (order == 0)
        order = (newer > older) - (newer < older);
    return order != 0 ? order : (x->offset < y->offset) - (x->offset > y->offset);
}

static void sort_entries(struct salvage_log *log)
{
    size_t kept = 0;
    if (log->count == 0)
        return;
    qsort_r(log->entries, log->count, sizeof *log->entries, compare_entries, log->bytes.bytes);
    for (size_t i = 0; i < log->count; i++) {
        const struct salvage_entry *e = &log->entries[i];
        const struct salvage_entry *last = kept == 0 ? NULL : &log->entries[kept - 1];
        if (last != NULL && entry_sequence(last->trailer) == entry_sequence(e->trailer) &&
            compare_keys(last, e, log->bytes.bytes) == 0)
            continue;
        log->entries[kept++] = *e;
    }
    log->count = kept;
}

int salvage_read_log(struct salvage *s)
{
    struct dump_log_reading reading = {
        .visitor = {.context = s, .record = take_record, .damage = take_damage}};
    struct walk_log_end end;
    if (!s->files.has_uuid)
        return EXIT_DONE; /* no record can be told from rubbish without it */
    int code = dump_read_log(s->dumper, &s->files, &reading, &end);
    sort_entries(&s->log);
    tell_damages(s);
    return code;
}

/* ---- walking --------------------------------------------------------------------------------- */

struct log_iter {
    struct iter base;
    struct iter_entry entry;
    const struct salvage_log *log;
    size_t first, limit, at;
};

static void log_settle(struct log_iter *it)
{
    it->base.valid = it->at < it->limit;
    if (!it->base.valid)
        return;
    const struct salvage_entry *e = &it->log->entries[it->at];
    const char *bytes = it->log->bytes.bytes + e->offset;
    it->entry = (struct iter_entry){.head = bytes_head(bytes, e->key_size),
                                    .key = {bytes, e->key_size},
                                    .trailer = e->trailer,
                                    .value = {bytes + e->key_size, e->value_size}};
}

static void log_first(struct iter *base)
{
    struct log_iter *it = (struct log_iter *)base;
    it->at = it->first;
    log_settle(it);
}

static void log_next(struct iter *base)
{
    struct log_iter *it = (struct log_iter *)base;
    it->at++;
    log_settle(it);
}

static void log_release(struct iter *base)
{
    memory_free(base);
}

static const struct iter_ops log_ops = {
    .first = log_first, .next = log_next, .release = log_release};

struct iter *salvage_log_iter(struct salvage *s, uint32_t cf)
{
    const struct salvage_log *log = &s->log;
    size_t first = 0;
    while (first < log->count && log->entries[first].cf < cf)
        first++;
    size_t limit = first;
    while (limit < log->count && log->entries[limit].cf == cf)
        limit++;
    if (first == limit)
        return NULL;
    struct log_iter *it = memory_alloc(sizeof *it);
    *it = (struct log_iter){
        .base = {.ops = &log_ops, .status = LSM_OK}, .log = log, .first = first, .limit = limit};
    it->base.entry = &it->entry;
    return &it->base;
}
