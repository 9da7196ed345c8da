/* What can be said about a database once it is damaged, in lines that can be compared. */
#include "tests/damaged/damage.h"

#include <inttypes.h>
#include <stdio.h>

void print_pair(FILE *out, const char *family, lsm_slice key, size_t size, uint64_t hash)
{
    fprintf(out, "%s ", family);
    for (size_t i = 0; i < key.size; i++)
        fprintf(out, "%02x", ((const uint8_t *)key.data)[i]);
    fprintf(out, " %08zx%016" PRIx64 "\n", size, hash);
}

/* ---- pairs ----------------------------------------------------------------------------------- */

static lsm_status print_family(lsm_db *db, const char *name, lsm_error *err)
{
    lsm_cf *cf;
    lsm_iter *iter = NULL;
    lsm_status status = lsm_cf_open(db, name, &cf, err);
    if (status == LSM_OK)
        status = lsm_iter_open(db, cf, NULL, &iter, err);
    if (status != LSM_OK)
        return status;
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter)) {
        lsm_slice value = lsm_iter_value(iter);
        print_pair(stdout, name, lsm_iter_key(iter), value.size, model_hash(value));
    }
    status = lsm_iter_status(iter, err);
    lsm_iter_close(iter);
    return status;
}

int print_pairs(const char *directory)
{
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_error err = {0}, closing = {0};
    lsm_db *db = NULL;
    char **names = NULL;
    size_t count = 0;
    options.read_only = true;
    lsm_status status = lsm_open(directory, &options, &db, &err);
    if (status == LSM_OK)
        status = lsm_cf_list(db, &names, &count, &err);
    for (size_t i = 0; i < count && status == LSM_OK; i++)
        status = print_family(db, names[i], &err);
    if (status != LSM_OK)
        fprintf(stderr, "%s: %s\n", directory, err.message);
    lsm_free(names);
    return lsm_close(db, &closing) == LSM_OK && status == LSM_OK ? 0 : 4;
}

/* ---- findings -------------------------------------------------------------------------------- */

/* Notes are many and say nothing of damage; where the file system is said to be, is no matter. */
static bool print_finding(void *context, const lsm_finding *f)
{
    (void)context;
    if (f->severity >= LSM_WARNING && strncmp(f->id, "0-mount-", 8) != 0)
        printf("%s %s%s\n", f->id, f->file != NULL ? f->file : "-",
               f->has_range ? " with keys" : "");
    return true;
}

int print_findings(const char *directory)
{
    lsm_verify_options options = LSM_VERIFY_OPTIONS_INIT;
    lsm_error err = {0};
    options.level = LSM_VERIFY_FULL;
    options.threads = 1;
    options.finding = print_finding;
    lsm_status status = lsm_verify(directory, &options, NULL, &err);
    if (status != LSM_OK && status != LSM_CORRUPT)
        printf("cannot: %s\n", lsm_strerror(status));
    return status == LSM_OK ? 0 : 4;
}

/* ---- repair ---------------------------------------------------------------------------------- */

static bool print_step(void *context, const lsm_repair_step *s)
{
    (void)context;
    printf("%s %s%s\n", s->id, s->file != NULL ? s->file : "-", s->is_exact ? " exactly" : "");
    return true;
}

static void print_key(const char *what, bool is_open, lsm_slice key)
{
    if (is_open)
        printf(" %s open", what);
    else
        printf(" %s %.*s", what, (int)key.size, (const char *)key.data);
}

static void print_bound(FILE *out, bool is_open, lsm_slice key)
{
    fprintf(out, is_open ? " -" : " x");
    for (size_t i = 0; !is_open && i < key.size; i++)
        fprintf(out, "%02x", ((const unsigned char *)key.data)[i]);
}

static void print_loss(void *context, const lsm_loss *l)
{
    FILE *ranges = context;
    if (ranges != NULL && l->kinds != LSM_LOSS_UNSEEN) {
        l->has_cf ? fprintf(ranges, "%" PRIu32, l->cf_id) : fprintf(ranges, "any");
        print_bound(ranges, l->first_open, l->first);
        print_bound(ranges, l->last_open, l->last);
        fprintf(ranges, "\n");
    }
    printf("lost:");
    if (l->has_cf)
        printf(" family %" PRIu32, l->cf_id);
    else
        printf(" any family");
    print_key("from", l->first_open, l->first);
    print_key("to", l->last_open, l->last);
    printf("%s%s%s%s\n", l->kinds & LSM_LOSS_UNSEEN ? " unseen" : "",
           l->kinds & LSM_LOSS_LOST ? " lost" : "",
           l->kinds & LSM_LOSS_MAY_BE_STALE ? " stale" : "",
           l->kinds & LSM_LOSS_MAY_REVIVE ? " revived" : "");
}

/* The exit status is that of lsm-repair(1). */
int print_repair(const char *directory, const char *ranges)
{
    lsm_repair_options options = LSM_REPAIR_OPTIONS_INIT;
    lsm_repair_result result = LSM_REPAIR_RESULT_INIT;
    lsm_error err = {0};
    options.on_step = print_step;
    options.on_loss = print_loss;
    FILE *out = ranges == NULL ? NULL : fopen(ranges, "w");
    options.context = out;
    lsm_status status = lsm_repair(directory, &options, &result, &err);
    if (out != NULL)
        fclose(out);
    if (status != LSM_OK) {
        printf("cannot: %s\n", lsm_strerror(status));
        return 8;
    }
    return (result.is_changed ? 1 : 0) | (result.is_damage_left ? 4 : 0) |
           (result.is_data_lost ? 64 : 0);
}
