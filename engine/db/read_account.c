/*
 * Accounts of reads. Everything is stored without a lock: who comes to an account that was kept for
 * another shape of the family begins it anew, and a payment that is lost in a race was small.
 *
 * Workers are told to look when an account has reached what the smallest merge costs, and again
 * each time it has grown by an eighth: most of the time they find that it does not suffice yet.
 */
#include "engine/db/read_account.h"

#define ASK_AGAIN 8 /* the part by which an account has grown until workers look again */

__thread uint32_t read_countdown __attribute__((tls_model("initial-exec"))) = READ_SAMPLE - 1;

static struct shm_read_account *account_of(lsm_db *db, uint32_t cf)
{
    return &db->layout->reads.accounts[cf % SHM_READ_ACCOUNTS];
}

static void account_begin(struct shm_read_account *a, uint64_t shape,
                          const struct compact_reads *paid)
{
    uint64_t sum = paid->runs_ns + paid->deletes_ns, ask = sum + sum / ASK_AGAIN;
    atomic_store_explicit(&a->shape, 0, memory_order_relaxed);
    atomic_store_explicit(&a->runs_ns, paid->runs_ns, memory_order_relaxed);
    atomic_store_explicit(&a->deletes_ns, paid->deletes_ns, memory_order_relaxed);
    atomic_store_explicit(&a->ask_ns, ask < COMPACT_READS_LEAST_NS ? COMPACT_READS_LEAST_NS : ask,
                          memory_order_relaxed);
    /* Release: who sees the shape sees the numbers. */
    atomic_store_explicit(&a->shape, shape, memory_order_release);
}

static bool account_is_for(struct shm_read_account *a, uint64_t shape)
{
    return atomic_load_explicit(&a->shape, memory_order_acquire) == shape;
}

static struct compact_reads account_paid(struct shm_read_account *a)
{
    return (struct compact_reads){
        .runs_ns = atomic_load_explicit(&a->runs_ns, memory_order_relaxed),
        .deletes_ns = atomic_load_explicit(&a->deletes_ns, memory_order_relaxed)};
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

static void pay(lsm_db *db, const struct version_cf *cf, const struct compact_reads *paid)
{
    static const struct compact_reads nothing = {0, 0};
    struct shm_read_account *a = account_of(db, cf->id);
    uint64_t shape = compact_shape_mark(cf);
    if (!account_is_for(a, shape))
        account_begin(a, shape, &nothing);
    uint64_t sum = paid->runs_ns + paid->deletes_ns;
    sum += atomic_fetch_add_explicit(&a->runs_ns, paid->runs_ns, memory_order_relaxed);
    sum += paid->deletes_ns == 0
               ? atomic_load_explicit(&a->deletes_ns, memory_order_relaxed)
               : atomic_fetch_add_explicit(&a->deletes_ns, paid->deletes_ns, memory_order_relaxed);
    uint64_t limit = atomic_load_explicit(&a->ask_ns, memory_order_relaxed);
    if (sum >= limit && atomic_compare_exchange_strong(&a->ask_ns, &limit, sum + sum / ASK_AGAIN))
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

bool db_reads_pick(lsm_db *db, const struct version *version, struct compaction *c)
{
    if (!db_has_workers(db) || !reads_are_counted(db) || writers_are_behind(db))
        return false;
    for (size_t i = 0; i < version->family_count; i++) {
        const struct version_cf *cf = version->families[i];
        struct shm_read_account *a = account_of(db, cf->id);
        if (!account_is_for(a, compact_shape_mark(cf)))
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
    if (before != NULL && after != NULL && account_is_for(a, compact_shape_mark(before)))
        account_begin(a, compact_shape_mark(after), &c->reads_left);
    version_drop(current);
}

void db_reads_forget(lsm_db *db, const struct compaction *c)
{
    atomic_store(&account_of(db, c->cf)->shape, 0);
}
