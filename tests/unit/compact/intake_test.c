/*
 * What an intake puts aside and takes back: the order of chunks, spills in pieces, and runs that
 * are too many to be merged at once.
 */
#include "tests/unit/version/rig.h"

#include "engine/compact/intake_private.h"

#define FAMILY       3
#define MEMORY       ((size_t)64 << 10) /* the least that an ingest may have */
#define MANY_ENTRIES 30000
#define MANY_KEYS    9000
#define LARGE_VALUE  500 /* bytes: so much is merged in parts */

static uint64_t seed;

/* ---- chunks ---------------------------------------------------------------------------------- */

enum key_style {
    KEYS_RANDOM,
    KEYS_DIGITS,
    KEYS_FEW,    /* most are there several times */
    KEYS_TWO,    /* only two of them */
    KEYS_NESTED, /* long beginnings in common, in several steps */
    KEYS_SHORT,  /* also empty, and zeros at the end */
    KEY_STYLES,
};

static lsm_slice make_key(struct random_state *random, enum key_style style, char text[128])
{
    uint64_t value = random_next(random);
    int size = 0;
    switch (style) {
    case KEYS_RANDOM:
        memcpy(text, &value, sizeof value);
        return LSM_SLICE(text, sizeof value);
    case KEYS_DIGITS:
        size = snprintf(text, 128, "%016llu", (unsigned long long)(value % 10000000));
        return LSM_SLICE(text, (size_t)size);
    case KEYS_FEW:
        size = snprintf(text, 128, "user/%04llu", (unsigned long long)(value % 1000));
        return LSM_SLICE(text, (size_t)size);
    case KEYS_TWO:
        return LSM_SLICE(value % 2 == 0 ? "one" : "two", 3);
    case KEYS_NESTED:
        size = snprintf(text, 128, "%s/a common part/%llu/another common part/%llu and the rest",
                        value % 3 == 0 ? "" : "deep and deeper/still more than eight",
                        (unsigned long long)(value >> 8 & 3),
                        (unsigned long long)(value >> 16 & 0xffff));
        return LSM_SLICE(text, (size_t)size);
    default:
        memset(text, 0, 8);
        text[0] = (char)(value >> 8 & 1);
        return LSM_SLICE(text, value % 4);
    }
}

static void fill(struct chunk *c, struct random_state *random, enum key_style style, size_t count,
                 uint32_t families)
{
    for (uint32_t i = 0; i < count; i++) {
        char text[128];
        lsm_slice key = make_key(random, style, text);
        uint32_t cf = FAMILY + (uint32_t)random_below(random, families);
        ck_assert(chunk_add(c, (size_t)8 << 20, cf, ENTRY_PUT, key, LSM_SLICE(&i, sizeof i)));
    }
    c->is_unsorted = true;
}

static uint32_t ordinal_of(const struct chunk *c, const struct head_item *item)
{
    return bytes_get_u32(record_value(chunk_record(c, item)).data);
}

static void check_order(const struct chunk *c, size_t count)
{
    uint64_t sum = 0;
    ck_assert_uint_eq(c->count, count);
    for (size_t i = 0; i < count; i++)
        sum += ordinal_of(c, &c->items[i]);
    ck_assert_uint_eq(sum, count * (count - 1) / 2);
    for (size_t i = 1; i < count; i++) {
        const struct head_item *a = &c->items[i - 1], *b = &c->items[i];
        ck_assert_uint_le(a->mark, b->mark);
        if (a->mark != b->mark)
            continue;
        int order = slice_compare(chunk_key(c, a), chunk_key(c, b));
        ck_assert_int_le(order, 0);
        if (order == 0) {
            ck_assert_uint_lt(ordinal_of(c, a), ordinal_of(c, b));
            ck_assert_uint_eq(a->head, b->head);
        }
    }
}

START_TEST(test_chunk_of_any_keys_is_sorted_and_keeps_equal_ones_in_order)
{
    static const size_t counts[] = {2, 11, 13, 255, 256, 257, 5000, 40000};
    struct random_state random = random_seeded(seed);
    struct chunk c = {0};
    for (int style = 0; style < KEY_STYLES; style++) {
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            fill(&c, &random, (enum key_style)style, counts[i], i % 2 == 0 ? 1 : 3);
            ck_assert(chunk_sort(&c));
            check_order(&c, counts[i]);
            chunk_clear(&c);
        }
    }
    chunk_release(&c);
}
END_TEST

/* ---- spills ---------------------------------------------------------------------------------- */

/* The entry at `i`: mostly small, some of several pieces. */
static lsm_slice spilled_value(struct random_state *random, struct buffer *value)
{
    size_t size =
        random_below(random, 50) == 0 ? random_below(random, 300000) : random_below(random, 200);
    buffer_clear(value);
    buffer_append_zeros(value, size);
    ck_assert(!value->failed);
    memset(value->data, (int)random_below(random, 256), size);
    return buffer_slice(value);
}

#define SPILLED 600

