/* Findings for people, one line each, and as one JSON object. Keys only where they were asked for.
 */
#include "tools/verify/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MOST_IN_JSON 1000000u /* findings that one object holds */

static const char *severity_name(lsm_severity severity)
{
    switch (severity) {
    case LSM_NOTE:
        return "note";
    case LSM_WARNING:
        return "warning";
    case LSM_DAMAGE:
        break;
    }
    return "damage";
}

/* ---- text ------------------------------------------------------------------------------------ */

/* Names come from the directory and may hold anything. */
static void append_name(struct text *line, const char *name)
{
    text_append_print(line, LSM_SLICE(name, strlen(name)));
}

static void print_finding(const struct verify_output *o, const lsm_finding *f)
{
    struct text line = {0};
    if (f->severity == LSM_NOTE && o->cli->verbosity == 0)
        return;
    if (f->severity != LSM_DAMAGE && o->cli->quiet)
        return;
    text_append_format(&line, "%s %s: ", severity_name(f->severity), f->id);
    size_t begin = line.size;
    if (f->file != NULL) {
        append_name(&line, f->file);
        if (f->offset != LSM_NO_OFFSET)
            text_append_format(&line, " at offset %" PRIu64, f->offset);
        if (f->offset != LSM_NO_OFFSET && f->length > 0)
            text_append_format(&line, ", %" PRIu64 " bytes", f->length);
    }
    if (f->has_cf) {
        text_append_format(&line, "%sfamily %" PRIu32, line.size > begin ? ", " : "", f->cf_id);
        if (f->cf_name != NULL) {
            text_append_string(&line, " '");
            append_name(&line, f->cf_name);
            text_append_string(&line, "'");
        }
    }
    if (f->has_range) {
        text_append_string(&line, line.size > begin ? ", " : "");
        cli_append_range(o->cli, &line, f->first_open ? NULL : &f->first,
                         f->last_open ? NULL : &f->last, o->shows_data);
    }
    text_append_string(&line, line.size > begin ? ": " : "");
    append_name(&line, f->text);
    text_append_string(&line, "\n");
    progress_clear(&o->cli->progress);
    (void)fwrite(line.bytes, 1, line.size, stdout);
    text_release(&line);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void add_bound(const struct verify_output *o, struct json_object *to, const char *name,
                      lsm_slice key, bool is_open)
{
    if (!is_open)
        json_add(to, name, json_key(key, o->cli->key_format));
}

static void add_finding(struct verify_output *o, const lsm_finding *f)
{
    if (json_object_array_length(o->findings) >= MOST_IN_JSON) {
        o->untold++;
        return;
    }
    struct json_object *object = json_object_new_object();
    json_add_text(object, "id", f->id);
    json_add_u64(object, "pass", f->pass);
    json_add_text(object, "severity", severity_name(f->severity));
    if (f->file != NULL)
        json_add(object, "file", json_bytes(LSM_SLICE(f->file, strlen(f->file))));
    if (f->offset != LSM_NO_OFFSET)
        json_add_u64(object, "offset", f->offset);
    if (f->length > 0)
        json_add_u64(object, "length", f->length);
    if (f->has_cf)
        json_add_u64(object, "cf-id", f->cf_id);
    if (f->has_cf && f->cf_name != NULL)
        json_add(object, "cf", json_bytes(LSM_SLICE(f->cf_name, strlen(f->cf_name))));
    if (f->has_range) {
        json_add(object, "has-range", json_object_new_boolean(true));
        json_add(object, "first-open", json_object_new_boolean(f->first_open));
        json_add(object, "last-open", json_object_new_boolean(f->last_open));
    }
    if (f->has_range && o->shows_data) {
        add_bound(o, object, "first", f->first, f->first_open);
        add_bound(o, object, "last", f->last, f->last_open);
    }
    if (f->has_numbers) {
        json_add_u64(object, "expected", f->expected);
        json_add_u64(object, "found", f->found);
    }
    json_add(object, "text", json_bytes(LSM_SLICE(f->text, strlen(f->text))));
    json_object_array_add(o->findings, object);
}

/* ---- the door -------------------------------------------------------------------------------- */

void verify_output_finding(struct verify_output *o, const lsm_finding *f)
{
    if (o->object != NULL)
        add_finding(o, f);
    else
        print_finding(o, f);
}

void verify_output_unmeasured(struct verify_output *o, unsigned pass, const char *file,
                              const char *cause)
{
    if (o->object != NULL) {
        struct json_object *object = json_object_new_object();
        json_add_u64(object, "pass", pass);
        if (file != NULL)
            json_add(object, "file", json_bytes(LSM_SLICE(file, strlen(file))));
        json_add(object, "cause", json_bytes(LSM_SLICE(cause, strlen(cause))));
        json_object_array_add(o->unmeasured, object);
        return;
    }
    struct text line = {0};
    text_append_string(&line, "unmeasured: ");
    if (file != NULL) {
        append_name(&line, file);
        text_append_string(&line, ": ");
    }
    append_name(&line, cause);
    text_append_string(&line, "\n");
    progress_clear(&o->cli->progress);
    (void)fwrite(line.bytes, 1, line.size, stdout);
    text_release(&line);
}

static void add_result(struct verify_output *o, const lsm_verify_result *r, const char *level)
{
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"damages", r->damages},
        {"warnings", r->warnings},
        {"notes", r->notes},
        {"ignored", r->ignored},
        {"unmeasured-count", r->unmeasured},
        {"untold", o->untold},
        {"sequence", r->sequence},
        {"tables", r->tables},
        {"tables-skipped", r->tables_skipped},
        {"blocks", r->blocks},
        {"entries", r->entries},
        {"records", r->records},
        {"bytes-read", r->bytes_read},
    };
    struct text uuid = {0};
    text_append_hex(&uuid, LSM_SLICE(r->uuid, sizeof r->uuid));
    json_add_text(o->object, "uuid", text_string(&uuid));
    text_release(&uuid);
    json_add_text(o->object, "level", level);
    json_add(o->object, "live", json_object_new_boolean(r->is_live));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        json_add_u64(o->object, numbers[i].name, numbers[i].value);
}

