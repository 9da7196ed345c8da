/*
 * Transactions on one thread: every call and every misuse, own writes over the snapshot,
 * savepoints, the iterator against a model, and which histories conflict under which isolation.
 */
#include "tests/unit/db/db_fixture.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <inttypes.h>
#include <sys/wait.h>
#include <unistd.h>

static const lsm_txn_options serializable = {.struct_size = sizeof(lsm_txn_options),
                                             .isolation = LSM_TXN_SERIALIZABLE};
static const lsm_txn_options snapshot = LSM_TXN_OPTIONS_INIT;
static const lsm_txn_options *const isolations[] = {&snapshot, &serializable};

static lsm_txn *begin(lsm_db *db, const lsm_txn_options *options)
{
    lsm_txn *txn = NULL;
    ck_ok(lsm_txn_begin(db, options, &txn, &error));
    return txn;
}

static void txn_put(lsm_txn *txn, const char *key, const char *value)
{
    ck_ok(lsm_txn_put(txn, NULL, text(key), text(value), &error));
}

static void txn_delete(lsm_txn *txn, const char *key)
{
    ck_ok(lsm_txn_delete(txn, NULL, text(key), &error));
}

/* `value` NULL: the key is not there. */
static void txn_expect_in(lsm_txn *txn, lsm_cf *cf, const char *key, const char *value)
{
    char bytes[256];
    size_t size = 0;
    ck_ok(lsm_txn_get_into(txn, cf, text(key), NULL, bytes, sizeof bytes, &size, &error));
    ck_assert_msg((size != LSM_ABSENT) == (value != NULL), "key '%s' is %s", key,
                  size != LSM_ABSENT ? "there" : "not there");
    if (value != NULL) {
        ck_assert_uint_eq(size, strlen(value));
        ck_assert_mem_eq(bytes, value, size);
    }
}

static void txn_expect(lsm_txn *txn, const char *key, const char *value)
{
    txn_expect_in(txn, NULL, key, value);
}

static void commit_ok(lsm_txn *txn)
{
    ck_ok(lsm_txn_commit(txn, NULL, &error));
    lsm_txn_free(txn);
}

static void commit_conflicts(lsm_txn *txn)
{
    ck_fails(LSM_CONFLICT, lsm_txn_commit(txn, NULL, &error));
    lsm_txn_free(txn);
}

static lsm_iter *txn_iter(lsm_txn *txn, const lsm_read_options *options)
{
    lsm_iter *it = NULL;
    ck_ok(lsm_txn_iter_open(txn, NULL, options, &it, &error));
    return it;
}

static void compact_all(lsm_db *db)
{
    lsm_compact_options options = {.force_bottom = true};
    ck_ok(lsm_compact_range(db, NULL, &options, &error));
}

/* ---- own writes ------------------------------------------------------------------------------ */

START_TEST(test_txn_writes_are_seen_by_itself_and_then_by_all)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "a", "old");
    put_text(db, NULL, "b", "old");
    lsm_txn *txn = begin(db, isolations[_i]);
    uint64_t before = lsm_txn_sequence(txn);
    txn_put(txn, "a", "new");
    txn_put(txn, "a", "newer");
    txn_delete(txn, "b");
    txn_put(txn, "c", "");
    txn_delete(txn, "never there");
    txn_expect(txn, "a", "newer");
    txn_expect(txn, "b", NULL);
    txn_expect(txn, "c", "");
    txn_expect(txn, "d", NULL);
    expect_text(db, NULL, "a", "old");
    expect_text(db, NULL, "b", "old");
    expect_text(db, NULL, "c", NULL);
    ck_ok(lsm_txn_commit(txn, NULL, &error));
    ck_assert_uint_eq(lsm_txn_sequence(txn), before + 1);
    ck_assert_uint_eq(property(db, "sequence"), before + 1);
    lsm_txn_free(txn);
    expect_text(db, NULL, "a", "newer");
    expect_text(db, NULL, "b", NULL);
    expect_text(db, NULL, "c", "");
    close_ok(db);
    db = open_small();
    expect_text(db, NULL, "a", "newer");
    expect_text(db, NULL, "b", NULL);
    close_ok(db);
}
END_TEST

START_TEST(test_txn_reads_its_snapshot)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "a", "old");
    lsm_txn *txn = begin(db, isolations[_i]);
    put_text(db, NULL, "a", "new");
    put_text(db, NULL, "b", "new");
    ck_ok(lsm_flush(db, &error));
    compact_all(db);
    txn_expect(txn, "a", "old");
    txn_expect(txn, "b", NULL);
    commit_ok(txn); /* it wrote nothing: what it read was true at one moment */
    close_ok(db);
}
END_TEST

START_TEST(test_txn_rollback_and_free_leave_nothing)
{
    lsm_db *db = open_small();
    lsm_txn *txn = begin(db, NULL);
    txn_put(txn, "a", "1");
    ck_ok(lsm_txn_rollback(txn, &error));
    ck_fails(LSM_INVALID, lsm_txn_commit(txn, NULL, &error));
    lsm_txn_free(txn);
    txn = begin(db, &serializable);
    txn_put(txn, "a", "2");
    txn_expect(txn, "z", NULL);
    lsm_txn_free(txn);
    lsm_txn_free(NULL);
    expect_text(db, NULL, "a", NULL);
    ck_assert_uint_eq(property(db, "snapshots"), 0);
    close_ok(db);
}
END_TEST

START_TEST(test_txn_get_in_every_form)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "stored", "in the table");
    lsm_txn *txn = begin(db, isolations[_i]);
    txn_put(txn, "own", "by itself");
    txn_put(txn, "empty", "");
    txn_delete(txn, "gone");
    lsm_pin pin = LSM_PIN_INIT;
    ck_ok(lsm_txn_get(txn, NULL, text("own"), NULL, &pin, &error));
    ck_assert(pin.found && pin.value.size == 9);
    txn_put(txn, "own", "changed"); /* the pin is a copy */
    ck_assert_mem_eq(pin.value.data, "by itself", 9);
    ck_ok(lsm_txn_get(txn, NULL, text("gone"), NULL, &pin, &error));
    ck_assert(!pin.found);
    ck_ok(lsm_txn_get(txn, NULL, text("stored"), NULL, &pin, &error));
    ck_assert(pin.found);
    ck_ok(lsm_txn_get_for_update(txn, NULL, text("own"), NULL, &pin, &error));
    ck_assert(pin.found && memcmp(pin.value.data, "changed", 7) == 0);
    lsm_pin_release(&pin);

    char bytes[4];
    size_t size;
    ck_ok(lsm_txn_get_into(txn, NULL, text("own"), NULL, bytes, 4, &size, &error));
    ck_assert_uint_eq(size, 7);
    ck_assert_mem_eq(bytes, "chan", 4);
    ck_ok(lsm_txn_get_into(txn, NULL, text("own"), NULL, NULL, 0, &size, &error));
    ck_assert_uint_eq(size, 7);
    ck_ok(lsm_txn_get_into(txn, NULL, text("gone"), NULL, NULL, 0, &size, &error));
    ck_assert(size == LSM_ABSENT);

    lsm_slice keys[] = {text("own"), text("stored"), text("gone"), text("nowhere"), text("empty")};
    lsm_pin pins[5] = {{.found = false}};
    lsm_read_options no_fill = {.no_fill_cache = true};
    ck_ok(lsm_txn_multi_get(txn, NULL, 5, keys, &no_fill, pins, &error));
    ck_assert(pins[0].found && pins[1].found && !pins[2].found && !pins[3].found && pins[4].found);
    ck_assert_mem_eq(pins[0].value.data, "changed", 7);
    ck_assert_mem_eq(pins[1].value.data, "in the table", 12);
    ck_assert_uint_eq(pins[4].value.size, 0);
    ck_ok(lsm_txn_multi_get(txn, NULL, 0, NULL, NULL, NULL, &error));
    commit_ok(txn);
    ck_assert_mem_eq(pins[0].value.data, "changed", 7); /* outlives the transaction */
    for (size_t i = 0; i < 5; i++)
        lsm_pin_release(&pins[i]);
    close_ok(db);
}
END_TEST

