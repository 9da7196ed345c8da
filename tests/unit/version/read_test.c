/*
 * Reading through versions: random trees of real tables against a sorted array, by point reads,
 * multi-gets and iterators, with few tables kept open, failing reads, and threads.
 */
#include "rig.h"

#include "engine/base/hash.h"
#include "engine/iter/merging.h"
#include "engine/version/set_private.h"

#include <pthread.h>

/* ---- a random tree and its reference ----------------------------------------------------------
 */

struct entry {
    uint32_t key; /* the keys are texts of these numbers */
    uint64_t sequence;
    bool is_delete;
};

struct tree {
    struct rig rig;
    struct entry *entries; /* by key, newest first */
    size_t count, room;
    uint32_t key_count;
    unsigned prefix; /* shape of the keys */
};

#define KEY_SIZE 48

static lsm_slice make_key(const struct tree *t, uint32_t key, char *text)
{
    static const char *const prefixes[] = {"", "user/00000000/",
                                           "\xff\xff\xff\xff\xff\xff\xff\xff"};
    int size =
        snprintf(text, KEY_SIZE, "%s%06u%s", prefixes[t->prefix], key, key % 3 == 0 ? "tail" : "");
    return LSM_SLICE(text, (size_t)size);
}

static lsm_slice make_value(uint32_t key, uint64_t sequence, char *text)
{
    int size = snprintf(text, KEY_SIZE, "value of %u at %llu", key, (unsigned long long)sequence);
    return LSM_SLICE(text, (size_t)size);
}

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->sequence < y->sequence) - (x->sequence > y->sequence);
}

/* Writes the entries [first, limit) of an array in table order. */
static void write_table(struct tree *t, const struct entry *entries, size_t count, uint32_t level,
                        struct version_edit *edit)
{
    struct rig *r = &t->rig;
    struct table_writer *w;
    struct table_meta meta;
    struct table_write_options options = {.number = version_new_file_number(r->set),
                                          .cf_name = "default",
                                          .level = level,
                                          .block_size = 512,
                                          .filter_bits = 12};
    rig_ok(r, table_writer_new(&r->env, &options, &w, &r->error));
    for (size_t i = 0; i < count; i++) {
        char key[KEY_SIZE], value[KEY_SIZE];
        const struct entry *e = &entries[i];
        lsm_slice v = e->is_delete ? LSM_SLICE(NULL, 0) : make_value(e->key, e->sequence, value);
        rig_ok(r,
               table_writer_add(w, make_key(t, e->key, key),
                                entry_trailer(e->sequence, e->is_delete ? ENTRY_DELETE : ENTRY_PUT),
                                v, &r->error));
    }
    rig_ok(r, table_writer_finish(w, &meta, &r->error));
    meta.cf = 0;
    meta.level = level;
    rig_ok(r, edit_add_table(edit, &meta, &r->error));
    table_meta_release(&meta);
}

static void remember(struct tree *t, const struct entry *entries, size_t count)
{
    if (t->count + count > t->room) {
        t->room = (t->count + count) * 2;
        t->entries = realloc(t->entries, t->room * sizeof *t->entries);
    }
    if (count > 0)
        memcpy(t->entries + t->count, entries, count * sizeof *entries);
    t->count += count;
}

/* A tree may have no entry at all, and then there is no array. */
static void sort_entries(struct tree *t)
{
    if (t->count > 0)
        qsort(t->entries, t->count, sizeof *t->entries, compare_entries);
}

/* A level: random keys with sequence numbers from `first` on, in order, no key in two tables. */
static void add_level(struct tree *t, struct random_state *r, uint32_t level, uint64_t first,
                      struct version_edit *edit)
{
    size_t count = 0, room = t->key_count * 3;
    struct entry *e = malloc(room * sizeof *e);
    for (uint32_t k = 0; k < t->key_count; k++) {
        if (random_below(r, 3) != 0)
            continue;
        uint64_t versions = 1 + random_below(r, 3);
        for (uint64_t v = versions; v > 0; v--)
            e[count++] = (struct entry){k, first + v - 1, random_below(r, 4) == 0};
    }
    remember(t, e, count);
    for (size_t i = 0; i < count;) {
        size_t n = level == 0 ? count : 1 + random_below(r, 60);
        n = n > count - i ? count - i : n;
        while (i + n < count && e[i + n].key == e[i + n - 1].key)
            n++;
        write_table(t, e + i, n, level, edit);
        i += n;
    }
    free(e);
}

static void tree_open(struct tree *t, struct random_state *r, uint32_t max_open)
{
    *t = (struct tree){.key_count = 40 + (uint32_t)random_below(r, 200),
                       .prefix = (unsigned)random_below(r, 3)};
    rig_open(&t->rig, random_next(r));
    t->rig.options.max_open_tables = max_open;
    rig_ok(&t->rig, rig_create(&t->rig));
    struct version_edit edit = {0};
    uint64_t sequence = 1;
    for (uint32_t level = VERSION_LEVELS - 1; level > 0; level--) {
        if (random_below(r, 2) == 0)
            add_level(t, r, level, sequence, &edit);
        sequence += 3;
    }
    for (uint64_t runs = random_below(r, 20); runs > 0; runs--, sequence += 3)
        add_level(t, r, 0, sequence, &edit);
    rig_ok(&t->rig, version_set_apply(t->rig.set, &edit, &t->rig.error));
    edit_release(&edit);
    sort_entries(t);
}

