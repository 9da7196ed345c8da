/*
 * Transactions of several processes on one database: what one of them wrote, wherever it is by now,
 * is a conflict for another; commits of a process that is killed are whole or not there; sums stay
 * the same and histories are serial although processes are killed and others flush and merge.
 */
#include "tests/unit/db/peers.h"

#include "engine/base/random.h"
#include "engine/base/step.h"

#include <inttypes.h>
#include <stdatomic.h>

#define OPTIONS                                                                                    \
    "create=true,workers=none,memtable_size=64KiB,stage_size=128KiB,"                              \
    "wal_segment_size=128KiB,cache_size=1MiB,level0_trigger=2"

static void expect_says(const char *part)
{
    ck_assert_msg(strstr(error.message, part) != NULL, "'%s' is not in '%s'", part, error.message);
}

static lsm_txn *begin(lsm_db *db, lsm_isolation isolation)
{
    lsm_txn_options options = LSM_TXN_OPTIONS_INIT;
    lsm_txn *txn = NULL;
    options.isolation = isolation;
    ck_ok(lsm_txn_begin(db, &options, &txn, &error));
    return txn;
}

static uint64_t read_number(lsm_txn *txn, lsm_cf *cf, const char *key)
{
    char value[24] = "";
    size_t size;
    ck_ok(lsm_txn_get_into(txn, cf, text(key), NULL, value, sizeof value - 1, &size, &error));
    return size == LSM_ABSENT ? 0 : strtoull(value, NULL, 10);
}

static void write_number(lsm_txn *txn, lsm_cf *cf, const char *key, uint64_t number)
{
    char value[24];
    snprintf(value, sizeof value, "%" PRIu64, number);
    ck_ok(lsm_txn_put(txn, cf, text(key), text(value), &error));
}

static void compact_all(lsm_db *db, lsm_cf *cf)
{
    lsm_compact_options options = {.force_bottom = true};
    ck_ok(lsm_flush(db, &error));
    ck_ok(lsm_compact_range(db, cf, &options, &error));
}

/* ---- another process that does as it is told ------------------------------------------------- */

static lsm_cf *family(lsm_db *db, const char *name)
{
    lsm_cf *cf = NULL;
    ck_ok(lsm_cf_open(db, name, &cf, &error));
    return cf;
}

/* "put KEY", "delete KEY", "flush", "compact", "create NAME", "drop NAME", and for a transaction of
 * its own: "begin N", "read KEY", "write KEY", "commit", which is answered by the status. */
static void obey(lsm_db *db, lsm_txn **txn, const char *command, const char *argument, int *answer)
{
    lsm_cf *cf = NULL;
    if (strcmp(command, "put") == 0) {
        put_text(db, NULL, argument, "7");
    } else if (strcmp(command, "delete") == 0) {
        ck_ok(lsm_delete(db, NULL, text(argument), NULL, &error));
    } else if (strcmp(command, "flush") == 0) {
        ck_ok(lsm_flush(db, &error));
    } else if (strcmp(command, "compact") == 0) {
        compact_all(db, NULL);
    } else if (strcmp(command, "create") == 0) {
        ck_ok(lsm_cf_create(db, argument, NULL, &cf, &error));
        put_text(db, cf, "in it", "1");
    } else if (strcmp(command, "drop") == 0) {
        ck_ok(lsm_cf_drop(db, family(db, argument), &error));
    } else if (strcmp(command, "begin") == 0) {
        *txn = begin(db, (lsm_isolation)atoi(argument));
    } else if (strcmp(command, "read") == 0) {
        (void)read_number(*txn, NULL, argument);
    } else if (strcmp(command, "write") == 0) {
        write_number(*txn, NULL, argument, 8);
    } else {
        ck_assert_str_eq(command, "commit");
        *answer = (int)lsm_txn_commit(*txn, NULL, &error);
        lsm_txn_free(*txn);
    }
}

