/* Ingests through the public door: what they hold, when it is seen, and what is left of them. */
#include "engine/base/random.h"
#include "engine/base/step.h"
#include "engine/db/db_private.h"
#include "tests/unit/db/peers.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define OPTIONS                                                                                    \
    "create=true,memtable_size=64KiB,stage_size=64KiB,wal_segment_size=64KiB,"                     \
    "table_size=32KiB,level_base_size=64KiB,level0_trigger=2,cache_size=256KiB"
#define WORKERS ",workers=1"
#define LIGHT   ",workers=none"

static uint64_t seed;

static lsm_ingest *begin_with(lsm_db *db, size_t memory, bool keep_first)
{
    lsm_ingest_options options = LSM_INGEST_OPTIONS_INIT;
    options.memory_limit = memory;
    options.keep_first = keep_first;
    lsm_ingest *ingest = NULL;
    ck_ok(lsm_ingest_begin(db, &options, &ingest, &error));
    return ingest;
}

static lsm_ingest *begin(lsm_db *db)
{
    return begin_with(db, 0, false);
}

static void add(lsm_ingest *ingest, lsm_cf *cf, const char *key, const char *value)
{
    ck_ok(lsm_ingest_put(ingest, cf, text(key), text(value), &error));
}

static void commit(lsm_ingest *ingest)
{
    ck_ok(lsm_ingest_commit(ingest, &error));
    lsm_ingest_free(ingest);
}

/* Files of the directory whose names end so. */
static unsigned count_files(const char *ending)
{
    unsigned count = 0;
    DIR *dir = opendir(db_path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        size_t size = strlen(e->d_name), wanted = strlen(ending);
        count += size > wanted && strcmp(e->d_name + size - wanted, ending) == 0;
    }
    closedir(dir);
    return count;
}

/* ---- what is seen ---------------------------------------------------------------------------- */

START_TEST(test_ingest_is_seen_at_its_commit_and_after_an_opening)
{
    lsm_db *db = open_with(_i == 0 ? OPTIONS LIGHT : OPTIONS WORKERS);
    lsm_cf *cf = NULL;
    ck_ok(lsm_cf_create(db, "other", NULL, &cf, &error));
    lsm_ingest *ingest = begin(db);
    add(ingest, NULL, "b", "2");
    add(ingest, cf, "a", "of other");
    add(ingest, NULL, "a", "1");
    add(ingest, NULL, "b", "3");
    expect_text(db, NULL, "a", NULL);
    uint64_t before = property(db, "sequence");
    ck_ok(lsm_ingest_commit(ingest, &error));
    ck_assert_uint_eq(lsm_ingest_sequence(ingest), before + 1);
    ck_assert_uint_eq(lsm_ingest_count(ingest), 3);
    lsm_ingest_free(ingest);
    for (int round = 0; round < 2; round++) {
        expect_text(db, NULL, "a", "1");
        expect_text(db, NULL, "b", "3");
        expect_text(db, cf, "a", "of other");
        expect_text(db, cf, "b", NULL);
        ck_assert_uint_eq(property(db, "sequence"), before + 1);
        put_text(db, cf, "b", "later");
        expect_text(db, cf, "b", "later");
        ck_ok(lsm_delete(db, cf, text("b"), NULL, &error));
        before += 2;
        close_ok(db);
        db = open_with(OPTIONS LIGHT);
        ck_ok(lsm_cf_open(db, "other", &cf, &error));
    }
    close_ok(db);
}
END_TEST

START_TEST(test_ingest_comes_after_what_was_written_before_it)
{
    lsm_db *db = open_with(_i == 0 ? OPTIONS LIGHT : OPTIONS WORKERS);
    lsm_snapshot *snapshot = NULL;
    put_text(db, NULL, "k", "flushed");
    put_text(db, NULL, "m", "stays");
    ck_ok(lsm_flush(db, &error));
    put_text(db, NULL, "k", "in memory");
    put_text(db, NULL, "gone", "soon");
    ck_ok(lsm_snapshot_acquire(db, &snapshot, &error));
    lsm_ingest *ingest = begin(db);
    add(ingest, NULL, "k", "ingested");
    ck_ok(lsm_ingest_delete(ingest, NULL, text("gone"), &error));
    put_text(db, NULL, "k", "before the commit");
    commit(ingest);
    for (int round = 0; round < 2; round++) {
        expect_text(db, NULL, "k", "ingested");
        expect_text(db, NULL, "m", "stays");
        expect_text(db, NULL, "gone", NULL);
        expect_text_at(db, NULL, snapshot, "k", "in memory");
        expect_text_at(db, NULL, snapshot, "gone", "soon");
        ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    }
    put_text(db, NULL, "k", "after it");
    expect_text(db, NULL, "k", "after it");
    ck_ok(lsm_flush(db, &error));
    expect_text(db, NULL, "k", "after it");
    lsm_snapshot_release(db, snapshot);
    close_ok(db);
    db = open_with(OPTIONS LIGHT);
    expect_text(db, NULL, "k", "after it");
    expect_text(db, NULL, "gone", NULL);
    close_ok(db);
}
END_TEST

