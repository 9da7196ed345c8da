/* The calls on an open database: wrong use, limits, batches, snapshots, iterators, pins, families.
 */
#include "engine/db/db_private.h"
#include "tests/unit/db/db_fixture.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- wrong use ------------------------------------------------------------------------------- */

START_TEST(test_api_null_arguments_are_refused)
{
    lsm_db *db = open_small();
    lsm_slice key = text("k");
    ck_fails(LSM_INVALID, lsm_put(NULL, NULL, key, key, NULL, &error));
    ck_fails(LSM_INVALID, lsm_get(NULL, NULL, key, NULL, &(lsm_pin)LSM_PIN_INIT, &error));
    ck_fails(LSM_INVALID, lsm_get(db, NULL, key, NULL, NULL, &error));
    ck_fails(LSM_INVALID, lsm_get_into(db, NULL, key, NULL, NULL, 10, &(size_t){0}, &error));
    ck_fails(LSM_INVALID, lsm_get_into(db, NULL, key, NULL, NULL, 0, NULL, &error));
    ck_fails(LSM_INVALID, lsm_multi_get(db, NULL, 2, NULL, NULL, NULL, &error));
    ck_fails(LSM_INVALID, lsm_iter_open(db, NULL, NULL, NULL, &error));
    ck_fails(LSM_INVALID, lsm_snapshot_acquire(db, NULL, &error));
    ck_fails(LSM_INVALID, lsm_write(db, NULL, NULL, &error));
    ck_fails(LSM_INVALID, lsm_batch_new(NULL, &error));
    ck_fails(LSM_INVALID, lsm_cf_create(db, "x", NULL, NULL, &error));
    ck_fails(LSM_INVALID, lsm_cf_create(db, NULL, NULL, &(lsm_cf *){NULL}, &error));
    ck_fails(LSM_INVALID, lsm_cf_open(db, "", &(lsm_cf *){NULL}, &error));
    ck_fails(LSM_INVALID, lsm_cf_drop(db, NULL, &error));
    ck_fails(LSM_INVALID, lsm_cf_list(db, NULL, NULL, &error));
    ck_fails(LSM_INVALID, lsm_put(db, NULL, LSM_SLICE(NULL, 3), key, NULL, &error));
    ck_fails(LSM_INVALID, lsm_put(db, NULL, key, LSM_SLICE(NULL, 3), NULL, &error));
    ck_fails(LSM_INVALID, lsm_options_parse(NULL, "create=true", &error));
    ck_fails(LSM_INVALID, lsm_property(db, NULL, NULL, &(uint64_t){0}, &error));
    ck_fails(LSM_INVALID, lsm_property(db, NULL, "tables", NULL, &error));
    ck_ok(lsm_put(db, NULL, LSM_SLICE(NULL, 0), LSM_SLICE(NULL, 0), NULL, NULL));
    close_ok(db);
}
END_TEST

START_TEST(test_api_null_is_allowed_where_promised)
{
    ck_ok(lsm_close(NULL, &error));
    lsm_free(NULL);
    lsm_batch_free(NULL);
    lsm_iter_close(NULL);
    lsm_snapshot_release(NULL, NULL);
    lsm_pin pin = LSM_PIN_INIT;
    lsm_pin_release(&pin);
    lsm_pin_release(&pin);
    ck_assert_ptr_nonnull(lsm_version());
#define HAS_TEXT(name, number, words) ck_assert_str_eq(lsm_strerror(name), words);
    LSM_STATUS_LIST(HAS_TEXT)
    ck_assert_ptr_nonnull(lsm_strerror((lsm_status)12345));
}
END_TEST

START_TEST(test_api_closed_handle_is_refused)
{
    lsm_db *db = open_small();
    close_ok(db);
    ck_fails(LSM_INVALID, lsm_put(db, NULL, text("k"), text("v"), NULL, &error));
    ck_fails(LSM_INVALID, lsm_get(db, NULL, text("k"), NULL, &(lsm_pin)LSM_PIN_INIT, &error));
    ck_fails(LSM_INVALID, lsm_flush(db, &error));
    ck_fails(LSM_INVALID, lsm_close(db, &error));
}
END_TEST

START_TEST(test_api_family_of_another_database_is_refused)
{
    lsm_db *db = open_small();
    snprintf(db_path, sizeof db_path, "%s/other", scratch);
    lsm_db *other = open_small();
    lsm_cf *cf = NULL;
    ck_ok(lsm_cf_create(other, "there", NULL, &cf, &error));
    ck_fails(LSM_INVALID, lsm_put(db, cf, text("k"), text("v"), NULL, &error));
    ck_fails(LSM_INVALID, lsm_get(db, cf, text("k"), NULL, &(lsm_pin)LSM_PIN_INIT, &error));
    ck_fails(LSM_INVALID, lsm_iter_open(db, cf, NULL, &(lsm_iter *){NULL}, &error));
    ck_fails(LSM_INVALID, lsm_cf_drop(db, cf, &error));
    lsm_batch *batch = NULL;
    ck_ok(lsm_batch_new(&batch, &error));
    ck_ok(lsm_batch_put(batch, cf, text("k"), text("v"), &error));
    ck_fails(LSM_INVALID, lsm_write(db, batch, NULL, &error));
    lsm_batch_free(batch);
    close_ok(other);
    close_ok(db);
}
END_TEST

START_TEST(test_api_sizes_over_the_limit_are_refused)
{
    lsm_db *db = open_small();
    char *bytes = calloc(1, LSM_MAX_KEY_SIZE + 1);
    lsm_slice key = LSM_SLICE(bytes, LSM_MAX_KEY_SIZE + 1);
    ck_fails(LSM_TOO_LARGE, lsm_put(db, NULL, key, text("v"), NULL, &error));
    ck_assert_uint_eq(error.expected, LSM_MAX_KEY_SIZE);
    ck_assert_uint_eq(error.found, LSM_MAX_KEY_SIZE + 1);
    ck_fails(LSM_TOO_LARGE, lsm_delete(db, NULL, key, NULL, &error));
    ck_fails(LSM_TOO_LARGE, lsm_get(db, NULL, key, NULL, &(lsm_pin)LSM_PIN_INIT, &error));
    /* Only the size is looked at. */
    lsm_slice value = LSM_SLICE(bytes, LSM_MAX_VALUE_SIZE + 1);
    ck_fails(LSM_TOO_LARGE, lsm_put(db, NULL, text("k"), value, NULL, &error));
    lsm_batch *batch = NULL;
    ck_ok(lsm_batch_new(&batch, &error));
    ck_fails(LSM_TOO_LARGE, lsm_batch_put(batch, NULL, key, text("v"), &error));
    ck_fails(LSM_TOO_LARGE, lsm_batch_put(batch, NULL, text("k"), value, &error));
    ck_assert_uint_eq(lsm_batch_count(batch), 0);
    lsm_batch_free(batch);
    free(bytes);
    close_ok(db);
}
END_TEST