static void servant(struct peer *test)
{
    char message[PEER_TEXT], answer[16];
    lsm_db *db = open_with(OPTIONS);
    lsm_txn *txn = NULL;
    while (peer_hear(test, message)) {
        int status = 0;
        char *argument = strchr(message, ' ');
        if (argument != NULL)
            *argument++ = '\0';
        obey(db, &txn, message, argument == NULL ? "" : argument, &status);
        snprintf(answer, sizeof answer, "%d", status);
        peer_say(test, answer);
    }
    close_ok(db);
}

static lsm_status tell(const struct peer *p, const char *what)
{
    char answer[PEER_TEXT] = "";
    peer_say(p, what);
    ck_assert_msg(peer_hear(p, answer), "the other process failed at '%s'", what);
    return (lsm_status)atoi(answer);
}

/* Where the other one's write is when it is looked for. */
static const char *const places[] = {NULL, "flush", "compact"};
#define PLACES (sizeof places / sizeof *places)

static void move_to(const struct peer *p, size_t place)
{
    if (places[place] != NULL)
        (void)tell(p, places[place]);
}

/* ---- conflicts ------------------------------------------------------------------------------- */

enum touch { TOUCH_WRITE, TOUCH_READ, TOUCH_UPDATE, TOUCH_COUNT };

static void touch_key(lsm_txn *txn, enum touch how, const char *key)
{
    lsm_pin pin = LSM_PIN_INIT;
    if (how == TOUCH_WRITE)
        write_number(txn, NULL, key, 9);
    else if (how == TOUCH_READ)
        (void)read_number(txn, NULL, key);
    else
        ck_ok(lsm_txn_get_for_update(txn, NULL, text(key), NULL, &pin, &error));
    lsm_pin_release(&pin);
}

START_TEST(test_txn_write_of_another_process_conflicts_wherever_it_is)
{
    lsm_db *db = open_with(OPTIONS);
    struct peer other = peer_start(servant);
    for (size_t place = 0; place < PLACES; place++) {
        for (int how = 0; how < TOUCH_COUNT; how++) {
            put_text(db, NULL, "deleted", "1");
            lsm_txn *changed = begin(db, LSM_TXN_SERIALIZABLE),
                    *gone = begin(db, (lsm_isolation)_i);
            lsm_txn *apart = begin(db, LSM_TXN_SERIALIZABLE);
            touch_key(changed, (enum touch)how, "changed");
            touch_key(gone, how == TOUCH_READ ? TOUCH_UPDATE : (enum touch)how, "deleted");
            touch_key(apart, (enum touch)how, "apart");
            write_number(changed, NULL, "result", 1);
            write_number(gone, NULL, "result", 2);
            write_number(apart, NULL, "result", 3);
            (void)tell(&other, "put changed");
            (void)tell(&other, "delete deleted");
            move_to(&other, place);
            ck_fails(LSM_CONFLICT, lsm_txn_commit(changed, NULL, &error));
            expect_says("key 'changed' of column family 'default'");
            ck_assert_uint_gt(error.found, error.expected);
            ck_fails(LSM_CONFLICT, lsm_txn_commit(gone, NULL, &error));
            expect_says("key 'deleted'");
            ck_ok(lsm_txn_commit(apart, NULL, &error));
            lsm_txn_free(changed);
            lsm_txn_free(gone);
            lsm_txn_free(apart);
            expect_text(db, NULL, "result", "3");
        }
    }
    peer_end(&other);
    close_ok(db);
}
END_TEST

static lsm_txn *walk(lsm_db *db, const char *first, const char *limit)
{
    lsm_txn *txn = begin(db, LSM_TXN_SERIALIZABLE);
    lsm_read_options range = {.first = text(first), .limit = text(limit)};
    lsm_iter *it = NULL;
    ck_ok(lsm_txn_iter_open(txn, NULL, &range, &it, &error));
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it))
        ;
    ck_ok(lsm_iter_status(it, &error));
    lsm_iter_close(it);
    write_number(txn, NULL, "result", 1);
    return txn;
}

