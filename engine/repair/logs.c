/*
 * The log: whether it can be left as it is, made so by corrected bytes, or has to be given up after
 * its records went into tables.
 *
 * The records are sorted in memory, in runs of a bounded size. Each run becomes one table of level
 * 0 a family; the runs' sequence numbers follow each other, which is the order in which level 0 is
 * read.
 */
#include "engine/repair/repair_private.h"

#include "engine/base/epoch.h"
#include "engine/base/step.h"
#include "engine/format/batch.h"
#include "engine/format/entry.h"
#include "engine/inspect/evidence.h"
#include "engine/sst/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_BYTES ((size_t)64 << 20)

/* ---- looking --------------------------------------------------------------------------------- */

/* A damage whose weight the next record tells: when that one is in tables already, so is all before
 * it. */
struct open_question {
    struct repair_step step;
    char problem[320], action[160];
    uint64_t length; /* bytes of the log */
    bool may_lose;
};

#define QUESTIONS_MAX 64 /* more are taken for losses */

struct look {
    struct repair *r;
    uint64_t damages, unpatched;
    uint64_t records;
    uint64_t covered; /* sequence number up to which everything is in tables; 0: not known */
    struct open_question questions[QUESTIONS_MAX];
    size_t question_count;
};

static struct walk_log_options options_of(const struct repair *r)
{
    const struct version_edit *s = &r->state.snapshot;
    struct walk_log_options o = {.io = r->io,
                                 .dir = r->dir,
                                 .from = s->log_position,
                                 .chain = s->log_chain,
                                 .clean = s->clean,
                                 .from_oldest = !r->state.log_is_known && s->log_position == 0};
    memcpy(o.uuid, r->walk.uuid, sizeof o.uuid);
    return o;
}

/* Families that nothing but the log knows come back with a name of their own. */
static lsm_status know_families(struct repair *r, lsm_slice batch, lsm_error *err)
{
    struct batch_reader reader = batch_read(batch);
    struct batch_entry e;
    lsm_status status = LSM_OK;
    while (status == LSM_OK && batch_next(&reader, &e)) {
        if (repair_family_name(r, e.cf) == NULL && !repair_family_was_dropped(r, e.cf))
            status = repair_family_make(r, e.cf, NULL, NULL, err);
    }
    return status;
}

static lsm_status tell_loss(struct repair *r, const char *file, uint64_t offset, uint64_t length,
                            lsm_error *err)
{
    /* Nobody knows what was in it. */
    struct repair_loss loss = {.kinds = LSM_LOSS_LOST | LSM_LOSS_MAY_BE_STALE | LSM_LOSS_MAY_REVIVE,
                               .first_open = true,
                               .last_open = true,
                               .offset = offset,
                               .length = length};
    snprintf(loss.file, sizeof loss.file, "%s", file == NULL ? "" : file);
    return repair_add_loss(r, &loss, (lsm_slice){0}, (lsm_slice){0}, err);
}

/* Entries of a family that never was: nobody knows where they belong. */
static lsm_status look_for_strangers(struct look *k, const struct walk_log_record *record,
                                     lsm_error *err)
{
    struct repair *r = k->r;
    struct batch_reader reader = batch_read(record->batch);
    struct batch_entry e;
    lsm_status status = LSM_OK;
    bool any = false;
    while (status == LSM_OK && !r->state.is_rebuilt && batch_next(&reader, &e))
        any = any || e.cf >= r->state.snapshot.next_cf;
    if (!any)
        return status;
    struct repair_step step = repair_step_of(REPAIR_LOG, 0, FINDING_RECORD_FAMILY, record->file);
    step.offset = record->offset;
    k->unpatched++;
    status = repair_add_step(r, &step, finding_kind_of(FINDING_RECORD_FAMILY)->meaning,
                             "its entries are left out; all others go into tables", err);
    return status == LSM_OK
               ? tell_loss(r, record->file, record->offset, record->end - record->position, err)
               : status;
}

/* They were losses after all. */
static lsm_status answer_questions(struct look *k, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < k->question_count; i++) {
        const struct open_question *q = &k->questions[i];
        k->damages++;
        k->unpatched++;
        status = repair_add_step(k->r, &q->step, q->problem, q->action, err);
        if (status == LSM_OK && q->may_lose)
            status = tell_loss(k->r, q->step.file, q->step.offset, q->length, err);
    }
    k->question_count = 0;
    return status;
}

