/*
 * What the passes of a verification share. The passes find, verify_report.c counts and tells; what
 * is an error here (memory, a lock, cancelling) ends the whole, what is wrong with the database
 * never does.
 */
#ifndef ENGINE_VERIFY_VERIFY_PRIVATE_H
#define ENGINE_VERIFY_VERIFY_PRIVATE_H

#include "engine/db/view.h"
#include "engine/inspect/finding.h"
#include "engine/inspect/inspect_live.h"
#include "engine/inspect/walk_dir.h"
#include "engine/inspect/walk_manifest.h"
#include "engine/inspect/walk_table.h"
#include "engine/version/lost_edits.h"
#include "engine/version/replay.h"

#include <pthread.h>
#include <stdatomic.h>

#define VERIFY_DEFAULT_THREADS 2u
#define VERIFY_MAX_THREADS     64u
#define VERIFY_DEFAULT_MEMORY  ((uint64_t)64 << 20)
#define VERIFY_OWN_MEMORY      ((uint64_t)12 << 20) /* for everything but the walks, about */
#define VERIFY_MIN_WALK        ((size_t)1 << 20)    /* of one part of a walk */

/* A table or blob file to look at: one that the manifest names, or, without a manifest, one that is
 * there. */
struct verify_table {
    uint64_t number;
    const struct table_meta *meta; /* NULL: not known. Borrowed from the state */
    bool is_blob;                  /* it is a blob file: */
    const struct blob_meta *blob;  /* of which the manifest says this; meta is NULL */
    const struct walk_file *file;  /* NULL: it is not there. Borrowed from the listing */
    bool is_told;                  /* the inventory said already what is wrong with it as a file */
    bool is_sound;                 /* its blocks were read, and nothing was found; set by pass 4 */
    uint64_t *replaced;            /* owned; numbers of the tables that it replaced */
    size_t replaced_count;
};

struct verify {
    lsm_verify_options options;
    lsm_verify_result result; /* guarded by lock, once there are threads */
    const char *path;
    bool is_held; /* by the caller, who owns `io` and `dir`: nobody else can come */
    struct io *io;
    struct io_dir *dir;
    struct walk_env env; /* of walks on the main thread; the threads have copies */
    bool *ignored;       /* by enum finding_id; owned */

    /* who is there */
    lsm_db *db; /* joined; NULL: nobody has it open, or nobody can be joined */
    struct db_view view;
    char current_text[256]; /* of CURRENT, to notice an opening meanwhile */
    size_t current_size;

    /* what the files say */
    uint64_t manifest_number; /* 0: not known */
    uint64_t last_frame;      /* number of its last whole frame */
    struct edit_mark mark;    /* as it was before the manifest was read */
    bool has_uuid;
    struct replay replay; /* state: families and tables */
    bool has_state;       /* a snapshot was read */
    bool state_is_whole;  /* and every edit behind it */
    uint64_t state_bytes; /* that it takes, about */
    struct walk_dir listing;
    struct verify_table *tables; /* and blob files, by number; owned */
    size_t table_count;

    /* the telling; guarded by lock */
    pthread_mutex_t lock;
    lsm_error first_damage;
    bool has_told_damage;
    bool is_stopped; /* by options.first_error */
    _Atomic bool is_cancelled;
    _Atomic bool came_in; /* somebody opened the database meanwhile */

    /* progress */
    unsigned pass;
    _Atomic uint64_t pass_done;
    uint64_t pass_total;
    uint64_t told_ns;
    _Atomic uint64_t bytes_read;
    uint64_t pace_began_ns;
};

/* ---- verify_report.c ------------------------------------------------------------------------- */

/*
 * Tells a finding: counts it, unless it is ignored, and calls the caller. Its family's name is
 * filled in. LSM_CANCELLED when the caller said so, or wants no more than the first; LSM_BUSY when
 * the database was opened meanwhile, so that what was found need not be damage.
 */
