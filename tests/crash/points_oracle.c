/* What the database has to hold, and how it gets there. */
#include "tests/crash/points.h"

#include "engine/db/db_private.h"
#include "engine/version/listing.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SETTLE_MS 10000 /* longest wait for what a worker is about */

/* ---- writing --------------------------------------------------------------------------------- */

static lsm_slice single_key(enum place place, uint32_t number, char key[48])
{
    return LSM_SLICE(
        key, (size_t)snprintf(key, 48, "%d/single/%" PRIu32, (int)place, number % SINGLE_KEYS));
}

static lsm_slice member_key(enum place place, uint32_t number, uint32_t member, char key[48])
{
    return LSM_SLICE(key, (size_t)snprintf(key, 48, "%d/batch/%06" PRIu32 "/%04" PRIu32, (int)place,
                                           number, member));
}

static lsm_slice head_key(enum place place, char key[48])
{
    return LSM_SLICE(key, (size_t)snprintf(key, 48, "%d/head", (int)place));
}

static lsm_slice make_value(uint32_t number, size_t size, char value[MAX_VALUE])
{
    memset(value, (int)(number % 251), size);
    memcpy(value, &number, sizeof number);
    return LSM_SLICE(value, size);
}

static struct write *write_begin(struct actor *a, uint32_t members, uint32_t *number)
{
    struct journal *j = &a->board->journals[a->place];
    *number = atomic_load(&j->count) + 1;
    if (*number > MAX_WRITES)
        verdict_end("place %d writes more than %d times", (int)a->place, MAX_WRITES);
    struct write *w = &j->writes[*number];
    w->members = members;
    w->deletes = members == 0 && *number % DELETE_EACH == 0;
    atomic_store(&w->state, WRITE_BEGUN);
    atomic_store(&j->count, *number);
    return w;
}

void actor_put(struct actor *a, lsm_durability durability, size_t value_size)
{
    char key[48], value[MAX_VALUE];
    lsm_write_options options = {.durability = durability};
    uint32_t number;
    struct write *w = write_begin(a, 0, &number);
    if (w->deletes)
        must(lsm_delete(a->db, NULL, single_key(a->place, number, key), &options, err));
    else
        must(lsm_put(a->db, NULL, single_key(a->place, number, key),
                     make_value(number, value_size, value), &options, err));
    atomic_store(&w->state, WRITE_THERE);
}

void actor_batch(struct actor *a, lsm_durability durability, uint32_t members, size_t value_size)
{
    char key[48], value[MAX_VALUE];
    lsm_write_options options = {.durability = durability};
    lsm_batch *batch = NULL;
    uint32_t number;
    struct write *w = write_begin(a, members, &number);
    must(lsm_batch_new(&batch, err));
    for (uint32_t i = 0; i < members; i++)
        must(lsm_batch_put(batch, i % 2 == 1 ? a->second : NULL,
                           member_key(a->place, number, i, key),
                           make_value(number, value_size, value), err));
    must(lsm_batch_put(batch, NULL, head_key(a->place, key), make_value(number, 40, value), err));
    must(lsm_write(a->db, batch, &options, err));
    atomic_store(&w->state, WRITE_THERE);
    lsm_batch_free(batch);
}

void actor_transaction(struct actor *a, lsm_durability durability, uint32_t members)
{
    char key[48], value[MAX_VALUE];
    lsm_write_options options = {.durability = durability};
    lsm_txn *txn = NULL;
    lsm_pin pin = {0};
    uint32_t number;
    struct write *w = write_begin(a, members, &number);
    must(lsm_txn_begin(a->db, NULL, &txn, err));
    must(lsm_txn_get_for_update(txn, NULL, head_key(a->place, key), NULL, &pin, err));
    lsm_pin_release(&pin);
    for (uint32_t i = 0; i < members; i++)
        must(lsm_txn_put(txn, i % 2 == 1 ? a->second : NULL, member_key(a->place, number, i, key),
                         make_value(number, 50, value), err));
    must(lsm_txn_put(txn, NULL, head_key(a->place, key), make_value(number, 40, value), err));
    must(lsm_txn_commit(txn, &options, err));
    atomic_store(&w->state, WRITE_THERE);
    lsm_txn_free(txn);
}

