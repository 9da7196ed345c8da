/* Steps as they are planned, ranges that are lost, and what was done. Keys of the database appear
 * in JSON, and for people only where they were asked for. */
#include "tools/repair/repair.h"

#include "tools/cli/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MOST_IN_JSON 100000u /* steps or losses that one object holds */

void repair_output_begin(struct repair_output *o)
{
    o->object = json_begin("lsm-repair/1");
    o->steps = json_object_new_array();
    o->losses = json_object_new_array();
    o->done = json_object_new_array();
    o->rounds = json_object_new_array();
    json_add(o->object, "steps", o->steps);
    json_add(o->object, "losses", o->losses);
    json_add(o->object, "done", o->done);
    json_add(o->object, "rounds", o->rounds);
}

static void print_line(struct repair_output *o, struct text *line)
{
    progress_clear(&o->cli->progress);
    (void)fwrite(line->bytes, 1, line->size, stdout);
    text_release(line);
}

static bool is_for_people(const struct repair_output *o)
{
    return !o->cli->json && !o->cli->quiet;
}

/* Names and sentences may hold bytes of a directory that somebody else filled. */
static void append_safely(struct text *line, const char *sentence)
{
    text_append_print(line, LSM_SLICE(sentence, strlen(sentence)));
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static void end_round(struct repair_output *o)
{
    if (o->object == NULL || o->round == 0 || o->count.steps + o->count.losses == 0)
        return;
    struct json_object *object = json_object_new_object();
    json_add_u64(object, "round", o->round);
    json_add_u64(object, "step-count", o->count.steps);
    json_add_u64(object, "exact-steps", o->count.exact);
    json_add_u64(object, "loss-count", o->count.losses);
    json_object_array_add(o->rounds, object);
}

static void begin_round(struct repair_output *o, unsigned round)
{
    struct text line = {0};
    if (round == o->round)
        return;
    end_round(o);
    o->round = round;
    o->count = (struct repair_round_count){0};
    o->has_losses = false;
    if (!is_for_people(o) || round == 1)
        return;
    text_append_format(&line, "\nBehind that, in another look (round %u):\n", round);
    print_line(o, &line);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static bool has_room(struct repair_output *o, struct json_object *array)
{
    if (o->object == NULL)
        return false;
    if (json_object_array_length(array) < MOST_IN_JSON)
        return true;
    o->untold++;
    return false;
}

static void add_step(struct repair_output *o, const lsm_repair_step *step)
{
    if (!has_room(o, o->steps))
        return;
    struct json_object *object = json_object_new_object();
    json_add_text(object, "id", step->id);
    if (step->file != NULL)
        json_add_text(object, "file", step->file);
    if (step->offset != LSM_NO_OFFSET)
        json_add_u64(object, "offset", step->offset);
    if (step->length > 0)
        json_add_u64(object, "length", step->length);
    json_add(object, "problem", json_bytes(LSM_SLICE(step->problem, strlen(step->problem))));
    json_add(object, "action", json_bytes(LSM_SLICE(step->action, strlen(step->action))));
    json_add(object, "exact", json_object_new_boolean(step->is_exact));
    json_add_u64(object, "round", step->round);
    json_object_array_add(o->steps, object);
}

void repair_output_step(struct repair_output *o, const lsm_repair_step *step)
{
    struct text line = {0};
    begin_round(o, step->round);
    o->count.steps++;
    o->count.exact += step->is_exact;
    add_step(o, step);
    if (!is_for_people(o))
        return;
    text_append_format(&line, "%s: ", step->id);
    append_safely(&line, step->problem);
    text_append_string(&line, step->is_exact ? "\n    exactly: " : "\n    plan: ");
    append_safely(&line, step->action);
    text_append_string(&line, "\n");
    print_line(o, &line);
}

/* ---- losses ---------------------------------------------------------------------------------- */

static void add_loss(struct repair_output *o, const lsm_loss *l)
{
    if (!has_room(o, o->losses))
        return;
    struct json_object *object = json_object_new_object();
    json_add(object, "lost", json_object_new_boolean((l->kinds & LSM_LOSS_LOST) != 0));
    json_add(object, "may-be-stale",
             json_object_new_boolean((l->kinds & LSM_LOSS_MAY_BE_STALE) != 0));
    json_add(object, "may-revive", json_object_new_boolean((l->kinds & LSM_LOSS_MAY_REVIVE) != 0));
    json_add(object, "unseen", json_object_new_boolean((l->kinds & LSM_LOSS_UNSEEN) != 0));
    if (l->has_cf)
        json_add_u64(object, "cf-id", l->cf_id);
    if (l->has_cf && l->cf_name != NULL)
        json_add(object, "cf", json_bytes(LSM_SLICE(l->cf_name, strlen(l->cf_name))));
    if (!l->first_open)
        json_add(object, "first", json_key(l->first, o->cli->key_format));
    if (!l->last_open)
        json_add(object, "last", json_key(l->last, o->cli->key_format));
    if (l->records > 0)
        json_add_u64(object, "records", l->records);
    if (l->max_sequence > 0) {
        json_add_u64(object, "min-sequence", l->min_sequence);
        json_add_u64(object, "max-sequence", l->max_sequence);
    }
    if (l->file != NULL)
        json_add_text(object, "file", l->file);
    if (l->offset != LSM_NO_OFFSET)
        json_add_u64(object, "offset", l->offset);
    if (l->length > 0)
        json_add_u64(object, "length", l->length);
    json_add_u64(object, "round", l->round);
    json_object_array_add(o->losses, object);
}

static void append_kinds(struct text *line, unsigned kinds)
{
    const char *between = "";
    static const struct {
        unsigned kind;
        const char *text;
    } names[] = {
        {LSM_LOSS_LOST, "lost"},
        {LSM_LOSS_MAY_BE_STALE, "old values may be found"},
        {LSM_LOSS_MAY_REVIVE, "deleted keys may be back"},
        {LSM_LOSS_UNSEEN, "a table that is gone, as all that named it, would not be missed"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if ((kinds & names[i].kind) == 0)
            continue;
        text_append_format(line, "%s%s", between, names[i].text);
        between = ", ";
    }
}

void repair_output_loss(struct repair_output *o, const lsm_loss *l)
{
    struct text line = {0};
    char count[CLI_COUNT_TEXT];
    begin_round(o, l->round);
    o->count.losses++;
    add_loss(o, l);
    o->has_uncounted |= (l->kinds & LSM_LOSS_LOST) != 0 && l->records == 0;
    if (!is_for_people(o))
        return;
    if (!o->has_losses)
        text_append_string(&line, "\nWhat cannot be vouched for:\n");
    o->has_losses = true;
    text_append_string(&line, "  ");
    if (!l->has_cf) {
        text_append_string(&line, "any family");
    } else if (l->cf_name == NULL) {
        text_append_format(&line, "family %" PRIu32, l->cf_id);
    } else {
        text_append_string(&line, "family '");
        append_safely(&line, l->cf_name);
        text_append_string(&line, "'");
    }
    text_append_string(&line, ", ");
    cli_append_range(o->cli, &line, l->first_open ? NULL : &l->first,
                     l->last_open ? NULL : &l->last, o->shows_data);
    text_append_string(&line, ": ");
    append_kinds(&line, l->kinds);
    if (l->records > 0)
        text_append_format(&line, ", about %s", cli_plural(l->records, "record", count));
    else if ((l->kinds & LSM_LOSS_LOST) != 0)
        text_append_string(&line, ", how many is not known");
    if (l->max_sequence > 0)
        text_append_format(&line, ", sequence numbers %" PRIu64 " to %" PRIu64, l->min_sequence,
                           l->max_sequence);
    text_append_string(&line, "\n");
    print_line(o, &line);
}

/* ---- the end --------------------------------------------------------------------------------- */

void repair_output_done(struct repair_output *o, const char *sentence)
{
    struct text line = {0};
    if (o->object != NULL)
        json_object_array_add(o->done, json_bytes(LSM_SLICE(sentence, strlen(sentence))));
    if (!is_for_people(o))
        return;
    text_append_string(&line, "done: ");
    append_safely(&line, sentence);
    text_append_string(&line, "\n");
    print_line(o, &line);
}

static void add_result(struct repair_output *o, const lsm_repair_result *r)
{
    struct json_object *to = o->object;
    json_add(to, "changed", json_object_new_boolean(r->is_changed));
    json_add(to, "damage-left", json_object_new_boolean(r->is_damage_left));
    json_add(to, "data-lost", json_object_new_boolean(r->is_data_lost));
    json_add(to, "may-find-more", json_object_new_boolean(r->may_find_more));
    json_add_u64(to, "step-count", r->step_count);
    json_add_u64(to, "exact-steps", r->exact_count);
    json_add_u64(to, "tables", r->table_count);
    json_add_u64(to, "tables-rewritten", r->tables_rewritten);
    json_add_u64(to, "tables-lost", r->tables_lost);
    json_add_u64(to, "blocks-lost", r->blocks_lost);
    json_add_u64(to, "records-lost", r->records_lost);
    json_add_u64(to, "log-records", r->log_records);
    json_add_u64(to, "log-bytes-lost", r->log_bytes_lost);
    if (r->lost_path[0] != '\0')
        json_add(to, "replaced-files", json_bytes(LSM_SLICE(r->lost_path, strlen(r->lost_path))));
    if (o->untold > 0)
        json_add_u64(to, "untold", o->untold);
}

void repair_output_result(struct repair_output *o, const lsm_repair_result *r)
{
    struct text line = {0};
    char count[CLI_COUNT_TEXT], records[CLI_COUNT_TEXT];
    end_round(o);
    if (o->object != NULL)
        add_result(o, r);
    if (!is_for_people(o))
        return;
    if (r->step_count == 0) {
        text_append_string(&line, "nothing is wrong");
    } else {
        text_append_format(&line, "%s%s wrong, %" PRIu64 " of them %s", o->has_losses ? "\n" : "",
                           cli_plural(r->step_count, "thing", count), r->exact_count,
                           r->is_changed ? "corrected exactly" : "can be corrected exactly");
        if (r->blocks_lost > 0)
            text_append_format(&line, "; %s of tables %s lost",
                               cli_plural(r->blocks_lost, "block", count),
                               r->blocks_lost == 1 ? "is" : "are");
        if (r->records_lost > 0)
            text_append_format(&line, "; about %s %s lost%s",
                               cli_plural(r->records_lost, "record", count),
                               r->records_lost == 1 ? "is" : "are",
                               o->has_uncounted ? ", and others that cannot be counted" : "");
        else if (o->has_uncounted)
            text_append_string(&line, "; how many records are lost is not known");
        if (r->may_find_more)
            text_append_string(&line, "; behind that there may be more");
        if (!r->is_changed)
            text_append_string(&line, "; nothing was changed");
    }
    text_append_format(&line, " (%s, %s of the log)\n", cli_plural(r->table_count, "table", count),
                       cli_plural(r->log_records, "record", records));
    print_line(o, &line);
}

int repair_output_report(struct repair_output *o, const char *path)
{
    struct output file;
    bool is_written = output_open(&file, path);
    if (is_written) {
        text_append_string(&file.pending,
                           json_object_to_json_string_ext(o->object, JSON_C_TO_STRING_PRETTY));
        text_append_string(&file.pending, "\n");
        is_written = output_put(&file) && output_commit(&file);
    }
    int code = is_written ? EXIT_DONE
                          : cli_error(o->cli, EXIT_OPERATION, "LSM_IO", "cannot write '%s': %s",
                                      path, strerror(file.os_errno));
    output_close(&file);
    return code;
}
