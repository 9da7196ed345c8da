/*
 * Flush and compaction as jobs: what every snapshot sees before is what it sees afterwards, what
 * nobody sees is gone, and a job that fails or is cancelled leaves nothing behind.
 */
#include "tests/unit/version/rig.h"

#include "engine/base/hash.h"
#include "engine/base/step.h"
#include "engine/compact/compact.h"
#include "engine/format/table_properties.h"
#include "engine/version/level_iter.h"

#include <unistd.h>

#define ARENA_SIZE ((size_t)1 << 20)
#define KEYS       400
#define MAX_SEQ    100000
#define FAMILIES   2

/* ---- a database without a log -----------------------------------------------------------------
 */

struct write {
    uint64_t sequence;
    bool is_delete;
};

struct history {
    struct write *writes; /* oldest first */
    size_t count, room;
};

struct db {
    struct rig rig;
    struct compact_env env;
    void *arena;
    struct memtable *memtable;
    uint64_t sequence;
    struct history histories[FAMILIES][KEYS];
    uint64_t snapshots[8];
    size_t snapshot_count;
    struct compact_result result;
    uint32_t threads; /* of each compaction */
};

/* Of the databases that the test opens. */
static uint32_t thread_counts[] = {1, 4};
static uint32_t thread_count = 1;

static lsm_slice make_key(uint32_t key, char text[32])
{
    return LSM_SLICE(text, (size_t)snprintf(text, 32, "key of %05u", key));
}

static lsm_slice make_value(uint32_t key, uint64_t sequence, char text[160])
{
    int size = snprintf(text, 160, "value of %u at %llu", key, (unsigned long long)sequence);
    memset(text + size, 'v', 40 + sequence % 60);
    return LSM_SLICE(text, (size_t)size + 40 + sequence % 60);
}

static lsm_cf_options tiny_options(void)
{
    lsm_cf_options given = LSM_CF_OPTIONS_INIT, options;
    given.table_size = 4096;
    given.level_base_size = 8192;
    given.level_ratio = 4;
    given.block_size = 512;
    given.level0_trigger = 2;
    ck_assert_int_eq(version_resolve_cf_options(&given, &options, NULL), LSM_OK);
    return options;
}

static void new_memtable(struct db *db)
{
    memtable_free(db->memtable);
    rig_ok(&db->rig,
           memtable_new(MEMTABLE_BTREE, db->arena, ARENA_SIZE, 1, &db->memtable, &db->rig.error));
}

static void db_open(struct db *db, uint64_t seed)
{
    lsm_cf_options options = tiny_options();
    memset(db, 0, sizeof *db);
    db->threads = thread_count;
    rig_open(&db->rig, seed);
    rig_ok(&db->rig, version_set_create(&db->rig.options, &options, &db->rig.set, &db->rig.error));
    struct version_edit edit = {.next_cf = 2};
    rig_ok(&db->rig, edit_create_cf(&edit, 1, "second", &options, &db->rig.error));
    rig_ok(&db->rig, version_set_apply(db->rig.set, &edit, &db->rig.error));
    edit_release(&edit);
    db->env = (struct compact_env){.tables = &db->rig.env, .set = db->rig.set};
    db->arena = aligned_alloc(4096, ARENA_SIZE);
    new_memtable(db);
}

static void db_close(struct db *db)
{
    memtable_free(db->memtable);
    free(db->arena);
    for (size_t f = 0; f < FAMILIES; f++) {
        for (size_t k = 0; k < KEYS; k++)
            free(db->histories[f][k].writes);
    }
    rig_close(&db->rig);
}

static void db_write(struct db *db, uint32_t family, uint32_t key, bool is_delete)
{
    char key_text[32], value_text[160];
    struct history *h = &db->histories[family][key];
    if (h->count == h->room) {
        h->room = h->room == 0 ? 4 : h->room * 2;
        h->writes = realloc(h->writes, h->room * sizeof *h->writes);
    }
    uint64_t sequence = ++db->sequence;
    h->writes[h->count++] = (struct write){sequence, is_delete};
    lsm_slice k = make_key(key, key_text);
    lsm_slice v = is_delete ? LSM_SLICE("", 0) : make_value(key, sequence, value_text);
    ck_assert(memtable_has_room(db->memtable, memtable_entry_room(db->memtable, k.size, v.size)));
    memtable_insert(db->memtable, family, k, hash_key(k.data, k.size),
                    entry_trailer(sequence, is_delete ? ENTRY_DELETE : ENTRY_PUT), v);
}

static void db_write_some(struct db *db, struct random_state *r, int count)
{
    for (int i = 0; i < count; i++)
        db_write(db, (uint32_t)random_below(r, 8) == 0, (uint32_t)random_below(r, KEYS),
                 random_below(r, 4) == 0);
}

static lsm_status db_flush(struct db *db)
{
    struct version_edit edit = {0};
    struct version *v = version_set_current(db->rig.set);
    version_set_last_sequence(db->rig.set, db->sequence);
    lsm_status status = compact_flush(&db->env, v, &db->memtable, 1, db->snapshots,
                                      db->snapshot_count, &edit, &db->result, &db->rig.error);
    if (status == LSM_OK)
        status = version_set_apply(db->rig.set, &edit, &db->rig.error);
    edit_release(&edit);
    version_drop(v);
    if (status == LSM_OK)
        new_memtable(db);
    return status;
}

