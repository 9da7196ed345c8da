/* Manifests that are whole and lack their end: what proves it, and what does not. */
#include "engine/version/lost_edits.h"
#include "tests/unit/version/rig.h"

#include <errno.h>

/* ---- the mark -------------------------------------------------------------------------------- */

START_TEST(test_edit_mark_says_what_was_put_into_it)
{
    struct edit_mark mark = {.uuid = "sixteen letters", .frame_number = EDIT_MARK_MAX};
    struct edit_mark decoded = {.frame_number = 1};
    uint8_t bytes[EDIT_MARK_SIZE];
    edit_mark_encode(&mark, bytes);
    ck_assert(edit_mark_decode(bytes, &decoded));
    ck_assert_uint_eq(decoded.frame_number, EDIT_MARK_MAX);
    ck_assert_mem_eq(decoded.uuid, mark.uuid, sizeof mark.uuid);
    mark.frame_number++;
    edit_mark_encode(&mark, bytes);
    ck_assert_msg(!edit_mark_decode(bytes, &decoded), "nothing could come behind it");
}
END_TEST

START_TEST(test_edit_mark_with_any_bit_flipped_is_none)
{
    struct edit_mark mark = {.uuid = "sixteen letters", .frame_number = 77}, decoded;
    uint8_t bytes[EDIT_MARK_SIZE];
    edit_mark_encode(&mark, bytes);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_msg(!edit_mark_decode(bytes, &decoded), "bit %zu", bit);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
END_TEST

/* ---- the proof ------------------------------------------------------------------------------- */

/* Tables 10, 11 and so on, and the highest sequence number of each. */
struct shelf {
    const uint64_t *sequences;
    unsigned asked;
};

static lsm_status ask_shelf(const void *context, uint64_t number, uint64_t *max_sequence,
                            lsm_error *err)
{
    struct shelf *shelf = (struct shelf *)(uintptr_t)context;
    shelf->asked++;
    if (number == 99)
        return lsm_fail(err, LSM_IO, "the disk is gone");
    *max_sequence = shelf->sequences[number - 10];
    return LSM_OK;
}

static struct lost_edits find(const struct edit_mark *mark, const uint64_t *sequences, size_t count,
                              const struct version_edit *state, unsigned *asked)
{
    static const uint64_t numbers[] = {10, 11, 12, 13};
    static const uint8_t uuid[] = "a uuid of 16 byt";
    struct shelf shelf = {.sequences = sequences};
    struct lost_edits lost;
    struct lost_edits_evidence evidence = {
        .mark = *mark, .tables = numbers, .table_count = count, .ask = ask_shelf};
    evidence.context = &shelf;
    ck_assert_int_eq(lost_edits_find(&evidence, uuid, state, 50, &lost, NULL), LSM_OK);
    *asked = shelf.asked;
    return lost;
}

START_TEST(test_lost_edits_by_mark_only_of_this_database_and_behind_the_end)
{
    struct version_edit state = {.has_log = true, .next_file_number = 10};
    struct edit_mark mark = {.uuid = "a uuid of 16 by", .frame_number = 51};
    char text[LOST_EDITS_TEXT];
    unsigned asked;
    mark.uuid[15] = 't';
    struct lost_edits lost = find(&mark, NULL, 0, &state, &asked);
    ck_assert_int_eq(lost.proof, LOST_EDITS_MARK);
    ck_assert_uint_eq(lost.wanted, 51);
    ck_assert_uint_eq(lost.found, 50);
    ck_assert_ptr_nonnull(strstr(lost_edits_text(&lost, text), "edit 51"));
    mark.frame_number = 50;
    ck_assert_int_eq(find(&mark, NULL, 0, &state, &asked).proof, LOST_EDITS_NONE);
    mark.frame_number = 51;
    mark.uuid[3] ^= 1;
    ck_assert_int_eq(find(&mark, NULL, 0, &state, &asked).proof, LOST_EDITS_NONE);
}
END_TEST

START_TEST(test_lost_edits_by_table_that_is_new_and_holds_newer_entries)
{
    static const uint64_t sequences[] = {900, 0, 100, 101};
    struct table_meta named = {.max_sequence = 100};
    struct version_edit state = {.has_log = true,
                                 .clean = true,
                                 .last_sequence = 90,
                                 .next_file_number = 11,
                                 .added = &named,
                                 .added_count = 1};
    const struct edit_mark none = {.frame_number = 0};
    char text[LOST_EDITS_TEXT];
    unsigned asked;
    ck_assert_int_eq(find(&none, sequences, 3, &state, &asked).proof, LOST_EDITS_NONE);
    ck_assert_uint_eq(asked, 2); /* not the one that has its number from before the close */
    struct lost_edits lost = find(&none, sequences, 4, &state, &asked);
    ck_assert_int_eq(lost.proof, LOST_EDITS_TABLE);
    ck_assert_uint_eq(lost.table, 13);
    ck_assert_uint_eq(lost.wanted, 101);
    ck_assert_uint_eq(lost.found, 100);
    ck_assert_ptr_nonnull(strstr(lost_edits_text(&lost, text), "'000013.sst'"));
    state.clean = false; /* what a process that died was writing */
    ck_assert_int_eq(find(&none, sequences, 4, &state, &asked).proof, LOST_EDITS_NONE);
    ck_assert_uint_eq(asked, 0);
}
END_TEST

START_TEST(test_lost_edits_search_passes_on_what_asking_failed_with)
{
    static const uint64_t number = 99;
    static const uint8_t uuid[HASH_UUID_SIZE] = {0};
    struct version_edit state = {.has_log = true, .clean = true, .next_file_number = 1};
    struct shelf shelf = {.sequences = NULL};
    struct lost_edits lost;
    struct lost_edits_evidence evidence = {.tables = &number, .table_count = 1, .ask = ask_shelf};
    evidence.context = &shelf;
    ck_assert_int_eq(lost_edits_find(&evidence, uuid, &state, 1, &lost, NULL), LSM_IO);
}
END_TEST

/* ---- opening --------------------------------------------------------------------------------- */

static void make_lock(struct rig *r)
{
    struct io_file *file = NULL;
    rig_ok(r, io_file_open(r->dir, "LOCK", IO_FILE_WRITE | IO_FILE_CREATE, 0, &file, &r->error));
    io_file_close(file);
}

static void cut_manifest(struct rig *r, const struct version_place *place)
{
    char name[FILE_NAME_SIZE];
    struct io_file *file = NULL;
    file_name_make(FILE_MANIFEST, place->manifest_number, name);
    rig_ok(r, io_file_open(r->dir, name, IO_FILE_WRITE, 0, &file, &r->error));
    rig_ok(r, io_file_truncate(file, place->offset, &r->error));
    io_file_close(file);
}

/* What an edit may say that no other file shows. */
static void make_edit(int which, struct version_edit *edit)
{
    lsm_cf_options options = rig_cf_options();
    *edit = (struct version_edit){0};
    if (which == 0) {
        edit->next_cf = 3;
        ck_assert_int_eq(edit_create_cf(edit, 2, "later", &options, NULL), LSM_OK);
    } else if (which == 1) {
        ck_assert_int_eq(edit_rename_cf(edit, 1, "renamed", NULL), LSM_OK);
    } else if (which == 2) {
        ck_assert_int_eq(edit_drop_cf(edit, 1, NULL), LSM_OK);
    } else {
        edit->has_log = edit->clean = true;
    }
}

/* A family is made, then an edit follows, which is cut off. */
static lsm_status recover_without_last(struct rig *r, int which, bool with_lock)
{
    struct version_place place;
    struct version_edit edit = {.next_cf = 2};
    lsm_cf_options options = rig_cf_options();
    rig_ok(r, rig_create(r));
    if (with_lock)
        make_lock(r);
    rig_ok(r, edit_create_cf(&edit, 1, "first", &options, &r->error));
    rig_ok(r, version_set_apply(r->set, &edit, &r->error));
    edit_release(&edit);
    version_set_place(r->set, &place);
    make_edit(which, &edit);
    rig_ok(r, version_set_apply(r->set, &edit, &r->error));
    edit_release(&edit);
    rig_close_set(r);
    cut_manifest(r, &place);
    return rig_recover(r);
}

START_TEST(test_recover_without_an_edit_that_is_marked_refuses)
{
    struct rig r;
    rig_open(&r, (uint64_t)_i);
    ck_assert_int_eq(recover_without_last(&r, _i, true), LSM_CORRUPT);
    ck_assert_msg(strstr(r.error.message, "edits are lost; see lsm-repair") != NULL, "%s",
                  r.error.message);
    ck_assert_int_eq(rig_recover(&r), LSM_CORRUPT); /* again, and nothing was changed */
    rig_close(&r);
}
END_TEST

START_TEST(test_recover_without_a_lock_file_believes_the_manifest)
{
    struct rig r;
    rig_open(&r, (uint64_t)_i);
    rig_ok(&r, recover_without_last(&r, _i, false));
    rig_close(&r);
}
END_TEST

/* Neither the file nor its bytes: the mark is a hint. */
START_TEST(test_recover_without_reading_the_mark_opens)
{
    struct rig r;
    struct version_edit edit;
    rig_open(&r, 8);
    rig_ok(&r, rig_create(&r));
    make_lock(&r);
    make_edit(3, &edit);
    rig_ok(&r, version_set_apply(r.set, &edit, &r.error));
    rig_close_set(&r);
    sim_fail_after(r.disk, _i == 0 ? SIM_FAULT_OPEN : SIM_FAULT_READ, 0, EIO, false);
    rig_ok(&r, rig_recover(&r));
    sim_fail_never(r.disk);
    rig_close(&r);
}
END_TEST

START_TEST(test_recover_with_all_marked_edits_opens_again_and_again)
{
    struct rig r;
    struct version_edit edit;
    rig_open(&r, 7);
    rig_ok(&r, rig_create(&r));
    make_lock(&r);
    for (int life = 0; life < 4; life++) {
        make_edit(3, &edit);
        rig_ok(&r, version_set_apply(r.set, &edit, &r.error));
        rig_close_set(&r);
        rig_ok(&r, rig_recover(&r));
    }
    rig_close(&r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lost edits");
    TCase *tests = tcase_create("all");
    tcase_add_test(tests, test_edit_mark_says_what_was_put_into_it);
    tcase_add_test(tests, test_edit_mark_with_any_bit_flipped_is_none);
    tcase_add_test(tests, test_lost_edits_by_mark_only_of_this_database_and_behind_the_end);
    tcase_add_test(tests, test_lost_edits_by_table_that_is_new_and_holds_newer_entries);
    tcase_add_test(tests, test_lost_edits_search_passes_on_what_asking_failed_with);
    tcase_add_loop_test(tests, test_recover_without_an_edit_that_is_marked_refuses, 0, 4);
    tcase_add_loop_test(tests, test_recover_without_a_lock_file_believes_the_manifest, 0, 4);
    tcase_add_loop_test(tests, test_recover_without_reading_the_mark_opens, 0, 2);
    tcase_add_test(tests, test_recover_with_all_marked_edits_opens_again_and_again);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