START_TEST(test_txn_families_are_apart_and_atomic)
{
    lsm_db *db = open_small();
    lsm_cf *second = NULL;
    ck_ok(lsm_cf_create(db, "second", NULL, &second, &error));
    put_text(db, second, "a", "stored");
    lsm_txn *txn = begin(db, isolations[_i]);
    txn_put(txn, "a", "default");
    txn_expect_in(txn, second, "a", "stored");
    ck_ok(lsm_txn_put(txn, second, text("a"), text("own"), &error));
    ck_ok(lsm_txn_delete(txn, second, text("b"), &error));
    txn_expect_in(txn, second, "a", "own");
    txn_expect(txn, "a", "default");
    lsm_iter *it = NULL;
    ck_ok(lsm_txn_iter_open(txn, second, NULL, &it, &error));
    lsm_iter_last(it);
    ck_assert(lsm_iter_valid(it) && lsm_iter_value(it).size == 3);
    lsm_iter_next(it);
    ck_assert(!lsm_iter_valid(it));
    lsm_iter_close(it);
    commit_ok(txn);
    expect_text(db, NULL, "a", "default");
    expect_text(db, second, "a", "own");

    txn = begin(db, isolations[_i]);
    ck_ok(lsm_txn_put(txn, second, text("a"), text("late"), &error));
    txn_put(txn, "a", "late");
    ck_ok(lsm_cf_drop(db, second, &error));
    ck_fails(LSM_MISSING, lsm_txn_put(txn, second, text("a"), text("later"), &error));
    ck_fails(LSM_MISSING, lsm_txn_commit(txn, NULL, &error));
    lsm_txn_free(txn);
    expect_text(db, NULL, "a", "default");
    close_ok(db);
}
END_TEST

START_TEST(test_txn_commit_asks_for_durability)
{
    lsm_db *db = open_small();
    lsm_txn *txn = begin(db, NULL);
    txn_put(txn, "a", "synced");
    lsm_write_options sync = {.durability = LSM_SYNC};
    ck_ok(lsm_txn_commit(txn, &sync, &error));
    lsm_txn_free(txn);
    expect_text(db, NULL, "a", "synced");
    close_ok(db);
}
END_TEST

/* ---- misuse ---------------------------------------------------------------------------------- */

START_TEST(test_txn_misuse_is_told)
{
    lsm_db *db = open_small();
    lsm_txn *txn = NULL;
    lsm_txn_options bad = LSM_TXN_OPTIONS_INIT;
    ck_fails(LSM_INVALID, lsm_txn_begin(NULL, NULL, &txn, &error));
    ck_fails(LSM_INVALID, lsm_txn_begin(db, NULL, NULL, &error));
    bad.isolation = (lsm_isolation)7;
    ck_fails(LSM_INVALID, lsm_txn_begin(db, &bad, &txn, &error));
    bad = (lsm_txn_options){.struct_size = 3};
    ck_fails(LSM_INVALID, lsm_txn_begin(db, &bad, &txn, &error));
    ck_assert_ptr_null(txn);
    ck_fails(LSM_INVALID, lsm_txn_put(NULL, NULL, text("a"), text("b"), &error));
    ck_fails(LSM_INVALID, lsm_txn_commit(NULL, NULL, &error));
    ck_fails(LSM_INVALID, lsm_txn_rollback(NULL, &error));
    ck_fails(LSM_INVALID, lsm_txn_savepoint(NULL, &error));

    txn = begin(db, &serializable);
    lsm_pin pin = LSM_PIN_INIT;
    size_t size;
    lsm_iter *it = NULL;
    lsm_snapshot *held = NULL;
    ck_ok(lsm_snapshot_acquire(db, &held, &error));
    lsm_read_options with = {.snapshot = held};
    ck_fails(LSM_INVALID, lsm_txn_get(txn, NULL, text("a"), &with, &pin, &error));
    ck_fails(LSM_INVALID, lsm_txn_get_into(txn, NULL, text("a"), &with, NULL, 0, &size, &error));
    ck_fails(LSM_INVALID, lsm_txn_iter_open(txn, NULL, &with, &it, &error));
    lsm_snapshot_release(db, held);
    ck_fails(LSM_INVALID, lsm_txn_get(txn, NULL, text("a"), NULL, NULL, &error));
    ck_fails(LSM_INVALID, lsm_txn_get_for_update(txn, NULL, text("a"), NULL, NULL, &error));
    ck_fails(LSM_INVALID, lsm_txn_get_into(txn, NULL, text("a"), NULL, NULL, 1, &size, &error));
    ck_fails(LSM_INVALID, lsm_txn_get_into(txn, NULL, text("a"), NULL, NULL, 0, NULL, &error));
    ck_fails(LSM_INVALID, lsm_txn_multi_get(txn, NULL, 1, NULL, NULL, &pin, &error));
    ck_fails(LSM_INVALID, lsm_txn_iter_open(txn, NULL, NULL, NULL, &error));
    ck_fails(LSM_INVALID, lsm_txn_put(txn, NULL, LSM_SLICE(NULL, 1), text("b"), &error));
    ck_fails(LSM_INVALID, lsm_txn_put(txn, NULL, text("a"), LSM_SLICE(NULL, 1), &error));
    ck_fails(LSM_INVALID, lsm_txn_get(txn, NULL, LSM_SLICE(NULL, 1), NULL, &pin, &error));
    char *large = calloc(1, LSM_MAX_KEY_SIZE + 1);
    lsm_slice key = LSM_SLICE(large, LSM_MAX_KEY_SIZE + 1);
    ck_fails(LSM_TOO_LARGE, lsm_txn_put(txn, NULL, key, text("b"), &error));
    ck_fails(LSM_TOO_LARGE, lsm_txn_get(txn, NULL, key, NULL, &pin, &error));
    free(large);
    ck_fails(LSM_INVALID, lsm_txn_rollback_to_savepoint(txn, &error));
    ck_fails(LSM_INVALID, lsm_txn_release_savepoint(txn, &error));

    char other_path[sizeof db_path + 8];
    snprintf(other_path, sizeof other_path, "%s-other", db_path);
    lsm_options options = options_of(SMALL_OPTIONS);
    lsm_db *other = NULL;
    ck_ok(lsm_open(other_path, &options, &other, &error));
    lsm_cf *foreign = lsm_cf_default(other);
    ck_fails(LSM_INVALID, lsm_txn_put(txn, foreign, text("a"), text("b"), &error));
    ck_fails(LSM_INVALID, lsm_txn_get(txn, foreign, text("a"), NULL, &pin, &error));
    ck_fails(LSM_INVALID, lsm_txn_iter_open(txn, foreign, NULL, &it, &error));
    ck_ok(lsm_close(other, &error));

    ck_fails(LSM_BUSY, lsm_close(db, &error)); /* the transaction is still there */
    ck_ok(lsm_txn_commit(txn, NULL, &error));
    ck_fails(LSM_INVALID, lsm_txn_commit(txn, NULL, &error));
    ck_fails(LSM_INVALID, lsm_txn_put(txn, NULL, text("a"), text("b"), &error));
    ck_fails(LSM_INVALID, lsm_txn_get(txn, NULL, text("a"), NULL, &pin, &error));
    ck_fails(LSM_INVALID, lsm_txn_savepoint(txn, &error));
    close_ok(db);
    ck_fails(LSM_INVALID, lsm_txn_rollback(txn, &error));
    lsm_txn_free(txn); /* an ended one may outlive the database */
}
END_TEST