/* What lies apart from the ingest stays in its memtable, and in the log. */
START_TEST(test_ingest_does_not_flush_what_is_not_in_its_way)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    put_text(db, NULL, "a", "1");
    put_text(db, NULL, "z", "2");
    lsm_ingest *ingest = begin(db);
    add(ingest, NULL, "b", "3");
    add(ingest, NULL, "c", "4");
    commit(ingest);
    ck_assert_uint_eq(property(db, "flush-bytes-written"), 0);
    put_text(db, NULL, "b", "5");
    ingest = begin(db);
    add(ingest, NULL, "b", "6");
    commit(ingest);
    ck_assert_uint_gt(property(db, "flush-bytes-written"), 0);
    put_text(db, NULL, "d", "7");
    db_abandon(db); /* as by a death: the log is replayed */
    db = open_with(OPTIONS LIGHT);
    expect_text(db, NULL, "a", "1");
    expect_text(db, NULL, "b", "6");
    expect_text(db, NULL, "c", "4");
    expect_text(db, NULL, "d", "7");
    expect_text(db, NULL, "z", "2");
    close_ok(db);
}
END_TEST

/* The log ends below the ingest's number, which must not be given out again. */
START_TEST(test_ingest_number_is_spent_after_a_recovery)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    put_text(db, NULL, "a", "1");
    lsm_ingest *ingest = begin(db);
    add(ingest, NULL, "b", "2");
    ck_ok(lsm_ingest_commit(ingest, &error));
    uint64_t sequence = lsm_ingest_sequence(ingest);
    lsm_ingest_free(ingest);
    db_abandon(db);
    db = open_with(OPTIONS LIGHT);
    ck_assert_uint_ge(property(db, "sequence"), sequence);
    expect_text(db, NULL, "b", "2");
    put_text(db, NULL, "b", "3");
    ck_assert_uint_eq(property(db, "sequence"), sequence + 1);
    expect_text(db, NULL, "b", "3");
    close_ok(db);
}
END_TEST

START_TEST(test_ingest_conflicts_with_transactions_that_began_before)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    put_text(db, NULL, "k", "1");
    lsm_txn *txn = NULL, *apart = NULL;
    ck_ok(lsm_txn_begin(db, NULL, &txn, &error));
    ck_ok(lsm_txn_begin(db, NULL, &apart, &error));
    ck_ok(lsm_txn_put(txn, NULL, text("k"), text("3"), &error));
    ck_ok(lsm_txn_put(apart, NULL, text("l"), text("3"), &error));
    lsm_ingest *ingest = begin(db);
    add(ingest, NULL, "k", "2");
    commit(ingest);
    ck_fails(LSM_CONFLICT, lsm_txn_commit(txn, NULL, &error));
    ck_ok(lsm_txn_commit(apart, NULL, &error));
    lsm_txn_free(txn);
    lsm_txn_free(apart);
    expect_text(db, NULL, "k", "2");
    close_ok(db);
}
END_TEST

static lsm_db *other;

static void write_meanwhile(const char *name)
{
    if (strcmp(name, "ingest: nothing in the way") != 0)
        return;
    atomic_store(&step_hook, NULL);
    put_text(other, NULL, "k", "meanwhile");
    put_text(other, NULL, "l", "meanwhile");
}

/* The writer comes between the flush and the lock: its memtable is flushed under it. */
START_TEST(test_ingest_comes_after_what_is_written_while_it_commits)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    other = open_with(OPTIONS LIGHT);
    put_text(db, NULL, "k", "before");
    lsm_ingest *ingest = begin(db);
    add(ingest, NULL, "j", "ingested");
    add(ingest, NULL, "k", "ingested");
    atomic_store(&step_hook, write_meanwhile);
    commit(ingest);
    expect_text(db, NULL, "k", "ingested");
    expect_text(other, NULL, "k", "ingested");
    expect_text(other, NULL, "l", "meanwhile");
    close_ok(other);
    close_ok(db);
}
END_TEST