static lsm_status run(struct db *db, struct version *v, struct compaction *c)
{
    struct version_edit edit = {0};
    c->threads = db->threads;
    lsm_status status = compact_run(&db->env, v, c, db->snapshots, db->snapshot_count, &edit,
                                    &db->result, &db->rig.error);
    if (status == LSM_OK)
        status = version_set_apply(db->rig.set, &edit, &db->rig.error);
    edit_release(&edit);
    return status;
}

/* One due compaction; false when there is none. */
static bool db_compact(struct db *db, lsm_status *status)
{
    struct compaction c;
    struct version *v = version_set_current(db->rig.set);
    bool due = compact_pick(v, 0, &c);
    *status = LSM_OK;
    if (due) {
        *status = run(db, v, &c);
        compaction_release(&c);
    }
    version_drop(v);
    return due;
}

/* Everything to the bottom, and the bottom rewritten. */
static void db_compact_all(struct db *db, uint32_t family)
{
    for (uint32_t level = 0; level < VERSION_LEVELS; level++) {
        char from[64] = "";
        lsm_slice first = LSM_SLICE(NULL, 0);
        for (;;) {
            struct compaction c;
            struct version *v = version_set_current(db->rig.set);
            bool is_last = level == VERSION_LEVELS - 1;
            bool due = compact_pick_range(v, family, level, first, LSM_SLICE(NULL, 0), is_last, &c);
            if (due) {
                if (is_last) { /* on behind the largest key */
                    lsm_slice largest = c.inputs[c.input_count - 1]->meta.largest;
                    memcpy(from, largest.data, largest.size);
                    from[largest.size] = '\0';
                    first = LSM_SLICE(from, largest.size + 1);
                }
                rig_ok(&db->rig, run(db, v, &c));
                compaction_release(&c);
            }
            version_drop(v);
            if (!due)
                break;
        }
    }
}

/* ---- checking ---------------------------------------------------------------------------------
 */

static const struct write *reference_get(const struct history *h, uint64_t sequence)
{
    for (size_t i = h->count; i > 0; i--) {
        if (h->writes[i - 1].sequence <= sequence)
            return &h->writes[i - 1];
    }
    return NULL;
}

/* All keys as of `sequence`, from the tables. */
static void check_snapshot(struct db *db, uint64_t sequence)
{
    struct version *v = version_set_current(db->rig.set);
    for (uint32_t f = 0; f < FAMILIES; f++) {
        for (uint32_t k = 0; k < KEYS; k++) {
            char text[32], value[160];
            lsm_slice key = make_key(k, text);
            const struct write *w = reference_get(&db->histories[f][k], sequence);
            bool exists = w != NULL && !w->is_delete, is_found;
            struct table_found found;
            epoch_enter();
            rig_ok(&db->rig,
                   version_get(v, version_find_cf(v, f), key, hash_key(key.data, key.size),
                               sequence, 0, &is_found, &found, &db->rig.error));
            bool shown = is_found && entry_type_of(found.trailer) == ENTRY_PUT;
            ck_assert_msg(shown == exists, "family %u key %u at %llu", f, k,
                          (unsigned long long)sequence);
            if (shown) {
                ck_assert_uint_eq(entry_sequence(found.trailer), w->sequence);
                ck_assert(slice_equal(found.value, make_value(k, w->sequence, value)));
            }
            if (is_found && found.owned)
                block_drop(found.block);
            epoch_exit();
        }
    }
    version_drop(v);
}

static void check_all(struct db *db)
{
    for (size_t i = 0; i < db->snapshot_count; i++)
        check_snapshot(db, db->snapshots[i]);
    check_snapshot(db, db->sequence);
}

static lsm_status count_table(void *context, const char *name, lsm_error *err)
{
    (void)err;
    size_t *count = context;
    enum file_kind kind;
    uint64_t number;
    *count += file_name_parse(name, &kind, &number) && kind == FILE_TABLE;
    return LSM_OK;
}

static size_t count_files(struct rig *r)
{
    size_t count = 0;
    rig_ok(r, io_dir_list(r->dir, count_table, &count, &r->error));
    return count;
}

static size_t count_live(struct rig *r)
{
    size_t count = 0;
    struct version *v = version_set_current(r->set);
    for (size_t f = 0; f < v->family_count; f++) {
        for (size_t l = 0; l < VERSION_LEVELS; l++)
            count += v->families[f]->levels[l].count;
    }
    version_drop(v);
    return count;
}

/* Entries in the tables of a family, and in its lowest level alone. */
static uint64_t count_entries(struct rig *r, uint32_t family, uint64_t *lowest)
{
    uint64_t count = 0;
    struct version *v = version_set_current(r->set);
    const struct version_cf *cf = version_find_cf(v, family);
    *lowest = 0;
    for (size_t l = 0; l < VERSION_LEVELS; l++) {
        for (size_t i = 0; i < cf->levels[l].count; i++) {
            count += cf->levels[l].files[i]->meta.entry_count;
            if (l == VERSION_LEVELS - 1)
                *lowest += cf->levels[l].files[i]->meta.entry_count;
        }
    }
    version_drop(v);
    return count;
}

