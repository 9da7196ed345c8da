/*
 * Reading damaged tables: every entry of a sound one is given, a damaged part hides nothing of the
 * others, and what is damaged is named with its place and its keys. Random changes of random bytes
 * neither crash it nor let a changed byte pass.
 */
#include "tests/unit/sst/fixture.h"

#include "engine/inspect/walk_table.h"

#define NUMBER 7
#define FLIPS  300

static struct entries made;
static struct table_meta meta;
static struct walk_env env;
static struct random_state random_state;

static void set_up(void)
{
    uint64_t seed = (uint64_t)time(NULL);
    const char *given = getenv("SEED");
    if (given != NULL)
        seed = strtoull(given, NULL, 10);
    printf("seed %llu\n", (unsigned long long)seed);
    random_state = random_seeded(seed);
    fixture_open(seed, (uint64_t)1 << 20);
    env = (struct walk_env){.io = f.io, .dir = f.dir};
    memcpy(env.uuid, f.env.uuid, sizeof env.uuid);
}

static void tear_down(void)
{
    free_entries(&made);
    table_meta_release(&meta);
    fixture_close();
}

static void make_table(bool compress, uint32_t dictionary_size, size_t count)
{
    made = make_entries(&random_state, count, KEYS_DECIMAL, 3, 2000);
    struct table_write_options options = write_options(NUMBER);
    options.compress = compress;
    options.dictionary_size = dictionary_size;
    meta = write_table(&made, &options);
}

static struct io_file *open_file(void)
{
    struct io_file *file = NULL;
    ck_ok(io_file_open(f.dir, "000007.sst", IO_FILE_WRITE, 0, &file, &f.error));
    return file;
}

static uint8_t change_byte(uint64_t offset, uint8_t change)
{
    struct io_file *file = open_file();
    uint8_t byte = 0;
    ck_ok(io_file_read_exact(file, &byte, 1, offset, &f.error));
    uint8_t changed = (uint8_t)(byte ^ change);
    ck_ok(io_file_write(file, &changed, 1, offset, &f.error));
    io_file_close(file);
    return byte;
}

static void overwrite(uint64_t offset, size_t size, int value)
{
    uint8_t *bytes = malloc(size);
    memset(bytes, value, size);
    struct io_file *file = open_file();
    ck_ok(io_file_write(file, bytes, size, offset, &f.error));
    io_file_close(file);
    free(bytes);
}

static struct walk_table *open_walk(bool any)
{
    struct walk_table_options options = {
        .number = NUMBER, .meta = any ? NULL : &meta, .any = any, .want_digest = true};
    struct walk_table *walk = NULL;
    ck_ok(walk_table_open(&env, &options, &walk, &f.error));
    return walk;
}

/* Walks to the end; entries have to be the given ones but for those in faulty extents. Returns the
 * number of faults; `bad` gets the last of them, with its range copied away. */
struct outcome {
    size_t faults, good_blocks, entries;
    enum finding_id fault;
    uint64_t offset, length;
    bool keys_are_inside; /* every missing key lies in the range of a fault */
};

static struct outcome walk_all(struct walk_table *walk)
{
    struct outcome o = {.fault = FINDING_COUNT, .keys_are_inside = true};
    struct buffer key = {0}, last = {0};
    bool has_range = false;
    size_t at = 0;
    for (;;) {
        struct walk_block b;
        ck_ok(walk_table_next(walk, &b, &f.error));
        if (b.length == 0)
            break;
        if (b.fault != FINDING_COUNT) {
            o.faults++;
            o.fault = b.fault;
            o.offset = b.offset;
            o.length = b.length;
            ck_assert(b.has_first && b.has_last);
            if (at < made.count && slice_compare(made.at[at].key, b.first) < 0)
                o.keys_are_inside = false;
            ck_assert(buffer_assign(&last, b.last));
            has_range = true;
            continue;
        }
        o.good_blocks++;
        for (uint32_t i = 0; i < b.view.count; i++) {
            ck_assert(block_copy_key(&b.view, i, &key));
            while (at < made.count &&
                   entry_compare(made.at[at].key, made.at[at].trailer, buffer_slice(&key),
                                 block_trailer(&b.view, i)) < 0) {
                if (!has_range || slice_compare(made.at[at].key, buffer_slice(&last)) > 0)
                    o.keys_are_inside = false;
                at++;
            }
            ck_assert(at < made.count);
            ck_assert(slice_equal(made.at[at].key, buffer_slice(&key)));
            ck_assert(slice_equal(made.at[at].value, block_value(&b.view, i)));
            at++;
            o.entries++;
        }
    }
    buffer_release(&key);
    buffer_release(&last);
    return o;
}