/* ---- sorting --------------------------------------------------------------------------------- */

#define SPACE 6000 /* keys there can be */

enum input_order { ASCENDING, SHUFFLED, IN_PIECES, DESCENDING, ORDERS };

static unsigned nth_key(struct random_state *r, enum input_order order, unsigned i, unsigned count)
{
    if (order == ASCENDING)
        return (unsigned)((uint64_t)i * SPACE / count);
    if (order == DESCENDING)
        return SPACE - 1 - (unsigned)((uint64_t)i * SPACE / count);
    if (order == IN_PIECES) /* each ascends */
        return (i % (count / 4 + 1)) * 4 + i / (count / 4 + 1);
    return (unsigned)random_below(r, SPACE);
}

static void expect_model(lsm_db *db, lsm_cf *cf, const unsigned *model)
{
    lsm_iter *iter = NULL;
    ck_ok(lsm_iter_open(db, cf, NULL, &iter, &error));
    lsm_iter_first(iter);
    for (unsigned k = 0; k < SPACE; k++) {
        char key[16], value[32];
        if (model[k] == 0)
            continue;
        snprintf(key, sizeof key, "key-%05u", k);
        snprintf(value, sizeof value, "value-%u", model[k]);
        ck_assert_msg(lsm_iter_valid(iter), "the database ends before '%s'", key);
        lsm_slice found = lsm_iter_key(iter);
        ck_assert_msg(found.size == strlen(key) && memcmp(found.data, key, found.size) == 0,
                      "'%.*s' instead of '%s'", (int)found.size, (const char *)found.data, key);
        ck_assert_uint_eq(lsm_iter_value(iter).size, strlen(value));
        ck_assert_mem_eq(lsm_iter_value(iter).data, value, strlen(value));
        if (k % 7 == 0)
            expect_text(db, cf, key, value);
        lsm_iter_next(iter);
    }
    ck_ok(lsm_iter_status(iter, &error));
    ck_assert(!lsm_iter_valid(iter));
    lsm_iter_close(iter);
}

/* With little memory: many runs, and merges of merges. */
START_TEST(test_ingest_of_any_order_holds_what_counts)
{
    struct random_state r = random_seeded(seed + (uint64_t)_i);
    enum input_order order = (enum input_order)(_i % ORDERS);
    bool keep_first = random_below(&r, 2) == 0;
    unsigned models[2][SPACE] = {{0}}, expected = 0;
    size_t memory = (size_t)64 << (10 + random_below(&r, 3));
    lsm_db *db = open_with(random_below(&r, 2) == 0 ? OPTIONS LIGHT : OPTIONS WORKERS);
    lsm_cf *cfs[2] = {NULL, NULL};
    ck_ok(lsm_cf_create(db, "second", NULL, &cfs[1], &error));
    lsm_ingest *ingest = begin_with(db, memory, keep_first);
    unsigned count = 1 + (unsigned)random_below(&r, 30000);
    for (unsigned i = 0; i < count; i++) {
        unsigned k = nth_key(&r, order, i, count), family = random_below(&r, 5) == 0;
        char key[16], value[32];
        if (k >= SPACE)
            continue;
        snprintf(key, sizeof key, "key-%05u", k);
        snprintf(value, sizeof value, "value-%u", i + 1);
        unsigned *place = &models[family][k];
        expected += *place == 0;
        if (*place == 0 || !keep_first)
            *place = i + 1;
        add(ingest, cfs[family], key, value);
    }
    ck_ok(lsm_ingest_commit(ingest, &error));
    ck_assert_uint_eq(lsm_ingest_count(ingest), expected);
    lsm_ingest_free(ingest);
    for (int round = 0; round < 3; round++) {
        expect_model(db, NULL, models[0]);
        expect_model(db, cfs[1], models[1]);
        if (round == 0) {
            ck_ok(
                lsm_compact_range(db, NULL, &(lsm_compact_options){.force_bottom = true}, &error));
        } else if (round == 1) {
            close_ok(db);
            db = open_with(OPTIONS LIGHT);
            ck_ok(lsm_cf_open(db, "second", &cfs[1], &error));
        }
    }
    close_ok(db);
}
END_TEST

