/* What each kind of damage costs after a repair, and that a repair can be taken back. */
#include "engine/format/edit_mark.h"
#include "engine/inspect/walk_table.h"
#include "tests/unit/repair/repair_fixture.h"

#include <time.h>

static const uint8_t zeros[8192];

/* Repairs what is damaged now; the result stays, and an undo gives the damage back. */
static void repair_and_undo(void)
{
    copy_tree("db", "damaged");
    repair_now();
    ck_assert(told.result.is_changed);
    copy_tree("db", "repaired");
    ck_ok(lsm_repair_undo(db_path, NULL, false, &error));
    ck_assert(trees_are_equal("db", "damaged"));
    copy_tree("repaired", "db");
    check_stays();
}

START_TEST(test_repair_healthy_killed_database_stays_as_it_is)
{
    make_database(200);
    copy_tree("db", "before");
    repair_now();
    ck_assert_uint_eq(told.steps, 0);
    ck_assert(!told.result.is_changed && !told.result.is_damage_left && !told.result.is_data_lost);
    ck_assert(trees_are_equal("db", "before"));
    check_whole();
}
END_TEST

START_TEST(test_repair_healthy_closed_database_stays_as_it_is)
{
    make_database(0);
    copy_tree("db", "before");
    repair_now();
    ck_assert_uint_eq(told.steps, 0);
    ck_assert(trees_are_equal("db", "before"));
    check_whole();
}
END_TEST

START_TEST(test_repair_wrong_byte_anywhere_in_a_table_is_exact)
{
    char name[64];
    make_database(50);
    copy_tree("db", "before");
    for (unsigned i = 0; i < 60; i++) {
        ck_assert(nth_file(".sst", i % 7, name));
        long at = random() % file_size(name);
        flip_byte(name, at, i % 2 == 0 ? (uint8_t)(1u << i % 8) : (uint8_t)(1 + random() % 255));
        repair_now();
        ck_assert_msg(told.steps > 0, "'%s' at %ld: nothing was found", name, at);
        ck_assert_msg(told.inexact == 0, "'%s' at %ld: %s", name, at, told.first_problem);
        ck_ok(lsm_repair_undo(db_path, NULL, false, &error));
        repair_now();
        char command[600];
        snprintf(command, sizeof command, "rm -rf '%s/lost+found'", db_path);
        ck_assert_int_eq(system(command), 0);
        ck_assert_msg(trees_are_equal("db", "before"), "'%s' at %ld", name, at);
    }
    check_whole();
}
END_TEST

START_TEST(test_repair_wrong_byte_in_log_manifest_and_current_is_exact)
{
    static const char *const kinds[] = {".wal", "STAGE", "MANIFEST-", "CURRENT"};
    char name[64], newest[64];
    make_database(200);
    copy_tree("db", "before");
    unsigned found = 0;
    for (unsigned i = 0; i < 80; i++) {
        unsigned n = 0;
        ck_assert(nth_file(kinds[i % 4], 0, name));
        while (nth_file(kinds[i % 4], n, newest)) {
            memcpy(name, newest, sizeof name);
            n++;
        }
        long at = random() % file_size(name);
        flip_byte(name, at, (uint8_t)(1 + random() % 255));
        repair_now();
        found += told.steps > 0;
        ck_assert_msg(told.inexact == 0, "'%s' at %ld: %s", name, at, told.first_problem);
        ck_assert_msg(i % 4 < 2 || told.steps == 1, "'%s' at %ld: %u steps", name, at, told.steps);
        if (told.steps == 0) /* a byte that nobody reads any more */
            copy_tree("before", "db");
        char command[600];
        snprintf(command, sizeof command, "rm -rf '%s/lost+found'", db_path);
        ck_assert_int_eq(system(command), 0);
        ck_assert_msg(trees_are_equal("db", "before"), "'%s' at %ld", name, at);
    }
    ck_assert_uint_ge(found, 40);
    check_whole();
}
END_TEST

START_TEST(test_repair_zeroed_page_of_a_table_loses_its_blocks_only)
{
    char name[64];
    for (unsigned i = 0; i < 6; i++) {
        make_database(50);
        ck_assert(nth_file(".sst", i, name));
        long size = file_size(name), at = random() % (size / 4096) * 4096;
        change_file(name, at, zeros, 4096);
        repair_and_undo();
        struct wrongs w = check_contents();
        ck_assert_uint_le(w.lost + w.stale + w.revived, 150);
        check_stays();
        scratch_remove(scratch);
        scratch_make(scratch);
        snprintf(db_path, sizeof db_path, "%s/db", scratch);
    }
}
END_TEST

