/* Tables against a sorted array: everything that was written is found, both ways, and no more. */
#include "tests/unit/sst/fixture.h"

#include "engine/format/table_format.h"
#include "engine/sst/table_output.h"

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
    ck_assert(slice_equal(it->entry->key, wanted->key));
    ck_assert_uint_eq(it->entry->trailer, wanted->trailer);
    ck_assert(slice_equal(it->entry->value, wanted->value));
    ck_assert_uint_eq(it->entry->head, bytes_head(it->entry->key.data, it->entry->key.size));
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
    f.env.is_buffered = _i % 4 == 3;
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

/* ---- chosen tables --------------------------------------------------------------------------- */

static struct table *write_and_open(const struct entries *e, struct table_write_options options)
{
    struct table_meta meta = write_table(e, &options);
    struct table *t;
    ck_ok(table_open(&f.env, options.number, meta.size, &t, &f.error));
    check_meta(&meta, e, t);
    table_meta_release(&meta);
    return t;
}

/* Leaves one entry a key, and gives all of them the sequence number. */
static void make_of_one_sequence(struct entries *e, uint64_t sequence)
{
    size_t kept = 0;
    for (size_t i = 0; i < e->count; i++) {
        struct entry *entry = &e->at[i];
        if (kept > 0 && slice_equal(e->at[kept - 1].key, entry->key)) {
            free((void *)(uintptr_t)entry->key.data);
            free((void *)(uintptr_t)entry->value.data);
            continue;
        }
        entry->trailer = entry_trailer(sequence, entry_type_of(entry->trailer));
        e->at[kept++] = *entry;
    }
    e->count = kept;
}

static struct table_meta write_sealed(const struct entries *e,
                                      const struct table_write_options *options, uint64_t sequence)
{
    struct table_writer *w = NULL;
    struct table_meta meta = {0};
    ck_ok(table_writer_new(&f.env, options, &w, &f.error));
    for (size_t i = 0; i < e->count; i++)
        ck_ok(table_writer_add(w, e->at[i].key, entry_type_of(e->at[i].trailer), e->at[i].value,
                               &f.error));
    ck_ok(table_writer_seal(w, &f.error));
    struct table *t = NULL;
    ck_assert_int_eq(table_open(&f.env, options->number, 0, &t, NULL), LSM_CORRUPT);
    ck_assert(slice_equal(table_writer_sealed(w)->smallest, e->at[0].key));
    ck_assert_uint_eq(table_writer_sealed(w)->entry_count, e->count);
    ck_ok(table_writer_end(w, sequence, &f.error));
    ck_ok(table_writer_settle(w, &meta, &f.error));
    return meta;
}

START_TEST(test_table_sealed_shows_the_sequence_it_ended_with)
{
    struct random_state r = random_seeded(seed + (uint64_t)_i);
    fixture_open(seed, _i % 2 == 0 ? 0 : 64 << 20);
    enum key_shape shape = (enum key_shape)(_i % KEY_SHAPES);
    size_t count = shape == KEYS_LONG ? 1 + random_below(&r, 300) : 1 + random_below(&r, 20000);
    uint64_t sequence = _i == 0 ? 0 : _i == 1 ? ENTRY_MAX_SEQUENCE : random_next(&r) >> 8;
    struct entries e = make_entries(&r, count, shape, 1, 1 + random_below(&r, 300));
    make_of_one_sequence(&e, sequence);
    struct table_write_options options = random_options(&r, 3);
    struct table_meta meta = write_sealed(&e, &options, sequence);
    struct table *t;
    ck_ok(table_open(&f.env, 3, meta.size, &t, &f.error));
    check_meta(&meta, &e, t);
    check_scan(t, &e, (struct table_iter_options){0});
    check_scan(t, &e, (struct table_iter_options){.whole = true, .flags = TABLE_NO_FILL});
    check_seeks(t, &e, &r, shape, 150);
    check_gets(t, &e, &r, shape, 300);
    table_close(t);
    table_meta_release(&meta);
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_writer_does_not_seal_entries_with_sequences)
{
    fixture_open(seed, 0);
    for (int versions = 0; versions < 2; versions++) {
        struct table_write_options options = write_options(5);
        struct table_writer *w = NULL;
        ck_ok(table_writer_new(&f.env, &options, &w, &f.error));
        ck_ok(table_writer_add(w, LSM_SLICE("a", 1), versions ? ENTRY_PUT : 256, LSM_SLICE("", 0),
                               &f.error));
        if (versions)
            ck_ok(table_writer_add(w, LSM_SLICE("a", 1), ENTRY_DELETE, LSM_SLICE("", 0), &f.error));
        ck_assert_int_eq(table_writer_seal(w, &f.error), LSM_INVALID);
        struct table *t = NULL;
        ck_assert_int_eq(table_open(&f.env, 5, 0, &t, NULL), LSM_MISSING);
    }
    fixture_close();
}
END_TEST