/* Without a manifest the log has no beginning. What stands before a record that is in tables, or
 * that comes right behind them, is in tables, too, readable or not. */
static lsm_status meet_record(struct look *k, const struct walk_log_record *record, lsm_error *err)
{
    if (k->question_count == 0)
        return LSM_OK;
    if (k->covered == 0 || record->sequence > k->covered + 1)
        return answer_questions(k, err);
    k->question_count = 0;
    k->r->log_begins = record->position;
    return LSM_OK;
}

/* What was written between the newest of the tables and the log's first record is nowhere: tables
 * are gone that nobody names any more. */
static lsm_status look_before(struct repair *r, const struct walk_log_record *first, lsm_error *err)
{
    if (r->state.covered == 0 || first->sequence <= r->state.covered + 1)
        return LSM_OK;
    struct repair_step step = repair_step_of(REPAIR_LOG, 0, FINDING_LOG_HOLE, first->file);
    char problem[160];
    snprintf(problem, sizeof problem,
             "no table has what was written between sequence numbers %" PRIu64 " and %" PRIu64,
             r->state.covered, first->sequence);
    lsm_status status =
        repair_add_step(r, &step, problem, "any key may be lost: all of them are told below", err);
    return status == LSM_OK ? tell_loss(r, NULL, LSM_NO_OFFSET, 0, err) : status;
}

static lsm_status saw_record(void *context, const struct walk_log_record *record, lsm_error *err)
{
    struct look *k = context;
    struct repair *r = k->r;
    lsm_status status = meet_record(k, record, err);
    if (status == LSM_OK)
        status = look_for_strangers(k, record, err);
    if (status != LSM_OK)
        return status;
    if (k->records++ == 0 && !r->state.log_is_known)
        status = look_before(r, record, err);
    if (status != LSM_OK)
        return status;
    r->bytes_done += record->end - record->position;
    if (r->options->progress != NULL &&
        !r->options->progress(r->options->context, r->bytes_done, 0))
        return lsm_fail(err, LSM_CANCELLED, "the caller cancelled the repair of '%s'", r->path);
    return r->state.is_rebuilt ? know_families(r, record->batch, err) : LSM_OK;
}

static bool parse_file(const char *name, enum file_kind *kind, uint64_t *number)
{
    *number = 0;
    return name != NULL && file_name_parse(name, kind, number);
}

static lsm_status note_patch(struct look *k, const struct walk_log_damage *d, lsm_error *err)
{
    struct repair_patch p = {.part = REPAIR_LOG, .offset = d->offset};
    if (!parse_file(d->file, &p.kind, &p.file))
        return LSM_OK;
    if (d->is_corrected) {
        uint8_t byte = d->change.expected;
        p.offset = d->offset + d->change.offset;
        if (d->ring_size != 0)
            p.offset %= d->ring_size;
        p.bytes = &byte;
        p.size = 1;
        return repair_add_patch(k->r, &p, err);
    }
    p.bytes = (uint8_t *)(uintptr_t)d->right.data;
    p.size = d->right.size;
    return repair_add_patch(k->r, &p, err);
}

/* Is there a table that came after all that the manifest names? */
static bool has_later_table(const struct repair *r)
{
    const struct version_edit *s = &r->state.snapshot;
    uint64_t highest = 0;
    for (size_t i = 0; i < s->added_count; i++) {
        if (s->added[i].number > highest)
            highest = s->added[i].number;
    }
    for (size_t i = 0; i < r->list.count; i++) {
        const struct walk_file *f = &r->list.files[i];
        if (f->name == WALK_NAME_OURS && f->kind == FILE_TABLE && f->number > highest)
            return true;
    }
    return false;
}

