/* Tables against a sorted array: everything that was written is found, both ways, and no more. */
#include "tests/unit/sst/fixture.h"

static uint64_t seed;

static void check_get(struct table *t, const struct entries *e, lsm_slice key, uint64_t sequence,
                      unsigned flags)
{
    bool is_found = false;
    struct table_found found;
    uint64_t hash = hash_key(key.data, key.size);
    epoch_enter();
    ck_ok(table_get(t, key, hash, sequence, flags, &is_found, &found, &f.error));
    const struct entry *wanted = entries_get(e, key, sequence);
    ck_assert_int_eq(is_found, wanted != NULL);
    if (is_found) {
        ck_assert_uint_eq(found.trailer, wanted->trailer);
        ck_assert(slice_equal(found.value, wanted->value));
        if (found.owned)
            block_drop(found.block);
    }
    epoch_exit();
}

/* The same through a queue. */
static void check_probe(struct table *t, const struct entries *e, lsm_slice key, uint64_t sequence)
{
    struct table_probe p = {.table = t, .key = key, .max_sequence = sequence};
    enum table_probe_state state;
    p.hash = hash_key(key.data, key.size);
    p.request.owner = &p;
    table_prefetch_filter(t, p.hash);
    epoch_enter();
    ck_ok(table_probe_begin(&p, &state, &f.error));
    if (state == TABLE_PROBE_READ) {
        struct io_queue *queue;
        ck_ok(io_queue_open(f.io, 4, &queue, &f.error));
        io_queue_push(queue, &p.request);
        ck_ok(io_queue_submit(queue, &f.error));
        ck_assert_ptr_eq(io_queue_reap(queue, true)->owner, &p);
        ck_ok(table_probe_finish(&p, &state, &f.error));
        io_queue_close(queue);
    }
    const struct entry *wanted = entries_get(e, key, sequence);
    ck_assert_int_eq(state, wanted != NULL ? TABLE_PROBE_FOUND : TABLE_PROBE_ABSENT);
    if (wanted != NULL) {
        ck_assert_uint_eq(p.found.trailer, wanted->trailer);
        ck_assert(slice_equal(p.found.value, wanted->value));
        if (p.found.owned)
            block_drop(p.found.block);
    }
    epoch_exit();
}

static void check_at(const struct iter *it, const struct entries *e, size_t index)
{
    ck_assert_msg(it->status == LSM_OK, "%s", f.error.message);
    ck_assert_int_eq(it->valid, index < e->count);
    if (!it->valid)
        return;
    const struct entry *wanted = &e->at[index];
    ck_assert(slice_equal(it->key, wanted->key));
    ck_assert_uint_eq(it->trailer, wanted->trailer);
    ck_assert(slice_equal(it->value, wanted->value));
    ck_assert_uint_eq(it->head, bytes_head(it->key.data, it->key.size));
}

static void check_scan(struct table *t, const struct entries *e, struct table_iter_options options)
{
    struct iter *it;
    ck_ok(table_iter_new(t, &options, &it, &f.error));
    size_t i = 0;
    for (it->ops->first(it); it->valid; iter_next(it))
        check_at(it, e, i++);
    check_at(it, e, i);
    ck_assert_uint_eq(i, e->count);
    for (it->ops->last(it); it->valid; iter_prev(it))
        check_at(it, e, --i);
    check_at(it, e, e->count);
    ck_assert_uint_eq(i, 0);
    iter_release(it);
}

/* A wanted key: one that is there, or near one. */
static lsm_slice pick_key(struct random_state *r, const struct entries *e, enum key_shape shape,
                          uint8_t *memory)
{
    lsm_slice key = e->at[random_below(r, e->count)].key;
    if (random_below(r, 3) == 0)
        return (lsm_slice){memory, make_key(r, shape, memory)};
    memcpy(memory, key.data, key.size);
    if (random_below(r, 3) > 0)
        return (lsm_slice){memory, key.size};
    size_t size = key.size;
    if (size > 0 && random_below(r, 2) == 0)
        memory[random_below(r, size)] ^= (uint8_t)(1u << random_below(r, 8));
    else if (size > 0 && random_below(r, 2) == 0)
        size--;
    else if (size < LSM_MAX_KEY_SIZE)
        memory[size++] = (uint8_t)(random_below(r, 2) == 0 ? 0 : 255);
    return (lsm_slice){memory, size};
}

