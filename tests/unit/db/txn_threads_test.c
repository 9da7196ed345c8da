/*
 * Transactions of many threads: transfers between accounts whose sum never changes, and random
 * transactions whose recorded history is held against what their isolation promises. Meanwhile a
 * thread writes, flushes and merges, so that newer versions are met in every place.
 */
#include "tests/unit/db/db_fixture.h"

#include "engine/base/random.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define THREADS  4
#define ACCOUNTS 6
#define BALANCE  1000
#define KEYS     8
#define OPS      5 /* of one transaction, at most */

#define THREAD_OPTIONS                                                                             \
    "create=true,workers=2,memtable_size=64KiB,stage_size=256KiB,wal_segment_size=256KiB,"         \
    "cache_size=1MiB,table_size=64KiB,level0_trigger=2"

struct shared {
    lsm_db *db;
    lsm_cf *noise;
    lsm_isolation isolation;
    unsigned rounds;
    _Atomic unsigned threads_left;
    _Atomic unsigned conflicts;
    _Atomic bool failed;
};

struct worker {
    struct shared *shared;
    unsigned number;
    struct random_state random;
    struct record *records; /* of the history */
    size_t record_count;
};

static void fail_thread(struct shared *s, const char *what, const lsm_error *err)
{
    if (!atomic_exchange(&s->failed, true))
        fprintf(stderr, "%s: %s\n", what, err->message);
}

