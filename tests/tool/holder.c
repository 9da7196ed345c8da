/*
 * Holds a database open for the scripts: `holder DIR OPTIONS` obeys the lines on stdin and answers
 * each with "ok", or with what failed.
 *
 *     put FIRST COUNT SIZE   delete FIRST COUNT   flush   compact   iterate   wait
 *     sync   snapshot   token (which is said before "ok")   release
 *
 * What it takes is given back at the end of stdin.
 */
#include "engine/lsm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct holder {
    lsm_db *db;
    lsm_snapshot *snapshot;
    lsm_iter *iter;
    lsm_error err;
};

static lsm_status put(struct holder *h, unsigned first, unsigned count, unsigned size)
{
    lsm_status status = LSM_OK;
    char *value = calloc(1, size + 1);
    for (unsigned i = first; status == LSM_OK && value != NULL && i < first + count; i++) {
        char key[32];
        int length = snprintf(key, sizeof key, "key-%08u", i);
        status = size == 0 ? lsm_delete(h->db, NULL, LSM_SLICE(key, (size_t)length), NULL, &h->err)
                           : lsm_put(h->db, NULL, LSM_SLICE(key, (size_t)length),
                                     LSM_SLICE(value, size), NULL, &h->err);
    }
    free(value);
    return status;
}

static lsm_status iterate(struct holder *h)
{
    lsm_status status = lsm_iter_open(h->db, NULL, NULL, &h->iter, &h->err);
    if (status == LSM_OK)
        lsm_iter_first(h->iter);
    return status;
}

static lsm_status say_token(struct holder *h)
{
    char token[LSM_SNAPSHOT_TOKEN_SIZE];
    lsm_status status = lsm_snapshot_export(h->db, h->snapshot, token, &h->err);
    if (status == LSM_OK)
        puts(token);
    return status;
}

static lsm_status obey(struct holder *h, const char *line)
{
    unsigned first = 0, count = 0, size = 0;
    if (sscanf(line, "put %u %u %u", &first, &count, &size) == 3)
        return put(h, first, count, size);
    if (sscanf(line, "delete %u %u", &first, &count) == 2)
        return put(h, first, count, 0);
    if (strcmp(line, "flush\n") == 0)
        return lsm_flush(h->db, &h->err);
    if (strcmp(line, "sync\n") == 0)
        return lsm_sync(h->db, &h->err);
    if (strcmp(line, "compact\n") == 0)
        return lsm_compact_range(h->db, NULL, NULL, &h->err);
    if (strcmp(line, "snapshot\n") == 0)
        return lsm_snapshot_acquire(h->db, &h->snapshot, &h->err);
    if (strcmp(line, "token\n") == 0)
        return say_token(h);
    if (strcmp(line, "release\n") == 0) {
        lsm_snapshot_release(h->db, h->snapshot);
        h->snapshot = NULL;
        return LSM_OK;
    }
    if (strcmp(line, "iterate\n") == 0)
        return iterate(h);
    if (strcmp(line, "wait\n") == 0)
        return lsm_wait_idle(h->db, &h->err);
    h->err.message[0] = '\0';
    return LSM_INVALID;
}

int main(int argc, char **argv)
{
    struct holder h = {0};
    lsm_options options = LSM_OPTIONS_INIT;
    char line[128];
    if (argc != 3 || lsm_options_parse(&options, argv[2], &h.err) != LSM_OK ||
        lsm_open(argv[1], &options, &h.db, &h.err) != LSM_OK) {
        fprintf(stderr, "holder: %s\n", h.err.message);
        return 1;
    }
    puts("ok");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        puts(obey(&h, line) == LSM_OK ? "ok" : h.err.message);
        fflush(stdout);
    }
    lsm_iter_close(h.iter);
    lsm_snapshot_release(h.db, h.snapshot);
    return lsm_close(h.db, &h.err) == LSM_OK ? 0 : 1;
}