void actor_ingest(struct actor *a, uint32_t members, size_t value_size)
{
    char key[48], value[MAX_VALUE];
    lsm_ingest_options options = LSM_INGEST_OPTIONS_INIT;
    options.memory_limit = (size_t)64 << 10;
    lsm_ingest *ingest = NULL;
    uint32_t number;
    struct write *w = write_begin(a, members, &number);
    must(lsm_ingest_begin(a->db, &options, &ingest, err));
    must(lsm_ingest_put(ingest, NULL, head_key(a->place, key), make_value(number, 40, value), err));
    for (uint32_t i = members; i > 0; i--)
        must(lsm_ingest_put(ingest, i % 2 == 0 ? a->second : NULL,
                            member_key(a->place, number, i - 1, key),
                            make_value(number, value_size, value), err));
    must(lsm_ingest_commit(ingest, err));
    atomic_store(&w->state, WRITE_THERE);
    lsm_ingest_free(ingest);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The number of the write that the key's value is of; 0: it is not there. */
static uint32_t read_number(struct actor *a, lsm_cf *cf, lsm_slice key)
{
    char value[MAX_VALUE];
    size_t size = 0;
    uint32_t number = 0;
    must(lsm_get_into(a->db, cf, key, NULL, value, sizeof value, &size, err));
    if (size == LSM_ABSENT)
        return 0;
    if (size > sizeof value || size < sizeof number)
        verdict_end("'%.*s' has a value of %zu bytes", (int)key.size, (const char *)key.data, size);
    memcpy(&number, value, sizeof number);
    for (size_t i = sizeof number; i < size; i++) {
        if ((unsigned char)value[i] != number % 251)
            verdict_end("the value of '%.*s' is not what write %" PRIu32 " put there",
                        (int)key.size, (const char *)key.data, number);
    }
    return number;
}

/* What the newest write of those that `is_there` says a key of several shows. */
struct expectation {
    uint32_t least; /* acknowledged; 0: none, or a deletion */
    uint32_t maybe; /* of the one begun behind it; 0 for a deletion */
    uint32_t begun; /* the number of that; 0: none */
};

static void expect_more(struct expectation *e, uint32_t number, const struct write *w)
{
    uint32_t state = atomic_load(&w->state), value = w->deletes ? 0 : number;
    if (state == WRITE_THERE)
        *e = (struct expectation){.least = value};
    else if (state == WRITE_BEGUN)
        *e = (struct expectation){e->least, value, number};
}

static void check_newest(struct actor *a, const struct expectation *e, enum place place,
                         lsm_slice key, struct write *writes)
{
    uint32_t found = read_number(a, NULL, key);
    if (found != e->least && (e->begun == 0 || found != e->maybe))
        verdict_end("place %d finds write %" PRIu32 " at '%.*s', expected %" PRIu32 " or %" PRIu32
                    " of place %d",
                    (int)a->place, found, (int)key.size, (const char *)key.data, e->least, e->maybe,
                    (int)place);
    if (writes != NULL && e->begun != 0)
        atomic_store(&writes[e->begun].state, found == e->maybe ? WRITE_THERE : WRITE_ABSENT);
}

static void check_batch(struct actor *a, enum place place, uint32_t number, struct write *w,
                        bool settle)
{
    char key[48];
    uint32_t there = 0, state = atomic_load(&w->state);
    if (state == WRITE_BEGUN && !settle)
        return;
    for (uint32_t i = 0; i < w->members; i++)
        there += read_number(a, i % 2 == 1 ? a->second : NULL, member_key(place, number, i, key)) ==
                 number;
    bool may_be = state != WRITE_ABSENT, may_lack = state != WRITE_THERE;
    if (!((there == w->members && may_be) || (there == 0 && may_lack)))
        verdict_end("place %d finds %" PRIu32 " of %" PRIu32 " members of write %" PRIu32
                    " of place %d, which %s",
                    (int)a->place, there, w->members, number, (int)place,
                    state == WRITE_THERE    ? "was acknowledged or seen"
                    : state == WRITE_ABSENT ? "was not there before"
                                            : "was begun only");
    if (state == WRITE_BEGUN)
        atomic_store(&w->state, there > 0 ? WRITE_THERE : WRITE_ABSENT);
}

/* Whether a writer is done for. A living one's writes go on while they are looked at. */
static void check_place(struct actor *a, enum place place, bool settle)
{
    struct journal *j = &a->board->journals[place];
    struct expectation singles[SINGLE_KEYS] = {{0}}, head = {0};
    char key[48];
    if (!settle && place != a->place && place != PLACE_VICTIM && place != PLACE_BEFORE)
        return;
    uint32_t count = atomic_load(&j->count);
    for (uint32_t n = 1; n <= count; n++) {
        struct write *w = &j->writes[n];
        if (w->members > 0)
            check_batch(a, place, n, w, settle);
        expect_more(w->members > 0 ? &head : &singles[n % SINGLE_KEYS], n, w);
    }
    check_newest(a, &head, place, head_key(place, key), NULL);
    for (uint32_t i = 0; i < SINGLE_KEYS; i++)
        check_newest(a, &singles[i], place, single_key(place, i, key), settle ? j->writes : NULL);
}

static uint64_t count_entries(struct actor *a, lsm_cf *cf)
{
    lsm_iter *it = NULL;
    uint64_t count = 0;
    must(lsm_iter_open(a->db, cf, NULL, &it, err));
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it))
        count++;
    must(lsm_iter_status(it, err));
    lsm_iter_close(it);
    return count;
}

