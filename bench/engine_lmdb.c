/*
 * LMDB, twice: as it comes, and with a writable map (lmdb-writemap), which its documentation calls
 * faster and less safe against stray pointers. Reads keep one read-only transaction a session and
 * reset and renew it for each call, and cursors likewise, as lmdb.h advises.
 *
 * A write is a transaction of its own. Without sync it commits under MDB_NOSYNC: the pages are in
 * the page cache, where the death of this process does not hurt them. (A power cut may then hurt
 * the whole database, not only the last writes as with the engines that keep a log.) The flag is
 * switched by who holds the write lock, just before its commit.
 *
 * LMDB has no cache of its own: --cache and --memtable say nothing to it.
 */
#include "bench/engine.h"
#include "bench/files.h"

#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_SIZE_LEAST    (UINT64_C(1) << 30)
#define MAP_SIZE_FACTOR   8  /* times keys and values: half-full pages, room for inserts */
#define READERS_PER_TASK  4  /* a session's own transaction and its iterators' */
#define READERS_FOR_OTHER 64 /* tools that look in */
#define FILE_MODE         0600
#define DIRECTORY_MODE    0700

struct database {
    MDB_env *env;
    MDB_dbi dbi;
    unsigned flags;
    char *directory;
    uint64_t map_size;
    unsigned readers;
};

struct session {
    struct database *database;
    MDB_txn *read;  /* reset between calls unless the last call's values are still out */
    MDB_txn *batch; /* NULL: nothing batched */
    bool reading;
    struct iterator *spare; /* owned; closed, to be renewed; NULL: none */
};

struct iterator {
    struct session *session;
    MDB_txn *txn;
    MDB_cursor *cursor;
};

static void check(int error, const char *what)
{
    if (error != 0)
        die("lmdb: %s: %s", what, mdb_strerror(error));
}

static void describe(char *text, size_t capacity)
{
    snprintf(text, capacity, "%s", mdb_version(NULL, NULL, NULL));
}

static uint64_t map_size(const struct bench_options *o)
{
    return MAP_SIZE_LEAST + MAP_SIZE_FACTOR * o->key_count * (o->key_size + o->value_size);
}

/* Read-ahead only hurts random reads of what does not fit into memory. */
static unsigned open_flags(const struct bench_options *o, bool writemap)
{
    bool larger = o->memory > 0 && o->key_count * (o->key_size + o->value_size) > o->memory;
    return MDB_NOTLS | (writemap ? MDB_WRITEMAP : 0u) | (larger ? MDB_NORDAHEAD : 0u);
}

static void write_settings(const struct bench_options *o, bool writemap, char *text,
                           size_t capacity)
{
    snprintf(text, capacity,
             "mapsize=%llu flags=NOTLS%s%s, NOSYNC unless synced; no cache, filter or compression",
             (unsigned long long)map_size(o), writemap ? "|WRITEMAP" : "",
             (open_flags(o, writemap) & MDB_NORDAHEAD) != 0 ? "|NORDAHEAD" : "");
}

static void settings_plain(const struct bench_options *o, char *text, size_t capacity)
{
    write_settings(o, false, text, capacity);
}

static void settings_writemap(const struct bench_options *o, char *text, size_t capacity)
{
    write_settings(o, true, text, capacity);
}

static void open_env(struct database *d)
{
    MDB_txn *txn;
    check(mdb_env_create(&d->env), "create");
    check(mdb_env_set_mapsize(d->env, d->map_size), "map size");
    check(mdb_env_set_maxreaders(d->env, d->readers), "readers");
    check(mdb_env_open(d->env, d->directory, d->flags, FILE_MODE), "open");
    check(mdb_txn_begin(d->env, NULL, 0, &txn), "begin");
    check(mdb_dbi_open(txn, NULL, 0, &d->dbi), "open");
    check(mdb_txn_commit(txn), "commit");
}

static struct database *open_lmdb(const struct bench_options *o, const char *directory,
                                  bool writemap)
{
    struct database *d = calloc(1, sizeof *d);
    if (d == NULL || (d->directory = strdup(directory)) == NULL)
        die("out of memory");
    if (mkdir(directory, DIRECTORY_MODE) != 0 && errno != EEXIST)
        die("lmdb: cannot make '%s': %s", directory, strerror(errno));
    d->flags = open_flags(o, writemap);
    d->map_size = map_size(o);
    d->readers = (o->threads + 1) * o->processes * READERS_PER_TASK + READERS_FOR_OTHER;
    open_env(d);
    return d;
}

static void *open_plain(const struct bench_options *o, const char *directory)
{
    return open_lmdb(o, directory, false);
}

static void *open_writemap(const struct bench_options *o, const char *directory)
{
    return open_lmdb(o, directory, true);
}

static void close_lmdb(void *db)
{
    struct database *d = db;
    mdb_env_close(d->env);
    free(d->directory);
    free(d);
}