START_TEST(test_table_versions_of_one_key_go_over_many_blocks)
{
    enum { VERSIONS = 3000 };
    fixture_open(seed, 100000);
    struct entries e = {calloc(VERSIONS + 2, sizeof(struct entry)), 0};
    struct random_state r = random_seeded(seed);
    e.at[e.count++] = (struct entry){own_bytes("a", 1), 256, own_bytes("", 0)};
    for (uint64_t i = VERSIONS; i > 0; i--)
        e.at[e.count++] = (struct entry){own_bytes("many", 4), entry_trailer(i * 2, ENTRY_PUT),
                                         make_value(&r, 200)};
    e.at[e.count++] = (struct entry){own_bytes("many2", 5), 256, own_bytes("", 0)};
    struct table_write_options options = write_options(2);
    options.block_size = 512;
    struct table *t = write_and_open(&e, options);
    ck_assert_uint_gt(table_properties(t)->block_count, 50);
    ck_assert_uint_eq(table_properties(t)->key_count, 3);
    for (uint64_t sequence = 0; sequence < VERSIONS * 2 + 3; sequence++) {
        check_get(t, &e, LSM_SLICE("many", 4), sequence, 0);
        if (sequence % 5 == 0)
            check_probe(t, &e, LSM_SLICE("many", 4), sequence);
    }
    check_scan(t, &e, (struct table_iter_options){0});
    check_seeks(t, &e, &r, KEYS_SHORT, 500);
    table_close(t);
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_table_giant_entries_are_read_back)
{
    fixture_open(seed, _i % 2 == 0 ? 0 : 64 << 20);
    struct entries e = {calloc(6, sizeof(struct entry)), 0};
    struct random_state r = random_seeded(seed);
    uint8_t *key = malloc(LSM_MAX_KEY_SIZE);
    memset(key, 'k', LSM_MAX_KEY_SIZE);
    for (size_t i = 0; i < 6; i++) {
        size_t size = i % 2 == 0 ? 10 : (size_t)(1 + i) << 20;
        uint8_t *value = malloc(size);
        for (size_t j = 0; j < size; j++)
            value[j] = (uint8_t)(_i < 2 ? j / 64 : random_next(&r));
        key[LSM_MAX_KEY_SIZE - 1] = (uint8_t)i;
        e.at[e.count++] = (struct entry){own_bytes(key, LSM_MAX_KEY_SIZE - (i == 0)),
                                         entry_trailer(i + 1, ENTRY_PUT),
                                         {value, size}};
    }
    struct table_write_options options = write_options(2);
    options.compress = _i < 2;
    struct table *t = write_and_open(&e, options);
    ck_assert_int_eq(table_properties(t)->compressed, _i < 2);
    for (size_t i = 0; i < e.count; i++) {
        check_get(t, &e, e.at[i].key, ENTRY_MAX_SEQUENCE, 0);
        check_probe(t, &e, e.at[i].key, ENTRY_MAX_SEQUENCE);
    }
    check_scan(t, &e, (struct table_iter_options){0});
    check_scan(t, &e, (struct table_iter_options){.whole = true});
    table_close(t);
    free(key);
    free_entries(&e);
    fixture_close();
}
END_TEST

static uint64_t reads_of_scan(struct table *t, const struct entries *e,
                              struct table_iter_options options)
{
    uint64_t before = sim_operation_count(f.disk, SIM_FAULT_READ);
    struct iter *it;
    ck_ok(table_iter_new(t, &options, &it, &f.error));
    size_t i = 0;
    for (it->ops->first(it); it->valid; iter_next(it))
        check_at(it, e, i++);
    ck_assert_uint_eq(i, e->count);
    iter_release(it);
    return sim_operation_count(f.disk, SIM_FAULT_READ) - before;
}