START_TEST(test_ingest_takes_large_and_empty_entries)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    size_t size = (size_t)3 << 20;
    char *value = malloc(size);
    memset(value, 'v', size);
    lsm_ingest *ingest = begin_with(db, (size_t)64 << 10, false);
    add(ingest, NULL, "z", "");
    ck_ok(lsm_ingest_put(ingest, NULL, text("large"), LSM_SLICE(value, size), &error));
    add(ingest, NULL, "", "of the empty key");
    add(ingest, NULL, "a", "1");
    ck_fails(LSM_TOO_LARGE, lsm_ingest_put(ingest, NULL, LSM_SLICE(value, LSM_MAX_KEY_SIZE + 1),
                                           text(""), &error));
    commit(ingest);
    lsm_pin pin = LSM_PIN_INIT;
    ck_ok(lsm_get(db, NULL, text("large"), NULL, &pin, &error));
    ck_assert_uint_eq(pin.value.size, size);
    ck_assert_mem_eq(pin.value.data, value, size);
    lsm_pin_release(&pin);
    expect_text(db, NULL, "z", "");
    expect_text(db, NULL, "", "of the empty key");
    expect_text(db, NULL, "a", "1");
    free(value);
    close_ok(db);
}
END_TEST

/* ---- what is left ---------------------------------------------------------------------------- */

static void add_shuffled(lsm_ingest *ingest, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "key-%05u", i * 7919 % 10007);
        add(ingest, NULL, key, "some value of no great length");
    }
}

START_TEST(test_ingest_given_up_leaves_no_file)
{
    lsm_db *db = open_with(_i == 0 ? OPTIONS LIGHT : OPTIONS WORKERS);
    lsm_ingest *ingest = begin_with(db, (size_t)64 << 10, false);
    add_shuffled(ingest, 9000);
    ck_fails(LSM_BUSY, lsm_close(db, &error));
    lsm_ingest_free(ingest);
    ck_assert_uint_eq(count_files(".sst"), 0);
    expect_text(db, NULL, "key-00000", NULL);
    ingest = begin_with(db, (size_t)64 << 10, false);
    commit(ingest);
    ck_assert_uint_eq(count_files(".sst"), 0);
    lsm_ingest_free(NULL);
    close_ok(db);
}
END_TEST

/* With one number for all it takes its memory from the cache, and gives it back at every end. */
START_TEST(test_ingest_takes_its_memory_from_the_cache)
{
    lsm_db *db = open_with("create=true,memory=64MiB");
    const struct block_cache *cache = db->tables.cache;
    uint64_t before = block_cache_room(cache);
    static const size_t limits[] = {0, (size_t)1 << 20, SIZE_MAX};
    for (unsigned i = 0; i < 6; i++) {
        lsm_ingest *ingest = begin_with(db, limits[i % 3], false);
        uint64_t least = limits[i % 3] == 0 ? 8u << 20 : 1u << 20;
        ck_assert_uint_le(block_cache_room(cache), before - least);
        ck_assert_uint_ge(block_cache_room(cache), 4u << 20);
        if (i >= 3)
            ck_ok(lsm_ingest_commit(ingest, &error));
        lsm_ingest_free(ingest);
        ck_assert_uint_eq(block_cache_room(cache), before);
    }
    ck_ok(lsm_close(db, &error));
}
END_TEST

START_TEST(test_ingest_committed_leaves_only_its_tables)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    lsm_ingest *ingest = begin_with(db, (size_t)64 << 10, false);
    add_shuffled(ingest, 9000);
    ck_ok(lsm_ingest_commit(ingest, &error));
    ck_fails(LSM_INVALID, lsm_ingest_commit(ingest, &error));
    ck_fails(LSM_INVALID, lsm_ingest_put(ingest, NULL, text("a"), text(""), &error));
    lsm_ingest_free(ingest);
    ck_assert_uint_eq(count_files(".sst"), property(db, "tables"));
    close_ok(db);
}
END_TEST

static bool refuse(void *context, uint64_t done, uint64_t total)
{
    ck_assert_uint_le(done, total);
    ++*(unsigned *)context;
    return false;
}