/* Every size is either stored whole or refused; both cleanly, and the database goes on. */
START_TEST(test_api_values_around_the_limits_of_buffers_are_stored_or_refused)
{
    lsm_db *db = open_small();
    size_t capacity = (size_t)300 << 10;
    char *value = malloc(capacity), *back = malloc(capacity);
    unsigned stored = 0, refused = 0;
    for (size_t size = 100; size < capacity; size += size / 7) {
        memset(value, (int)(size % 251), size);
        lsm_status status = lsm_put(db, NULL, text("k"), LSM_SLICE(value, size), NULL, &error);
        if (status == LSM_TOO_LARGE) {
            refused++;
            continue;
        }
        ck_ok(status);
        ck_assert_msg(refused == 0, "%zu bytes fit, fewer did not", size);
        stored++;
        size_t found = 0;
        ck_ok(lsm_get_into(db, NULL, text("k"), NULL, back, capacity, &found, &error));
        ck_assert_uint_eq(found, size);
        ck_assert_mem_eq(back, value, size);
    }
    ck_assert_uint_gt(stored, 10);
    ck_assert_uint_gt(refused, 0); /* half of the stage is 64 KiB */
    close_ok(db);
    free(value);
    free(back);
}
END_TEST

START_TEST(test_api_keys_at_the_limit_round_trip)
{
    lsm_db *db = open_with("create=true,workers=none,memtable_size=4MiB,cache_size=1MiB");
    static const size_t sizes[] = {0, 1, 7, 8, 9, 255, 256, 65534, 65535};
    char *bytes = malloc(LSM_MAX_KEY_SIZE);
    memset(bytes, 0xff, LSM_MAX_KEY_SIZE);
    for (int flushed = 0; flushed < 2; flushed++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            lsm_slice key = LSM_SLICE(bytes, sizes[i]);
            size_t value = sizes[i], size = 0, found = 0;
            if (flushed == 0)
                ck_ok(lsm_put(db, NULL, key, LSM_SLICE(&value, sizeof value), NULL, &error));
            ck_ok(lsm_get_into(db, NULL, key, NULL, &found, sizeof found, &size, &error));
            ck_assert_uint_eq(size, sizeof found);
            ck_assert_uint_eq(found, value);
        }
        ck_ok(lsm_flush(db, &error));
    }
    lsm_iter *iter = NULL;
    ck_ok(lsm_iter_open(db, NULL, NULL, &iter, &error));
    size_t at = 0;
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter))
        ck_assert_uint_eq(lsm_iter_key(iter).size, sizes[at++]);
    ck_assert_uint_eq(at, sizeof sizes / sizeof sizes[0]);
    lsm_iter_close(iter);
    close_ok(db);
    free(bytes);
}
END_TEST

START_TEST(test_api_error_text_holds_no_key_or_value)
{
    lsm_db *db = open_small();
    lsm_cf *cf = NULL;
    ck_ok(lsm_cf_create(db, "one", NULL, &cf, &error));
    ck_ok(lsm_cf_drop(db, cf, &error));
    ck_fails(LSM_MISSING, lsm_put(db, cf, text("secret-key"), text("secret-value"), NULL, &error));
    ck_assert_ptr_null(strstr(error.message, "secret"));
    close_ok(db);
}
END_TEST

/* ---- reads ----------------------------------------------------------------------------------- */

START_TEST(test_api_get_into_cuts_at_the_capacity)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "k", "0123456789");
    for (int flushed = 0; flushed < 2; flushed++) {
        char buffer[11] = "..........";
        size_t size = 0;
        ck_ok(lsm_get_into(db, NULL, text("k"), NULL, buffer, 4, &size, &error));
        ck_assert_uint_eq(size, 10);
        ck_assert_str_eq(buffer, "0123......");
        ck_ok(lsm_get_into(db, NULL, text("k"), NULL, NULL, 0, &size, &error));
        ck_assert_uint_eq(size, 10);
        ck_ok(lsm_get_into(db, NULL, text("absent"), NULL, buffer, 4, &size, &error));
        ck_assert_uint_eq(size, LSM_ABSENT);
        ck_ok(lsm_flush(db, &error));
    }
    close_ok(db);
}
END_TEST

START_TEST(test_api_multi_get_of_many_keys_gives_each_its_own)
{
    lsm_db *db = open_small();
    enum { COUNT = 300 };
    put_many(db, NULL, 0, COUNT, 200);
    ck_ok(lsm_flush(db, &error));
    put_many(db, NULL, COUNT, 20, 200);
    static char names[COUNT][32];
    static lsm_slice keys[COUNT];
    static lsm_pin pins[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "many-%06u", i * 37 % (2 * COUNT) / 2 * 2);
        keys[i] = text(names[i]);
    }
    ck_ok(lsm_multi_get(db, NULL, COUNT, keys, NULL, pins, &error));
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned number = i * 37 % (2 * COUNT) / 2 * 2;
        ck_assert_msg(pins[i].found == (number < COUNT + 20), "key %s", names[i]);
        if (pins[i].found) {
            ck_assert_uint_eq(pins[i].value.size, 200);
            ck_assert_int_eq(((const char *)pins[i].value.data)[199], 'a' + (int)(number % 26));
        }
        lsm_pin_release(&pins[i]);
    }
    ck_ok(lsm_multi_get(db, NULL, 0, NULL, NULL, NULL, &error));
    close_ok(db);
}
END_TEST

/* One pin, from value to value: of a memtable, of a newer one, of blocks, of another database, and
 * none. It counts as one as long as it holds one. */