static lsm_status saw_damage(void *context, const struct walk_log_damage *d, lsm_error *err)
{
    struct look *k = context;
    struct repair *r = k->r;
    char action[160];
    bool is_exact = d->is_corrected || d->is_elsewhere;
    if (finding_kind_of(d->id)->severity != LSM_DAMAGE)
        return LSM_OK;
    /* Where no manifest says where the tables end, the log need not reach back to anywhere. */
    if (d->id == FINDING_LOG_HOLE && !r->state.log_is_known)
        return LSM_OK;
    /* Damage of the very first record is no hole, nor is a segment that says nothing, unless tables
     * tell that there is more behind what the manifest names. */
    bool is_in_front = d->limit > d->position && d->position == r->state.snapshot.log_position;
    bool is_gone = d->id == FINDING_LOG_HOLE || d->id == FINDING_SEGMENT_MISSING;
    if ((is_in_front && is_gone) || ((is_in_front || d->is_blind) && has_later_table(r)))
        r->log_has_hole = true;
    struct repair_step step = repair_step_of(REPAIR_LOG, 0, d->id, d->file);
    step.offset = d->offset;
    step.length = d->length;
    step.is_exact = is_exact;
    if (d->is_corrected)
        snprintf(action, sizeof action, "the byte becomes 0x%02x again (it is 0x%02x)",
                 d->change.expected, d->change.found);
    else if (d->is_elsewhere)
        snprintf(action, sizeof action, "written again from the stage file");
    else if (d->limit > d->position)
        snprintf(action, sizeof action,
                 "%s; all other records go into tables, and what it held is lost",
                 r->options->log == LSM_REPAIR_LOG_STOP ? "the log ends here" : "left out");
    else
        snprintf(action, sizeof action, "the log's records go into tables");
    bool may_lose = d->limit > d->position || d->is_blind;
    bool is_wrong_stage = d->id == FINDING_STAGE_SIZE || d->id == FINDING_STAGE_FOREIGN ||
                          d->id == FINDING_STAGE_TRAILER;
    if (is_wrong_stage && !is_exact) /* the end of the log may have been in what is not there */
        r->stage_is_bad = may_lose = true;
    if (d->id == FINDING_SEGMENT_SHORT && d->position >= r->state.snapshot.log_position)
        may_lose = true;
    if (d->id == FINDING_SEGMENT_MISSING && d->file == NULL) /* there is no segment at all */
        may_lose = true;
    if (!is_exact && !r->state.log_is_known && k->question_count < QUESTIONS_MAX) {
        struct open_question *q = &k->questions[k->question_count++];
        q->step = step;
        q->length = d->limit - d->position;
        q->may_lose = may_lose;
        snprintf(q->problem, sizeof q->problem, "%s", d->text);
        snprintf(q->action, sizeof q->action, "%s", action);
        return LSM_OK;
    }
    k->damages++;
    k->unpatched += !is_exact;
    lsm_status status = is_exact ? note_patch(k, d, err) : LSM_OK;
    if (status == LSM_OK && may_lose)
        status = tell_loss(r, d->file, d->offset, d->limit - d->position, err);
    return status == LSM_OK ? repair_add_step(r, &step, d->text, action, err) : status;
}

/* The newest records are in the stage file first, and may have been there alone. */
static lsm_status miss_stage(struct look *k, lsm_error *err)
{
    struct walk_log_damage d = {.id = FINDING_STAGE_MISSING,
                                .file = "STAGE",
                                .offset = LSM_NO_OFFSET,
                                .text = finding_kind_of(FINDING_STAGE_MISSING)->meaning};
    lsm_status status = tell_loss(k->r, d.file, d.offset, 0, err);
    return status == LSM_OK ? saw_damage(k, &d, err) : status;
}

/* The caller wants none of it. */
static lsm_status give_up(struct repair *r, lsm_error *err)
{
    struct repair_step step = repair_step_of(REPAIR_LOG, 0, FINDING_CLOSED_BUT_LOG, NULL);
    struct repair_loss loss = {.kinds = LSM_LOSS_LOST | LSM_LOSS_MAY_BE_STALE | LSM_LOSS_MAY_REVIVE,
                               .first_open = true,
                               .last_open = true,
                               .offset = LSM_NO_OFFSET,
                               .records = r->log.entry_count,
                               .length = r->log.bytes};
    if (r->log.record_count == 0 && r->log.damage_count == 0)
        return LSM_OK;
    r->log_is_lost = true;
    r->result.log_records = 0;
    lsm_status status = repair_add_step(r, &step, "the log holds records that no table does",
                                        "left out, as asked: its records are lost", err);
    return status == LSM_OK ? repair_add_loss(r, &loss, (lsm_slice){0}, (lsm_slice){0}, err)
                            : status;
}