static void check_seeks(struct table *t, const struct entries *e, struct random_state *r,
                        enum key_shape shape, size_t count)
{
    static uint8_t memory[LSM_MAX_KEY_SIZE + 64];
    struct iter *it;
    ck_ok(table_iter_new(t, &(struct table_iter_options){0}, &it, &f.error));
    for (size_t n = 0; n < count; n++) {
        lsm_slice key = pick_key(r, e, shape, memory);
        uint64_t trailer =
            random_below(r, 2) ? ENTRY_MAX_TRAILER : entry_seek_trailer(random_below(r, 100001));
        if (random_below(r, 4) == 0)
            trailer = e->at[random_below(r, e->count)].trailer;
        size_t at = entries_seek(e, key, trailer);
        iter_seek(it, key, trailer);
        check_at(it, e, at);
        for (size_t i = 0; i < 3 && it->valid; i++) {
            iter_next(it);
            check_at(it, e, ++at);
        }
        at = entries_seek(e, key, trailer);
        bool exact =
            at < e->count && entry_compare(e->at[at].key, e->at[at].trailer, key, trailer) == 0;
        it->ops->seek_for_prev(it, key, trailer);
        check_at(it, e, exact ? at : at - 1);
        for (size_t i = 0; i < 3 && it->valid; i++) {
            at = exact ? at : at - 1;
            exact = false;
            iter_prev(it);
            check_at(it, e, at - 1);
        }
    }
    iter_release(it);
}

static void check_gets(struct table *t, const struct entries *e, struct random_state *r,
                       enum key_shape shape, size_t count)
{
    static uint8_t memory[LSM_MAX_KEY_SIZE + 64];
    for (size_t n = 0; n < count; n++) {
        lsm_slice key = pick_key(r, e, shape, memory);
        uint64_t sequence = random_below(r, 2) ? ENTRY_MAX_SEQUENCE : random_below(r, 100001);
        check_get(t, e, key, sequence, random_below(r, 4) == 0 ? TABLE_NO_FILL : 0);
        check_probe(t, e, key, sequence);
    }
}

static void check_meta(const struct table_meta *m, const struct entries *e, struct table *t)
{
    ck_assert_uint_eq(m->entry_count, e->count);
    ck_assert(slice_equal(m->smallest, e->at[0].key));
    ck_assert(slice_equal(m->largest, e->at[e->count - 1].key));
    uint64_t deletes = 0, raw = 0, min = UINT64_MAX, max = 0;
    for (size_t i = 0; i < e->count; i++) {
        uint64_t sequence = entry_sequence(e->at[i].trailer);
        deletes += entry_type_of(e->at[i].trailer) == ENTRY_DELETE;
        raw += e->at[i].key.size + e->at[i].value.size;
        min = sequence < min ? sequence : min;
        max = sequence > max ? sequence : max;
    }
    ck_assert_uint_eq(m->delete_count, deletes);
    ck_assert_uint_eq(m->raw_size, raw);
    ck_assert_uint_eq(m->min_sequence, min);
    ck_assert_uint_eq(m->max_sequence, max);
    const struct table_properties *p = table_properties(t);
    ck_assert_uint_eq(p->entry_count, e->count);
    ck_assert_uint_eq(p->max_sequence, max);
    ck_assert(slice_equal(p->largest, m->largest));
    ck_assert_uint_eq(table_entry_count(t), e->count);
    ck_assert_uint_ge(table_range_bytes(t, LSM_SLICE(NULL, 0), LSM_SLICE(NULL, 0)), p->data_size);
}

static struct table_write_options random_options(struct random_state *r, uint64_t number)
{
    struct table_write_options o = write_options(number);
    o.block_size = (uint32_t)(512u << random_below(r, 8));
    o.filter_bits = random_below(r, 3) == 0 ? 0 : 1 + (uint32_t)random_below(r, 20);
    o.compress = random_below(r, 2) == 0;
    o.compression_level = (int)random_below(r, 4) - 1;
    o.dictionary_size = random_below(r, 2) == 0 ? 4096 : 0;
    return o;
}

START_TEST(test_table_random_entries_agree_with_an_array)
{
    struct random_state r = random_seeded(seed + (uint64_t)_i);
    static const uint64_t capacities[] = {0, 20000, UINT64_C(64) << 20};
    fixture_open(seed, capacities[random_below(&r, 3)]);
    enum key_shape shape = (enum key_shape)(_i % KEY_SHAPES);
    size_t count = shape == KEYS_LONG ? 1 + random_below(&r, 300) : 1 + random_below(&r, 4000);
    size_t versions = random_below(&r, 3) == 0 ? 1 + random_below(&r, 2000) : 3;
    size_t max_value = random_below(&r, 4) == 0 ? 0 : 1 + random_below(&r, 3000);
    struct entries e = make_entries(&r, count, shape, versions, max_value);
    struct table_write_options options = random_options(&r, 3);
    struct table_meta meta = write_table(&e, &options);
    struct table *t;
    ck_ok(table_open(&f.env, 3, meta.size, &t, &f.error));
    check_meta(&meta, &e, t);
    check_scan(t, &e, (struct table_iter_options){0});
    check_scan(t, &e, (struct table_iter_options){.whole = true, .flags = TABLE_NO_FILL});
    check_scan(t, &e, (struct table_iter_options){.readahead = 100000});
    check_seeks(t, &e, &r, shape, 150);
    check_gets(t, &e, &r, shape, 300);
    table_close(t);
    table_meta_release(&meta);
    free_entries(&e);
    fixture_close();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("table");
    TCase *c = tcase_create("table");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, test_table_random_entries_agree_with_an_array, 0, 48);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    const char *given = getenv("TEST_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
