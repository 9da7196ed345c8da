/* Replaying edits in memory: random adds and removes against a plain array, and edits that do not
 * fit. */
#include "engine/version/replay.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/base/status.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NUMBERS  3000
#define FAMILIES 5

static struct table_meta meta_of(uint64_t number, uint32_t cf, uint32_t level)
{
    return (struct table_meta){.number = number,
                               .size = number + 1,
                               .cf = cf,
                               .level = level,
                               .smallest = LSM_SLICE("a", 1),
                               .largest = LSM_SLICE("b", 1),
                               .max_sequence = number,
                               .entry_count = 1};
}

static const lsm_cf_options options = LSM_CF_OPTIONS_INIT;

static void begin(struct replay *r, uint32_t families)
{
    struct version_edit edit = {.is_snapshot = true, .next_file_number = 2, .next_cf = families};
    for (uint32_t i = 0; i < families; i++) {
        char name[16];
        snprintf(name, sizeof name, "cf %u", i);
        ck_assert_int_eq(edit_create_cf(&edit, i, name, &options, NULL), LSM_OK);
    }
    ck_assert_int_eq(replay_apply(r, &edit, NULL), LSM_OK);
}

START_TEST(test_replay_random_edits_agree_with_an_array)
{
    uint64_t seed = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    struct random_state r = random_seeded(seed);
    for (int round = 0; round < 5; round++) {
        static int levels[NUMBERS], families[NUMBERS]; /* -1: no such table */
        struct replay replay = {0};
        /* Numbers that collide in the index more often than neighbours would. */
        uint64_t stride = round == 0 ? 1 : UINT64_C(1) << (8 * round);
        memset(levels, -1, sizeof levels);
        begin(&replay, FAMILIES);
        for (int i = 0; i < 2000; i++) {
            struct version_edit edit = {.next_file_number = (NUMBERS + 1) * stride};
            bool touched[NUMBERS] = {false};
            for (uint64_t n = random_below(&r, 20); n > 0; n--) {
                size_t k = random_below(&r, NUMBERS);
                if (touched[k])
                    continue;
                touched[k] = true;
                uint64_t number = (k + 1) * stride;
                if (levels[k] >= 0)
                    edit_remove_table(&edit, (uint32_t)families[k], (uint32_t)levels[k], number,
                                      NULL);
                if (levels[k] < 0 || random_below(&r, 2) == 0) {
                    if (levels[k] < 0)
                        families[k] = (int)random_below(&r, FAMILIES);
                    levels[k] = (int)random_below(&r, 7);
                    struct table_meta meta =
                        meta_of(number, (uint32_t)families[k], (uint32_t)levels[k]);
                    ck_assert_int_eq(edit_add_table(&edit, &meta, NULL), LSM_OK);
                } else {
                    levels[k] = -1;
                }
            }
            lsm_error error;
            lsm_status status = replay_apply(&replay, &edit, &error);
            ck_assert_msg(status == LSM_OK, "%s", error.message);
        }
        struct version_edit dropping = {0}, snapshot;
        edit_drop_cf(&dropping, 1, NULL);
        edit_drop_cf(&dropping, 3, NULL);
        ck_assert_int_eq(replay_apply(&replay, &dropping, NULL), LSM_OK);
        ck_assert_int_eq(replay_finish(&replay, &snapshot, NULL), LSM_OK);
        ck_assert_uint_eq(snapshot.created_count, FAMILIES - 2);
        size_t expected = 0;
        for (size_t k = 0; k < NUMBERS; k++)
            expected += levels[k] >= 0 && families[k] != 1 && families[k] != 3;
        ck_assert_uint_eq(snapshot.added_count, expected);
        for (size_t i = 0; i < snapshot.added_count; i++) {
            const struct table_meta *m = &snapshot.added[i];
            size_t k = m->number / stride - 1;
            ck_assert_int_eq(levels[k], (int)m->level);
            ck_assert_int_eq(families[k], (int)m->cf);
            ck_assert_uint_eq(m->size, m->number + 1);
            levels[k] = -1; /* seen: not twice */
        }
        edit_release(&snapshot);
    }
}
END_TEST