/* The manifest says that there is nothing in the log: the edit that opened the database is lost.
 * What an opening would read is not changed by that, but the newest part of the log may be missing,
 * as of any that is in use. */
static lsm_status take_unexpected(struct repair *r, lsm_error *err)
{
    if (!r->state.log_is_known || !r->state.snapshot.clean || r->log.record_count == 0)
        return LSM_OK;
    uint64_t manifest = r->state.manifest;
    char name[FILE_NAME_SIZE];
    struct repair_step step =
        repair_step_of(REPAIR_MANIFEST, manifest, FINDING_CLOSED_BUT_LOG,
                       manifest == 0 ? NULL : file_name_make(FILE_MANIFEST, manifest, name));
    r->state.snapshot.clean = false;
    r->state.needs_generation = true;
    return repair_add_step(r, &step, finding_kind_of(FINDING_CLOSED_BUT_LOG)->meaning,
                           "its records are kept, and a new manifest says that they are there",
                           err);
}

/* A manifest that was cut behind a clean close is whole, and needs no log. That LOCK knows of edits
 * behind it was seen when it was read. */
static lsm_status look_for_later(struct repair *r, lsm_error *err)
{
    static const struct edit_mark none;
    struct lost_edits_evidence evidence;
    struct lost_edits lost = {.proof = LOST_EDITS_NONE};
    struct buffer numbers = {0};
    if (!r->state.log_is_known || r->log.record_count > 0)
        return LSM_OK;
    lsm_status status = evidence_gather(&r->walk, &r->list, &none, &numbers, &evidence, err);
    if (status == LSM_OK)
        status = lost_edits_find(&evidence, r->walk.uuid, &r->state.snapshot,
                                 r->state.next_frame - 1, &lost, err);
    buffer_release(&numbers);
    if (lost.proof != LOST_EDITS_NONE)
        r->log_has_hole = true;
    return status;
}

/* What was flushed, was flushed with all before it. */
static uint64_t covered_sequence(const struct repair *r)
{
    const struct version_edit *s = &r->state.snapshot;
    uint64_t covered = 0;
    for (size_t i = 0; i < s->added_count; i++) {
        if (s->added[i].max_sequence > covered)
            covered = s->added[i].max_sequence;
    }
    return covered;
}

lsm_status repair_look_at_log(struct repair *r, lsm_error *err)
{
    struct look k = {.r = r, .covered = covered_sequence(r)};
    struct walk_log_options o = options_of(r);
    struct walk_log_visitor visitor = {.context = &k, .record = saw_record, .damage = saw_damage};
    if (r->options->log == LSM_REPAIR_LOG_NONE)
        visitor.damage = NULL;
    lsm_status status = walk_log(&o, &visitor, &r->log, err);
    if (status == LSM_OK)
        status = answer_questions(&k, err);
    if (status != LSM_OK)
        return status;
    if (r->round == 0) {
        r->result.log_records = r->log.record_count;
        r->result.log_bytes_lost = r->log.lost_bytes;
    }
    if (!r->state.log_is_known) {
        struct version_edit *s = &r->state.snapshot;
        s->log_position = r->log_begins != 0 ? r->log_begins : r->log.first_position;
        s->log_chain = 0;
        s->clean = r->log.segment_count == 0;
    }
    if (r->options->log == LSM_REPAIR_LOG_NONE)
        return give_up(r, err);
    status = look_for_later(r, err);
    if (status == LSM_OK)
        status = take_unexpected(r, err);
    /* Behind the last edit that is known only the log would miss a table. */
    if (status == LSM_OK && r->state.is_rebuilt && !r->state.contradicts &&
        r->log.record_count == 0)
        status = repair_tell_unseen(r, err);
    if (status != LSM_OK)
        return status;
    if (walk_dir_find(&r->list, FILE_STAGE, 0) == NULL && r->log.segment_count > 0 &&
        !r->state.snapshot.clean)
        status = miss_stage(&k, err);
    if (status == LSM_OK)
        status = answer_questions(&k, err);
    r->log_is_lost = k.unpatched > 0;
    return status;
}

/* ---- into tables ----------------------------------------------------------------------------- */

struct run_entry {
    uint32_t cf;
    uint64_t trailer;
    uint64_t ordinal; /* of all of the run: in a batch the later one counts */
    size_t key_at, key_size;
    size_t value_at, value_size;
};

