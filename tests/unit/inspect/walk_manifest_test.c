/*
 * Reading damaged manifests and odd directories: frames behind damage are found, a torn end is told
 * from damage, links lead nowhere and pipes do not hang.
 */
#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/inspect/walk_dir.h"
#include "engine/inspect/walk_manifest.h"
#include "tests/lib/scratch.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NUMBER     3
#define EDITS      20
#define FLIPS      2000
#define LONG_FRAME ((size_t)700 << 10)

static char scratch[SCRATCH_PATH_SIZE];
static lsm_error error;
static struct io *io;
static struct io_dir *dir;
static struct walk_env env;
static struct buffer made; /* the bytes of the manifest */
static uint64_t offsets[EDITS + 1];
static struct random_state random_state;

#define ck_ok(call)                                                                                \
    do {                                                                                           \
        lsm_status status_ = (call);                                                               \
        ck_assert_msg(status_ == LSM_OK, "%s: %s", #call, error.message);                          \
    } while (0)

static void make_manifest(void)
{
    struct frame_place place = {.file_number = NUMBER};
    memcpy(place.uuid, env.uuid, sizeof place.uuid);
    struct frame_chain chain = frame_begin_file(&place, 100, &made);
    lsm_cf_options options = LSM_CF_OPTIONS_INIT;
    for (size_t i = 0; i < EDITS; i++) {
        struct version_edit edit = {.is_snapshot = i == 0, .next_cf = 1, .next_file_number = i + 2};
        struct buffer payload = {0};
        struct table_meta meta = {.number = i + 1,
                                  .size = 12288,
                                  .smallest = {"a", 1},
                                  .largest = {"b", 1},
                                  .min_sequence = i + 1,
                                  .max_sequence = i + 1,
                                  .entry_count = 1};
        if (i == 0)
            ck_ok(edit_create_cf(&edit, 0, "default", &options, &error));
        ck_ok(edit_add_table(&edit, &meta, &error));
        ck_ok(edit_encode(&edit, &payload, &error));
        offsets[i] = chain.offset;
        frame_append(&place, FRAME_EDIT, 0, buffer_slice(&payload), &chain, &made);
        edit_release(&edit);
        buffer_release(&payload);
    }
    offsets[EDITS] = chain.offset;
}

static void write_manifest(size_t size)
{
    struct io_file *file = NULL;
    (void)io_dir_unlink(dir, "MANIFEST-000003", NULL, NULL);
    ck_ok(io_file_open(dir, "MANIFEST-000003", IO_FILE_WRITE | IO_FILE_CREATE, 0, &file, &error));
    ck_ok(io_file_write(file, made.data, size, 0, &error));
    io_file_close(file);
}

static void set_up(void)
{
    uint64_t seed = (uint64_t)time(NULL);
    const char *given = getenv("SEED");
    if (given != NULL)
        seed = strtoull(given, NULL, 10);
    printf("seed %llu\n", (unsigned long long)seed);
    random_state = random_seeded(seed);
    scratch_make(scratch);
    ck_ok(io_open("posix", &io, &error));
    ck_ok(io_dir_open(io, scratch, 0, 0, &dir, &error));
    env = (struct walk_env){.io = io, .dir = dir};
    for (size_t i = 0; i < sizeof env.uuid; i++)
        env.uuid[i] = (uint8_t)(i * 17);
    make_manifest();
}

static void tear_down(void)
{
    buffer_release(&made);
    io_dir_close(dir);
    io_close(io);
    scratch_remove(scratch);
}

struct outcome {
    size_t edits, faults, broken_links;
    enum finding_id header, fault;
    uint64_t offset, length;
};

static struct outcome walk_all(void)
{
    struct outcome o = {.fault = FINDING_COUNT};
    struct walk_manifest m;
    ck_ok(walk_manifest_open(&env, NUMBER, WALK_WHOLE, &m, &error));
    o.header = m.header_fault;
    for (;;) {
        struct walk_edit e;
        ck_ok(walk_manifest_next(&m, &e, &error));
        if (e.length == 0)
            break;
        o.edits += e.has_edit;
        o.broken_links += e.number_differs || e.chain_differs ? 1 : 0;
        if (e.fault != FINDING_COUNT) {
            o.faults++;
            o.fault = e.fault;
            o.offset = e.offset;
            o.length = e.length;
        }
        edit_release(&e.edit);
    }
    walk_manifest_close(&m);
    return o;
}

START_TEST(test_walk_sound_manifest_gives_all_edits)
{
    write_manifest(made.size);
    struct outcome o = walk_all();
    ck_assert_int_eq(o.header, FINDING_COUNT);
    ck_assert_uint_eq(o.edits, EDITS);
    ck_assert_uint_eq(o.faults + o.broken_links, 0);
}
END_TEST

START_TEST(test_walk_damaged_frame_hides_no_other)
{
    size_t victim = 1 + random_below(&random_state, EDITS - 2);
    made.data[offsets[victim] + 50] ^= 2;
    write_manifest(made.size);
    struct outcome o = walk_all();
    ck_assert_uint_eq(o.edits, EDITS - 1);
    ck_assert_uint_eq(o.faults, 1);
    ck_assert_int_eq(o.fault, FINDING_FRAME_CHECKSUM);
    ck_assert_uint_eq(o.offset, offsets[victim]);
    ck_assert_uint_eq(o.length, offsets[victim + 1] - offsets[victim]);
    ck_assert_uint_eq(o.broken_links, 0);
}
END_TEST

/* Frames that were cut out leave the others whole, but not following each other. */
START_TEST(test_walk_missing_frame_breaks_the_chain)
{
    struct buffer whole = made;
    made = (struct buffer){0};
    struct frame_place place = {.file_number = NUMBER};
    memcpy(place.uuid, env.uuid, sizeof place.uuid);
    struct frame_chain chain = frame_begin_file(&place, 100, &made);
    lsm_slice payload = {whole.data + offsets[0] + FRAME_HEADER_SIZE,
                         bytes_get_u32(whole.data + offsets[0] + 12)};
    frame_append(&place, FRAME_EDIT, 0, payload, &chain, &made);
    chain.number += 5;
    frame_append(&place, FRAME_EDIT, 0, payload, &chain, &made);
    write_manifest(made.size);
    struct outcome o = walk_all();
    ck_assert_uint_eq(o.edits, 2);
    ck_assert_uint_eq(o.broken_links, 1);
    buffer_release(&whole);
}
END_TEST

START_TEST(test_walk_torn_end_is_told_from_damage)
{
    uint64_t last = offsets[EDITS - 1];
    write_manifest((size_t)last + 20);
    struct outcome o = walk_all();
    ck_assert_int_eq(o.fault, FINDING_MANIFEST_TORN);
    ck_assert_uint_eq(o.offset, last);
    ck_assert_uint_eq(o.edits, EDITS - 1);

    made.data[last + 45] ^= 1;
    write_manifest(made.size);
    o = walk_all();
    ck_assert_int_eq(o.fault, FINDING_FRAME_CHECKSUM);
    ck_assert_uint_eq(o.offset, last);
}
END_TEST

START_TEST(test_walk_header_of_another_is_foreign)
{
    made.data[10] ^= 1;
    write_manifest(made.size);
    struct outcome o = walk_all();
    ck_assert_int_eq(o.header, FINDING_MANIFEST_HEADER);
    ck_assert_uint_eq(o.edits, EDITS);
    made.data[10] ^= 1;
    env.uuid[3] ^= 1;
    write_manifest(made.size);
    o = walk_all();
    ck_assert_int_eq(o.header, FINDING_MANIFEST_FOREIGN);
    ck_assert_uint_eq(o.edits, 0);
}
END_TEST

START_TEST(test_walk_any_changed_bit_of_a_manifest_is_told)
{
    for (int i = 0; i < FLIPS; i++) {
        size_t at = (size_t)random_below(&random_state, made.size);
        uint8_t change = (uint8_t)(1u << random_below(&random_state, 8));
        made.data[at] ^= change;
        write_manifest(made.size);
        struct outcome o = walk_all();
        size_t told = o.faults + (o.header != FINDING_COUNT ? 1 : 0);
        ck_assert_msg(told == 1, "bit of byte %zu told %zu times", at, told);
        ck_assert_uint_ge(o.edits, EDITS - 1);
        made.data[at] ^= change;
    }
}
END_TEST

/* Frames over the borders of what is read at once; the manifest becomes some MiB long. */
static void append_long_frames(size_t count)
{
    struct frame_place place = {.file_number = NUMBER};
    memcpy(place.uuid, env.uuid, sizeof place.uuid);
    struct frame_chain chain = {.offset = made.size, .number = 100 + EDITS};
    chain.previous = bytes_get_u64(made.data + offsets[EDITS - 1]);
    struct buffer payload = {0};
    ck_assert_ptr_nonnull(buffer_grow(&payload, LONG_FRAME));
    memset(payload.data, 0x5a, payload.size);
    for (size_t i = 0; i < count; i++)
        frame_append(&place, FRAME_OPTIONAL, 0, buffer_slice(&payload), &chain, &made);
    buffer_release(&payload);
}

START_TEST(test_walk_long_manifest_goes_by_in_pieces)
{
    append_long_frames(12);
    write_manifest(made.size);
    struct outcome o = walk_all();
    ck_assert_uint_eq(o.edits, EDITS);
    ck_assert_uint_eq(o.faults + o.broken_links, 0);
    uint64_t size = (made.size - offsets[EDITS]) / 12, sixth = offsets[EDITS] + 5 * size;
    made.data[sixth + size / 2] ^= 1;
    write_manifest(made.size);
    o = walk_all();
    ck_assert_uint_eq(o.faults, 1);
    ck_assert_uint_eq(o.offset, sixth);
    ck_assert_uint_eq(o.length, size);
}
END_TEST

START_TEST(test_walk_frame_over_the_limit_is_left_out)
{
    append_long_frames(2);
    write_manifest(made.size);
    struct walk_manifest m;
    struct walk_edit e;
    size_t too_large = 0;
    ck_ok(walk_manifest_open(&env, NUMBER, WALK_WHOLE, &m, &error));
    m.frame_limit = LONG_FRAME;
    do {
        ck_ok(walk_manifest_next(&m, &e, &error));
        ck_assert_int_eq(e.fault, FINDING_COUNT);
        ck_assert(!e.is_too_large || (!e.has_frame && !e.has_edit && e.length > LONG_FRAME));
        too_large += e.is_too_large;
        edit_release(&e.edit);
    } while (e.length > 0);
    ck_assert_uint_eq(too_large, 2);
    walk_manifest_close(&m);
}
END_TEST

START_TEST(test_walk_dir_opens_and_follows_nothing)
{
    char path[SCRATCH_PATH_SIZE + 32];
    write_manifest(made.size);
    snprintf(path, sizeof path, "%s/000007.sst", scratch);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    snprintf(path, sizeof path, "%s/000008.sst", scratch);
    ck_assert_int_eq(symlink("/etc/passwd", path), 0);
    snprintf(path, sizeof path, "%s/9.SST", scratch);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/a name\n", scratch);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    struct walk_dir list;
    ck_ok(walk_dir_read(dir, &list, &error));
    ck_assert_uint_eq(list.count, 5);
    const struct walk_file *f = walk_dir_find(&list, FILE_TABLE, 7);
    ck_assert(f != NULL && f->entry.kind == IO_ENTRY_OTHER && !walk_file_is_plain(f));
    f = walk_dir_find(&list, FILE_TABLE, 8);
    ck_assert(f != NULL && f->entry.kind == IO_ENTRY_SYMLINK);
    f = walk_dir_find(&list, FILE_MANIFEST, NUMBER);
    ck_assert(f != NULL && walk_file_is_plain(f) && f->entry.size == made.size);
    ck_assert(walk_dir_find(&list, FILE_TABLE, 9) == NULL);
    size_t odd = 0, foreign = 0;
    for (size_t i = 0; i < list.count; i++) {
        odd += list.files[i].name == WALK_NAME_ODD;
        foreign += list.files[i].name == WALK_NAME_FOREIGN;
    }
    ck_assert_uint_eq(odd, 1);
    ck_assert_uint_eq(foreign, 1);
    walk_dir_release(&list);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("walk_manifest");
    TCase *tests = tcase_create("manifests and directories");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_walk_sound_manifest_gives_all_edits);
    tcase_add_test(tests, test_walk_damaged_frame_hides_no_other);
    tcase_add_test(tests, test_walk_missing_frame_breaks_the_chain);
    tcase_add_test(tests, test_walk_torn_end_is_told_from_damage);
    tcase_add_test(tests, test_walk_header_of_another_is_foreign);
    tcase_add_test(tests, test_walk_any_changed_bit_of_a_manifest_is_told);
    tcase_add_test(tests, test_walk_long_manifest_goes_by_in_pieces);
    tcase_add_test(tests, test_walk_frame_over_the_limit_is_left_out);
    tcase_add_test(tests, test_walk_dir_opens_and_follows_nothing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