START_TEST(test_txn_read_only_database_has_reading_ones)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "a", "1");
    close_ok(db);
    db = open_with("read_only=true");
    lsm_txn *txn = begin(db, &serializable);
    txn_expect(txn, "a", "1");
    lsm_pin pin = LSM_PIN_INIT;
    ck_ok(lsm_txn_get_for_update(txn, NULL, text("a"), NULL, &pin, &error));
    lsm_pin_release(&pin);
    ck_fails(LSM_READ_ONLY, lsm_txn_put(txn, NULL, text("a"), text("2"), &error));
    ck_fails(LSM_READ_ONLY, lsm_txn_delete(txn, NULL, text("a"), &error));
    commit_ok(txn);
    close_ok(db);
}
END_TEST

START_TEST(test_txn_inherited_over_fork_is_refused)
{
    lsm_db *db = open_small();
    lsm_txn *txn = begin(db, NULL);
    txn_put(txn, "a", "1");
    pid_t child = fork();
    if (child == 0) {
        bool refused = lsm_txn_put(txn, NULL, text("a"), text("2"), NULL) == LSM_FORKED &&
                       lsm_txn_commit(txn, NULL, NULL) == LSM_FORKED;
        lsm_txn_free(txn);
        _exit(refused ? 0 : 1);
    }
    int how = 1;
    ck_assert_int_eq(waitpid(child, &how, 0), child);
    ck_assert_int_eq(how, 0);
    commit_ok(txn);
    expect_text(db, NULL, "a", "1");
    close_ok(db);
}
END_TEST

START_TEST(test_txn_memory_limit_is_kept)
{
    lsm_db *db = open_small();
    put_many(db, NULL, 0, 200, 10);
    lsm_txn_options options = serializable;
    options.memory_limit = 4000;
    lsm_txn *txn = begin(db, &options);
    char value[1000];
    memset(value, 'v', sizeof value);
    ck_ok(lsm_txn_put(txn, NULL, text("a"), LSM_SLICE(value, sizeof value), &error));
    for (unsigned i = 0; i < 50; i++) /* replaced, not added */
        ck_ok(lsm_txn_put(txn, NULL, text("a"), LSM_SLICE(value, sizeof value), &error));
    ck_ok(lsm_txn_put(txn, NULL, text("b"), LSM_SLICE(value, sizeof value), &error));
    ck_ok(lsm_txn_put(txn, NULL, text("c"), LSM_SLICE(value, sizeof value), &error));
    ck_fails(LSM_TOO_LARGE,
             lsm_txn_put(txn, NULL, text("d"), LSM_SLICE(value, sizeof value), &error));
    ck_assert_uint_eq(error.expected, 4000);
    ck_assert_uint_gt(error.found, 4000);
    txn_expect(txn, "d", NULL);

    lsm_status status = LSM_OK;
    size_t size;
    for (unsigned i = 0; i < 200 && status == LSM_OK; i++) {
        char key[20];
        snprintf(key, sizeof key, "key %u", i);
        status = lsm_txn_get_into(txn, NULL, text(key), NULL, NULL, 0, &size, &error);
    }
    ck_assert_int_eq(status, LSM_TOO_LARGE);
    lsm_iter *it = txn_iter(txn, NULL);
    for (unsigned i = 0; i < 200; i++) {
        char key[20];
        snprintf(key, sizeof key, "many-%06u", 199 - i);
        lsm_iter_seek(it, text(key));
        if (!lsm_iter_valid(it))
            break;
    }
    ck_assert_int_eq(lsm_iter_status(it, &error), LSM_TOO_LARGE);
    ck_assert(!lsm_iter_valid(it));
    lsm_iter_close(it);
    commit_ok(txn); /* what was refused was not done */
    expect_text(db, NULL, "d", NULL);
    ck_assert_uint_eq(property(db, "snapshots"), 0);

    txn = begin(db, NULL); /* more than half of the stage file */
    char *big = calloc(1, 80 << 10);
    ck_ok(lsm_txn_put(txn, NULL, text("big"), LSM_SLICE(big, 80 << 10), &error));
    ck_fails(LSM_TOO_LARGE, lsm_txn_commit(txn, NULL, &error));
    free(big);
    txn_put(txn, "big", "smaller"); /* it goes on */
    commit_ok(txn);
    expect_text(db, NULL, "big", "smaller");
    close_ok(db);
}
END_TEST

/* ---- savepoints ------------------------------------------------------------------------------ */

START_TEST(test_txn_savepoints_nest)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "stored", "0");
    lsm_txn *txn = begin(db, isolations[_i]);
    ck_ok(lsm_txn_savepoint(txn, &error));
    txn_put(txn, "a", "1");
    ck_ok(lsm_txn_savepoint(txn, &error));
    txn_put(txn, "a", "2");
    txn_put(txn, "a", "3");
    txn_put(txn, "b", "3");
    txn_delete(txn, "stored");
    ck_ok(lsm_txn_savepoint(txn, &error));
    txn_put(txn, "b", "4");
    ck_ok(lsm_txn_release_savepoint(txn, &error));
    txn_expect(txn, "b", "4");
    ck_ok(lsm_txn_rollback_to_savepoint(txn, &error));
    txn_expect(txn, "a", "1");
    txn_expect(txn, "b", NULL);
    txn_expect(txn, "stored", "0");
    txn_put(txn, "a", "5");
    txn_put(txn, "c", "5");
    ck_ok(lsm_txn_rollback_to_savepoint(txn, &error));
    txn_expect(txn, "a", NULL);
    ck_fails(LSM_INVALID, lsm_txn_rollback_to_savepoint(txn, &error));
    txn_put(txn, "d", "6");
    commit_ok(txn);
    expect_text(db, NULL, "a", NULL);
    expect_text(db, NULL, "c", NULL);
    expect_text(db, NULL, "d", "6");
    expect_text(db, NULL, "stored", "0");
    close_ok(db);
}
END_TEST