static void tree_close(struct tree *t)
{
    rig_close(&t->rig);
    free(t->entries);
}

static size_t lower_bound(const struct tree *t, uint32_t key, uint64_t max_sequence)
{
    size_t i = 0;
    struct entry wanted = {key, max_sequence, false};
    size_t limit = t->count;
    while (i < limit) {
        size_t middle = i + (limit - i) / 2;
        if (compare_entries(&t->entries[middle], &wanted) < 0)
            i = middle + 1;
        else
            limit = middle;
    }
    return i;
}

static const struct entry *reference_get(const struct tree *t, uint32_t key, uint64_t max_sequence)
{
    size_t i = lower_bound(t, key, max_sequence);
    return i < t->count && t->entries[i].key == key ? &t->entries[i] : NULL;
}

static void check_found(const struct tree *t, uint32_t key, uint64_t max_sequence, bool is_found,
                        const struct table_found *found)
{
    const struct entry *e = reference_get(t, key, max_sequence);
    char value[KEY_SIZE];
    ck_assert_msg(is_found == (e != NULL), "key %u at %llu", key, (unsigned long long)max_sequence);
    if (e == NULL)
        return;
    ck_assert_uint_eq(found->trailer,
                      entry_trailer(e->sequence, e->is_delete ? ENTRY_DELETE : ENTRY_PUT));
    ck_assert(e->is_delete ? found->value.size == 0
                           : slice_equal(found->value, make_value(key, e->sequence, value)));
}

static uint64_t random_sequence(struct random_state *r)
{
    return random_below(r, 3) == 0 ? ENTRY_MAX_SEQUENCE : random_below(r, 90);
}

/* ---- point reads ------------------------------------------------------------------------------
 */

static void get_some(struct tree *t, const struct version *v, struct random_state *r, int count)
{
    for (int i = 0; i < count; i++) {
        char text[KEY_SIZE];
        uint32_t key = (uint32_t)random_below(r, t->key_count + 3);
        uint64_t max_sequence = random_sequence(r);
        lsm_slice k = make_key(t, key, text);
        bool is_found;
        struct table_found found;
        lsm_error error;
        epoch_enter();
        lsm_status status = version_get(v, v->families[0], k, hash_key(k.data, k.size),
                                        max_sequence, 0, &is_found, &found, &error);
        ck_assert_msg(status == LSM_OK, "%s", error.message);
        check_found(t, key, max_sequence, is_found, &found);
        if (is_found && found.owned)
            block_drop(found.block);
        epoch_exit();
    }
}

static void multi_get_some(struct tree *t, const struct version *v, struct random_state *r,
                           struct io_queue *queue)
{
    struct version_probe probes[100];
    uint32_t keys[100];
    char texts[100][KEY_SIZE];
    bool skipped[100];
    size_t count = 1 + random_below(r, 100);
    for (size_t i = 0; i < count; i++) {
        keys[i] = (uint32_t)random_below(r, t->key_count + 3);
        lsm_slice k = make_key(t, keys[i], texts[i]);
        skipped[i] = random_below(r, 10) == 0;
        probes[i] = (struct version_probe){.key = k,
                                           .hash = hash_key(k.data, k.size),
                                           .max_sequence = random_sequence(r),
                                           .done = skipped[i]};
    }
    epoch_enter();
    rig_ok(&t->rig, version_multi_get(v, v->families[0], probes, count, 0, queue, &t->rig.error));
    for (size_t i = 0; i < count; i++) {
        ck_assert(probes[i].done);
        if (skipped[i]) {
            ck_assert(!probes[i].is_found);
            continue;
        }
        check_found(t, keys[i], probes[i].max_sequence, probes[i].is_found, &probes[i].found);
        if (probes[i].is_found && probes[i].found.owned)
            block_drop(probes[i].found.block);
    }
    epoch_exit();
}

static uint64_t start_seed(void)
{
    uint64_t seed = (uint64_t)time(NULL) * 1000003;
    printf("seed %llu\n", (unsigned long long)seed);
    return seed;
}

START_TEST(test_read_gets_agree_with_the_reference)
{
    struct random_state r = random_seeded(start_seed());
    for (int round = 0; round < 15; round++) {
        struct tree t;
        struct io_queue *queue;
        tree_open(&t, &r, round % 2 == 0 ? 8 : 1000);
        struct version *v = version_set_current(t.rig.set);
        rig_ok(&t.rig, io_queue_open(t.rig.io, 32, &queue, &t.rig.error));
        get_some(&t, v, &r, 300);
        for (int i = 0; i < 15; i++)
            multi_get_some(&t, v, &r, queue);
        io_queue_close(queue);
        version_drop(v);
        tree_close(&t);
    }
}
END_TEST