lsm_status verify_tell(struct verify *v, lsm_finding *f, lsm_error *err);
/* The same with a sentence of its own. */
lsm_status verify_say(struct verify *v, lsm_finding *f, lsm_error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void verify_unmeasured(struct verify *v, unsigned pass, const char *file, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

void verify_pass(struct verify *v, unsigned pass, uint64_t total);
/* More of the pass is done; calls the caller when it is time. LSM_CANCELLED. */
lsm_status verify_progress(struct verify *v, uint64_t done, lsm_error *err);
/* The pace of all walks: counts, keeps the rate, notices cancelling. */
bool verify_pace(void *context, uint64_t bytes);
/* LSM_OK, or why nothing more is to be done. */
lsm_status verify_go_on(struct verify *v, lsm_error *err);

const char *verify_family_name(const struct verify *v, uint32_t id); /* NULL: not known */
bool verify_wants_family(const struct verify *v, uint32_t id);
/* Sets family and key range of what the manifest says. */
void verify_blame_meta(lsm_finding *f, const struct table_meta *meta);

/* ---- the passes ------------------------------------------------------------------------------ */

/* 0: CURRENT, uuid, who may write here. LSM_MISSING when there is no database. */
lsm_status verify_identity(struct verify *v, lsm_error *err);
/* 1: replays the manifest into v->replay. */
lsm_status verify_manifest(struct verify *v, lsm_error *err);
/* 2: compares the directory with it, and fills v->tables. */
lsm_status verify_inventory(struct verify *v, lsm_error *err);
/* 3, 4 and what of 7 concerns one table: all tables, on several threads. */
lsm_status verify_tables(struct verify *v, lsm_error *err);
/* One of them; `env` is the thread's. */
lsm_status verify_table(struct verify *v, const struct walk_env *env, struct verify_table *t,
                        lsm_error *err);
/* 6 */
lsm_status verify_log(struct verify *v, lsm_error *err);
/* 7: levels, lineage, order of versions. */
lsm_status verify_levels(struct verify *v, lsm_error *err);
/* Of it: no older version of a key above a newer one. `sorted` by family, level, first key. */
lsm_status verify_versions(struct verify *v, struct verify_table **sorted, size_t count,
                           lsm_error *err);
/* 8: looks at who is there; before all others, for it decides how they are done. */
lsm_status verify_shared(struct verify *v, lsm_error *err);
/* Whether what is read is still what it was: nobody came in who was not there before. */
bool verify_is_undisturbed(struct verify *v);

/* ---- verify_values.c ------------------------------------------------------------------------- */

#define VERIFY_OPEN_BLOBS 8 /* blob files that are held open while one table is read */

/* What a table refers to, as its blocks go by. Zeroed is the beginning. */
struct value_tally {
    struct blob_use *uses; /* by number; owned */
    size_t use_count, use_room;
    struct {
        uint64_t number;     /* 0: none */
        struct table *table; /* owned; NULL: it cannot be read, which is told with the file */
        uint64_t used_at;
    } open[VERIFY_OPEN_BLOBS];
    uint64_t clock;
    struct block_cache *cache; /* owned; holds nothing */
    struct table_env env;
    struct buffer key; /* scratch */
};
void value_tally_release(struct value_tally *tally);

/* Looks at the entries of a sound block that refer to blob files; with `is_full`, whether the
 * values are there. The first that is wrong is *problem; what NULL: nothing. */
lsm_status verify_values(struct verify *v, const struct walk_block *block, bool is_full,
                         struct value_tally *tally, struct table_problem *problem, lsm_error *err);
/* Are the uses the same? */
bool verify_uses_equal(const struct blob_use *a, size_t a_count, const struct blob_use *b,
                       size_t b_count);

/* ---- verify_block.c -------------------------------------------------------------------------- */

/* What is known of a table while its blocks go by. Zeroed is the beginning. */
struct block_tally {
    uint64_t blocks, entries, deletes, keys, raw_bytes;
    uint64_t min_sequence, max_sequence;
    uint64_t data_bytes;
    struct buffer first_key; /* of the table */
    struct buffer last_key;  /* so far */
    uint64_t last_trailer;
    bool has_last;     /* the block before was sound, and directly before */
    bool is_partial;   /* blocks were left out or damaged: sums mean nothing */
    struct buffer key; /* scratch */
};
void block_tally_release(struct block_tally *tally);

/*
 * Checks a decoded block against itself, its frame, the table's properties (NULL: not known) and
 * the block before; with `walk` also against filter and index, entry by entry. The first thing that
 * is wrong is *fault with *what; FINDING_COUNT: nothing. LSM_NO_MEMORY.
 */
lsm_status verify_block(const struct walk_block *block, const struct table_properties *properties,
                        const struct walk_table *walk, bool is_full, struct block_tally *tally,
                        enum finding_id *fault, struct table_problem *problem, lsm_error *err);

#endif
