#include "tools/dump/row.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void row_begin(struct row *row, struct dumper *d, unsigned depth, const char *kind)
{
    *row = (struct row){.dumper = d};
    if (d->cli.json) {
        row->object = json_object_new_object();
        json_add_text(row->object, "record", kind);
        return;
    }
    while (depth-- > 0)
        text_append(&row->line, "  ", 2);
    text_append_string(&row->line, kind);
}

void row_u64(struct row *row, const char *name, uint64_t value)
{
    if (row->object != NULL)
        json_add_u64(row->object, name, value);
    else
        text_append_format(&row->line, " %s=%" PRIu64, name, value);
}

void row_hex(struct row *row, const char *name, uint64_t value)
{
    char digits[20];
    (void)snprintf(digits, sizeof digits, "%016" PRIx64, value);
    row_text(row, name, digits);
}

void row_text(struct row *row, const char *name, const char *value)
{
    if (row->object != NULL) {
        json_add_text(row->object, name, value);
        return;
    }
    bool has_blank = strchr(value, ' ') != NULL;
    text_append_format(&row->line, has_blank ? " %s='%s'" : " %s=%s", name, value);
}

void row_sentence(struct row *row, const char *name, const char *sentence)
{
    if (!row->dumper->is_image)
        row_text(row, name, sentence);
}

void row_flag(struct row *row, const char *name, bool value)
{
    if (row->object != NULL)
        json_add(row->object, name, json_object_new_boolean(value));
    else if (value)
        text_append_format(&row->line, " %s", name);
}

/* What an image says of bytes of the user. */
static void row_hidden(struct row *row, const char *name, lsm_slice bytes)
{
    char digits[20];
    struct json_object *hidden = json_object_new_object();
    (void)snprintf(digits, sizeof digits, "%016" PRIx64, dump_hide(row->dumper, bytes));
    json_add_u64(hidden, "bytes", bytes.size);
    json_add_text(hidden, "hash", digits);
    json_add(row->object, name, hidden);
}

void row_shown_key(struct row *row, const char *name, lsm_slice key)
{
    if (row->dumper->is_image) {
        row_hidden(row, name, key);
        return;
    }
    if (row->object != NULL) {
        json_add(row->object, name, json_key(key, row->dumper->cli.key_format));
        return;
    }
    text_append_format(&row->line, " %s='", name);
    cli_append_key(&row->dumper->cli, &row->line, key);
    text_append(&row->line, "'", 1);
}

void row_key(struct row *row, const char *name, lsm_slice key)
{
    if (row->dumper->shows_data || row->dumper->is_image) {
        row_shown_key(row, name, key);
    } else if (row->object != NULL) {
        struct json_object *hidden = json_object_new_object();
        json_add_u64(hidden, "bytes", key.size);
        json_add(row->object, name, hidden);
    } else {
        text_append_format(&row->line, " %s=[%zu bytes]", name, key.size);
    }
}

void row_name(struct row *row, const char *name, const char *family)
{
    lsm_slice bytes = {family, strlen(family)};
    if (row->dumper->is_image) {
        row_hidden(row, name, bytes);
        return;
    }
    if (row->object != NULL) {
        json_add(row->object, name, json_bytes(bytes));
        return;
    }
    text_append_format(&row->line, " %s='", name);
    text_append_print(&row->line, bytes);
    text_append(&row->line, "'", 1);
}

bool row_end(struct row *row)
{
    struct output *output = &row->dumper->output;
    if (row->object != NULL) {
        size_t length = 0;
        const char *line = json_object_to_json_string_length(
            row->object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &length);
        text_append(&output->pending, line, length);
        json_object_put(row->object);
    } else {
        text_append(&output->pending, row->line.bytes, row->line.size);
    }
    text_append(&output->pending, "\n", 1);
    text_release(&row->line);
    return output_put(output);
}
