/* A storage engine that is damaged and repaired: what tests/torture/compare asks of each. */
#ifndef TESTS_TORTURE_COMPARE_PEER_H
#define TESTS_TORTURE_COMPARE_PEER_H

#include "engine/lsm.h"

#include <stdio.h>
#include <stdlib.h>

#define PEER_MAX_HELD ((size_t)64) /* iterators; more are not opened */

/* What a file of a database is. */
enum peer_file { PEER_OTHER, PEER_TABLE, PEER_LOG, PEER_MANIFEST, PEER_CURRENT };

/* Told every pair that is read. */
typedef void peer_visit(void *context, lsm_slice key, lsm_slice value);

/* Each ends the program (99) where the engine fails on a database that is sound. */
struct peer {
    const char *name;
    enum peer_file (*kind_of)(const char *file);
    void *(*open)(const char *path, bool create);
    void (*put)(void *db, lsm_slice key, lsm_slice value);
    void (*erase)(void *db, lsm_slice key);
    void (*flush)(void *db);   /* memory to tables, and what compactions are due then */
    void (*compact)(void *db); /* everything into the lowest level */
    /* Opens an iterator, which keeps the tables that are there now until close(). */
    void (*hold)(void *db);
    void (*close)(void *db);
    /* False when it could not. */
    bool (*repair)(const char *path);
    /* Reads all pairs; false when the database cannot be opened, or the read stopped early. */
    bool (*read)(const char *path, peer_visit *visit, void *context);
    /* Does the last repair say of this key that it may be affected? NULL: it says nothing. */
    bool (*reports)(lsm_slice key);
};

extern const struct peer peer_lsm;
#ifdef HAVE_LEVELDB
extern const struct peer peer_leveldb;
#endif
#ifdef HAVE_ROCKSDB
extern const struct peer peer_rocksdb;
#endif

__attribute__((noreturn, format(printf, 1, 2))) void peer_die(const char *format, ...);

#endif
