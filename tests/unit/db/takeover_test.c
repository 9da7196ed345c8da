/*
 * A writer dies at each step of a commit, as a thread that never returns from it: whoever writes
 * next finishes the commit or forgets it, whole, and a later recovery says the same.
 */
#include "tests/unit/db/db_fixture.h"

#include "engine/base/step.h"
#include "engine/db/open.h"

#include <pthread.h>

#define MAX_STEPS 64
#define OPTIONS                                                                                    \
    "create=true,workers=none,memtable_size=256KiB,stage_size=128KiB,wal_segment_size=128KiB,"     \
    "cache_size=1MiB"

/* Of the thread that is to die. */
static __thread bool is_victim;
static __thread unsigned steps_left;
static const char *steps[MAX_STEPS]; /* that the victim went through */
static unsigned step_count;

static void on_step(const char *name)
{
    if (!is_victim)
        return;
    if (step_count < MAX_STEPS)
        steps[step_count++] = name;
    if (steps_left-- == 0)
        pthread_exit(NULL);
}

enum kind { KIND_PUT, KIND_SYNC, KIND_BATCH, KIND_COUNT };

struct victim {
    lsm_db *db;
    lsm_cf *second;
    enum kind kind;
    lsm_batch *batch; /* owned */
    unsigned dies_at; /* its how manieth step */
    lsm_error error;
    bool returned;
};

static lsm_status write_as(struct victim *v, lsm_error *err)
{
    lsm_write_options options = {.durability = v->kind == KIND_PUT ? LSM_WRITE : LSM_SYNC};
    if (v->kind != KIND_BATCH)
        return lsm_put(v->db, NULL, text("victim 0"), text("new"), &options, err);
    lsm_status status = lsm_batch_new(&v->batch, err);
    lsm_batch *batch = v->batch;
    for (int i = 0; status == LSM_OK && i < 4; i++) {
        char key[16];
        snprintf(key, sizeof key, "victim %d", i);
        status = lsm_batch_put(batch, i % 2 == 0 ? NULL : v->second, text(key), text("new"), err);
    }
    if (status == LSM_OK) /* the same key twice: the later one counts */
        status = lsm_batch_put(batch, NULL, text("twice"), text("older"), err);
    if (status == LSM_OK)
        status = lsm_batch_put(batch, NULL, text("twice"), text("new"), err);
    if (status == LSM_OK)
        status = lsm_write(v->db, batch, &options, err);
    return status;
}

static void *victim_main(void *context)
{
    struct victim *v = context;
    is_victim = true;
    steps_left = v->dies_at;
    ck_assert_int_eq(write_as(v, &v->error), LSM_OK);
    v->returned = true;
    return NULL;
}

static bool has(lsm_db *db, lsm_cf *cf, const char *key)
{
    char value[16];
    size_t size = 0;
    ck_ok(lsm_get_into(db, cf, text(key), NULL, value, sizeof value, &size, &error));
    bool is_new = size == 3 && memcmp(value, "new", 3) == 0;
    ck_assert_msg(is_new || (size == 3 && memcmp(value, "old", 3) == 0), "'%s' has another value",
                  key);
    return is_new;
}

/* All of the victim's entries or none. */
static bool is_there(lsm_db *db, lsm_cf *second, enum kind kind)
{
    bool first = has(db, NULL, "victim 0");
    if (kind == KIND_BATCH) {
        ck_assert_int_eq(has(db, second, "victim 1"), first);
        ck_assert_int_eq(has(db, NULL, "victim 2"), first);
        ck_assert_int_eq(has(db, second, "victim 3"), first);
        ck_assert_int_eq(has(db, NULL, "twice"), first);
    }
    return first;
}

static unsigned count_entries(lsm_db *db, lsm_cf *cf)
{
    lsm_iter *it = NULL;
    unsigned count = 0;
    ck_ok(lsm_iter_open(db, cf, NULL, &it, &error));
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it))
        count++;
    ck_ok(lsm_iter_status(it, &error));
    lsm_iter_close(it);
    return count;
}

static void put_old(lsm_db *db, lsm_cf *second)
{
    static const char *const keys[] = {"victim 0", "victim 2", "twice", "witness"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ck_ok(lsm_put(db, NULL, text(keys[i]), text("old"), NULL, &error));
    ck_ok(lsm_put(db, second, text("victim 1"), text("old"), NULL, &error));
    ck_ok(lsm_put(db, second, text("victim 3"), text("old"), NULL, &error));
}

static unsigned index_of(const char *name)
{
    unsigned at = 0;
    while (at < step_count && strcmp(steps[at], name) != 0)
        at++;
    return at;
}

/* One life: the victim dies at its step number `dies_at`, a survivor writes, all die, reopen.
 * Returns false when the victim had fewer steps. */
static bool one_death(enum kind kind, unsigned dies_at, bool survivor_syncs)
{
    lsm_db *db = open_with(OPTIONS);
    struct victim v = {.db = db, .kind = kind, .dies_at = dies_at};
    ck_ok(lsm_cf_create(db, "second", NULL, &v.second, &error));
    put_old(db, v.second);
    step_count = 0;
    atomic_store(&step_hook, on_step);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, victim_main, &v), 0);
    pthread_join(thread, NULL);
    atomic_store(&step_hook, NULL);
    lsm_batch_free(v.batch);

    lsm_write_options options = {.durability = survivor_syncs ? LSM_SYNC : LSM_WRITE};
    ck_ok(lsm_put(db, NULL, text("witness"), text("new"), &options, &error));
    bool there = is_there(db, v.second, kind);
    bool intended = index_of("commit: intent") < step_count;
    ck_assert_msg(there == intended, "died at '%s': there %d", steps[step_count - 1], there);
    ck_assert(has(db, NULL, "witness"));
    ck_assert_uint_eq(count_entries(db, NULL), 4);
    ck_assert_uint_eq(count_entries(db, v.second), 2);
    bool returned = v.returned;
    db_abandon(db);

    db = open_with(OPTIONS);
    lsm_cf *second = NULL;
    ck_ok(lsm_cf_open(db, "second", &second, &error));
    ck_assert_int_eq(is_there(db, second, kind), there);
    ck_assert(has(db, NULL, "witness"));
    close_ok(db);
    ck_ok(lsm_destroy(db_path, &error));
    return !returned;
}

START_TEST(test_takeover_after_death_at_any_step_finishes_or_forgets)
{
    unsigned deaths = 0;
    while (one_death((enum kind)(_i / 2), deaths, _i % 2 == 1))
        deaths++;
    ck_assert_uint_gt(deaths, 8);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("db/takeover");
    TCase *tests = tcase_create("takeover");
    tcase_add_checked_fixture(tests, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_takeover_after_death_at_any_step_finishes_or_forgets, 0,
                        2 * KIND_COUNT);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
