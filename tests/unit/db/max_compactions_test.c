/* How many compactions run at once, over all processes: what stands in the slots, looked at while
 * nobody can begin or end one. */
#include "tests/unit/db/peers.h"

#include "engine/base/random.h"
#include "engine/db/db_private.h"

#include <stdatomic.h>

#define OPTIONS                                                                                    \
    "create=true,memtable_size=64KiB,stage_size=128KiB,wal_segment_size=128KiB,"                   \
    "cache_size=1MiB,level0_trigger=2,table_size=64KiB,level_base_size=256KiB,workers="
#define FAMILIES 4
#define WRITERS  3
#define LOOKS    400

static _Atomic bool *over;

static uint32_t running(lsm_db *db)
{
    uint32_t count = 0;
    ck_ok(db_edit_begin(db, &error));
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++)
        for (uint32_t j = 0; j < SHM_SLOT_JOBS; j++)
            count += atomic_load(&db->layout->slots[i].jobs[j].state) == SHM_JOB_RUNNING;
    db_edit_end(db);
    return count;
}

static void writer(struct peer *test)
{
    char message[PEER_TEXT], key[16], value[400];
    ck_assert(peer_hear(test, message));
    lsm_db *db = open_with(OPTIONS "5,max_compactions=200"); /* not the first: does not count */
    struct random_state r = random_seeded((uint64_t)getpid());
    lsm_cf *families[FAMILIES];
    for (unsigned i = 0; i < FAMILIES; i++) {
        snprintf(key, sizeof key, "family %u", i);
        ck_ok(lsm_cf_open(db, key, &families[i], &error));
    }
    memset(value, 'v', sizeof value);
    while (!atomic_load(over)) {
        uint64_t number = random_below(&r, 5000);
        snprintf(key, sizeof key, "key %u", (unsigned)number);
        ck_ok(lsm_put(db, families[number % FAMILIES], text(key), LSM_SLICE(value, sizeof value),
                      NULL, &error));
    }
    close_ok(db);
}

/* The most that were seen at once. */
static uint32_t storm(const char *options)
{
    struct peer peers[WRITERS];
    uint32_t most = 0, looks = 0;
    over = shared_memory(sizeof *over);
    for (unsigned i = 0; i < WRITERS; i++)
        peers[i] = peer_start(writer); /* while there are no threads here: see deadline_test.c */
    lsm_db *db = open_with(options);
    for (unsigned i = 0; i < FAMILIES; i++) {
        char name[16];
        lsm_cf *cf = NULL;
        snprintf(name, sizeof name, "family %u", i);
        ck_ok(lsm_cf_create(db, name, NULL, &cf, &error));
    }
    for (unsigned i = 0; i < WRITERS; i++)
        peer_say(&peers[i], "go");
    while (looks < LOOKS) {
        uint32_t count = running(db);
        most = count > most ? count : most;
        looks += count > 0;
        usleep(500);
        for (unsigned i = 0; i < WRITERS; i++)
            ck_assert_msg(waitpid(peers[i].pid, NULL, WNOHANG) == 0, "a writer failed");
    }
    atomic_store(over, true);
    for (unsigned i = 0; i < WRITERS; i++)
        peer_end(&peers[i]);
    ck_ok(lsm_wait_idle(db, &error));
    close_ok(db);
    return most;
}

START_TEST(test_compactions_of_all_processes_keep_the_limit_of_the_first)
{
    static const char *const options[] = {OPTIONS "2,max_compactions=1",
                                          OPTIONS "3,max_compactions=2"};
    uint32_t most = storm(options[_i]);
    printf("limit %d: %u at once\n", _i + 1, most);
    ck_assert_uint_ge(most, 1);
    ck_assert_uint_le(most, (uint32_t)_i + 1);
}
END_TEST

/* Who died with a claim does not hold back the others, reaped or not. */
START_TEST(test_compactions_of_the_dead_do_not_count)
{
    lsm_db *db = open_with(OPTIONS "1,max_compactions=1"), *second = open_with(OPTIONS "1");
    struct shm_slot *slot = &db->layout->slots[SHM_MAX_SLOTS - 1]; /* nobody has its lock */
    ck_ok(db_edit_begin(db, &error));
    ck_assert(db_job_is_allowed_locked(db));
    atomic_store(&slot->jobs[0].state, SHM_JOB_RUNNING);
    ck_assert(db_job_is_allowed_locked(db));
    atomic_store(&second->slot->jobs[1].state, SHM_JOB_RUNNING);
    ck_assert(!db_job_is_allowed_locked(db));
    atomic_store(&second->slot->jobs[1].state, SHM_JOB_NONE);
    ck_assert(db_job_is_allowed_locked(db));
    atomic_store(&slot->jobs[0].state, SHM_JOB_NONE);
    db_edit_end(db);
    close_ok(second);
    close_ok(db);
}
END_TEST

int main(void)
{
    if (PEERS_CANNOT_RUN)
        return PEERS_SKIPPED;
    Suite *suite = suite_create("db/max_compactions");
    TCase *tests = tcase_create("max_compactions");
    tcase_add_checked_fixture(tests, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_compactions_of_all_processes_keep_the_limit_of_the_first, 0, 2);
    tcase_add_test(tests, test_compactions_of_the_dead_do_not_count);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
