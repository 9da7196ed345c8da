/*
 * Many threads on one handle: writers of every durability, readers, iterators, snapshots, families
 * that come and go, flushes and merges, all at once. Made for the thread sanitizer as much as for
 * its own assertions. Also: a cached read allocates nothing.
 */
#include "tests/unit/db/db_fixture.h"

#include "engine/base/memory.h"
#include "engine/base/pages.h"
#include "engine/base/random.h"
#include "engine/db/db_private.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define WRITERS 4
#define READERS 3
#define GROUPS  8   /* keys of a writer */
#define MEMBERS 4   /* keys that one batch writes together */
#define ROUNDS  400 /* writes of a writer */

struct shared {
    lsm_db *db;
    lsm_cf *second;
    _Atomic uint64_t written[WRITERS]; /* number of the last acknowledged write */
    _Atomic unsigned writers_left;
    _Atomic bool failed;
};

static void fail_thread(struct shared *s, const char *what)
{
    if (!atomic_exchange(&s->failed, true))
        fprintf(stderr, "%s: %s\n", what, error.message);
}

#define thread_ok(s, call)                                                                         \
    do {                                                                                           \
        lsm_error err_ = {0};                                                                      \
        lsm_error *err = &err_;                                                                    \
        if ((call) != LSM_OK) {                                                                    \
            if (!atomic_exchange(&(s)->failed, true))                                              \
                fprintf(stderr, "%s: %s: %s\n", #call, lsm_strerror(err_.status), err_.message);   \
        }                                                                                          \
    } while (0)

static lsm_slice member_key(unsigned writer, uint64_t n, unsigned member, char key[40])
{
    return LSM_SLICE(
        key, (size_t)snprintf(key, 40, "w%u/g%u/m%u", writer, (unsigned)(n % GROUPS), member));
}

/* The number in a key's value; 0 when it is absent. */
static uint64_t read_number(struct shared *s, lsm_cf *cf, lsm_slice key,
                            const lsm_snapshot *snapshot)
{
    lsm_read_options options = {.snapshot = snapshot};
    uint64_t bytes[40] = {0};
    size_t size = 0;
    thread_ok(s, lsm_get_into(s->db, cf, key, &options, bytes, sizeof bytes, &size, err));
    return size == LSM_ABSENT ? 0 : bytes[0];
}

struct worker {
    struct shared *shared;
    unsigned number;
};

/* Each write sets all members of a group, in two families, to its own number. */
static void *write_groups(void *context)
{
    struct worker *w = context;
    struct shared *s = w->shared;
    lsm_batch *batch = NULL;
    uint64_t value[40];
    thread_ok(s, lsm_batch_new(&batch, err));
    for (uint64_t n = 1; n <= ROUNDS && !atomic_load(&s->failed); n++) {
        lsm_write_options options = {.durability = n % 23 == w->number ? LSM_SYNC : LSM_WRITE};
        char key[40];
        lsm_batch_clear(batch);
        for (size_t i = 0; i < 40; i++)
            value[i] = n;
        for (unsigned m = 0; m < MEMBERS; m++)
            thread_ok(s, lsm_batch_put(batch, m % 2 == 0 ? NULL : s->second,
                                       member_key(w->number, n, m, key),
                                       LSM_SLICE(value, sizeof value), err));
        thread_ok(s, lsm_write(s->db, batch, &options, err));
        atomic_store(&s->written[w->number], n);
        for (unsigned m = 0; m < MEMBERS; m++) {
            lsm_cf *cf = m % 2 == 0 ? NULL : s->second;
            if (read_number(s, cf, member_key(w->number, n, m, key), NULL) != n)
                fail_thread(s, "a writer does not read its own write");
        }
    }
    lsm_batch_free(batch);
    atomic_fetch_sub(&s->writers_left, 1);
    return NULL;
}

/* All members of all groups as of one snapshot: whole batches, and no write older than was told. */
static void check_snapshot(struct shared *s, uint64_t *last)
{
    uint64_t floor[WRITERS];
    for (unsigned w = 0; w < WRITERS; w++)
        floor[w] = atomic_load(&s->written[w]);
    lsm_snapshot *snapshot = NULL;
    thread_ok(s, lsm_snapshot_acquire(s->db, &snapshot, err));
    if (snapshot == NULL)
        return;
    uint64_t sequence = lsm_snapshot_sequence(snapshot);
    if (sequence < *last)
        fail_thread(s, "a later snapshot is older");
    *last = sequence;
    for (unsigned w = 0; w < WRITERS; w++) {
        uint64_t newest = 0;
        for (unsigned g = 0; g < GROUPS; g++) {
            char key[40];
            uint64_t first = read_number(s, NULL, member_key(w, g, 0, key), snapshot);
            newest = first > newest ? first : newest;
            for (unsigned m = 1; m < MEMBERS; m++) {
                lsm_cf *cf = m % 2 == 0 ? NULL : s->second;
                if (read_number(s, cf, member_key(w, g, m, key), snapshot) != first)
                    fail_thread(s, "a snapshot shows half a batch");
            }
        }
        if (newest < floor[w])
            fail_thread(s, "a snapshot misses an acknowledged write");
    }
    lsm_snapshot_release(s->db, snapshot);
}

/* An iterator's groups are whole, in order forwards and backwards. */
static void check_iterator(struct shared *s)
{
    lsm_iter *iter = NULL;
    thread_ok(s, lsm_iter_open(s->db, NULL, NULL, &iter, err));
    if (iter == NULL)
        return;
    for (unsigned pass = 0; pass < 2; pass++) {
        unsigned count = 0, backwards = 0;
        uint64_t numbers[2] = {0};
        for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter)) {
            if (lsm_iter_value(iter).size != 40 * sizeof(uint64_t))
                continue;
            memcpy(&numbers[count++ % 2], lsm_iter_value(iter).data, sizeof numbers[0]);
            /* Members 0 and 2 of a group stand side by side in this family. */
            if (count % 2 == 0 && numbers[0] != numbers[1])
                fail_thread(s, "an iterator shows half a batch");
        }
        for (lsm_iter_last(iter); lsm_iter_valid(iter); lsm_iter_prev(iter))
            backwards += lsm_iter_value(iter).size == 40 * sizeof(uint64_t);
        if (count != backwards)
            fail_thread(s, "an iterator finds another number of keys backwards");
        thread_ok(s, lsm_iter_status(iter, err));
        thread_ok(s, lsm_iter_refresh(iter, err));
    }
    lsm_iter_close(iter);
}

