/*
 * What the victim is about. Sizes are the smallest that there are, so that few writes fill a
 * memtable (64 KiB), the stage ring and a log segment (16 KiB).
 */
#include "tests/crash/points.h"

#include "engine/base/step.h"
#include "engine/db/db_private.h"
#include "engine/format/file_name.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ALL    (1u << SURVIVORS_NONE | 1u << SURVIVORS_LIGHT | 1u << SURVIVORS_WORKERS)
#define ALONE  (1u << SURVIVORS_NONE)
#define BESIDE (ALL & ~ALONE)

void actor_open(struct actor *a)
{
    lsm_options options = LSM_OPTIONS_INIT;
    must(lsm_options_parse(&options,
                           "create=true,memtable_size=64KiB,stage_size=16KiB,"
                           "wal_segment_size=16KiB,table_size=8KiB,level_base_size=64KiB,"
                           "level0_trigger=2,cache_size=256KiB,compression=none,"
                           "max_merge_threads=2",
                           err));
    options.workers = a->has_workers ? 2 : LSM_NO_WORKERS;
    options.shm_dir = a->shm_dir;
    must(lsm_open(a->path, &options, &a->db, err));
    lsm_error error = {0};
    lsm_status status = lsm_cf_open(a->db, "second", &a->second, &error);
    if (status == LSM_MISSING)
        status = lsm_cf_create(a->db, "second", NULL, &a->second, &error);
    if (status == LSM_EXISTS)
        status = lsm_cf_open(a->db, "second", &a->second, &error);
    if (status != LSM_OK)
        verdict_end("opening the second family: %s", error.message);
}