START_TEST(test_txn_phantom_of_another_process_conflicts_wherever_it_is)
{
    static const char *const changes[] = {"put b5", "delete b2"};
    size_t place = (size_t)_i % PLACES;
    lsm_db *db = open_with(OPTIONS);
    struct peer other = peer_start(servant);
    put_text(db, NULL, "b2", "1");
    put_text(db, NULL, "b8", "1");
    lsm_txn *within = walk(db, "b", "c"), *before = walk(db, "a", "b2"),
            *behind = walk(db, "c", "d");
    (void)tell(&other, changes[(size_t)_i / PLACES]);
    move_to(&other, place);
    ck_fails(LSM_CONFLICT, lsm_txn_commit(within, NULL, &error));
    expect_says("walked over");
    ck_ok(lsm_txn_commit(before, NULL, &error));
    lsm_txn_free(within);
    lsm_txn_free(before);
    /* "result" was just written by `before`. */
    ck_fails(LSM_CONFLICT, lsm_txn_commit(behind, NULL, &error));
    expect_says("key 'result'");
    lsm_txn_free(behind);
    peer_end(&other);
    close_ok(db);
}
END_TEST

START_TEST(test_txn_write_skew_between_processes_only_under_snapshot)
{
    char message[PEER_TEXT];
    lsm_db *db = open_with(OPTIONS);
    struct peer other = peer_start(servant);
    put_text(db, NULL, "on duty: a", "1");
    put_text(db, NULL, "on duty: b", "1");
    lsm_txn *txn = begin(db, (lsm_isolation)_i);
    snprintf(message, sizeof message, "begin %d", _i);
    (void)tell(&other, message);
    ck_assert_uint_eq(read_number(txn, NULL, "on duty: b"), 1);
    write_number(txn, NULL, "on duty: a", 0);
    (void)tell(&other, "read on duty: a");
    (void)tell(&other, "write on duty: b");
    lsm_status first = tell(&other, "commit"), second = lsm_txn_commit(txn, NULL, &error);
    ck_assert_int_eq(first, LSM_OK);
    ck_assert_int_eq(second, _i == LSM_TXN_SNAPSHOT ? LSM_OK : LSM_CONFLICT);
    lsm_txn_free(txn);
    peer_end(&other);
    close_ok(db);
}
END_TEST

START_TEST(test_txn_savepoint_takes_back_what_another_process_wrote_too)
{
    lsm_db *db = open_with(OPTIONS);
    struct peer other = peer_start(servant);
    lsm_txn *txn = begin(db, LSM_TXN_SERIALIZABLE);
    write_number(txn, NULL, "kept", 1);
    ck_ok(lsm_txn_savepoint(txn, &error));
    write_number(txn, NULL, "taken back", 1);
    (void)tell(&other, "put taken back");
    (void)tell(&other, "flush");
    ck_ok(lsm_txn_rollback_to_savepoint(txn, &error));
    ck_ok(lsm_txn_commit(txn, NULL, &error));
    lsm_txn_free(txn);
    expect_text(db, NULL, "kept", "1");
    expect_text(db, NULL, "taken back", "7");
    peer_end(&other);
    close_ok(db);
}
END_TEST

/* ---- families -------------------------------------------------------------------------------- */

START_TEST(test_txn_on_a_family_that_another_process_dropped_writes_nothing)
{
    lsm_db *db = open_with(OPTIONS);
    lsm_cf *cf = NULL;
    struct peer other = peer_start(servant);
    (void)tell(&other, "create passing");
    expect_text(db, NULL, "none", NULL); /* looks */
    cf = family(db, "passing");
    lsm_txn *writer = begin(db, LSM_TXN_SNAPSHOT), *reader = begin(db, LSM_TXN_SERIALIZABLE);
    write_number(writer, cf, "k", 1);
    write_number(writer, NULL, "beside", 1);
    ck_assert_uint_eq(read_number(reader, cf, "in it"), 1);
    write_number(reader, NULL, "beside", 2);
    (void)tell(&other, "drop passing");
    if (_i == 1)
        (void)tell(&other, "put something else");
    if (_i == 2)
        (void)tell(&other, "create passing"); /* the name, not the family */
    ck_fails(LSM_MISSING, lsm_txn_commit(writer, NULL, &error));
    expect_says("was dropped");
    ck_fails(LSM_MISSING, lsm_txn_commit(reader, NULL, &error));
    lsm_txn_free(writer);
    lsm_txn_free(reader);
    expect_text(db, NULL, "beside", NULL);
    peer_end(&other);
    close_ok(db);
}
END_TEST

