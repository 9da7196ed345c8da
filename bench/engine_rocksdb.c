/*
 * RocksDB through its C API, configured as libengine is: the same memtable and count of them,
 * cache, filter bits, two background jobs, log on, zstd at level 1 in the lowest level and raw
 * blocks above. Its wiki's "Setup Options and Basic Tuning" adds dynamic level sizes,
 * bytes_per_sync and the newest table format. Within --memory it reads and writes tables around the
 * page cache, as libengine does, and has indexes and filters in its cache. All else is its default.
 * Reads use the pinned forms, which do not copy values.
 */
#include "bench/engine.h"

#include <dlfcn.h>
#include <limits.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MEMTABLE_COUNT  3
#define BACKGROUND_JOBS 2
#define ZSTD_LEVEL      1
#define ZSTD_WINDOW     -14 /* RocksDB's default */
#define FORMAT_VERSION  5
#define BYTES_PER_SYNC  (1 << 20)
#define IDLE_POLL_NS    20000000

struct database {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_column_family_handle_t *family;
};

struct session {
    struct database *database;
    rocksdb_writeoptions_t *writes[2]; /* plain, synced */
    rocksdb_readoptions_t *reads;
    rocksdb_writebatch_t *batch;
    rocksdb_pinnableslice_t *pinned;
    uint32_t multi_count;
    rocksdb_pinnableslice_t **multi; /* owned; for one multiget */
    const char **keys;               /* owned */
    size_t *sizes;                   /* owned */
    char **errors;                   /* owned */
};

static void check(const char *error, const char *what)
{
    if (error != NULL)
        die("rocksdb: %s: %s", what, error);
}

static bool file_holds(const char *path, const char *text)
{
    FILE *file = fopen(path, "rb");
    size_t size = strlen(text), kept = 0, got;
    char block[65536 + 64];
    bool found = false;
    while (file != NULL && !found && (got = fread(block + kept, 1, 65536, file)) > 0) {
        got += kept;
        found = memmem(block, got, text, size) != NULL;
        kept = got < size ? got : size - 1;
        memmove(block, block + got - kept, kept);
    }
    if (file != NULL)
        fclose(file);
    return found;
}

/* The C API does not tell the version; the name of the library's file does. */
static void describe(char *text, size_t capacity)
{
    Dl_info info = {0};
    char path[PATH_MAX] = "";
    if (dladdr(dlsym(RTLD_DEFAULT, "rocksdb_close"), &info) == 0 ||
        realpath(info.dli_fname, path) == NULL)
        snprintf(path, sizeof path, "?");
    const char *version = strstr(path, ".so.");
    bool asserts = file_holds(path, "__assert_fail");
    snprintf(text, capacity, "RocksDB %s%s", version != NULL ? version + 4 : path,
             asserts ? " (built with assertions: 1.2 to 1.9 times slower than it can be)" : "");
}

static void settings(const struct bench_options *o, char *text, size_t capacity)
{
    snprintf(text, capacity,
             "write_buffer_size=%llu max_write_buffer_number=%d block_cache=%llu bloom=%u "
             "max_background_jobs=%d level_compaction_dynamic_level_bytes=1 bytes_per_sync=%d "
             "format_version=%d bottommost_compression=%s compression=none%s; log written at each "
             "put, synced when asked",
             (unsigned long long)o->memtable_size, MEMTABLE_COUNT,
             (unsigned long long)o->cache_size, o->filter_bits, BACKGROUND_JOBS, BYTES_PER_SYNC,
             FORMAT_VERSION, o->compress ? "zstd:1" : "none",
             o->memory > 0 ? " use_direct_reads=1 use_direct_io_for_flush_and_compaction=1 "
                             "cache_index_and_filter_blocks=1"
                           : "");
}

static rocksdb_options_t *make_options(const struct bench_options *o, rocksdb_cache_t *cache)
{
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_write_buffer_size(options, o->memtable_size);
    rocksdb_options_set_max_write_buffer_number(options, MEMTABLE_COUNT);
    rocksdb_options_set_max_background_jobs(options, BACKGROUND_JOBS);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_set_bottommost_compression(options, o->compress ? rocksdb_zstd_compression
                                                                    : rocksdb_no_compression);
    rocksdb_options_set_bottommost_compression_options(options, ZSTD_WINDOW, ZSTD_LEVEL, 0, 0, 1);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
    rocksdb_options_set_bytes_per_sync(options, BYTES_PER_SYNC);
    rocksdb_options_set_use_direct_reads(options, o->memory > 0);
    rocksdb_options_set_use_direct_io_for_flush_and_compaction(options, o->memory > 0);
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_format_version(table, FORMAT_VERSION);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, o->memory > 0);
    rocksdb_block_based_options_set_block_cache(table, cache);
    if (o->filter_bits > 0)
        rocksdb_block_based_options_set_filter_policy(
            table, rocksdb_filterpolicy_create_bloom_full(o->filter_bits));
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
    return options;
}

