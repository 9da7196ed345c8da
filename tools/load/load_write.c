/*
 * The ways into the database. Batches go through the log, so many pairs at a time. Ingests go past
 * it: with --bulk one for LOAD_PIECE_BYTES of pairs, with --atomic one for all.
 */
#include "tools/load/load.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LOAD_PIECE_BYTES ((uint64_t)4 << 30) /* of keys and values in one ingest of --bulk */

static bool by_ingest(const struct loader *l)
{
    return l->way == LOAD_BULK || l->way == LOAD_ATOMIC;
}

static void count_written(struct loader *l)
{
    l->pair_count += l->batched_pairs;
    l->byte_count += l->batched_bytes;
    l->batched_pairs = 0;
    l->batched_bytes = 0;
}

static int fail_write(struct loader *l, const lsm_error *err)
{
    char context[80];
    (void)snprintf(context, sizeof context, "pairs of lines %" PRIu64 " to %" PRIu64, l->first_line,
                   l->lines.number);
    return cli_library_error(&l->cli, context, err);
}

static lsm_slice marker_key(void)
{
    return LSM_SLICE(load_resume_key, strlen(load_resume_key));
}

/* ---- batches --------------------------------------------------------------------------------- */

static int write_batch(struct loader *l)
{
    lsm_error err = {0};
    char mark[96];
    lsm_status status = LSM_OK;
    lsm_write_options options = {.durability = l->sync == SYNC_BATCH ? LSM_SYNC : LSM_WRITE};
    if (l->batched_pairs == 0)
        return EXIT_DONE;
    if (l->marker != NULL)
        status = lsm_batch_put(l->batch, l->marker, marker_key(), load_resume_mark(l, mark), &err);
    if (status == LSM_OK)
        status = lsm_write(l->db, l->batch, &options, &err);
    if (status != LSM_OK)
        return fail_write(l, &err);
    count_written(l);
    lsm_batch_clear(l->batch);
    key_set_clear(&l->pending);
    return EXIT_DONE;
}

/* ---- ingests --------------------------------------------------------------------------------- */

static bool tell_progress(void *context, uint64_t done, uint64_t total)
{
    struct loader *l = context;
    progress_update(&l->cli.progress, done, total, done);
    return !cli_is_cancelled();
}

static int begin_ingest(struct loader *l)
{
    lsm_error err = {0};
    lsm_ingest_options options = LSM_INGEST_OPTIONS_INIT;
    options.memory_limit = (size_t)l->sort_memory;
    options.keep_first = l->keeps;
    options.progress = tell_progress;
    options.progress_context = l;
    if (lsm_ingest_begin(l->db, &options, &l->ingest, &err) != LSM_OK)
        return cli_library_error(&l->cli, NULL, &err);
    return EXIT_DONE;
}

/* Pairs whose key came earlier in the same ingest were kept out by -n. */
static void count_kept(struct loader *l)
{
    uint64_t entries = lsm_ingest_count(l->ingest) - (l->marker != NULL);
    if (!l->keeps || entries >= l->batched_pairs)
        return;
    uint64_t kept = l->batched_pairs - entries;
    l->kept_count += kept;
    l->batched_pairs = entries;
    if (l->family_count == 1) {
        l->families[0].kept_count += kept;
        l->families[0].pair_count -= kept;
    }
}

static int write_ingest(struct loader *l)
{
    lsm_error err = {0};
    char mark[96];
    lsm_status status = LSM_OK;
    if (l->batched_pairs == 0)
        return EXIT_DONE;
    if (l->marker != NULL)
        status =
            lsm_ingest_put(l->ingest, l->marker, marker_key(), load_resume_mark(l, mark), &err);
    if (status == LSM_OK) {
        progress_pass(&l->cli.progress, "merge");
        status = lsm_ingest_commit(l->ingest, &err);
    }
    if (status == LSM_CANCELLED && cli_is_cancelled())
        return cli_cancelled(&l->cli);
    if (status != LSM_OK)
        return fail_write(l, &err);
    count_kept(l);
    count_written(l);
    lsm_ingest_free(l->ingest);
    l->ingest = NULL;
    progress_pass(&l->cli.progress, "load");
    return EXIT_DONE;
}