START_TEST(test_write_to_a_family_that_another_process_dropped_is_refused)
{
    lsm_db *db = open_with(OPTIONS);
    lsm_cf *cf = NULL;
    lsm_batch *batch = NULL;
    lsm_write_options options = {.timeout_ms = _i == 0 ? 0 : 30000};
    struct peer other = peer_start(servant);
    ck_ok(lsm_cf_create(db, "passing", NULL, &cf, &error));
    ck_ok(lsm_batch_new(&batch, &error));
    ck_ok(lsm_batch_put(batch, NULL, text("beside"), text("1"), &error));
    ck_ok(lsm_batch_put(batch, cf, text("k"), text("1"), &error));
    (void)tell(&other, "drop passing");
    ck_fails(LSM_MISSING, lsm_put(db, cf, text("k"), text("1"), &options, &error));
    (void)tell(&other, "create passing");
    (void)tell(&other, "drop passing");
    ck_fails(LSM_MISSING, lsm_write(db, batch, &options, &error));
    expect_text(db, NULL, "beside", NULL);
    lsm_batch_free(batch);
    peer_end(&other);
    close_ok(db);
}
END_TEST

START_TEST(test_txn_on_a_family_that_another_process_created_conflicts_like_any)
{
    lsm_db *db = open_with(OPTIONS);
    struct peer other = peer_start(servant);
    (void)tell(&other, "create new");
    expect_text(db, NULL, "none", NULL); /* looks */
    lsm_cf *cf = family(db, "new");
    lsm_txn *txn = begin(db, LSM_TXN_SERIALIZABLE), *second = begin(db, LSM_TXN_SERIALIZABLE);
    ck_assert_uint_eq(read_number(txn, cf, "in it"), 1);
    ck_assert_uint_eq(read_number(second, cf, "in it"), 1);
    write_number(txn, cf, "in it", 2);
    write_number(second, cf, "in it", 3);
    compact_all(db, cf);
    ck_ok(lsm_txn_commit(txn, NULL, &error));
    ck_fails(LSM_CONFLICT, lsm_txn_commit(second, NULL, &error));
    expect_says("of column family 'new'");
    lsm_txn_free(txn);
    lsm_txn_free(second);
    peer_end(&other);
    close_ok(db);
}
END_TEST

/* ---- death in a commit ----------------------------------------------------------------------- */

static unsigned steps_left;
static _Thread_local bool is_committing; /* the steps of other threads do not count */
static lsm_durability victim_durability;

static void die_at_step(const char *name)
{
    (void)name;
    if (is_committing && steps_left-- == 0)
        kill(getpid(), SIGKILL);
}

static void victim(struct peer *test)
{
    char message[PEER_TEXT];
    lsm_db *db = open_with(OPTIONS);
    lsm_cf *second = family(db, "second");
    lsm_txn *txn = begin(db, LSM_TXN_SERIALIZABLE);
    lsm_write_options options = {.durability = victim_durability};
    write_number(txn, NULL, "a", read_number(txn, second, "b") + 1);
    write_number(txn, second, "b", 2);
    write_number(txn, NULL, "c", 2);
    ck_assert(peer_hear(test, message));
    steps_left = (unsigned)atoi(message);
    is_committing = true;
    atomic_store(&step_hook, die_at_step);
    ck_ok(lsm_txn_commit(txn, &options, &error));
    atomic_store(&step_hook, NULL);
    is_committing = false;
    lsm_txn_free(txn);
    peer_say(test, "committed");
    ck_assert(!peer_hear(test, message));
    close_ok(db);
}