static char *path_of(const char *directory, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", directory, name) < 0)
        die("out of memory");
    return path;
}

static void remove_file(const char *directory, const char *name)
{
    char *path = path_of(directory, name);
    if (unlink(path) != 0 && errno != ENOENT)
        die("lmdb: cannot remove '%s': %s", path, strerror(errno));
    free(path);
}

static void destroy_lmdb(const char *directory)
{
    remove_file(directory, "data.mdb");
    remove_file(directory, "lock.mdb");
}

static void *session_open(void *db, const struct bench_options *o)
{
    (void)o;
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL)
        die("out of memory");
    s->database = db;
    check(mdb_txn_begin(s->database->env, NULL, MDB_RDONLY, &s->read), "begin");
    mdb_txn_reset(s->read);
    return s;
}

static void iter_free(struct iterator *i)
{
    if (i == NULL)
        return;
    mdb_cursor_close(i->cursor);
    mdb_txn_abort(i->txn);
    free(i);
}

static void session_close(void *session)
{
    struct session *s = session;
    iter_free(s->spare);
    mdb_txn_abort(s->read);
    free(s);
}

static MDB_val val_of(lsm_slice slice)
{
    return (MDB_val){slice.size, (void *)(uintptr_t)slice.data};
}

static lsm_slice slice_of(MDB_val val)
{
    return LSM_SLICE(val.mv_data, val.mv_size);
}

static MDB_txn *begin_write(struct session *s)
{
    MDB_txn *txn;
    if (s->reading) { /* or its old snapshot would keep pages from being used again */
        mdb_txn_reset(s->read);
        s->reading = false;
    }
    check(mdb_txn_begin(s->database->env, NULL, 0, &txn), "begin");
    return txn;
}

static void commit(struct session *s, MDB_txn *txn, bool sync)
{
    unsigned flags = 0;
    check(mdb_env_get_flags(s->database->env, &flags), "flags");
    if (((flags & MDB_NOSYNC) == 0) != sync)
        check(mdb_env_set_flags(s->database->env, MDB_NOSYNC, !sync), "flags");
    check(mdb_txn_commit(txn), "commit");
}

static void put_into(struct session *s, MDB_txn *txn, lsm_slice key, lsm_slice value)
{
    MDB_val k = val_of(key), v = val_of(value);
    check(mdb_put(txn, s->database->dbi, &k, &v, 0), "put");
}

static void put(void *session, lsm_slice key, lsm_slice value, bool sync)
{
    struct session *s = session;
    MDB_txn *txn = begin_write(s);
    put_into(s, txn, key, value);
    commit(s, txn, sync);
}

static void remove_key(void *session, lsm_slice key, bool sync)
{
    struct session *s = session;
    MDB_txn *txn = begin_write(s);
    MDB_val k = val_of(key);
    int error = mdb_del(txn, s->database->dbi, &k, NULL);
    check(error == MDB_NOTFOUND ? 0 : error, "delete");
    commit(s, txn, sync);
}