START_TEST(test_txn_writes_rolled_back_do_not_conflict)
{
    lsm_db *db = open_small();
    lsm_txn *txn = begin(db, isolations[_i]);
    ck_ok(lsm_txn_savepoint(txn, &error));
    txn_put(txn, "a", "1");
    ck_ok(lsm_txn_rollback_to_savepoint(txn, &error));
    txn_put(txn, "b", "1");
    put_text(db, NULL, "a", "other");
    commit_ok(txn);
    /* What was read stays read. */
    txn = begin(db, isolations[_i]);
    lsm_pin pin = LSM_PIN_INIT;
    ck_ok(lsm_txn_savepoint(txn, &error));
    txn_put(txn, "a", "1");
    ck_ok(lsm_txn_get_for_update(txn, NULL, text("a"), NULL, &pin, &error));
    lsm_pin_release(&pin);
    ck_ok(lsm_txn_rollback_to_savepoint(txn, &error));
    put_text(db, NULL, "a", "other again");
    txn_put(txn, "b", "2");
    commit_conflicts(txn);
    close_ok(db);
}
END_TEST

/* ---- iterators ------------------------------------------------------------------------------- */

START_TEST(test_txn_iter_shows_what_was_written_before_it)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "b", "stored");
    put_text(db, NULL, "d", "stored");
    lsm_txn *txn = begin(db, isolations[_i]);
    txn_put(txn, "a", "own");
    txn_delete(txn, "b");
    lsm_iter *it = txn_iter(txn, NULL);
    lsm_iter_first(it);
    txn_put(txn, "a", "later"); /* under the iterator's feet */
    txn_put(txn, "c", "later");
    txn_delete(txn, "d");
    ck_assert_mem_eq(lsm_iter_value(it).data, "own", 3);
    lsm_iter_next(it);
    ck_assert(lsm_iter_valid(it));
    ck_assert_mem_eq(lsm_iter_key(it).data, "d", 1);
    lsm_iter_prev(it);
    ck_assert_mem_eq(lsm_iter_value(it).data, "own", 3);
    lsm_iter *now = txn_iter(txn, NULL);
    lsm_iter_last(now);
    ck_assert_mem_eq(lsm_iter_key(now).data, "c", 1);
    ck_fails(LSM_INVALID, lsm_iter_refresh(now, &error));
    lsm_iter_close(now);
    lsm_iter_close(it);
    commit_ok(txn);
    close_ok(db);
}
END_TEST

START_TEST(test_txn_iter_ends_with_what_it_shows)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "b", "stored");
    lsm_txn *txn = begin(db, isolations[_i]);
    txn_put(txn, "a", "own");
    lsm_iter *older = txn_iter(txn, NULL);
    lsm_iter_first(older);
    ck_ok(lsm_txn_savepoint(txn, &error));
    txn_put(txn, "c", "own");
    lsm_iter *newer = txn_iter(txn, NULL);
    lsm_iter_last(newer);
    ck_assert_mem_eq(lsm_iter_key(newer).data, "c", 1);
    ck_ok(lsm_txn_rollback_to_savepoint(txn, &error));
    ck_assert(!lsm_iter_valid(newer));
    ck_fails(LSM_INVALID, lsm_iter_status(newer, &error));
    lsm_iter_first(newer);
    ck_assert(!lsm_iter_valid(newer) && lsm_iter_key(newer).data == NULL);
    ck_fails(LSM_INVALID, lsm_iter_status(newer, &error));
    ck_assert(lsm_iter_valid(older));
    lsm_iter_next(older);
    ck_assert_mem_eq(lsm_iter_key(older).data, "b", 1);
    ck_ok(lsm_txn_commit(txn, NULL, &error));
    ck_assert(!lsm_iter_valid(older));
    lsm_iter_next(older);
    lsm_iter_seek(older, text("a"));
    lsm_iter_seek_for_prev(older, text("a"));
    lsm_iter_last(older);
    ck_fails(LSM_INVALID, lsm_iter_status(older, &error));
    lsm_iter_close(newer);
    lsm_txn_free(txn);
    lsm_iter_close(older); /* after the transaction */

    txn = begin(db, isolations[_i]);
    older = txn_iter(txn, NULL);
    lsm_iter_first(older);
    lsm_txn_free(txn);
    ck_fails(LSM_INVALID, lsm_iter_status(older, &error));
    lsm_iter_close(older);
    close_ok(db);
}
END_TEST

/* ---- the iterator against a model ------------------------------------------------------------ */

#define MODEL_KEYS 216 /* three letters of six */

struct entry_model {
    bool is_there;
    uint32_t value;
};

static lsm_slice model_key(uint32_t number, char key[4])
{
    /* Of different lengths: "a", "ab", "abc" all occur. */
    size_t size = 0;
    for (uint32_t rest = number; size < 3; rest /= 6) {
        if (rest % 6 == 5 && size > 0)
            break;
        key[size++] = (char)('a' + rest % 6);
    }
    return LSM_SLICE(key, size);
}

struct ordered {
    char key[4];
    size_t size;
    struct entry_model *entry;
};