START_TEST(test_api_pin_used_again_holds_the_last_value_only)
{
    lsm_db *db = open_small(), *other = NULL;
    lsm_options options = options_of(SMALL_OPTIONS);
    char path[sizeof db_path + 8];
    snprintf(path, sizeof path, "%s.other", db_path);
    ck_ok(lsm_open(path, &options, &other, &error));
    ck_ok(lsm_put(other, NULL, text("a"), text("other a"), NULL, &error));
    lsm_pin pin = LSM_PIN_INIT;
    for (int round = 0; round < 4; round++) {
        static const char *const keys[] = {"a", "b", "a", "none", "b", "b"};
        ck_ok(lsm_put(db, NULL, text("a"), text("value a"), NULL, &error));
        if (round == 0)
            ck_ok(lsm_put(db, NULL, text("b"), text("value b"), NULL, &error));
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            char wanted[16];
            snprintf(wanted, sizeof wanted, "value %s", keys[i]);
            ck_ok(lsm_get(db, NULL, text(keys[i]), NULL, &pin, &error));
            ck_assert_int_eq(pin.found, strcmp(keys[i], "none") != 0);
            ck_assert(!pin.found || slice_equal(pin.value, text(wanted)));
            if (i % 2 == 0 && pin.found) /* where a pin that is released would fail */
                ck_fails(LSM_BUSY, lsm_close(db, &error));
        }
        ck_ok(lsm_get(other, NULL, text("a"), NULL, &pin, &error));
        ck_assert(pin.found && slice_equal(pin.value, text("other a")));
        ck_fails(LSM_BUSY, lsm_close(other, &error));
        ck_ok(lsm_flush(db, &error)); /* then `b` is in blocks, and `a` is written anew */
        if (round % 2 == 1)
            ck_ok(lsm_flush(other, &error));
    }
    ck_ok(lsm_close(db, &error)); /* it holds nothing of this one */
    lsm_pin_release(&pin);
    ck_ok(lsm_close(other, &error));
}
END_TEST

START_TEST(test_api_pin_stays_valid_whatever_happens)
{
    lsm_db *db = open_small();
    lsm_cf *cf = NULL;
    ck_ok(lsm_cf_create(db, "short-lived", NULL, &cf, &error));
    lsm_pin pins[4] = {LSM_PIN_INIT, LSM_PIN_INIT, LSM_PIN_INIT, LSM_PIN_INIT};
    put_text(db, cf, "k", "in the memtable");
    ck_ok(lsm_get(db, cf, text("k"), NULL, &pins[0], &error));
    ck_ok(lsm_flush(db, &error));
    ck_ok(lsm_get(db, cf, text("k"), NULL, &pins[1], &error));
    lsm_read_options no_fill = {.no_fill_cache = true};
    ck_ok(lsm_get(db, cf, text("k"), &no_fill, &pins[2], &error));
    for (unsigned round = 0; round < 5; round++) {
        put_text(db, cf, "k", "another value");
        put_many(db, cf, 0, 400, 1000); /* many memtables, and more than the cache holds */
        ck_ok(lsm_flush(db, &error));
        ck_ok(lsm_compact_range(db, cf, &(lsm_compact_options){.force_bottom = true}, &error));
    }
    ck_ok(lsm_get(db, cf, text("k"), NULL, &pins[3], &error));
    ck_ok(lsm_cf_drop(db, cf, &error));
    put_many(db, NULL, 0, 400, 1000);
    ck_ok(lsm_flush(db, &error));
    for (size_t i = 0; i < 4; i++) {
        const char *wanted = i == 3 ? "another value" : "in the memtable";
        ck_assert(pins[i].found);
        ck_assert_uint_eq(pins[i].value.size, strlen(wanted));
        ck_assert_mem_eq(pins[i].value.data, wanted, strlen(wanted));
        lsm_pin_release(&pins[i]);
    }
    close_ok(db);
}
END_TEST

START_TEST(test_api_snapshots_of_too_many_states_are_refused_until_one_goes)
{
    enum { LIMIT = 256 };
    lsm_db *db = open_small();
    lsm_snapshot *held[LIMIT] = {NULL}, *again = NULL, *more = NULL;
    for (size_t i = 0; i < LIMIT; i++) {
        put_text(db, NULL, "k", "v");
        ck_ok(lsm_snapshot_acquire(db, &held[i], &error));
    }
    ck_ok(lsm_snapshot_acquire(db, &again, &error)); /* of a state that is held already */
    put_text(db, NULL, "k", "v");
    ck_fails(LSM_TOO_LARGE, lsm_snapshot_acquire(db, &more, &error));
    lsm_snapshot_release(db, again);
    ck_fails(LSM_TOO_LARGE, lsm_snapshot_acquire(db, &more, &error));
    lsm_snapshot_release(db, held[100]);
    ck_ok(lsm_snapshot_acquire(db, &more, &error));
    lsm_snapshot_release(db, more);
    for (size_t i = 0; i < LIMIT; i++) {
        if (i != 100)
            lsm_snapshot_release(db, held[i]);
    }
    close_ok(db);
}
END_TEST

START_TEST(test_api_snapshot_sees_the_past_through_everything)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "k", "1");
    put_text(db, NULL, "gone", "1");
    lsm_snapshot *snapshot = NULL;
    ck_ok(lsm_snapshot_acquire(db, &snapshot, &error));
    ck_assert_uint_eq(property(db, "snapshots"), 1);
    put_text(db, NULL, "k", "2");
    put_text(db, NULL, "new", "2");
    ck_ok(lsm_delete(db, NULL, text("gone"), NULL, &error));
    for (unsigned round = 0; round < 3; round++) {
        expect_text_at(db, NULL, snapshot, "k", "1");
        expect_text_at(db, NULL, snapshot, "gone", "1");
        expect_text_at(db, NULL, snapshot, "new", NULL);
        expect_text(db, NULL, "k", "2");
        expect_text(db, NULL, "gone", NULL);
        if (round == 0)
            ck_ok(lsm_flush(db, &error));
        else
            ck_ok(
                lsm_compact_range(db, NULL, &(lsm_compact_options){.force_bottom = true}, &error));
    }
    lsm_iter *iter = NULL;
    ck_ok(lsm_iter_open(db, NULL, &(lsm_read_options){.snapshot = snapshot}, &iter, &error));
    lsm_iter_first(iter);
    ck_assert(lsm_iter_valid(iter));
    ck_assert_mem_eq(lsm_iter_key(iter).data, "gone", 4);
    ck_fails(LSM_INVALID, lsm_iter_refresh(iter, &error));
    lsm_iter_close(iter);
    lsm_snapshot_release(db, snapshot);
    ck_assert_uint_eq(property(db, "snapshots"), 0);
    close_ok(db);
}
END_TEST

