/* One database in many processes with one cache of blocks for all: what they read is right, what
 * one has read the others need not read, and the dead leave nothing behind. */
#include "tests/unit/db/peers.h"

#include "engine/base/random.h"

#include <pthread.h>

#define ROOMY  SMALL_OPTIONS ",memtable_size=1MiB,stage_size=2MiB,wal_segment_size=2MiB"
#define SHARED ROOMY ",shared_cache=true,cache_size=8MiB"
#define KEYS   4000
#define VALUE  1000

static lsm_slice key_of(uint32_t number, char key[16])
{
    snprintf(key, 16, "key%08u", number);
    return text(key);
}

/* The value of `round`: its bytes follow from key and round. */
static lsm_slice value_of(uint32_t number, uint32_t round, uint8_t value[VALUE])
{
    struct random_state r = random_seeded(number * UINT64_C(1000) + round);
    for (size_t i = 8; i < VALUE; i += 8) {
        uint64_t word = random_next(&r);
        memcpy(value + i, &word, sizeof word);
    }
    memcpy(value, &number, 4);
    memcpy(value + 4, &round, 4);
    return (lsm_slice){value, VALUE};
}

static void write_round(lsm_db *db, uint32_t round)
{
    char key[16];
    uint8_t value[VALUE];
    for (uint32_t i = 0; i < KEYS; i++)
        ck_ok(lsm_put(db, NULL, key_of(i, key), value_of(i, round, value), NULL, &error));
    ck_ok(lsm_flush(db, &error));
}

/* Reads `number`, of whatever round: it is whole. Returns its round. */
static uint32_t read_one(lsm_db *db, uint32_t number)
{
    char key[16];
    uint8_t wanted[VALUE];
    uint32_t round;
    lsm_pin pin = LSM_PIN_INIT;
    ck_ok(lsm_get(db, NULL, key_of(number, key), NULL, &pin, &error));
    ck_assert(pin.found && pin.value.size == VALUE);
    memcpy(&round, (const uint8_t *)pin.value.data + 4, 4);
    (void)value_of(number, round, wanted);
    ck_assert_mem_eq(pin.value.data, wanted, VALUE);
    lsm_pin_release(&pin);
    return round;
}

static void read_all(lsm_db *db)
{
    for (uint32_t i = 0; i < KEYS; i++)
        (void)read_one(db, i);
}

/* Walks over all keys. */
static void scan(lsm_db *db)
{
    lsm_iter *it = NULL;
    uint32_t count = 0;
    ck_ok(lsm_iter_open(db, NULL, NULL, &it, &error));
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it)) {
        lsm_slice value = lsm_iter_value(it);
        uint32_t number, round;
        uint8_t wanted[VALUE];
        memcpy(&number, value.data, 4);
        memcpy(&round, (const uint8_t *)value.data + 4, 4);
        (void)value_of(number, round, wanted);
        ck_assert_uint_eq(number, count);
        ck_assert_mem_eq(value.data, wanted, VALUE);
        count++;
    }
    ck_ok(lsm_iter_status(it, &error));
    ck_assert_uint_eq(count, KEYS);
    lsm_iter_close(it);
}

/* ---- one copy -------------------------------------------------------------------------------- */

static void read_what_was_read(struct peer *test)
{
    char go[PEER_TEXT];
    ck_assert(peer_hear(test, go));
    lsm_db *db = open_with(SHARED);
    read_all(db);
    ck_assert_uint_eq(property(db, "cache-misses"), 0);
    ck_assert_uint_gt(property(db, "shared-cache-found"), KEYS / 10);
    ck_assert_uint_eq(property(db, "cache-bytes"), 0);
    scan(db);
    close_ok(db);
    peer_say(test, "done");
}

START_TEST(test_shared_cache_what_one_has_read_another_need_not)
{
    struct peer p = peer_start(read_what_was_read);
    lsm_db *db = open_with(SHARED);
    write_round(db, 1);
    read_all(db);
    ck_assert_uint_gt(property(db, "cache-misses"), 0);
    ck_assert_uint_gt(property(db, "shared-cache-bytes"), KEYS * VALUE);
    uint64_t misses = property(db, "cache-misses");
    read_all(db);
    ck_assert_uint_eq(property(db, "cache-misses"), misses);
    peer_say(&p, "go");
    peer_expect(&p, "done");
    peer_end(&p);
    close_ok(db);
}
END_TEST

START_TEST(test_shared_cache_is_what_the_founder_asked_for)
{
    lsm_db *founder = open_with(ROOMY), *joiner = open_with(SHARED);
    write_round(founder, 1);
    read_all(joiner);
    ck_assert_uint_eq(property(joiner, "shared-cache-bytes"), 0);
    ck_assert_uint_gt(property(joiner, "cache-bytes"), 0);
    close_ok(joiner);
    close_ok(founder);

    founder = open_with(SHARED);
    joiner = open_with(ROOMY);
    lsm_db *bare = open_with(SHARED ",cache_size=none");
    read_all(joiner);
    read_all(bare);
    ck_assert_uint_eq(property(founder, "shared-cache-bytes"), 0);
    ck_assert_uint_gt(property(joiner, "cache-bytes"), 0);
    ck_assert_uint_eq(property(bare, "cache-bytes"), 0);
    read_all(founder);
    ck_assert_uint_gt(property(founder, "shared-cache-bytes"), KEYS * VALUE);
    close_ok(bare);
    close_ok(joiner);
    close_ok(founder);

    lsm_db *alone = open_with(SHARED ",exclusive=true");
    read_all(alone);
    ck_assert_uint_eq(property(alone, "shared-cache-bytes"), 0);
    close_ok(alone);
}
END_TEST