START_TEST(test_repair_truncated_table_keeps_what_is_there)
{
    char name[64], path[sizeof db_path + 80];
    make_database(50);
    ck_assert(nth_file(".sst", 1, name));
    snprintf(path, sizeof path, "%s/%s", db_path, name);
    ck_assert_int_eq(truncate(path, file_size(name) / 2), 0);
    repair_and_undo();
    ck_assert(told.loss_count > 0);
    check_contents();
}
END_TEST

/* One table whose blocks are a part of its file. */
static void make_well_compressed(void)
{
    char name[16];
    static const char same[100];
    lsm_db *db = open_with(OPTIONS ",memtable_size=1MiB,table_size=1MiB,compression=zstd:1");
    for (unsigned k = 0; k < KEYS; k++)
        ck_ok(
            lsm_put(db, NULL, text(key_text(k, name)), LSM_SLICE(same, sizeof same), NULL, &error));
    ck_ok(lsm_flush(db, &error));
    lsm_compact_options options = {.force_bottom = true};
    ck_ok(lsm_compact_range(db, NULL, &options, &error));
    close_ok(db);
}

static struct table_footer footer_of(const char *table)
{
    struct walk_env env = {0};
    struct walk_table *walk = NULL;
    struct walk_table_options options = {.name = table, .any = true};
    ck_ok(io_open("posix", &env.io, &error));
    ck_ok(io_dir_open(env.io, db_path, 0, 0, &env.dir, &error));
    ck_ok(walk_table_open(&env, &options, &walk, &error));
    struct table_footer footer = walk->footer;
    walk_table_close(walk);
    io_dir_close(env.dir);
    io_close(env.io);
    return footer;
}

/* How many keys are gone, and how many records are told to be. */
static unsigned lose_bytes(const char *table, size_t offset, size_t size, uint64_t *records)
{
    static uint8_t damage[1 << 20];
    unsigned gone = 0;
    memset(damage, 0xa5, sizeof damage);
    ck_assert_uint_le(size, sizeof damage);
    copy_tree("db", "before");
    change_file(table, (long)offset, damage, size);
    repair_now();
    *records = told.result.records_lost;
    lsm_db *db = open_with(OPTIONS ",create=false");
    for (unsigned k = 0; k < KEYS; k++) {
        char name[16];
        lsm_pin pin = LSM_PIN_INIT;
        ck_ok(lsm_get(db, NULL, text(key_text(k, name)), NULL, &pin, &error));
        gone += !pin.found;
        lsm_pin_release(&pin);
    }
    close_ok(db);
    copy_tree("before", "db");
    return gone;
}

START_TEST(test_repair_tells_as_many_records_as_are_lost)
{
    char table[64], other[64];
    uint64_t records;
    make_well_compressed();
    ck_assert(nth_file(".sst", 0, table));
    ck_assert(!nth_file(".sst", 1, other));
    struct table_footer footer = footer_of(table);
    size_t data = footer.data.size;
    ck_assert_uint_lt(data, (size_t)file_size(table) / 3 * 2);
    ck_assert_uint_eq(lose_bytes(table, 0, data, &records), KEYS);
    ck_assert_uint_eq(records, KEYS);
    for (unsigned i = 0; i < 4; i++) { /* a block or two, and the last ones */
        unsigned gone = lose_bytes(table, data / 4 * i + data / 5, 8, &records);
        ck_assert_uint_gt(gone, 0);
        ck_assert_uint_ge(records, gone * 3 / 4);
        ck_assert_uint_le(records, gone * 5 / 4);
    }
    /* Without properties and index the blocks end where the first of the other parts begins. */
    ck_assert_uint_eq(lose_bytes(table, 0, (size_t)file_size(table) - 1, &records), KEYS);
    ck_assert_uint_eq(records, KEYS);
}
END_TEST

START_TEST(test_repair_missing_table_its_range_is_told)
{
    char name[64];
    make_database(50);
    ck_assert(nth_file(".sst", 2, name));
    remove_file(name);
    repair_and_undo();
    ck_assert(told.loss_count > 0);
    check_contents();
}
END_TEST

START_TEST(test_repair_missing_current_costs_nothing)
{
    make_database(100);
    remove_file("CURRENT");
    repair_and_undo();
    ck_assert_uint_eq(told.loss_count, 0);
    ck_assert(!told.is_unseen);
    check_whole();
}
END_TEST

static void remove_manifests(void)
{
    char name[64];
    while (nth_file("MANIFEST-", 0, name))
        remove_file(name);
    remove_file("CURRENT");
}