static void check_clean(bool compress, uint32_t dictionary_size)
{
    make_table(compress, dictionary_size, 20000);
    struct walk_table *walk = open_walk(false);
    ck_assert(walk->has_footer && !walk->footers_differ && !walk->is_foreign);
    ck_assert_int_eq(walk->properties.verdict, WALK_SOUND);
    ck_assert_int_eq(walk->index.verdict, WALK_SOUND);
    ck_assert_int_eq(walk->filter.verdict, WALK_SOUND);
    ck_assert_int_eq(walk->dictionary.verdict, dictionary_size > 0 ? WALK_SOUND : WALK_ABSENT);
    struct outcome o = walk_all(walk);
    ck_assert_uint_eq(o.faults, 0);
    ck_assert_uint_eq(o.entries, made.count);
    ck_assert_uint_eq(o.good_blocks, walk->table_index.count);
    uint64_t digest = 0;
    bool is_known = false;
    ck_ok(walk_table_digest(walk, &digest, &is_known, &f.error));
    ck_assert(is_known && digest == walk->table_properties.digest);
    walk_table_close(walk);
}

START_TEST(test_walk_sound_table_gives_all_entries)
{
    check_clean(_i > 0, _i > 1 ? 4096 : 0);
}
END_TEST

START_TEST(test_walk_one_damaged_block_hides_no_other)
{
    make_table(_i == 1, 0, 20000);
    struct walk_table *walk = open_walk(false);
    uint32_t block = (uint32_t)random_below(&random_state, walk->table_index.count);
    uint64_t offset = walk->table_index.offsets[block];
    size_t blocks = walk->table_index.count;
    walk_table_close(walk);
    overwrite(offset + 60, 100, 0x5a);
    walk = open_walk(false);
    struct outcome o = walk_all(walk);
    ck_assert_uint_eq(o.faults, 1);
    ck_assert_int_eq(o.fault, FINDING_BLOCK_CHECKSUM);
    ck_assert_uint_eq(o.offset, offset);
    ck_assert_uint_eq(o.good_blocks, blocks - 1);
    ck_assert(o.keys_are_inside);
    walk_table_close(walk);
}
END_TEST

START_TEST(test_walk_without_footers_and_index_finds_all_blocks)
{
    make_table(_i % 2 == 1, _i == 3 ? 4096 : 0, 20000);
    struct walk_table *walk = open_walk(false);
    size_t blocks = walk->table_index.count;
    uint64_t index = walk->index.extent.offset;
    walk_table_close(walk);
    overwrite(meta.size - 2 * 4096, 2 * 4096, _i >= 2 ? 0xff : 0);
    walk = open_walk(false);
    ck_assert(!walk->has_footer);
    ck_assert_int_eq(walk->index.verdict, WALK_SOUND);
    ck_assert_int_eq(walk->properties.verdict, WALK_SOUND);
    struct outcome o = walk_all(walk);
    ck_assert_uint_eq(o.faults, 0);
    ck_assert_uint_eq(o.entries, made.count);
    walk_table_close(walk);

    change_byte(index + 100, 1);
    walk = open_walk(false);
    ck_assert_int_eq(walk->index.verdict, WALK_LOST);
    o = walk_all(walk);
    ck_assert_uint_eq(o.faults, 0);
    ck_assert_uint_eq(o.good_blocks, blocks);
    ck_assert_uint_eq(o.entries, made.count);
    walk_table_close(walk);

    overwrite(100000, 5000, 0);
    walk = open_walk(false);
    o = walk_all(walk);
    ck_assert_uint_eq(o.faults, 1);
    ck_assert(o.keys_are_inside);
    ck_assert_uint_le(o.offset, 100000);
    ck_assert_uint_ge(o.offset + o.length, 105000);
    ck_assert_uint_gt(o.entries, 0);
    walk_table_close(walk);
}
END_TEST

START_TEST(test_walk_damaged_part_is_told_and_others_are_read)
{
    make_table(true, 4096, 20000);
    struct walk_table *walk = open_walk(false);
    struct table_footer footer = walk->footer;
    walk_table_close(walk);
    const uint64_t places[] = {footer.dictionary.offset, footer.filter.offset, footer.index.offset,
                               footer.properties.offset};
    change_byte(places[_i] + 70, 4);
    walk = open_walk(false);
    const struct walk_part *parts[] = {&walk->dictionary, &walk->filter, &walk->index,
                                       &walk->properties};
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(parts[i]->verdict, i == _i ? WALK_DAMAGED : WALK_SOUND);
    ck_assert_str_eq(parts[_i]->problem.what, "the checksum differs");
    struct outcome o = walk_all(walk);
    if (_i == 0) {
        ck_assert_int_eq(o.fault, FINDING_DICTIONARY_DAMAGED);
    } else {
        ck_assert_uint_eq(o.faults, 0);
        ck_assert_uint_eq(o.entries, made.count);
    }
    walk_table_close(walk);
}
END_TEST

