/*
 * WiredTiger: one B-tree table of raw keys and values, log on, a checkpoint each minute or 2 GB of
 * log, as MongoDB runs it and the manual's section on durability describes.
 *
 * A put is a transaction of its own that writes its log record to the system at commit
 * (transaction_sync method=none), so that it outlives this process. A synced put does that and then
 * waits for the log to reach the disk (WT_SESSION.log_flush), which several threads share: measured
 * 1.2 to 3 times faster than to let each commit sync (method=fsync).
 */
#include "bench/engine.h"
#include "bench/files.h"
#include "bench/machine.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wiredtiger.h>

#define TABLE          "table:bench"
#define SNAPPY_LIBRARY "libwiredtiger_snappy.so"
#define CONFIG_SIZE    1024
#define MEMTABLE_COUNT 3 /* of the others; here that memory is the cache's */
#define SESSIONS_SPARE 100
#define CURSORS_A_TASK 4
#define CACHE_LEAST    (UINT64_C(1) << 20) /* it refuses less */
#define DIRECTORY_MODE 0700

struct database {
    WT_CONNECTION *connection;
    WT_SESSION *session; /* for calls on the whole database; not by two threads at once */
};

/* Bytes that are put one behind the other; what was added stays at its offset, not address. */
struct store {
    uint8_t *bytes; /* owned */
    size_t size;
    size_t capacity;
};

struct session {
    struct database *database;
    WT_SESSION *wt;
    WT_CURSOR *cursor;
    struct store batch; /* struct pair_head, key, value; again */
    struct store multi; /* values of the last multiget */
};

struct pair_head {
    size_t key_size;
    size_t value_size;
};

static void check(int error, const char *what)
{
    if (error != 0)
        die("wiredtiger: %s: %s", what, wiredtiger_strerror(error));
}

static void describe(char *text, size_t capacity)
{
    snprintf(text, capacity, "%s", wiredtiger_version(NULL, NULL, NULL));
}

/* The compressor is a library beside WiredTiger's own. */
static bool has_snappy(void)
{
    void *library = dlopen(SNAPPY_LIBRARY, RTLD_LAZY);
    if (library != NULL)
        dlclose(library);
    return library != NULL;
}

/* It takes more than its cache_size, so within --memory it gets no more than its half: with the
 * memtables' share as well the kernel kills it. */
static uint64_t cache_size(const struct bench_options *o)
{
    uint64_t size = o->cache_size + (o->memory > 0 ? 0 : MEMTABLE_COUNT * o->memtable_size);
    return size < CACHE_LEAST ? CACHE_LEAST : size;
}

static void connection_config(const struct bench_options *o, char *text, size_t capacity)
{
    snprintf(text, capacity,
             "create,cache_size=%llu,session_max=%u,log=(enabled=true),"
             "transaction_sync=(enabled=true,method=none),checkpoint=(wait=60,log_size=2GB),"
             "eviction=(threads_min=1,threads_max=2)%s%s%s",
             (unsigned long long)cache_size(o), o->threads * CURSORS_A_TASK + SESSIONS_SPARE,
             o->compress && has_snappy() ? ",extensions=[" : "",
             o->compress && has_snappy() ? SNAPPY_LIBRARY : "",
             o->compress && has_snappy() ? "]" : "");
}

static const char *table_config(const struct bench_options *o)
{
    return o->compress && has_snappy() ? "key_format=u,value_format=u,block_compressor=snappy"
                                       : "key_format=u,value_format=u";
}

static void settings(const struct bench_options *o, char *text, size_t capacity)
{
    char config[CONFIG_SIZE];
    connection_config(o, config, sizeof config);
    snprintf(text, capacity, "%s; table: %s%s", config, table_config(o),
             o->compress && !has_snappy() ? " (no compressor is installed)" : "");
}

static void *open_wiredtiger(const struct bench_options *o, const char *directory)
{
    struct database *d = calloc(1, sizeof *d);
    char config[CONFIG_SIZE];
    if (d == NULL)
        die("out of memory");
    if (mkdir(directory, DIRECTORY_MODE) != 0 && errno != EEXIST)
        die("wiredtiger: cannot make '%s': %s", directory, strerror(errno));
    connection_config(o, config, sizeof config);
    check(wiredtiger_open(directory, NULL, config, &d->connection), "open");
    check(d->connection->open_session(d->connection, NULL, NULL, &d->session), "open");
    check(d->session->create(d->session, TABLE, table_config(o)), "create");
    return d;
}

static void close_wiredtiger(void *db)
{
    struct database *d = db;
    check(d->connection->close(d->connection, NULL), "close");
    free(d);
}