/* Spills of SPILLED entries whose keys are their numbers; the position of each. */
static struct spill make_spill(struct rig *r, struct spill_file *file, uint64_t from,
                               uint64_t positions[SPILLED])
{
    struct random_state random = random_seeded(from);
    struct run_writer w = {0};
    struct buffer value = {0};
    struct spill spill;
    rig_ok(r, spill_begin(&w.spill, file, &r->error));
    w.step = 100;
    for (uint64_t i = 0; i < SPILLED; i++) {
        lsm_slice key = LSM_SLICE(&i, random_below(&random, sizeof i + 1));
        lsm_slice stored = spilled_value(&random, &value);
        positions[i] = spill_position(&w.spill);
        rig_ok(r, run_add(&w, ENTRY_DELETE, key, stored, &r->error));
    }
    ck_assert_uint_eq(w.run.mark_count, SPILLED / 100);
    rig_ok(r, spill_end(&w.spill, &spill, &r->error));
    run_abort(&w);
    buffer_release(&value);
    return spill;
}

static void check_spill(struct rig *r, const struct spill *spill, uint64_t from, uint64_t begin,
                        const uint64_t positions[SPILLED], size_t memory)
{
    struct random_state random = random_seeded(from);
    struct spill_reader reader = {0};
    struct buffer value = {0};
    const uint8_t *record = NULL;
    rig_ok(r, spill_open(&reader, spill, positions[begin], memory, &r->error));
    for (uint64_t i = 0; i < SPILLED; i++) {
        size_t key_size = random_below(&random, sizeof i + 1);
        lsm_slice wanted = spilled_value(&random, &value);
        if (i < begin)
            continue;
        rig_ok(r, spill_next(&reader, &record, &r->error));
        ck_assert_ptr_nonnull(record);
        ck_assert(slice_equal(record_key(record), LSM_SLICE(&i, key_size)));
        ck_assert(slice_equal(record_value(record), wanted));
        ck_assert_int_eq(record_at(record).type, ENTRY_DELETE);
    }
    for (int again = 0; again < 2; again++) {
        rig_ok(r, spill_next(&reader, &record, &r->error));
        ck_assert_ptr_null(record);
    }
    spill_close(&reader);
    buffer_release(&value);
}

START_TEST(test_spill_gives_back_what_it_took_from_any_record_on)
{
    struct rig r;
    struct spill_file file = {0};
    uint64_t positions[2][SPILLED];
    rig_open(&r, seed);
    rig_ok(&r, spill_file_open(&file, &r.env, 7, &r.error));
    ck_assert(!rig_has_file(&r, FILE_TABLE, 7));
    struct spill spills[2];
    for (unsigned i = 0; i < 2; i++)
        spills[i] = make_spill(&r, &file, seed + i, positions[i]);
    for (unsigned i = 0; i < 2; i++) {
        for (uint64_t begin = 0; begin < SPILLED; begin += 150)
            check_spill(&r, &spills[i], seed + i, begin, positions[i], begin * 2000);
        check_spill(&r, &spills[i], seed + i, SPILLED - 1, positions[i], 0);
    }
    spill_file_close(&file);
    rig_close(&r);
}
END_TEST

START_TEST(test_spill_that_changed_on_the_disk_is_refused)
{
    struct rig r;
    struct spill_file file = {0};
    uint64_t positions[SPILLED];
    struct random_state random = random_seeded(seed);
    rig_open(&r, seed);
    rig_ok(&r, spill_file_open(&file, &r.env, 7, &r.error));
    struct spill spill = make_spill(&r, &file, seed, positions);
    uint8_t *page = mem_alloc_buffer(IO_ALIGNMENT);
    uint64_t offset = random_below(&random, spill.size / IO_ALIGNMENT) * IO_ALIGNMENT;
    rig_ok(&r, io_file_read_exact(file.file, page, IO_ALIGNMENT, offset, &r.error));
    page[random_below(&random, IO_ALIGNMENT)] ^= 0x10;
    rig_ok(&r, io_file_write(file.file, page, IO_ALIGNMENT, offset, &r.error));
    mem_free_buffer(page, IO_ALIGNMENT);

    struct spill_reader reader = {0};
    const uint8_t *record = NULL;
    lsm_status status = spill_open(&reader, &spill, 0, 0, &r.error);
    while (status == LSM_OK && (status = spill_next(&reader, &record, &r.error)) == LSM_OK)
        ck_assert_ptr_nonnull(record);
    ck_assert_int_eq(status, LSM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(r.error.message, "checksum"));
    spill_close(&reader);
    spill_file_close(&file);
    rig_close(&r);
}
END_TEST

/* ---- intakes --------------------------------------------------------------------------------- */

struct taken {
    uint32_t value; /* 0: the key did not come */
};

static lsm_slice numbered(uint64_t key, char text[32])
{
    return LSM_SLICE(text, (size_t)snprintf(text, 32, "number %06llu", (unsigned long long)key));
}

