/* Checkpoints through the public door: what they hold, beside writers of any process, and what they
 * leave behind when they cannot be made. */
#include "engine/base/step.h"
#include "engine/db/db_private.h"
#include "tests/unit/db/peers.h"

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define OPTIONS                                                                                    \
    "create=true,memtable_size=64KiB,stage_size=64KiB,wal_segment_size=64KiB,table_size=32KiB,"    \
    "level_base_size=64KiB,level0_trigger=2,cache_size=256KiB"
#define WORKERS ",workers=1"
#define LIGHT   ",workers=none"

static char copy_path[SCRATCH_PATH_SIZE + 16], partial_path[SCRATCH_PATH_SIZE + 32];

static void set_up(void)
{
    fixture_set_up();
    snprintf(copy_path, sizeof copy_path, "%s/copy", scratch);
    snprintf(partial_path, sizeof partial_path, "%s.partial", copy_path);
}

static void make(lsm_db *db, bool copy)
{
    lsm_checkpoint_options options = LSM_CHECKPOINT_OPTIONS_INIT;
    options.copy = copy;
    ck_ok(lsm_checkpoint(db, copy_path, &options, &error));
}

static lsm_db *open_at(const char *path, const char *option_text)
{
    lsm_options options = options_of(option_text);
    lsm_db *db = NULL;
    ck_ok(lsm_open(path, &options, &db, &error));
    return db;
}

static lsm_db *open_copy(void)
{
    return open_at(copy_path, "workers=none,cache_size=256KiB");
}

static void expect_sound(const char *path)
{
    lsm_verify_options options = LSM_VERIFY_OPTIONS_INIT;
    lsm_verify_result result;
    options.level = LSM_VERIFY_FULL;
    ck_ok(lsm_verify(path, &options, &result, &error));
    ck_assert_uint_eq(result.damages + result.warnings + result.unmeasured, 0);
}

static bool is_there(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0;
}

/* Tables of a directory; *linked of them have another name. */
static unsigned count_tables(const char *path, unsigned *linked)
{
    unsigned count = 0;
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    *linked = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        struct stat about;
        if (strstr(e->d_name, ".sst") == NULL)
            continue;
        ck_assert_int_eq(fstatat(dirfd(dir), e->d_name, &about, 0), 0);
        *linked += about.st_nlink > 1;
        count++;
    }
    closedir(dir);
    return count;
}

/* ---- what is in it --------------------------------------------------------------------------- */

/* Tables in several levels, two families, deletions, and memtables of which one is sealed. */
static void fill(lsm_db *db)
{
    lsm_cf *other = NULL;
    ck_ok(lsm_cf_create(db, "other", NULL, &other, &error));
    put_many(db, NULL, 0, 300, 1000);
    put_text(db, other, "in a table", "1");
    put_text(db, other, "deleted", "1");
    ck_ok(lsm_flush(db, &error));
    ck_ok(lsm_wait_idle(db, &error));
    put_many(db, NULL, 100, 60, 900);
    ck_ok(lsm_delete(db, other, text("deleted"), NULL, &error));
    put_text(db, other, "in memory", "2");
}

static void expect_equal(lsm_db *a, lsm_db *b, const char *family)
{
    lsm_cf *of_a = NULL, *of_b = NULL;
    lsm_iter *i = NULL, *j = NULL;
    ck_ok(lsm_cf_open(a, family, &of_a, &error));
    ck_ok(lsm_cf_open(b, family, &of_b, &error));
    ck_ok(lsm_iter_open(a, of_a, NULL, &i, &error));
    ck_ok(lsm_iter_open(b, of_b, NULL, &j, &error));
    lsm_iter_first(i);
    for (lsm_iter_first(j); lsm_iter_valid(i) && lsm_iter_valid(j);
         lsm_iter_next(i), lsm_iter_next(j)) {
        lsm_slice k = lsm_iter_key(i), l = lsm_iter_key(j);
        lsm_slice v = lsm_iter_value(i), w = lsm_iter_value(j);
        ck_assert_uint_eq(k.size, l.size);
        ck_assert_mem_eq(k.data, l.data, k.size);
        ck_assert_uint_eq(v.size, w.size);
        ck_assert_mem_eq(v.data, w.data, v.size);
    }
    ck_assert(lsm_iter_valid(i) == lsm_iter_valid(j));
    ck_ok(lsm_iter_status(i, &error));
    ck_ok(lsm_iter_status(j, &error));
    lsm_iter_close(i);
    lsm_iter_close(j);
}

