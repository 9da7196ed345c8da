/* LevelDB through its C API, with its defaults but for a small memtable; its repair and the reads
 * after it check all that it can check. */
#include <leveldb/c.h>

#define PEER(name) leveldb_##name
#define PEER_NAME  "LevelDB"
#define PEER_TABLES                                                                                \
    {                                                                                              \
        ".ldb", ".sst"                                                                             \
    }
#include "tests/torture/compare/peer_shape.h"

static leveldb_options_t *make_options(bool create)
{
    leveldb_options_t *options = leveldb_options_create();
    leveldb_options_set_create_if_missing(options, create);
    leveldb_options_set_write_buffer_size(options, MEMTABLE_SIZE);
    leveldb_options_set_compression(options, leveldb_no_compression);
    leveldb_options_set_paranoid_checks(options, !create);
    return options;
}

/* There is no call for it: compacting a range flushes first, and one without keys does no more. Nor
 * is there one that waits for compactions. */
static void flush(void *db)
{
    struct timespec pause = {.tv_nsec = 200000000};
    leveldb_compact_range(db, "zzz", 3, "zzz", 3);
    nanosleep(&pause, NULL);
}

const struct peer peer_leveldb = {.name = PEER_NAME, PEER_FUNCTIONS};