static void remove_range(void *session, lsm_slice first, lsm_slice limit, bool sync)
{
    struct session *s = session;
    MDB_txn *txn = begin_write(s);
    MDB_cursor *cursor;
    MDB_val k = val_of(first), end = val_of(limit), v;
    check(mdb_cursor_open(txn, s->database->dbi, &cursor), "cursor");
    int error = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (error == 0 && mdb_cmp(txn, s->database->dbi, &k, &end) < 0) {
        check(mdb_cursor_del(cursor, 0), "delete");
        error = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    check(error == MDB_NOTFOUND ? 0 : error, "cursor");
    mdb_cursor_close(cursor);
    commit(s, txn, sync);
}

static void batch_put(void *session, lsm_slice key, lsm_slice value)
{
    struct session *s = session;
    if (s->batch == NULL)
        s->batch = begin_write(s);
    put_into(s, s->batch, key, value);
}

static void batch_write(void *session, bool sync)
{
    struct session *s = session;
    if (s->batch != NULL)
        commit(s, s->batch, sync);
    s->batch = NULL;
}

/* The newest state; what an earlier call gave out is let go. */
static void renew(struct session *s)
{
    if (s->reading)
        mdb_txn_reset(s->read);
    check(mdb_txn_renew(s->read), "renew");
    s->reading = true;
}

static bool get_value(struct session *s, lsm_slice key, lsm_slice *value)
{
    MDB_val k = val_of(key), v;
    int error = mdb_get(s->read, s->database->dbi, &k, &v);
    if (error == MDB_NOTFOUND)
        return false;
    check(error, "get");
    *value = slice_of(v);
    return true;
}

static bool get(void *session, lsm_slice key, lsm_slice *value)
{
    struct session *s = session;
    renew(s);
    return get_value(s, key, value);
}

static void multi_get(void *session, size_t count, const lsm_slice *keys, lsm_slice *values)
{
    struct session *s = session;
    renew(s);
    for (size_t i = 0; i < count; i++) {
        if (!get_value(s, keys[i], &values[i]))
            values[i] = LSM_SLICE(NULL, 0);
    }
}

static void *iter_open(void *session)
{
    struct session *s = session;
    struct iterator *i = s->spare;
    if (i != NULL) {
        check(mdb_txn_renew(i->txn), "renew");
        check(mdb_cursor_renew(i->txn, i->cursor), "renew");
        s->spare = NULL;
        return i;
    }
    if ((i = calloc(1, sizeof *i)) == NULL)
        die("out of memory");
    i->session = s;
    check(mdb_txn_begin(s->database->env, NULL, MDB_RDONLY, &i->txn), "begin");
    check(mdb_cursor_open(i->txn, s->database->dbi, &i->cursor), "cursor");
    return i;
}

static void iter_close(void *iter)
{
    struct iterator *i = iter;
    iter_free(i->session->spare);
    mdb_txn_reset(i->txn);
    i->session->spare = i;
}

static bool move(struct iterator *i, MDB_val key, MDB_cursor_op how, struct engine_entry *entry)
{
    MDB_val value;
    int error = mdb_cursor_get(i->cursor, &key, &value, how);
    if (error == MDB_NOTFOUND)
        return false;
    check(error, "cursor");
    *entry = (struct engine_entry){slice_of(key), slice_of(value)};
    return true;
}

static bool iter_first(void *iter, struct engine_entry *entry)
{
    return move(iter, (MDB_val){0}, MDB_FIRST, entry);
}

static bool iter_last(void *iter, struct engine_entry *entry)
{
    return move(iter, (MDB_val){0}, MDB_LAST, entry);
}

static bool iter_seek(void *iter, lsm_slice key, struct engine_entry *entry)
{
    return move(iter, val_of(key), MDB_SET_RANGE, entry);
}

static bool iter_next(void *iter, struct engine_entry *entry)
{
    return move(iter, (MDB_val){0}, MDB_NEXT, entry);
}

static bool iter_prev(void *iter, struct engine_entry *entry)
{
    return move(iter, (MDB_val){0}, MDB_PREV, entry);
}

static void flush_lmdb(void *db)
{
    struct database *d = db;
    check(mdb_env_sync(d->env, 1), "sync");
}

/* As mdb_copy -c does it: into another file, which then takes the place of the first. */
static void compact_lmdb(void *db)
{
    struct database *d = db;
    char *copy = path_of(d->directory, "compacted"), *from = path_of(copy, "data.mdb");
    char *to = path_of(d->directory, "data.mdb");
    if (mkdir(copy, DIRECTORY_MODE) != 0)
        die("lmdb: cannot make '%s': %s", copy, strerror(errno));
    check(mdb_env_copy2(d->env, copy, MDB_CP_COMPACT), "copy");
    mdb_env_close(d->env);
    if (rename(from, to) != 0 || rmdir(copy) != 0)
        die("lmdb: cannot put '%s' in place: %s", from, strerror(errno));
    open_env(d);
    free(copy);
    free(from);
    free(to);
}

static void wait_idle(void *db)
{
    (void)db; /* nothing runs in the background */
}

/* Writes all pages that are in use or were; it does not sync the copy itself. */
static void checkpoint(void *db, const char *path)
{
    struct database *d = db;
    files_make_directory(path);
    check(mdb_env_copy2(d->env, path, 0), "copy");
    char *file = path_of(path, "data.mdb");
    files_sync(file);
    files_sync(path);
    free(file);
}

static uint64_t bytes_written(void *db)
{
    (void)db;
    return 0;
}

#define LMDB_ENGINE(text, variant)                                                                 \
    {                                                                                              \
        .name = text, .describe = describe, .settings = settings_##variant,                        \
        .many_processes = true, .open = open_##variant, .close = close_lmdb,                       \
        .destroy = destroy_lmdb, .session_open = session_open, .session_close = session_close,     \
        .put = put, .remove = remove_key, .remove_range = remove_range, .batch_put = batch_put,    \
        .batch_write = batch_write, .get = get, .multi_get = multi_get, .iter_open = iter_open,    \
        .iter_close = iter_close, .iter_first = iter_first, .iter_last = iter_last,                \
        .iter_seek = iter_seek, .iter_next = iter_next, .iter_prev = iter_prev,                    \
        .flush = flush_lmdb, .compact = compact_lmdb, .wait_idle = wait_idle,                      \
        .checkpoint = checkpoint, .bytes_written = bytes_written                                   \
    }

const struct engine engine_lmdb = LMDB_ENGINE("lmdb", plain);
const struct engine engine_lmdb_writemap = LMDB_ENGINE("lmdb-writemap", writemap);