static int ordered_compare(const void *a, const void *b)
{
    const struct ordered *x = a, *y = b;
    int order = memcmp(x->key, y->key, x->size < y->size ? x->size : y->size);
    return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

static int key_compare(const struct ordered *a, lsm_slice key)
{
    int order = memcmp(a->key, key.data, a->size < key.size ? a->size : key.size);
    return order != 0 ? order : (a->size > key.size) - (a->size < key.size);
}

/* What an iterator ought to see: the sorted distinct keys that are there within the bounds. */
struct view {
    struct ordered keys[MODEL_KEYS];
    int count;
};

static bool has_prefix(const struct ordered *o, lsm_slice prefix)
{
    return o->size >= prefix.size && memcmp(o->key, prefix.data, prefix.size) == 0;
}

static void view_make(struct view *v, struct entry_model *entries, const lsm_read_options *options)
{
    v->count = 0;
    for (uint32_t i = 0; i < MODEL_KEYS; i++) {
        struct ordered o = {.entry = &entries[i]};
        o.size = model_key(i, o.key).size;
        if (!entries[i].is_there ||
            (options->first.data != NULL && key_compare(&o, options->first) < 0) ||
            (options->limit.data != NULL && key_compare(&o, options->limit) >= 0) ||
            (options->prefix.data != NULL && !has_prefix(&o, options->prefix)))
            continue;
        v->keys[v->count++] = o;
    }
    qsort(v->keys, (size_t)v->count, sizeof *v->keys, ordered_compare);
}

static void view_check(const struct view *v, int at, lsm_iter *it)
{
    bool valid = at >= 0 && at < v->count;
    ck_ok(lsm_iter_status(it, &error));
    ck_assert_msg(lsm_iter_valid(it) == valid, "at %d of %d: valid is %d", at, v->count,
                  lsm_iter_valid(it));
    if (!valid)
        return;
    const struct ordered *o = &v->keys[at];
    ck_assert_int_eq(key_compare(o, lsm_iter_key(it)), 0);
    ck_assert_uint_eq(lsm_iter_value(it).size, sizeof o->entry->value);
    ck_assert_mem_eq(lsm_iter_value(it).data, &o->entry->value, sizeof o->entry->value);
}

static void walk_randomly(lsm_iter *it, const struct view *v, struct random_state *random)
{
    int at = 0;
    lsm_iter_first(it);
    for (unsigned step = 0; step < 60; step++) {
        char key[4];
        lsm_slice target = model_key((uint32_t)random_below(random, MODEL_KEYS), key);
        bool valid = at >= 0 && at < v->count;
        switch (random_below(random, 9)) {
        case 0:
            lsm_iter_first(it);
            at = 0;
            break;
        case 1:
            lsm_iter_last(it);
            at = v->count - 1;
            break;
        case 2:
            lsm_iter_seek(it, target);
            for (at = 0; at < v->count && key_compare(&v->keys[at], target) < 0;)
                at++;
            break;
        case 3:
            lsm_iter_seek_for_prev(it, target);
            for (at = v->count - 1; at >= 0 && key_compare(&v->keys[at], target) > 0;)
                at--;
            break;
        case 4:
        case 5:
        case 6:
            lsm_iter_next(it);
            at = valid ? at + 1 : -1;
            break;
        default:
            lsm_iter_prev(it);
            at = valid ? at - 1 : -1;
            break;
        }
        view_check(v, at, it);
    }
}

struct model_run {
    lsm_db *db;
    struct random_state random;
    struct entry_model stored[MODEL_KEYS], own[MODEL_KEYS];
    bool used[MODEL_KEYS]; /* distinct numbers may make one key: only the first is used */
};

static void model_run_choose(struct model_run *m)
{
    for (uint32_t i = 0; i < MODEL_KEYS; i++) {
        char a[4], b[4];
        lsm_slice key = model_key(i, a);
        m->used[i] = true;
        for (uint32_t k = 0; k < i && m->used[i]; k++) {
            lsm_slice other = model_key(k, b);
            m->used[i] = key.size != other.size || memcmp(a, b, key.size) != 0;
        }
    }
}

/* A write to `txn`, or to the database when it is NULL. */
static void model_write(struct model_run *m, lsm_txn *txn)
{
    char key_bytes[4];
    uint32_t number = (uint32_t)random_below(&m->random, MODEL_KEYS);
    if (!m->used[number])
        return;
    lsm_slice key = model_key(number, key_bytes);
    struct entry_model e = {.is_there = random_below(&m->random, 3) > 0,
                            .value = (uint32_t)random_next(&m->random)};
    lsm_slice value = LSM_SLICE(&e.value, sizeof e.value);
    if (txn == NULL) {
        m->stored[number] = e;
        ck_ok(e.is_there ? lsm_put(m->db, NULL, key, value, NULL, &error)
                         : lsm_delete(m->db, NULL, key, NULL, &error));
    } else {
        m->own[number] = e;
        ck_ok(e.is_there ? lsm_txn_put(txn, NULL, key, value, &error)
                         : lsm_txn_delete(txn, NULL, key, &error));
    }
}

static void model_transaction(struct model_run *m, const lsm_txn_options *isolation)
{
    static const char *const bounds[] = {NULL, "a", "b", "bc", "cca", "d", "e", "ab"};
    struct entry_model saved[3][MODEL_KEYS], seen[3][MODEL_KEYS];
    unsigned save_count = 0;
    lsm_txn *txn = begin(m->db, isolation);
    memcpy(m->own, m->stored, sizeof m->own);
    for (unsigned i = 0; i < 30; i++)
        model_write(m, NULL); /* after the snapshot: not seen */
    lsm_iter *open[3] = {NULL};
    struct view views[3];
    for (unsigned round = 0; round < 12; round++) {
        for (unsigned i = 0; i < 10; i++)
            model_write(m, txn);
        uint64_t action = random_below(&m->random, 4);
        if (action == 0 && save_count < 3) {
            ck_ok(lsm_txn_savepoint(txn, &error));
            memcpy(saved[save_count++], m->own, sizeof m->own);
        } else if (action == 1 && save_count > 0) {
            ck_ok(lsm_txn_rollback_to_savepoint(txn, &error));
            memcpy(m->own, saved[--save_count], sizeof m->own);
        } else if (action == 2 && save_count > 0) {
            ck_ok(lsm_txn_release_savepoint(txn, &error));
            save_count--;
        }
        size_t slot = random_below(&m->random, 3);
        lsm_iter_close(open[slot]);
        const char *first = bounds[random_below(&m->random, 8)];
        const char *limit = bounds[random_below(&m->random, 8)];
        const char *prefix = bounds[random_below(&m->random, 8)];
        lsm_read_options options = {.first = first == NULL ? LSM_SLICE(NULL, 0) : text(first),
                                    .limit = limit == NULL ? LSM_SLICE(NULL, 0) : text(limit)};
        if (random_below(&m->random, 3) == 0 && prefix != NULL)
            options.prefix = text(prefix);
        open[slot] = txn_iter(txn, &options);
        memcpy(seen[slot], m->own, sizeof m->own);
        view_make(&views[slot], seen[slot], &options);
        for (size_t i = 0; i < 3; i++) {
            if (open[i] != NULL && lsm_iter_status(open[i], NULL) == LSM_OK)
                walk_randomly(open[i], &views[i], &m->random);
        }
        for (uint32_t i = 0; i < MODEL_KEYS; i++) {
            char key[4];
            uint32_t value;
            size_t size;
            lsm_slice k = model_key(i, key);
            if (!m->used[i])
                continue;
            ck_ok(lsm_txn_get_into(txn, NULL, k, NULL, &value, sizeof value, &size, &error));
            ck_assert(m->own[i].is_there ? size == sizeof value && value == m->own[i].value
                                         : size == LSM_ABSENT);
        }
    }
    if (random_below(&m->random, 2) == 0)
        for (size_t i = 0; i < 3; i++) {
            lsm_iter_close(open[i]);
            open[i] = NULL;
        }
    lsm_txn_free(txn);
    for (size_t i = 0; i < 3; i++)
        lsm_iter_close(open[i]);
}

START_TEST(test_txn_random_reads_match_the_model)
{
    uint64_t seed = (uint64_t)getpid();
    printf("seed %" PRIu64 "\n", seed);
    static struct model_run m;
    m = (struct model_run){.db = open_small(), .random = random_seeded(seed)};
    model_run_choose(&m);
    for (unsigned i = 0; i < 24; i++) {
        for (unsigned k = 0; k < 100; k++)
            model_write(&m, NULL);
        if (i % 4 == 1)
            ck_ok(lsm_flush(m.db, &error));
        model_transaction(&m, isolations[i % 2]);
    }
    close_ok(m.db);
}
END_TEST

/* ---- conflicts ------------------------------------------------------------------------------- */

START_TEST(test_txn_first_to_commit_wins)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "a", "0");
    lsm_txn *one = begin(db, isolations[_i]), *two = begin(db, isolations[_i]);
    txn_put(one, "a", "1");
    txn_put(two, "a", "2");
    txn_put(two, "other", "2");
    commit_ok(two);
    ck_fails(LSM_CONFLICT, lsm_txn_commit(one, NULL, &error));
    ck_fails(LSM_CONFLICT, lsm_txn_commit(one, NULL, &error)); /* it stays */
    txn_expect(one, "a", "1");
    lsm_txn_free(one);
    expect_text(db, NULL, "a", "2");
    close_ok(db);
}
END_TEST