/* ---- pairs ----------------------------------------------------------------------------------- */

/* Whether -n leaves the pair out: the key is in the database, or in the batch. */
static int key_is_kept(struct loader *l, size_t index, uint64_t line, lsm_slice key, bool *is_kept)
{
    size_t size = LSM_ABSENT;
    *is_kept = false;
    if (!l->keeps)
        return EXIT_DONE;
    if (!by_ingest(l) && !key_set_add(&l->pending, index, key)) {
        *is_kept = true;
        return EXIT_DONE;
    }
    if (l->families[index].cf != NULL &&
        lsm_get_into(l->db, l->families[index].cf, key, NULL, NULL, 0, &size, &l->error) != LSM_OK)
        return load_fail_line(l, line, &l->error);
    *is_kept = size != LSM_ABSENT;
    return EXIT_DONE;
}

/* What was collected is written when the next pair would make it too much. */
static int make_room(struct loader *l, lsm_slice key, lsm_slice value)
{
    if (l->batched_pairs == 0 || l->way == LOAD_ATOMIC || l->way == LOAD_DRY)
        return EXIT_DONE;
    if (l->way == LOAD_BULK)
        return (l->batch_given && l->batched_pairs >= l->batch_pairs) ||
                       l->batched_bytes >= LOAD_PIECE_BYTES
                   ? write_ingest(l)
                   : EXIT_DONE;
    return l->batched_pairs >= l->batch_pairs ||
                   lsm_batch_size(l->batch) + key.size + value.size > l->batch_bytes
               ? write_batch(l)
               : EXIT_DONE;
}

static int put(struct loader *l, lsm_cf *cf, uint64_t line, lsm_slice key, lsm_slice value)
{
    lsm_status status = LSM_OK;
    if (l->way == LOAD_BATCHES) {
        status = lsm_batch_put(l->batch, cf, key, value, &l->error);
    } else if (by_ingest(l)) {
        int code = l->ingest == NULL ? begin_ingest(l) : EXIT_DONE;
        if (code != EXIT_DONE)
            return code;
        status = lsm_ingest_put(l->ingest, cf, key, value, &l->error);
    }
    return status == LSM_OK ? EXIT_DONE : load_fail_line(l, line, &l->error);
}

int load_add(struct loader *l, size_t index, uint64_t line, lsm_slice key, lsm_slice value)
{
    struct family *family = &l->families[index];
    bool is_kept = false, is_over = false;
    int code = make_room(l, key, value);
    if (code == EXIT_DONE)
        code = load_resume_pass(l, key, value, &is_over);
    if (code != EXIT_DONE || is_over)
        return code;
    code = key_is_kept(l, index, line, key, &is_kept);
    if (code != EXIT_DONE)
        return code;
    if (is_kept) {
        family->kept_count++;
        l->kept_count++;
        return EXIT_DONE;
    }
    if (l->batched_pairs == 0)
        l->first_line = line;
    code = put(l, family->cf, line, key, value);
    if (code != EXIT_DONE)
        return code;
    family->pair_count++;
    family->byte_count += key.size + value.size;
    l->batched_pairs++;
    l->batched_bytes += key.size + value.size;
    return EXIT_DONE;
}

int load_finish(struct loader *l)
{
    lsm_error err = {0};
    int code = load_resume_check_end(l);
    if (code != EXIT_DONE || l->way == LOAD_DRY || l->db == NULL)
        return code;
    code = by_ingest(l) ? write_ingest(l) : write_batch(l);
    if (code == EXIT_DONE && l->way == LOAD_BATCHES && l->sync == SYNC_END &&
        lsm_sync(l->db, &err) != LSM_OK)
        code = cli_library_error(&l->cli, NULL, &err);
    return code == EXIT_DONE ? load_resume_end(l) : code;
}