static void db_lose_power(struct db *db)
{
    rig_unplug(&db->rig);
    sim_crash(db->rig.disk, SIM_CRASH_LOSE_ALL, 1);
    rig_plug_in(&db->rig);
    rig_ok(&db->rig, rig_recover(&db->rig));
    db->env.set = db->rig.set;
}

static void random_snapshots(struct db *db, struct random_state *r)
{
    if (random_below(r, 3) == 0 && db->snapshot_count < 8)
        db->snapshots[db->snapshot_count++] = db->sequence;
    if (random_below(r, 4) == 0 && db->snapshot_count > 0) {
        size_t gone = random_below(r, db->snapshot_count--);
        for (size_t i = gone; i < db->snapshot_count; i++)
            db->snapshots[i] = db->snapshots[i + 1];
    }
}

/* ---- tests ------------------------------------------------------------------------------------
 */

START_TEST(test_job_every_snapshot_sees_the_same)
{
    thread_count = thread_counts[_i];
    uint64_t seed = (uint64_t)time(NULL) * 1000003;
    printf("seed %llu\n", (unsigned long long)seed);
    struct random_state r = random_seeded(seed);
    struct db db;
    db_open(&db, seed);
    uint32_t deepest = 0;
    for (int round = 0; round < 30; round++) {
        db_write_some(&db, &r, 100 + (int)random_below(&r, 250));
        random_snapshots(&db, &r);
        rig_ok(&db.rig, db_flush(&db));
        lsm_status status;
        for (uint64_t jobs = random_below(&r, 6); jobs > 0 && db_compact(&db, &status); jobs--)
            rig_ok(&db.rig, status);
        if (round % 4 == 0)
            check_all(&db);
        ck_assert_uint_eq(count_files(&db.rig), count_live(&db.rig));
    }
    lsm_status status;
    while (db_compact(&db, &status))
        rig_ok(&db.rig, status);
    check_all(&db);
    struct version *v = version_set_current(db.rig.set);
    for (uint32_t l = 0; l < VERSION_LEVELS; l++)
        deepest += v->families[0]->levels[l].count > 0;
    version_drop(v);
    ck_assert_uint_ge(deepest, 2);
    db_lose_power(&db);
    check_all(&db);
    db_close(&db);
}
END_TEST

/* What an edit names is durable with its name. */
START_TEST(test_job_outputs_survive_a_power_cut)
{
    thread_count = thread_counts[_i];
    for (int compacted = 0; compacted < 2; compacted++) {
        struct random_state r = random_seeded(6);
        struct db db;
        db_open(&db, 6);
        for (int i = 0; i < 2; i++) {
            db_write_some(&db, &r, 300);
            rig_ok(&db.rig, db_flush(&db));
        }
        lsm_status status;
        if (compacted) {
            ck_assert(db_compact(&db, &status));
            rig_ok(&db.rig, status);
        }
        db_lose_power(&db);
        check_all(&db);
        db_close(&db);
    }
}
END_TEST

/* An output ends before it lies over too much of the level below, however small it is. */
START_TEST(test_job_cuts_outputs_over_much_data)
{
    thread_count = thread_counts[_i];
    struct db db;
    db_open(&db, 6);
    for (uint32_t k = 0; k < KEYS; k++)
        db_write(&db, 0, k, false);
    rig_ok(&db.rig, db_flush(&db));
    /* The bottom, raw, so that it is many tables. */
    struct version *v = version_set_current(db.rig.set);
    v->families[0]->options.compression = LSM_COMPRESSION_NONE;
    struct compaction c = {.input_level = 0,
                           .output_level = 6,
                           .input_count = 1,
                           .upper_count = 1,
                           .inputs = v->families[0]->levels[0].files};
    rig_ok(&db.rig, run(&db, v, &c));
    version_drop(v);
    for (uint32_t k = 0; k < KEYS; k += 20)
        db_write(&db, 0, k, false);
    rig_ok(&db.rig, db_flush(&db));
    v = version_set_current(db.rig.set);
    c.output_level = 5;
    c.inputs = v->families[0]->levels[0].files;
    ck_assert_uint_gt(v->families[0]->levels[6].bytes, 20 * tiny_options().table_size);
    rig_ok(&db.rig, run(&db, v, &c));
    version_drop(v);
    v = version_set_current(db.rig.set);
    const struct version_level *above = &v->families[0]->levels[5];
    const struct version_level *below = &v->families[0]->levels[6];
    ck_assert_uint_gt(above->count, 1);
    for (size_t i = 0; i < above->count; i++) {
        uint64_t bytes = 0;
        size_t at = version_level_find(below, above->files[i]->meta.smallest);
        for (; at < below->count &&
               slice_compare(below->files[at]->meta.smallest, above->files[i]->meta.largest) <= 0;
             at++)
            bytes += below->files[at]->meta.size;
        ck_assert_uint_le(bytes, 14 * 2 * tiny_options().table_size);
    }
    version_drop(v);
    check_all(&db);
    db_close(&db);
}
END_TEST