START_TEST(test_api_iterator_shows_one_moment_until_refreshed)
{
    lsm_db *db = open_small();
    put_many(db, NULL, 0, 50, 100);
    lsm_iter *iter = NULL;
    ck_ok(lsm_iter_open(db, NULL, NULL, &iter, &error));
    ck_assert(!lsm_iter_valid(iter));
    lsm_iter_next(iter); /* nothing */
    lsm_iter_prev(iter);
    ck_assert(!lsm_iter_valid(iter));
    put_many(db, NULL, 50, 2000, 100);
    ck_ok(lsm_flush(db, &error));
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    unsigned count = 0;
    for (lsm_iter_last(iter); lsm_iter_valid(iter); lsm_iter_prev(iter))
        count++;
    ck_assert_uint_eq(count, 50);
    ck_ok(lsm_iter_refresh(iter, &error));
    ck_assert(!lsm_iter_valid(iter));
    count = 0;
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter))
        count++;
    ck_assert_uint_eq(count, 2050);
    ck_ok(lsm_iter_status(iter, &error));
    lsm_iter_close(iter);
    close_ok(db);
}
END_TEST

START_TEST(test_api_iterator_bounds_and_prefix_narrow)
{
    lsm_db *db = open_small();
    const char *keys[] = {"a", "ab", "abc", "abd", "ac", "b", "\xff", "\xff\xff"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        put_text(db, NULL, keys[i], keys[i]);
    static const struct {
        const char *first, *limit, *prefix, *wanted;
    } cases[] = {
        {NULL, NULL, "ab", "ab abc abd "},
        {"abc", NULL, "ab", "abc abd "},
        {NULL, "abd", "ab", "ab abc "},
        {"ab", "b", NULL, "ab abc abd ac "},
        {"b", "ab", NULL, ""},
        {"a", "b", "zz", ""},
        {NULL, NULL, "\xff", "\xff \xff\xff "},
        {"", NULL, "", "a ab abc abd ac b \xff \xff\xff "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lsm_read_options options = {.keys_only = i % 2 == 0};
        char found[100] = "", backwards[100] = "";
        if (cases[i].first != NULL)
            options.first = text(cases[i].first);
        if (cases[i].limit != NULL)
            options.limit = text(cases[i].limit);
        if (cases[i].prefix != NULL)
            options.prefix = text(cases[i].prefix);
        lsm_iter *iter = NULL;
        ck_ok(lsm_iter_open(db, NULL, &options, &iter, &error));
        for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter)) {
            lsm_slice key = lsm_iter_key(iter);
            snprintf(found + strlen(found), sizeof found - strlen(found), "%.*s ", (int)key.size,
                     (const char *)key.data);
            ck_assert_uint_eq(lsm_iter_value(iter).size, options.keys_only ? 0 : key.size);
        }
        for (lsm_iter_last(iter); lsm_iter_valid(iter); lsm_iter_prev(iter)) {
            lsm_slice key = lsm_iter_key(iter);
            memmove(backwards + key.size + 1, backwards, strlen(backwards) + 1);
            memcpy(backwards, key.data, key.size);
            backwards[key.size] = ' ';
        }
        ck_assert_str_eq(found, cases[i].wanted);
        ck_assert_str_eq(backwards, cases[i].wanted);
        lsm_iter_close(iter);
    }
    close_ok(db);
}
END_TEST

/* ---- batches --------------------------------------------------------------------------------- */

START_TEST(test_api_batch_later_entry_of_a_key_wins)
{
    lsm_db *db = open_small();
    lsm_batch *batch = NULL;
    ck_ok(lsm_batch_new(&batch, &error));
    ck_ok(lsm_batch_put(batch, NULL, text("put-delete"), text("1"), &error));
    ck_ok(lsm_batch_delete(batch, NULL, text("put-delete"), &error));
    ck_ok(lsm_batch_delete(batch, NULL, text("delete-put"), &error));
    ck_ok(lsm_batch_put(batch, NULL, text("delete-put"), text("2"), &error));
    ck_ok(lsm_batch_put(batch, NULL, text("put-put"), text("3"), &error));
    ck_ok(lsm_batch_put(batch, NULL, text("put-put"), text("4"), &error));
    ck_assert_uint_eq(lsm_batch_count(batch), 6);
    ck_ok(lsm_write(db, batch, NULL, &error));
    for (unsigned round = 0; round < 3; round++) {
        expect_text(db, NULL, "put-delete", NULL);
        expect_text(db, NULL, "delete-put", "2");
        expect_text(db, NULL, "put-put", "4");
        if (round == 0)
            ck_ok(lsm_flush(db, &error));
        else {
            close_ok(db);
            db = open_small();
        }
    }
    lsm_batch_free(batch);
    close_ok(db);
}
END_TEST

START_TEST(test_api_batch_rolls_back_to_savepoints)
{
    lsm_db *db = open_small();
    lsm_batch *batch = NULL;
    ck_ok(lsm_batch_new(&batch, &error));
    ck_fails(LSM_INVALID, lsm_batch_rollback(batch, &error));
    ck_ok(lsm_batch_put(batch, NULL, text("a"), text("1"), &error));
    size_t size = lsm_batch_size(batch);
    ck_ok(lsm_batch_savepoint(batch, &error));
    ck_ok(lsm_batch_put(batch, NULL, text("a"), text("2"), &error));
    ck_ok(lsm_batch_savepoint(batch, &error));
    ck_ok(lsm_batch_put(batch, NULL, text("b"), text("3"), &error));
    ck_ok(lsm_batch_rollback(batch, &error));
    ck_assert_uint_eq(lsm_batch_count(batch), 2);
    ck_ok(lsm_batch_rollback(batch, &error));
    ck_assert_uint_eq(lsm_batch_count(batch), 1);
    ck_assert_uint_eq(lsm_batch_size(batch), size);
    ck_fails(LSM_INVALID, lsm_batch_rollback(batch, &error));
    ck_ok(lsm_batch_put(batch, NULL, text("c"), text("4"), &error));
    ck_ok(lsm_write(db, batch, NULL, &error));
    expect_text(db, NULL, "a", "1");
    expect_text(db, NULL, "b", NULL);
    expect_text(db, NULL, "c", "4");
    lsm_batch_clear(batch);
    ck_assert_uint_eq(lsm_batch_count(batch), 0);
    uint64_t sequence = property(db, "sequence");
    ck_ok(lsm_write(db, batch, NULL, &error)); /* empty */
    ck_assert_uint_eq(property(db, "sequence"), sequence);
    ck_ok(lsm_batch_put(batch, NULL, text("b"), text("5"), &error));
    ck_ok(lsm_write(db, batch, NULL, &error));
    ck_ok(lsm_write(db, batch, NULL, &error)); /* again */
    ck_assert_uint_eq(property(db, "sequence"), sequence + 2);
    expect_text(db, NULL, "b", "5");
    lsm_batch_free(batch);
    close_ok(db);
}
END_TEST

