/* The database through the public door: as of one snapshot, family by family. */
#include "tools/dump/dump.h"

#include "engine/base/parse.h"
#include "engine/db/snapshot.h"

static lsm_read_options range_of(const struct dumper *d)
{
    lsm_read_options options = {.snapshot = d->snapshot, .no_fill_cache = true};
    if (d->cli.has_start)
        options.first = text_slice(&d->cli.start);
    if (d->cli.has_end)
        options.limit = text_slice(&d->cli.end);
    if (d->cli.has_prefix)
        options.prefix = text_slice(&d->cli.prefix);
    return options;
}

static int visit_pairs(struct dumper *d, lsm_iter *iter, uint64_t estimate, dump_visitor visit)
{
    uint64_t family_pairs = 0;
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter)) {
        if (cli_is_cancelled())
            return cli_cancelled(&d->cli);
        lsm_slice key = lsm_iter_key(iter), value = lsm_iter_value(iter);
        int code = visit(d, key, value);
        if (code != EXIT_DONE)
            return code;
        family_pairs++;
        d->byte_count += key.size + value.size;
        progress_update(&d->cli.progress, family_pairs, estimate, d->byte_count);
        cli_throttle(&d->cli, d->byte_count);
    }
    d->pair_count += family_pairs;
    progress_end(&d->cli.progress, family_pairs);
    lsm_error err = {0};
    if (lsm_iter_status(iter, &err) != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    return cli_is_cancelled() ? cli_cancelled(&d->cli) : EXIT_DONE;
}

static int walk_family(struct dumper *d, const char *name, dump_visitor visit)
{
    lsm_error err = {0};
    lsm_cf *cf = NULL;
    lsm_iter *iter = NULL;
    lsm_read_options options = range_of(d);
    uint64_t estimate = 0;
    if (lsm_cf_open(d->db, name, &cf, &err) != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    if (lsm_property(d->db, cf, "entries", &estimate, NULL) != LSM_OK)
        estimate = 0; /* the bar then shows no end */
    if (lsm_iter_open(d->db, cf, &options, &iter, &err) != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    progress_pass(&d->cli.progress, name);
    int code = visit_pairs(d, iter, estimate, visit);
    lsm_iter_close(iter);
    return code;
}

static lsm_status take_snapshot(struct dumper *d, lsm_error *err)
{
    uint64_t sequence = 0;
    if (d->at == NULL)
        return lsm_snapshot_acquire(d->db, &d->snapshot, err);
    if (parse_u64(d->at, &sequence))
        return db_snapshot_hold(d->db, sequence, &d->snapshot, err);
    return lsm_snapshot_open(d->db, d->at, &d->snapshot, err);
}

int dump_open_database(struct dumper *d)
{
    lsm_error err = {0};
    char reason[256];
    size_t size = 0;
    d->cli.options.read_only = true;
    d->cli.options.create = false;
    d->walk = walk_family;
    if (lsm_open(d->cli.directory, &d->cli.options, &d->db, &err) != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    if (take_snapshot(d, &err) != LSM_OK)
        return cli_library_error(&d->cli, d->at == NULL ? NULL : "--at", &err);
    if (lsm_cf_list(d->db, &d->names, &d->name_count, &err) != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    if (lsm_property_text(d->db, NULL, "io", reason, sizeof reason, &size, NULL) == LSM_OK)
        cli_note(&d->cli, "I/O: %s", reason);
    d->style.sequence = lsm_snapshot_sequence(d->snapshot);
    return cli_check_families(&d->cli, d->names, d->name_count);
}

int dump_close_database(struct dumper *d, int code)
{
    lsm_error err = {0};
    lsm_free(d->names);
    if (d->db == NULL)
        return code;
    lsm_snapshot_release(d->db, d->snapshot);
    if (lsm_close(d->db, &err) != LSM_OK)
        code |= cli_library_error(&d->cli, "closing", &err);
    d->db = NULL;
    return code;
}
