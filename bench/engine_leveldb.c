/*
 * LevelDB through its C API, set up as doc/index.md advises: a larger write buffer and cache, a
 * Bloom filter, and files enough open for the whole database ("one open file per 2MB of working
 * set"). A get hands out an allocated copy: the API has no other form.
 */
#include "bench/engine.h"
#include "bench/machine.h"

#include <leveldb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define FILE_SIZE       (UINT64_C(2) << 20) /* LevelDB's default */
#define FILES_AT_LEAST  1000                /* LevelDB's default */
#define FILES_FOR_BENCH 100                 /* descriptors that are left for all else */
#define BEYOND_ALL_KEYS "\xff\xff\xff\xff\xff\xff\xff\xff"

#ifdef HAVE_LEVELDB_ZSTD
#define COMPRESSION_NAME "zstd"
enum { compression = leveldb_zstd_compression };
#else
#define COMPRESSION_NAME "snappy (this build has no zstd)"
enum { compression = leveldb_snappy_compression };
#endif

struct database {
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_cache_t *cache;
    leveldb_filterpolicy_t *filter; /* NULL: none */
};

struct session {
    leveldb_t *db;
    leveldb_writeoptions_t *writes[2]; /* plain, synced */
    leveldb_readoptions_t *reads;
    leveldb_writebatch_t *batch;
    char *value; /* of the last get */
    uint32_t multi_count;
    char **multi; /* owned; values of the last multiget */
};

static void check(const char *error, const char *what)
{
    if (error != NULL)
        die("leveldb: %s: %s", what, error);
}

static void describe(char *text, size_t capacity)
{
    snprintf(text, capacity, "LevelDB %d.%d", leveldb_major_version(), leveldb_minor_version());
}

/* Twice the data: while it compacts, files that go and files that come are both open. */
static uint64_t open_files(const struct bench_options *o)
{
    struct rlimit limit = {.rlim_cur = FILES_AT_LEAST + FILES_FOR_BENCH};
    uint64_t wanted = 2 * o->key_count * (o->key_size + o->value_size) / FILE_SIZE;
    getrlimit(RLIMIT_NOFILE, &limit);
    uint64_t most =
        limit.rlim_cur > 2 * FILES_FOR_BENCH ? limit.rlim_cur - FILES_FOR_BENCH : FILES_FOR_BENCH;
    wanted = wanted < FILES_AT_LEAST ? FILES_AT_LEAST : wanted;
    return wanted < most ? wanted : most;
}

static void settings(const struct bench_options *o, char *text, size_t capacity)
{
    snprintf(text, capacity,
             "write_buffer_size=%llu cache=%llu bloom=%u max_open_files=%llu compression=%s; "
             "log written at each put, synced when asked; one background thread",
             (unsigned long long)o->memtable_size, (unsigned long long)o->cache_size,
             o->filter_bits, (unsigned long long)open_files(o),
             o->compress ? COMPRESSION_NAME : "none");
}

static void *open_leveldb(const struct bench_options *o, const char *directory)
{
    struct database *d = calloc(1, sizeof *d);
    char *error = NULL;
    if (d == NULL)
        die("out of memory");
    d->options = leveldb_options_create();
    d->cache = leveldb_cache_create_lru(o->cache_size);
    leveldb_options_set_create_if_missing(d->options, 1);
    leveldb_options_set_write_buffer_size(d->options, o->memtable_size);
    leveldb_options_set_cache(d->options, d->cache);
    leveldb_options_set_max_open_files(d->options, (int)open_files(o));
    leveldb_options_set_compression(d->options,
                                    o->compress ? (int)compression : leveldb_no_compression);
    if (o->filter_bits > 0) {
        d->filter = leveldb_filterpolicy_create_bloom((int)o->filter_bits);
        leveldb_options_set_filter_policy(d->options, d->filter);
    }
    d->db = leveldb_open(d->options, directory, &error);
    check(error, "open");
    return d;
}

static void close_leveldb(void *db)
{
    struct database *d = db;
    leveldb_close(d->db);
    leveldb_options_destroy(d->options);
    leveldb_cache_destroy(d->cache);
    if (d->filter != NULL)
        leveldb_filterpolicy_destroy(d->filter);
    free(d);
}

static void destroy_leveldb(const char *directory)
{
    leveldb_options_t *options = leveldb_options_create();
    char *error = NULL;
    leveldb_destroy_db(options, directory, &error);
    check(error, "destroy");
    leveldb_options_destroy(options);
}

static void *session_open(void *db, const struct bench_options *o)
{
    struct database *d = db;
    struct session *s = calloc(1, sizeof *s);
    char **multi = calloc(o->multiget_count, sizeof *multi);
    if (s == NULL || multi == NULL)
        die("out of memory");
    *s = (struct session){.db = d->db,
                          .writes = {leveldb_writeoptions_create(), leveldb_writeoptions_create()},
                          .reads = leveldb_readoptions_create(),
                          .batch = leveldb_writebatch_create(),
                          .multi_count = o->multiget_count,
                          .multi = multi};
    leveldb_writeoptions_set_sync(s->writes[1], 1);
    return s;
}