START_TEST(test_checkpoint_holds_all_families_as_they_are)
{
    bool copies = _i % 2 == 1, has_workers = _i / 2 == 1;
    lsm_db *db = open_with(has_workers ? OPTIONS WORKERS : OPTIONS LIGHT);
    fill(db);
    uint64_t sequence = property(db, "sequence");
    make(db, copies);
    ck_assert(!is_there(partial_path));
    expect_sound(copy_path);
    expect_sound(db_path);
    unsigned linked, count = count_tables(copy_path, &linked);
    ck_assert_uint_ge(count, 3);
    if (copies)
        ck_assert_uint_eq(linked, 0);
    else
        ck_assert_uint_ge(linked, count - 2); /* what was in memory: a table a family */
    lsm_db *copy = open_copy();
    ck_assert_uint_eq(property(copy, "sequence"), sequence);
    expect_equal(db, copy, "default");
    expect_equal(db, copy, "other");
    close_ok(copy);
    expect_sound(copy_path);
    close_ok(db);
}
END_TEST

START_TEST(test_checkpoint_and_original_go_their_own_ways)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    lsm_compact_options all = {.force_bottom = true};
    fill(db);
    make(db, false);
    lsm_db *copy = open_copy();
    put_text(db, NULL, "mine", "original");
    put_text(copy, NULL, "mine", "copy");
    put_many(db, NULL, 0, 300, 500);
    ck_ok(lsm_compact_range(db, NULL, &all, &error));
    put_many(copy, NULL, 200, 300, 700);
    ck_ok(lsm_compact_range(copy, NULL, &all, &error));
    expect_text(db, NULL, "mine", "original");
    expect_text(copy, NULL, "mine", "copy");
    close_ok(db);
    close_ok(copy);
    expect_sound(db_path);
    expect_sound(copy_path);
    ck_ok(lsm_destroy(db_path, &error));
    copy = open_copy();
    expect_text(copy, NULL, "mine", "copy");
    lsm_cf *other = NULL;
    ck_ok(lsm_cf_open(copy, "other", &other, &error));
    expect_text(copy, other, "in a table", "1");
    expect_text(copy, other, "in memory", "2");
    expect_text(copy, other, "deleted", NULL);
    close_ok(copy);
}
END_TEST

START_TEST(test_checkpoint_of_an_empty_database_is_one)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    make(db, false);
    expect_sound(copy_path);
    lsm_db *copy = open_copy();
    ck_assert_uint_eq(property(copy, "sequence"), 0);
    put_text(copy, NULL, "a", "1");
    close_ok(copy);
    close_ok(db);
}
END_TEST

START_TEST(test_checkpoint_of_a_checkpoint_is_one)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    char second[SCRATCH_PATH_SIZE + 16];
    fill(db);
    make(db, false);
    lsm_db *copy = open_copy();
    put_text(copy, NULL, "later", "1");
    snprintf(second, sizeof second, "%s/second/", scratch);
    ck_ok(lsm_checkpoint(copy, second, NULL, &error));
    expect_sound(second);
    lsm_db *last = open_at(second, "workers=none");
    expect_equal(copy, last, "default");
    expect_equal(db, last, "other");
    close_ok(last);
    close_ok(copy);
    close_ok(db);
}
END_TEST

/* Alone, what the log holds is in this process's memory only. */
START_TEST(test_checkpoint_of_who_only_reads)
{
    lsm_db *db = open_with(OPTIONS LIGHT), *reader = NULL;
    bool is_alone = _i == 1;
    fill(db);
    if (is_alone) {
        put_text(db, NULL, "newest", "1");
        db_abandon(db);
    }
    reader = open_with("read_only=true");
    make(reader, false);
    expect_sound(copy_path);
    lsm_db *copy = open_copy();
    expect_equal(reader, copy, "default");
    expect_equal(reader, copy, "other");
    close_ok(copy);
    close_ok(reader);
    if (!is_alone)
        close_ok(db);
}
END_TEST