void actor_close(struct actor *a)
{
    must(lsm_close(a->db, err));
    a->db = NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void put_a_few(struct actor *a)
{
    for (unsigned i = 0; i < 4; i++)
        actor_put(a, LSM_WRITE, 100);
    actor_batch(a, LSM_WRITE, 4, 60);
}

/* Goes round the stage ring and through some log segments. */
static void write_many(struct actor *a)
{
    for (unsigned i = 0; i < 60; i++)
        actor_put(a, LSM_WRITE, 700);
}

static void write_synced(struct actor *a)
{
    for (unsigned i = 0; i < 6; i++)
        actor_put(a, LSM_SYNC, 300);
    actor_put(a, LSM_WRITE, 300);
    for (unsigned i = 0; i < 10; i++)
        actor_put(a, LSM_SYNC, 4000);
}

static void write_batches(struct actor *a)
{
    actor_batch(a, LSM_WRITE, 4, 60);
    actor_batch(a, LSM_SYNC, 5, 60);
    actor_batch(a, LSM_SYNC, 70, 20); /* so many that the log is written meanwhile */
}

static void write_over_a_switch(struct actor *a)
{
    for (unsigned i = 0; i < 22; i++)
        actor_batch(a, LSM_WRITE, 3, 1200);
}

static void commit_transactions(struct actor *a)
{
    actor_transaction(a, LSM_WRITE, 3);
    actor_transaction(a, LSM_SYNC, 3);
}

/* ---- flushing and compacting ----------------------------------------------------------------- */

static void flush_twice(struct actor *a)
{
    must(lsm_flush(a->db, err));
    put_a_few(a);
    must(lsm_flush(a->db, err));
}

static void make_tables(struct actor *a)
{
    for (unsigned i = 0; i < 3; i++) {
        actor_batch(a, LSM_WRITE, 6, 1000);
        actor_put(a, LSM_WRITE, 500);
        must(lsm_flush(a->db, err));
    }
}

static void compact(struct actor *a)
{
    lsm_compact_options options = {.force_bottom = true};
    must(lsm_compact_range(a->db, NULL, &options, err));
    must(lsm_compact_range(a->db, a->second, NULL, err));
}

/* Enough for two parts, which a merge on two threads has. */
static void make_large_tables(struct actor *a)
{
    make_tables(a);
    for (unsigned i = 0; i < 12; i++)
        actor_batch(a, LSM_WRITE, 6, 1000);
    must(lsm_flush(a->db, err));
}

static void let_workers_compact(struct actor *a)
{
    make_tables(a);
    must(lsm_wait_idle(a->db, err));
}

/* The head key of the place is in the memtable before each: so are entries in the way. */
/* Beside the database; what a death leaves there is nobody's. */
static void make_checkpoint(struct actor *a)
{
    char path[SCRATCH_PATH_SIZE + 16];
    snprintf(path, sizeof path, "%s.copy", a->path);
    must(lsm_checkpoint(a->db, path, NULL, err));
    actor_put(a, LSM_SYNC, 100);
    must(lsm_destroy(path, err));
}

static void ingest_twice(struct actor *a)
{
    actor_ingest(a, 4, 100);
    actor_batch(a, LSM_WRITE, 3, 60);
    actor_ingest(a, 60, 1500); /* runs, and a merge */
    actor_put(a, LSM_WRITE, 100);
}

/* ---- coming and going ------------------------------------------------------------------------ */

static void open_only(struct actor *a)
{
    actor_open(a);
}

static void fill_and_die(struct actor *a)
{
    write_over_a_switch(a);
    must(lsm_flush(a->db, err));
    write_over_a_switch(a);
    actor_put(a, LSM_SYNC, 100);
    kill(getpid(), SIGKILL);
}

static void die_while_flushing(struct actor *a)
{
    put_a_few(a);
    stepping_begin(NULL, (struct step_point){"flush: names synced", 1}, SIGKILL);
    must(lsm_flush(a->db, err));
}

static void die_with_an_edit(struct actor *a)
{
    put_a_few(a);
    stepping_begin(NULL, (struct step_point){"manifest: frame synced", 1}, SIGKILL);
    must(lsm_flush(a->db, err));
}

/* The frame that it was writing has come to the disk in part only. */
static const char *torn_path;

static void tear_and_die(const char *name)
{
    struct stat info;
    char file[FILE_NAME_SIZE], path[SCRATCH_PATH_SIZE + 16 + FILE_NAME_SIZE];
    uint64_t newest = 0;
    if (strcmp(name, "manifest: frame written") != 0)
        return;
    DIR *dir = opendir(torn_path);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        enum file_kind kind;
        uint64_t number;
        if (file_name_parse(e->d_name, &kind, &number) && kind == FILE_MANIFEST && number > newest)
            newest = number;
    }
    snprintf(path, sizeof path, "%s/%s", torn_path, file_name_make(FILE_MANIFEST, newest, file));
    if (stat(path, &info) != 0 || truncate(path, info.st_size - 3) != 0)
        verdict_end("the manifest '%s' cannot be cut", path);
    kill(getpid(), SIGKILL);
}

static void die_with_a_torn_edit(struct actor *a)
{
    put_a_few(a);
    torn_path = a->path;
    atomic_store(&step_hook, tear_and_die);
    must(lsm_flush(a->db, err));
    atomic_store(&step_hook, NULL);
}

/* In the log: with a segment half made. */
static void die_in_the_log(struct actor *a)
{
    stepping_begin(NULL, (struct step_point){"log segment: header written", 1}, SIGKILL);
    write_many(a);
}

static void die_in_a_sync(struct actor *a)
{
    stepping_begin(NULL, (struct step_point){"log: sync begins", 2}, SIGKILL);
    write_synced(a);
}

/* Under the change lock, with the memtables in tables. */
static void die_in_the_view(struct actor *a)
{
    put_a_few(a);
    stepping_begin(NULL, (struct step_point){"flush: a memtable done", 1}, SIGKILL);
    must(lsm_flush(a->db, err));
}

static void die_in_a_commit(struct actor *a)
{
    put_a_few(a);
    stepping_begin(NULL, (struct step_point){"commit: an entry inserted", 2}, SIGKILL);
    actor_batch(a, LSM_SYNC, 5, 60);
}

