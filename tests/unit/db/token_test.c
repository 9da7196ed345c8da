/*
 * Snapshots that one process hands to another: the same state on both sides whatever others write,
 * flush and merge, and a refusal with a sentence wherever that cannot be promised.
 */
#include "tests/unit/db/peers.h"

#include "engine/base/hash.h"
#include "engine/base/random.h"
#include "engine/base/step.h"
#include "engine/db/snapshot.h"

#include <sched.h>
#include <stdatomic.h>

#define OPTIONS                                                                                    \
    "create=true,workers=none,memtable_size=64KiB,stage_size=128KiB,"                              \
    "wal_segment_size=128KiB,cache_size=1MiB"
#define KEYS 100

static lsm_snapshot *snapshot_of(lsm_db *db)
{
    lsm_snapshot *snapshot = NULL;
    ck_ok(lsm_snapshot_acquire(db, &snapshot, &error));
    return snapshot;
}

static void export_to(lsm_db *db, const lsm_snapshot *snapshot, char token[LSM_SNAPSHOT_TOKEN_SIZE])
{
    ck_ok(lsm_snapshot_export(db, snapshot, token, &error));
}

static lsm_snapshot *open_token(lsm_db *db, const char *token)
{
    lsm_snapshot *snapshot = NULL;
    ck_ok(lsm_snapshot_open(db, token, &snapshot, &error));
    return snapshot;
}

static void expect_refused(lsm_db *db, const char *token, lsm_status wanted, const char *sentence)
{
    lsm_snapshot *snapshot = NULL;
    ck_fails(wanted, lsm_snapshot_open(db, token, &snapshot, &error));
    ck_assert_ptr_null(snapshot);
    ck_assert_msg(strstr(error.message, sentence) != NULL, "'%s' is not in '%s'", sentence,
                  error.message);
}

static void put_round(lsm_db *db, unsigned round)
{
    for (unsigned i = 0; i < KEYS; i++) {
        char key[16], value[32];
        snprintf(key, sizeof key, "key %03u", i);
        snprintf(value, sizeof value, "value %u of %u", round, i);
        put_text(db, NULL, key, value);
    }
}

static void expect_round(lsm_db *db, const lsm_snapshot *snapshot, unsigned round)
{
    for (unsigned i = 0; i < KEYS; i++) {
        char key[16], value[32];
        snprintf(key, sizeof key, "key %03u", i);
        snprintf(value, sizeof value, "value %u of %u", round, i);
        expect_text_at(db, NULL, snapshot, key, value);
    }
}

static void delete_all(lsm_db *db)
{
    for (unsigned i = 0; i < KEYS; i++) {
        char key[16];
        snprintf(key, sizeof key, "key %03u", i);
        ck_ok(lsm_delete(db, NULL, text(key), NULL, &error));
    }
}

static void compact_all(lsm_db *db)
{
    lsm_compact_options options = {.force_bottom = true};
    ck_ok(lsm_flush(db, &error));
    ck_ok(lsm_compact_range(db, NULL, &options, &error));
}

/* ---- the other side -------------------------------------------------------------------------- */

/* Opens the token that it hears, and compares round 1 whenever it is told to. */
static void importer(struct peer *test)
{
    char message[PEER_TEXT];
    lsm_db *db = open_with(OPTIONS);
    ck_assert(peer_hear(test, message));
    lsm_snapshot *snapshot = open_token(db, message);
    peer_say(test, "opened");
    while (peer_hear(test, message)) {
        expect_round(db, snapshot, 1);
        peer_say(test, "same");
    }
    lsm_snapshot_release(db, snapshot);
    close_ok(db);
}

/* Says a token of round 1 and holds its snapshot until told to release it. */
static void exporter(struct peer *test)
{
    char message[PEER_TEXT], token[LSM_SNAPSHOT_TOKEN_SIZE];
    lsm_db *db = open_with(OPTIONS);
    lsm_snapshot *snapshot = snapshot_of(db);
    export_to(db, snapshot, token);
    peer_say(test, token);
    if (peer_hear(test, message)) {
        lsm_snapshot_release(db, snapshot);
        snapshot = NULL;
        peer_say(test, "released");
        ck_assert(!peer_hear(test, message));
    }
    lsm_snapshot_release(db, snapshot);
    close_ok(db);
}