/* False when the commit has fewer steps. */
static bool one_death(lsm_db *db, lsm_cf *second, unsigned step, unsigned *there)
{
    char message[PEER_TEXT];
    put_text(db, NULL, "a", "1");
    put_text(db, second, "b", "1");
    put_text(db, NULL, "c", "1");
    struct peer other = peer_start(victim);
    lsm_txn *txn = begin(db, LSM_TXN_SERIALIZABLE), *after;
    ck_assert_uint_eq(read_number(txn, second, "b"), 1);
    write_number(txn, NULL, "mine", 1);
    snprintf(message, sizeof message, "%u", step);
    peer_say(&other, message);
    bool survived = peer_hear(&other, message);
    if (survived)
        peer_end(&other);
    else
        peer_kill(&other);
    lsm_status status = lsm_txn_commit(txn, NULL, &error); /* takes the lock over */
    after = begin(db, LSM_TXN_SNAPSHOT);
    uint64_t a = read_number(after, NULL, "a");
    ck_assert_uint_eq(read_number(after, second, "b"), a);
    ck_assert_uint_eq(read_number(after, NULL, "c"), a);
    ck_assert_int_eq(status, a == 2 ? LSM_CONFLICT : LSM_OK);
    ck_assert(!survived || a == 2);
    *there += a == 2;
    lsm_txn_free(after);
    lsm_txn_free(txn);
    return !survived;
}

START_TEST(test_txn_commit_of_a_killed_process_is_whole_or_not_there)
{
    unsigned deaths = 0, there = 0;
    lsm_db *db = open_with(OPTIONS);
    lsm_cf *second = NULL;
    ck_ok(lsm_cf_create(db, "second", NULL, &second, &error));
    victim_durability = _i == 0 ? LSM_WRITE : LSM_SYNC;
    while (one_death(db, second, deaths, &there))
        deaths++;
    ck_assert_uint_gt(deaths, 8);
    ck_assert_uint_gt(there, 1);
    ck_assert_uint_lt(there, deaths);
    close_ok(db);
}
END_TEST

/* ---- the bank -------------------------------------------------------------------------------- */

#define TELLERS  4
#define ACCOUNTS 8
#define BALANCE  1000
#define AUDITS   150
#define KILLS    12

struct teller {
    _Atomic uint64_t begun, acknowledged; /* transfers of all lives */
};

struct board {
    struct teller tellers[TELLERS];
    _Atomic uint64_t conflicts, audits, kills;
    _Atomic bool over;
};

static struct board *board;
static unsigned place; /* of this process among its kind */

static void account_of(unsigned number, char key[16])
{
    snprintf(key, 16, "account %u", number);
}

static lsm_cf *branch(lsm_cf *second, unsigned account)
{
    return account % 2 == 0 ? NULL : second;
}

/* Moves money, and counts the transfer under the teller's name, in one transaction. */
static lsm_status transfer(lsm_db *db, lsm_cf *second, struct random_state *r, uint64_t number)
{
    char from[16], to[16], name[16];
    unsigned a = (unsigned)random_below(r, ACCOUNTS), b = (unsigned)random_below(r, ACCOUNTS - 1);
    b += b >= a;
    account_of(a, from);
    account_of(b, to);
    snprintf(name, sizeof name, "teller %u", place);
    lsm_txn *txn = begin(db, (lsm_isolation)random_below(r, 2));
    lsm_write_options options = {.durability = random_below(r, 8) == 0 ? LSM_SYNC : LSM_WRITE};
    uint64_t left = read_number(txn, branch(second, a), from), amount = random_below(r, 50);
    amount = amount > left ? left : amount;
    write_number(txn, branch(second, b), to, read_number(txn, branch(second, b), to) + amount);
    write_number(txn, branch(second, a), from, left - amount);
    write_number(txn, NULL, name, number);
    lsm_status status = lsm_txn_commit(txn, &options, &error);
    lsm_txn_free(txn);
    return status;
}

static void teller(struct peer *test)
{
    (void)test;
    lsm_db *db = open_with(OPTIONS);
    lsm_cf *second = family(db, "second");
    struct teller *me = &board->tellers[place];
    struct random_state r = random_seeded(place + 100 * atomic_load(&board->kills));
    char name[16], value[24] = "";
    size_t size;
    snprintf(name, sizeof name, "teller %u", place);
    ck_ok(lsm_get_into(db, NULL, text(name), NULL, value, sizeof value - 1, &size, &error));
    uint64_t number = size == LSM_ABSENT ? 0 : strtoull(value, NULL, 10);
    ck_assert_uint_ge(number, atomic_load(&me->acknowledged));
    ck_assert_uint_le(number, atomic_load(&me->begun));
    while (!atomic_load(&board->over)) {
        atomic_store(&me->begun, number + 1);
        lsm_status status = transfer(db, second, &r, number + 1);
        if (status == LSM_CONFLICT) {
            atomic_fetch_add(&board->conflicts, 1);
            continue;
        }
        ck_ok(status);
        number++;
        atomic_store(&me->acknowledged, number);
        if (random_below(&r, 200) == 0)
            compact_all(db, branch(second, (unsigned)random_below(&r, 2)));
    }
    close_ok(db);
}