static void die_in_a_switch(struct actor *a)
{
    put_a_few(a);
    stepping_begin(NULL, (struct step_point){"switch: none active", 1}, SIGKILL);
    must(lsm_flush(a->db, err));
}

static void die_in_an_ingest(struct actor *a)
{
    put_a_few(a);
    stepping_begin(NULL, (struct step_point){"ingest: durable", 1}, SIGKILL);
    actor_ingest(a, 6, 60);
}

static void reap_and_write(struct actor *a)
{
    must(db_reap(a->db, err));
    put_a_few(a);
    actor_put(a, LSM_SYNC, 100);
    must(lsm_flush(a->db, err));
    must(db_reap(a->db, err));
}

/* ---- reading --------------------------------------------------------------------------------- */

static void change_the_view(struct actor *a)
{
    put_a_few(a);
    must(lsm_flush(a->db, err));
    put_a_few(a);
}

/* The keeper follows what somebody else does. */
static void stay_up_to_date(struct actor *a)
{
    while (atomic_load(&a->board->changed) == 0 && !verdict_is_failed())
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    oracle_look(a);
}

static void read_all_ways(struct actor *a)
{
    lsm_snapshot *snapshot = NULL;
    lsm_iter *it = NULL;
    oracle_look(a);
    must(lsm_snapshot_acquire(a->db, &snapshot, err));
    lsm_read_options options = {.snapshot = snapshot};
    must(lsm_iter_open(a->db, NULL, &options, &it, err));
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it))
        ;
    must(lsm_iter_status(it, err));
    lsm_iter_close(it);
    lsm_snapshot_release(a->db, snapshot);
    must(lsm_snapshot_acquire(a->db, &snapshot, err));
    lsm_snapshot_release(a->db, snapshot);
}

/* ---- families -------------------------------------------------------------------------------- */

static void family_begins(struct actor *a, enum family_stage stage)
{
    atomic_store(&a->board->family_begun, stage);
}

static void family_is(struct actor *a, enum family_stage stage)
{
    atomic_store(&a->board->family_done, stage);
}

static lsm_cf *family(struct actor *a, const char *name)
{
    lsm_cf *cf = NULL;
    must(lsm_cf_open(a->db, name, &cf, err));
    return cf;
}

static void create_family(struct actor *a)
{
    lsm_cf *cf = NULL;
    family_begins(a, FAMILY_CREATED);
    must(lsm_cf_create(a->db, "third", NULL, &cf, err));
    family_is(a, FAMILY_CREATED);
    must(lsm_put(a->db, cf, LSM_SLICE("key", 3), LSM_SLICE("value", 5), NULL, err));
    must(lsm_flush(a->db, err));
}

static void rename_family(struct actor *a)
{
    family_begins(a, FAMILY_RENAMED);
    must(lsm_cf_rename(a->db, family(a, "third"), "fourth", err));
    family_is(a, FAMILY_RENAMED);
    must(
        lsm_put(a->db, family(a, "fourth"), LSM_SLICE("key", 3), LSM_SLICE("other", 5), NULL, err));
}

static void create_and_rename_family(struct actor *a)
{
    put_a_few(a);
    create_family(a);
    rename_family(a);
}

static void drop_family(struct actor *a)
{
    lsm_cf *cf = family(a, "fourth");
    family_begins(a, FAMILY_DROPPED);
    must(lsm_cf_drop(a->db, cf, err));
    family_is(a, FAMILY_DROPPED);
    must(lsm_flush(a->db, err));
}

/* ---- the table ------------------------------------------------------------------------------- */