/* ---- beside writers -------------------------------------------------------------------------- */

#define WRITERS 2

static _Atomic uint64_t *acknowledged; /* of each writer */
static _Atomic bool *over;

/* Each batch writes the same number to two keys of two families, and one key more. */
static void write_pairs(lsm_db *db, unsigned writer)
{
    lsm_cf *other = NULL;
    lsm_batch *batch = NULL;
    char name[32], value[1000];
    memset(value, 'v', sizeof value);
    ck_ok(lsm_cf_open(db, "other", &other, &error));
    ck_ok(lsm_batch_new(&batch, &error));
    snprintf(name, sizeof name, "pair-%u", writer);
    lsm_write_options sync = {.durability = LSM_SYNC};
    for (uint64_t i = 1; !atomic_load(over); i++) {
        char more[48];
        memcpy(value, &i, sizeof i);
        snprintf(more, sizeof more, "more-%u-%06" PRIu64, writer, i);
        lsm_batch_clear(batch);
        ck_ok(lsm_batch_put(batch, NULL, text(name), LSM_SLICE(value, sizeof value), &error));
        ck_ok(lsm_batch_put(batch, other, text(name), LSM_SLICE(value, sizeof value), &error));
        ck_ok(lsm_batch_put(batch, NULL, text(more), LSM_SLICE(&i, sizeof i), &error));
        ck_ok(lsm_write(db, batch, i % 64 == 0 ? &sync : NULL, &error));
        atomic_store(&acknowledged[writer], i);
    }
    lsm_batch_free(batch);
}

static void run_writer(struct peer *test)
{
    char message[PEER_TEXT];
    lsm_db *db = open_with(OPTIONS LIGHT);
    ck_assert(peer_hear(test, message));
    write_pairs(db, (unsigned)atoi(message));
    close_ok(db);
}

static uint64_t number_at(lsm_db *db, lsm_cf *cf, const char *key)
{
    lsm_pin pin = LSM_PIN_INIT;
    uint64_t number = 0;
    ck_ok(lsm_get(db, cf, text(key), NULL, &pin, &error));
    if (pin.found)
        memcpy(&number, pin.value.data, sizeof number);
    lsm_pin_release(&pin);
    return number;
}

/* All of the writer's batches up to one at or behind `least`, and nothing of a later one. */
static void expect_prefix(lsm_db *copy, unsigned writer, uint64_t least)
{
    lsm_cf *other = NULL;
    char key[48];
    ck_ok(lsm_cf_open(copy, "other", &other, &error));
    snprintf(key, sizeof key, "pair-%u", writer);
    uint64_t last = number_at(copy, NULL, key);
    ck_assert_uint_ge(last, least);
    ck_assert_uint_eq(number_at(copy, other, key), last);
    for (uint64_t i = 1; i <= last + 3; i++) {
        snprintf(key, sizeof key, "more-%u-%06" PRIu64, writer, i);
        ck_assert_uint_eq(number_at(copy, NULL, key), i <= last ? i : 0);
    }
}

START_TEST(test_checkpoint_beside_writers_of_other_processes_is_one_moment)
{
    struct peer writers[WRITERS];
    acknowledged = shared_memory(sizeof(uint64_t) * (WRITERS + 1));
    over = shared_memory(sizeof *over);
    for (unsigned i = 0; i < WRITERS; i++)
        writers[i] = peer_start(run_writer);
    lsm_db *db = open_with(OPTIONS WORKERS);
    lsm_cf *other = NULL;
    ck_ok(lsm_cf_create(db, "other", NULL, &other, &error));
    for (unsigned i = 0; i < WRITERS; i++) {
        char number[8];
        snprintf(number, sizeof number, "%u", i);
        peer_say(&writers[i], number);
    }
    for (unsigned round = 0; round < 12; round++) {
        uint64_t least[WRITERS];
        uint64_t goal = atomic_load(&acknowledged[0]) + 80;
        while (atomic_load(&acknowledged[0]) < goal)
            usleep(500);
        for (unsigned i = 0; i < WRITERS; i++)
            least[i] = atomic_load(&acknowledged[i]);
        make(db, round % 3 == 2);
        lsm_db *copy = open_copy();
        for (unsigned i = 0; i < WRITERS; i++)
            expect_prefix(copy, i, least[i]);
        close_ok(copy);
        expect_sound(copy_path);
        ck_ok(lsm_destroy(copy_path, &error));
    }
    atomic_store(over, true);
    for (unsigned i = 0; i < WRITERS; i++)
        peer_end(&writers[i]);
    close_ok(db);
    expect_sound(db_path);
}
END_TEST