struct run {
    struct repair *r;
    struct buffer bytes;
    struct run_entry *entries;
    size_t count, room;
    bool is_over;          /* the rest is not wanted */
    struct table **tables; /* live ones; NULL each where it cannot be opened */
};

static const struct run *sorting; /* qsort() has no context */

static lsm_slice key_of(const struct run *run, const struct run_entry *e)
{
    return (lsm_slice){run->bytes.data + e->key_at, e->key_size};
}

static int compare_entries(const void *left, const void *right)
{
    const struct run_entry *a = left, *b = right;
    if (a->cf != b->cf)
        return a->cf < b->cf ? -1 : 1;
    int order = entry_compare(key_of(sorting, a), entry_sequence(a->trailer), key_of(sorting, b),
                              entry_sequence(b->trailer));
    return order != 0 ? order : (a->ordinal < b->ordinal) - (a->ordinal > b->ordinal);
}

static bool is_overwritten(const struct run *run, const struct run_entry *by,
                           const struct run_entry *e)
{
    return entry_sequence(by->trailer) == entry_sequence(e->trailer) &&
           slice_equal(key_of(run, by), key_of(run, e));
}

static lsm_status write_family(struct run *run, size_t first, size_t limit, lsm_error *err)
{
    struct repair *r = run->r;
    struct table_write_options options;
    struct table_writer *writer = NULL;
    struct table_meta meta = {0};
    uint32_t cf = run->entries[first].cf;
    if (repair_family_name(r, cf) == NULL) /* it was dropped */
        return LSM_OK;
    lsm_status status = repair_table_options(r, cf, 0, false, &options, err);
    if (status == LSM_OK)
        status = table_writer_new(&r->env, &options, &writer, err);
    STEP("repair: log table begun");
    for (size_t i = first; status == LSM_OK && i < limit; i++) {
        const struct run_entry *e = &run->entries[i];
        if (i > first && is_overwritten(run, e - 1, e))
            continue;
        status = table_writer_add(writer, key_of(run, e), e->trailer,
                                  (lsm_slice){run->bytes.data + e->value_at, e->value_size}, err);
    }
    if (status != LSM_OK) {
        table_writer_abort(writer);
        return status;
    }
    table_writer_is_last(writer);
    status = table_writer_finish(writer, &meta, err);
    STEP("repair: log table written");
    if (status != LSM_OK)
        return status;
    for (size_t i = 0; i < r->state.snapshot.created_count; i++)
        meta.compress_later =
            meta.compress_later ||
            (r->state.snapshot.created[i].id == cf &&
             r->state.snapshot.created[i].options.compression == LSM_COMPRESSION_ZSTD);
    status = edit_add_table(&r->made, &meta, err);
    char name[FILE_NAME_SIZE];
    repair_tell(r, "'%s' holds %" PRIu64 " entries of the log",
                file_name_make(FILE_TABLE, meta.number, name), meta.entry_count);
    table_meta_release(&meta);
    return status;
}

static lsm_status write_run(struct run *run, lsm_error *err)
{
    lsm_status status = LSM_OK;
    sorting = run;
    if (run->count > 1)
        qsort(run->entries, run->count, sizeof *run->entries, compare_entries);
    for (size_t i = 0; status == LSM_OK && i < run->count;) {
        size_t limit = i + 1;
        while (limit < run->count && run->entries[limit].cf == run->entries[i].cf)
            limit++;
        status = write_family(run, i, limit, err);
        i = limit;
    }
    sorting = NULL;
    run->count = 0;
    buffer_clear(&run->bytes);
    return status;
}