static uint64_t sum_of_all(lsm_txn *txn, lsm_cf *second)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        char key[16];
        account_of(i, key);
        sum += read_number(txn, branch(second, i), key);
    }
    return sum;
}

static uint64_t sum_of_walks(lsm_txn *txn, lsm_cf *second)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < 2; i++) {
        lsm_read_options options = {.prefix = text("account")};
        lsm_iter *it = NULL;
        ck_ok(lsm_txn_iter_open(txn, branch(second, i), &options, &it, &error));
        for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it)) {
            char value[24] = "";
            lsm_slice found = lsm_iter_value(it);
            ck_assert_uint_lt(found.size, sizeof value);
            memcpy(value, found.data, found.size);
            sum += strtoull(value, NULL, 10);
        }
        ck_ok(lsm_iter_status(it, &error));
        lsm_iter_close(it);
    }
    return sum;
}

/* Sums up in transactions of its own, and flushes now and then. */
static void auditor(struct peer *test)
{
    (void)test;
    lsm_db *db = open_with(OPTIONS);
    lsm_cf *second = family(db, "second");
    while (!atomic_load(&board->over)) {
        lsm_txn *txn = begin(db, LSM_TXN_SERIALIZABLE);
        ck_assert_uint_eq(sum_of_all(txn, second), ACCOUNTS * BALANCE);
        ck_assert_uint_eq(sum_of_walks(txn, second), ACCOUNTS * BALANCE);
        ck_ok(lsm_txn_commit(txn, NULL, &error));
        lsm_txn_free(txn);
        uint64_t audits = atomic_fetch_add(&board->audits, 1);
        if (audits % 16 == 0)
            ck_ok(lsm_flush(db, &error));
    }
    close_ok(db);
}

static void expect_lives(const struct peer *p)
{
    ck_assert_msg(waitpid(p->pid, NULL, WNOHANG) == 0, "a process failed");
}

static void expect_counts(lsm_db *db)
{
    for (unsigned i = 0; i < TELLERS; i++) {
        char name[16], value[24] = "";
        size_t size;
        snprintf(name, sizeof name, "teller %u", i);
        ck_ok(lsm_get_into(db, NULL, text(name), NULL, value, sizeof value - 1, &size, &error));
        uint64_t number = size == LSM_ABSENT ? 0 : strtoull(value, NULL, 10);
        ck_assert_uint_ge(number, atomic_load(&board->tellers[i].acknowledged));
        ck_assert_uint_le(number, atomic_load(&board->tellers[i].begun));
    }
}

START_TEST(test_txn_bank_of_many_processes_keeps_its_sum_through_kills)
{
    struct peer tellers[TELLERS], audit;
    struct random_state r = random_seeded(5);
    board = shared_memory(sizeof *board);
    lsm_db *db = open_with(OPTIONS);
    lsm_cf *second = NULL;
    ck_ok(lsm_cf_create(db, "second", NULL, &second, &error));
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        char key[16];
        account_of(i, key);
        put_text(db, branch(second, i), key, "1000");
    }
    for (place = 0; place < TELLERS; place++)
        tellers[place] = peer_start(teller);
    audit = peer_start(auditor);
    unsigned kills = 0;
    while (kills < KILLS || atomic_load(&board->audits) < AUDITS) {
        usleep(10000 + (useconds_t)random_below(&r, 50000));
        for (unsigned i = 0; i < TELLERS; i++)
            expect_lives(&tellers[i]);
        expect_lives(&audit);
        place = (unsigned)random_below(&r, TELLERS);
        peer_kill(&tellers[place]);
        atomic_store(&board->kills, ++kills);
        tellers[place] = peer_start(teller);
    }
    atomic_store(&board->over, true);
    for (unsigned i = 0; i < TELLERS; i++)
        peer_end(&tellers[i]);
    peer_end(&audit);
    uint64_t transfers = 0;
    for (unsigned i = 0; i < TELLERS; i++)
        transfers += atomic_load(&board->tellers[i].acknowledged);
    printf("bank: %" PRIu64 " transfers, %" PRIu64 " conflicts, %" PRIu64 " audits, %u kills\n",
           transfers, atomic_load(&board->conflicts), atomic_load(&board->audits), kills);
    ck_assert_uint_gt(transfers, 100);
    expect_counts(db);
    lsm_txn *txn = begin(db, LSM_TXN_SERIALIZABLE);
    ck_assert_uint_eq(sum_of_all(txn, second), ACCOUNTS * BALANCE);
    lsm_txn_free(txn);
    close_ok(db);
}
END_TEST