START_TEST(test_api_batch_too_large_for_the_stage_is_refused_whole)
{
    lsm_db *db = open_small();
    lsm_batch *batch = NULL;
    char key[32], value[1000] = {0};
    ck_ok(lsm_batch_new(&batch, &error));
    for (unsigned i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        ck_ok(lsm_batch_put(batch, NULL, text(key), LSM_SLICE(value, sizeof value), &error));
    }
    ck_fails(LSM_TOO_LARGE, lsm_write(db, batch, NULL, &error));
    expect_text(db, NULL, "key-0", NULL);
    expect_text(db, NULL, "key-199", NULL);
    lsm_batch_free(batch);
    put_text(db, NULL, "after", "1");
    close_ok(db);
}
END_TEST

/* ---- families -------------------------------------------------------------------------------- */

START_TEST(test_api_families_are_made_renamed_listed_and_dropped)
{
    lsm_db *db = open_small();
    lsm_cf *a = NULL, *b = NULL, *c = NULL;
    ck_ok(lsm_cf_create(db, "a", NULL, &a, &error));
    ck_ok(lsm_cf_create(db, "b", NULL, &b, &error));
    ck_fails(LSM_EXISTS, lsm_cf_create(db, "a", NULL, &c, &error));
    ck_fails(LSM_EXISTS, lsm_cf_create(db, "default", NULL, &c, &error));
    ck_fails(LSM_EXISTS, lsm_cf_rename(db, a, "b", &error));
    ck_fails(LSM_MISSING, lsm_cf_open(db, "c", &c, &error));
    ck_assert_ptr_null(c);
    put_text(db, a, "k", "in a");
    put_text(db, b, "k", "in b");
    ck_ok(lsm_cf_rename(db, a, "c", &error));
    ck_assert_str_eq(lsm_cf_name(a), "c");
    expect_text(db, a, "k", "in a");
    uint32_t id = lsm_cf_id(b);
    ck_ok(lsm_cf_drop(db, b, &error));
    ck_fails(LSM_MISSING, lsm_cf_drop(db, b, &error));
    ck_fails(LSM_MISSING, lsm_put(db, b, text("k"), text("v"), NULL, &error));
    ck_fails(LSM_MISSING, lsm_get(db, b, text("k"), NULL, &(lsm_pin)LSM_PIN_INIT, &error));
    ck_ok(lsm_cf_create(db, "b", NULL, &b, &error));
    ck_assert_uint_gt(lsm_cf_id(b), id);
    expect_text(db, b, "k", NULL);
    close_ok(db);
    db = open_small();
    char **names = NULL;
    size_t count = 0;
    ck_ok(lsm_cf_list(db, &names, &count, &error));
    ck_assert_uint_eq(count, 3);
    ck_assert_str_eq(names[0], "default");
    ck_assert_str_eq(names[1], "c");
    ck_assert_str_eq(names[2], "b");
    lsm_free(names);
    ck_ok(lsm_cf_open(db, "c", &a, &error));
    expect_text(db, a, "k", "in a");
    ck_fails(LSM_INVALID, lsm_cf_drop(db, lsm_cf_default(db), &error));
    close_ok(db);
}
END_TEST

START_TEST(test_api_family_name_over_the_limit_is_refused)
{
    lsm_db *db = open_small();
    char name[LSM_MAX_CF_NAME + 2];
    lsm_cf *cf = NULL;
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    ck_fails(LSM_TOO_LARGE, lsm_cf_create(db, name, NULL, &cf, &error));
    name[LSM_MAX_CF_NAME] = '\0';
    ck_ok(lsm_cf_create(db, name, NULL, &cf, &error));
    ck_fails(LSM_INVALID, lsm_cf_create(db, "bad",
                                        &(lsm_cf_options){.struct_size = sizeof(lsm_cf_options),
                                                          .block_size = 3},
                                        &cf, &error));
    close_ok(db);
    db = open_small();
    ck_ok(lsm_cf_open(db, name, &cf, &error));
    close_ok(db);
}
END_TEST

START_TEST(test_api_iterator_survives_the_drop_of_its_family)
{
    lsm_db *db = open_small();
    lsm_cf *cf = NULL;
    ck_ok(lsm_cf_create(db, "a", NULL, &cf, &error));
    put_many(db, cf, 0, 300, 300);
    ck_ok(lsm_flush(db, &error));
    put_many(db, cf, 300, 20, 300);
    lsm_iter *iter = NULL;
    ck_ok(lsm_iter_open(db, cf, NULL, &iter, &error));
    ck_ok(lsm_cf_drop(db, cf, &error));
    put_many(db, NULL, 0, 300, 300);
    ck_ok(lsm_flush(db, &error));
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    unsigned count = 0;
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter))
        count++;
    ck_ok(lsm_iter_status(iter, &error));
    ck_assert_uint_eq(count, 320);
    lsm_iter_close(iter);
    close_ok(db);
}
END_TEST

/* ---- closing, stalls, events, properties ----------------------------------------------------- */

START_TEST(test_api_close_waits_for_nobody_and_says_who_is_left)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "k", "v");
    lsm_iter *iter = NULL;
    ck_ok(lsm_iter_open(db, NULL, NULL, &iter, &error));
    ck_fails(LSM_BUSY, lsm_close(db, &error));
    lsm_iter_close(iter);
    lsm_snapshot *snapshot = NULL;
    ck_ok(lsm_snapshot_acquire(db, &snapshot, &error));
    ck_fails(LSM_BUSY, lsm_close(db, &error));
    lsm_snapshot_release(db, snapshot);
    put_text(db, NULL, "k", "still open");
    expect_text(db, NULL, "k", "still open");
    lsm_pin pin = LSM_PIN_INIT;
    ck_ok(lsm_get(db, NULL, text("k"), NULL, &pin, &error));
    ck_fails(LSM_BUSY, lsm_close(db, &error));
    lsm_pin_release(&pin);
    ck_ok(lsm_flush(db, &error));
    ck_ok(lsm_get(db, NULL, text("k"), NULL, &pin, &error)); /* in a block of the cache now */
    ck_fails(LSM_BUSY, lsm_close(db, &error));
    lsm_pin_release(&pin);
    close_ok(db);
}
END_TEST

struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool closed;
    _Atomic unsigned events[8];
    _Atomic uint64_t flushed_entries;
    _Atomic unsigned stall_begins;
};