static void release_values(struct session *s)
{
    leveldb_free(s->value);
    s->value = NULL;
    for (uint32_t i = 0; i < s->multi_count; i++) {
        leveldb_free(s->multi[i]);
        s->multi[i] = NULL;
    }
}

static void session_close(void *session)
{
    struct session *s = session;
    release_values(s);
    leveldb_writebatch_destroy(s->batch);
    leveldb_readoptions_destroy(s->reads);
    leveldb_writeoptions_destroy(s->writes[0]);
    leveldb_writeoptions_destroy(s->writes[1]);
    free(s->multi);
    free(s);
}

static void put(void *session, lsm_slice key, lsm_slice value, bool sync)
{
    struct session *s = session;
    char *error = NULL;
    leveldb_put(s->db, s->writes[sync], key.data, key.size, value.data, value.size, &error);
    check(error, "put");
}

static void remove_key(void *session, lsm_slice key, bool sync)
{
    struct session *s = session;
    char *error = NULL;
    leveldb_delete(s->db, s->writes[sync], key.data, key.size, &error);
    check(error, "delete");
}

static void batch_put(void *session, lsm_slice key, lsm_slice value)
{
    struct session *s = session;
    leveldb_writebatch_put(s->batch, key.data, key.size, value.data, value.size);
}

static void batch_write(void *session, bool sync)
{
    struct session *s = session;
    char *error = NULL;
    leveldb_write(s->db, s->writes[sync], s->batch, &error);
    check(error, "write");
    leveldb_writebatch_clear(s->batch);
}

static char *get_copy(struct session *s, lsm_slice key, lsm_slice *value)
{
    char *error = NULL;
    char *copy = leveldb_get(s->db, s->reads, key.data, key.size, &value->size, &error);
    check(error, "get");
    value->data = copy;
    return copy;
}

static bool get(void *session, lsm_slice key, lsm_slice *value)
{
    struct session *s = session;
    leveldb_free(s->value);
    s->value = get_copy(s, key, value);
    return s->value != NULL;
}

static void multi_get(void *session, size_t count, const lsm_slice *keys, lsm_slice *values)
{
    struct session *s = session;
    release_values(s);
    for (size_t i = 0; i < count; i++)
        s->multi[i] = get_copy(s, keys[i], &values[i]);
}

static void *iter_open(void *session)
{
    struct session *s = session;
    return leveldb_create_iterator(s->db, s->reads);
}

static void iter_close(void *iter)
{
    leveldb_iter_destroy(iter);
}

static bool entry_here(const leveldb_iterator_t *iter, struct engine_entry *entry)
{
    if (!leveldb_iter_valid(iter)) {
        char *error = NULL;
        leveldb_iter_get_error(iter, &error);
        check(error, "iterator");
        return false;
    }
    entry->key.data = leveldb_iter_key(iter, &entry->key.size);
    entry->value.data = leveldb_iter_value(iter, &entry->value.size);
    return true;
}

static bool iter_first(void *iter, struct engine_entry *entry)
{
    leveldb_iter_seek_to_first(iter);
    return entry_here(iter, entry);
}

static bool iter_last(void *iter, struct engine_entry *entry)
{
    leveldb_iter_seek_to_last(iter);
    return entry_here(iter, entry);
}

static bool iter_seek(void *iter, lsm_slice key, struct engine_entry *entry)
{
    leveldb_iter_seek(iter, key.data, key.size);
    return entry_here(iter, entry);
}

static bool iter_next(void *iter, struct engine_entry *entry)
{
    leveldb_iter_next(iter);
    return entry_here(iter, entry);
}

static bool iter_prev(void *iter, struct engine_entry *entry)
{
    leveldb_iter_prev(iter);
    return entry_here(iter, entry);
}

/* There is no call for it; a compaction of a range writes the memtable first, and this range holds
 * nothing else to compact. */
static void flush_leveldb(void *db)
{
    struct database *d = db;
    size_t size = sizeof BEYOND_ALL_KEYS - 1;
    leveldb_compact_range(d->db, BEYOND_ALL_KEYS, size, BEYOND_ALL_KEYS, size);
}

static void compact_leveldb(void *db)
{
    struct database *d = db;
    leveldb_compact_range(d->db, NULL, 0, NULL, 0);
}

static void wait_idle(void *db)
{
    (void)db; /* it does not tell what it is at */
    machine_wait_until_quiet();
}

static uint64_t bytes_written(void *db)
{
    (void)db;
    return 0;
}

const struct engine engine_leveldb = {
    .name = "leveldb",
    .describe = describe,
    .settings = settings,
    .open = open_leveldb,
    .close = close_leveldb,
    .destroy = destroy_leveldb,
    .session_open = session_open,
    .session_close = session_close,
    .put = put,
    .remove = remove_key,
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
    .flush = flush_leveldb,
    .compact = compact_leveldb,
    .wait_idle = wait_idle,
    .bytes_written = bytes_written,
};