/* Nothing is there that was never written. */
static void check_counts(struct actor *a)
{
    uint64_t first = 0, second = 0;
    for (unsigned place = 0; place < PLACE_COUNT; place++) {
        struct journal *j = &a->board->journals[place];
        bool head = false, singles[SINGLE_KEYS] = {false};
        for (uint32_t n = 1; n <= atomic_load(&j->count); n++) {
            const struct write *w = &j->writes[n];
            if (atomic_load(&w->state) != WRITE_THERE)
                continue;
            first += (w->members + 1) / 2;
            second += w->members / 2;
            if (w->members > 0)
                head = true;
            else
                singles[n % SINGLE_KEYS] = !w->deletes;
        }
        first += head;
        for (uint32_t i = 0; i < SINGLE_KEYS; i++)
            first += singles[i];
    }
    uint64_t found_first = count_entries(a, NULL), found_second = count_entries(a, a->second);
    if (found_first != first || found_second != second)
        verdict_end("place %d finds %" PRIu64 " and %" PRIu64 " entries in the families, expected "
                    "%" PRIu64 " and %" PRIu64,
                    (int)a->place, found_first, found_second, first, second);
}

static void check_families(struct actor *a, bool settle)
{
    static const char *const shown[] = {"", "third", "fourth", ""};
    struct board *b = a->board;
    char **names = NULL;
    const char *extra = "";
    size_t count = 0, expected = 2;
    must(lsm_cf_list(a->db, &names, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], "third") == 0 || strcmp(names[i], "fourth") == 0) {
            extra = names[i];
            expected = 3;
        }
    }
    uint32_t begun = atomic_load(&b->family_begun), done = atomic_load(&b->family_done);
    if (count != expected || (strcmp(extra, shown[begun]) != 0 && strcmp(extra, shown[done]) != 0))
        verdict_end("place %d finds %zu families and '%s', expected '%s' or '%s'", (int)a->place,
                    count, extra, shown[done], shown[begun]);
    if (settle && strcmp(extra, shown[begun]) == 0)
        atomic_store(&b->family_done, begun);
    else if (settle)
        atomic_store(&b->family_begun, done);
    lsm_free(names);
}

/* Whether two tables of level 0 can hold the same entries. */
static bool is_flushed_twice(const struct table_meta *a, const struct table_meta *b)
{
    return a->min_sequence <= b->max_sequence && b->min_sequence <= a->max_sequence &&
           slice_compare(a->smallest, b->largest) <= 0 &&
           slice_compare(b->smallest, a->largest) <= 0;
}

/* A flush that was made durable by a dead process is not done again: what stands twice in level 0
 * would hide newer entries once the first has gone down. */