static void listen(void *context, const lsm_event *event)
{
    struct gate *gate = context;
    gate->events[event->kind]++;
    if (event->kind == LSM_EVENT_FLUSH)
        gate->flushed_entries += event->entry_count;
    if (event->kind == LSM_EVENT_STALL && event->reason != LSM_STALL_NONE)
        gate->stall_begins++;
    if (event->kind != LSM_EVENT_FLUSH)
        return;
    pthread_mutex_lock(&gate->mutex);
    while (gate->closed)
        pthread_cond_wait(&gate->cond, &gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
}

static void open_gate(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    gate->closed = false;
    pthread_cond_broadcast(&gate->cond);
    pthread_mutex_unlock(&gate->mutex);
}

/* The only worker is held in the listener, so the memtables fill and nothing empties them. */
START_TEST(test_api_stalled_write_with_no_wait_is_busy)
{
    static struct gate gate = {
        .mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER, .closed = true};
    lsm_options options = options_of("create=true,workers=1,memtable_count=2,memtable_size=64KiB,"
                                     "cache_size=1MiB");
    options.listener = listen;
    options.listener_context = &gate;
    lsm_db *db = NULL;
    ck_ok(lsm_open(db_path, &options, &db, &error));
    char key[32], value[1000] = {0};
    lsm_write_options no_wait = {.no_wait = true};
    unsigned count = 0;
    lsm_status status = LSM_OK;
    for (; count < 10000 && status == LSM_OK; count++) {
        snprintf(key, sizeof key, "key-%u", count);
        status = lsm_put(db, NULL, text(key), LSM_SLICE(value, sizeof value), &no_wait, &error);
    }
    ck_assert_msg(status == LSM_BUSY, "%u writes, then %s", count, lsm_strerror(status));
    expect_text(db, NULL, key, NULL); /* the one that was refused */
    char reason[100];
    size_t size = 0;
    ck_ok(lsm_property_text(db, NULL, "stall", reason, sizeof reason, &size, &error));
    ck_assert_str_ne(reason, "none");
    ck_assert_uint_gt(gate.stall_begins, 0);
    open_gate(&gate);
    ck_ok(lsm_put(db, NULL, text(key), text("v"), NULL, &error)); /* waits, and is done */
    ck_ok(lsm_wait_idle(db, &error));
    ck_ok(lsm_property_text(db, NULL, "stall", reason, sizeof reason, &size, &error));
    ck_assert_str_eq(reason, "none");
    close_ok(db);
}
END_TEST

static lsm_db *waiting_db;

static void *put_and_wait(void *key)
{
    lsm_error why = {0};
    char value[1000] = {0};
    return (void *)(uintptr_t)lsm_put(waiting_db, NULL, text(key), LSM_SLICE(value, sizeof value),
                                      NULL, &why);
}

/* The "times" and "longest us" of a line of the property "stalls". */
static void waits_of(lsm_db *db, const char *line, unsigned long *count, unsigned long *longest)
{
    char all[4000];
    size_t size;
    unsigned long total;
    ck_ok(lsm_property_text(db, NULL, "stalls", all, sizeof all, &size, &error));
    const char *at = strstr(all, line);
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at + strlen(line), "%lu %lu %lu", count, &total, longest), 3);
    ck_assert_uint_ge(total, *longest);
}

/* A writer that looks again and again while it waits has waited once, all the time. */
START_TEST(test_api_wait_for_a_flush_is_counted_as_one)
{
    static struct gate gate = {
        .mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER, .closed = true};
    lsm_options options = options_of("create=true,workers=1,memtable_count=2,memtable_size=64KiB,"
                                     "cache_size=1MiB");
    options.listener = listen;
    options.listener_context = &gate;
    ck_ok(lsm_open(db_path, &options, &waiting_db, &error));
    char key[32], value[1000] = {0};
    lsm_write_options no_wait = {.no_wait = true};
    lsm_status status = LSM_OK;
    for (unsigned i = 0; status == LSM_OK; i++) {
        bool is_held = gate.events[LSM_EVENT_FLUSH] > 0; /* the worker, which makes no more room */
        snprintf(key, sizeof key, "key-%u", i);
        status =
            lsm_put(waiting_db, NULL, text(key), LSM_SLICE(value, sizeof value), &no_wait, &error);
        if (status == LSM_BUSY && !is_held)
            status = LSM_OK;
    }
    ck_assert_int_eq(status, LSM_BUSY);
    unsigned long count, longest, before;
    waits_of(waiting_db, "own      memtables", &before, &longest);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, put_and_wait, key), 0);
    _Atomic uint32_t *stalled = &waiting_db->slot->report.stalled_writers;
    for (unsigned ms = 0; ms<200; ms += atomic_load(stalled)> 0 ? 1 : 0)
        usleep(1000);
    open_gate(&gate);
    void *result;
    pthread_join(thread, &result);
    ck_assert_uint_eq((uintptr_t)result, LSM_OK);
    waits_of(waiting_db, "own      memtables", &count, &longest);
    ck_assert_uint_le(count, before + 2); /* one for its turn, and the one for the flush */
    ck_assert_uint_ge(longest, 150000);
    waits_of(waiting_db, "all      memtables", &count, &longest);
    ck_assert_uint_ge(longest, 150000);
    waits_of(waiting_db, "own      switch", &count, &longest);
    ck_assert_uint_ge(count, 2);
    ck_assert_uint_ge(property(waiting_db, "stall-longest-us"), 150000);
    ck_assert_uint_ge(property(waiting_db, "stall-us"), property(waiting_db, "stall-longest-us"));
    ck_assert_uint_ge(property(waiting_db, "stall-count"), 3);
    close_ok(waiting_db);
}
END_TEST

/* The worker is held after its first flush: writes are slowed, and say so, while there is room. */
START_TEST(test_api_write_is_slowed_before_the_last_memtable_is_full)
{
    static struct gate gate = {
        .mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER, .closed = true};
    lsm_options options = options_of("create=true,workers=1,memtable_count=2,memtable_size=64KiB,"
                                     "cache_size=1MiB");
    options.listener = listen;
    options.listener_context = &gate;
    lsm_db *db = NULL;
    ck_ok(lsm_open(db_path, &options, &db, &error));
    char key[32], value[1000] = {0};
    lsm_write_options patient = {.timeout_ms = 1000};
    unsigned count = 0;
    /* One memtable is full, and the next one, in which nobody is slowed, is as good as empty. */
    for (; gate.events[LSM_EVENT_FLUSH] == 0 && db_memtables_waiting(db) == 0; count++) {
        snprintf(key, sizeof key, "key-%u", count);
        ck_ok(lsm_put(db, NULL, text(key), LSM_SLICE(value, sizeof value), NULL, &error));
    }
    while (gate.events[LSM_EVENT_FLUSH] == 0)
        usleep(1000);
    ck_assert_uint_eq(gate.stall_begins, 0);
    for (unsigned end = count + 1000; gate.stall_begins == 0 && count < end; count++) {
        snprintf(key, sizeof key, "key-%u", count);
        ck_ok(lsm_put(db, NULL, text(key), LSM_SLICE(value, sizeof value), &patient, &error));
    }
    ck_assert_uint_gt(gate.stall_begins, 0);
    lsm_write_options no_wait = {.no_wait = true};
    ck_ok(lsm_put(db, NULL, text("more"), text("room"), &no_wait, &error));
    open_gate(&gate);
    ck_ok(lsm_wait_idle(db, &error));
    close_ok(db);
}
END_TEST

