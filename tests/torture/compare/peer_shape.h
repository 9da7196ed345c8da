/*
 * What the C APIs of LevelDB and of RocksDB, which began as a copy of it, do in the same words.
 * Whoever includes this has defined PEER(name), the API's name for it, PEER_NAME, and PEER_TABLES,
 * the endings of tables' names, and defines make_options(), flush() and the peer itself.
 */
#ifndef TESTS_TORTURE_COMPARE_PEER_SHAPE_H
#define TESTS_TORTURE_COMPARE_PEER_SHAPE_H

#include "tests/torture/compare/peer.h"

#include <string.h>
#include <time.h>

#define MEMTABLE_SIZE (256u << 10)

static PEER(options_t) * make_options(bool create);
static void flush(void *db);
static PEER(iterator_t) * held[PEER_MAX_HELD];
static size_t held_count;

static bool ends_in(const char *file, const char *end)
{
    size_t size = strlen(file), length = strlen(end);
    return size > length && strcmp(file + size - length, end) == 0;
}

static enum peer_file kind_of(const char *file)
{
    static const char *const tables[] = PEER_TABLES;
    if (strcmp(file, "CURRENT") == 0)
        return PEER_CURRENT;
    if (strncmp(file, "MANIFEST-", 9) == 0)
        return PEER_MANIFEST;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        if (ends_in(file, tables[i]))
            return PEER_TABLE;
    }
    return ends_in(file, ".log") ? PEER_LOG : PEER_OTHER;
}

static void check(char *error, const char *what)
{
    if (error != NULL)
        peer_die("%s: %s: %s", PEER_NAME, what, error);
}

static void *open_peer(const char *path, bool create)
{
    char *error = NULL;
    PEER(options_t) *options = make_options(create);
    PEER(t) *db = PEER(open)(options, path, &error);
    check(error, "open");
    PEER(options_destroy)(options);
    return db;
}

static void put(void *db, lsm_slice key, lsm_slice value)
{
    char *error = NULL;
    PEER(writeoptions_t) *options = PEER(writeoptions_create)();
    PEER(put)(db, options, key.data, key.size, value.data, value.size, &error);
    check(error, "put");
    PEER(writeoptions_destroy)(options);
}

static void erase(void *db, lsm_slice key)
{
    char *error = NULL;
    PEER(writeoptions_t) *options = PEER(writeoptions_create)();
    PEER(delete)(db, options, key.data, key.size, &error);
    check(error, "delete");
    PEER(writeoptions_destroy)(options);
}

static void compact(void *db)
{
    PEER(compact_range)(db, NULL, 0, NULL, 0);
}

static void hold(void *db)
{
    if (held_count == PEER_MAX_HELD)
        return;
    PEER(readoptions_t) *options = PEER(readoptions_create)();
    held[held_count++] = PEER(create_iterator)(db, options);
    PEER(readoptions_destroy)(options);
}

static void close_peer(void *db)
{
    while (held_count > 0)
        PEER(iter_destroy)(held[--held_count]);
    PEER(close)(db);
}

static bool repair(const char *path)
{
    char *error = NULL;
    PEER(options_t) *options = make_options(false);
    PEER(repair_db)(options, path, &error);
    PEER(options_destroy)(options);
    PEER(free)(error);
    return error == NULL;
}

static bool read_all(const char *path, peer_visit *visit, void *context)
{
    char *error = NULL;
    PEER(options_t) *options = make_options(false);
    PEER(t) *db = PEER(open)(options, path, &error);
    PEER(options_destroy)(options);
    if (error != NULL) {
        PEER(free)(error);
        return false;
    }
    PEER(readoptions_t) *reading = PEER(readoptions_create)();
    PEER(readoptions_set_verify_checksums)(reading, 1);
    PEER(iterator_t) *iter = PEER(create_iterator)(db, reading);
    for (PEER(iter_seek_to_first)(iter); PEER(iter_valid)(iter); PEER(iter_next)(iter)) {
        lsm_slice key, value;
        key.data = PEER(iter_key)(iter, &key.size);
        value.data = PEER(iter_value)(iter, &value.size);
        visit(context, key, value);
    }
    PEER(iter_get_error)(iter, &error);
    PEER(iter_destroy)(iter);
    PEER(readoptions_destroy)(reading);
    PEER(close)(db);
    PEER(free)(error);
    return error == NULL;
}

#define PEER_FUNCTIONS                                                                             \
    .kind_of = kind_of, .open = open_peer, .put = put, .erase = erase, .flush = flush,             \
    .compact = compact, .hold = hold, .close = close_peer, .repair = repair, .read = read_all

#endif
