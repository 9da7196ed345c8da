/* An ingest, between its two files. */
#ifndef ENGINE_DB_INGEST_PRIVATE_H
#define ENGINE_DB_INGEST_PRIVATE_H

#include "engine/compact/intake.h"
#include "engine/db/db_private.h"

enum ingest_state {
    INGEST_OPEN,
    INGEST_FAILED, /* only lsm_ingest_free() is left */
    INGEST_COMMITTED,
};

struct lsm_ingest {
    uint32_t magic;
    enum ingest_state state;
    lsm_db *db;
    lsm_ingest_options options;
    struct compact_env env;
    struct intake *intake; /* NULL unless open */
    struct db_outputs outputs;
    int64_t charged; /* bytes, to the cache */
    uint64_t added_bytes;
    uint64_t sequence;    /* set by the commit, as is */
    uint64_t entry_count; /* */
};

/* Makes the tables of in->intake, which is finished and not empty, part of the database. */
lsm_status ingest_install(lsm_ingest *in, lsm_error *err);

#endif