START_TEST(test_job_without_snapshots_only_what_lives_is_left)
{
    thread_count = thread_counts[_i];
    struct random_state r = random_seeded(4);
    struct db db;
    db_open(&db, 4);
    for (int round = 0; round < 6; round++) {
        db_write_some(&db, &r, 400);
        rig_ok(&db.rig, db_flush(&db));
    }
    for (uint32_t f = 0; f < FAMILIES; f++) {
        uint64_t live = 0, lowest;
        db_compact_all(&db, f);
        for (uint32_t k = 0; k < KEYS; k++) {
            const struct write *w = reference_get(&db.histories[f][k], db.sequence);
            live += w != NULL && !w->is_delete;
        }
        ck_assert_uint_eq(count_entries(&db.rig, f, &lowest), live);
        ck_assert_uint_eq(lowest, live);
    }
    check_all(&db);
    db_close(&db);
}
END_TEST

/* Of the versions between two snapshots only the newest stays. */
START_TEST(test_job_snapshots_keep_one_version_each)
{
    thread_count = thread_counts[_i];
    struct db db;
    db_open(&db, 4);
    for (uint32_t i = 0; i < 90; i++) {
        db_write(&db, 0, 7, i % 10 == 9); /* each tenth a deletion, just before a snapshot */
        if (i == 29 || i == 59)
            db.snapshots[db.snapshot_count++] = db.sequence;
    }
    rig_ok(&db.rig, db_flush(&db));
    uint64_t lowest;
    ck_assert_uint_eq(count_entries(&db.rig, 0, &lowest), 3);
    db_write(&db, 0, 7, false);
    rig_ok(&db.rig, db_flush(&db));
    db_compact_all(&db, 0);
    /* The newest put, the deletion seen at 60; the deletions at 30 hides nothing any more, and the
     * one at 90 is hidden by the put. */
    ck_assert_uint_eq(count_entries(&db.rig, 0, &lowest), 2);
    check_all(&db);
    db.snapshot_count = 0;
    db_compact_all(&db, 0);
    ck_assert_uint_eq(count_entries(&db.rig, 0, &lowest), 1);
    check_all(&db);
    db_close(&db);
}
END_TEST

/* A snapshot right behind the first write of a memtable, or before its last, cuts it; one before
 * the first or at the last does not. */
START_TEST(test_job_flush_keeps_what_a_snapshot_at_either_end_sees)
{
    struct db db;
    db_open(&db, 4);
    for (uint64_t cut = 0; cut <= 4; cut++) {
        uint64_t before = db.sequence, entries, lowest, had = count_entries(&db.rig, 0, &lowest);
        for (int i = 0; i < 4; i++)
            db_write(&db, 0, 7, false);
        db.snapshots[0] = before + cut;
        db.snapshot_count = 1;
        rig_ok(&db.rig, db_flush(&db));
        entries = count_entries(&db.rig, 0, &lowest) - had;
        ck_assert_uint_eq(entries, cut == 0 || cut == 4 ? 1 : 2);
        check_all(&db);
    }
    db.snapshot_count = 0;
    db_close(&db);
}
END_TEST

/* A deletion stays as long as a deeper level holds an older version. */
START_TEST(test_job_deletions_stay_above_what_they_hide)
{
    thread_count = thread_counts[_i];
    struct db db;
    uint64_t lowest;
    db_open(&db, 4);
    for (uint32_t k = 0; k < KEYS; k++)
        db_write(&db, 0, k, false);
    rig_ok(&db.rig, db_flush(&db));
    db_compact_all(&db, 0);
    struct version_edit edit = {0};
    struct version *v = version_set_current(db.rig.set);
    struct version_level *bottom = &v->families[0]->levels[6];
    ck_assert_uint_gt(bottom->bytes, tiny_options().level_base_size / 4);
    /* The whole level one up, so that there is a place below it. */
    for (size_t i = 0; i < bottom->count; i++) {
        struct table_meta meta = bottom->files[i]->meta;
        meta.level = 5;
        rig_ok(&db.rig, edit_remove_table(&edit, 0, 6, meta.number, &db.rig.error));
        rig_ok(&db.rig, edit_add_table(&edit, &meta, &db.rig.error));
    }
    version_drop(v);
    rig_ok(&db.rig, version_set_apply(db.rig.set, &edit, &db.rig.error));
    edit_release(&edit);
    db_write(&db, 0, 100, true);
    db_write(&db, 0, 200, true);
    rig_ok(&db.rig, db_flush(&db));
    /* To level 4 by hand: the deletions must survive. */
    v = version_set_current(db.rig.set);
    struct compaction c = {.cf = 0,
                           .input_level = 0,
                           .output_level = 4,
                           .input_count = 1,
                           .upper_count = 1,
                           .inputs = v->families[0]->levels[0].files};
    rig_ok(&db.rig, run(&db, v, &c));
    version_drop(v);
    ck_assert_uint_eq(count_entries(&db.rig, 0, &lowest), KEYS + 2);
    check_all(&db);
    db_compact_all(&db, 0);
    ck_assert_uint_eq(count_entries(&db.rig, 0, &lowest), KEYS - 2);
    check_all(&db);
    db_close(&db);
}
END_TEST