START_TEST(test_table_scan_reads_ahead_in_large_pieces_and_only_what_is_not_cached)
{
    fixture_open(seed, 64 << 20);
    struct random_state r = random_seeded(seed);
    struct entries e = make_entries(&r, 8000, KEYS_BINARY, 1, 2000);
    struct table *t = write_and_open(&e, write_options(2));
    const struct table_properties *p = table_properties(t);
    ck_assert_uint_gt(p->data_size, 1 << 20);
    uint64_t whole =
        reads_of_scan(t, &e, (struct table_iter_options){.whole = true, .flags = TABLE_NO_FILL});
    ck_assert_uint_le(whole, p->data_size / (200 << 10) + 2);
    ck_assert_uint_eq(block_cache_bytes(f.env.cache), 0);
    /* Two blocks alone, then windows of 16 KiB, 32 KiB, ... 1 MiB. */
    uint64_t grown = reads_of_scan(t, &e, (struct table_iter_options){0});
    ck_assert_uint_le(grown, 2 + 7 + p->data_size / (900 << 10));
    ck_assert_uint_gt(block_cache_bytes(f.env.cache), 0);
    ck_assert_uint_eq(reads_of_scan(t, &e, (struct table_iter_options){0}), 0);
    ck_assert_uint_eq(reads_of_scan(t, &e, (struct table_iter_options){.whole = true}), 0);
    table_close(t);
    free_entries(&e);
    fixture_close();
}
END_TEST

/* The digest in the properties is that of the file's bytes, in pieces of 1 MiB. */
START_TEST(test_table_digest_and_lineage_are_in_the_properties)
{
    static const uint64_t replaced[] = {11, 12, 13};
    fixture_open(seed, 0);
    struct random_state r = random_seeded(seed);
    struct entries e = make_entries(&r, 5000, KEYS_BINARY, 1, 8000);
    struct table_write_options options = write_options(2);
    options.job = 9;
    options.output_index = 4;
    options.replaced = replaced;
    options.replaced_count = 3;
    struct table *t = write_and_open(&e, options);
    const struct table_properties *p = table_properties(t);
    const void *bytes;
    size_t size;
    ck_ok(sim_contents(f.disk, FIXTURE_DIR, "000002.sst", &bytes, &size, &f.error));
    uint64_t digest = 0;
    ck_assert_uint_gt(p->digest_size, 2 << 20);
    for (uint64_t at = 0; at < p->digest_size; at += TABLE_DIGEST_PIECE) {
        uint64_t left = p->digest_size - at;
        digest = table_digest_add(digest, (const uint8_t *)bytes + at,
                                  left < TABLE_DIGEST_PIECE ? (size_t)left : TABLE_DIGEST_PIECE);
    }
    ck_assert_uint_eq(p->digest, digest);
    ck_assert_uint_eq(p->job, 9);
    ck_assert_uint_eq(p->output_index, 4);
    ck_assert_uint_eq(p->replaced_count, 3);
    ck_assert_mem_eq(p->replaced, replaced, sizeof replaced);
    ck_assert_uint_eq(p->cf, 7);
    ck_assert(slice_equal(p->cf_name, slice_of_text("family")));
    ck_assert_uint_eq(p->level, 2);
    table_close(t);
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_table_range_bytes_follow_the_share_of_keys)
{
    fixture_open(seed, 0);
    struct entries e = {calloc(10000, sizeof(struct entry)), 0};
    for (unsigned i = 0; i < 10000; i++) {
        char key[20];
        lsm_slice made = {key, (size_t)sprintf(key, "%08u", i)};
        e.at[e.count++] = (struct entry){own_bytes(made.data, made.size),
                                         entry_trailer(1, ENTRY_PUT), own_bytes("0123456789", 10)};
    }
    struct table *t = write_and_open(&e, write_options(2));
    uint64_t all = table_range_bytes(t, LSM_SLICE(NULL, 0), LSM_SLICE(NULL, 0));
    uint64_t half = table_range_bytes(t, LSM_SLICE("00005000", 8), LSM_SLICE(NULL, 0));
    uint64_t tenth = table_range_bytes(t, LSM_SLICE("00001000", 8), LSM_SLICE("00002000", 8));
    ck_assert_uint_ge(half, all * 4 / 10);
    ck_assert_uint_le(half, all * 6 / 10);
    ck_assert_uint_ge(tenth, all / 20);
    ck_assert_uint_le(tenth, all / 6);
    ck_assert_uint_eq(table_range_bytes(t, LSM_SLICE("00010000", 8), LSM_SLICE(NULL, 0)), 0);
    ck_assert_uint_eq(table_range_bytes(t, LSM_SLICE(NULL, 0), LSM_SLICE("00000000", 8)), 0);
    ck_assert_uint_eq(table_range_bytes(t, LSM_SLICE("5", 1), LSM_SLICE("4", 1)), 0);
    ck_assert_uint_gt(table_memory(t), 10000 * 12 / 8);
    table_close(t);
    free_entries(&e);
    fixture_close();
}
END_TEST