START_TEST(test_read_multi_get_submits_once_a_round)
{
    struct random_state r = random_seeded(3);
    struct tree t;
    struct io_queue *queue;
    memset(&t, 0, sizeof t);
    t.key_count = 200;
    rig_open(&t.rig, 1);
    rig_ok(&t.rig, rig_create(&t.rig));
    struct version_edit edit = {0};
    add_level(&t, &r, 6, 1, &edit);
    rig_ok(&t.rig, version_set_apply(t.rig.set, &edit, &t.rig.error));
    edit_release(&edit);
    sort_entries(&t);
    rig_ok(&t.rig, io_queue_open(t.rig.io, 64, &queue, &t.rig.error));
    struct version *v = version_set_current(t.rig.set);
    struct version_probe probes[32];
    char texts[32][KEY_SIZE];
    size_t count = 0;
    for (uint32_t k = 0; k < 200 && count < 32; k++) {
        if (reference_get(&t, k, ENTRY_MAX_SEQUENCE) == NULL)
            continue;
        lsm_slice key = make_key(&t, k, texts[count]);
        probes[count++] = (struct version_probe){
            .key = key, .hash = hash_key(key.data, key.size), .max_sequence = ENTRY_MAX_SEQUENCE};
    }
    uint64_t before = io_submission_count(t.rig.io);
    epoch_enter();
    rig_ok(&t.rig, version_multi_get(v, v->families[0], probes, count, 0, queue, &t.rig.error));
    for (size_t i = 0; i < count; i++) {
        ck_assert(probes[i].is_found);
        if (probes[i].found.owned)
            block_drop(probes[i].found.block);
    }
    epoch_exit();
    ck_assert_uint_eq(io_submission_count(t.rig.io) - before, 1);
    version_drop(v);
    io_queue_close(queue);
    tree_close(&t);
}
END_TEST

START_TEST(test_read_multi_get_reads_a_block_once)
{
    enum { COUNT = 32 };
    struct random_state r = random_seeded(4);
    struct tree t;
    struct io_queue *queue;
    memset(&t, 0, sizeof t);
    t.key_count = 200;
    rig_open(&t.rig, 1);
    rig_ok(&t.rig, rig_create(&t.rig));
    struct version_edit edit = {0};
    add_level(&t, &r, 6, 1, &edit);
    rig_ok(&t.rig, version_set_apply(t.rig.set, &edit, &t.rig.error));
    edit_release(&edit);
    sort_entries(&t);
    rig_ok(&t.rig, io_queue_open(t.rig.io, COUNT, &queue, &t.rig.error));
    struct version *v = version_set_current(t.rig.set);
    char text[KEY_SIZE];
    uint32_t there = 0;
    while (reference_get(&t, there, ENTRY_MAX_SEQUENCE) == NULL)
        there++;
    lsm_slice key = make_key(&t, there, text);
    for (unsigned round = 0; round < 2; round++) {
        unsigned flags = round == 0 ? 0 : TABLE_NO_FILL;
        struct version_probe probes[COUNT];
        for (size_t i = 0; i < COUNT; i++)
            probes[i] = (struct version_probe){.key = key,
                                               .hash = hash_key(key.data, key.size),
                                               .max_sequence = ENTRY_MAX_SEQUENCE};
        epoch_enter();
        rig_ok(&t.rig,
               version_multi_get(v, v->families[0], probes, COUNT, flags, queue, &t.rig.error));
        for (size_t i = 0; i < COUNT; i++) {
            ck_assert(probes[i].is_found);
            if (probes[i].found.owned)
                block_drop(probes[i].found.block);
        }
        epoch_exit();
        uint64_t hits, misses;
        block_cache_counts(t.rig.env.cache, &hits, &misses);
        ck_assert_uint_eq(misses, 1);
    }
    version_drop(v);
    io_queue_close(queue);
    tree_close(&t);
}
END_TEST

/* ---- iterators --------------------------------------------------------------------------------
 */

static struct iter *open_merged(struct tree *t, const struct version_cf *cf, lsm_slice first,
                                lsm_slice limit)
{
    static const struct table_iter_options options = {.flags = 0};
    struct iter **children = malloc((version_iter_count(cf) + 1) * sizeof(struct iter *));
    struct iter *merged;
    size_t count = 0;
    rig_ok(&t->rig, version_iters(cf, &options, first, limit, children, &count, &t->rig.error));
    ck_assert_uint_le(count, version_iter_count(cf));
    rig_ok(&t->rig, merging_new(children, count, &merged, &t->rig.error));
    free(children);
    return merged;
}

/* The iterator stands on entry i of the reference; i == count: nowhere. */
static void check_at(const struct tree *t, const struct iter *it, size_t i)
{
    char key[KEY_SIZE], value[KEY_SIZE];
    ck_assert_int_eq(it->status, LSM_OK);
    ck_assert_int_eq(it->valid, i < t->count);
    if (i >= t->count)
        return;
    const struct entry *e = &t->entries[i];
    ck_assert(slice_equal(it->entry->key, make_key(t, e->key, key)));
    ck_assert_uint_eq(it->entry->head, bytes_head(it->entry->key.data, it->entry->key.size));
    ck_assert_uint_eq(it->entry->trailer,
                      entry_trailer(e->sequence, e->is_delete ? ENTRY_DELETE : ENTRY_PUT));
    ck_assert(e->is_delete ||
              slice_equal(it->entry->value, make_value(e->key, e->sequence, value)));
}

/* Keys of different numbers sort as their numbers do only when no suffix interferes, and none does:
 * the digits have a fixed width. */