START_TEST(test_job_of_a_dropped_family_flushes_the_others)
{
    struct db db;
    uint64_t lowest;
    db_open(&db, 4);
    db_write(&db, 0, 1, false);
    db_write(&db, 1, 1, false);
    struct version_edit edit = {0};
    rig_ok(&db.rig, edit_drop_cf(&edit, 1, &db.rig.error));
    rig_ok(&db.rig, version_set_apply(db.rig.set, &edit, &db.rig.error));
    edit_release(&edit);
    rig_ok(&db.rig, db_flush(&db));
    ck_assert_uint_eq(count_live(&db.rig), 1);
    ck_assert_uint_eq(count_entries(&db.rig, 0, &lowest), 1);
    db_close(&db);
}
END_TEST

START_TEST(test_job_flush_of_nothing_writes_nothing)
{
    struct db db;
    db_open(&db, 4);
    rig_ok(&db.rig, db_flush(&db));
    ck_assert_uint_eq(count_files(&db.rig), 0);
    db_close(&db);
}
END_TEST

static uint32_t first_compression(struct db *db, uint32_t level, bool *compressed)
{
    struct version *v = version_set_current(db->rig.set);
    const struct version_level *l = &v->families[0]->levels[level];
    struct table *table;
    uint32_t count = (uint32_t)l->count;
    if (count > 0) {
        struct version_file *file = l->files[l->count - 1];
        rig_ok(&db->rig, version_table_keep(file, &table, &db->rig.error));
        *compressed = table_properties(table)->compressed;
        version_table_drop(file);
    }
    version_drop(v);
    return count;
}

/* Compression is spent once a byte: where the data will stay. */
START_TEST(test_job_compresses_only_what_stays)
{
    struct db db;
    bool compressed = false;
    db_open(&db, 4);
    for (uint32_t k = 0; k < 200; k++)
        db_write(&db, 0, k, false);
    rig_ok(&db.rig, db_flush(&db)); /* nothing is there: it will sink */
    ck_assert_uint_eq(first_compression(&db, 0, &compressed), 1);
    ck_assert(compressed);
    for (uint32_t k = 100; k < 300; k++)
        db_write(&db, 0, k, false);
    rig_ok(&db.rig, db_flush(&db)); /* overlaps: it will be merged */
    ck_assert_uint_eq(first_compression(&db, 0, &compressed), 2);
    ck_assert(!compressed);
    for (uint32_t k = 300; k < 400; k++)
        db_write(&db, 0, k, false);
    rig_ok(&db.rig, db_flush(&db)); /* beyond everything */
    ck_assert_uint_eq(first_compression(&db, 0, &compressed), 3);
    ck_assert(compressed);
    db_compact_all(&db, 0);
    ck_assert_uint_gt(first_compression(&db, 6, &compressed), 0);
    ck_assert(compressed);
    check_all(&db);
    db_close(&db);
}
END_TEST

/* ---- parts ------------------------------------------------------------------------------------
 */

static _Atomic unsigned parts_begun;

static void count_parts(const char *name)
{
    parts_begun += strcmp(name, "compaction: part begun") == 0;
}

/* Many versions of few keys, of which snapshots see some, in runs over all keys. */
static void fill_versions(struct db *db, uint64_t seed)
{
    struct random_state r = random_seeded(seed);
    db_open(db, seed);
    for (int round = 0; round < 4; round++) {
        db_write_some(db, &r, 900);
        for (int i = 0; i < 60; i++) { /* one key's versions fill several tables */
            db_write(db, 0, 200, i % 7 == 6);
            if (round < 2 && i % 15 == 3)
                db->snapshots[db->snapshot_count++ % 8] = db->sequence;
        }
        rig_ok(&db->rig, db_flush(db));
    }
}

/* Everything in level 0 into the lowest one, as one job. */
static unsigned merge_once(struct db *db, uint32_t threads)
{
    struct version *v = version_set_current(db->rig.set);
    const struct version_level *l = &v->families[0]->levels[0];
    struct compaction c = {
        .output_level = 6, .input_count = l->count, .upper_count = l->count, .inputs = l->files};
    for (size_t i = 0; i < l->count; i++)
        c.input_bytes += l->files[i]->meta.size;
    db->threads = threads;
    parts_begun = 0;
    atomic_store(&step_hook, count_parts);
    rig_ok(&db->rig, run(db, v, &c));
    atomic_store(&step_hook, NULL);
    version_drop(v);
    return parts_begun;
}

/* A hash over the entries of the lowest level, in order: keys, sequence numbers, types, values. */
static uint64_t hash_lowest(struct db *db, uint64_t *count)
{
    static const struct table_iter_options options = {.whole = true};
    struct version *v = version_set_current(db->rig.set);
    const struct version_level *l = &v->families[0]->levels[6];
    struct iter *it;
    uint64_t hash = 0;
    *count = 0;
    rig_ok(&db->rig, level_iter_new(l->files, l->count, &options, &it, &db->rig.error));
    for (it->ops->first(it); it->valid; iter_next(it)) {
        hash = hash_bytes(it->entry->key.data, it->entry->key.size, hash + it->entry->trailer);
        hash = hash_bytes(it->entry->value.data, it->entry->value.size, hash);
        ++*count;
    }
    ck_assert_int_eq(it->status, LSM_OK);
    iter_release(it);
    version_drop(v);
    return hash;
}