void verify_output_result(struct verify_output *o, const lsm_verify_result *r, const char *level)
{
    char size[CLI_SIZE_TEXT], count[4][CLI_COUNT_TEXT];
    if (o->object != NULL) {
        add_result(o, r, level);
        return;
    }
    if (o->cli->quiet)
        return;
    progress_clear(&o->cli->progress);
    printf("%s: level %s, sequence %" PRIu64 "%s, %s read: %s with %s and %s", o->cli->directory,
           level, r->sequence, r->is_live ? " of a live database" : "",
           cli_format_size(r->bytes_read, size), cli_plural(r->tables, "table", count[0]),
           cli_plural(r->blocks, "block", count[1]), cli_plural(r->entries, "entry", count[2]));
    if (r->tables_skipped > 0)
        printf(" (%" PRIu64 " skipped)", r->tables_skipped);
    printf(", %s of the log\n", cli_plural(r->records, "record", count[3]));
    printf("%s, %s, %s", cli_plural(r->damages, "damage", count[0]),
           cli_plural(r->warnings, "warning", count[1]), cli_plural(r->notes, "note", count[2]));
    if (r->ignored > 0)
        printf(", %" PRIu64 " ignored", r->ignored);
    printf(r->unmeasured > 0 ? ", %" PRIu64 " unmeasured\n" : "\n", r->unmeasured);
}

void verify_output_ids(bool is_json)
{
    const char *meaning = NULL, *repair = NULL, *id = NULL;
    struct json_object *array = is_json ? json_object_new_array() : NULL;
    for (size_t i = 0; (id = lsm_finding_id(i, &meaning, &repair)) != NULL; i++) {
        if (!is_json) {
            printf("%s\n    %s\n    lsm-repair: %s\n", id, meaning, repair);
            continue;
        }
        struct json_object *object = json_object_new_object();
        json_add_text(object, "id", id);
        json_add_text(object, "meaning", meaning);
        json_add_text(object, "repair", repair);
        json_object_array_add(array, object);
    }
    if (is_json) {
        struct json_object *object = json_begin("lsm-verify/1");
        json_add(object, "ids", array);
        puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
        json_object_put(object);
    }
}