START_TEST(test_ingest_cancelled_leaves_nothing)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    unsigned calls = 0;
    lsm_ingest_options options = LSM_INGEST_OPTIONS_INIT;
    options.memory_limit = (size_t)1 << 20;
    options.progress = refuse;
    options.progress_context = &calls;
    lsm_ingest *ingest = NULL;
    ck_ok(lsm_ingest_begin(db, &options, &ingest, &error));
    char value[4000];
    memset(value, 'v', sizeof value);
    for (unsigned i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof key, "key-%05u", i * 7919 % 10007);
        ck_ok(lsm_ingest_put(ingest, NULL, text(key), LSM_SLICE(value, sizeof value), &error));
    }
    ck_fails(LSM_CANCELLED, lsm_ingest_commit(ingest, &error));
    ck_assert_uint_eq(calls, 1);
    lsm_ingest_free(ingest);
    ck_assert_uint_eq(count_files(".sst"), 0);
    close_ok(db);
}
END_TEST

START_TEST(test_ingest_fails_cleanly_when_a_family_is_dropped)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    lsm_cf *cf = NULL;
    ck_ok(lsm_cf_create(db, "other", NULL, &cf, &error));
    lsm_ingest *ingest = begin(db);
    add(ingest, NULL, "a", "1");
    add(ingest, cf, "a", "1");
    ck_ok(lsm_cf_drop(db, cf, &error));
    ck_fails(LSM_MISSING, lsm_ingest_commit(ingest, &error));
    lsm_ingest_free(ingest);
    expect_text(db, NULL, "a", NULL);
    ck_assert_uint_eq(count_files(".sst"), 0);
    put_text(db, NULL, "a", "2");
    expect_text(db, NULL, "a", "2");
    close_ok(db);
}
END_TEST

START_TEST(test_ingest_checks_its_arguments)
{
    lsm_db *db = open_with(OPTIONS LIGHT);
    lsm_ingest *ingest = NULL;
    lsm_ingest_options options = LSM_INGEST_OPTIONS_INIT;
    options.memory_limit = 1;
    ck_fails(LSM_INVALID, lsm_ingest_begin(db, &options, &ingest, &error));
    options = (lsm_ingest_options){0};
    ck_fails(LSM_INVALID, lsm_ingest_begin(db, &options, &ingest, &error));
    ck_fails(LSM_INVALID, lsm_ingest_begin(db, NULL, NULL, &error));
    ck_fails(LSM_INVALID, lsm_ingest_put(NULL, NULL, text("a"), text(""), &error));
    put_text(db, NULL, "a", "1");
    close_ok(db);
    db = open_with("read_only=true");
    ck_fails(LSM_READ_ONLY, lsm_ingest_begin(db, NULL, &ingest, &error));
    close_ok(db);
}
END_TEST

/* ---- deaths ---------------------------------------------------------------------------------- */

static const char *const deadly_steps[] = {"ingest: sealed", "ingest: tables ended",
                                           "ingest: intent", "ingest: durable",
                                           "ingest: told",   "ingest: published"};
#define DEADLY_STEPS (sizeof deadly_steps / sizeof *deadly_steps)
#define DURABLE_FROM 3
static const char *deadly_step;

static void die_here(const char *name)
{
    if (strcmp(name, deadly_step) == 0)
        kill(getpid(), SIGKILL);
}

static void ingest_and_die(struct peer *test)
{
    peer_expect(test, "go");
    lsm_db *db = open_with(OPTIONS LIGHT);
    lsm_ingest *ingest = begin(db);
    add(ingest, NULL, "j", "ingested");
    add(ingest, NULL, "k", "ingested");
    atomic_store(&step_hook, die_here);
    commit(ingest);
}

/* Whoever writes first behind the death does not get the number of the ingest, and who looks then
 * sees at once whether it was. */
START_TEST(test_ingest_that_died_is_there_before_the_next_write_or_never)
{
    deadly_step = deadly_steps[_i];
    struct peer peer = peer_start(ingest_and_die);
    lsm_db *db = open_with(OPTIONS LIGHT);
    put_text(db, NULL, "k", "before");
    put_text(db, NULL, "z", "before");
    uint64_t before = property(db, "sequence");
    int status = 0;
    peer_say(&peer, "go");
    ck_assert_int_eq(waitpid(peer.pid, &status, 0), peer.pid);
    ck_assert(WIFSIGNALED(status));
    put_text(db, NULL, "k", "after");
    bool is_there = _i >= DURABLE_FROM;
    uint64_t sequence = property(db, "sequence");
    ck_assert_uint_le(sequence, before + 2);
    if (is_there)
        ck_assert_uint_eq(sequence, before + 2);
    lsm_snapshot *snapshot = NULL;
    ck_ok(lsm_snapshot_acquire(db, &snapshot, &error));
    for (int round = 0; round < 3; round++) {
        expect_text_at(db, NULL, snapshot, "j", is_there ? "ingested" : NULL);
        expect_text_at(db, NULL, snapshot, "k", "after");
        expect_text(db, NULL, "z", "before");
        if (round == 0)
            ck_ok(db_reap(db, &error));
        else
            ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    }
    lsm_snapshot_release(db, snapshot);
    ck_assert_uint_eq(count_files(".sst"), property(db, "tables"));
    close_ok(db);
    close(peer.to);
    close(peer.from);
}
END_TEST