static lsm_db *writing;
static const char *write_at;

/* A family is made, and written to together with one that was there. */
static void write_to_a_new_family(const char *name)
{
    lsm_cf *fresh = NULL;
    lsm_batch *batch = NULL;
    if (strcmp(name, write_at) != 0)
        return;
    atomic_store(&step_hook, NULL);
    ck_ok(lsm_cf_create(writing, "fresh", NULL, &fresh, &error));
    ck_ok(lsm_batch_new(&batch, &error));
    ck_ok(lsm_batch_put(batch, NULL, text("both"), text("1"), &error));
    ck_ok(lsm_batch_put(batch, fresh, text("both"), text("1"), &error));
    ck_ok(lsm_write(writing, batch, NULL, &error));
    lsm_batch_free(batch);
}

START_TEST(test_checkpoint_has_all_of_a_batch_whose_family_is_new)
{
    static const char *const places[] = {"checkpoint: place taken", "checkpoint: refreshed",
                                         "checkpoint: state taken", "checkpoint: pinned"};
    bool is_before = _i < 2;
    lsm_db *db = open_with(OPTIONS LIGHT);
    writing = open_with(OPTIONS LIGHT);
    write_at = places[_i];
    fill(db);
    atomic_store(&step_hook, write_to_a_new_family);
    make(db, false);
    ck_assert_msg(atomic_load(&step_hook) == NULL, "no step '%s'", write_at);
    expect_sound(copy_path);
    lsm_db *copy = open_copy();
    expect_text(copy, NULL, "both", is_before ? "1" : NULL);
    lsm_cf *fresh = NULL;
    lsm_status status = lsm_cf_open(copy, "fresh", &fresh, &error);
    ck_assert_int_eq(status, _i < 2 ? LSM_OK : LSM_MISSING);
    if (fresh != NULL)
        expect_text(copy, fresh, "both", is_before ? "1" : NULL);
    close_ok(copy);
    close_ok(writing);
    close_ok(db);
}
END_TEST

static _Atomic bool flush_waits;
static bool took_deletion_in;
static _Thread_local bool is_checkpointing;

/* A write, and an ingest that deletes another key behind it. Then a merge of the ingest's table
 * with what it deletes leaves nothing, before the write is in a table. */
static void take_deletion_in(void)
{
    lsm_ingest *ingest = NULL;
    uint64_t tables = 1;
    atomic_store(&flush_waits, true);
    put_text(writing, NULL, "written", "1");
    ck_ok(lsm_ingest_begin(writing, NULL, &ingest, &error));
    ck_ok(lsm_ingest_delete(ingest, NULL, text("deleted"), &error));
    ck_ok(lsm_ingest_commit(ingest, &error));
    lsm_ingest_free(ingest);
    for (unsigned i = 0; i < 20000 && tables > 0; i++) {
        ck_ok(lsm_property(writing, NULL, "tables", &tables, &error));
        usleep(tables > 0 ? 1000 : 0);
    }
    ck_assert_uint_eq(tables, 0);
    took_deletion_in = true;
}

static void take_deletion_in_if_possible(const char *name)
{
    if (!is_checkpointing) {
        while (strcmp(name, "flush: taken") == 0 && atomic_load(&flush_waits))
            usleep(1000);
        return;
    }
    if (took_deletion_in || strncmp(name, "checkpoint:", strlen("checkpoint:")) != 0)
        return;
    struct shm_lock *lock = &writing->layout->locks.append;
    if (shm_trylock(lock) == SHM_LOCK_BUSY) /* nobody can */
        return;
    shm_unlock(lock);
    if (strcmp(name, write_at) == 0 || strcmp(name, "checkpoint: state taken") == 0) {
        is_checkpointing = false;
        take_deletion_in();
        is_checkpointing = true;
    }
}