START_TEST(test_repair_lost_manifests_cost_nothing)
{
    make_database(100);
    remove_manifests();
    repair_and_undo();
    ck_assert_uint_eq(told.loss_count, 0);
    ck_assert(told.is_unseen);
    check_whole();
    check_stays();
}
END_TEST

/* Someone else's LOCK came along with an older copy: what it says counts for nothing. */
START_TEST(test_repair_with_the_lock_of_another_database_counts_its_own_edits)
{
    struct edit_mark mark = {.uuid = "another database", .frame_number = 1000000};
    uint8_t bytes[EDIT_MARK_SIZE];
    make_database(0);
    edit_mark_encode(&mark, bytes);
    change_file("LOCK", (long)EDIT_MARK_OFFSET, bytes, sizeof bytes);
    remove_file("CURRENT");
    repair_now();
    ck_assert(told.result.is_changed);
    check_whole();
    close_ok(open_with(OPTIONS));
    char path[sizeof db_path + 8];
    snprintf(path, sizeof path, "%s/LOCK", db_path);
    int fd = open(path, O_RDONLY);
    ck_assert_int_eq(pread(fd, bytes, sizeof bytes, (off_t)EDIT_MARK_OFFSET), sizeof bytes);
    close(fd);
    ck_assert(edit_mark_decode(bytes, &mark));
    ck_assert_mem_ne(mark.uuid, "another database", sizeof mark.uuid);
    ck_assert_uint_lt(mark.frame_number, 1000000);
}
END_TEST

/* Every table that was ever written is there again. */
static void bring_back(const char *kept)
{
    char command[1200];
    snprintf(command, sizeof command, "cp -an '%s/%s/'*.sst '%s/'", scratch, kept, db_path);
    ck_assert_int_eq(system(command), 0);
}

static void make_with_obsolete(void)
{
    lsm_cf *cfs[FAMILIES];
    char command[1200];
    make_database(0);
    snprintf(command, sizeof command, "mkdir -p '%s/all' && cp -a '%s/'*.sst '%s/all/'", scratch,
             db_path, scratch);
    for (unsigned i = 0; i < 4; i++) {
        lsm_db *db = open_with(OPTIONS);
        open_families(db, cfs);
        ck_assert_int_eq(system(command), 0);
        write_many(db, cfs, 700);
        ck_ok(lsm_flush(db, &error));
        ck_assert_int_eq(system(command), 0);
        lsm_compact_options options = {0};
        ck_ok(lsm_compact_range(db, cfs[i % 2], &options, &error));
        ck_assert_int_eq(system(command), 0);
        if (i == 3) {
            write_many(db, cfs, 100);
            db_abandon(db);
        } else {
            close_ok(db);
        }
    }
    bring_back("all");
}

START_TEST(test_repair_lost_manifest_with_obsolete_tables_revives_nothing)
{
    make_with_obsolete();
    remove_manifests();
    repair_and_undo();
    check_whole();
}
END_TEST

START_TEST(test_repair_rebuild_asked_for_costs_nothing)
{
    make_with_obsolete();
    memset(&told, 0, sizeof told);
    lsm_repair_options options = repair_options();
    options.rebuild_manifest = true;
    repair_with(&options);
    ck_assert(told.result.is_changed);
    check_whole();
}
END_TEST

START_TEST(test_repair_damaged_manifest_is_completed_from_tables)
{
    char name[64], newest[64];
    make_with_obsolete();
    for (unsigned n = 0; nth_file("MANIFEST-", n, newest); n++)
        memcpy(name, newest, sizeof name);
    change_file(name, 60, zeros, 200);
    repair_and_undo();
    check_whole();
}
END_TEST

/* Where the value of a write stands in a file; -1: nowhere. */
static long place_of_write(const char *name, unsigned number)
{
    char path[sizeof db_path + 80], wanted[32];
    static char bytes[1 << 17];
    snprintf(wanted, sizeof wanted, "/%u/", number);
    snprintf(path, sizeof path, "%s/%s", db_path, name);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    size_t size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    char *at = memmem(bytes, size, wanted, strlen(wanted));
    return at == NULL ? -1 : at - bytes;
}

START_TEST(test_repair_zeroed_log_page_loses_its_records_only)
{
    char name[64];
    make_database(200);
    ck_assert(nth_file(".wal", 0, name));
    change_file("STAGE", 0, zeros, sizeof zeros);
    for (long at = 0; at < 64 << 10; at += (long)sizeof zeros)
        change_file("STAGE", at, zeros, sizeof zeros);
    long at = -1;
    for (unsigned n = 0; at < 0; n++) { /* deletes leave no value */
        ck_assert_uint_lt(n, 40);
        for (unsigned i = 0; at < 0 && nth_file(".wal", i, name); i++)
            at = place_of_write(name, write_count - 10 - n);
    }
    change_file(name, at - 60, zeros, 300);
    repair_and_undo();
    struct wrongs w = check_contents();
    ck_assert_uint_le(w.lost + w.stale + w.revived, 12);
    check_stays();
}
END_TEST