/* Whoever reads takes the state first, and the sequence number then. */
static bool state_has_memtable(const struct db_state *state, uint64_t id)
{
    for (size_t i = 0; i < state->memtable_count; i++) {
        if (memtable_id(state->memtables[i]->table) == id)
            return true;
    }
    return false;
}

static void await_death(struct peer *peer)
{
    int status = 0;
    peer_say(peer, "go");
    ck_assert_int_eq(waitpid(peer->pid, &status, 0), peer->pid);
    ck_assert(WIFSIGNALED(status));
    close(peer->to);
    close(peer->from);
}

/* A state from before the death must not have what is written behind the ingest: neither where its
 * active memtable has entries nor where it is empty. */
START_TEST(test_ingest_that_died_is_not_behind_later_writes_for_who_reads_already)
{
    deadly_step = deadly_steps[DURABLE_FROM + _i / 2];
    struct peer peer = peer_start(ingest_and_die);
    lsm_db *db = open_with(OPTIONS LIGHT);
    put_text(db, NULL, "a", "before");
    if (_i % 2 == 0)
        ck_ok(lsm_flush(db, &error));
    struct db_state *state = db_state_acquire(db);
    ck_assert(state_has_memtable(state, memtable_id(db->active)));
    await_death(&peer);
    put_text(db, NULL, "z", "after");
    ck_assert(!state_has_memtable(state, memtable_id(db->active)));
    uint64_t id = memtable_id(db->active);
    db_state_drop(state);
    put_text(db, NULL, "y", "after");
    ck_assert_uint_eq(memtable_id(db->active), id); /* once is enough */
    expect_text(db, NULL, "j", "ingested");
    close_ok(db);
}
END_TEST

static struct shm_layout *shared;
static uint32_t my_slot;
static unsigned times_taken, give_back_at;

/* No arena is free when the takeover wants one, until it was `give_back_at` times in vain. */
static void take_all_arenas(const char *name)
{
    bool gives = false;
    if (strcmp(name, "redo: ingest adopted") != 0)
        return;
    gives = ++times_taken == give_back_at;
    for (uint32_t i = 0; i < shared->ident.memtable_count; i++) {
        struct shm_memtable *m = &shared->memtables[i];
        uint32_t state = atomic_load(&m->state);
        if (state != SHM_MEMTABLE_FREE && state != SHM_MEMTABLE_BUILDING)
            continue;
        m->owner_slot = my_slot;
        atomic_store(&m->state, gives ? SHM_MEMTABLE_FREE : SHM_MEMTABLE_BUILDING);
    }
}

START_TEST(test_ingest_that_died_holds_writers_back_until_an_arena_is_free)
{
    deadly_step = "ingest: durable";
    struct peer peer = peer_start(ingest_and_die);
    lsm_db *db = open_with(OPTIONS LIGHT);
    put_text(db, NULL, "a", "before");
    uint64_t before = property(db, "sequence"), id = memtable_id(db->active);
    struct db_state *state = db_state_acquire(db);
    await_death(&peer);
    shared = db->layout;
    my_slot = (uint32_t)(db->slot - db->layout->slots);
    times_taken = give_back_at = 0;
    atomic_store(&step_hook, take_all_arenas);

    lsm_write_options options = {.durability = LSM_WRITE};
    options.no_wait = true;
    ck_fails(LSM_BUSY, lsm_put(db, NULL, text("z"), text("never"), &options, &error));
    options.no_wait = false;
    options.timeout_ms = 20;
    ck_fails(LSM_TIMEOUT, lsm_put(db, NULL, text("z"), text("never"), &options, &error));
    ck_assert_uint_eq(property(db, "sequence"), before);
    expect_text(db, NULL, "z", NULL);
    ck_assert_uint_eq(memtable_id(db->active), id);

    give_back_at = times_taken + 3;
    put_text(db, NULL, "z", "after");
    atomic_store(&step_hook, NULL);
    ck_assert_uint_eq(times_taken, give_back_at);
    ck_assert(!state_has_memtable(state, memtable_id(db->active)));
    db_state_drop(state);
    ck_assert_uint_eq(property(db, "sequence"), before + 2);
    expect_text(db, NULL, "j", "ingested");
    expect_text(db, NULL, "z", "after");
    close_ok(db);
}
END_TEST