static void check_flushes(struct actor *a)
{
    struct version *version = version_set_current(a->db->versions);
    for (size_t i = 0; i < version->family_count; i++) {
        const struct version_level *l = &version->families[i]->levels[0];
        for (size_t f = 0; f < l->count; f++) {
            for (size_t g = f + 1; g < l->count; g++) {
                const struct table_meta *one = &l->files[f]->meta, *other = &l->files[g]->meta;
                if (is_flushed_twice(one, other))
                    verdict_end("tables %" PRIu64 " and %" PRIu64
                                " of level 0 hold entries of the same sequence numbers and keys",
                                one->number, other->number);
            }
        }
    }
    version_drop(version);
}

void oracle_check(struct actor *a, bool settle)
{
    for (unsigned place = 0; place < PLACE_COUNT; place++)
        check_place(a, (enum place)place, settle);
    if (settle)
        check_counts(a);
    check_families(a, settle);
    check_flushes(a);
}

void oracle_look(struct actor *a)
{
    for (unsigned place = 0; place < PLACE_COUNT; place++) {
        struct journal *j = &a->board->journals[place];
        char key[48];
        uint32_t n = atomic_load(&j->count);
        while (n > 0 && (j->writes[n].deletes || atomic_load(&j->writes[n].state) != WRITE_THERE))
            n--;
        if (n == 0)
            continue;
        const struct write *w = &j->writes[n];
        uint32_t found = read_number(a, NULL,
                                     w->members > 0 ? member_key((enum place)place, n, 0, key)
                                                    : single_key((enum place)place, n, key));
        if (found < n)
            verdict_end("place %d finds write %" PRIu32 " where %" PRIu32
                        " of place %u was acknowledged",
                        (int)a->place, found, n, place);
    }
}

/* ---- shared memory --------------------------------------------------------------------------- */

static struct shm_slot *slot_of(lsm_db *db, int64_t pid)
{
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        struct shm_slot *slot = &db->layout->slots[i];
        if (atomic_load(&slot->state) == SHM_SLOT_IN_USE && atomic_load(&slot->pid) == pid)
            return slot;
    }
    return NULL;
}

void oracle_check_stopped(struct actor *a)
{
    struct shm_slot *slot = slot_of(a->db, atomic_load(&a->board->victim));
    uint32_t generation = slot == NULL ? 0 : atomic_load(&slot->generation);
    must(db_reap(a->db, err));
    if (slot != NULL && (atomic_load(&slot->state) != SHM_SLOT_IN_USE ||
                         atomic_load(&slot->generation) != generation))
        verdict_end("the slot of a stopped process was reaped");
}

static const char *look_at_slots(lsm_db *db)
{
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        struct shm_slot *slot = &db->layout->slots[i];
        if (slot == db->slot)
            continue;
        if (atomic_load(&slot->state) != SHM_SLOT_FREE)
            return "a slot is in use";
        if (atomic_load(&slot->pin) != 0 || atomic_load(&slot->arenas) != 0)
            return "a free slot pins a version or an arena";
        if (atomic_load(&slot->out_floor) != 0)
            return "a free slot says that files are being made";
        for (uint32_t j = 0; j < SHM_SLOT_SNAPSHOTS; j++)
            if (atomic_load(&slot->snapshots[j]) != 0)
                return "a free slot holds a snapshot";
        for (uint32_t j = 0; j < SHM_SLOT_JOBS; j++)
            if (atomic_load(&slot->jobs[j].state) != SHM_JOB_NONE)
                return "a free slot claims a compaction";
    }
    return NULL;
}

static const char *look_at_memtables(lsm_db *db)
{
    unsigned active = 0;
    for (uint32_t i = 0; i < db->layout->ident.memtable_count; i++) {
        uint32_t state = atomic_load(&db->layout->memtables[i].state);
        if (state == SHM_MEMTABLE_BUILDING || state == SHM_MEMTABLE_FLUSHING)
            return "a memtable is being built or flushed";
        active += state == SHM_MEMTABLE_ACTIVE;
    }
    return active == 1 ? NULL : "not one memtable is active";
}

/* Every lock can be had, by somebody who is not told of a death any more. */
static const char *look_at_locks(lsm_db *db)
{
    struct shm_locks *l = &db->layout->locks;
    struct shm_lock *locks[] = {&l->version, &l->append, &l->change, &l->sync};
    for (size_t i = 0; i < sizeof locks / sizeof *locks; i++) {
        enum shm_lock_result result = shm_trylock(locks[i]);
        if (result == SHM_LOCK_BUSY)
            return "a lock is held";
        if (result == SHM_LOCKED_OWNER_DIED)
            return "a lock was not repaired";
        shm_unlock(locks[i]);
    }
    return NULL;
}