START_TEST(test_repair_dry_run_changes_nothing)
{
    char name[64];
    make_database(50);
    ck_assert(nth_file(".sst", 1, name));
    change_file(name, 0, zeros, 2000);
    copy_tree("db", "before");
    lsm_repair_options options = repair_options();
    options.dry_run = true;
    repair_with(&options);
    ck_assert(!told.result.is_changed && told.result.is_damage_left && told.result.is_data_lost);
    ck_assert(trees_are_equal("db", "before"));
    options.dry_run = false;
    options.only_exact = true;
    memset(&told, 0, sizeof told);
    ck_fails(LSM_CANCELLED, lsm_repair(db_path, &options, &told.result, &error));
    ck_assert(trees_are_equal("db", "before"));
}
END_TEST

START_TEST(test_repair_to_a_copy_leaves_the_original)
{
    char name[64], to[SCRATCH_PATH_SIZE + 16];
    make_database(50);
    ck_assert(nth_file(".sst", 1, name));
    change_file(name, 0, zeros, 2000);
    copy_tree("db", "before");
    snprintf(to, sizeof to, "%s/copy", scratch);
    lsm_repair_options options = repair_options();
    options.to = to;
    repair_with(&options);
    ck_assert(trees_are_equal("db", "before"));
    snprintf(db_path, sizeof db_path, "%s/copy", scratch);
    check_contents();
}
END_TEST

START_TEST(test_repair_open_database_is_refused)
{
    make_database(0);
    lsm_db *db = open_with(OPTIONS);
    char pid[32];
    ck_fails(LSM_BUSY, lsm_repair(db_path, NULL, NULL, &error));
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    ck_assert_msg(strstr(error.message, pid) != NULL, "%s", error.message);
    close_ok(db);
}
END_TEST

int main(void)
{
    const char *given = getenv("LSM_TEST_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("LSM_TEST_SEED=%u\n", seed);
    srandom(seed);
    Suite *suite = suite_create("repair");
    TCase *tcase = tcase_create("damage");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, fixture_set_up, fixture_tear_down);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("healthy_killed_database_stays_as_it_is", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_healthy_killed_database_stays_as_it_is);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("healthy_closed_database_stays_as_it_is", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_healthy_closed_database_stays_as_it_is);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("wrong_byte_anywhere_in_a_table_is_exact", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_wrong_byte_anywhere_in_a_table_is_exact);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("wrong_byte_in_log_manifest_and_current_is_exact", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_wrong_byte_in_log_manifest_and_current_is_exact);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("zeroed_page_of_a_table_loses_its_blocks_only", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_zeroed_page_of_a_table_loses_its_blocks_only);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("truncated_table_keeps_what_is_there", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_truncated_table_keeps_what_is_there);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("tells_as_many_records_as_are_lost", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_tells_as_many_records_as_are_lost);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("missing_table_its_range_is_told", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_missing_table_its_range_is_told);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("missing_current_costs_nothing", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_missing_current_costs_nothing);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("with_the_lock_of_another_database_counts_its_own_edits", getenv("LSM_TEST_ONLY")) !=
            NULL)
        tcase_add_test(tcase, test_repair_with_the_lock_of_another_database_counts_its_own_edits);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("lost_manifests_cost_nothing", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_lost_manifests_cost_nothing);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("lost_manifest_with_obsolete_tables_revives_nothing", getenv("LSM_TEST_ONLY")) !=
            NULL)
        tcase_add_test(tcase, test_repair_lost_manifest_with_obsolete_tables_revives_nothing);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("rebuild_asked_for_costs_nothing", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_rebuild_asked_for_costs_nothing);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("damaged_manifest_is_completed_from_tables", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_damaged_manifest_is_completed_from_tables);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("zeroed_log_page_loses_its_records_only", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_zeroed_log_page_loses_its_records_only);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("dry_run_changes_nothing", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_dry_run_changes_nothing);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("to_a_copy_leaves_the_original", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_to_a_copy_leaves_the_original);
    if (getenv("LSM_TEST_ONLY") == NULL ||
        strstr("open_database_is_refused", getenv("LSM_TEST_ONLY")) != NULL)
        tcase_add_test(tcase, test_repair_open_database_is_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
