/*
 * What a storage engine must offer to be measured: one table of functions a peer, the same loops
 * for all. A driver dies with a message when its engine fails: there is no result then.
 *
 * A session is one thread's handle (write options, batch, pinned value); an iterator belongs to the
 * thread that opened it. Slices handed out are valid until the next call on the same session or
 * iterator.
 */
#ifndef BENCH_ENGINE_H
#define BENCH_ENGINE_H

#include "bench/async.h"
#include "bench/options.h"
#include "engine/lsm.h"

struct engine_entry {
    lsm_slice key;
    lsm_slice value;
};

struct engine {
    const char *name;

    /* One line: version and what a reader of the figures must know about this build. */
    void (*describe)(char *text, size_t capacity);

    /* One line: how it is set up for these options, in its own words. */
    void (*settings)(const struct bench_options *o, char *text, size_t capacity);

    /* Bytes that these options tell it to keep to, all in all; 0: none. NULL: there is no such. */
    uint64_t (*bound)(const struct bench_options *o);

    bool many_processes; /* several may have one database open for reading and writing */

    void *(*open)(const struct bench_options *o, const char *directory); /* creates when missing */
    void (*close)(void *db);
    void (*destroy)(const char *directory); /* nothing when there is no database */

    void *(*session_open)(void *db, const struct bench_options *o);
    void (*session_close)(void *session);

    void (*put)(void *session, lsm_slice key, lsm_slice value, bool sync);
    void (*remove)(void *session, lsm_slice key, bool sync);
    /* The keys in [first, limit); NULL: the engine has no call for it. */
    void (*remove_range)(void *session, lsm_slice first, lsm_slice limit, bool sync);
    void (*batch_put)(void *session, lsm_slice key, lsm_slice value);
    void (*batch_write)(void *session, bool sync);               /* empties the batch */
    bool (*get)(void *session, lsm_slice key, lsm_slice *value); /* false: not there */
    /* values[i].data is NULL when keys[i] is not there. At most --multiget-size keys. */
    void (*multi_get)(void *session, size_t count, const lsm_slice *keys, lsm_slice *values);

    /* Each move says whether there is an entry there, and gives it. */
    void *(*iter_open)(void *session);
    void (*iter_close)(void *iter);
    bool (*iter_first)(void *iter, struct engine_entry *entry);
    bool (*iter_last)(void *iter, struct engine_entry *entry);
    bool (*iter_seek)(void *iter, lsm_slice key, struct engine_entry *entry);
    bool (*iter_next)(void *iter, struct engine_entry *entry);
    bool (*iter_prev)(void *iter, struct engine_entry *entry);

    void (*flush)(void *db);
    void (*compact)(void *db);   /* everything, into the lowest level */
    void (*wait_idle)(void *db); /* until no background work is due */

    /* A durable copy, which opens as a database of its own, in the new directory `path`; what has
     * been put is in it. NULL: the engine has no such call. */
    void (*checkpoint)(void *db, const char *path);

    /* Bytes the engine says it has written to logs and tables since it was opened; 0: unknown. */
    uint64_t (*bytes_written)(void *db);

    const struct engine_async *async; /* NULL: it has no such calls */
};

extern const struct engine engine_lsm;
#ifdef HAVE_ROCKSDB
extern const struct engine engine_rocksdb;
#endif
#ifdef HAVE_LEVELDB
extern const struct engine engine_leveldb;
#endif
#ifdef HAVE_LMDB
extern const struct engine engine_lmdb, engine_lmdb_writemap;
#endif
#ifdef HAVE_WIREDTIGER
extern const struct engine engine_wiredtiger;
#endif

/* The engine of that name; dies when there is none, or none in this build. */
const struct engine *engine_find(const char *name);

/* A name a line, of those in this build; the others to stderr, with what they need. */
void engine_print_list(void);

#endif