/* Only files that WiredTiger names; the folder may hold others. */
static void destroy_wiredtiger(const char *directory)
{
    DIR *folder = opendir(directory);
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        bool its_own = strncmp(entry->d_name, "WiredTiger", strlen("WiredTiger")) == 0 ||
                       strcmp(entry->d_name, "bench.wt") == 0;
        if (its_own && unlinkat(dirfd(folder), entry->d_name, 0) != 0)
            die("wiredtiger: cannot remove '%s': %s", entry->d_name, strerror(errno));
    }
    if (folder != NULL)
        closedir(folder);
}

static void *session_open(void *db, const struct bench_options *o)
{
    (void)o;
    struct database *d = db;
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL)
        die("out of memory");
    s->database = d;
    check(d->connection->open_session(d->connection, NULL, NULL, &s->wt), "session");
    check(s->wt->open_cursor(s->wt, TABLE, NULL, NULL, &s->cursor), "cursor");
    return s;
}

static void session_close(void *session)
{
    struct session *s = session;
    check(s->wt->close(s->wt, NULL), "close");
    free(s->batch.bytes);
    free(s->multi.bytes);
    free(s);
}

static WT_ITEM item_of(lsm_slice slice)
{
    return (WT_ITEM){.data = slice.data, .size = slice.size};
}

static void set_key(WT_CURSOR *cursor, lsm_slice key)
{
    WT_ITEM item = item_of(key);
    cursor->set_key(cursor, &item);
}

static int insert(WT_CURSOR *cursor, lsm_slice key, lsm_slice value)
{
    WT_ITEM item = item_of(value);
    set_key(cursor, key);
    cursor->set_value(cursor, &item);
    return cursor->insert(cursor);
}

static void sync_log(struct session *s, bool sync)
{
    if (sync)
        check(s->wt->log_flush(s->wt, "sync=on"), "log_flush");
}

static void put(void *session, lsm_slice key, lsm_slice value, bool sync)
{
    struct session *s = session;
    int error;
    do
        error = insert(s->cursor, key, value);
    while (error == WT_ROLLBACK);
    check(error, "insert");
    sync_log(s, sync);
}

static void remove_key(void *session, lsm_slice key, bool sync)
{
    struct session *s = session;
    int error;
    do {
        set_key(s->cursor, key);
        error = s->cursor->remove(s->cursor);
    } while (error == WT_ROLLBACK);
    check(error == WT_NOTFOUND ? 0 : error, "remove");
    sync_log(s, sync);
}

/* Its ranges hold their last key too; one that is not there may stand for it. */
static void remove_range(void *session, lsm_slice first, lsm_slice limit, bool sync)
{
    struct session *s = session;
    WT_CURSOR *start, *stop;
    int order = 0;
    check(s->wt->open_cursor(s->wt, TABLE, NULL, NULL, &start), "cursor");
    check(s->wt->open_cursor(s->wt, TABLE, NULL, NULL, &stop), "cursor");
    set_key(start, first);
    set_key(stop, limit);
    int error = stop->search_near(stop, &order);
    if (error == 0 && order >= 0)
        error = stop->prev(stop);
    if (error == 0)
        error = s->wt->truncate(s->wt, NULL, start, stop, NULL);
    check(error == WT_NOTFOUND ? 0 : error, "truncate");
    check(start->close(start), "close");
    check(stop->close(stop), "close");
    sync_log(s, sync);
}

static void store_add(struct store *store, const void *bytes, size_t size)
{
    if (store->capacity - store->size < size) {
        size_t capacity = 2 * (store->size + size);
        uint8_t *larger = realloc(store->bytes, capacity);
        if (larger == NULL)
            die("out of memory");
        store->bytes = larger;
        store->capacity = capacity;
    }
    memcpy(store->bytes + store->size, bytes, size);
    store->size += size;
}

/* Kept until it is written: a transaction that is rolled back has to be done again. */
static void batch_put(void *session, lsm_slice key, lsm_slice value)
{
    struct session *s = session;
    struct pair_head head = {key.size, value.size};
    store_add(&s->batch, &head, sizeof head);
    store_add(&s->batch, key.data, key.size);
    store_add(&s->batch, value.data, value.size);
}

static int insert_batch(struct session *s)
{
    struct pair_head head;
    int error = 0;
    for (size_t at = 0; error == 0 && at < s->batch.size;) {
        memcpy(&head, s->batch.bytes + at, sizeof head);
        at += sizeof head;
        const uint8_t *key = s->batch.bytes + at, *value = key + head.key_size;
        error = insert(s->cursor, LSM_SLICE(key, head.key_size), LSM_SLICE(value, head.value_size));
        at += head.key_size + head.value_size;
    }
    return error;
}

static void batch_write(void *session, bool sync)
{
    struct session *s = session;
    int error;
    do {
        check(s->wt->begin_transaction(s->wt, NULL), "begin");
        error = insert_batch(s);
        if (error == 0)
            error = s->wt->commit_transaction(s->wt, NULL);
        else
            check(s->wt->rollback_transaction(s->wt, NULL), "rollback");
    } while (error == WT_ROLLBACK);
    check(error, "commit");
    s->batch.size = 0;
    sync_log(s, sync);
}