START_TEST(test_txn_conflict_names_key_family_and_numbers)
{
    lsm_db *db = open_small();
    lsm_cf *second = NULL;
    ck_ok(lsm_cf_create(db, "second", NULL, &second, &error));
    lsm_txn *txn = begin(db, NULL);
    char key[50];
    memset(key, 'k', sizeof key);
    memcpy(key, "a\0\xff'\\", 5);
    ck_ok(lsm_txn_put(txn, second, LSM_SLICE(key, sizeof key), text("1"), &error));
    ck_ok(lsm_put(db, second, LSM_SLICE(key, sizeof key), text("2"), NULL, &error));
    ck_fails(LSM_CONFLICT, lsm_txn_commit(txn, NULL, &error));
    ck_assert_uint_eq(error.expected, lsm_txn_sequence(txn));
    ck_assert_uint_eq(error.found, lsm_txn_sequence(txn) + 1);
    ck_assert_ptr_nonnull(strstr(error.message, "'a\\x00\\xff\\x27\\x5ckkk"));
    ck_assert_ptr_nonnull(strstr(error.message, "kkk...'"));
    ck_assert_ptr_nonnull(strstr(error.message, "'second'"));
    char numbers[100];
    snprintf(numbers, sizeof numbers, "number %" PRIu64 ", newer than its snapshot %" PRIu64,
             error.found, error.expected);
    ck_assert_ptr_nonnull(strstr(error.message, numbers));
    lsm_txn_free(txn);
    close_ok(db);
}
END_TEST

/* Where the newer version may be when the transaction commits. */
enum place { IN_MEMTABLE, IN_TABLE, AT_BOTTOM, PLACES };

static void bring_to(lsm_db *db, enum place place)
{
    if (place >= IN_TABLE)
        ck_ok(lsm_flush(db, &error));
    if (place == AT_BOTTOM)
        compact_all(db);
}

START_TEST(test_txn_newer_versions_are_found_everywhere)
{
    enum place place = (enum place)(_i % PLACES);
    const lsm_txn_options *isolation = isolations[_i / PLACES];
    lsm_db *db = open_small();
    put_many(db, NULL, 0, 50, 20);
    put_text(db, NULL, "deleted", "0");
    put_text(db, NULL, "put", "0");
    ck_ok(lsm_flush(db, &error));
    compact_all(db);
    lsm_txn *put = begin(db, isolation), *deleted = begin(db, isolation),
            *never = begin(db, isolation), *untouched = begin(db, isolation);
    txn_put(put, "put", "1");
    txn_delete(deleted, "deleted");
    txn_put(never, "never", "1");
    txn_put(untouched, "many-000007", "1");
    txn_put(untouched, "fresh", "1");
    put_text(db, NULL, "put", "2");
    ck_ok(lsm_delete(db, NULL, text("deleted"), NULL, &error));
    /* There and gone again: a deletion of nothing, which must not vanish either. */
    put_text(db, NULL, "never", "2");
    ck_ok(lsm_delete(db, NULL, text("never"), NULL, &error));
    bring_to(db, place);
    put_many(db, NULL, 100, 1, 20);
    commit_conflicts(put);
    commit_conflicts(deleted);
    commit_conflicts(never);
    commit_ok(untouched);
    close_ok(db);
}
END_TEST

START_TEST(test_txn_old_versions_do_not_conflict)
{
    enum place place = (enum place)(_i % PLACES);
    lsm_db *db = open_small();
    put_text(db, NULL, "a", "0");
    ck_ok(lsm_delete(db, NULL, text("b"), NULL, &error));
    lsm_txn *txn = begin(db, &serializable);
    txn_expect(txn, "a", "0");
    txn_expect(txn, "b", NULL);
    lsm_iter *it = txn_iter(txn, NULL);
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it))
        ;
    lsm_iter_close(it);
    txn_put(txn, "a", "1");
    txn_put(txn, "b", "1");
    bring_to(db, place);
    commit_ok(txn);
    expect_text(db, NULL, "b", "1");
    close_ok(db);
}
END_TEST

START_TEST(test_txn_key_read_for_update_conflicts)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "a", "0");
    for (unsigned writes = 0; writes < 2; writes++) {
        lsm_txn *txn = begin(db, isolations[_i]);
        lsm_pin pin = LSM_PIN_INIT;
        ck_ok(lsm_txn_get_for_update(txn, NULL, text("a"), NULL, &pin, &error));
        ck_assert(pin.found);
        ck_ok(lsm_txn_get_for_update(txn, NULL, text("absent"), NULL, &pin, &error));
        ck_assert(!pin.found);
        if (writes > 0)
            txn_put(txn, "b", "1");
        put_text(db, NULL, writes == 0 ? "a" : "absent", "2");
        commit_conflicts(txn);
    }
    close_ok(db);
}
END_TEST

START_TEST(test_txn_write_skew_only_under_snapshot)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "alice", "on call");
    put_text(db, NULL, "bob", "on call");
    lsm_txn *one = begin(db, isolations[_i]), *two = begin(db, isolations[_i]);
    /* Each goes home because the other one stays. */
    txn_expect(one, "bob", "on call");
    txn_expect(two, "alice", "on call");
    txn_put(one, "alice", "home");
    txn_put(two, "bob", "home");
    commit_ok(one);
    if (isolations[_i]->isolation == LSM_TXN_SERIALIZABLE) {
        ck_fails(LSM_CONFLICT, lsm_txn_commit(two, NULL, &error));
        ck_assert_ptr_nonnull(strstr(error.message, "'alice'"));
        ck_assert_ptr_nonnull(strstr(error.message, "read"));
        lsm_txn_free(two);
        expect_text(db, NULL, "bob", "on call");
    } else {
        commit_ok(two);
        expect_text(db, NULL, "bob", "home");
    }
    close_ok(db);
}
END_TEST