static struct entries noise_entries(size_t count, size_t value_size)
{
    struct random_state r = random_seeded(seed);
    struct entries e = {calloc(count, sizeof(struct entry)), 0};
    for (size_t i = 0; i < count; i++) {
        char key[20];
        uint8_t *value = malloc(value_size);
        for (size_t j = 0; j < value_size; j++)
            value[j] = (uint8_t)random_next(&r);
        lsm_slice made = {key, (size_t)sprintf(key, "%08u", (unsigned)i)};
        e.at[e.count++] = (struct entry){
            own_bytes(made.data, made.size), entry_trailer(1, ENTRY_PUT), {value, value_size}};
    }
    return e;
}

START_TEST(test_table_that_does_not_shrink_gives_compression_up)
{
    fixture_open(seed, 0);
    /* A dictionary knows a part of the blocks that it was made from: smaller values would shrink.
     */
    struct entries e = noise_entries(500, _i == 0 ? 300 : 800);
    struct table_write_options options = write_options(2);
    options.compress = true;
    options.dictionary_size = _i == 0 ? 0 : 1024;
    struct table *t = write_and_open(&e, options);
    ck_assert(!table_properties(t)->compressed);
    check_scan(t, &e, (struct table_iter_options){0});
    table_close(t);
    free_entries(&e);
    fixture_close();
}
END_TEST

enum value_kind {
    VALUES_NOISE,
    VALUES_KNOWN, /* noise that comes again a block further on */
    VALUES_ZEROS,
};

/* Entries with keys in order. */
static void append_entries(struct entries *e, struct random_state *r, size_t count, size_t size,
                           enum value_kind kind)
{
    struct random_state known = random_seeded(seed + 1);
    for (size_t i = 0; i < count; i++) {
        char key[20];
        uint8_t *value = calloc(1, size);
        if (kind == VALUES_KNOWN && i % 24 == 0)
            known = random_seeded(seed + 1);
        for (size_t j = 0; j < size && kind != VALUES_ZEROS; j++)
            value[j] = (uint8_t)random_next(kind == VALUES_KNOWN ? &known : r);
        lsm_slice made = {key, (size_t)sprintf(key, "%08u", (unsigned)e->count)};
        e->at[e->count++] = (struct entry){
            own_bytes(made.data, made.size), entry_trailer(1, ENTRY_PUT), {value, size}};
    }
}

/* The first blocks are what the dictionary was made from: neither that they shrink nor that they do
 * not says anything of those that come after them. */
START_TEST(test_table_judges_compression_by_blocks_its_dictionary_does_not_know)
{
    enum { DICTIONARY = 8192, TRAINED = 100 * DICTIONARY / 340, MOST = 3 * TRAINED };
    fixture_open(seed, 0);
    struct random_state r = random_seeded(seed);
    struct entries e = {calloc(MOST, sizeof(struct entry)), 0};
    bool shrinks_later = _i == 1;
    if (shrinks_later)
        append_entries(&e, &r, 100, 300, VALUES_NOISE);
    append_entries(&e, &r, TRAINED - e.count, 300, VALUES_KNOWN);
    append_entries(&e, &r, shrinks_later ? 0 : 600, 300, VALUES_NOISE);
    size_t judged = e.count;
    append_entries(&e, &r, MOST - e.count, 300, VALUES_ZEROS);
    struct table_write_options options = write_options(2);
    options.compress = true;
    options.dictionary_size = DICTIONARY;
    struct table *t = write_and_open(&e, options);
    ck_assert(table_properties(t)->compressed);
    struct io_entry file;
    ck_ok(io_dir_describe(f.dir, "000002.sst", &file, &f.error));
    uint64_t last = (MOST - judged) * 300;
    if (shrinks_later)
        ck_assert_uint_lt(file.size, last);
    else
        ck_assert_uint_ge(file.size, last);
    check_scan(t, &e, (struct table_iter_options){0});
    table_close(t);
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_output_goes_past_the_page_cache_unless_told)
{
    fixture_open(seed, 0);
    f.env.is_buffered = _i == 1;
    struct table_output o;
    struct buffer tail = {0};
    ck_ok(table_output_open(&o, &f.env, "000009.sst", 0, &f.error));
    ck_assert_int_eq(io_file_is_direct(o.file), _i == 0);
    ck_ok(table_output_append(&o, "some bytes", 10, &f.error));
    ck_ok(table_output_suspend(&o, &tail, &f.error));
    ck_ok(table_output_resume(&o, &f.env, "000009.sst", buffer_slice(&tail), 10, &f.error));
    ck_assert_int_eq(io_file_is_direct(o.file), _i == 0);
    ck_assert_uint_eq(table_output_size(&o), 10);
    table_output_close(&o);
    buffer_release(&tail);
    fixture_close();
}
END_TEST