static void wander(struct tree *t, struct iter *it, struct random_state *r)
{
    for (int i = 0; i < 60; i++) {
        char text[KEY_SIZE];
        uint32_t key = (uint32_t)random_below(r, t->key_count + 3);
        uint64_t sequence = random_below(r, 90);
        size_t at = lower_bound(t, key, sequence);
        switch (random_below(r, 4)) {
        case 0:
            it->ops->first(it);
            at = 0;
            break;
        case 1:
            it->ops->last(it);
            at = t->count == 0 ? 0 : t->count - 1;
            break;
        case 2:
            iter_seek(it, make_key(t, key, text), entry_seek_trailer(sequence));
            break;
        default:
            /* The last entry <= (key, the lowest trailer of the sequence number). */
            it->ops->seek_for_prev(it, make_key(t, key, text), entry_trailer(sequence, 0));
            while (at < t->count && t->entries[at].key == key &&
                   t->entries[at].sequence >= sequence)
                at++;
            at = at == 0 ? t->count : at - 1;
            break;
        }
        check_at(t, it, at);
        for (uint64_t steps = random_below(r, 40); steps > 0 && it->valid; steps--) {
            if (random_below(r, 3) > 0) {
                iter_next(it);
                at++;
            } else {
                iter_prev(it);
                at = at == 0 ? t->count : at - 1;
            }
            check_at(t, it, at);
        }
    }
}

START_TEST(test_read_iterators_agree_with_the_reference)
{
    struct random_state r = random_seeded(start_seed());
    for (int round = 0; round < 12; round++) {
        struct tree t;
        tree_open(&t, &r, 8);
        struct version *v = version_set_current(t.rig.set);
        struct iter *it = open_merged(&t, v->families[0], LSM_SLICE(NULL, 0), LSM_SLICE(NULL, 0));
        size_t seen = 0;
        for (it->ops->first(it); it->valid; iter_next(it))
            check_at(&t, it, seen++);
        ck_assert_uint_eq(seen, t.count);
        for (it->ops->last(it); it->valid; iter_prev(it))
            check_at(&t, it, --seen);
        ck_assert_uint_eq(seen, 0);
        wander(&t, it, &r);
        iter_release(it);
        version_drop(v);
        tree_close(&t);
    }
}
END_TEST

START_TEST(test_read_iterators_leave_out_files_outside_the_range)
{
    struct random_state r = random_seeded(start_seed());
    for (int round = 0; round < 12; round++) {
        struct tree t;
        tree_open(&t, &r, 100);
        struct version *v = version_set_current(t.rig.set);
        char first_text[KEY_SIZE], limit_text[KEY_SIZE];
        uint32_t first = (uint32_t)random_below(&r, t.key_count);
        uint32_t limit = first + (uint32_t)random_below(&r, 20);
        struct iter *it = open_merged(&t, v->families[0], make_key(&t, first, first_text),
                                      make_key(&t, limit, limit_text));
        size_t at = lower_bound(&t, first, ENTRY_MAX_SEQUENCE);
        iter_seek(it, make_key(&t, first, first_text), ENTRY_MAX_TRAILER);
        for (; at < t.count && t.entries[at].key < limit; at++) {
            check_at(&t, it, at);
            iter_next(it);
        }
        iter_release(it);
        version_drop(v);
        tree_close(&t);
    }
}
END_TEST

/* Iterators that fail say so, forwards and backwards, and go on after a seek. */
START_TEST(test_read_iterators_tell_failing_reads)
{
    struct random_state r = random_seeded(21);
    struct tree t;
    tree_open(&t, &r, 8);
    struct version *v = version_set_current(t.rig.set);
    const struct version_cf *cf = v->families[0];
    size_t failures[2] = {0};
    for (uint64_t n = 0; n < 120; n++) {
        static const struct table_iter_options options = {.flags = TABLE_NO_FILL};
        bool backwards = n % 2 == 1;
        struct iter *children[64], *it;
        size_t count = 0;
        lsm_error error = {0};
        ck_assert_uint_le(version_iter_count(cf), 64);
        rig_ok(&t.rig, version_iters(cf, &options, LSM_SLICE(NULL, 0), LSM_SLICE(NULL, 0), children,
                                     &count, &error));
        rig_ok(&t.rig, merging_new(children, count, &it, &error));
        sim_fail_after(t.rig.disk, n % 3 == 0 ? SIM_FAULT_OPEN : SIM_FAULT_READ, n, EIO, false);
        size_t seen = 0;
        for (backwards ? it->ops->last(it) : it->ops->first(it); it->valid; seen++)
            backwards ? iter_prev(it) : iter_next(it);
        if (it->status != LSM_OK) {
            ck_assert_int_eq(it->status, LSM_IO);
            ck_assert_ptr_nonnull(strstr(error.message, ".sst"));
            ck_assert_uint_lt(seen, t.count);
            failures[backwards]++;
        } else {
            ck_assert_uint_eq(seen, t.count);
        }
        sim_fail_never(t.rig.disk);
        it->ops->first(it);
        check_at(&t, it, 0);
        iter_release(it);
    }
    ck_assert_uint_gt(failures[0], 3);
    ck_assert_uint_gt(failures[1], 3);
    version_drop(v);
    tree_close(&t);
}
END_TEST