static struct peer *slow_test;

/* Between the look at the other's snapshot and the own entry: time enough for a merge, if that were
 * possible. */
static void linger(const char *step)
{
    if (strcmp(step, "snapshot: other's seen") != 0)
        return;
    peer_say(slow_test, "seen");
    usleep(300000);
}

static void slow_importer(struct peer *test)
{
    slow_test = test;
    atomic_store(&step_hook, linger);
    importer(test);
}

/* ---- what is promised ------------------------------------------------------------------------ */

START_TEST(test_token_opened_elsewhere_sees_the_same_while_others_write_flush_and_merge)
{
    char token[LSM_SNAPSHOT_TOKEN_SIZE];
    lsm_db *db = open_with(OPTIONS);
    struct peer other = peer_start(importer);
    put_round(db, 1);
    lsm_snapshot *snapshot = snapshot_of(db);
    put_round(db, 2);
    export_to(db, snapshot, token);
    ck_assert_uint_lt(strlen(token), LSM_SNAPSHOT_TOKEN_SIZE);
    peer_say(&other, token);
    peer_expect(&other, "opened");
    lsm_snapshot_release(db, snapshot);
    for (unsigned round = 3; round < 6; round++) {
        put_round(db, round);
        compact_all(db);
        peer_say(&other, "compare");
        peer_expect(&other, "same");
    }
    delete_all(db);
    compact_all(db);
    peer_say(&other, "compare");
    peer_expect(&other, "same");
    peer_end(&other);
    close_ok(db);
}
END_TEST

START_TEST(test_token_released_and_merged_while_it_is_opened_loses_nothing)
{
    char token[LSM_SNAPSHOT_TOKEN_SIZE];
    lsm_db *db = open_with(OPTIONS);
    struct peer other = peer_start(slow_importer);
    put_round(db, 1);
    lsm_snapshot *snapshot = snapshot_of(db);
    put_round(db, 2);
    export_to(db, snapshot, token);
    peer_say(&other, token);
    peer_expect(&other, "seen");
    lsm_snapshot_release(db, snapshot);
    compact_all(db);
    peer_expect(&other, "opened");
    peer_say(&other, "compare");
    peer_expect(&other, "same");
    peer_end(&other);
    close_ok(db);
}
END_TEST

START_TEST(test_token_view_outlives_the_kill_of_its_maker)
{
    char token[PEER_TEXT];
    lsm_db *db = open_with(OPTIONS);
    put_round(db, 1);
    struct peer other = peer_start(exporter);
    ck_assert(peer_hear(&other, token));
    lsm_snapshot *snapshot = open_token(db, token);
    peer_kill(&other);
    put_round(db, 2);
    lsm_db *third = open_with(OPTIONS); /* reaps the dead one's slot */
    compact_all(third);
    expect_round(db, snapshot, 1);
    expect_round(db, NULL, 2);
    lsm_snapshot_release(db, snapshot);
    close_ok(third);
    close_ok(db);
}
END_TEST

START_TEST(test_token_goes_from_hand_to_hand)
{
    char token[LSM_SNAPSHOT_TOKEN_SIZE];
    lsm_db *a = open_with(OPTIONS), *b = open_with(OPTIONS);
    put_round(a, 1);
    lsm_snapshot *first = snapshot_of(a);
    export_to(a, first, token);
    put_round(a, 2);
    lsm_snapshot *second = open_token(b, token);
    lsm_snapshot *own = open_token(a, token);
    ck_assert_uint_eq(lsm_snapshot_sequence(second), lsm_snapshot_sequence(first));
    lsm_snapshot_release(a, first);
    lsm_snapshot_release(a, own);
    export_to(b, second, token);
    compact_all(b);
    lsm_snapshot *third = open_token(a, token);
    lsm_snapshot *newest = snapshot_of(a); /* in front of an older one */
    lsm_snapshot_release(b, second);
    compact_all(a);
    expect_round(a, third, 1);
    expect_round(a, newest, 2);
    lsm_snapshot_release(a, newest);
    lsm_snapshot_release(a, third);
    close_ok(b);
    close_ok(a);
}
END_TEST