static void *read_groups(void *context)
{
    struct worker *w = context;
    struct shared *s = w->shared;
    struct random_state random = random_seeded(w->number);
    uint64_t last = 0;
    while (atomic_load(&s->writers_left) > 0 && !atomic_load(&s->failed)) {
        switch (random_below(&random, 3)) {
        case 0:
            check_snapshot(s, &last);
            break;
        case 1:
            check_iterator(s);
            break;
        default: {
            unsigned writer = (unsigned)random_below(&random, WRITERS);
            uint64_t floor = atomic_load(&s->written[writer]);
            char key[40];
            if (floor > 0 && read_number(s, NULL, member_key(writer, floor, 0, key), NULL) < floor)
                fail_thread(s, "a read misses an acknowledged write");
        }
        }
    }
    return NULL;
}

static void *maintain(void *context)
{
    struct shared *s = ((struct worker *)context)->shared;
    for (unsigned i = 0; atomic_load(&s->writers_left) > 0 && !atomic_load(&s->failed); i++) {
        char name[32];
        lsm_cf *cf = NULL;
        uint64_t value;
        snprintf(name, sizeof name, "family-%u", i);
        thread_ok(s, lsm_cf_create(s->db, name, NULL, &cf, err));
        if (cf == NULL)
            break;
        thread_ok(s, lsm_put(s->db, cf, text("k"), text(name), NULL, err));
        if (i % 3 == 0)
            thread_ok(s, lsm_flush(s->db, err));
        if (i % 5 == 0)
            thread_ok(s, lsm_compact_range(s->db, NULL, NULL, err));
        thread_ok(s, lsm_cf_drop(s->db, cf, err));
        thread_ok(s, lsm_property(s->db, NULL, "table-bytes", &value, err));
        thread_ok(s, lsm_sync(s->db, err));
        usleep(2000);
    }
    return NULL;
}