START_TEST(test_read_iterators_without_memory_fail_cleanly)
{
    struct random_state r = random_seeded(22);
    struct tree t;
    tree_open(&t, &r, 8);
    struct version *v = version_set_current(t.rig.set);
    const struct version_cf *cf = v->families[0];
    static const struct table_iter_options options = {.flags = 0};
    struct iter *children[64];
    size_t count = 1; /* somebody else's child stays */
    for (int64_t n = 0;; n++) {
        mem_fail_after(n, false);
        lsm_status status = version_iters(cf, &options, LSM_SLICE(NULL, 0), LSM_SLICE(NULL, 0),
                                          children, &count, NULL);
        mem_fail_after(-1, false);
        if (status == LSM_OK)
            break;
        ck_assert_int_eq(status, LSM_NO_MEMORY);
        ck_assert_uint_eq(count, 1);
    }
    ck_assert_uint_eq(count, 1 + version_iter_count(cf));
    while (count > 1)
        iter_release(children[--count]);
    version_drop(v);
    tree_close(&t);
}
END_TEST

/* ---- tables -----------------------------------------------------------------------------------
 */

/* A removed file stays readable as long as its version is held, and goes afterwards. */
START_TEST(test_read_removed_files_live_as_long_as_their_version)
{
    struct random_state r = random_seeded(5);
    struct tree t;
    tree_open(&t, &r, 8);
    struct version *v = version_set_current(t.rig.set);
    struct version_edit edit = {0};
    uint64_t numbers[4096];
    size_t count = 0;
    for (uint32_t l = 0; l < VERSION_LEVELS; l++) {
        for (size_t i = 0; i < v->families[0]->levels[l].count; i++) {
            numbers[count] = v->families[0]->levels[l].files[i]->meta.number;
            rig_ok(&t.rig, edit_remove_table(&edit, 0, l, numbers[count++], &t.rig.error));
        }
    }
    ck_assert_uint_gt(count, 3);
    struct iter *it = open_merged(&t, v->families[0], LSM_SLICE(NULL, 0), LSM_SLICE(NULL, 0));
    it->ops->first(it);
    rig_ok(&t.rig, version_set_apply(t.rig.set, &edit, &t.rig.error));
    edit_release(&edit);
    for (size_t i = 0; i < count; i++)
        ck_assert(rig_has_file(&t.rig, FILE_TABLE, numbers[i]));
    get_some(&t, v, &r, 300);
    size_t seen = 0;
    for (; it->valid; iter_next(it))
        check_at(&t, it, seen++);
    ck_assert_uint_eq(seen, t.count);
    iter_release(it);
    epoch_enter();
    version_drop(v); /* a reader is inside: it may have borrowed the version */
    ck_assert(rig_has_file(&t.rig, FILE_TABLE, numbers[0]));
    epoch_exit();
    version_set_clean(t.rig.set);
    for (size_t i = 0; i < count; i++)
        ck_assert(!rig_has_file(&t.rig, FILE_TABLE, numbers[i]));
    tree_close(&t);
}
END_TEST

/* A file that moved is one file: it stays as long as any version names it, at whatever level. */
START_TEST(test_read_moved_and_removed_file_lives_in_old_versions)
{
    struct random_state r = random_seeded(5);
    struct tree t;
    memset(&t, 0, sizeof t);
    t.key_count = 100;
    rig_open(&t.rig, 1);
    rig_ok(&t.rig, rig_create(&t.rig));
    struct version_edit edit = {0};
    add_level(&t, &r, 5, 1, &edit);
    rig_ok(&t.rig, version_set_apply(t.rig.set, &edit, &t.rig.error));
    edit_release(&edit);
    sort_entries(&t);
    struct version *old = version_set_current(t.rig.set);
    for (uint32_t from = 5; from < 7; from++) { /* a move, then the end */
        struct version *v = version_set_current(t.rig.set);
        const struct version_level *level = &v->families[0]->levels[from];
        ck_assert_uint_gt(level->count, 0);
        for (size_t i = 0; i < level->count; i++) {
            struct table_meta meta = level->files[i]->meta;
            rig_ok(&t.rig, edit_remove_table(&edit, 0, from, meta.number, &t.rig.error));
            meta.level = 6;
            if (from == 5)
                rig_ok(&t.rig, edit_add_table(&edit, &meta, &t.rig.error));
        }
        version_drop(v);
        rig_ok(&t.rig, version_set_apply(t.rig.set, &edit, &t.rig.error));
        edit_release(&edit);
    }
    version_set_clean(t.rig.set);
    get_some(&t, old, &r, 300);
    uint64_t number = old->families[0]->levels[5].files[0]->meta.number;
    ck_assert(rig_has_file(&t.rig, FILE_TABLE, number));
    version_drop(old);
    version_set_clean(t.rig.set);
    ck_assert(!rig_has_file(&t.rig, FILE_TABLE, number));
    tree_close(&t);
}
END_TEST