static void *open_rocksdb(const struct bench_options *o, const char *directory)
{
    struct database *d = calloc(1, sizeof *d);
    if (d == NULL)
        die("out of memory");
    if (o->engine_options != NULL)
        die("--options is for engine lsm only");
    d->cache = rocksdb_cache_create_lru(o->cache_size);
    d->options = make_options(o, d->cache);
    char *error = NULL;
    d->db =
        rocksdb_open_column_families(d->options, directory, 1, (const char *[]){"default"},
                                     (const rocksdb_options_t *[]){d->options}, &d->family, &error);
    check(error, "open");
    return d;
}

static void close_rocksdb(void *db)
{
    struct database *d = db;
    rocksdb_column_family_handle_destroy(d->family);
    rocksdb_close(d->db);
    rocksdb_options_destroy(d->options);
    rocksdb_cache_destroy(d->cache);
    free(d);
}

static void destroy_rocksdb(const char *directory)
{
    rocksdb_options_t *options = rocksdb_options_create();
    char *error = NULL;
    rocksdb_destroy_db(options, directory, &error);
    check(error, "destroy");
    rocksdb_options_destroy(options);
}

static void *session_open(void *db, const struct bench_options *o)
{
    struct session *s = calloc(1, sizeof *s);
    size_t count = o->multiget_count;
    if (s == NULL)
        die("out of memory");
    *s = (struct session){.database = db,
                          .writes = {rocksdb_writeoptions_create(), rocksdb_writeoptions_create()},
                          .reads = rocksdb_readoptions_create(),
                          .batch = rocksdb_writebatch_create(),
                          .multi_count = o->multiget_count,
                          .multi = calloc(count, sizeof *s->multi),
                          .keys = calloc(count, sizeof *s->keys),
                          .sizes = calloc(count, sizeof *s->sizes),
                          .errors = calloc(count, sizeof *s->errors)};
    if (s->multi == NULL || s->keys == NULL || s->sizes == NULL || s->errors == NULL)
        die("out of memory");
    rocksdb_writeoptions_set_sync(s->writes[1], 1);
    return s;
}

static void release_multi(struct session *s)
{
    for (uint32_t i = 0; i < s->multi_count; i++) {
        if (s->multi[i] != NULL)
            rocksdb_pinnableslice_destroy(s->multi[i]);
        s->multi[i] = NULL;
    }
}

static void release_pinned(struct session *s)
{
    if (s->pinned != NULL)
        rocksdb_pinnableslice_destroy(s->pinned);
    s->pinned = NULL;
}

static void session_close(void *session)
{
    struct session *s = session;
    release_multi(s);
    release_pinned(s);
    rocksdb_writebatch_destroy(s->batch);
    rocksdb_readoptions_destroy(s->reads);
    rocksdb_writeoptions_destroy(s->writes[0]);
    rocksdb_writeoptions_destroy(s->writes[1]);
    free(s->multi);
    free(s->keys);
    free(s->sizes);
    free(s->errors);
    free(s);
}

static void put(void *session, lsm_slice key, lsm_slice value, bool sync)
{
    struct session *s = session;
    char *error = NULL;
    rocksdb_put(s->database->db, s->writes[sync], key.data, key.size, value.data, value.size,
                &error);
    check(error, "put");
}

static void remove_key(void *session, lsm_slice key, bool sync)
{
    struct session *s = session;
    char *error = NULL;
    rocksdb_delete(s->database->db, s->writes[sync], key.data, key.size, &error);
    check(error, "delete");
}

static void remove_range(void *session, lsm_slice first, lsm_slice limit, bool sync)
{
    struct session *s = session;
    char *error = NULL;
    rocksdb_delete_range_cf(s->database->db, s->writes[sync], s->database->family, first.data,
                            first.size, limit.data, limit.size, &error);
    check(error, "delete range");
}

static void batch_put(void *session, lsm_slice key, lsm_slice value)
{
    struct session *s = session;
    rocksdb_writebatch_put(s->batch, key.data, key.size, value.data, value.size);
}

static void batch_write(void *session, bool sync)
{
    struct session *s = session;
    char *error = NULL;
    rocksdb_write(s->database->db, s->writes[sync], s->batch, &error);
    check(error, "write");
    rocksdb_writebatch_clear(s->batch);
}

static bool get(void *session, lsm_slice key, lsm_slice *value)
{
    struct session *s = session;
    char *error = NULL;
    release_pinned(s);
    s->pinned = rocksdb_get_pinned(s->database->db, s->reads, key.data, key.size, &error);
    check(error, "get");
    if (s->pinned == NULL)
        return false;
    value->data = rocksdb_pinnableslice_value(s->pinned, &value->size);
    return true;
}

