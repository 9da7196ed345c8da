/* This engine, with as small memtables and tables as the others have. */
#include "tests/torture/compare/peer.h"

#include "engine/format/file_name.h"
#include "tests/torture/examine.h"

#include <string.h>

#define OPTIONS                                                                                    \
    "io=posix,workers=1,memtable_size=256KiB,memtable_count=2,stage_size=128KiB,"                  \
    "wal_segment_size=256KiB,cache_size=1MiB,compression=none,table_size=256KiB,"                  \
    "level_base_size=1MiB"

static struct mending last;
static lsm_iter *held[PEER_MAX_HELD];
static size_t held_count;

static enum peer_file kind_of(const char *file)
{
    enum file_kind kind;
    uint64_t number;
    if (!file_name_parse(file, &kind, &number))
        return PEER_OTHER;
    return kind == FILE_CURRENT                     ? PEER_CURRENT
           : kind == FILE_MANIFEST                  ? PEER_MANIFEST
           : kind == FILE_TABLE                     ? PEER_TABLE
           : kind == FILE_WAL || kind == FILE_STAGE ? PEER_LOG
                                                    : PEER_OTHER;
}

static lsm_status open_as(const char *path, bool create, bool read_only, lsm_db **db,
                          lsm_error *err)
{
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_status status = lsm_options_parse(&options, OPTIONS, err);
    options.create = create;
    options.read_only = read_only;
    return status == LSM_OK ? lsm_open(path, &options, db, err) : status;
}

static void check(lsm_status status, const char *what, const lsm_error *err)
{
    if (status != LSM_OK)
        peer_die("libengine: %s: %s", what, err->message);
}

static void *open_lsm(const char *path, bool create)
{
    lsm_error err = {0};
    lsm_db *db = NULL;
    check(open_as(path, create, false, &db, &err), "open", &err);
    return db;
}

static void put(void *db, lsm_slice key, lsm_slice value)
{
    lsm_error err = {0};
    check(lsm_put(db, NULL, key, value, NULL, &err), "put", &err);
}

static void erase(void *db, lsm_slice key)
{
    lsm_error err = {0};
    check(lsm_delete(db, NULL, key, NULL, &err), "delete", &err);
}

static void flush(void *db)
{
    lsm_error err = {0};
    check(lsm_flush(db, &err), "flush", &err);
    check(lsm_wait_idle(db, &err), "wait", &err);
}

static void compact(void *db)
{
    lsm_error err = {0};
    lsm_compact_options options = {.force_bottom = true};
    check(lsm_compact_range(db, NULL, &options, &err), "compact", &err);
}

static void hold(void *db)
{
    lsm_error err = {0};
    if (held_count < PEER_MAX_HELD)
        check(lsm_iter_open(db, NULL, NULL, &held[held_count++], &err), "iterate", &err);
}

static void close_lsm(void *db)
{
    lsm_error err = {0};
    while (held_count > 0)
        lsm_iter_close(held[--held_count]);
    check(lsm_close(db, &err), "close", &err);
}

static bool repair(const char *path)
{
    mending_release(&last);
    mending_take(&last, path, "posix");
    return last.status == LSM_OK;
}

static bool reports(lsm_slice key)
{
    return mending_reports(&last, 0, key);
}

static bool read_all(const char *path, peer_visit *visit, void *context)
{
    lsm_error err = {0};
    lsm_db *db = NULL;
    lsm_iter *iter = NULL;
    lsm_status status = open_as(path, false, true, &db, &err);
    if (status == LSM_OK)
        status = lsm_iter_open(db, NULL, NULL, &iter, &err);
    if (status == LSM_OK) {
        for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter))
            visit(context, lsm_iter_key(iter), lsm_iter_value(iter));
        status = lsm_iter_status(iter, &err);
    }
    lsm_iter_close(iter);
    return lsm_close(db, &err) == LSM_OK && status == LSM_OK;
}

const struct peer peer_lsm = {.name = "libengine",
                              .kind_of = kind_of,
                              .open = open_lsm,
                              .put = put,
                              .erase = erase,
                              .flush = flush,
                              .compact = compact,
                              .hold = hold,
                              .close = close_lsm,
                              .repair = repair,
                              .read = read_all,
                              .reports = reports};