/* No key is in two tables, and the lineage is that of one job. */
static void check_outputs(struct db *db)
{
    struct version *v = version_set_current(db->rig.set);
    const struct version_level *l = &v->families[0]->levels[6];
    bool seen[512] = {false};
    uint64_t job = 0;
    for (size_t i = 0; i < l->count; i++) {
        struct table *table;
        if (i > 0)
            ck_assert_int_lt(
                slice_compare(l->files[i - 1]->meta.largest, l->files[i]->meta.smallest), 0);
        rig_ok(&db->rig, version_table_keep(l->files[i], &table, &db->rig.error));
        const struct table_properties *p = table_properties(table);
        job = i == 0 ? p->job : job;
        ck_assert_uint_eq(p->job, job);
        ck_assert_uint_lt(p->output_index, l->count);
        ck_assert(!seen[p->output_index]);
        seen[p->output_index] = true;
        ck_assert_int_eq(p->last_output, p->output_index + 1 == l->count);
        ck_assert_uint_eq(p->replaced_count, 4);
        version_table_drop(l->files[i]);
    }
    ck_assert_ptr_nonnull(version_find_file(v, job));
    version_drop(v);
}

/* In whatever parts it is done: the same entries, tables apart, the lineage of one job. */
START_TEST(test_job_in_parts_writes_the_same)
{
    uint64_t seed = (uint64_t)time(NULL) * 1000003, wanted = 0, wanted_count = 0;
    printf("seed %llu\n", (unsigned long long)seed);
    for (uint32_t threads = 0; threads <= 8; threads += threads < 2 ? 1 : 3) {
        struct db db;
        uint64_t count;
        fill_versions(&db, seed);
        unsigned parts = merge_once(&db, threads);
        ck_assert_uint_eq(parts, threads == 0 ? 1 : threads);
        uint64_t hash = hash_lowest(&db, &count);
        wanted = threads == 0 ? hash : wanted;
        wanted_count = threads == 0 ? count : wanted_count;
        ck_assert_uint_eq(count, wanted_count);
        ck_assert_uint_eq(hash, wanted);
        check_outputs(&db);
        check_all(&db);
        db_lose_power(&db);
        check_all(&db);
        db_close(&db);
    }
}
END_TEST

/* One user key cannot be parted, nor can what fills no table. */
START_TEST(test_job_of_one_key_is_done_in_one_part)
{
    struct db db;
    uint64_t count;
    db_open(&db, 4);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 300; i++) {
            db_write(&db, 0, 7, false);
            if (round == 0 && i % 40 == 0)
                db.snapshots[db.snapshot_count++] = db.sequence;
        }
        rig_ok(&db.rig, db_flush(&db));
    }
    struct compaction small = {.output_level = 6};
    struct version *v = version_set_current(db.rig.set);
    ck_assert_uint_eq(compact_worth_threads(v->families[0], &small), 1);
    v->families[0]->options.table_size = 100; /* so that it seems worth it */
    version_drop(v);
    ck_assert_uint_eq(merge_once(&db, 4), 1);
    (void)hash_lowest(&db, &count);
    ck_assert_uint_eq(count, db.snapshot_count + 1);
    check_all(&db);
    db_close(&db);
}
END_TEST

/* ---- failures ---------------------------------------------------------------------------------
 */

static bool progress_until(void *context, uint64_t bytes_done)
{
    uint64_t *left = context;
    (void)bytes_done;
    return (*left)-- > 0;
}

static void fill_for_compaction(struct db *db, uint64_t seed)
{
    struct random_state r = random_seeded(seed);
    db_open(db, seed);
    for (int round = 0; round < 3; round++) {
        db_write_some(db, &r, 500);
        rig_ok(&db->rig, db_flush(db));
    }
}

START_TEST(test_job_cancelled_leaves_no_files)
{
    thread_count = thread_counts[_i];
    struct db db;
    _Atomic bool cancel = true;
    fill_for_compaction(&db, 8);
    lsm_status status;
    size_t before = count_files(&db.rig);
    db.env.cancel = &cancel;
    ck_assert(db_compact(&db, &status));
    ck_assert_int_eq(status, LSM_CANCELLED);
    db.env.cancel = NULL;
    uint64_t left = 0;
    db.env.progress = progress_until;
    db.env.progress_context = &left;
    ck_assert(db_compact(&db, &status));
    ck_assert_int_eq(status, LSM_CANCELLED);
    ck_assert_uint_eq(count_files(&db.rig), before);
    check_all(&db);
    left = 1000;
    ck_assert(db_compact(&db, &status));
    ck_assert_int_eq(status, LSM_OK);
    ck_assert_uint_lt(left, 1000);
    check_all(&db);
    db_close(&db);
}
END_TEST