START_TEST(test_txn_reads_in_every_form_are_validated)
{
    lsm_db *db = open_small();
    lsm_slice keys[] = {text("w"), text("x"), text("y")};
    for (unsigned form = 0; form < 4; form++) {
        lsm_txn *txn = begin(db, &serializable);
        lsm_pin pins[3] = {{.found = false}};
        size_t size;
        if (form == 0)
            ck_ok(lsm_txn_get(txn, NULL, text("x"), NULL, &pins[0], &error));
        else if (form == 1)
            ck_ok(lsm_txn_get_into(txn, NULL, text("x"), NULL, NULL, 0, &size, &error));
        else if (form == 2)
            ck_ok(lsm_txn_multi_get(txn, NULL, 3, keys, NULL, pins, &error));
        else /* own writes are no reads, but written keys */
            txn_put(txn, "x", "own");
        for (size_t i = 0; i < 3; i++)
            lsm_pin_release(&pins[i]);
        txn_put(txn, "z", "1");
        put_text(db, NULL, "x", "other");
        commit_conflicts(txn);
    }
    close_ok(db);
}
END_TEST

/* ---- phantoms -------------------------------------------------------------------------------- */

/* How a transaction walks over "b" ... "h" of the stored b, d, f, h. */
struct walk {
    const char *name;
    void (*run)(lsm_txn *txn);
    const char *inside;  /* keys of one letter whose change conflicts */
    const char *outside; /* and of those whose change does not */
};

static void drain(lsm_iter *it)
{
    while (lsm_iter_valid(it))
        lsm_iter_next(it);
    lsm_iter_close(it);
}

static void walk_all(lsm_txn *txn)
{
    lsm_iter *it = txn_iter(txn, NULL);
    lsm_iter_first(it);
    drain(it);
}

static void walk_all_backwards(lsm_txn *txn)
{
    lsm_iter *it = txn_iter(txn, NULL);
    for (lsm_iter_last(it); lsm_iter_valid(it);)
        lsm_iter_prev(it);
    lsm_iter_close(it);
}

static void walk_bounds(lsm_txn *txn)
{
    lsm_read_options options = {.first = text("c"), .limit = text("g")};
    lsm_iter *it = txn_iter(txn, &options);
    lsm_iter_first(it);
    drain(it);
}

static void walk_prefix(lsm_txn *txn)
{
    lsm_read_options options = {.prefix = text("c")};
    lsm_iter *it = txn_iter(txn, &options);
    for (lsm_iter_last(it); lsm_iter_valid(it);)
        lsm_iter_prev(it);
    lsm_iter_close(it);
}

static void seek_and_step(lsm_txn *txn)
{
    lsm_iter *it = txn_iter(txn, NULL);
    lsm_iter_seek(it, text("c")); /* d */
    lsm_iter_next(it);            /* f */
    lsm_iter_close(it);
}

static void seek_and_turn(lsm_txn *txn)
{
    lsm_iter *it = txn_iter(txn, NULL);
    lsm_iter_seek_for_prev(it, text("e")); /* d */
    lsm_iter_next(it);                     /* f */
    lsm_iter_prev(it);                     /* d */
    lsm_iter_prev(it);                     /* b */
    lsm_iter_close(it);
}

static void last_only(lsm_txn *txn)
{
    lsm_iter *it = txn_iter(txn, NULL);
    lsm_iter_last(it); /* h */
    lsm_iter_close(it);
}

static void seek_twice(lsm_txn *txn)
{
    lsm_iter *it = txn_iter(txn, NULL);
    lsm_iter_seek(it, text("h"));
    lsm_iter_seek(it, text("a"));
    lsm_iter_close(it);
}

static void past_the_bounds(lsm_txn *txn)
{
    lsm_read_options options = {.first = text("c"), .limit = text("g")};
    lsm_iter *it = txn_iter(txn, &options);
    lsm_iter_seek(it, text("k"));
    lsm_iter_seek_for_prev(it, text("a"));
    ck_assert(!lsm_iter_valid(it));
    lsm_iter_close(it);
}

static void open_only(lsm_txn *txn)
{
    lsm_iter_close(txn_iter(txn, NULL));
}

static void own_write_in_between(lsm_txn *txn)
{
    ck_ok(lsm_txn_put(txn, NULL, text("e"), text("own"), &error));
    lsm_iter *it = txn_iter(txn, NULL);
    lsm_iter_seek(it, text("c")); /* d */
    lsm_iter_next(it);            /* e, its own */
    lsm_iter_close(it);
}

static const struct walk walks[] = {
    {"all", walk_all, "abcdefghi", ""},
    {"all backwards", walk_all_backwards, "abcdefghi", ""},
    {"bounds", walk_bounds, "cdef", "abghi"},
    {"prefix", walk_prefix, "c", "abdefghi"},
    {"a seek and a step", seek_and_step, "cdef", "abghi"},
    {"a seek and turns", seek_and_turn, "bcdef", "aghi"},
    {"the last one", last_only, "hi", "abcdefg"},
    {"two seeks", seek_twice, "abh", "cdefgi"},
    {"past the bounds", past_the_bounds, "", "abcdefghi"},
    {"nothing", open_only, "", "abcdefghi"},
    {"an own write", own_write_in_between, "cde", "abfghi"},
};
#define WALKS (sizeof walks / sizeof walks[0])

static void check_phantom(lsm_db *db, const struct walk *walk, char letter, enum place place,
                          bool conflicts)
{
    char key[2] = {letter, '\0'};
    lsm_txn *txn = begin(db, &serializable);
    walk->run(txn);
    txn_put(txn, "own", "1");
    if (place == IN_TABLE) /* a deletion of what may not be there */
        ck_ok(lsm_delete(db, NULL, text(key), NULL, &error));
    else
        put_text(db, NULL, key, "changed");
    bring_to(db, place);
    lsm_status status = lsm_txn_commit(txn, NULL, &error);
    ck_assert_msg(status == (conflicts ? LSM_CONFLICT : LSM_OK), "%s, %c: %s", walk->name, letter,
                  lsm_strerror(status));
    lsm_txn_free(txn);
    if (strchr("bdfh", letter) != NULL)
        put_text(db, NULL, key, "stored");
    else
        ck_ok(lsm_delete(db, NULL, text(key), NULL, &error));
}

START_TEST(test_txn_phantoms_conflict_where_was_walked)
{
    const struct walk *walk = &walks[(size_t)_i / PLACES];
    enum place place = (enum place)((size_t)_i % PLACES);
    lsm_db *db = open_small();
    for (const char *letter = "bdfh"; *letter != '\0'; letter++) {
        char key[2] = {*letter, '\0'};
        put_text(db, NULL, key, "stored");
    }
    for (const char *letter = walk->inside; *letter != '\0'; letter++)
        check_phantom(db, walk, *letter, place, true);
    for (const char *letter = walk->outside; *letter != '\0'; letter++)
        check_phantom(db, walk, *letter, place, false);
    close_ok(db);
}
END_TEST

