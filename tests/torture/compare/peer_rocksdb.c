/* RocksDB through its C API, with its defaults but for a small memtable and small tables. */
#include <rocksdb/c.h>

#define PEER(name) rocksdb_##name
#define PEER_NAME  "RocksDB"
#define PEER_TABLES                                                                                \
    {                                                                                              \
        ".sst"                                                                                     \
    }
#include "tests/torture/compare/peer_shape.h"

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

const struct peer peer_rocksdb = {.name = PEER_NAME, PEER_FUNCTIONS};