/* One edit on top of families 0 and 1 and table 5 (family 0, level 2). */
static lsm_status apply_to_sample(struct version_edit *edit)
{
    struct replay r = {0};
    lsm_error error = {0};
    begin(&r, 2);
    struct version_edit first = {.next_file_number = 10};
    struct table_meta meta = meta_of(5, 0, 2);
    edit_add_table(&first, &meta, NULL);
    ck_assert_int_eq(replay_apply(&r, &first, NULL), LSM_OK);
    lsm_status status = replay_apply(&r, edit, &error);
    if (status == LSM_OK) {
        struct version_edit snapshot;
        status = replay_finish(&r, &snapshot, &error);
        if (status == LSM_OK)
            edit_release(&snapshot);
    }
    ck_assert(status == LSM_OK || error.message[0] != '\0');
    edit_release(edit);
    replay_release(&r);
    return status;
}

START_TEST(test_replay_edits_that_do_not_fit_are_corrupt)
{
    for (int i = 0; i < 12; i++) {
        struct version_edit edit = {0};
        struct table_meta meta = meta_of(5, 0, 2);
        lsm_status expected = LSM_CORRUPT;
        switch (i) {
        case 0:
            edit_add_table(&edit, &meta, NULL);
            break;
        case 1:
            edit_remove_table(&edit, 0, 3, 5, NULL);
            break;
        case 2:
            edit_remove_table(&edit, 1, 2, 5, NULL);
            break;
        case 3:
            edit_remove_table(&edit, 0, 2, 6, NULL);
            break;
        case 4:
            edit_drop_cf(&edit, 2, NULL);
            break;
        case 5:
            edit_drop_cf(&edit, 1, NULL);
            edit_drop_cf(&edit, 1, NULL);
            break;
        case 6:
            edit_rename_cf(&edit, 2, "x", NULL);
            break;
        case 7:
            edit_create_cf(&edit, 1, "again", &options, NULL);
            break;
        case 8: /* not given out yet */
            edit_create_cf(&edit, 2, "new", &options, NULL);
            break;
        case 9:
            meta.number = 10;
            edit_add_table(&edit, &meta, NULL);
            break;
        case 10:
            edit.next_file_number = UINT64_MAX;
            break;
        case 11: /* this one fits */
            edit_remove_table(&edit, 0, 2, 5, NULL);
            edit_add_table(&edit, &meta, NULL);
            expected = LSM_OK;
            break;
        }
        ck_assert_msg(apply_to_sample(&edit) == expected, "edit %d", i);
    }
}
END_TEST

START_TEST(test_replay_begins_with_a_snapshot)
{
    struct replay r = {0};
    struct version_edit edit = {.next_cf = 1}, snapshot;
    ck_assert_int_eq(replay_apply(&r, &edit, NULL), LSM_CORRUPT);
    ck_assert_int_eq(replay_finish(&r, &snapshot, NULL), LSM_CORRUPT);
    begin(&r, 3);
    begin(&r, 1); /* replaces everything */
    ck_assert_int_eq(replay_finish(&r, &snapshot, NULL), LSM_OK);
    ck_assert_uint_eq(snapshot.created_count, 1);
    edit_release(&snapshot);
    replay_release(&r);
}
END_TEST

/* ---- whole files ------------------------------------------------------------------------------
 */

static const struct frame_place place = {.uuid = "0123456789abcde", .file_number = 3};