START_TEST(test_shared_cache_serves_who_only_reads)
{
    lsm_db *db = open_with(SHARED);
    write_round(db, 1);
    read_all(db);
    lsm_options options = options_of("read_only=true,shared_cache=true");
    lsm_db *reader = NULL;
    ck_ok(lsm_open(db_path, &options, &reader, &error));
    read_all(reader);
    ck_assert_uint_eq(property(reader, "cache-misses"), 0);
    close_ok(db); /* the reader goes on alone with what is there */
    read_all(reader);
    close_ok(reader);
    ck_ok(lsm_open(db_path, &options, &reader, &error));
    read_all(reader); /* it reads the files by itself */
    ck_assert_uint_eq(property(reader, "shared-cache-bytes"), 0);
    close_ok(reader);
}
END_TEST

/* ---- always right ---------------------------------------------------------------------------- */

#define TIGHT ROOMY ",shared_cache=true,cache_size=4MiB"

static void read_for_ever(struct peer *test)
{
    char go[PEER_TEXT];
    ck_assert(peer_hear(test, go));
    struct random_state r = random_seeded((uint64_t)getpid());
    lsm_db *db = open_with(TIGHT);
    for (unsigned i = 0;; i++) {
        for (unsigned k = 0; k < 500; k++)
            (void)read_one(db, (uint32_t)random_below(&r, KEYS));
        if (i % 8 == 0)
            scan(db);
        if (i == 1)
            peer_say(test, "reads");
    }
}

/* While one writes and merges, the others read through a cache that is too small, and are killed.
 */
START_TEST(test_shared_cache_readers_killed_at_random_see_whole_values)
{
    enum { READERS = 6, AT_ONCE = 2 };
    struct peer readers[READERS];
    struct random_state r = random_seeded((uint64_t)getpid());
    printf("seed %d\n", (int)getpid());
    for (unsigned i = 0; i < READERS; i++)
        readers[i] = peer_start(read_for_ever);
    lsm_db *db = open_with(TIGHT);
    write_round(db, 0);
    for (uint32_t i = 0; i < READERS + AT_ONCE; i++) {
        if (i < READERS)
            peer_say(&readers[i], "go");
        write_round(db, i + 1);
        if (i % 2 == 0)
            ck_ok(lsm_compact_range(db, NULL, NULL, &error));
        if (i < READERS)
            peer_expect(&readers[i], "reads");
        read_all(db);
        for (unsigned k = 0; k < 1000; k++)
            ck_assert_uint_eq(read_one(db, (uint32_t)random_below(&r, KEYS)), i + 1);
        if (i >= AT_ONCE)
            peer_kill(&readers[i - AT_ONCE]);
    }
    scan(db);
    close_ok(db);
}
END_TEST

#define THREADS 3

struct reader {
    pthread_t thread;
    lsm_db *db;
    uint64_t seed;
    _Atomic bool *over;
};

static void *read_on(void *argument)
{
    struct reader *reader = argument;
    struct random_state r = random_seeded(reader->seed);
    char key[16];
    while (!atomic_load(reader->over)) {
        uint8_t wanted[VALUE];
        lsm_error mine;
        lsm_pin pin = LSM_PIN_INIT;
        uint32_t round, number = (uint32_t)random_below(&r, KEYS);
        ck_assert(lsm_get(reader->db, NULL, key_of(number, key), NULL, &pin, &mine) == LSM_OK);
        ck_assert(pin.found);
        memcpy(&round, (const uint8_t *)pin.value.data + 4, 4);
        (void)value_of(number, round, wanted);
        ck_assert(memcmp(pin.value.data, wanted, VALUE) == 0);
        lsm_pin_release(&pin);
    }
    return NULL;
}

/* Two handles of one process are two processes to the cache. */
START_TEST(test_shared_cache_handles_and_threads_see_whole_values)
{
    struct reader readers[2 * THREADS];
    lsm_db *handles[2] = {open_with(TIGHT), open_with(TIGHT)};
    _Atomic bool over = false;
    write_round(handles[0], 0);
    for (unsigned i = 0; i < 2 * THREADS; i++) {
        readers[i] = (struct reader){.db = handles[i % 2], .seed = i, .over = &over};
        ck_assert_int_eq(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]), 0);
    }
    for (uint32_t round = 1; round < 4; round++) {
        write_round(handles[round % 2], round);
        ck_ok(lsm_compact_range(handles[0], NULL, NULL, &error));
        scan(handles[1]);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < 2 * THREADS; i++)
        pthread_join(readers[i].thread, NULL);
    close_ok(handles[0]);
    read_all(handles[1]);
    close_ok(handles[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shared cache");
    TCase *all = tcase_create("all");
    tcase_set_timeout(all, 120);
    tcase_add_checked_fixture(all, fixture_set_up, fixture_tear_down);
    tcase_add_test(all, test_shared_cache_is_what_the_founder_asked_for);
    tcase_add_test(all, test_shared_cache_serves_who_only_reads);
    tcase_add_test(all, test_shared_cache_handles_and_threads_see_whole_values);
    if (!PEERS_CANNOT_RUN) {
        tcase_add_test(all, test_shared_cache_what_one_has_read_another_need_not);
        tcase_add_test(all, test_shared_cache_readers_killed_at_random_see_whole_values);
    }
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