static lsm_status add_entry(struct run *run, const struct batch_entry *e, uint64_t sequence,
                            lsm_error *err)
{
    if (run->count == run->room) {
        size_t room = run->room == 0 ? 1024 : 2 * run->room;
        struct run_entry *grown = mem_resize(run->entries, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        run->entries = grown;
        run->room = room;
    }
    struct run_entry *to = &run->entries[run->count];
    *to = (struct run_entry){.cf = e->cf,
                             .trailer = entry_trailer(sequence, e->type),
                             .ordinal = run->count,
                             .key_at = run->bytes.size,
                             .key_size = e->key.size,
                             .value_at = run->bytes.size + e->key.size,
                             .value_size = e->value.size};
    buffer_append(&run->bytes, e->key.data, e->key.size);
    buffer_append(&run->bytes, e->value.data, e->value.size);
    if (run->bytes.failed)
        return lsm_fail_memory(err, e->key.size + e->value.size);
    run->count++;
    return LSM_OK;
}

/* ---- what tables hold already ---------------------------------------------------------------- */

/* All live tables, open. Their damaged blocks hold nothing. */
static lsm_status open_tables(struct run *run, lsm_error *err)
{
    const struct version_edit *s = &run->r->state.snapshot;
    run->tables = mem_alloc_zeroed((s->added_count + 1) * sizeof(struct table *));
    if (run->tables == NULL)
        return lsm_fail_memory(err, (s->added_count + 1) * sizeof(struct table *));
    for (size_t i = 0; i < s->added_count; i++)
        (void)table_open(&run->r->env, s->added[i].number, s->added[i].size, &run->tables[i], NULL);
    return LSM_OK;
}

static void close_tables(struct run *run)
{
    for (size_t i = 0; run->tables != NULL && i < run->r->state.snapshot.added_count; i++) {
        if (run->tables[i] != NULL)
            table_close(run->tables[i]);
    }
    mem_free(run->tables);
}

static bool table_has_newer(struct table *table, lsm_slice key, uint64_t sequence)
{
    struct table_found found;
    bool is_found = false;
    epoch_enter();
    lsm_status status = table_get(table, key, hash_key(key.data, key.size), ENTRY_MAX_SEQUENCE, 0,
                                  &is_found, &found, NULL);
    bool is_newer = status == LSM_OK && is_found && entry_sequence(found.trailer) >= sequence;
    if (status == LSM_OK && is_found && found.owned)
        block_drop(found.block);
    epoch_exit();
    return is_newer;
}

/* Where the log's beginning is damaged it may go back behind what tables hold; an old version in
 * a table of level 0 would hide the newer one below. */
static bool is_held(const struct run *run, const struct batch_entry *e, uint64_t sequence)
{
    const struct version_edit *s = &run->r->state.snapshot;
    for (size_t i = 0; run->tables != NULL && i < s->added_count; i++) {
        const struct table_meta *m = &s->added[i];
        if (run->tables[i] != NULL && m->cf == e->cf && m->max_sequence >= sequence &&
            slice_compare(m->smallest, e->key) <= 0 && slice_compare(e->key, m->largest) <= 0 &&
            table_has_newer(run->tables[i], e->key, sequence))
            return true;
    }
    return false;
}

static lsm_status take_record(void *context, const struct walk_log_record *record, lsm_error *err)
{
    struct run *run = context;
    struct batch_reader reader = batch_read(record->batch);
    struct batch_entry e;
    lsm_status status = LSM_OK;
    if (run->is_over)
        return LSM_OK;
    while (status == LSM_OK && batch_next(&reader, &e)) {
        if (entry_type_is_logged(e.type) && !is_held(run, &e, record->sequence))
            status = add_entry(run, &e, record->sequence, err);
    }
    if (status == LSM_OK && run->bytes.size + run->count * sizeof *run->entries >= RUN_BYTES)
        status = write_run(run, err);
    return status;
}

static lsm_status stop_at_damage(void *context, const struct walk_log_damage *d, lsm_error *err)
{
    struct run *run = context;
    (void)err;
    if (finding_kind_of(d->id)->severity == LSM_DAMAGE && d->limit > d->position &&
        run->r->options->log == LSM_REPAIR_LOG_STOP)
        run->is_over = true;
    return LSM_OK;
}

lsm_status repair_salvage_log(struct repair *r, lsm_error *err)
{
    struct run run = {.r = r};
    struct walk_log_options o = options_of(r);
    struct walk_log_visitor visitor = {
        .context = &run, .record = take_record, .damage = stop_at_damage};
    struct walk_log_end end;
    if (r->options->log == LSM_REPAIR_LOG_NONE)
        return LSM_OK;
    lsm_status status = open_tables(&run, err);
    if (status == LSM_OK)
        status = walk_log(&o, &visitor, &end, err);
    if (status == LSM_OK)
        status = write_run(&run, err);
    close_tables(&run);
    buffer_release(&run.bytes);
    mem_free(run.entries);
    return status;
}