/* ---- what is refused ------------------------------------------------------------------------- */

START_TEST(test_token_of_a_released_snapshot_is_refused)
{
    char token[PEER_TEXT];
    lsm_db *db = open_with(OPTIONS);
    put_round(db, 1);
    struct peer other = peer_start(exporter);
    ck_assert(peer_hear(&other, token));
    peer_say(&other, "release");
    peer_expect(&other, "released");
    expect_refused(db, token, LSM_MISSING, "was released");
    peer_end(&other);
    expect_refused(db, token, LSM_MISSING, "has closed");
    close_ok(db);
}
END_TEST

START_TEST(test_token_of_a_dead_process_is_refused)
{
    char token[PEER_TEXT], again[PEER_TEXT];
    lsm_db *db = open_with(OPTIONS);
    put_round(db, 1);
    struct peer other = peer_start(exporter);
    ck_assert(peer_hear(&other, token));
    peer_kill(&other);
    expect_refused(db, token, LSM_MISSING, "or died"); /* its slot is not reaped yet */
    other = peer_start(exporter);                      /* reaps it, or takes it over */
    ck_assert(peer_hear(&other, again));
    expect_refused(db, token, LSM_MISSING, "or died");
    ck_assert_str_ne(token, again);
    lsm_snapshot *snapshot = open_token(db, again);
    lsm_snapshot_release(db, snapshot);
    peer_end(&other);
    close_ok(db);
}
END_TEST

START_TEST(test_token_of_an_earlier_opening_or_another_database_is_refused)
{
    char token[LSM_SNAPSHOT_TOKEN_SIZE], path[sizeof db_path];
    lsm_db *db = open_with(OPTIONS);
    lsm_snapshot *snapshot = snapshot_of(db);
    export_to(db, snapshot, token);
    lsm_snapshot_release(db, snapshot);
    close_ok(db);
    db = open_with(OPTIONS);
    expect_refused(db, token, LSM_MISSING, "older than the present opening");
    snapshot = snapshot_of(db);
    export_to(db, snapshot, token);

    memcpy(path, db_path, sizeof path);
    ck_assert_int_lt(snprintf(db_path, sizeof db_path, "%s/db2", scratch), (int)sizeof db_path);
    lsm_db *second = open_with(OPTIONS);
    expect_refused(second, token, LSM_INVALID, "another database");
    close_ok(second);
    memcpy(db_path, path, sizeof path);
    lsm_snapshot_release(db, snapshot);
    close_ok(db);
}
END_TEST

START_TEST(test_token_damaged_anywhere_is_refused)
{
    char token[LSM_SNAPSHOT_TOKEN_SIZE], bad[2 * LSM_SNAPSHOT_TOKEN_SIZE];
    lsm_db *db = open_with(OPTIONS);
    lsm_snapshot *snapshot = snapshot_of(db);
    export_to(db, snapshot, token);
    size_t length = strlen(token);
    for (size_t i = length; i < sizeof token; i++)
        ck_assert_int_eq(token[i], 0);
    for (size_t i = 0; i < length; i++) {
        memcpy(bad, token, sizeof token);
        bad[i] = token[i] == '0' ? '1' : '0';
        expect_refused(db, bad, LSM_INVALID, "token");
        bad[i] = 'X';
        expect_refused(db, bad, LSM_INVALID, "token");
        bad[i] = '\0';
        expect_refused(db, bad, LSM_INVALID, "is no snapshot token");
    }
    memset(bad, '0', sizeof bad); /* no NUL where one may be looked for */
    expect_refused(db, bad, LSM_INVALID, "is no snapshot token");
    expect_refused(db, NULL, LSM_INVALID, "NULL");
    lsm_snapshot *opened = open_token(db, token);
    lsm_snapshot_release(db, opened);
    lsm_snapshot_release(db, snapshot);
    close_ok(db);
}
END_TEST