static void multi_get(void *session, size_t count, const lsm_slice *keys, lsm_slice *values)
{
    struct session *s = session;
    release_multi(s);
    for (size_t i = 0; i < count; i++) {
        s->keys[i] = keys[i].data;
        s->sizes[i] = keys[i].size;
    }
    rocksdb_batched_multi_get_cf(s->database->db, s->reads, s->database->family, count, s->keys,
                                 s->sizes, s->multi, s->errors, false);
    for (size_t i = 0; i < count; i++) {
        check(s->errors[i], "multiget");
        values[i] = LSM_SLICE(NULL, 0);
        if (s->multi[i] != NULL)
            values[i].data = rocksdb_pinnableslice_value(s->multi[i], &values[i].size);
    }
}

static void *iter_open(void *session)
{
    struct session *s = session;
    return rocksdb_create_iterator(s->database->db, s->reads);
}

static void iter_close(void *iter)
{
    rocksdb_iter_destroy(iter);
}

static bool entry_here(const rocksdb_iterator_t *iter, struct engine_entry *entry)
{
    if (!rocksdb_iter_valid(iter)) {
        char *error = NULL;
        rocksdb_iter_get_error(iter, &error);
        check(error, "iterator");
        return false;
    }
    entry->key.data = rocksdb_iter_key(iter, &entry->key.size);
    entry->value.data = rocksdb_iter_value(iter, &entry->value.size);
    return true;
}

static bool iter_first(void *iter, struct engine_entry *entry)
{
    rocksdb_iter_seek_to_first(iter);
    return entry_here(iter, entry);
}

static bool iter_last(void *iter, struct engine_entry *entry)
{
    rocksdb_iter_seek_to_last(iter);
    return entry_here(iter, entry);
}

static bool iter_seek(void *iter, lsm_slice key, struct engine_entry *entry)
{
    rocksdb_iter_seek(iter, key.data, key.size);
    return entry_here(iter, entry);
}

static bool iter_next(void *iter, struct engine_entry *entry)
{
    rocksdb_iter_next(iter);
    return entry_here(iter, entry);
}

static bool iter_prev(void *iter, struct engine_entry *entry)
{
    rocksdb_iter_prev(iter);
    return entry_here(iter, entry);
}

static void flush_rocksdb(void *db)
{
    struct database *d = db;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    char *error = NULL;
    rocksdb_flushoptions_set_wait(options, 1);
    rocksdb_flush(d->db, options, &error);
    check(error, "flush");
    rocksdb_flushoptions_destroy(options);
}

static void compact_rocksdb(void *db)
{
    struct database *d = db;
    rocksdb_compact_range(d->db, NULL, 0, NULL, 0);
}

static bool is_busy(struct database *d)
{
    static const char *const names[] = {"rocksdb.mem-table-flush-pending",
                                        "rocksdb.num-running-flushes", "rocksdb.compaction-pending",
                                        "rocksdb.num-running-compactions"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        uint64_t value = 0;
        if (rocksdb_property_int(d->db, names[i], &value) == 0 && value > 0)
            return true;
    }
    return false;
}

/* This version has no call that waits. Between two jobs it is idle for a moment: look twice. */
static void wait_idle(void *db)
{
    for (int quiet = 0; quiet < 2; quiet++) {
        if (is_busy(db))
            quiet = -1;
        nanosleep(&(struct timespec){.tv_nsec = IDLE_POLL_NS}, NULL);
    }
}

/* Flushes the memtable, whatever is in it, so that no log has to be copied: as it does by default.
 */
static void checkpoint(void *db, const char *path)
{
    struct database *d = db;
    char *error = NULL;
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(d->db, &error);
    check(error, "checkpoint");
    rocksdb_checkpoint_create(checkpoint, path, 0, &error);
    check(error, "checkpoint");
    rocksdb_checkpoint_object_destroy(checkpoint);
}

static uint64_t bytes_written(void *db)
{
    (void)db; /* its statistics would have to be switched on, which costs time in every call */
    return 0;
}

const struct engine engine_rocksdb = {
    .name = "rocksdb",
    .describe = describe,
    .settings = settings,
    .open = open_rocksdb,
    .close = close_rocksdb,
    .destroy = destroy_rocksdb,
    .session_open = session_open,
    .session_close = session_close,
    .put = put,
    .remove = remove_key,
    .remove_range = remove_range,
    .batch_put = batch_put,
    .batch_write = batch_write,
    .get = get,
    .multi_get = multi_get,
    .iter_open = iter_open,
    .iter_close = iter_close,
    .iter_first = iter_first,
    .iter_last = iter_last,
    .iter_seek = iter_seek,
    .iter_next = iter_next,
    .iter_prev = iter_prev,
    .flush = flush_rocksdb,
    .compact = compact_rocksdb,
    .wait_idle = wait_idle,
    .checkpoint = checkpoint,
    .bytes_written = bytes_written,
};
