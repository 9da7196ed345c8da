/* Compaction by hand: what it takes, what it leaves alone, and how others stop it. */
#include "engine/base/step.h"
#include "engine/db/db_private.h"
#include "tests/unit/db/db_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#define OPTIONS                                                                                    \
    "create=true,workers=none,memtable_size=1MiB,cache_size=none,table_size=32KiB,"                \
    "level0_trigger=100,level0_slowdown=200,level0_stop=300,max_merge_threads=3"

/* The keys "many-FIRST" up to COUNT more, in a table of level 0. */
static void make_table(lsm_db *db, unsigned first, unsigned count)
{
    put_many(db, NULL, first, count, 100);
    ck_ok(lsm_flush(db, &error));
}

/* ---- parts ----------------------------------------------------------------------------------- */

static _Atomic unsigned parts_begun;

static void count_parts(const char *name)
{
    parts_begun += strcmp(name, "compaction: part begun") == 0;
}

static unsigned found_count(lsm_db *db, unsigned count)
{
    unsigned found = 0;
    for (unsigned i = 0; i < count; i++) {
        char key[32];
        lsm_pin pin = LSM_PIN_INIT;
        snprintf(key, sizeof key, "many-%06u", i);
        ck_ok(lsm_get(db, NULL, text(key), NULL, &pin, &error));
        found += pin.found;
        lsm_pin_release(&pin);
    }
    return found;
}

static unsigned parts_of_a_rewrite(const char *more)
{
    char options[400];
    snprintf(options, sizeof options, "%s%s", OPTIONS, more);
    lsm_db *db = open_with(options);
    if (found_count(db, 1) == 0)
        make_table(db, 0, 2000);
    parts_begun = 0;
    atomic_store(&step_hook, count_parts);
    ck_ok(lsm_compact_range(db, NULL, &(lsm_compact_options){.force_bottom = true}, &error));
    atomic_store(&step_hook, NULL);
    ck_assert_uint_eq(found_count(db, 2000), 2000);
    for (size_t i = 0; i < SHM_SLOT_JOBS; i++)
        ck_assert_uint_eq(db->slot->jobs[i].state, SHM_JOB_NONE);
    close_ok(db);
    return parts_begun;
}

/* As many threads as the option allows; a light client takes its own, unless it says otherwise. */
START_TEST(test_manual_is_done_on_as_many_threads_as_are_allowed)
{
    unsigned parts = parts_of_a_rewrite(""); /* a trivial move, and the rewrite */
    ck_assert_uint_eq(parts, 3);
    ck_assert_uint_eq(parts_of_a_rewrite(",max_merge_threads=1"), 1);
    ck_assert_uint_eq(parts_of_a_rewrite(",max_merge_threads=2"), 2);
    ck_assert_uint_eq(parts_of_a_rewrite(",max_merge_threads=0"), 1);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned wanted = processors < 3 ? (unsigned)processors : 3; /* it is worth three at most */
    ck_assert_uint_eq(parts_of_a_rewrite(",max_merge_threads=0,workers=1"), wanted);
    ck_assert_uint_eq(parts_of_a_rewrite(",max_merge_threads=0,workers=1,memory=50MiB"), 1);
}
END_TEST

/* ---- damage ---------------------------------------------------------------------------------- */

/* Numbers of the tables of a level, by key. */
static size_t tables_of(lsm_db *db, uint32_t level, uint64_t *numbers, size_t room)
{
    struct version *version = version_set_current(db->versions);
    const struct version_level *l = &version_find_cf(version, 0)->levels[level];
    for (size_t i = 0; i < l->count && i < room; i++)
        numbers[i] = l->files[i]->meta.number;
    size_t count = l->count;
    version_drop(version);
    return count;
}

/* A byte of its first block changes. */
static void spoil(uint64_t number)
{
    char path[SCRATCH_PATH_SIZE + 64];
    unsigned char byte;
    snprintf(path, sizeof path, "%s/%06llu.sst", db_path, (unsigned long long)number);
    int fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, 100), 1);
    byte ^= 0x10;
    ck_assert_int_eq(pwrite(fd, &byte, 1, 100), 1);
    close(fd);
}

struct damages {
    unsigned count;
    char files[4][128];
};