START_TEST(test_token_for_a_process_that_holds_256_states_is_refused)
{
    char token[LSM_SNAPSHOT_TOKEN_SIZE], held_token[LSM_SNAPSHOT_TOKEN_SIZE];
    lsm_snapshot *held[256];
    lsm_db *a = open_with(OPTIONS), *b = open_with(OPTIONS);
    put_text(a, NULL, "k", "first");
    lsm_snapshot *snapshot = snapshot_of(a), *other;
    export_to(a, snapshot, token);
    for (size_t i = 0; i < 256; i++) {
        put_text(a, NULL, "k", "later");
        held[i] = snapshot_of(b);
    }
    expect_refused(b, token, LSM_TOO_LARGE, "256 states");
    export_to(b, held[7], held_token);
    other = open_token(b, held_token); /* a state that it holds takes no room */
    lsm_snapshot_release(b, other);
    lsm_snapshot_release(b, held[3]);
    held[3] = open_token(b, token);
    expect_text_at(b, NULL, held[3], "k", "first");
    for (size_t i = 0; i < 256; i++)
        lsm_snapshot_release(b, held[i]);
    lsm_snapshot_release(a, snapshot);
    close_ok(b);
    close_ok(a);
}
END_TEST

START_TEST(test_token_of_a_read_only_handle_is_refused)
{
    char token[LSM_SNAPSHOT_TOKEN_SIZE] = "unchanged";
    lsm_db *db = open_with(OPTIONS);
    close_ok(db);
    db = open_with("read_only=true");
    lsm_snapshot *snapshot = snapshot_of(db);
    ck_fails(LSM_READ_ONLY, lsm_snapshot_export(db, snapshot, token, &error));
    ck_assert_str_eq(token, "unchanged");
    lsm_snapshot_release(db, snapshot);
    close_ok(db);
}
END_TEST

START_TEST(test_token_read_only_handle_holds_what_others_share)
{
    lsm_db *a = open_with(OPTIONS);
    put_round(a, 1);
    lsm_snapshot *snapshot = snapshot_of(a);
    char token[LSM_SNAPSHOT_TOKEN_SIZE];
    ck_ok(lsm_snapshot_export(a, snapshot, token, &error));
    lsm_db *reader = open_with("read_only=true");
    lsm_snapshot *opened = open_token(reader, token);
    lsm_snapshot_release(a, snapshot);
    put_round(a, 2);
    compact_all(a);
    expect_round(reader, opened, 1);
    lsm_snapshot_release(reader, opened);
    close_ok(reader);
    close_ok(a);
    reader = open_with("read_only=true"); /* alone now */
    expect_refused(reader, token, LSM_MISSING, "no other process");
    close_ok(reader);
}
END_TEST

START_TEST(test_hold_takes_the_newest_and_held_numbers_only)
{
    lsm_db *a = open_with(OPTIONS);
    put_round(a, 1);
    lsm_snapshot *first = snapshot_of(a), *held = NULL;
    uint64_t sequence = lsm_snapshot_sequence(first);
    put_round(a, 2);
    lsm_db *reader = open_with("read_only=true");
    ck_ok(db_snapshot_hold(reader, sequence, &held, &error));
    lsm_snapshot_release(a, first);
    delete_all(a);
    compact_all(a);
    expect_round(reader, held, 1);
    lsm_snapshot_release(reader, held);
    held = NULL;
    ck_fails(LSM_MISSING, db_snapshot_hold(reader, sequence, &held, &error));
    ck_fails(LSM_MISSING, db_snapshot_hold(reader, UINT64_MAX, &held, &error));
    ck_assert_ptr_null(held);
    lsm_snapshot *newest = snapshot_of(a);
    sequence = lsm_snapshot_sequence(newest);
    lsm_snapshot_release(a, newest);
    ck_ok(db_snapshot_hold(reader, sequence, &held, &error));
    lsm_snapshot_release(reader, held);
    close_ok(reader);
    close_ok(a);
}
END_TEST

