/* A checkpoint by the shell: the database through the public door, which makes it. */
#include "tools/dump/dump.h"

#include <inttypes.h>

static bool tell(void *context, uint64_t done, uint64_t total)
{
    struct dumper *d = context;
    d->byte_count = done;
    progress_update(&d->cli.progress, done, total, done);
    cli_throttle(&d->cli, done);
    return !cli_is_cancelled();
}

static int make(struct dumper *d)
{
    lsm_checkpoint_options options = LSM_CHECKPOINT_OPTIONS_INIT;
    lsm_error err = {0};
    options.copy = d->is_copy;
    options.progress = tell;
    options.progress_context = d;
    progress_pass(&d->cli.progress, "checkpoint");
    lsm_status status = lsm_checkpoint(d->db, d->checkpoint, &options, &err);
    progress_end(&d->cli.progress, d->byte_count);
    if (status == LSM_CANCELLED && cli_is_cancelled())
        return cli_cancelled(&d->cli);
    if (status != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    cli_note(&d->cli, "'%s' holds %" PRIu64 " bytes", d->checkpoint, d->byte_count);
    return EXIT_DONE;
}

int dump_checkpoint(struct dumper *d)
{
    lsm_error err = {0};
    struct json_object *object = d->cli.json ? json_begin("lsm-dump/1") : NULL;
    d->cli.options.read_only = true;
    d->cli.options.create = false;
    int code = EXIT_DONE;
    if (lsm_open(d->cli.directory, &d->cli.options, &d->db, &err) != LSM_OK)
        code = cli_library_error(&d->cli, NULL, &err);
    else
        code = make(d);
    code = dump_close_database(d, code);
    if (object == NULL)
        return code;
    if (code == EXIT_DONE) {
        json_add_text(object, "checkpoint", d->checkpoint);
        json_add_u64(object, "bytes", d->byte_count);
    }
    return json_finish(&d->cli, object, code);
}