static void take_in(struct rig *r, struct intake *in, struct taken *wanted, uint64_t key,
                    uint32_t value, const struct intake_options *how)
{
    char text[32];
    uint8_t bytes[60 + LARGE_VALUE] = {0};
    size_t size = sizeof value + value % 50 + (how->merge_threads > 2 ? LARGE_VALUE : 0);
    memcpy(bytes, &value, sizeof value);
    rig_ok(r, intake_add(in, FAMILY, ENTRY_PUT, numbered(key, text), LSM_SLICE(bytes, size),
                         &r->error));
    if (wanted[key].value == 0 || !how->keep_first)
        wanted[key].value = value;
}

static uint64_t check_table(struct rig *r, const struct table_meta *meta,
                            const struct taken *wanted, uint64_t *next)
{
    struct table *table = NULL;
    struct iter *it = NULL;
    uint64_t count = 0;
    struct table_iter_options options = {.flags = TABLE_NO_FILL};
    rig_ok(r, table_open(&r->env, meta->number, meta->size, &table, &r->error));
    rig_ok(r, table_iter_new(table, &options, &it, &r->error));
    for (it->ops->first(it); it->valid; iter_next(it)) {
        char text[32];
        while (wanted[*next].value == 0)
            ++*next;
        ck_assert_uint_lt(*next, MANY_KEYS);
        ck_assert(slice_equal(it->entry->key, numbered(*next, text)));
        ck_assert_uint_eq(bytes_get_u32(it->entry->value.data), wanted[*next].value);
        ++*next;
        count++;
    }
    ck_assert_int_eq(it->status, LSM_OK);
    iter_release(it);
    table_close(table);
    return count;
}

/* All tables, one behind the other, hold what is wanted. */
static void check_tables(struct rig *r, struct intake *in, const struct taken *wanted)
{
    uint64_t next = 0, count = 0;
    struct version_edit edit = {0};
    rig_ok(r, intake_finish(in, &r->error));
    size_t tables = intake_table_count(in);
    uint32_t *levels = mem_alloc_zeroed(tables * sizeof *levels);
    rig_ok(r, intake_give(in, 5, levels, &edit, &r->error));
    ck_assert_uint_eq(edit.added_count, tables);
    for (size_t i = 0; i < tables; i++)
        count += check_table(r, &edit.added[i], wanted, &next);
    ck_assert_uint_eq(count, intake_entry_count(in));
    while (next < MANY_KEYS)
        ck_assert_uint_eq(wanted[next++].value, 0);
    edit_release(&edit);
    mem_free(levels);
}

/* `ascending`: so many come in order first. */
static void run_intake(uint64_t ascending, size_t threads, bool keep_first)
{
    struct rig r;
    struct intake *in = NULL;
    struct random_state random = random_seeded(seed + ascending + threads);
    struct taken *wanted = mem_alloc_zeroed((MANY_KEYS + 1) * sizeof *wanted);
    lsm_cf_options options = rig_cf_options();
    options.table_size = 64 << 10;
    rig_open(&r, seed);
    rig_ok(&r, rig_create(&r));
    struct compact_env env = {.tables = &r.env, .set = r.set};
    struct intake_options how = {.env = &env,
                                 .memory = MEMORY,
                                 .in_background = threads > 1,
                                 .merge_threads = threads,
                                 .keep_first = keep_first};
    rig_ok(&r, intake_new(&how, &in, &r.error));
    rig_ok(&r, intake_add_family(in, FAMILY, "numbers", &options, &r.error));
    for (uint64_t i = 0; i < ascending; i++)
        take_in(&r, in, wanted, i, (uint32_t)i + 1, &how);
    for (uint32_t i = 0; i < MANY_ENTRIES; i++)
        take_in(&r, in, wanted, random_below(&random, MANY_KEYS), 100000 + i, &how);
    check_tables(&r, in, wanted);
    intake_free(in);
    mem_free(wanted);
    rig_close(&r);
}

START_TEST(test_intake_of_many_runs_keeps_the_last_of_each_key)
{
    run_intake(0, 1, false);
    run_intake(0, 3, false);
}
END_TEST

START_TEST(test_intake_of_many_runs_keeps_the_first_when_asked)
{
    run_intake(0, 2, true);
}
END_TEST

START_TEST(test_intake_in_order_at_first_merges_its_tables_too)
{
    run_intake(MANY_KEYS, 3, false);
    run_intake(MANY_KEYS / 2, 2, true);
}
END_TEST

int main(void)
{
    seed = (uint64_t)time(NULL);
    const char *given = getenv("SEED");
    if (given != NULL)
        seed = strtoull(given, NULL, 0);
    printf("SEED=%llu\n", (unsigned long long)seed);
    Suite *suite = suite_create("intake");
    TCase *tcase = tcase_create("intake");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_chunk_of_any_keys_is_sorted_and_keeps_equal_ones_in_order);
    tcase_add_test(tcase, test_spill_gives_back_what_it_took_from_any_record_on);
    tcase_add_test(tcase, test_spill_that_changed_on_the_disk_is_refused);
    tcase_add_test(tcase, test_intake_of_many_runs_keeps_the_last_of_each_key);
    tcase_add_test(tcase, test_intake_of_many_runs_keeps_the_first_when_asked);
    tcase_add_test(tcase, test_intake_in_order_at_first_merges_its_tables_too);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