/* ---- at once --------------------------------------------------------------------------------- */

#define GROUP   40 /* keys that are always written together */
#define ROUNDS  60 /* ingests */
#define READERS 2

static _Atomic unsigned next_value;
static _Atomic bool is_over;

static void group_key(char key[16], unsigned i)
{
    snprintf(key, 16, "group-%03u", i);
}

/* Everybody's values are different; mark says what was ingested last at least. */
static void *ingests(void *argument)
{
    lsm_db *db = argument;
    lsm_error mine;
    for (unsigned round = 1; round <= ROUNDS; round++) {
        lsm_ingest *ingest = NULL;
        char key[16], value[16];
        snprintf(value, sizeof value, "%u", atomic_fetch_add(&next_value, 1));
        ck_assert_int_eq(lsm_ingest_begin(db, NULL, &ingest, &mine), LSM_OK);
        for (unsigned i = 0; i < GROUP; i++) {
            group_key(key, (i * 7) % GROUP);
            ck_assert_int_eq(lsm_ingest_put(ingest, NULL, text(key), text(value), &mine), LSM_OK);
        }
        snprintf(value, sizeof value, "%u", round);
        ck_assert_int_eq(lsm_ingest_put(ingest, NULL, text("ingested"), text(value), &mine),
                         LSM_OK);
        lsm_status status = lsm_ingest_commit(ingest, &mine);
        ck_assert_msg(status == LSM_OK, "%s", mine.message);
        lsm_ingest_free(ingest);
        status = lsm_put(db, NULL, text("mark"), text(value), NULL, &mine);
        ck_assert_msg(status == LSM_OK, "%s", mine.message);
    }
    atomic_store(&is_over, true);
    return NULL;
}

static void *writes(void *argument)
{
    lsm_db *db = argument;
    lsm_error mine;
    lsm_batch *batch = NULL;
    ck_assert_int_eq(lsm_batch_new(&batch, &mine), LSM_OK);
    while (!atomic_load(&is_over)) {
        char key[16], value[16];
        snprintf(value, sizeof value, "%u", atomic_fetch_add(&next_value, 1));
        lsm_batch_clear(batch);
        for (unsigned i = 0; i < GROUP; i++) {
            group_key(key, i);
            ck_assert_int_eq(lsm_batch_put(batch, NULL, text(key), text(value), &mine), LSM_OK);
        }
        lsm_status status = lsm_write(db, batch, NULL, &mine);
        ck_assert_msg(status == LSM_OK, "%s", mine.message);
    }
    lsm_batch_free(batch);
    return NULL;
}

struct seen {
    char group[16];
    unsigned ingested, mark;
};

static unsigned number_of(lsm_slice value)
{
    char digits[16] = "";
    memcpy(digits, value.data, value.size < sizeof digits ? value.size : sizeof digits - 1);
    return (unsigned)strtoul(digits, NULL, 10);
}

static struct seen look(lsm_db *db, const lsm_snapshot *snapshot)
{
    struct seen seen = {.group = ""};
    lsm_read_options options = {.snapshot = snapshot};
    lsm_error mine;
    lsm_iter *iter = NULL;
    ck_assert_int_eq(lsm_iter_open(db, NULL, &options, &iter, &mine), LSM_OK);
    unsigned members = 0;
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter)) {
        lsm_slice key = lsm_iter_key(iter), value = lsm_iter_value(iter);
        if (key.size == 8 && memcmp(key.data, "ingested", 8) == 0) {
            seen.ingested = number_of(value);
        } else if (key.size == 4) {
            seen.mark = number_of(value);
        } else {
            char now[16] = "";
            memcpy(now, value.data, value.size);
            ck_assert_msg(members == 0 || strcmp(now, seen.group) == 0,
                          "%.*s is %s, those before it %s", (int)key.size, (const char *)key.data,
                          now, seen.group);
            memcpy(seen.group, now, sizeof now);
            members++;
        }
    }
    ck_assert_msg(lsm_iter_status(iter, &mine) == LSM_OK, "%s", mine.message);
    ck_assert_msg(members == 0 || members == GROUP, "%u of %d keys", members, GROUP);
    lsm_iter_close(iter);
    ck_assert_msg(seen.mark <= seen.ingested, "mark %u is seen, but of ingests only %u", seen.mark,
                  seen.ingested);
    return seen;
}

