/* RocksDB through its C API, with its defaults but for a small memtable and small tables. */
#include "tests/torture/compare/peer.h"

#include <rocksdb/c.h>
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
    if (strcmp(file + size - 4, ".sst") == 0)
        return PEER_TABLE;
    return strcmp(file + size - 4, ".log") == 0 ? PEER_LOG : PEER_OTHER;
}

static rocksdb_options_t *make_options(bool create)
{
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options, create);
    rocksdb_options_set_write_buffer_size(options, MEMTABLE_SIZE);
    rocksdb_options_set_target_file_size_base(options, MEMTABLE_SIZE);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_set_info_log_level(options, 4);
    return options;
}

static void check(char *error, const char *what)
{
    if (error != NULL)
        peer_die("rocksdb: %s: %s", what, error);
}

static void *open_rocksdb(const char *path, bool create)
{
    char *error = NULL;
    rocksdb_options_t *options = make_options(create);
    rocksdb_t *db = rocksdb_open(options, path, &error);
    check(error, "open");
    rocksdb_options_destroy(options);
    return db;
}

static void put(void *db, lsm_slice key, lsm_slice value)
{
    char *error = NULL;
    rocksdb_writeoptions_t *options = rocksdb_writeoptions_create();
    rocksdb_put(db, options, key.data, key.size, value.data, value.size, &error);
    check(error, "put");
    rocksdb_writeoptions_destroy(options);
}

static void erase(void *db, lsm_slice key)
{
    char *error = NULL;
    rocksdb_writeoptions_t *options = rocksdb_writeoptions_create();
    rocksdb_delete(db, options, key.data, key.size, &error);
    check(error, "delete");
    rocksdb_writeoptions_destroy(options);
}

static void wait_for_compactions(void *db)
{
    static const char *const properties[] = {"rocksdb.compaction-pending",
                                             "rocksdb.num-running-compactions",
                                             "rocksdb.num-running-flushes"};
    struct timespec pause = {.tv_nsec = 10000000};
    uint64_t busy = 1;
    while (busy > 0) {
        busy = 0;
        for (size_t i = 0; i < sizeof properties / sizeof properties[0]; i++) {
            uint64_t value = 0;
            rocksdb_property_int(db, properties[i], &value);
            busy += value;
        }
        nanosleep(&pause, NULL);
    }
}

static void flush(void *db)
{
    char *error = NULL;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    rocksdb_flush(db, options, &error);
    check(error, "flush");
    rocksdb_flushoptions_destroy(options);
    wait_for_compactions(db);
}

static void compact(void *db)
{
    rocksdb_compact_range(db, NULL, 0, NULL, 0);
}

static void close_rocksdb(void *db)
{
    rocksdb_close(db);
}

static bool repair(const char *path)
{
    char *error = NULL;
    rocksdb_options_t *options = make_options(false);
    rocksdb_repair_db(options, path, &error);
    rocksdb_options_destroy(options);
    rocksdb_free(error);
    return error == NULL;
}

static bool read_all(const char *path, peer_visit *visit, void *context)
{
    char *error = NULL;
    rocksdb_options_t *options = make_options(false);
    rocksdb_t *db = rocksdb_open(options, path, &error);
    rocksdb_options_destroy(options);
    if (error != NULL) {
        rocksdb_free(error);
        return false;
    }
    rocksdb_readoptions_t *reading = rocksdb_readoptions_create();
    rocksdb_iterator_t *iter = rocksdb_create_iterator(db, reading);
    for (rocksdb_iter_seek_to_first(iter); rocksdb_iter_valid(iter); rocksdb_iter_next(iter)) {
        lsm_slice key, value;
        key.data = rocksdb_iter_key(iter, &key.size);
        value.data = rocksdb_iter_value(iter, &value.size);
        visit(context, key, value);
    }
    rocksdb_iter_get_error(iter, &error);
    rocksdb_iter_destroy(iter);
    rocksdb_readoptions_destroy(reading);
    rocksdb_close(db);
    rocksdb_free(error);
    return error == NULL;
}

const struct peer peer_rocksdb = {.name = "RocksDB",
                                  .kind_of = kind_of,
                                  .open = open_rocksdb,
                                  .put = put,
                                  .erase = erase,
                                  .flush = flush,
                                  .compact = compact,
                                  .close = close_rocksdb,
                                  .repair = repair,
                                  .read = read_all};