/* ---- histories ------------------------------------------------------------------------------- */

#define HISTORY_PEERS 4
#define HISTORY_TXNS  250 /* of each process */
#define HISTORY_KEYS  6
#define HISTORY_OPS   4

struct record {
    uint64_t sequence; /* of the commit, or of the snapshot when nothing was written */
    bool wrote;
    uint64_t read[HISTORY_KEYS];    /* value + 1; 0: was not read */
    uint64_t written[HISTORY_KEYS]; /* the same */
};

struct history {
    struct record records[HISTORY_PEERS * HISTORY_TXNS];
};

static struct history *history;

static void note_walk(lsm_txn *txn, struct record *record)
{
    lsm_iter *it = NULL;
    ck_ok(lsm_txn_iter_open(txn, NULL, NULL, &it, &error));
    bool seen[HISTORY_KEYS] = {false};
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it)) {
        unsigned key = (unsigned)(((const char *)lsm_iter_key(it).data)[0] - '0');
        char value[24] = "";
        memcpy(value, lsm_iter_value(it).data, lsm_iter_value(it).size);
        seen[key] = true;
        if (record->read[key] == 0 && record->written[key] == 0)
            record->read[key] = strtoull(value, NULL, 10) + 1;
    }
    ck_ok(lsm_iter_status(it, &error));
    lsm_iter_close(it);
    for (unsigned key = 0; key < HISTORY_KEYS; key++)
        if (!seen[key] && record->read[key] == 0 && record->written[key] == 0)
            record->read[key] = 1; /* absent counts as 0 */
}

static void history_step(lsm_txn *txn, struct random_state *r, struct record *record,
                         uint64_t value)
{
    unsigned key = (unsigned)random_below(r, HISTORY_KEYS);
    char name[2] = {(char)('0' + key), '\0'};
    switch (random_below(r, 8)) {
    case 0:
        note_walk(txn, record);
        break;
    case 1:
        ck_ok(lsm_txn_delete(txn, NULL, text(name), &error));
        record->written[key] = 1;
        break;
    case 2:
    case 3:
    case 4:
        write_number(txn, NULL, name, value);
        record->written[key] = value + 1;
        break;
    default: {
        uint64_t found = read_number(txn, NULL, name);
        if (record->read[key] == 0 && record->written[key] == 0)
            record->read[key] = found + 1;
    }
    }
}

static void historian(struct peer *test)
{
    (void)test;
    lsm_db *db = open_with(OPTIONS);
    struct random_state r = random_seeded(place + 31);
    for (unsigned i = 0; i < HISTORY_TXNS;) {
        struct record record = {.sequence = 0};
        lsm_txn *txn = begin(db, LSM_TXN_SERIALIZABLE);
        uint64_t steps = 1 + random_below(&r, HISTORY_OPS);
        for (uint64_t step = 0; step < steps; step++) {
            history_step(txn, &r, &record, (uint64_t)(place + 1) * 1000000 + i);
            if (random_below(&r, 4) == 0)
                usleep(100);
        }
        lsm_write_options options = {.durability =
                                         random_below(&r, 16) == 0 ? LSM_SYNC : LSM_WRITE};
        lsm_status status = lsm_txn_commit(txn, &options, &error);
        if (status == LSM_OK) {
            for (unsigned key = 0; key < HISTORY_KEYS; key++)
                record.wrote = record.wrote || record.written[key] != 0;
            record.sequence = lsm_txn_sequence(txn);
            history->records[place * HISTORY_TXNS + i++] = record;
        } else {
            ck_assert_int_eq(status, LSM_CONFLICT);
            atomic_fetch_add(&board->conflicts, 1);
        }
        lsm_txn_free(txn);
        if (random_below(&r, 40) == 0)
            compact_all(db, NULL);
    }
    close_ok(db);
}

