/*
 * Accounts of reads. Everything is stored without a lock: who comes to an account that was kept for
 * another shape of the family begins it anew, and a payment that is lost in a race was small.
 *
 * Workers are told to look when an account has reached what the smallest merge costs, and again
 * each time it has grown by an eighth: most of the time they find that it does not suffice yet.
 */
#include "engine/db/read_account.h"

#define LOAD(field)         atomic_load_explicit(&(field), memory_order_relaxed)
#define STORE(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)

#define ASK_AGAIN 8 /* the part by which an account has grown until workers look again */

__thread uint32_t read_countdown __attribute__((tls_model("initial-exec"))) = READ_SAMPLE - 1;

static struct shm_read_account *account_of(lsm_db *db, uint32_t cf)
{
    return &db->layout->reads.accounts[cf % SHM_READ_ACCOUNTS];
}

static uint64_t next_ask(uint64_t sum)
{
    uint64_t next = sum + sum / ASK_AGAIN;
    return next < COMPACT_READS_LEAST_NS ? COMPACT_READS_LEAST_NS : next;
}

static void account_begin(struct shm_read_account *a, uint64_t shape,
                          const struct compact_reads *paid)
{
    STORE(a->shape, 0);
    STORE(a->runs_ns, paid->runs_ns);
    STORE(a->deletes_ns, paid->deletes_ns);
    STORE(a->memory_ns, paid->memory_ns);
    STORE(a->ask_ns, next_ask(compact_reads_sum(paid)));
    STORE(a->rest_ns, 0);
    STORE(a->rest_ask_ns, COMPACT_READS_LEAST_NS);
    STORE(a->carry, 0);
    /* Release: who sees the shape sees the numbers. */
    atomic_store_explicit(&a->shape, shape, memory_order_release);
}

static struct compact_reads account_paid(struct shm_read_account *a)
{
    return (struct compact_reads){.runs_ns = LOAD(a->runs_ns),
                                  .deletes_ns = LOAD(a->deletes_ns),
                                  .memory_ns = LOAD(a->memory_ns)};
}

static bool nobody_has_written(lsm_db *db, struct shm_read_account *a)
{
    return LOAD(a->rest_sequence) == LOAD(db->layout->commit.applied_sequence);
}

/* Is it the family's? After a flush for reads it becomes that of the new shape, where the memtable
 * is a run like others. */
static bool account_is_for(lsm_db *db, struct shm_read_account *a, const struct version_cf *cf)
{
    uint64_t shape = compact_shape_mark(cf);
    if (atomic_load_explicit(&a->shape, memory_order_acquire) == shape)
        return true;
    if (LOAD(a->carry) != (uint64_t)cf->id + 1 || !nobody_has_written(db, a))
        return false;
    struct compact_reads paid = account_paid(a);
    paid.runs_ns += paid.memory_ns;
    paid.memory_ns = 0;
    account_begin(a, shape, &paid);
    return true;
}

/* ---- paying ---------------------------------------------------------------------------------- */

/* Workers of this process look; where it has none, those of others. */
static void ask(lsm_db *db)
{
    if (db_has_workers(db)) {
        db_work_signal(db);
        return;
    }
    atomic_fetch_add(&db->layout->reads.asks, 1);
    shm_event_signal(&db->layout->version.changed);
}

static uint64_t add(_Atomic uint64_t *to, uint64_t ns)
{
    return ns == 0 ? LOAD(*to) : atomic_fetch_add_explicit(to, ns, memory_order_relaxed) + ns;
}

/* One of those who see that the sum has reached the limit. */
static bool is_reached(_Atomic uint64_t *limit, uint64_t sum)
{
    uint64_t now = LOAD(*limit);
    return sum >= now && atomic_compare_exchange_strong(limit, &now, next_ask(sum));
}

static void pay(lsm_db *db, const struct version_cf *cf, const struct compact_reads *paid)
{
    static const struct compact_reads nothing = {0, 0, 0};
    struct shm_read_account *a = account_of(db, cf->id);
    if (!account_is_for(db, a, cf))
        account_begin(a, compact_shape_mark(cf), &nothing);
    if (!nobody_has_written(db, a)) {
        STORE(a->rest_sequence, LOAD(db->layout->commit.applied_sequence));
        STORE(a->rest_ns, 0);
        STORE(a->rest_ask_ns, COMPACT_READS_LEAST_NS);
    }
    uint64_t sum = add(&a->runs_ns, paid->runs_ns) + add(&a->deletes_ns, paid->deletes_ns) +
                   add(&a->memory_ns, paid->memory_ns);
    bool is_due = is_reached(&a->ask_ns, sum);
    if (is_reached(&a->rest_ask_ns, add(&a->rest_ns, compact_reads_sum(paid))) || is_due)
        ask(db);
}