/* The moment is either before the write or behind the ingest, which leaves no trace in a table. */
START_TEST(test_checkpoint_beside_an_ingest_that_merges_away_is_one_moment)
{
    static const char *const places[] = {"checkpoint: place taken", "checkpoint: refreshed",
                                         "checkpoint: number read", "checkpoint: state taken"};
    lsm_pin deleted = LSM_PIN_INIT, written = LSM_PIN_INIT;
    lsm_db *db = open_with(OPTIONS LIGHT);
    writing = open_with(OPTIONS ",workers=2");
    put_text(writing, NULL, "deleted", "1");
    ck_ok(lsm_flush(writing, &error));
    write_at = places[_i];
    took_deletion_in = false;
    is_checkpointing = true;
    atomic_store(&step_hook, take_deletion_in_if_possible);
    make(db, false);
    is_checkpointing = false;
    atomic_store(&flush_waits, false);
    atomic_store(&step_hook, NULL);
    ck_assert(took_deletion_in);
    expect_sound(copy_path);
    lsm_db *copy = open_copy();
    ck_ok(lsm_get(copy, NULL, text("deleted"), NULL, &deleted, &error));
    ck_ok(lsm_get(copy, NULL, text("written"), NULL, &written, &error));
    ck_assert_int_eq(deleted.found, _i >= 2);
    ck_assert_int_eq(written.found, _i < 2);
    lsm_pin_release(&deleted);
    lsm_pin_release(&written);
    close_ok(copy);
    close_ok(writing);
    close_ok(db);
}
END_TEST

/* ---- where it cannot be made ----------------------------------------------------------------- */

struct look {
    lsm_db *db;
    unsigned calls, limit;
    uint64_t last, total;
    lsm_status second; /* of a checkpoint to the same path made meanwhile */
    lsm_status closed; /* of closing meanwhile */
};

static bool progress(void *context, uint64_t done, uint64_t total)
{
    struct look *l = context;
    ck_assert_uint_ge(done, l->last);
    ck_assert_uint_le(done, total);
    l->last = done;
    l->total = total;
    if (l->db != NULL && l->calls == 0) {
        l->second = lsm_checkpoint(l->db, copy_path, NULL, NULL);
        l->closed = lsm_close(l->db, NULL);
    }
    return l->calls++ < l->limit;
}

START_TEST(test_checkpoint_replaces_nothing)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    char path[SCRATCH_PATH_SIZE + 40];
    fill(db);
    ck_fails(LSM_INVALID, lsm_checkpoint(db, "", NULL, &error));
    ck_fails(LSM_EXISTS, lsm_checkpoint(db, db_path, NULL, &error));
    ck_assert_int_eq(mkdir(copy_path, 0700), 0);
    ck_fails(LSM_EXISTS, lsm_checkpoint(db, copy_path, NULL, &error));
    ck_assert_int_eq(rmdir(copy_path), 0);
    snprintf(path, sizeof path, "%s/no/copy", scratch);
    ck_fails(LSM_MISSING, lsm_checkpoint(db, path, NULL, &error));
    FILE *file = fopen(copy_path, "w");
    ck_assert_ptr_nonnull(file);
    fclose(file);
    ck_fails(LSM_EXISTS, lsm_checkpoint(db, copy_path, NULL, &error));
    snprintf(path, sizeof path, "%s/copy", copy_path);
    ck_fails(LSM_INVALID, lsm_checkpoint(db, path, NULL, &error));
    ck_assert_int_eq(unlink(copy_path), 0);
    struct look look = {.limit = UINT32_MAX}; /* is not begun */
    lsm_checkpoint_options options = LSM_CHECKPOINT_OPTIONS_INIT;
    options.progress = progress;
    options.progress_context = &look;
    ck_assert_int_eq(symlink("nowhere", copy_path), 0);
    ck_fails(LSM_EXISTS, lsm_checkpoint(db, copy_path, &options, &error));
    ck_assert_uint_eq(look.calls, 0);
    ck_assert(!is_there(partial_path));
    close_ok(db);
}
END_TEST

static const char *partial_file(const char *name)
{
    static char path[SCRATCH_PATH_SIZE + 60];
    snprintf(path, sizeof path, "%s/%s", partial_path, name);
    return path;
}

