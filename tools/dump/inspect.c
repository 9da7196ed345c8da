/* The options that look at files: opening, dispatch, and the output that they share. */
#include "tools/dump/row.h"

#include "tools/cli/memory.h"
#include "tools/dump/files.h"

#include <string.h>

/* A path to a file may stand in for the directory. */
static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static bool show_begin(struct dumper *d)
{
    if (!d->cli.json)
        return true;
    struct json_object *object = json_begin("lsm-inspect/1");
    if (!d->is_image)
        json_add_text(object, "directory", d->cli.directory);
    text_append_string(&d->output.pending,
                       json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
                                                                  JSON_C_TO_STRING_NOSLASHESCAPE));
    text_append(&d->output.pending, "\n", 1);
    json_object_put(object);
    return output_put(&d->output);
}

static int work_on(struct dumper *d, struct dump_files *f)
{
    switch (d->work) {
    case DUMP_MANIFESTS:
        return dump_manifests(d, f);
    case DUMP_LOG:
        return dump_log(d, f);
    case DUMP_FIND:
        return dump_find(d, f);
    case DUMP_LAYOUT:
        return dump_layout(d, f);
    case DUMP_IMAGE:
        return dump_image(d, f);
    default:
        return dump_tables(d, f);
    }
}

/* The last line of JSON: whoever reads it knows that nothing is missing. */
static int show_end(struct dumper *d, int code)
{
    if (!d->cli.json)
        return code;
    struct row row;
    row_begin(&row, d, 0, "end");
    if (d->cli.error.size > 0) {
        row_text(&row, "status", d->cli.error_name);
        row_sentence(&row, "message", text_string(&d->cli.error));
    }
    row_u64(&row, "exit", (uint64_t)code);
    return row_end(&row) ? code : code | dump_fail_output(d);
}

int dump_inspect(struct dumper *d)
{
    struct dump_files files = {0};
    int code = dump_files_open(d, &files);
    if (code == EXIT_DONE)
        code = dump_files_load(d, &files);
    if (d->inspected != NULL)
        d->inspected = base_name(d->inspected);
    if (code == EXIT_DONE && !output_open(&d->output, d->file))
        code = dump_fail_output(d);
    if (code == EXIT_DONE)
        code = show_begin(d) ? work_on(d, &files) : dump_fail_output(d);
    /* What was found is worth having, damaged or not. */
    if ((code & ~EXIT_DAMAGE) == EXIT_DONE) {
        code = show_end(d, code);
        if (!output_commit(&d->output))
            code |= dump_fail_output(d);
    }
    output_close(&d->output);
    dump_files_close(&files);
    return code;
}