void db_reads_pay(lsm_db *db, const struct db_state *state, uint32_t cf,
                  const struct compact_reads *paid)
{
    if (!reads_are_counted(db))
        return;
    epoch_enter();
    const struct db_state *current = db_state_current(db);
    const struct version_cf *then = version_find_cf(state->version, cf);
    const struct version_cf *now = version_find_cf(current->version, cf);
    if (then != NULL && now != NULL &&
        (then == now || compact_shape_mark(then) == compact_shape_mark(now)))
        pay(db, now, paid);
    epoch_exit();
}

void db_read_sample(const struct db_state *state, const struct version_walk *walk, uint64_t found)
{
    if (!reads_are_counted(state->db))
        return;
    uint64_t passed = version_files_passed(walk, found);
    struct compact_reads paid = {.runs_ns = passed * COMPACT_GET_NS * READ_SAMPLE};
    if (passed > 0)
        db_reads_pay(state->db, state, walk->cf->id, &paid);
}

/* ---- spending -------------------------------------------------------------------------------- */

/* Reads wait until writers do not. */
static bool writers_are_behind(lsm_db *db)
{
    return atomic_load(&db->throttle.debt_ppm) > 0 || db_memtables_waiting(db) > 0;
}

static bool reads_are_served(lsm_db *db)
{
    return db_has_workers(db) && reads_are_counted(db) && !writers_are_behind(db);
}

/* Bytes of the memtables that hold anything. */
static uint64_t memtable_bytes(lsm_db *db)
{
    struct db_state *state = db_state_acquire(db);
    uint64_t bytes = 0;
    for (size_t i = 0; i < state->memtable_count; i++) {
        struct memtable *table = state->memtables[i]->table;
        bytes += memtable_entry_count(table) == 0 ? 0 : memtable_bytes_used(table);
    }
    db_state_drop(state);
    return bytes;
}

/* While nobody writes, what is in the memtable is merged together with the rest, or nothing. */
static bool waits_for_flush(lsm_db *db, struct shm_read_account *a)
{
    return LOAD(a->rest_ns) >= COMPACT_READS_LEAST_NS && nobody_has_written(db, a) &&
           memtable_bytes(db) > 0;
}

static bool pays_flush(lsm_db *db, const struct version_cf *cf)
{
    struct shm_read_account *a = account_of(db, cf->id);
    return account_is_for(db, a, cf) && waits_for_flush(db, a) &&
           compact_reads_pay_flush(cf, LOAD(a->rest_ns), memtable_bytes(db));
}

bool db_reads_want_flush(lsm_db *db, const struct version *version)
{
    bool is_wanted = false;
    for (size_t i = 0; i < version->family_count && !is_wanted && reads_are_served(db); i++)
        is_wanted = pays_flush(db, version->families[i]);
    return is_wanted;
}

/* What others have switched, or written, meanwhile counts. */
static bool seal(lsm_db *db, struct shm_read_account *a, uint32_t cf)
{
    if (db_append_lock_now(db, NULL, NULL) != LSM_OK)
        return false;
    bool is_sealed = memtable_entry_count(db->active) > 0 && nobody_has_written(db, a) &&
                     db_memtable_switch(db, NULL) == LSM_OK;
    if (is_sealed)
        STORE(a->carry, (uint64_t)cf + 1);
    shm_unlock(&db->layout->locks.append);
    return is_sealed;
}

bool db_reads_seal(lsm_db *db)
{
    struct version *version = version_set_current(db->versions);
    bool is_sealed = false;
    for (size_t i = 0; i < version->family_count && !is_sealed && reads_are_served(db); i++) {
        uint32_t cf = version->families[i]->id;
        if (!pays_flush(db, version->families[i]))
            continue;
        is_sealed = seal(db, account_of(db, cf), cf);
        /* Readers may keep the memory for long: nobody waits for that. */
        if (!is_sealed)
            STORE(account_of(db, cf)->rest_ns, 0);
    }
    version_drop(version);
    return is_sealed;
}

bool db_reads_pick(lsm_db *db, const struct version *version, struct compaction *c)
{
    if (!reads_are_served(db))
        return false;
    for (size_t i = 0; i < version->family_count; i++) {
        const struct version_cf *cf = version->families[i];
        struct shm_read_account *a = account_of(db, cf->id);
        if (!account_is_for(db, a, cf) || waits_for_flush(db, a))
            continue;
        struct compact_reads paid = account_paid(a);
        if (compact_pick_reads(version, cf->id, &paid, c))
            return true;
    }
    return false;
}

void db_reads_spend_locked(lsm_db *db, const struct version *version, const struct compaction *c)
{
    struct shm_read_account *a = account_of(db, c->cf);
    const struct version_cf *before = version_find_cf(version, c->cf);
    struct version *current = version_set_current(db->versions);
    const struct version_cf *after = version_find_cf(current, c->cf);
    atomic_fetch_add(&db->statistics.read_merges, 1);
    if (before != NULL && after != NULL && LOAD(a->shape) == compact_shape_mark(before))
        account_begin(a, compact_shape_mark(after), &c->reads_left);
    version_drop(current);
}

void db_reads_forget(lsm_db *db, const struct compaction *c)
{
    atomic_store(&account_of(db, c->cf)->shape, 0);
}