/* Writers by their number, and readers behind the writer of their snapshot. */
static int by_sequence(const void *a, const void *b)
{
    const struct record *x = a, *y = b;
    if (x->sequence != y->sequence)
        return x->sequence < y->sequence ? -1 : 1;
    return (int)y->wrote - (int)x->wrote;
}

START_TEST(test_txn_history_of_many_processes_is_serial_by_sequence)
{
    struct peer peers[HISTORY_PEERS];
    size_t count = HISTORY_PEERS * HISTORY_TXNS, reads = 0;
    uint64_t values[HISTORY_KEYS] = {0};
    board = shared_memory(sizeof *board);
    history = shared_memory(sizeof *history);
    lsm_db *db = open_with(OPTIONS);
    for (place = 0; place < HISTORY_PEERS; place++)
        peers[place] = peer_start(historian);
    for (unsigned i = 0; i < HISTORY_PEERS; i++)
        peer_end(&peers[i]);
    qsort(history->records, count, sizeof *history->records, by_sequence);
    for (size_t i = 0; i < count; i++) {
        const struct record *record = &history->records[i];
        if (i > 0 && record->wrote && history->records[i - 1].wrote)
            ck_assert_uint_ne(record->sequence, history->records[i - 1].sequence);
        for (unsigned key = 0; key < HISTORY_KEYS; key++) {
            reads += record->read[key] != 0;
            ck_assert_msg(record->read[key] == 0 || record->read[key] - 1 == values[key],
                          "transaction at %" PRIu64 " read %" PRIu64 " of key %u, in order it is "
                          "%" PRIu64,
                          record->sequence, record->read[key] - 1, key, values[key]);
        }
        for (unsigned key = 0; key < HISTORY_KEYS; key++)
            if (record->written[key] != 0)
                values[key] = record->written[key] - 1;
    }
    printf("history: %zu transactions, %zu reads, %" PRIu64 " conflicts\n", count, reads,
           atomic_load(&board->conflicts));
    ck_assert_uint_gt(atomic_load(&board->conflicts), 0);
    close_ok(db);
}
END_TEST

int main(void)
{
    if (PEERS_CANNOT_RUN)
        return PEERS_SKIPPED;
    Suite *suite = suite_create("db/txn_processes");
    TCase *tests = tcase_create("txn_processes");
    tcase_add_checked_fixture(tests, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_txn_write_of_another_process_conflicts_wherever_it_is, 0, 2);
    tcase_add_loop_test(tests, test_txn_phantom_of_another_process_conflicts_wherever_it_is, 0,
                        2 * PLACES);
    tcase_add_loop_test(tests, test_txn_write_skew_between_processes_only_under_snapshot, 0, 2);
    tcase_add_test(tests, test_txn_savepoint_takes_back_what_another_process_wrote_too);
    tcase_add_loop_test(tests, test_txn_on_a_family_that_another_process_dropped_writes_nothing, 0,
                        3);
    tcase_add_loop_test(tests, test_write_to_a_family_that_another_process_dropped_is_refused, 0,
                        2);
    tcase_add_test(tests, test_txn_on_a_family_that_another_process_created_conflicts_like_any);
    tcase_add_loop_test(tests, test_txn_commit_of_a_killed_process_is_whole_or_not_there, 0, 2);
    tcase_add_test(tests, test_txn_bank_of_many_processes_keeps_its_sum_through_kills);
    tcase_add_test(tests, test_txn_history_of_many_processes_is_serial_by_sequence);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