/* Cancelled in the middle, with outputs finished already. */
START_TEST(test_job_cancelled_late_leaves_no_files)
{
    struct db db;
    db_open(&db, 8);
    char value[160];
    memset(value, 'x', sizeof value);
    for (int round = 0; round < 2; round++) { /* three megabytes in all */
        memtable_free(db.memtable);
        db.memtable = NULL;
        size_t size = (size_t)8 << 20;
        void *arena = aligned_alloc(4096, size);
        rig_ok(&db.rig, memtable_new(MEMTABLE_BTREE, arena, size, 1, &db.memtable, &db.rig.error));
        for (uint32_t k = 0; k < 10000; k++) {
            char text[32];
            lsm_slice key = LSM_SLICE(text, (size_t)snprintf(text, 32, "%08u", k));
            memtable_insert(db.memtable, 0, key, hash_key(key.data, key.size),
                            entry_trailer(++db.sequence, ENTRY_PUT), LSM_SLICE(value, 150));
        }
        struct version_edit edit = {0};
        struct version *v = version_set_current(db.rig.set);
        version_set_last_sequence(db.rig.set, db.sequence);
        rig_ok(&db.rig, compact_flush(&db.env, v, &db.memtable, 1, NULL, 0, &edit, &db.result,
                                      &db.rig.error));
        rig_ok(&db.rig, version_set_apply(db.rig.set, &edit, &db.rig.error));
        edit_release(&edit);
        version_drop(v);
        free(arena);
    }
    memtable_free(db.memtable);
    db.memtable = NULL;
    size_t before = count_files(&db.rig);
    ck_assert_uint_eq(before, 2);
    uint64_t left = 2; /* looks at the start and after each megabyte */
    db.env.progress = progress_until;
    db.env.progress_context = &left;
    lsm_status status;
    ck_assert(db_compact(&db, &status));
    ck_assert_int_eq(status, LSM_CANCELLED);
    ck_assert_uint_eq(count_files(&db.rig), before);
    db.env.progress = NULL;
    ck_assert(db_compact(&db, &status));
    rig_ok(&db.rig, status);
    uint64_t lowest;
    ck_assert_uint_eq(count_entries(&db.rig, 0, &lowest), 10000);
    ck_assert_uint_gt(count_files(&db.rig), 5);
    db_close(&db);
}
END_TEST

static _Thread_local bool is_caller;
static _Atomic bool was_cancelled;

/* All parts but the caller's wait until it has cancelled the job. */
static void hold_parts(const char *name)
{
    while (!is_caller && !was_cancelled && strcmp(name, "compaction: part begun") == 0)
        usleep(1000);
}

static bool cancel_late(void *context, uint64_t bytes_done)
{
    int *left = context;
    (void)bytes_done;
    ck_assert(is_caller);
    was_cancelled = (*left)-- <= 0;
    return !was_cancelled;
}

/* The caller is asked although its own part is written. */
START_TEST(test_job_cancelled_while_other_parts_work_leaves_no_files)
{
    struct db db;
    int left = 5;
    thread_count = 3;
    fill_for_compaction(&db, 8);
    lsm_status status;
    size_t before = count_files(&db.rig);
    db.env.progress = cancel_late;
    db.env.progress_context = &left;
    is_caller = true;
    atomic_store(&step_hook, hold_parts);
    ck_assert(db_compact(&db, &status));
    atomic_store(&step_hook, NULL);
    ck_assert_int_eq(status, LSM_CANCELLED);
    ck_assert_int_eq(left, -1);
    ck_assert_uint_eq(count_files(&db.rig), before);
    check_all(&db);
    db_close(&db);
}
END_TEST

START_TEST(test_job_failing_calls_leave_no_files)
{
    thread_count = thread_counts[_i];
    static const enum sim_fault_kind kinds[] = {SIM_FAULT_WRITE, SIM_FAULT_SYNC, SIM_FAULT_READ,
                                                SIM_FAULT_OPEN};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct db db;
        fill_for_compaction(&db, 8);
        size_t before = count_files(&db.rig), failures = 0;
        for (uint64_t count = 0;; count += 1 + count / 8) {
            struct compaction c;
            struct version_edit edit = {0};
            struct version *v = version_set_current(db.rig.set);
            ck_assert(compact_pick(v, 0, &c));
            c.threads = db.threads;
            sim_fail_after(db.rig.disk, kinds[k], count, EIO, false);
            lsm_status status =
                compact_run(&db.env, v, &c, NULL, 0, &edit, &db.result, &db.rig.error);
            sim_fail_never(db.rig.disk);
            edit_release(&edit);
            compaction_release(&c);
            version_drop(v);
            if (status == LSM_OK)
                break;
            ck_assert_int_eq(status, LSM_IO);
            ck_assert_uint_eq(count_files(&db.rig), before);
            failures++;
        }
        ck_assert_msg(failures >= 2, "kind %zu failed %zu times", k, failures);
        db_close(&db);
    }
}
END_TEST

START_TEST(test_job_failing_flush_leaves_no_files)
{
    for (uint64_t count = 0;; count++) {
        struct db db;
        struct random_state r = random_seeded(8);
        db_open(&db, 8);
        db_write_some(&db, &r, 500);
        struct version_edit edit = {0};
        struct version *v = version_set_current(db.rig.set);
        sim_fail_after(db.rig.disk, count % 2 == 0 ? SIM_FAULT_WRITE : SIM_FAULT_SYNC, count / 2,
                       ENOSPC, false);
        lsm_status status =
            compact_flush(&db.env, v, &db.memtable, 1, NULL, 0, &edit, &db.result, &db.rig.error);
        sim_fail_never(db.rig.disk);
        edit_release(&edit);
        version_drop(v);
        ck_assert_uint_eq(status == LSM_OK ? 2 : 0, count_files(&db.rig));
        db_close(&db);
        ck_assert(count > 3 || status == LSM_NO_SPACE);
        if (count > 12)
            break;
    }
}
END_TEST