START_TEST(test_token_of_a_foreign_snapshot_is_refused)
{
    char token[LSM_SNAPSHOT_TOKEN_SIZE];
    lsm_db *a = open_with(OPTIONS), *b = open_with(OPTIONS);
    lsm_snapshot *snapshot = snapshot_of(a);
    ck_fails(LSM_INVALID, lsm_snapshot_export(b, snapshot, token, &error));
    lsm_snapshot_release(a, snapshot);
    close_ok(b);
    close_ok(a);
}
END_TEST

/* ---- the storm ------------------------------------------------------------------------------- */

#define STORM_EXPORTERS 2
#define STORM_IMPORTERS 2
#define STORM_KEYS      40
#define STORM_OPENED    150 /* by all importers */

struct offer {
    atomic_flag lock;
    char token[LSM_SNAPSHOT_TOKEN_SIZE];
    uint64_t hash, sequence; /* of all that its maker read */
    uint64_t number;         /* 0: none yet */
    _Atomic uint64_t opened;
};

struct board {
    struct offer offers[STORM_EXPORTERS];
    _Atomic uint64_t opened, refused;
    _Atomic uint32_t next_exporter;
    _Atomic bool over;
};

static struct board *board;

static uint64_t hash_of_all(lsm_db *db, const lsm_snapshot *snapshot)
{
    lsm_read_options options = {.snapshot = snapshot};
    lsm_iter *it = NULL;
    uint64_t hash = 0;
    ck_ok(lsm_iter_open(db, NULL, &options, &it, &error));
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it)) {
        lsm_slice key = lsm_iter_key(it), value = lsm_iter_value(it);
        hash = hash_bytes(key.data, key.size, hash);
        hash = hash_bytes(value.data, value.size, hash);
    }
    ck_ok(lsm_iter_status(it, &error));
    lsm_iter_close(it);
    return hash;
}

static void offer_lock(struct offer *o)
{
    while (atomic_flag_test_and_set(&o->lock))
        sched_yield();
}

static void storm_exporter(struct peer *test)
{
    (void)test;
    lsm_db *db = open_with(OPTIONS);
    struct offer *o = &board->offers[atomic_fetch_add(&board->next_exporter, 1)];
    for (unsigned round = 0; !atomic_load(&board->over); round++) {
        lsm_snapshot *snapshot = snapshot_of(db);
        uint64_t hash = hash_of_all(db, snapshot), opened = atomic_load(&o->opened);
        offer_lock(o);
        export_to(db, snapshot, o->token);
        o->hash = hash;
        o->sequence = lsm_snapshot_sequence(snapshot);
        o->number++;
        atomic_flag_clear(&o->lock);
        /* Every other one is released at once, so that openings race with it. */
        while (round % 2 == 0 && atomic_load(&o->opened) == opened && !atomic_load(&board->over))
            usleep(200);
        if (round % 2 != 0)
            sched_yield();
        lsm_snapshot_release(db, snapshot);
    }
    close_ok(db);
}

static void open_one(lsm_db *db, struct offer *o)
{
    offer_lock(o);
    struct offer mine = {.hash = o->hash, .sequence = o->sequence, .number = o->number};
    memcpy(mine.token, o->token, sizeof mine.token);
    atomic_flag_clear(&o->lock);
    if (mine.number == 0)
        return;
    lsm_snapshot *snapshot = NULL;
    lsm_status status = lsm_snapshot_open(db, mine.token, &snapshot, &error);
    atomic_fetch_add(&o->opened, 1);
    if (status == LSM_MISSING) {
        atomic_fetch_add(&board->refused, 1);
        return;
    }
    ck_ok(status);
    ck_assert_uint_eq(lsm_snapshot_sequence(snapshot), mine.sequence);
    for (unsigned look = 0; look < 3; look++) {
        ck_assert_uint_eq(hash_of_all(db, snapshot), mine.hash);
        usleep(500);
    }
    lsm_snapshot_release(db, snapshot);
    atomic_fetch_add(&board->opened, 1);
}