static void note_damage(void *context, const lsm_error *err)
{
    struct damages *d = context;
    ck_assert_int_eq(err->status, LSM_CORRUPT);
    if (d->count < 4)
        snprintf(d->files[d->count], sizeof d->files[0], "%s", err->file);
    d->count++;
}

START_TEST(test_manual_damaged_table_of_level_0_keeps_back_only_what_overlaps_it)
{
    uint64_t numbers[8];
    char name[32];
    struct damages damages = {0};
    lsm_compact_options options = {.damaged = note_damage, .damaged_context = &damages};
    lsm_db *db = open_with(OPTIONS);
    make_table(db, 0, 100);
    make_table(db, 200, 100);
    make_table(db, 250, 100); /* on top of the one before */
    make_table(db, 400, 100);
    ck_assert_uint_eq(tables_of(db, 0, numbers, 8), 4);
    spoil(numbers[1]);
    ck_fails(LSM_CORRUPT, lsm_compact_range(db, NULL, &options, &error));
    snprintf(name, sizeof name, "%06llu.sst", (unsigned long long)numbers[1]);
    ck_assert_uint_eq(damages.count, 1);
    ck_assert_str_eq(damages.files[0], name);
    ck_assert_str_eq(error.file, name);
    uint64_t left[8];
    ck_assert_uint_eq(tables_of(db, 0, left, 8), 2);
    ck_assert_uint_eq(left[0], numbers[1]);
    ck_assert_uint_eq(left[1], numbers[2]);
    expect_text(db, NULL, "absent", NULL);
    ck_ok(
        lsm_compact_range(db, NULL, &(lsm_compact_options){.first = text("many-000400")}, &error));
    close_ok(db);
}
END_TEST

START_TEST(test_manual_rewrite_leaves_the_damaged_table_and_replaces_all_others)
{
    uint64_t before[64], after[64];
    struct damages damages = {0};
    lsm_compact_options options = {
        .force_bottom = true, .damaged = note_damage, .damaged_context = &damages};
    lsm_db *db = open_with(OPTIONS ",compression=none");
    make_table(db, 0, 3000);
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    uint32_t lowest = VERSION_LEVELS - 1;
    size_t count = tables_of(db, lowest, before, 64);
    ck_assert_uint_gt(count, 6);
    ck_assert_uint_lt(count, 64);
    spoil(before[0]);
    spoil(before[3]);
    ck_fails(LSM_CORRUPT, lsm_compact_range(db, NULL, &options, &error));
    ck_assert_uint_eq(damages.count, 2);
    size_t kept = 0, count_after = tables_of(db, lowest, after, 64);
    for (size_t i = 0; i < count_after; i++) {
        for (size_t j = 0; j < count; j++)
            kept += after[i] == before[j];
    }
    ck_assert_uint_eq(kept, 2);
    ck_assert_uint_eq(after[0], before[0]);
    close_ok(db);
}
END_TEST

/* Between two tables that can sink lies one that cannot, for what it meets below is damaged. */
START_TEST(test_manual_damage_below_keeps_back_what_overlaps_it)
{
    lsm_db *db = open_with(OPTIONS ",compression=none");
    make_table(db, 0, 3000);
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    struct version *version = version_set_current(db->versions);
    const struct version_level *l = &version_find_cf(version, 0)->levels[VERSION_LEVELS - 1];
    size_t at = version_level_find(l, text("many-001500"));
    ck_assert(at > 0 && at + 1 < l->count);
    spoil(l->files[at]->meta.number);
    version_drop(version);
    make_table(db, 0, 10);
    make_table(db, 1500, 10);
    make_table(db, 2990, 10);
    ck_fails(LSM_CORRUPT, lsm_compact_range(db, NULL, NULL, &error));
    ck_assert_uint_eq(property(db, "level0-tables"), 1);
    close_ok(db);
}
END_TEST

/* ---- what it takes --------------------------------------------------------------------------- */

