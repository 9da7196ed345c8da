/* LevelDB through its C API, with its defaults but for a small memtable; its repair and the reads
 * after it check all that it can check. */
#include "tests/torture/compare/peer.h"

#include <leveldb/c.h>
#include <string.h>
#include <time.h>

#define MEMTABLE_SIZE (256u << 10)

static enum peer_file kind_of(const char *file)
{
    size_t size = strlen(file);
    if (strcmp(file, "CURRENT") == 0)
        return PEER_CURRENT;
    if (strncmp(file, "MANIFEST-", 9) == 0)
        return PEER_MANIFEST;
    if (size < 4)
        return PEER_OTHER;
    if (strcmp(file + size - 4, ".ldb") == 0 || strcmp(file + size - 4, ".sst") == 0)
        return PEER_TABLE;
    return strcmp(file + size - 4, ".log") == 0 ? PEER_LOG : PEER_OTHER;
}

static leveldb_options_t *make_options(bool create)
{
    leveldb_options_t *options = leveldb_options_create();
    leveldb_options_set_create_if_missing(options, create);
    leveldb_options_set_write_buffer_size(options, MEMTABLE_SIZE);
    leveldb_options_set_compression(options, leveldb_no_compression);
    leveldb_options_set_paranoid_checks(options, !create);
    return options;
}

static void check(char *error, const char *what)
{
    if (error != NULL)
        peer_die("leveldb: %s: %s", what, error);
}

static void *open_leveldb(const char *path, bool create)
{
    char *error = NULL;
    leveldb_options_t *options = make_options(create);
    leveldb_t *db = leveldb_open(options, path, &error);
    check(error, "open");
    leveldb_options_destroy(options);
    return db;
}

static void put(void *db, lsm_slice key, lsm_slice value)
{
    char *error = NULL;
    leveldb_writeoptions_t *options = leveldb_writeoptions_create();
    leveldb_put(db, options, key.data, key.size, value.data, value.size, &error);
    check(error, "put");
    leveldb_writeoptions_destroy(options);
}

static void erase(void *db, lsm_slice key)
{
    char *error = NULL;
    leveldb_writeoptions_t *options = leveldb_writeoptions_create();
    leveldb_delete(db, options, key.data, key.size, &error);
    check(error, "delete");
    leveldb_writeoptions_destroy(options);
}

/* There is no call for it: compacting a range flushes first, and one without keys does no more. Nor
 * is there one that waits for compactions. */
static void flush(void *db)
{
    struct timespec pause = {.tv_nsec = 200000000};
    leveldb_compact_range(db, "zzz", 3, "zzz", 3);
    nanosleep(&pause, NULL);
}

static void compact(void *db)
{
    leveldb_compact_range(db, NULL, 0, NULL, 0);
}

static void close_leveldb(void *db)
{
    leveldb_close(db);
}

static bool repair(const char *path)
{
    char *error = NULL;
    leveldb_options_t *options = make_options(false);
    leveldb_repair_db(options, path, &error);
    leveldb_options_destroy(options);
    leveldb_free(error);
    return error == NULL;
}

static bool read_all(const char *path, peer_visit *visit, void *context)
{
    char *error = NULL;
    leveldb_options_t *options = make_options(false);
    leveldb_t *db = leveldb_open(options, path, &error);
    leveldb_options_destroy(options);
    if (error != NULL) {
        leveldb_free(error);
        return false;
    }
    leveldb_readoptions_t *reading = leveldb_readoptions_create();
    leveldb_readoptions_set_verify_checksums(reading, 1);
    leveldb_iterator_t *iter = leveldb_create_iterator(db, reading);
    for (leveldb_iter_seek_to_first(iter); leveldb_iter_valid(iter); leveldb_iter_next(iter)) {
        lsm_slice key, value;
        key.data = leveldb_iter_key(iter, &key.size);
        value.data = leveldb_iter_value(iter, &value.size);
        visit(context, key, value);
    }
    leveldb_iter_get_error(iter, &error);
    leveldb_iter_destroy(iter);
    leveldb_readoptions_destroy(reading);
    leveldb_close(db);
    leveldb_free(error);
    return error == NULL;
}

const struct peer peer_leveldb = {.name = "LevelDB",
                                  .kind_of = kind_of,
                                  .open = open_leveldb,
                                  .put = put,
                                  .erase = erase,
                                  .flush = flush,
                                  .compact = compact,
                                  .close = close_leveldb,
                                  .repair = repair,
                                  .read = read_all};