#define MIB ((uint64_t)1 << 20)

/* Bytes that segments and spares take on disk. */
static uint64_t log_bytes(void)
{
    DIR *folder = opendir(db_path);
    uint64_t sum = 0;
    ck_assert_ptr_nonnull(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        struct stat found;
        const char *kind = strrchr(entry->d_name, '.');
        if (kind == NULL || (strcmp(kind, ".wal") != 0 && strcmp(kind, ".spare") != 0))
            continue;
        if (fstatat(dirfd(folder), entry->d_name, &found, 0) == 0)
            sum += (uint64_t)found.st_blocks * 512;
    }
    closedir(folder);
    return sum;
}

/* The last one is synced, so that the log has all of them. */
static void put_some(lsm_db *db, unsigned count)
{
    lsm_write_options sync = {.durability = LSM_SYNC};
    char key[32], value[1000] = {0};
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        ck_ok(lsm_put(db, NULL, text(key), LSM_SLICE(value, sizeof value),
                      i + 1 == count ? &sync : NULL, &error));
    }
}

/* While somebody holds the sync lock nobody writes the log. */
START_TEST(test_api_write_is_slowed_before_the_ring_is_full)
{
    lsm_db *db = open_with("create=true,stage_size=1MiB,memtable_size=16MiB");
    struct shm_waits *waits = &db->layout->ctl.waits[SHM_WAIT_LOG];
    char key[32], value[1000] = {0};
    db_sync_lock(db);
    for (unsigned i = 0; i < 500; i++) { /* with what comes besides less than half of it */
        snprintf(key, sizeof key, "key-%u", i);
        ck_ok(lsm_put(db, NULL, text(key), LSM_SLICE(value, 900), NULL, &error));
    }
    ck_assert_uint_eq(atomic_load(&waits->count), 0);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        ck_ok(lsm_put(db, NULL, text(key), LSM_SLICE(value, sizeof value), NULL, &error));
    }
    uint64_t slowed = atomic_load(&waits->count);
    ck_assert_uint_gt(slowed, 0);
    lsm_write_options no_wait = {.no_wait = true}; /* there is room */
    ck_ok(lsm_put(db, NULL, text(key), LSM_SLICE(value, sizeof value), &no_wait, &error));
    ck_assert_uint_eq(atomic_load(&waits->count), slowed);
    shm_unlock(&db->layout->locks.sync);
    close_ok(db);
}
END_TEST

/* A write that found the ring full would wait here for ever, for this thread has the sync lock. */
START_TEST(test_api_ring_lasts_while_the_disk_is_silent)
{
    lsm_db *db = open_with("create=true,stage_size=1MiB,memtable_size=16MiB");
    char key[32], value[100] = {0};
    db_sync_lock(db);
    uint64_t end = io_now_ns(db->io) + UINT64_C(3000000000);
    for (unsigned i = 0; io_now_ns(db->io) < end || wal_ring_ppm(db->wal) <= 500000; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        ck_ok(lsm_put(db, NULL, text(key), LSM_SLICE(value, sizeof value), NULL, &error));
    }
    shm_unlock(&db->layout->locks.sync);
    close_ok(db);
}
END_TEST

/* Segments get their room in steps of a MiB; one may be ready ahead. */
START_TEST(test_api_log_space_goes_when_all_is_done)
{
    lsm_db *db = open_with("create=true,workers=1,wal_segment_size=16MiB,memtable_size=16MiB");
    put_some(db, 10000);
    uint64_t held = 10000 * 1000;
    ck_assert_uint_gt(log_bytes(), held);
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    ck_assert_uint_le(log_bytes(), 2 * MIB);
    put_some(db, 10000);
    ck_assert_uint_gt(log_bytes(), held / 2);
    ck_ok(lsm_flush(db, &error));
    ck_ok(lsm_wait_idle(db, &error));
    ck_assert_uint_le(log_bytes(), 2 * MIB);
    put_some(db, 3000);
    ck_ok(lsm_wait_idle(db, &error)); /* the memtable's log is needed */
    ck_assert_uint_gt(log_bytes(), 3000 * 1000);
    put_text(db, NULL, "key", "value");
    close_ok(db);
}
END_TEST

START_TEST(test_api_memory_for_the_memtable_is_made_ahead_of_writers)
{
    /* A step at either end of the arena is made with the memtable, and is enough for the put. */
    lsm_db *db = open_with("create=true,memtable_size=16MiB");
    uint64_t before = shm_segment_bytes(db->segment);
    put_text(db, NULL, "key", "value");
    for (unsigned i = 0; i < 20000 && shm_segment_bytes(db->segment) < before + 2 * MIB; i++)
        usleep(1000);
    ck_assert_uint_eq(shm_segment_bytes(db->segment), before + 2 * MIB);
    close_ok(db);
}
END_TEST

START_TEST(test_api_listener_is_told_of_flush_and_compaction)
{
    static struct gate gate = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                               .cond = PTHREAD_COND_INITIALIZER};
    lsm_options options = options_of(SMALL_OPTIONS);
    options.listener = listen;
    options.listener_context = &gate;
    lsm_db *db = NULL;
    ck_ok(lsm_open(db_path, &options, &db, &error));
    put_many(db, NULL, 0, 100, 100);
    ck_ok(lsm_flush(db, &error));
    ck_assert_uint_eq(gate.events[LSM_EVENT_FLUSH], 1);
    ck_assert_uint_eq(gate.flushed_entries, 100);
    put_many(db, NULL, 50, 100, 100);
    ck_ok(lsm_compact_range(db, NULL, &(lsm_compact_options){.force_bottom = true}, &error));
    ck_assert_uint_gt(gate.events[LSM_EVENT_COMPACTION], 0);
    ck_assert_uint_eq(gate.events[LSM_EVENT_ERROR], 0);
    close_ok(db);
}
END_TEST