START_TEST(test_txn_phantom_conflict_says_where)
{
    lsm_db *db = open_small();
    lsm_txn *txn = begin(db, &serializable);
    walk_all(txn);
    txn_put(txn, "own", "1");
    put_text(db, NULL, "phantom", "1");
    ck_fails(LSM_CONFLICT, lsm_txn_commit(txn, NULL, &error));
    ck_assert_ptr_nonnull(strstr(error.message, "'phantom'"));
    ck_assert_ptr_nonnull(strstr(error.message, "walked over"));
    lsm_txn_free(txn);
    txn = begin(db, &snapshot); /* snapshot isolation lets it pass */
    walk_all(txn);
    txn_put(txn, "own", "1");
    put_text(db, NULL, "phantom 2", "1");
    commit_ok(txn);
    close_ok(db);
}
END_TEST

START_TEST(test_txn_walk_over_another_family_does_not_conflict)
{
    lsm_db *db = open_small();
    lsm_cf *second = NULL, *third = NULL;
    ck_ok(lsm_cf_create(db, "second", NULL, &second, &error));
    ck_ok(lsm_cf_create(db, "third", NULL, &third, &error));
    lsm_txn *txn = begin(db, &serializable);
    lsm_iter *it = NULL;
    ck_ok(lsm_txn_iter_open(txn, second, NULL, &it, &error));
    lsm_iter_first(it);
    lsm_iter_close(it);
    ck_ok(lsm_txn_put(txn, second, text("a"), text("1"), &error));
    put_text(db, NULL, "a", "1");
    put_text(db, third, "a", "1");
    commit_ok(txn);
    close_ok(db);
}
END_TEST

/* ---- no memory ------------------------------------------------------------------------------- */

static lsm_status run_once(lsm_db *db, lsm_txn **txn, lsm_iter **it, lsm_pin *pin, lsm_error *err)
{
    lsm_status status = lsm_txn_begin(db, &serializable, txn, err);
    if (status == LSM_OK)
        status = lsm_txn_savepoint(*txn, err);
    for (unsigned i = 0; i < 5 && status == LSM_OK; i++) {
        char key[2] = {(char)('a' + i), '\0'};
        status = lsm_txn_put(*txn, NULL, text(key), text("value"), err);
    }
    if (status == LSM_OK)
        status = lsm_txn_get(*txn, NULL, text("a"), NULL, pin, err);
    if (status == LSM_OK)
        status = lsm_txn_get_for_update(*txn, NULL, text("many-000003"), NULL, pin, err);
    if (status == LSM_OK)
        status = lsm_txn_iter_open(*txn, NULL, NULL, it, err);
    if (status == LSM_OK) {
        for (lsm_iter_first(*it); lsm_iter_valid(*it);)
            lsm_iter_next(*it);
        if (lsm_iter_status(*it, err) == LSM_OK)
            lsm_iter_last(*it);
        status = lsm_iter_status(*it, err);
    }
    if (status == LSM_OK)
        status = lsm_txn_put(*txn, NULL, text("a"), text("another"), err);
    if (status == LSM_OK)
        status = lsm_put(db, NULL, text("zzz"), text("other"), NULL, err);
    if (status == LSM_OK)
        status = lsm_txn_commit(*txn, NULL, err);
    return status == LSM_CONFLICT ? LSM_OK : status;
}

START_TEST(test_txn_without_memory_fails_cleanly)
{
    lsm_db *db = open_small();
    put_many(db, NULL, 0, 20, 20);
    ck_ok(lsm_flush(db, &error));
    lsm_status status = LSM_NO_MEMORY;
    unsigned failures = 0;
    for (int64_t at = 0; status != LSM_OK; at++) {
        lsm_txn *txn = NULL;
        lsm_iter *it = NULL;
        lsm_pin pin = LSM_PIN_INIT;
        ck_ok(lsm_delete(db, NULL, text("zzz"), NULL, &error));
        mem_fail_after(at, _i == 1);
        error = (lsm_error){0};
        status = run_once(db, &txn, &it, &pin, &error);
        mem_fail_after(-1, false);
        failures += status != LSM_OK;
        ck_assert_msg(status == LSM_OK || status == LSM_NO_MEMORY, "%s: %s", lsm_strerror(status),
                      error.message);
        lsm_pin_release(&pin);
        if (at % 2 == 0)
            lsm_iter_close(it);
        lsm_txn_free(txn);
        if (at % 2 == 1)
            lsm_iter_close(it);
        ck_assert_uint_eq(property(db, "snapshots"), 0);
        expect_text(db, NULL, "a", NULL); /* it always conflicts or fails */
    }
    ck_assert_uint_gt(failures, 15);
    close_ok(db);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn");
    TCase *tc = tcase_create("txn");
    tcase_add_checked_fixture(tc, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_txn_writes_are_seen_by_itself_and_then_by_all, 0, 2);
    tcase_add_loop_test(tc, test_txn_reads_its_snapshot, 0, 2);
    tcase_add_test(tc, test_txn_rollback_and_free_leave_nothing);
    tcase_add_loop_test(tc, test_txn_get_in_every_form, 0, 2);
    tcase_add_loop_test(tc, test_txn_families_are_apart_and_atomic, 0, 2);
    tcase_add_test(tc, test_txn_commit_asks_for_durability);
    tcase_add_test(tc, test_txn_misuse_is_told);
    tcase_add_test(tc, test_txn_read_only_database_has_reading_ones);
    tcase_add_test(tc, test_txn_inherited_over_fork_is_refused);
    tcase_add_test(tc, test_txn_memory_limit_is_kept);
    tcase_add_loop_test(tc, test_txn_savepoints_nest, 0, 2);
    tcase_add_loop_test(tc, test_txn_writes_rolled_back_do_not_conflict, 0, 2);
    tcase_add_loop_test(tc, test_txn_iter_shows_what_was_written_before_it, 0, 2);
    tcase_add_loop_test(tc, test_txn_iter_ends_with_what_it_shows, 0, 2);
    tcase_add_test(tc, test_txn_random_reads_match_the_model);
    tcase_add_loop_test(tc, test_txn_first_to_commit_wins, 0, 2);
    tcase_add_test(tc, test_txn_conflict_names_key_family_and_numbers);
    tcase_add_loop_test(tc, test_txn_newer_versions_are_found_everywhere, 0, 2 * PLACES);
    tcase_add_loop_test(tc, test_txn_old_versions_do_not_conflict, 0, PLACES);
    tcase_add_loop_test(tc, test_txn_key_read_for_update_conflicts, 0, 2);
    tcase_add_loop_test(tc, test_txn_write_skew_only_under_snapshot, 0, 2);
    tcase_add_test(tc, test_txn_reads_in_every_form_are_validated);
    tcase_add_loop_test(tc, test_txn_phantoms_conflict_where_was_walked, 0, (int)WALKS * PLACES);
    tcase_add_test(tc, test_txn_phantom_conflict_says_where);
    tcase_add_test(tc, test_txn_walk_over_another_family_does_not_conflict);
    tcase_add_loop_test(tc, test_txn_without_memory_fails_cleanly, 0, 2);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