static void *reads(void *argument)
{
    lsm_db *db = argument;
    lsm_error mine;
    unsigned last = 0;
    while (!atomic_load(&is_over)) {
        lsm_snapshot *snapshot = NULL;
        ck_assert_int_eq(lsm_snapshot_acquire(db, &snapshot, &mine), LSM_OK);
        struct seen first = look(db, snapshot), newest = look(db, NULL), again = look(db, snapshot);
        ck_assert_str_eq(first.group, again.group);
        ck_assert_uint_eq(first.ingested, again.ingested);
        ck_assert_uint_ge(newest.ingested, first.ingested);
        ck_assert_uint_ge(first.ingested, last);
        last = newest.ingested;
        lsm_snapshot_release(db, snapshot);
    }
    return NULL;
}

START_TEST(test_ingest_beside_writers_and_readers_is_one_write_among_others)
{
    pthread_t threads[3 + READERS];
    lsm_db *db[3];
    atomic_store(&next_value, 1);
    atomic_store(&is_over, false);
    for (int i = 0; i < 3; i++)
        db[i] = open_with(OPTIONS WORKERS);
    ck_assert_int_eq(pthread_create(&threads[0], NULL, ingests, db[0]), 0);
    ck_assert_int_eq(pthread_create(&threads[1], NULL, writes, db[1]), 0);
    ck_assert_int_eq(pthread_create(&threads[2], NULL, reads, db[0]), 0);
    for (int i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_create(&threads[3 + i], NULL, reads, db[1 + i]), 0);
    for (int i = 0; i < 3 + READERS; i++)
        pthread_join(threads[i], NULL);
    struct seen seen = look(db[2], NULL);
    ck_assert_uint_eq(seen.ingested, ROUNDS);
    for (int i = 0; i < 3; i++)
        close_ok(db[i]);
}
END_TEST

int main(void)
{
    const char *given = getenv("SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("seed %" PRIu64 "\n", seed);
    Suite *s = suite_create("ingest");
    TCase *c = tcase_create("ingest");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, fixture_set_up, fixture_tear_down);
    tcase_add_loop_test(c, test_ingest_is_seen_at_its_commit_and_after_an_opening, 0, 2);
    tcase_add_loop_test(c, test_ingest_comes_after_what_was_written_before_it, 0, 2);
    tcase_add_test(c, test_ingest_comes_after_what_is_written_while_it_commits);
    tcase_add_test(c, test_ingest_does_not_flush_what_is_not_in_its_way);
    tcase_add_test(c, test_ingest_number_is_spent_after_a_recovery);
    tcase_add_test(c, test_ingest_conflicts_with_transactions_that_began_before);
    tcase_add_loop_test(c, test_ingest_of_any_order_holds_what_counts, 0, 3 * ORDERS);
    tcase_add_test(c, test_ingest_takes_large_and_empty_entries);
    tcase_add_loop_test(c, test_ingest_given_up_leaves_no_file, 0, 2);
    tcase_add_test(c, test_ingest_takes_its_memory_from_the_cache);
    tcase_add_test(c, test_ingest_committed_leaves_only_its_tables);
    tcase_add_test(c, test_ingest_cancelled_leaves_nothing);
    tcase_add_test(c, test_ingest_fails_cleanly_when_a_family_is_dropped);
    tcase_add_test(c, test_ingest_checks_its_arguments);
    if (!PEERS_CANNOT_RUN) {
        tcase_add_loop_test(c, test_ingest_that_died_is_there_before_the_next_write_or_never, 0,
                            (int)DEADLY_STEPS);
        tcase_add_loop_test(c,
                            test_ingest_that_died_is_not_behind_later_writes_for_who_reads_already,
                            0, 2 * (int)(DEADLY_STEPS - DURABLE_FROM));
        tcase_add_test(c, test_ingest_that_died_holds_writers_back_until_an_arena_is_free);
    }
    tcase_add_test(c, test_ingest_beside_writers_and_readers_is_one_write_among_others);
    suite_add_tcase(s, c);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