static void storm_importer(struct peer *test)
{
    (void)test;
    lsm_db *db = open_with(OPTIONS);
    for (unsigned i = 0; !atomic_load(&board->over); i++)
        open_one(db, &board->offers[i % STORM_EXPORTERS]);
    close_ok(db);
}

static void storm_writer(struct peer *test)
{
    (void)test;
    lsm_db *db = open_with(OPTIONS);
    struct random_state r = random_seeded(7);
    for (uint64_t i = 0; !atomic_load(&board->over); i++) {
        char key[16], value[32];
        snprintf(key, sizeof key, "key %03u", (unsigned)(random_next(&r) % STORM_KEYS));
        snprintf(value, sizeof value, "value %u", (unsigned)i);
        if (random_next(&r) % 4 == 0)
            ck_ok(lsm_delete(db, NULL, text(key), NULL, &error));
        else
            put_text(db, NULL, key, value);
    }
    close_ok(db);
}

START_TEST(test_token_storm_of_importers_and_compactions_reads_what_exporters_read)
{
    struct peer peers[STORM_EXPORTERS + STORM_IMPORTERS + 1];
    size_t count = 0;
    board = shared_memory(sizeof *board);
    lsm_db *db = open_with(OPTIONS);
    for (size_t i = 0; i < STORM_EXPORTERS; i++)
        peers[count++] = peer_start(storm_exporter);
    for (size_t i = 0; i < STORM_IMPORTERS; i++)
        peers[count++] = peer_start(storm_importer);
    peers[count++] = peer_start(storm_writer);
    unsigned merges = 0;
    while (atomic_load(&board->opened) < STORM_OPENED || merges < 20) {
        compact_all(db);
        merges++;
        for (size_t i = 0; i < count; i++) /* one that failed is not waited for */
            ck_assert_int_eq(waitpid(peers[i].pid, NULL, WNOHANG), 0);
    }
    atomic_store(&board->over, true);
    for (size_t i = 0; i < count; i++)
        peer_end(&peers[i]);
    printf("storm: %u opened, %u refused, %u merges\n", (unsigned)board->opened,
           (unsigned)board->refused, merges);
    close_ok(db);
}
END_TEST

int main(void)
{
    if (PEERS_CANNOT_RUN)
        return PEERS_SKIPPED;
    Suite *suite = suite_create("db/token");
    TCase *tests = tcase_create("token");
    tcase_add_checked_fixture(tests, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests,
                   test_token_opened_elsewhere_sees_the_same_while_others_write_flush_and_merge);
    tcase_add_test(tests, test_token_released_and_merged_while_it_is_opened_loses_nothing);
    tcase_add_test(tests, test_token_view_outlives_the_kill_of_its_maker);
    tcase_add_test(tests, test_token_goes_from_hand_to_hand);
    tcase_add_test(tests, test_token_of_a_released_snapshot_is_refused);
    tcase_add_test(tests, test_token_of_a_dead_process_is_refused);
    tcase_add_test(tests, test_token_of_an_earlier_opening_or_another_database_is_refused);
    tcase_add_test(tests, test_token_damaged_anywhere_is_refused);
    tcase_add_test(tests, test_token_for_a_process_that_holds_256_states_is_refused);
    tcase_add_test(tests, test_token_of_a_read_only_handle_is_refused);
    tcase_add_test(tests, test_token_read_only_handle_holds_what_others_share);
    tcase_add_test(tests, test_hold_takes_the_newest_and_held_numbers_only);
    tcase_add_test(tests, test_token_of_a_foreign_snapshot_is_refused);
    tcase_add_test(tests, test_token_storm_of_importers_and_compactions_reads_what_exporters_read);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