START_TEST(test_walk_one_footer_is_enough)
{
    make_table(false, 0, 3000);
    change_byte(meta.size - 4096 * (uint64_t)(_i + 1) + 50, 1);
    struct walk_table *walk = open_walk(false);
    ck_assert(walk->has_footer);
    ck_assert_int_eq(walk->footers[1 - _i].verdict, WALK_DAMAGED);
    ck_assert_int_eq(walk->footers[_i].verdict, WALK_SOUND);
    ck_assert_uint_eq(walk_all(walk).entries, made.count);
    walk_table_close(walk);
}
END_TEST

START_TEST(test_walk_table_of_another_number_is_foreign_and_readable)
{
    make_table(false, 0, 3000);
    ck_ok(io_dir_rename(f.dir, "000007.sst", "000009.sst", &f.error));
    struct walk_table_options options = {.number = 9};
    struct walk_table *walk = NULL;
    ck_ok(walk_table_open(&env, &options, &walk, &f.error));
    ck_assert(walk->is_foreign);
    ck_assert_int_eq(walk->footers[0].verdict, WALK_FOREIGN);
    ck_assert_uint_eq(walk->number, NUMBER);
    ck_assert_uint_eq(walk_all(walk).entries, made.count);
    walk_table_close(walk);
    options.any = true;
    ck_ok(walk_table_open(&env, &options, &walk, &f.error));
    ck_assert(!walk->is_foreign);
    ck_assert_int_eq(walk->footers[1].verdict, WALK_SOUND);
    walk_table_close(walk);
}
END_TEST

START_TEST(test_walk_truncated_file_gives_what_is_left)
{
    make_table(false, 0, 20000);
    struct io_file *file = open_file();
    ck_ok(io_file_truncate(file, meta.size / 2 + 13, &f.error));
    io_file_close(file);
    struct walk_table *walk = open_walk(false);
    ck_assert(!walk->has_footer);
    struct outcome o = walk_all(walk);
    ck_assert_uint_le(o.faults, 1);
    ck_assert_uint_gt(o.entries, made.count / 3);
    walk_table_close(walk);
}
END_TEST

/* One changed bit anywhere: told by a verdict, a fault or a padding, and by one of them only. */
START_TEST(test_walk_any_changed_bit_is_told_once)
{
    make_table(_i > 0, _i > 1 ? 4096 : 0, 4000);
    for (int i = 0; i < FLIPS; i++) {
        uint64_t offset = random_below(&random_state, meta.size);
        uint8_t change = (uint8_t)(1u << random_below(&random_state, 8));
        if (i % 3 == 0) /* the parts behind the data are small */
            offset = meta.size - 1 - random_below(&random_state, 8 * 4096);
        change_byte(offset, change);
        struct walk_table *walk = open_walk(false);
        size_t told = 0;
        const struct walk_part *parts[] = {&walk->footers[0], &walk->footers[1], &walk->dictionary,
                                           &walk->filter,     &walk->index,      &walk->properties};
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
            told += parts[k]->verdict > WALK_SOUND || parts[k]->padding_is_bad ? 1 : 0;
        for (;;) {
            struct walk_block b;
            ck_ok(walk_table_next(walk, &b, &f.error));
            if (b.length == 0)
                break;
            if (b.padding_is_bad ||
                (b.fault != FINDING_COUNT && b.fault != FINDING_DICTIONARY_DAMAGED))
                told++;
        }
        ck_assert_msg(told == 1, "bit at %llu told %zu times", (unsigned long long)offset, told);
        walk_table_close(walk);
        change_byte(offset, change);
    }
}
END_TEST

START_TEST(test_walk_much_damage_ends_and_gives_only_true_entries)
{
    make_table(_i > 0, 0, 4000);
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < 1 + round; i++)
            change_byte(random_below(&random_state, meta.size), (uint8_t)(1 + i));
        if (round % 10 == 9)
            overwrite(random_below(&random_state, meta.size - 9000), 9000, 0xff);
        struct walk_table *walk = open_walk(false);
        (void)walk_all(walk);
        walk_table_close(walk);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("walk_table");
    TCase *tests = tcase_create("tables");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, test_walk_sound_table_gives_all_entries, 0, 3);
    tcase_add_loop_test(tests, test_walk_one_damaged_block_hides_no_other, 0, 2);
    tcase_add_loop_test(tests, test_walk_without_footers_and_index_finds_all_blocks, 0, 4);
    tcase_add_loop_test(tests, test_walk_damaged_part_is_told_and_others_are_read, 0, 4);
    tcase_add_loop_test(tests, test_walk_one_footer_is_enough, 0, 2);
    tcase_add_test(tests, test_walk_table_of_another_number_is_foreign_and_readable);
    tcase_add_test(tests, test_walk_truncated_file_gives_what_is_left);
    tcase_add_loop_test(tests, test_walk_any_changed_bit_is_told_once, 0, 3);
    tcase_add_loop_test(tests, test_walk_much_damage_ends_and_gives_only_true_entries, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