static const char *look_at_rest(lsm_db *db)
{
    struct shm_layout *l = db->layout;
    if (atomic_load(&l->ctl.poisoned) != 0)
        return "the database is poisoned";
    if (atomic_load(&l->intent.state) != SHM_INTENT_NONE ||
        atomic_load(&l->intent.takeover_due) != 0)
        return "a commit is not finished";
    if (atomic_load(&l->version.roll_forward_due) != 0)
        return "an edit is not rolled forward";
    if (atomic_load(&l->commit.pending_head) != atomic_load(&l->commit.pending_tail))
        return "a sync write is pending";
    if (atomic_load(&l->commit.visible_sequence) != atomic_load(&l->commit.applied_sequence))
        return "not all that is applied is visible";
    return NULL;
}

static const char *look_at_shared(lsm_db *db)
{
    const char *fault = look_at_slots(db);
    if (fault == NULL)
        fault = look_at_memtables(db);
    if (fault == NULL)
        fault = look_at_rest(db);
    return fault == NULL ? look_at_locks(db) : fault;
}

void oracle_check_shared(struct actor *a)
{
    const char *fault = NULL;
    must(lsm_sync(a->db, err));
    must(lsm_flush(a->db, err));
    for (unsigned ms = 0; ms < SETTLE_MS; ms += 5) {
        must(db_reap(a->db, err));
        db_append_lock(a->db, NULL); /* each of them repairs */
        shm_unlock(&a->db->layout->locks.append);
        db_sync_lock(a->db);
        shm_unlock(&a->db->layout->locks.sync);
        fault = look_at_shared(a->db);
        if (fault == NULL)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    verdict_end("place %d waited for what stays: %s", (int)a->place, fault);
}

/* ---- files ----------------------------------------------------------------------------------- */

static unsigned count_kind(const struct listing *list, enum file_kind kind)
{
    unsigned count = 0;
    for (size_t i = 0; i < list->count; i++)
        count += list->files[i].kind == kind;
    return count;
}

/* How many tables the current version names, all of which must be among those found. */
static size_t count_named(lsm_db *db, const struct listing *found)
{
    size_t named = 0;
    struct version *version = version_set_current(db->versions);
    for (size_t i = 0; i < version->family_count; i++) {
        for (size_t level = 0; level < VERSION_LEVELS; level++) {
            const struct version_level *l = &version->families[i]->levels[level];
            for (size_t f = 0; f < l->count; f++) {
                struct found_file file = {FILE_TABLE, l->files[f]->meta.number};
                named++;
                if (!listing_has(found, &file))
                    verdict_end("table %" PRIu64 " is named by the manifest and not there",
                                file.number);
            }
        }
    }
    version_drop(version);
    return named;
}

static bool files_fit(struct actor *a, char fault[160])
{
    struct listing found = {0};
    must(lsm_wait_idle(a->db, err));
    version_set_clean(a->db->versions);
    must(listing_read(&found, a->db->dir, err));
    listing_sort(&found);
    size_t named = count_named(a->db, &found);
    unsigned tables = count_kind(&found, FILE_TABLE), manifests = count_kind(&found, FILE_MANIFEST);
    unsigned temporary = count_kind(&found, FILE_TEMPORARY), logs = count_kind(&found, FILE_WAL);
    unsigned spares = count_kind(&found, FILE_WAL_SPARE);
    listing_release(&found);
    snprintf(fault, 160,
             "there are %u tables of which the manifest names %zu, %u manifests, %u temporary "
             "files, %u log segments and %u spares",
             tables, named, manifests, temporary, logs, spares);
    return tables == named && manifests <= 2 && temporary == 0 && logs <= 2 && spares <= 3;
}

/* A thread that still reads an older version keeps its files for a moment. */
void oracle_check_files(struct actor *a)
{
    char fault[160];
    for (unsigned ms = 0; ms < SETTLE_MS; ms += 5) {
        if (files_fit(a, fault))
            return;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    verdict_end("place %d waited for what stays: %s", (int)a->place, fault);
}