/* No more tables stay open than were asked for, but for those that are held. */
START_TEST(test_read_open_tables_are_limited)
{
    struct random_state r = random_seeded(17);
    struct tree t;
    memset(&t, 0, sizeof t);
    t.key_count = 900;
    rig_open(&t.rig, 1);
    t.rig.options.max_open_tables = 10;
    rig_ok(&t.rig, rig_create(&t.rig));
    struct version_edit edit = {0};
    add_level(&t, &r, 5, 1, &edit);
    add_level(&t, &r, 6, 4, &edit);
    ck_assert_uint_gt(edit.added_count, 20);
    rig_ok(&t.rig, version_set_apply(t.rig.set, &edit, &t.rig.error));
    edit_release(&edit);
    struct version *v = version_set_current(t.rig.set);
    const struct version_level *level = &v->families[0]->levels[6];
    struct table *table, *held[12];
    const struct table_pool *pool = &t.rig.set->pool;
    for (size_t i = 0; i < level->count; i++) {
        rig_ok(&t.rig, version_table_keep(level->files[i], &table, &t.rig.error));
        version_table_drop(level->files[i]);
        ck_assert_uint_le(pool->open_count, 10);
        ck_assert_ptr_null(pool->dead_tables); /* closed, not only forgotten */
    }
    for (size_t i = 0; i < 12; i++)
        rig_ok(&t.rig, version_table_keep(level->files[i], &held[i], &t.rig.error));
    version_set_clean(t.rig.set);
    for (size_t i = 0; i < 12; i++) { /* still usable */
        ck_assert_uint_gt(table_entry_count(held[i]), 0);
        version_table_drop(level->files[i]);
    }
    ck_assert_uint_eq(pool->open_count, 12);
    rig_ok(&t.rig, version_table_keep(level->files[13], &table, &t.rig.error));
    version_table_drop(level->files[13]);
    ck_assert_uint_le(pool->open_count, 10);
    version_drop(v);
    tree_close(&t);
}
END_TEST

/* Nor more bytes of them, and what they take the cache is told. */
START_TEST(test_read_open_tables_are_limited_in_bytes)
{
    struct random_state r = random_seeded(18);
    struct tree t;
    memset(&t, 0, sizeof t);
    t.key_count = 900;
    rig_open(&t.rig, 1);
    const uint64_t limit = t.rig.options.max_table_bytes = 8000;
    rig_ok(&t.rig, rig_create(&t.rig));
    struct version_edit edit = {0};
    add_level(&t, &r, 5, 1, &edit);
    add_level(&t, &r, 6, 4, &edit);
    rig_ok(&t.rig, version_set_apply(t.rig.set, &edit, &t.rig.error));
    edit_release(&edit);
    struct version *v = version_set_current(t.rig.set);
    const struct version_level *level = &v->families[0]->levels[6];
    struct table_pool *pool = &t.rig.set->pool;
    struct table *table;
    uint64_t most = 0;
    for (size_t i = 0; i < level->count; i++) {
        rig_ok(&t.rig, version_table_keep(level->files[i], &table, &t.rig.error));
        version_table_drop(level->files[i]);
        ck_assert_uint_eq(pool->open_bytes, table_pool_memory(pool));
        ck_assert_uint_le(pool->open_bytes, limit);
        most = pool->open_bytes > most ? pool->open_bytes : most;
    }
    ck_assert_uint_gt(most, limit / 2);
    ck_assert_uint_lt(pool->open_count, level->count);
    version_drop(v);
    tree_close(&t);
}
END_TEST

/* A file that cannot be unlinked is nobody's failure; the next recovery removes it. */
START_TEST(test_read_failed_unlink_is_made_good_at_recovery)
{
    struct rig r;
    rig_open(&r, 1);
    rig_ok(&r, rig_create(&r));
    struct version_edit edit = {0};
    uint64_t number = version_new_file_number(r.set);
    rig_ok(&r, rig_fake_table(&r, number, 5));
    struct table_meta meta = {.number = number, .size = 5, .entry_count = 1};
    rig_ok(&r, edit_add_table(&edit, &meta, &r.error));
    rig_ok(&r, version_set_apply(r.set, &edit, &r.error));
    edit_release(&edit);
    rig_ok(&r, edit_remove_table(&edit, 0, 0, number, &r.error));
    sim_fail_after(r.disk, SIM_FAULT_NAME, 0, EIO, true);
    rig_ok(&r, version_set_apply(r.set, &edit, &r.error));
    edit_release(&edit);
    sim_fail_never(r.disk);
    ck_assert(rig_has_file(&r, FILE_TABLE, number));
    rig_close_set(&r);
    rig_ok(&r, rig_recover(&r));
    ck_assert(!rig_has_file(&r, FILE_TABLE, number));
    rig_close(&r);
}
END_TEST

/* Every failing read and open is told with its file, and the next try succeeds. */
START_TEST(test_read_failures_are_told_and_pass)
{
    struct random_state r = random_seeded(9);
    struct tree t;
    tree_open(&t, &r, 8);
    struct version *v = version_set_current(t.rig.set);
    struct io_queue *queue;
    rig_ok(&t.rig, io_queue_open(t.rig.io, 32, &queue, &t.rig.error));
    size_t failures = 0;
    for (uint32_t i = 0; i < 400; i++) {
        char text[KEY_SIZE];
        lsm_slice k = make_key(&t, i % t.key_count, text);
        bool is_found;
        struct table_found found;
        lsm_error error = {0};
        sim_fail_after(t.rig.disk, i % 2 == 0 ? SIM_FAULT_READ : SIM_FAULT_OPEN, i % 3, EIO, false);
        epoch_enter();
        struct version_probe probe = {
            .key = k, .hash = hash_key(k.data, k.size), .max_sequence = ENTRY_MAX_SEQUENCE};
        lsm_status status;
        if (i % 5 == 0) {
            status = version_multi_get(v, v->families[0], &probe, 1, TABLE_NO_FILL, queue, &error);
            is_found = probe.is_found;
            found = probe.found;
        } else {
            status = version_get(v, v->families[0], k, hash_key(k.data, k.size), ENTRY_MAX_SEQUENCE,
                                 TABLE_NO_FILL, &is_found, &found, &error);
        }
        if (status == LSM_OK) {
            check_found(&t, i % t.key_count, ENTRY_MAX_SEQUENCE, is_found, &found);
            if (is_found && found.owned)
                block_drop(found.block);
        } else {
            ck_assert_int_eq(status, LSM_IO);
            ck_assert(!probe.is_found);
            ck_assert(strstr(error.message, ".sst") != NULL);
            failures++;
        }
        epoch_exit();
    }
    ck_assert_uint_gt(failures, 20);
    sim_fail_never(t.rig.disk);
    get_some(&t, v, &r, 200);
    io_queue_close(queue);
    version_drop(v);
    tree_close(&t);
}
END_TEST