static void make_partial_file(const char *name)
{
    FILE *file = fopen(partial_file(name), "w");
    ck_assert_ptr_nonnull(file);
    fclose(file);
}

/* What a checkpoint that was never finished may leave. */
static const char *const left[] = {"LOCK",       "999999.sst", "999998.blob", "MANIFEST-000999",
                                   "000999.tmp", "CURRENT"};
#define LEFT_COUNT (sizeof left / sizeof left[0])

static void make_leftover(void)
{
    ck_assert_int_eq(mkdir(partial_path, 0700), 0);
    for (size_t i = 0; i < LEFT_COUNT; i++)
        make_partial_file(left[i]);
}

START_TEST(test_checkpoint_clears_up_after_one_that_died)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    fill(db);
    make_leftover();
    make(db, false);
    ck_assert(!is_there(partial_path));
    expect_sound(copy_path);
    close_ok(db);
}
END_TEST

/* What no checkpoint leaves is the user's, and so may be all that lies beside it. */
START_TEST(test_checkpoint_keeps_what_is_not_of_one)
{
    static const char *const others[] = {"a letter",     "000003.wal",     "STAGE",
                                         "000004.spare", "000005.sst.old", "000006.sst"};
    const char *other = others[_i];
    bool is_directory = strcmp(other, "000006.sst") == 0;
    lsm_db *db = open_with(OPTIONS LIGHT);
    fill(db);
    make_leftover();
    if (is_directory)
        ck_assert_int_eq(mkdir(partial_file(other), 0700), 0);
    else
        make_partial_file(other);
    ck_fails(LSM_EXISTS, lsm_checkpoint(db, copy_path, NULL, &error));
    ck_assert_msg(is_there(partial_file(other)), "'%s' is gone", other);
    for (size_t i = 0; i < LEFT_COUNT; i++)
        ck_assert_msg(is_there(partial_file(left[i])), "'%s' is gone", left[i]);
    ck_assert_int_eq((is_directory ? rmdir : unlink)(partial_file(other)), 0);
    make(db, false);
    close_ok(db);
}
END_TEST

START_TEST(test_checkpoint_makes_no_file_where_it_has_no_place)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    ck_assert_int_eq(mkdir(partial_path, 0700), 0);
    make_partial_file("a letter");
    ck_fails(LSM_EXISTS, lsm_checkpoint(db, copy_path, NULL, &error));
    ck_assert(is_there(partial_file("a letter")) && !is_there(partial_file("LOCK")));
    close_ok(db);
}
END_TEST

/* Open, and closed cleanly; without its log, too, as when it was restored from a checkpoint. */
START_TEST(test_checkpoint_keeps_a_database_of_that_name)
{
    bool is_open = _i == 0, without_log = _i == 2;
    lsm_db *db = open_with(OPTIONS LIGHT), *other = open_at(partial_path, OPTIONS LIGHT);
    fill(db);
    fill(other);
    if (!is_open)
        close_ok(other);
    if (without_log) {
        char command[SCRATCH_PATH_SIZE + 80];
        snprintf(command, sizeof command, "cd '%s' && rm -f -- *.wal *.spare STAGE", partial_path);
        ck_assert_int_eq(system(command), 0);
    }
    lsm_status status = lsm_checkpoint(db, copy_path, NULL, &error);
    ck_assert(status == LSM_EXISTS || (is_open && status == LSM_BUSY));
    ck_assert(!is_there(copy_path));
    if (is_open) {
        put_text(other, NULL, "more", "1");
        close_ok(other);
    }
    expect_sound(partial_path);
    other = open_at(partial_path, "workers=none");
    expect_text(other, NULL, "more", is_open ? "1" : NULL);
    expect_equal(db, other, "other");
    close_ok(other);
    close_ok(db);
}
END_TEST