START_TEST(test_manual_takes_one_level_only)
{
    lsm_compact_options options = {.one_level = true, .level = 3};
    lsm_db *db = open_with(OPTIONS);
    make_table(db, 0, 100);
    make_table(db, 0, 100);
    ck_ok(lsm_compact_range(db, NULL, &options, &error));
    ck_assert_uint_eq(property(db, "level0-tables"), 2);
    options.level = 0;
    ck_ok(lsm_compact_range(db, NULL, &options, &error));
    ck_assert_uint_eq(property(db, "level0-tables"), 0);
    uint64_t written = property(db, "compaction-bytes-written");
    options.force_bottom = true;
    ck_ok(lsm_compact_range(db, NULL, &options, &error)); /* level 0 is not the lowest */
    ck_assert_uint_eq(property(db, "compaction-bytes-written"), written);
    options.level = VERSION_LEVELS - 1;
    ck_ok(lsm_compact_range(db, NULL, &options, &error));
    ck_assert_uint_gt(property(db, "compaction-bytes-written"), written);
    options.level = VERSION_LEVELS;
    ck_fails(LSM_INVALID, lsm_compact_range(db, NULL, &options, &error));
    close_ok(db);
}
END_TEST

START_TEST(test_manual_writes_another_compression_and_refresh_puts_it_right)
{
    lsm_compact_options raw = {.force_bottom = true, .compression = LSM_COMPRESSION_NONE};
    lsm_compact_options refresh = {.refresh_bottom = true};
    lsm_db *db = open_with(OPTIONS);
    make_table(db, 0, 2000);
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    uint64_t compressed = property(db, "table-bytes");
    ck_ok(lsm_compact_range(db, NULL, &raw, &error));
    uint64_t size = property(db, "table-bytes");
    ck_assert_uint_gt(size, 2 * compressed);
    ck_ok(lsm_compact_range(db, NULL, &refresh, &error));
    ck_assert_uint_lt(property(db, "table-bytes"), size / 2);
    uint64_t written = property(db, "compaction-bytes-written");
    ck_ok(lsm_compact_range(db, NULL, &refresh, &error)); /* nothing would change */
    ck_assert_uint_eq(property(db, "compaction-bytes-written"), written);
    raw.compression = LSM_COMPRESSION_ZSTD;
    raw.compression_level = LSM_MOST_COMPRESSION + 1;
    ck_fails(LSM_INVALID, lsm_compact_range(db, NULL, &raw, &error));
    raw.compression = (lsm_compression)9;
    ck_fails(LSM_INVALID, lsm_compact_range(db, NULL, &raw, &error));
    close_ok(db);
}
END_TEST

START_TEST(test_manual_refresh_drops_deletions_that_a_snapshot_kept)
{
    lsm_snapshot *snapshot = NULL;
    lsm_db *db = open_with(OPTIONS);
    make_table(db, 0, 100);
    ck_ok(lsm_snapshot_acquire(db, &snapshot, &error));
    ck_ok(lsm_delete(db, NULL, text("many-000050"), NULL, &error));
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    lsm_snapshot_release(db, snapshot);
    uint64_t written = property(db, "compaction-bytes-written");
    ck_ok(lsm_compact_range(db, NULL, &(lsm_compact_options){.refresh_bottom = true}, &error));
    ck_assert_uint_gt(property(db, "compaction-bytes-written"), written);
    ck_assert_uint_eq(property(db, "entries"), 99);
    close_ok(db);
}
END_TEST

/* ---- stopping, and waiting ------------------------------------------------------------------- */

struct gate {
    lsm_db *db; /* another handle */
    _Atomic bool is_running, has_ended;
    unsigned calls;
};

static bool cancel_from_inside(void *context, uint64_t done, uint64_t total)
{
    struct gate *g = context;
    uint32_t asked = 0;
    (void)done;
    (void)total;
    g->calls++;
    /* It waits for the thread it runs on, so it gives up, but the wish stays. */
    ck_fails(LSM_TIMEOUT, lsm_compact_cancel(g->db, 1, &asked, &error));
    ck_assert_uint_eq(asked, 1);
    return true;
}

START_TEST(test_manual_cancel_reaches_the_call_of_another_handle)
{
    uint32_t asked = 99;
    lsm_db *db = open_with(OPTIONS);
    struct gate gate = {.db = open_with(OPTIONS)};
    lsm_compact_options options = {.progress = cancel_from_inside, .progress_context = &gate};
    ck_ok(lsm_compact_cancel(gate.db, 0, &asked, &error));
    ck_assert_uint_eq(asked, 0);
    make_table(db, 0, 1000);
    make_table(db, 0, 1000);
    lsm_error cancelled = {0};
    ck_assert_int_eq(lsm_compact_range(db, NULL, &options, &cancelled), LSM_CANCELLED);
    ck_assert_uint_eq(gate.calls, 1);
    ck_assert_uint_eq(property(db, "level0-tables"), 2);
    options.progress = NULL; /* a later call is not asked */
    ck_ok(lsm_compact_range(db, NULL, &options, &error));
    ck_assert_uint_eq(property(db, "level0-tables"), 0);
    close_ok(gate.db);
    close_ok(db);
}
END_TEST