#define thread_ok(s, call)                                                                         \
    do {                                                                                           \
        lsm_error err_ = {0};                                                                      \
        lsm_error *err = &err_;                                                                    \
        if ((call) != LSM_OK)                                                                      \
            fail_thread((s), #call, err);                                                          \
    } while (0)

static lsm_txn *begin(struct shared *s)
{
    lsm_txn_options options = LSM_TXN_OPTIONS_INIT;
    lsm_txn *txn = NULL;
    options.isolation = s->isolation;
    thread_ok(s, lsm_txn_begin(s->db, &options, &txn, err));
    return txn;
}

/* True when it was committed. */
static bool commit(struct worker *w, lsm_txn *txn)
{
    struct shared *s = w->shared;
    lsm_write_options options = {.durability =
                                     random_below(&w->random, 8) == 0 ? LSM_SYNC : LSM_WRITE};
    lsm_error err = {0};
    lsm_status status = lsm_txn_commit(txn, &options, &err);
    if (status == LSM_CONFLICT)
        atomic_fetch_add(&s->conflicts, 1);
    else if (status != LSM_OK)
        fail_thread(s, "lsm_txn_commit", &err);
    return status == LSM_OK;
}

/* What moves everybody's newer versions about. */
static void *make_noise(void *context)
{
    struct shared *s = context;
    struct random_state random = random_seeded(1);
    static const char value[12000];
    for (unsigned i = 0; atomic_load(&s->threads_left) > 0; i++) {
        uint64_t key = random_below(&random, 50);
        thread_ok(s, lsm_put(s->db, s->noise, LSM_SLICE(&key, sizeof key),
                             LSM_SLICE(value, random_below(&random, sizeof value)), NULL, err));
        if (i % 50 == 7)
            thread_ok(s, lsm_flush(s->db, err));
        if (i % 200 == 99)
            thread_ok(s, lsm_compact_range(s->db, NULL, NULL, err));
    }
    return NULL;
}

static void run_threads(struct shared *s, struct worker *workers, void *(*body)(void *))
{
    uint64_t seed = (uint64_t)getpid();
    printf("seed %" PRIu64 "\n", seed);
    pthread_t threads[THREADS], noise;
    s->db = open_with(THREAD_OPTIONS);
    ck_ok(lsm_cf_create(s->db, "noise", NULL, &s->noise, &error));
    s->threads_left = THREADS;
    ck_assert_int_eq(pthread_create(&noise, NULL, make_noise, s), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].shared = s;
        workers[i].number = i;
        workers[i].random = random_seeded(seed + i);
        ck_assert_int_eq(pthread_create(&threads[i], NULL, body, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_join(noise, NULL);
    ck_assert(!atomic_load(&s->failed));
}

/* ---- the bank -------------------------------------------------------------------------------- */

static int64_t balance(struct shared *s, lsm_txn *txn, uint8_t account)
{
    int64_t value = BALANCE;
    size_t size;
    thread_ok(s, lsm_txn_get_into(txn, NULL, LSM_SLICE(&account, 1), NULL, &value, sizeof value,
                                  &size, err));
    return value;
}

static void set_balance(struct shared *s, lsm_txn *txn, uint8_t account, int64_t value)
{
    thread_ok(s,
              lsm_txn_put(txn, NULL, LSM_SLICE(&account, 1), LSM_SLICE(&value, sizeof value), err));
}

static void transfer(struct worker *w)
{
    struct shared *s = w->shared;
    uint8_t from = (uint8_t)random_below(&w->random, ACCOUNTS);
    uint8_t to = (uint8_t)((from + 1 + random_below(&w->random, ACCOUNTS - 1)) % ACCOUNTS);
    int64_t amount = (int64_t)random_below(&w->random, 50);
    for (bool done = false; !done && !atomic_load(&s->failed);) {
        lsm_txn *txn = begin(s);
        int64_t has = balance(s, txn, from);
        set_balance(s, txn, from, has - amount);
        set_balance(s, txn, to, balance(s, txn, to) + amount);
        done = commit(w, txn);
        lsm_txn_free(txn);
    }
}

/* Everything that there is, as one transaction sees it. */
static int64_t total(struct shared *s)
{
    lsm_txn *txn = begin(s);
    lsm_iter *it = NULL;
    int64_t sum = 0, accounts = 0;
    thread_ok(s, lsm_txn_iter_open(txn, NULL, NULL, &it, err));
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it)) {
        int64_t value;
        memcpy(&value, lsm_iter_value(it).data, sizeof value);
        sum += value;
        accounts++;
    }
    thread_ok(s, lsm_iter_status(it, err));
    lsm_iter_close(it);
    thread_ok(s, lsm_txn_commit(txn, NULL, err));
    lsm_txn_free(txn);
    return sum + (ACCOUNTS - accounts) * BALANCE;
}

static void *run_bank(void *context)
{
    struct worker *w = context;
    struct shared *s = w->shared;
    for (unsigned i = 0; i < s->rounds && !atomic_load(&s->failed); i++) {
        transfer(w);
        if (i % 8 == w->number && total(s) != ACCOUNTS * BALANCE)
            fail_thread(s, "money came or went", &(lsm_error){.message = "see the seed"});
    }
    atomic_fetch_sub(&s->threads_left, 1);
    return NULL;
}

START_TEST(test_txn_bank_keeps_its_sum)
{
    struct shared s = {.isolation = (lsm_isolation)_i, .rounds = 120};
    struct worker workers[THREADS] = {{.number = 0}};
    run_threads(&s, workers, run_bank);
    ck_assert_int_eq(total(&s), ACCOUNTS * BALANCE);
    printf("%u conflicts\n", atomic_load(&s.conflicts));
    close_ok(s.db);
}
END_TEST

/* ---- a history and its order ----------------------------------------------------------------- */

enum op_kind { OP_GET, OP_GET_FOR_UPDATE, OP_SCAN, OP_SCAN_BACKWARDS, OP_PUT, OP_DELETE, OP_KINDS };

struct op {
    enum op_kind kind;
    uint8_t first, limit;  /* keys; of all but scans only the first one */
    uint64_t values[KEYS]; /* written, or seen; 0: absent */
};

/* A committed transaction. */
struct record {
    uint64_t snapshot, sequence; /* the same when it wrote nothing */
    struct op ops[OPS];
    unsigned count;
};

static void scan(struct shared *s, lsm_txn *txn, struct op *op)
{
    lsm_read_options options = {.first = LSM_SLICE(&op->first, 1),
                                .limit = LSM_SLICE(&op->limit, 1)};
    bool backwards = op->kind == OP_SCAN_BACKWARDS;
    lsm_iter *it = NULL;
    thread_ok(s, lsm_txn_iter_open(txn, NULL, &options, &it, err));
    for (backwards ? lsm_iter_last(it) : lsm_iter_first(it); lsm_iter_valid(it);
         backwards ? lsm_iter_prev(it) : lsm_iter_next(it))
        memcpy(&op->values[*(const uint8_t *)lsm_iter_key(it).data], lsm_iter_value(it).data,
               sizeof op->values[0]);
    thread_ok(s, lsm_iter_status(it, err));
    lsm_iter_close(it);
}

static void run_op(struct worker *w, lsm_txn *txn, struct op *op, uint64_t unique)
{
    struct shared *s = w->shared;
    uint64_t *value = &op->values[op->first];
    lsm_slice key = LSM_SLICE(&op->first, 1);
    lsm_pin pin = LSM_PIN_INIT;
    switch (op->kind) {
    case OP_GET:
        thread_ok(s, lsm_txn_get(txn, NULL, key, NULL, &pin, err));
        break;
    case OP_GET_FOR_UPDATE:
        thread_ok(s, lsm_txn_get_for_update(txn, NULL, key, NULL, &pin, err));
        break;
    case OP_PUT:
        *value = unique;
        thread_ok(s, lsm_txn_put(txn, NULL, key, LSM_SLICE(value, sizeof *value), err));
        break;
    case OP_DELETE:
        thread_ok(s, lsm_txn_delete(txn, NULL, key, err));
        break;
    default:
        scan(s, txn, op);
        break;
    }
    if (pin.found)
        memcpy(value, pin.value.data, sizeof *value);
    lsm_pin_release(&pin);
}

static bool is_write(const struct op *op)
{
    return op->kind == OP_PUT || op->kind == OP_DELETE;
}

static void *run_history(void *context)
{
    struct worker *w = context;
    struct shared *s = w->shared;
    for (unsigned i = 0; i < s->rounds && !atomic_load(&s->failed); i++) {
        struct record r = {.count = 1 + (unsigned)random_below(&w->random, OPS)};
        lsm_txn *txn = begin(s);
        r.snapshot = lsm_txn_sequence(txn);
        for (unsigned k = 0; k < r.count; k++) {
            struct op *op = &r.ops[k];
            op->kind = (enum op_kind)random_below(&w->random, OP_KINDS);
            op->first = (uint8_t)random_below(&w->random, KEYS);
            op->limit = (uint8_t)(op->first + 1 + random_below(&w->random, 2));
            op->limit = op->limit > KEYS ? KEYS : op->limit;
            run_op(w, txn, op, (uint64_t)(w->number + 1) << 32 | (i * OPS + k));
            if (random_below(&w->random, 3) == 0)
                usleep(50); /* lets others come between */
        }
        bool committed = commit(w, txn);
        r.sequence = lsm_txn_sequence(txn);
        lsm_txn_free(txn);
        if (committed)
            w->records[w->record_count++] = r;
    }
    atomic_fetch_sub(&s->threads_left, 1);
    return NULL;
}

static int record_order(const void *a, const void *b)
{
    const struct record *x = *(const struct record *const *)a,
                        *y = *(const struct record *const *)b;
    if (x->sequence != y->sequence)
        return x->sequence < y->sequence ? -1 : 1;
    /* The one that wrote under the number comes before those who read at it. */
    return (x->snapshot == x->sequence) - (y->snapshot == y->sequence);
}

/* Runs the operations on `state`: true when each sees what it saw. */
static bool replay(const struct record *r, uint64_t state[KEYS])
{
    for (unsigned i = 0; i < r->count; i++) {
        const struct op *op = &r->ops[i];
        bool is_scan = op->kind == OP_SCAN || op->kind == OP_SCAN_BACKWARDS;
        if (is_write(op))
            state[op->first] = op->values[op->first];
        else if (!is_scan && state[op->first] != op->values[op->first])
            return false;
        for (uint8_t key = op->first; is_scan && key < op->limit; key++) {
            if (state[key] != op->values[key])
                return false;
        }
    }
    return true;
}

/* What it leaves behind: written values do not depend on what was read. */
static void apply(const struct record *r, uint64_t state[KEYS])
{
    for (unsigned i = 0; i < r->count; i++) {
        if (is_write(&r->ops[i]))
            state[r->ops[i].first] = r->ops[i].values[r->ops[i].first];
    }
}

static bool wrote(const struct record *r, uint8_t key)
{
    for (unsigned i = 0; i < r->count; i++) {
        if (is_write(&r->ops[i]) && r->ops[i].first == key)
            return true;
    }
    return false;
}

/* Snapshot isolation: reads fit the state at the snapshot, and nobody else wrote the written keys
 * between it and the commit. */
static void check_snapshot(struct record *const *all, size_t at)
{
    const struct record *r = all[at];
    uint64_t state[KEYS] = {0};
    for (size_t i = 0; i < at; i++) {
        if (all[i]->sequence <= r->snapshot)
            apply(all[i], state);
        for (uint8_t key = 0; key < KEYS && all[i]->sequence > r->snapshot; key++)
            ck_assert_msg(!wrote(all[i], key) || !wrote(r, key),
                          "%" PRIu64 " was committed over %" PRIu64 ", newer than its snapshot",
                          r->sequence, all[i]->sequence);
    }
    ck_assert_msg(replay(r, state), "%" PRIu64 " did not read its snapshot %" PRIu64, r->sequence,
                  r->snapshot);
}

/* Those that are not serialisable in the order of their sequence numbers. */
static size_t count_misfits(struct record *const *all, size_t count)
{
    uint64_t state[KEYS] = {0};
    size_t misfits = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t next[KEYS];
        memcpy(next, state, sizeof next);
        misfits += !replay(all[i], next);
        apply(all[i], state);
    }
    return misfits;
}

