/* The database and its families: opened or made when the input first needs them. */
#include "tools/load/load.h"

#include "tools/cli/memory.h"

#include <inttypes.h>
#include <string.h>

static lsm_status open_or_create(struct loader *l, lsm_error *err)
{
    lsm_options *options = &l->cli.options;
    /* `create` decides here, not in --options, so that no database appears by accident. */
    options->create = false;
    lsm_status status = lsm_open(l->cli.directory, options, &l->db, err);
    if (status != LSM_MISSING || !l->creates || l->way == LOAD_DRY)
        return status;
    options->create = true;
    status = lsm_open(l->cli.directory, options, &l->db, err);
    l->is_created = status == LSM_OK;
    return status;
}

static void say_io(struct loader *l)
{
    char reason[256];
    size_t size = 0;
    if (lsm_property_text(l->db, NULL, "io", reason, sizeof reason, &size, NULL) == LSM_OK)
        cli_note(&l->cli, "I/O: %s", reason);
}

int load_open(struct loader *l)
{
    lsm_error err = {0};
    if (l->db != NULL)
        return EXIT_DONE;
    l->cli.options.read_only = l->way == LOAD_DRY;
    lsm_status status = open_or_create(l, &err);
    if (status == LSM_MISSING && l->way == LOAD_DRY && l->creates)
        return EXIT_DONE; /* it would be created */
    if (status == LSM_MISSING && !l->creates)
        return cli_error(&l->cli, EXIT_OPERATION, cli_status_name(status), "%s; --create makes one",
                         err.message);
    if (status != LSM_OK)
        return cli_library_error(&l->cli, NULL, &err);
    /* The size of the stage file is that of who opened the database first. */
    uint64_t most = 0;
    if (lsm_property(l->db, NULL, "largest-batch", &most, NULL) == LSM_OK && most != 0 &&
        most / 2 < l->batch_bytes)
        l->batch_bytes = (size_t)(most / 2);
    say_io(l);
    if (l->way == LOAD_BATCHES && lsm_batch_new(&l->batch, &err) != LSM_OK)
        return cli_library_error(&l->cli, NULL, &err);
    return load_resume_begin(l);
}

size_t load_find_family(struct loader *l, const char *name)
{
    for (size_t i = 0; i < l->family_count; i++) {
        if (strcmp(l->families[i].name, name) == 0)
            return i;
    }
    l->families = memory_resize(l->families, (l->family_count + 1) * sizeof *l->families);
    l->families[l->family_count] = (struct family){.name = memory_copy_text(name)};
    return l->family_count++;
}

int load_open_family(struct loader *l, struct family *family)
{
    lsm_error err = {0};
    if (family->cf != NULL || l->db == NULL)
        return EXIT_DONE;
    if (l->resumes && strcmp(family->name, LOAD_MARKER_FAMILY) == 0)
        return cli_error(
            &l->cli, EXIT_OPERATION, "INPUT",
            "line %" PRIu64
            ": --resume keeps its marker in column family '%s'; -s renames the section",
            l->reader.section.header_line, LOAD_MARKER_FAMILY);
    lsm_status status = lsm_cf_open(l->db, family->name, &family->cf, &err);
    if (status == LSM_MISSING && l->creates) {
        family->is_created = true;
        if (l->way == LOAD_DRY)
            return EXIT_DONE;
        status = lsm_cf_create(l->db, family->name, &l->cli.options.cf, &family->cf, &err);
        family->is_created = status == LSM_OK;
    }
    if (status == LSM_MISSING)
        return cli_error(&l->cli, EXIT_OPERATION, cli_status_name(status),
                         "line %" PRIu64 ": %s; --create makes it, -s renames the section",
                         l->reader.section.header_line, err.message);
    return status == LSM_OK ? EXIT_DONE : load_fail_line(l, l->reader.section.header_line, &err);
}

/* ---- the end --------------------------------------------------------------------------------- */

static void drop_created(struct loader *l)
{
    for (size_t i = 0; i < l->family_count; i++) {
        struct family *family = &l->families[i];
        if (!family->is_created || family->cf == NULL)
            continue;
        lsm_error err = {0};
        if (lsm_cf_drop(l->db, family->cf, &err) != LSM_OK)
            (void)cli_library_error(&l->cli, "dropping the new column family", &err);
        family->cf = NULL;
        family->is_created = false;
    }
}

int load_close(struct loader *l, int code)
{
    lsm_error err = {0};
    lsm_ingest_free(l->ingest);
    l->ingest = NULL;
    lsm_batch_free(l->batch);
    l->batch = NULL;
    if (l->db != NULL && lsm_close(l->db, &err) != LSM_OK)
        code |= cli_library_error(&l->cli, "closing", &err);
    l->db = NULL;
    return code;
}

int load_take_back(struct loader *l, int code)
{
    lsm_error err = {0};
    lsm_ingest_free(l->ingest);
    l->ingest = NULL;
    if (l->db != NULL && !l->is_created)
        drop_created(l);
    code = load_close(l, code);
    if (!l->is_created)
        return code;
    lsm_status status = lsm_destroy(l->cli.directory, &err);
    if (status == LSM_BUSY) /* others have come to it: it stays, empty but for what they do */
        cli_warn(&l->cli, "the new database stays: %s", err.message);
    else if (status != LSM_OK)
        code |= cli_library_error(&l->cli, "removing the new database", &err);
    l->is_created = false;
    return code;
}