static void run_threads(const char *option_text)
{
    static struct shared s;
    memset(&s, 0, sizeof s);
    s.db = open_with(option_text);
    s.writers_left = WRITERS;
    ck_ok(lsm_cf_create(s.db, "second", NULL, &s.second, &error));
    pthread_t threads[WRITERS + READERS + 1];
    struct worker workers[WRITERS + READERS + 1];
    for (unsigned i = 0; i < WRITERS + READERS + 1; i++) {
        workers[i] = (struct worker){&s, i < WRITERS ? i : i - WRITERS};
        ck_assert_int_eq(pthread_create(&threads[i], NULL,
                                        i < WRITERS             ? write_groups
                                        : i < WRITERS + READERS ? read_groups
                                                                : maintain,
                                        &workers[i]),
                         0);
    }
    for (unsigned i = 0; i < WRITERS + READERS + 1; i++)
        pthread_join(threads[i], NULL);
    ck_assert(!s.failed);
    close_ok(s.db);
    s.db = open_with(option_text);
    ck_ok(lsm_cf_open(s.db, "second", &s.second, &error));
    for (unsigned w = 0; w < WRITERS; w++) {
        for (uint64_t n = ROUNDS - GROUPS + 1; n <= ROUNDS; n++) {
            char key[40];
            for (unsigned m = 0; m < MEMBERS; m++)
                ck_assert_uint_eq(
                    read_number(&s, m % 2 == 0 ? NULL : s.second, member_key(w, n, m, key), NULL),
                    n);
        }
    }
    close_ok(s.db);
}

START_TEST(test_threads_share_a_handle)
{
    run_threads("create=true,workers=2,memtable_size=256KiB,stage_size=128KiB,"
                "wal_segment_size=256KiB,table_size=64KiB,level_base_size=128KiB,level0_trigger=2,"
                "cache_size=1MiB,block_size=1KiB");
}
END_TEST

START_TEST(test_threads_share_a_handle_with_a_skiplist_and_no_cache)
{
    run_threads("create=true,workers=1,memtable_size=64KiB,memtable_count=2,stage_size=32KiB,"
                "wal_segment_size=64KiB,memtable=skiplist,cache_size=none,level0_stop=6,"
                "level0_slowdown=4,level0_trigger=1");
}
END_TEST

START_TEST(test_threads_share_a_handle_without_workers)
{
    run_threads("create=true,workers=none,memtable_size=128KiB,stage_size=64KiB,"
                "wal_segment_size=64KiB,cache_size=256KiB,level0_trigger=2");
}
END_TEST

/* ---- allocation ------------------------------------------------------------------------------ */

/* Every key once, by one of the ways to read it. */
static void read_all(lsm_db *db, unsigned count, bool into)
{
    char key[32], buffer[400];
    for (unsigned i = 0; i < count; i++) {
        lsm_slice name =
            LSM_SLICE(key, (size_t)snprintf(key, sizeof key, "many-%06u%s", i, i % 9 ? "" : "x"));
        lsm_pin pin = LSM_PIN_INIT;
        size_t size = 0;
        lsm_status status =
            into ? lsm_get_into(db, NULL, name, NULL, buffer, sizeof buffer, &size, &error)
                 : lsm_get(db, NULL, name, NULL, &pin, &error);
        ck_assert_int_eq(status, LSM_OK);
        ck_assert(into ? (size != LSM_ABSENT) == (i % 9 != 0) : pin.found == (i % 9 != 0));
        lsm_pin_release(&pin);
    }
}

/* In the best of some rounds: the handle's other threads allocate now and then, reads that do would
 * in each. */
static uint64_t least_allocations(lsm_db *db, unsigned count, bool into)
{
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < 5; i++) {
        uint64_t before = mem_allocation_count();
        read_all(db, count, into);
        uint64_t made = mem_allocation_count() - before;
        least = made < least ? made : least;
    }
    return least;
}

START_TEST(test_threads_cached_read_allocates_nothing)
{
    enum { COUNT = 3000 };
    static const char *const compressions[] = {"none", "zstd"};
    for (size_t c = 0; c < 2; c++) {
        char options[300];
        snprintf(options, sizeof options,
                 "create=true,workers=none,memtable_size=1MiB,cache_size=64MiB,compression=%s,"
                 "level0_trigger=100,table_size=128KiB",
                 compressions[c]);
        lsm_db *db = open_with(options);
        for (unsigned stage = 0; stage < 3; stage++) {
            if (stage == 0)
                put_many(db, NULL, 0, COUNT, 200); /* some flushed, some not */
            else if (stage == 1)
                ck_ok(lsm_flush(db, &error));
            else
                ck_ok(lsm_compact_range(db, NULL, &(lsm_compact_options){.force_bottom = true},
                                        &error));
            read_all(db, COUNT, false); /* into the cache */
            for (int into = 0; into < 2; into++) {
                uint64_t least = least_allocations(db, COUNT, into == 1);
                ck_assert_msg(least == 0, "%" PRIu64 " allocations in %d reads (%s, stage %u, %s)",
                              least, COUNT, into ? "get_into" : "get", stage, compressions[c]);
            }
        }
        close_ok(db);
        ck_ok(lsm_destroy(db_path, &error));
    }
}
END_TEST