/* Through the page cache the thread itself writes each piece, past it a queue does. */
START_TEST(test_output_in_pieces_uses_a_queue_past_the_page_cache_alone)
{
    const size_t pieces = 5, rest = IO_ALIGNMENT, size = pieces * TABLE_DIGEST_PIECE + rest;
    uint8_t *bytes = mem_alloc(size), *got = mem_alloc_aligned(IO_ALIGNMENT, size);
    ck_assert(bytes != NULL && got != NULL);
    struct random_state r = random_seeded(seed);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)random_next(&r);
    fixture_open(seed, 0);
    f.env.is_buffered = _i == 1;
    struct table_output o;
    ck_ok(table_output_open(&o, &f.env, "000009.sst", NULL, &f.error));
    for (size_t at = 0, part = 0; at < size; at += part) {
        part = 1 + (size_t)random_below(&r, 300000);
        part = part < size - at ? part : size - at;
        ck_ok(table_output_append(&o, bytes + at, part, &f.error));
    }
    ck_assert_uint_eq(table_output_size(&o), size);
    ck_assert(_i == 1 ? o.queue == NULL : o.queue != NULL);
    ck_ok(table_output_flush(&o, &f.error));
    ck_ok(table_output_sync(&o, &f.error));
    ck_assert_uint_eq(sim_operation_count(f.disk, SIM_FAULT_WRITE), pieces + 1);
    ck_ok(io_file_read_exact(o.file, got, size, 0, &f.error));
    ck_assert_mem_eq(got, bytes, size);
    table_output_close(&o);
    mem_free(bytes);
    mem_free(got);
    fixture_close();
}
END_TEST

START_TEST(test_writer_size_foretells_the_file)
{
    fixture_open(seed, 0);
    struct entries e = noise_entries(8000, 100);
    struct table_write_options options = write_options(2);
    options.rate = UINT64_C(4) << 30; /* paid by sleeping some milliseconds */
    struct table_writer *w;
    struct table_meta meta;
    ck_ok(table_writer_new(&f.env, &options, &w, &f.error));
    for (size_t i = 0; i < e.count; i++)
        ck_ok(table_writer_add(w, e.at[i].key, e.at[i].trailer, e.at[i].value, &f.error));
    uint64_t foretold = table_writer_size(w);
    ck_ok(table_writer_finish(w, &meta, &f.error));
    ck_assert_uint_ge(meta.size, foretold - foretold / 50);
    ck_assert_uint_le(meta.size, foretold + foretold / 50);
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
    tcase_add_loop_test(c, test_table_random_entries_agree_with_an_array, 0, 24);
    tcase_add_loop_test(c, test_table_sealed_shows_the_sequence_it_ended_with, 0, 18);
    tcase_add_test(c, test_writer_does_not_seal_entries_with_sequences);
    tcase_add_test(c, test_table_versions_of_one_key_go_over_many_blocks);
    tcase_add_loop_test(c, test_table_giant_entries_are_read_back, 0, 4);
    tcase_add_test(c, test_table_scan_reads_ahead_in_large_pieces_and_only_what_is_not_cached);
    tcase_add_test(c, test_table_digest_and_lineage_are_in_the_properties);
    tcase_add_loop_test(c, test_table_that_does_not_shrink_gives_compression_up, 0, 2);
    tcase_add_loop_test(c, test_table_judges_compression_by_blocks_its_dictionary_does_not_know, 0,
                        2);
    tcase_add_loop_test(c, test_output_goes_past_the_page_cache_unless_told, 0, 2);
    tcase_add_loop_test(c, test_output_in_pieces_uses_a_queue_past_the_page_cache_alone, 0, 2);
    tcase_add_test(c, test_writer_size_foretells_the_file);
    tcase_add_test(c, test_table_range_bytes_follow_the_share_of_keys);
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