/* A multi-get that fails hands out nothing, and keeps nothing of what it had found. */
START_TEST(test_read_failed_multi_get_keeps_nothing)
{
    struct random_state r = random_seeded(19);
    struct tree t;
    struct io_queue *queue;
    tree_open(&t, &r, 1000);
    struct version *v = version_set_current(t.rig.set);
    rig_ok(&t.rig, io_queue_open(t.rig.io, 32, &queue, &t.rig.error));
    size_t failures = 0;
    for (uint64_t n = 0; n < 60; n++) {
        struct version_probe probes[50];
        char texts[50][KEY_SIZE];
        for (uint32_t i = 0; i < 50; i++) {
            lsm_slice k = make_key(&t, (i * 7) % t.key_count, texts[i]);
            probes[i] = (struct version_probe){
                .key = k, .hash = hash_key(k.data, k.size), .max_sequence = ENTRY_MAX_SEQUENCE};
        }
        sim_fail_after(t.rig.disk, SIM_FAULT_READ, n, EIO, false);
        epoch_enter();
        lsm_status status =
            version_multi_get(v, v->families[0], probes, 50, TABLE_NO_FILL, queue, &t.rig.error);
        for (uint32_t i = 0; i < 50; i++) {
            ck_assert(status == LSM_OK || !probes[i].is_found);
            if (probes[i].is_found && probes[i].found.owned)
                block_drop(probes[i].found.block);
        }
        epoch_exit();
        sim_fail_never(t.rig.disk);
        failures += status != LSM_OK;
        ck_assert_uint_eq(io_queue_in_flight(queue), 0);
    }
    ck_assert_uint_gt(failures, 30);
    io_queue_close(queue);
    version_drop(v);
    tree_close(&t);
}
END_TEST

/* Out of descriptors: tables are given up and the read succeeds, unless its own epoch pins all. */
START_TEST(test_read_out_of_descriptors_gives_up_tables)
{
    struct random_state r = random_seeded(11);
    struct tree t;
    tree_open(&t, &r, 1000);
    struct version *v = version_set_current(t.rig.set);
    struct version_file *last = NULL;
    struct table *table;
    for (uint32_t l = 0; l < VERSION_LEVELS; l++) {
        for (size_t i = 0; i < v->families[0]->levels[l].count; i++) {
            struct version_file *file = v->families[0]->levels[l].files[i];
            if (last != NULL) {
                rig_ok(&t.rig, version_table_keep(last, &table, &t.rig.error));
                version_table_drop(last);
            }
            last = file;
        }
    }
    uint64_t before = version_set_memory(t.rig.set);
    ck_assert_uint_gt(before, 0);
    sim_fail_after(t.rig.disk, SIM_FAULT_OPEN, 0, EMFILE, false);
    rig_ok(&t.rig, version_table_keep(last, &table, &t.rig.error));
    version_table_drop(last);
    ck_assert_uint_lt(version_set_memory(t.rig.set), before);
    sim_fail_never(t.rig.disk);
    get_some(&t, v, &r, 200);
    version_drop(v);
    tree_close(&t);
}
END_TEST

/* ---- threads ----------------------------------------------------------------------------------
 */

struct crowd {
    struct tree *tree;
    uint64_t seed;
    _Atomic bool *stop;
};

static void *read_until_stopped(void *context)
{
    struct crowd *c = context;
    struct random_state r = random_seeded(c->seed);
    while (!atomic_load(c->stop)) {
        struct version *v = version_set_current(c->tree->rig.set);
        get_some(c->tree, v, &r, 10);
        version_drop(v);
    }
    return NULL;
}