START_TEST(test_job_without_memory_leaves_no_files)
{
    thread_count = thread_counts[_i];
    struct db db;
    fill_for_compaction(&db, 8);
    size_t before = count_files(&db.rig), failures = 0;
    for (int64_t count = 0;; count++, failures++) {
        struct compaction c;
        struct version_edit edit = {0};
        struct version *v = version_set_current(db.rig.set);
        ck_assert(compact_pick(v, 0, &c));
        c.threads = db.threads;
        mem_fail_after(count, false);
        lsm_status status = compact_run(&db.env, v, &c, NULL, 0, &edit, &db.result, &db.rig.error);
        mem_fail_after(-1, false);
        edit_release(&edit);
        compaction_release(&c);
        version_drop(v);
        if (status == LSM_OK)
            break;
        ck_assert_msg(status == LSM_NO_MEMORY, "%s", db.rig.error.message);
        ck_assert_uint_eq(count_files(&db.rig), before);
    }
    ck_assert_uint_gt(failures, 5); /* tables that were opened stay so */
    db_close(&db);
}
END_TEST

START_TEST(test_job_flush_without_memory_leaves_no_files)
{
    struct db db;
    struct random_state r = random_seeded(8);
    size_t failures = 0;
    db_open(&db, 8);
    db_write_some(&db, &r, 300);
    for (int64_t count = 0;; count++, failures++) {
        struct version_edit edit = {0};
        struct version *v = version_set_current(db.rig.set);
        mem_fail_after(count, false);
        lsm_status status =
            compact_flush(&db.env, v, &db.memtable, 1, NULL, 0, &edit, &db.result, &db.rig.error);
        mem_fail_after(-1, false);
        edit_release(&edit);
        version_drop(v);
        if (status == LSM_OK)
            break;
        ck_assert_int_eq(status, LSM_NO_MEMORY);
        ck_assert_uint_eq(count_files(&db.rig), 0);
    }
    ck_assert_uint_gt(failures, 10);
    db_close(&db);
}
END_TEST

START_TEST(test_job_of_a_dropped_family_is_refused)
{
    struct db db;
    struct version_edit edit = {0};
    db_open(&db, 4);
    struct compaction c = {.cf = 9};
    struct version *v = version_set_current(db.rig.set);
    ck_assert_int_eq(compact_run(&db.env, v, &c, NULL, 0, &edit, &db.result, &db.rig.error),
                     LSM_MISSING);
    version_drop(v);
    db_close(&db);
}
END_TEST

/* An entry type of a newer library is refused, not dropped. */
START_TEST(test_job_unknown_entry_type_is_refused)
{
    struct db db;
    char text[32];
    db_open(&db, 4);
    lsm_slice key = make_key(1, text);
    memtable_insert(db.memtable, 0, key, hash_key(key.data, key.size),
                    entry_trailer(1, ENTRY_MERGE), LSM_SLICE("x", 1));
    ck_assert_int_eq(db_flush(&db), LSM_NEWER_FORMAT);
    ck_assert_uint_eq(count_files(&db.rig), 0);
    db_close(&db);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("job");
    TCase *tcase = tcase_create("job");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, test_job_every_snapshot_sees_the_same, 0, 2);
    tcase_add_loop_test(tcase, test_job_outputs_survive_a_power_cut, 0, 2);
    tcase_add_loop_test(tcase, test_job_cuts_outputs_over_much_data, 0, 2);
    tcase_add_loop_test(tcase, test_job_without_snapshots_only_what_lives_is_left, 0, 2);
    tcase_add_loop_test(tcase, test_job_snapshots_keep_one_version_each, 0, 2);
    tcase_add_test(tcase, test_job_flush_keeps_what_a_snapshot_at_either_end_sees);
    tcase_add_loop_test(tcase, test_job_deletions_stay_above_what_they_hide, 0, 2);
    tcase_add_test(tcase, test_job_of_a_dropped_family_flushes_the_others);
    tcase_add_test(tcase, test_job_flush_of_nothing_writes_nothing);
    tcase_add_test(tcase, test_job_compresses_only_what_stays);
    tcase_add_test(tcase, test_job_in_parts_writes_the_same);
    tcase_add_test(tcase, test_job_of_one_key_is_done_in_one_part);
    tcase_add_loop_test(tcase, test_job_cancelled_leaves_no_files, 0, 2);
    tcase_add_test(tcase, test_job_cancelled_late_leaves_no_files);
    tcase_add_test(tcase, test_job_cancelled_while_other_parts_work_leaves_no_files);
    tcase_add_loop_test(tcase, test_job_failing_calls_leave_no_files, 0, 2);
    tcase_add_test(tcase, test_job_failing_flush_leaves_no_files);
    tcase_add_loop_test(tcase, test_job_without_memory_leaves_no_files, 0, 2);
    tcase_add_test(tcase, test_job_flush_without_memory_leaves_no_files);
    tcase_add_test(tcase, test_job_of_a_dropped_family_is_refused);
    tcase_add_test(tcase, test_job_unknown_entry_type_is_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