#define BIG_KEYS    8000u
#define BIG_VALUE   4000u /* bytes */
#define MANY        256u  /* keys of a multiget */
#define GROUP_KEYS  64u   /* of these are read at once */
#define BIG_READERS 8u

static lsm_slice big_key(unsigned n, char text[16])
{
    return LSM_SLICE(text, (size_t)snprintf(text, 16, "k%06u", n));
}

/* Values that do not compress; flushed and merged. */
static void put_big(lsm_db *db)
{
    struct random_state r = random_seeded(11);
    uint64_t value[BIG_VALUE / 8];
    char key[16];
    for (unsigned n = 0; n < BIG_KEYS; n++) {
        for (unsigned i = 0; i < BIG_VALUE / 8; i++)
            value[i] = random_next(&r);
        value[0] = n;
        ck_ok(lsm_put(db, NULL, big_key(n, key), LSM_SLICE(value, sizeof value), NULL, &error));
    }
    ck_ok(lsm_flush(db, &error));
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
}

/* More than anybody may have at once: the rest of the whole for blocks, and buffers of a group for
 * each reader, each of which may be two pages longer than its value. */
static bool is_within(lsm_db *db, uint64_t *most_pages)
{
    struct db_memory_parts parts;
    db_memory_parts(&db->options, &parts);
    *most_pages = BIG_READERS * GROUP_KEYS * (BIG_VALUE + 3 * MEM_PAGE) + ((uint64_t)2 << 20);
    return block_cache_memory(db->tables.cache) <= parts.blocks_and_tables &&
           pages_bytes() <= *most_pages;
}

static void *get_many_big(void *context)
{
    struct shared *s = context;
    static _Atomic uint64_t seed;
    struct random_state r = random_seeded(atomic_fetch_add(&seed, 1) + 100);
    lsm_pin pins[MANY];
    memset(pins, 0, sizeof pins);
    lsm_slice keys[MANY];
    unsigned numbers[MANY];
    char texts[MANY][16];
    for (unsigned round = 0; round < 40; round++) {
        for (unsigned i = 0; i < MANY; i++)
            keys[i] = big_key(numbers[i] = (unsigned)random_below(&r, BIG_KEYS), texts[i]);
        thread_ok(s, lsm_multi_get(s->db, NULL, MANY, keys, NULL, pins, err));
        for (unsigned i = 0; i < MANY; i++) {
            uint64_t first = BIG_KEYS;
            if (pins[i].value.size == BIG_VALUE)
                memcpy(&first, pins[i].value.data, sizeof first);
            if (first != numbers[i])
                fail_thread(s, "a key has another value");
        }
        uint64_t most_pages;
        if (!is_within(s->db, &most_pages))
            fail_thread(s, "blocks or buffers are more than the option 'memory' leaves them");
    }
    for (unsigned i = 0; i < MANY; i++)
        lsm_pin_release(&pins[i]);
    return NULL;
}

/* What readers hold at once is larger than the whole cache: blocks keep to their part. */
START_TEST(test_threads_multigets_keep_to_memory)
{
    lsm_db *db = open_with("create=true,memory=32MiB");
    struct shared s = {.db = db};
    put_big(db);
    pthread_t threads[BIG_READERS];
    for (unsigned i = 0; i < BIG_READERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, get_many_big, &s), 0);
    for (unsigned i = 0; i < BIG_READERS; i++)
        pthread_join(threads[i], NULL);
    ck_assert(!s.failed);
    close_ok(db);
}
END_TEST

/* The thread sanitizer does not see liburing unmap a ring, and takes the next one made at the same
 * address for the old one. */
static void keep_to_what_is_seen(void)
{
#ifdef __SANITIZE_THREAD__
    setenv("LSM_IO", "posix", 0);
#endif
}

int main(void)
{
    keep_to_what_is_seen();
    Suite *suite = suite_create("threads");
    TCase *cases = tcase_create("threads");
    tcase_add_checked_fixture(cases, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(cases, 120);
    tcase_add_test(cases, test_threads_share_a_handle);
    tcase_add_test(cases, test_threads_share_a_handle_with_a_skiplist_and_no_cache);
    tcase_add_test(cases, test_threads_share_a_handle_without_workers);
    tcase_add_test(cases, test_threads_cached_read_allocates_nothing);
    tcase_add_test(cases, test_threads_multigets_keep_to_memory);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