/* Readers and one who installs versions: files move to another level and back. */
START_TEST(test_read_threads_see_the_same_while_versions_change)
{
    struct random_state r = random_seeded(13);
    struct tree t;
    tree_open(&t, &r, 8);
    _Atomic bool stop = false;
    pthread_t threads[3];
    struct crowd crowd[3];
    for (size_t i = 0; i < 3; i++) {
        crowd[i] = (struct crowd){&t, i, &stop};
        pthread_create(&threads[i], NULL, read_until_stopped, &crowd[i]);
    }
    for (int round = 0; round < 60; round++) {
        struct version *v = version_set_current(t.rig.set);
        const struct version_cf *cf = v->families[0];
        uint32_t from = 0;
        for (uint32_t l = 1; l + 1 < VERSION_LEVELS; l++)
            from = cf->levels[l].count > 0 && cf->levels[l + 1].count == 0 ? l : from;
        if (from == 0)
            from = VERSION_LEVELS - 1;
        struct version_edit edit = {.last_sequence = (uint64_t)round + 1000};
        uint32_t to = from + 1;
        for (size_t i = 0; to < VERSION_LEVELS && i < cf->levels[from].count; i++) {
            struct table_meta meta = cf->levels[from].files[i]->meta;
            meta.level = to;
            rig_ok(&t.rig, edit_remove_table(&edit, 0, from, meta.number, &t.rig.error));
            rig_ok(&t.rig, edit_add_table(&edit, &meta, &t.rig.error));
        }
        version_drop(v);
        rig_ok(&t.rig, version_set_apply(t.rig.set, &edit, &t.rig.error));
        edit_release(&edit);
        v = version_set_current(t.rig.set);
        get_some(&t, v, &r, 20);
        version_drop(v);
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    tree_close(&t);
}
END_TEST

/* ---- options ----------------------------------------------------------------------------------
 */

START_TEST(test_options_zeros_become_defaults_and_ranges_are_checked)
{
    lsm_cf_options given = LSM_CF_OPTIONS_INIT, o;
    lsm_error error;
    ck_assert_int_eq(version_resolve_cf_options(&given, &o, &error), LSM_OK);
    ck_assert(o.compression == LSM_COMPRESSION_ZSTD && o.compression_level == 1);
    ck_assert(o.block_size == 8192 && o.filter_bits == 12 && o.table_size == 32u << 20);
    ck_assert(o.level_base_size == 256u << 20 && o.level_ratio == 8 && o.dictionary_size == 0);
    ck_assert(o.level0_trigger == 4 && o.level0_slowdown == 12 && o.level0_stop == 20);
    given.filter_bits = LSM_NO_FILTER;
    given.level0_stop = 2;
    ck_assert_int_eq(version_resolve_cf_options(&given, &o, &error), LSM_OK);
    ck_assert_uint_eq(o.filter_bits, LSM_NO_FILTER);
    ck_assert(o.level0_trigger == 2 && o.level0_slowdown == 2 && o.level0_stop == 2);
    given.level0_trigger = 30;
    given.level0_stop = 0;
    ck_assert_int_eq(version_resolve_cf_options(&given, &o, &error), LSM_OK);
    ck_assert(o.level0_slowdown == 30 && o.level0_stop == 30);
    given.compression = (lsm_compression)3;
    ck_assert_int_eq(version_resolve_cf_options(&given, &o, &error), LSM_INVALID);
    given.compression = LSM_COMPRESSION_NONE;
    given.level0_stop = 2;
    given.level0_trigger = 3;
    ck_assert_int_eq(version_resolve_cf_options(&given, &o, &error), LSM_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "level0_trigger"));
    given = (lsm_cf_options)LSM_CF_OPTIONS_INIT;
    given.level_ratio = 1;
    ck_assert_int_eq(version_resolve_cf_options(&given, &o, &error), LSM_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "level_ratio"));
    given = (lsm_cf_options)LSM_CF_OPTIONS_INIT;
    given.block_size = 511;
    ck_assert_int_eq(version_resolve_cf_options(&given, &o, &error), LSM_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "block_size"));
    given = (lsm_cf_options)LSM_CF_OPTIONS_INIT;
    given.compression_level = 23;
    ck_assert_int_eq(version_resolve_cf_options(&given, &o, &error), LSM_INVALID);
    given = (lsm_cf_options){0};
    ck_assert_int_eq(version_resolve_cf_options(&given, &o, &error), LSM_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "struct_size"));
}
END_TEST

START_TEST(test_options_of_a_newer_caller_must_be_known)
{
    struct {
        lsm_cf_options options;
        uint64_t more;
    } newer = {.options = {.struct_size = sizeof newer}};
    lsm_cf_options o;
    ck_assert_int_eq(version_resolve_cf_options(&newer.options, &o, NULL), LSM_OK);
    ck_assert_uint_eq(o.struct_size, sizeof o);
    newer.more = 1;
    ck_assert_int_eq(version_resolve_cf_options(&newer.options, &o, NULL), LSM_INVALID);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("read");
    TCase *tcase = tcase_create("read");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_read_gets_agree_with_the_reference);
    tcase_add_test(tcase, test_read_multi_get_submits_once_a_round);
    tcase_add_test(tcase, test_read_multi_get_reads_a_block_once);
    tcase_add_test(tcase, test_read_iterators_agree_with_the_reference);
    tcase_add_test(tcase, test_read_iterators_leave_out_files_outside_the_range);
    tcase_add_test(tcase, test_read_iterators_tell_failing_reads);
    tcase_add_test(tcase, test_read_iterators_without_memory_fail_cleanly);
    tcase_add_test(tcase, test_read_removed_files_live_as_long_as_their_version);
    tcase_add_test(tcase, test_read_moved_and_removed_file_lives_in_old_versions);
    tcase_add_test(tcase, test_read_open_tables_are_limited);
    tcase_add_test(tcase, test_read_open_tables_are_limited_in_bytes);
    tcase_add_test(tcase, test_read_failed_multi_get_keeps_nothing);
    tcase_add_test(tcase, test_read_failed_unlink_is_made_good_at_recovery);
    tcase_add_test(tcase, test_read_failures_are_told_and_pass);
    tcase_add_test(tcase, test_read_out_of_descriptors_gives_up_tables);
    tcase_add_test(tcase, test_read_threads_see_the_same_while_versions_change);
    tcase_add_test(tcase, test_options_zeros_become_defaults_and_ranges_are_checked);
    tcase_add_test(tcase, test_options_of_a_newer_caller_must_be_known);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