/* Appends an edit with one new family, in a frame of the given kind. */
static void append(struct buffer *bytes, struct frame_chain *chain, bool is_snapshot, uint32_t id,
                   uint32_t kind, uint32_t more)
{
    struct version_edit edit = {.is_snapshot = is_snapshot, .next_cf = id + 1};
    struct buffer payload = {0};
    char name[16];
    snprintf(name, sizeof name, "cf %u", id);
    ck_assert_int_eq(edit_create_cf(&edit, id, name, &options, NULL), LSM_OK);
    ck_assert_int_eq(edit_encode(&edit, &payload, NULL), LSM_OK);
    frame_append(&place, (enum frame_kind)kind, more, buffer_slice(&payload), chain, bytes);
    buffer_release(&payload);
    edit_release(&edit);
}

static lsm_status replay_bytes(struct buffer *bytes, size_t *families, lsm_error *error)
{
    struct version_edit snapshot;
    struct frame_chain chain;
    bool is_torn;
    lsm_status status = replay_manifest(&place, "MANIFEST-000003", buffer_slice(bytes), &snapshot,
                                        &chain, &is_torn, error);
    if (status == LSM_OK) {
        *families = snapshot.created_count;
        edit_release(&snapshot);
    } else {
        ck_assert_ptr_nonnull(strstr(error->message, "MANIFEST-000003"));
    }
    buffer_release(bytes);
    return status;
}

START_TEST(test_replay_unknown_frames_are_skipped_only_when_optional)
{
    for (int i = 0; i < 2; i++) {
        struct buffer bytes = {0};
        size_t families = 0;
        lsm_error error = {0};
        struct frame_chain chain = frame_begin_file(&place, 1, &bytes);
        append(&bytes, &chain, true, 0, FRAME_EDIT, 0);
        append(&bytes, &chain, false, 1, i == 0 ? FRAME_OPTIONAL + 7 : FRAME_EDIT + 7, 0);
        append(&bytes, &chain, false, 2, FRAME_EDIT, 0);
        lsm_status status = replay_bytes(&bytes, &families, &error);
        ck_assert_int_eq(status, i == 0 ? LSM_OK : LSM_NEWER_FORMAT);
        ck_assert_uint_eq(families, i == 0 ? 2 : 0);
    }
}
END_TEST

START_TEST(test_replay_missing_parts_and_numbers_are_corrupt)
{
    for (int i = 0; i < 5; i++) {
        struct buffer bytes = {0};
        size_t families = 0;
        lsm_error error = {0};
        struct frame_chain chain = frame_begin_file(&place, 1, &bytes);
        append(&bytes, &chain, true, 0, FRAME_EDIT, i == 1 || i == 2 || i == 4 ? 2 : 0);
        chain.number += i == 3; /* a number is left out */
        append(&bytes, &chain, false, 1, FRAME_EDIT, i == 2 || i == 4);
        if (i != 4) /* the last part is not there */
            append(&bytes, &chain, false, 2, FRAME_EDIT, 0);
        lsm_status status = replay_bytes(&bytes, &families, &error);
        ck_assert_msg(status == (i == 0 || i == 2 ? LSM_OK : LSM_CORRUPT), "case %d", i);
    }
}
END_TEST

START_TEST(test_replay_without_snapshot_is_corrupt)
{
    struct buffer bytes = {0};
    size_t families;
    lsm_error error = {0};
    struct frame_chain chain = frame_begin_file(&place, 1, &bytes);
    append(&bytes, &chain, false, 0, FRAME_EDIT, 0);
    ck_assert_int_eq(replay_bytes(&bytes, &families, &error), LSM_CORRUPT);
    ck_assert_uint_eq(error.offset, FRAME_FILE_HEADER_SIZE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replay");
    TCase *tcase = tcase_create("replay");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_replay_random_edits_agree_with_an_array);
    tcase_add_test(tcase, test_replay_edits_that_do_not_fit_are_corrupt);
    tcase_add_test(tcase, test_replay_begins_with_a_snapshot);
    tcase_add_test(tcase, test_replay_unknown_frames_are_skipped_only_when_optional);
    tcase_add_test(tcase, test_replay_missing_parts_and_numbers_are_corrupt);
    tcase_add_test(tcase, test_replay_without_snapshot_is_corrupt);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