static bool stop_at_once(void *context, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    ++*(unsigned *)context;
    return false;
}

START_TEST(test_api_compaction_is_cancelled_by_its_progress)
{
    lsm_db *db = open_small();
    for (unsigned i = 0; i < 3; i++) {
        put_many(db, NULL, 0, 500, 300);
        ck_ok(lsm_flush(db, &error));
    }
    unsigned calls = 0;
    lsm_compact_options options = {
        .force_bottom = true, .progress = stop_at_once, .progress_context = &calls};
    ck_fails(LSM_CANCELLED, lsm_compact_range(db, NULL, &options, &error));
    ck_assert_uint_eq(calls, 1);
    options.progress = NULL;
    ck_ok(lsm_compact_range(db, NULL, &options, &error));
    ck_assert_uint_eq(property(db, "level0-tables"), 0);
    close_ok(db);
}
END_TEST

START_TEST(test_api_properties_count_what_is_there)
{
    static const char *const names[] = {"entries",
                                        "level0-tables",
                                        "tables",
                                        "table-bytes",
                                        "levels",
                                        "memtable-bytes",
                                        "cache-bytes",
                                        "cache-hits",
                                        "cache-misses",
                                        "snapshots",
                                        "sequence",
                                        "log-bytes-written",
                                        "flush-bytes-written",
                                        "compaction-bytes-written",
                                        "compaction-bytes-read",
                                        "stall-us",
                                        "stall-count",
                                        "stall-longest-us",
                                        "io-submissions",
                                        "memory-bytes"};
    lsm_db *db = open_small();
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ck_ok(lsm_property(db, NULL, names[i], &value, &error));
        ck_ok(lsm_property(db, lsm_cf_default(db), names[i], &value, &error));
    }
    ck_fails(LSM_INVALID, lsm_property(db, NULL, "no-such-thing", &value, &error));
    put_many(db, NULL, 0, 100, 300);
    ck_assert_uint_eq(property(db, "sequence"), 100);
    ck_assert_uint_gt(property(db, "memtable-bytes"), 100 * 300);
    ck_assert_uint_eq(property(db, "tables"), 0);
    ck_ok(lsm_flush(db, &error));
    ck_assert_uint_eq(property(db, "tables"), 1);
    ck_assert_uint_eq(property(db, "level0-tables"), 1);
    ck_assert_uint_gt(property(db, "table-bytes"), 1000);
    ck_assert_uint_ge(property(db, "flush-bytes-written"), property(db, "table-bytes"));
    ck_assert_uint_eq(property(db, "entries"), 100);
    expect_text(db, NULL, "many-x", NULL);
    lsm_iter *iter = NULL;
    ck_ok(lsm_iter_open(db, NULL, NULL, &iter, &error));
    lsm_iter_first(iter);
    lsm_iter_close(iter);
    static const char *const texts[] = {"io", "levels", "stall", "stalls", "uuid"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char cut[6], whole[4000];
        size_t size = 0, again = 0;
        ck_ok(lsm_property_text(db, NULL, texts[i], whole, sizeof whole, &size, &error));
        ck_assert_uint_eq(strlen(whole), size);
        ck_ok(lsm_property_text(db, NULL, texts[i], cut, sizeof cut, &again, &error));
        ck_assert_uint_eq(again, size);
        ck_assert_uint_le(strlen(cut), sizeof cut - 1);
        ck_assert(strncmp(cut, whole, strlen(cut)) == 0);
    }
    ck_fails(LSM_INVALID,
             lsm_property_text(db, NULL, "no-such-thing", (char[9]){0}, 9, &(size_t){0}, &error));
    close_ok(db);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api");
    TCase *cases = tcase_create("api");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, fixture_set_up, fixture_tear_down);
    tcase_add_test(cases, test_api_null_arguments_are_refused);
    tcase_add_test(cases, test_api_null_is_allowed_where_promised);
    tcase_add_test(cases, test_api_closed_handle_is_refused);
    tcase_add_test(cases, test_api_family_of_another_database_is_refused);
    tcase_add_test(cases, test_api_sizes_over_the_limit_are_refused);
    tcase_add_test(cases, test_api_values_around_the_limits_of_buffers_are_stored_or_refused);
    tcase_add_test(cases, test_api_keys_at_the_limit_round_trip);
    tcase_add_test(cases, test_api_error_text_holds_no_key_or_value);
    tcase_add_test(cases, test_api_get_into_cuts_at_the_capacity);
    tcase_add_test(cases, test_api_multi_get_of_many_keys_gives_each_its_own);
    tcase_add_test(cases, test_api_pin_used_again_holds_the_last_value_only);
    tcase_add_test(cases, test_api_pin_stays_valid_whatever_happens);
    tcase_add_test(cases, test_api_snapshot_sees_the_past_through_everything);
    tcase_add_test(cases, test_api_snapshots_of_too_many_states_are_refused_until_one_goes);
    tcase_add_test(cases, test_api_iterator_shows_one_moment_until_refreshed);
    tcase_add_test(cases, test_api_iterator_bounds_and_prefix_narrow);
    tcase_add_test(cases, test_api_batch_later_entry_of_a_key_wins);
    tcase_add_test(cases, test_api_batch_rolls_back_to_savepoints);
    tcase_add_test(cases, test_api_batch_too_large_for_the_stage_is_refused_whole);
    tcase_add_test(cases, test_api_families_are_made_renamed_listed_and_dropped);
    tcase_add_test(cases, test_api_family_name_over_the_limit_is_refused);
    tcase_add_test(cases, test_api_iterator_survives_the_drop_of_its_family);
    tcase_add_test(cases, test_api_close_waits_for_nobody_and_says_who_is_left);
    tcase_add_test(cases, test_api_stalled_write_with_no_wait_is_busy);
    tcase_add_test(cases, test_api_wait_for_a_flush_is_counted_as_one);
    tcase_add_test(cases, test_api_write_is_slowed_before_the_last_memtable_is_full);
    tcase_add_test(cases, test_api_write_is_slowed_before_the_ring_is_full);
    tcase_add_test(cases, test_api_ring_lasts_while_the_disk_is_silent);
    tcase_add_test(cases, test_api_log_space_goes_when_all_is_done);
    tcase_add_test(cases, test_api_memory_for_the_memtable_is_made_ahead_of_writers);
    tcase_add_test(cases, test_api_listener_is_told_of_flush_and_compaction);
    tcase_add_test(cases, test_api_compaction_is_cancelled_by_its_progress);
    tcase_add_test(cases, test_api_properties_count_what_is_there);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