START_TEST(test_checkpoint_cancelled_leaves_nothing)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    struct look look = {.limit = UINT32_MAX};
    lsm_checkpoint_options options = LSM_CHECKPOINT_OPTIONS_INIT;
    options.copy = _i == 1;
    options.progress = progress;
    options.progress_context = &look;
    fill(db);
    ck_ok(lsm_checkpoint(db, copy_path, &options, &error));
    ck_assert_uint_eq(look.last, look.total);
    ck_assert_uint_gt(look.total, 100000);
    ck_ok(lsm_destroy(copy_path, &error));
    unsigned calls = look.calls;
    for (unsigned i = 0; i < calls; i++) {
        look = (struct look){.limit = i};
        ck_fails(LSM_CANCELLED, lsm_checkpoint(db, copy_path, &options, &error));
        ck_assert(!is_there(copy_path) && !is_there(partial_path));
    }
    close_ok(db);
    expect_sound(db_path);
}
END_TEST

START_TEST(test_checkpoint_of_the_same_path_is_made_by_one)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    struct look look = {.limit = UINT32_MAX, .db = db};
    lsm_checkpoint_options options = LSM_CHECKPOINT_OPTIONS_INIT;
    options.progress = progress;
    options.progress_context = &look;
    fill(db);
    ck_ok(lsm_checkpoint(db, copy_path, &options, &error));
    ck_assert_int_eq(look.second, LSM_BUSY);
    ck_assert_int_eq(look.closed, LSM_BUSY);
    expect_sound(copy_path);
    options.struct_size--;
    ck_fails(LSM_INVALID, lsm_checkpoint(db, copy_path, &options, &error));
    close_ok(db);
}
END_TEST

/* Two at once to one path, again and again: one of them has it, whole. */
static void *race(void *db)
{
    lsm_error ignored;
    return (void *)(uintptr_t)lsm_checkpoint(db, copy_path, NULL, &ignored);
}

START_TEST(test_checkpoint_raced_for_is_whole)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    put_many(db, NULL, 0, 20, 1000);
    ck_ok(lsm_flush(db, &error));
    for (unsigned i = 0; i < 60; i++) {
        pthread_t threads[3];
        unsigned made = 0;
        for (size_t t = 0; t < 3; t++)
            ck_assert_int_eq(pthread_create(&threads[t], NULL, race, db), 0);
        for (size_t t = 0; t < 3; t++) {
            void *status;
            pthread_join(threads[t], &status);
            made += (uintptr_t)status == LSM_OK;
            ck_assert((uintptr_t)status == LSM_OK || (uintptr_t)status == LSM_BUSY ||
                      (uintptr_t)status == LSM_EXISTS);
        }
        ck_assert_uint_eq(made, 1);
        ck_assert(!is_there(partial_path));
        expect_sound(copy_path);
        ck_ok(lsm_destroy(copy_path, &error));
    }
    close_ok(db);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("checkpoint");
    TCase *c = tcase_create("checkpoint");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, set_up, fixture_tear_down);
    tcase_add_loop_test(c, test_checkpoint_holds_all_families_as_they_are, 0, 4);
    tcase_add_test(c, test_checkpoint_and_original_go_their_own_ways);
    tcase_add_test(c, test_checkpoint_of_an_empty_database_is_one);
    tcase_add_test(c, test_checkpoint_of_a_checkpoint_is_one);
    tcase_add_loop_test(c, test_checkpoint_of_who_only_reads, 0, 2);
    if (!PEERS_CANNOT_RUN)
        tcase_add_test(c, test_checkpoint_beside_writers_of_other_processes_is_one_moment);
    tcase_add_loop_test(c, test_checkpoint_has_all_of_a_batch_whose_family_is_new, 0, 4);
    tcase_add_loop_test(c, test_checkpoint_beside_an_ingest_that_merges_away_is_one_moment, 0, 4);
    tcase_add_test(c, test_checkpoint_replaces_nothing);
    tcase_add_test(c, test_checkpoint_clears_up_after_one_that_died);
    tcase_add_loop_test(c, test_checkpoint_keeps_what_is_not_of_one, 0, 6);
    tcase_add_test(c, test_checkpoint_makes_no_file_where_it_has_no_place);
    tcase_add_loop_test(c, test_checkpoint_keeps_a_database_of_that_name, 0, 3);
    tcase_add_loop_test(c, test_checkpoint_cancelled_leaves_nothing, 0, 2);
    tcase_add_test(c, test_checkpoint_of_the_same_path_is_made_by_one);
    tcase_add_test(c, test_checkpoint_raced_for_is_whole);
    suite_add_tcase(s, c);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