const struct role roles[] = {
    {.name = "write", .survivors = ALL, .prepare = put_a_few, .act = write_many},
    {.name = "sync", .survivors = ALL, .prepare = put_a_few, .act = write_synced},
    {.name = "batch", .survivors = ALL, .prepare = put_a_few, .act = write_batches},
    {.name = "switch", .survivors = ALL, .prepare = put_a_few, .act = write_over_a_switch},
    {.name = "workers",
     .survivors = ALL,
     .has_workers = true,
     .prepare = put_a_few,
     .act = write_over_a_switch},
    {.name = "transaction", .survivors = ALL, .prepare = put_a_few, .act = commit_transactions},
    {.name = "flush", .survivors = ALL, .prepare = put_a_few, .act = flush_twice},
    {.name = "compact", .survivors = ALL, .prepare = make_large_tables, .act = compact},
    {.name = "compacting-worker",
     .survivors = ALL,
     .has_workers = true,
     .prepare = put_a_few,
     .act = let_workers_compact},
    {.name = "ingest", .survivors = ALL, .prepare = put_a_few, .act = ingest_twice},
    {.name = "ingest-workers",
     .survivors = ALL,
     .has_workers = true,
     .prepare = make_tables,
     .act = ingest_twice},
    {.name = "checkpoint", .survivors = ALL, .prepare = make_tables, .act = make_checkpoint},
    {.name = "found", .survivors = ALONE, .opens = true, .act = open_only},
    {.name = "found-workers",
     .survivors = ALONE,
     .has_workers = true,
     .opens = true,
     .act = open_only},
    {.name = "recover",
     .survivors = ALONE,
     .opens = true,
     .before = fill_and_die,
     .act = open_only},
    {.name = "recover-edit",
     .survivors = ALONE,
     .opens = true,
     .before = die_with_an_edit,
     .act = open_only},
    {.name = "recover-orphan",
     .survivors = ALONE,
     .opens = true,
     .before = die_while_flushing,
     .act = open_only},
    {.name = "recover-workers",
     .survivors = ALONE,
     .has_workers = true,
     .opens = true,
     .before = fill_and_die,
     .act = open_only},
    {.name = "join-workers",
     .survivors = BESIDE,
     .has_workers = true,
     .opens = true,
     .act = open_only},
    {.name = "join-the-dead",
     .survivors = BESIDE,
     .opens = true,
     .before = die_with_an_edit,
     .act = open_only},
    {.name = "join", .survivors = BESIDE, .opens = true, .act = open_only},
    {.name = "leave",
     .survivors = BESIDE,
     .prepare = put_a_few,
     .act = actor_close,
     .closes = true},
    {.name = "close", .survivors = ALONE, .prepare = put_a_few, .act = actor_close, .closes = true},
    {.name = "reap-flush", .survivors = ALL, .between = die_while_flushing, .act = reap_and_write},
    {.name = "reap-edit", .survivors = ALL, .between = die_with_an_edit, .act = reap_and_write},
    {.name = "reap-torn", .survivors = ALL, .between = die_with_a_torn_edit, .act = reap_and_write},
    {.name = "reap-view", .survivors = ALL, .between = die_in_the_view, .act = reap_and_write},
    {.name = "reap-commit", .survivors = ALL, .between = die_in_a_commit, .act = reap_and_write},
    {.name = "reap-ingest", .survivors = ALL, .between = die_in_an_ingest, .act = reap_and_write},
    {.name = "reap-switch", .survivors = ALL, .between = die_in_a_switch, .act = reap_and_write},
    {.name = "reap-log", .survivors = ALL, .between = die_in_the_log, .act = reap_and_write},
    {.name = "reap-sync", .survivors = ALL, .between = die_in_a_sync, .act = reap_and_write},
    {.name = "keeper",
     .survivors = ALL,
     .has_workers = true,
     .act = stay_up_to_date,
     .during = change_the_view},
    {.name = "read",
     .survivors = BESIDE,
     .prepare = put_a_few,
     .between = change_the_view,
     .act = read_all_ways},
    {.name = "family-create", .survivors = ALL, .prepare = put_a_few, .act = create_family},
    {.name = "family-rename", .survivors = ALL, .prepare = create_family, .act = rename_family},
    {.name = "family-drop",
     .survivors = ALL,
     .prepare = create_and_rename_family,
     .act = drop_family},
};

const size_t role_count = sizeof roles / sizeof *roles;