START_TEST(test_txn_history_fits_its_isolation)
{
    struct shared s = {.isolation = (lsm_isolation)_i, .rounds = 400};
    struct worker workers[THREADS] = {{.number = 0}};
    struct record *all[THREADS * 400];
    size_t count = 0;
    for (unsigned i = 0; i < THREADS; i++)
        workers[i].records = calloc(s.rounds, sizeof(struct record));
    run_threads(&s, workers, run_history);
    for (unsigned i = 0; i < THREADS; i++) {
        for (size_t k = 0; k < workers[i].record_count; k++)
            all[count++] = &workers[i].records[k];
    }
    qsort(all, count, sizeof *all, record_order);
    for (size_t i = 0; i < count; i++)
        check_snapshot(all, i);
    size_t misfits = count_misfits(all, count);
    printf("%zu committed, %u conflicts, %zu out of order\n", count, atomic_load(&s.conflicts),
           misfits);
    ck_assert_uint_gt(count, 100);
    if (s.isolation == LSM_TXN_SERIALIZABLE)
        ck_assert_uint_eq(misfits, 0);
    for (unsigned i = 0; i < THREADS; i++)
        free(workers[i].records);
    close_ok(s.db);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn threads");
    TCase *tc = tcase_create("txn threads");
    tcase_add_checked_fixture(tc, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, test_txn_bank_keeps_its_sum, 0, 2);
    tcase_add_loop_test(tc, test_txn_history_fits_its_isolation, 0, 2);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