static lsm_slice value_here(WT_CURSOR *cursor)
{
    WT_ITEM item;
    check(cursor->get_value(cursor, &item), "value");
    return LSM_SLICE(item.data, item.size);
}

static bool get(void *session, lsm_slice key, lsm_slice *value)
{
    struct session *s = session;
    set_key(s->cursor, key);
    int error = s->cursor->search(s->cursor);
    if (error == WT_NOTFOUND)
        return false;
    check(error, "search");
    *value = value_here(s->cursor);
    return true;
}

/* A cursor holds one value: they are copied. */
static void multi_get(void *session, size_t count, const lsm_slice *keys, lsm_slice *values)
{
    struct session *s = session;
    s->multi.size = 0;
    for (size_t i = 0; i < count; i++) {
        lsm_slice value;
        bool found = get(session, keys[i], &value);
        values[i] = LSM_SLICE(NULL, found ? value.size : SIZE_MAX);
        if (found)
            store_add(&s->multi, value.data, value.size);
    }
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (values[i].size == SIZE_MAX) {
            values[i].size = 0;
            continue;
        }
        values[i].data = s->multi.bytes + at;
        at += values[i].size;
    }
}

static void *iter_open(void *session)
{
    struct session *s = session;
    WT_CURSOR *cursor; /* closed ones are kept by the session for the next */
    check(s->wt->open_cursor(s->wt, TABLE, NULL, NULL, &cursor), "cursor");
    return cursor;
}

static void iter_close(void *iter)
{
    WT_CURSOR *cursor = iter;
    check(cursor->close(cursor), "close");
}

static bool entry_here(WT_CURSOR *cursor, int error, struct engine_entry *entry)
{
    WT_ITEM key;
    if (error == WT_NOTFOUND)
        return false;
    check(error, "cursor");
    check(cursor->get_key(cursor, &key), "key");
    entry->key = LSM_SLICE(key.data, key.size);
    entry->value = value_here(cursor);
    return true;
}

static bool iter_next(void *iter, struct engine_entry *entry)
{
    WT_CURSOR *cursor = iter;
    return entry_here(cursor, cursor->next(cursor), entry);
}

static bool iter_prev(void *iter, struct engine_entry *entry)
{
    WT_CURSOR *cursor = iter;
    return entry_here(cursor, cursor->prev(cursor), entry);
}

static bool iter_first(void *iter, struct engine_entry *entry)
{
    WT_CURSOR *cursor = iter;
    check(cursor->reset(cursor), "reset");
    return iter_next(iter, entry);
}

static bool iter_last(void *iter, struct engine_entry *entry)
{
    WT_CURSOR *cursor = iter;
    check(cursor->reset(cursor), "reset");
    return iter_prev(iter, entry);
}

static bool iter_seek(void *iter, lsm_slice key, struct engine_entry *entry)
{
    WT_CURSOR *cursor = iter;
    int order = 0;
    set_key(cursor, key);
    int error = cursor->search_near(cursor, &order);
    if (error == 0 && order < 0)
        error = cursor->next(cursor);
    return entry_here(cursor, error, entry);
}

static void checkpoint(void *db)
{
    struct database *d = db;
    check(d->session->checkpoint(d->session, NULL), "checkpoint");
}

static void compact_wiredtiger(void *db)
{
    struct database *d = db;
    checkpoint(db);
    check(d->session->compact(d->session, TABLE, "timeout=0"), "compact");
}

/* What is due in the background is the next checkpoint and the eviction of dirty pages. */
static void wait_idle(void *db)
{
    checkpoint(db);
    machine_wait_until_quiet();
}

/* A backup cursor names the files, logs among them, and keeps them whole while they are copied.
 * They go on being written afterwards, so links would not do. */
static void back_up(void *db, const char *path)
{
    struct database *d = db;
    WT_CURSOR *cursor;
    const char *name, *home = d->connection->get_home(d->connection);
    int error;
    files_make_directory(path);
    check(d->session->open_cursor(d->session, "backup:", NULL, NULL, &cursor), "backup");
    while ((error = cursor->next(cursor)) == 0) {
        check(cursor->get_key(cursor, &name), "backup");
        files_copy(home, path, name);
    }
    check(error == WT_NOTFOUND ? 0 : error, "backup");
    check(cursor->close(cursor), "backup");
    files_sync(path);
}

static uint64_t bytes_written(void *db)
{
    (void)db;
    return 0;
}

const struct engine engine_wiredtiger = {
    .name = "wiredtiger",
    .describe = describe,
    .settings = settings,
    .open = open_wiredtiger,
    .close = close_wiredtiger,
    .destroy = destroy_wiredtiger,
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
    .flush = checkpoint,
    .compact = compact_wiredtiger,
    .wait_idle = wait_idle,
    .checkpoint = back_up,
    .bytes_written = bytes_written,
};
