/*
 * The logical dump of an open database. A section's header is written before anything of it is
 * read, and its end only after all of it was: whatever stops the dump leaves a section without its
 * end, which every careful loader refuses.
 */
#include "tools/dump/dump.h"

#include "engine/base/slice.h"

#include <inttypes.h>
#include <string.h>

int dump_fail_output(struct dumper *d)
{
    if (cli_is_cancelled())
        return cli_cancelled(&d->cli);
    return cli_error(&d->cli, EXIT_OPERATION, "LSM_IO", "cannot write '%s': %s",
                     d->file == NULL ? "stdout" : d->file, strerror(d->output.os_errno));
}

bool dump_range_has(const struct cli *cli, lsm_slice key)
{
    if (cli->has_start && slice_compare(key, text_slice(&cli->start)) < 0)
        return false;
    if (cli->has_end && slice_compare(key, text_slice(&cli->end)) >= 0)
        return false;
    return !cli->has_prefix || slice_begins_with(key, text_slice(&cli->prefix));
}

static int refuse_pair(struct dumper *d, lsm_slice key, lsm_slice value)
{
    const char *why = dump_refuses_pair(&d->style, key, value);
    if (why == NULL)
        return EXIT_DONE;
    return cli_error(&d->cli, EXIT_OPERATION, "LSM_UNSUPPORTED", "%s (column family '%s')", why,
                     d->cli.progress.name);
}

static int measure_pair(struct dumper *d, lsm_slice key, lsm_slice value)
{
    d->map_bytes += dump_map_bytes(key, value);
    return refuse_pair(d, key, value);
}

static int put_pair(struct dumper *d, lsm_slice key, lsm_slice value)
{
    int code = d->style.format == DUMP_LMDB ? EXIT_DONE : refuse_pair(d, key, value);
    if (code != EXIT_DONE)
        return code;
    dump_write_pair(&d->output.pending, &d->style, key, value);
    if (d->style.format == DUMP_NATIVE || d->style.format == DUMP_JSONL)
        digest_add(&d->digest, key, value);
    return output_put(&d->output) ? EXIT_DONE : dump_fail_output(d);
}

/*
 * A family that is alone and called "default" is dumped without a name, so that it becomes the main
 * database of Berkeley DB and LMDB.
 */
static const char *section_name(const struct dumper *d, const char *name, size_t wanted_count)
{
    bool is_peer_format = d->style.format == DUMP_BDB || d->style.format == DUMP_LMDB;
    return is_peer_format && wanted_count == 1 && strcmp(name, "default") == 0 ? NULL : name;
}

static size_t count_wanted(const struct dumper *d)
{
    size_t count = 0;
    for (size_t i = 0; i < d->name_count; i++)
        count += cli_wants_family(&d->cli, d->names[i]) ? 1 : 0;
    return count;
}

static int check_names(struct dumper *d, size_t wanted)
{
    for (size_t i = 0; i < d->name_count; i++) {
        if (!cli_wants_family(&d->cli, d->names[i]) || section_name(d, d->names[i], wanted) == NULL)
            continue;
        const char *why = dump_refuses_name(&d->style, d->names[i]);
        if (why != NULL)
            return cli_error(&d->cli, EXIT_OPERATION, "LSM_UNSUPPORTED",
                             "the name of column family %zu of %zu: %s", i + 1, d->name_count, why);
    }
    return EXIT_DONE;
}

/* What can be refused is refused before a byte is written. */
static int check_contents(struct dumper *d, size_t wanted)
{
    int code = check_names(d, wanted);
    if (d->style.format != DUMP_LMDB)
        return code;
    for (size_t i = 0; i < d->name_count && code == EXIT_DONE; i++) {
        if (cli_wants_family(&d->cli, d->names[i]))
            code = d->walk(d, d->names[i], measure_pair);
    }
    d->style.map_size = dump_map_size(d->map_bytes);
    d->pair_count = 0;
    d->byte_count = 0;
    return code;
}

static int write_family(struct dumper *d, const char *name, size_t wanted_count)
{
    digest_begin(&d->digest);
    dump_write_header(&d->output.pending, &d->style, section_name(d, name, wanted_count));
    int code = d->walk(d, name, put_pair);
    if (code == EXIT_DONE)
        dump_write_end(&d->output.pending, &d->style, &d->digest);
    return code;
}

static void say_what_was_dumped(struct dumper *d, size_t wanted)
{
    char size[CLI_SIZE_TEXT];
    cli_note(&d->cli, "%" PRIu64 " pairs of %zu column families as of sequence %" PRIu64 ", %s",
             d->pair_count, wanted, d->style.sequence, cli_format_size(d->byte_count, size));
}

int dump_contents(struct dumper *d)
{
    size_t wanted = count_wanted(d);
    int code = check_contents(d, wanted);
    if (code != EXIT_DONE)
        return code;
    if (!output_open(&d->output, d->file)) {
        code = dump_fail_output(d);
        output_close(&d->output);
        return code;
    }
    dump_write_begin(&d->output.pending, &d->style);
    for (size_t i = 0; i < d->name_count && code == EXIT_DONE; i++) {
        if (cli_wants_family(&d->cli, d->names[i]))
            code = write_family(d, d->names[i], wanted);
    }
    if (code == EXIT_DONE)
        dump_write_finish(&d->output.pending, &d->style, wanted);
    if (code == EXIT_DONE && !output_commit(&d->output))
        code = dump_fail_output(d);
    output_close(&d->output);
    if (code == EXIT_DONE)
        say_what_was_dumped(d, wanted);
    return code;
}