static bool stay(void *context, uint64_t done, uint64_t total)
{
    struct gate *g = context;
    (void)done;
    (void)total;
    atomic_store(&g->is_running, true);
    usleep(1000);
    return true;
}

static void *compact_for_ever(void *context)
{
    struct gate *g = context;
    lsm_error err = {0};
    lsm_compact_options options = {.force_bottom = true, .progress = stay, .progress_context = g};
    lsm_status status = LSM_OK;
    while (status == LSM_OK)
        status = lsm_compact_range(g->db, NULL, &options, &err);
    ck_assert_int_eq(status, LSM_CANCELLED);
    atomic_store(&g->has_ended, true);
    return NULL;
}

START_TEST(test_manual_cancel_waits_until_the_call_has_ended)
{
    pthread_t thread;
    uint32_t asked = 0;
    lsm_db *db = open_with(OPTIONS);
    struct gate gate = {.db = open_with(OPTIONS)};
    make_table(db, 0, 1000);
    ck_assert_int_eq(pthread_create(&thread, NULL, compact_for_ever, &gate), 0);
    while (!atomic_load(&gate.is_running))
        usleep(1000);
    /* Between two calls there is none, and one that has read all may end before it looks again. */
    while (!atomic_load(&gate.has_ended)) {
        uint32_t now = 0;
        ck_ok(lsm_compact_cancel(db, 0, &now, &error));
        ck_assert_uint_le(now, 1);
        asked += now;
    }
    ck_assert_uint_ge(asked, 1);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(atomic_load(&gate.db->slot->manual.calls), 0);
    close_ok(gate.db);
    close_ok(db);
}
END_TEST

struct patience {
    lsm_db *db, *staller;
    unsigned calls;
    uint64_t written; /* when it went on */
};

static bool wait_and_release(void *context, uint64_t done, uint64_t total)
{
    struct patience *p = context;
    (void)done;
    (void)total;
    if (++p->calls == 5) {
        p->written = property(p->db, "compaction-bytes-written");
        atomic_store(&p->staller->slot->report.stalled_writers, 0);
    }
    return true;
}

START_TEST(test_manual_pauses_between_steps_as_long_as_writers_wait)
{
    lsm_db *db = open_with(OPTIONS);
    struct patience patience = {.db = db, .staller = open_with(OPTIONS)};
    lsm_compact_options options = {.force_bottom = true,
                                   .pause_if_stall = true,
                                   .progress = wait_and_release,
                                   .progress_context = &patience};
    make_table(db, 0, 1000);
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    uint64_t written = property(db, "compaction-bytes-written");
    atomic_store(&patience.staller->slot->report.stalled_writers, 1);
    ck_ok(lsm_compact_range(db, NULL, &options, &error));
    ck_assert_uint_ge(patience.calls, 5);
    ck_assert_uint_eq(patience.written, written);
    ck_assert_uint_gt(property(db, "compaction-bytes-written"), written);
    close_ok(patience.staller);
    close_ok(db);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("manual");
    tcase_add_checked_fixture(tests, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_manual_is_done_on_as_many_threads_as_are_allowed);
    tcase_add_test(tests, test_manual_damaged_table_of_level_0_keeps_back_only_what_overlaps_it);
    tcase_add_test(tests, test_manual_rewrite_leaves_the_damaged_table_and_replaces_all_others);
    tcase_add_test(tests, test_manual_damage_below_keeps_back_what_overlaps_it);
    tcase_add_test(tests, test_manual_takes_one_level_only);
    tcase_add_test(tests, test_manual_writes_another_compression_and_refresh_puts_it_right);
    tcase_add_test(tests, test_manual_refresh_drops_deletions_that_a_snapshot_kept);
    tcase_add_test(tests, test_manual_cancel_reaches_the_call_of_another_handle);
    tcase_add_test(tests, test_manual_cancel_waits_until_the_call_has_ended);
    tcase_add_test(tests, test_manual_pauses_between_steps_as_long_as_writers_wait);
    Suite *suite = suite_create("manual");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
