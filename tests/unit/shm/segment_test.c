/* The shared segment: what it makes, backs and removes. */
#include "engine/shm/segment.h"

#include "engine/base/memory.h"
#include "engine/io/sim.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

static struct io *io;
static char directory[64];

static void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/shm_segment_test.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(io_open("posix", &io, NULL), LSM_OK);
}

static void teardown(void)
{
    io_close(io);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    ck_assert_int_eq(system(command), 0);
}

static struct shm_options options_of(uint8_t database)
{
    struct shm_options options = {
        .directory = directory, .arena_size = 4 * MIB, .memtable_count = 3};
    for (size_t i = 0; i < SHM_UUID_SIZE; i++)
        options.uuid[i] = (uint8_t)(database + i);
    return options;
}

static struct shm_segment *create(const struct shm_options *options)
{
    struct shm_segment *segment = NULL;
    lsm_error err = {0};
    lsm_status status = shm_segment_create(io, options, &segment, &err);
    ck_assert_msg(status == LSM_OK, "%s", err.message);
    return segment;
}

/* The number of entries in the directory; the name of the last one seen. */
static int list(char *name, size_t size)
{
    DIR *dir = opendir(directory);
    ck_assert_ptr_nonnull(dir);
    int count = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (e->d_name[0] == '.')
            continue;
        count++;
        if (name != NULL)
            snprintf(name, size, "%s", e->d_name);
    }
    closedir(dir);
    return count;
}

static void make_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fclose(file);
}

START_TEST(test_segment_create_lays_out_and_names_it)
{
    struct shm_options options = options_of(0xa0);
    struct shm_segment *segment = create(&options);
    struct shm_layout *layout = shm_layout(segment);
    ck_assert_uint_eq(layout->ident.magic, SHM_MAGIC);
    ck_assert_uint_eq(layout->ident.layout, SHM_LAYOUT_VERSION);
    ck_assert_uint_eq(layout->ident.arena_size, 4 * MIB);
    ck_assert_uint_eq(layout->ident.memtable_count, 3);
    ck_assert_mem_eq(layout->ident.uuid, options.uuid, SHM_UUID_SIZE);
    ck_assert_uint_eq((uintptr_t)layout % 64, 0);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_uint_eq(layout->memtables[i].state, SHM_MEMTABLE_FREE);
        ck_assert_ptr_eq(shm_arena(segment, i), (uint8_t *)layout + layout->ident.arenas_offset +
                                                    i * layout->ident.arena_size);
        ck_assert_uint_eq((uintptr_t)shm_arena(segment, i) % 4096, 0);
    }
    ck_assert_int_eq(shm_lock(&layout->locks.append), SHM_LOCKED);
    shm_unlock(&layout->locks.append);

    char name[256];
    ck_assert_int_eq(list(name, sizeof name), 1);
    ck_assert_int_eq(strncmp(name, "lsm-a0a1a2a3a4a5a6a7a8a9aaabacadaeaf-", 37), 0);
    ck_assert_uint_eq(strlen(name), 37 + 16);
    shm_segment_destroy(segment);
    ck_assert_int_eq(list(NULL, 0), 0);
}
END_TEST

START_TEST(test_segment_create_removes_left_overs_of_its_database_only)
{
    make_file("lsm-a0a1a2a3a4a5a6a7a8a9aaabacadaeaf-0123456789abcdef"); /* goes */
    make_file("lsm-a0a1a2a3a4a5a6a7a8a9aaabacadaeaf-0123456789abcdeF"); /* no name of ours */
    make_file("lsm-a0a1a2a3a4a5a6a7a8a9aaabacadaeaf-0123456789abcdef0");
    make_file("lsm-b0a1a2a3a4a5a6a7a8a9aaabacadaeaf-0123456789abcdef"); /* another database */
    make_file("lsm-");
    struct shm_options options = options_of(0xa0);
    struct shm_segment *segment = create(&options);
    ck_assert_int_eq(list(NULL, 0), 5); /* four strangers and the new one */
    shm_segment_destroy(segment);
    ck_assert_int_eq(list(NULL, 0), 4);
}
END_TEST

START_TEST(test_segment_create_spares_the_living_segment_of_a_copy)
{
    struct shm_options a = options_of(9), b = options_of(9);
    a.lock_file = (struct io_identity){.device = 1, .inode = 10};
    b.lock_file = (struct io_identity){.device = 1, .inode = 11};
    struct shm_segment *original = create(&a), *copy = create(&b);
    ck_assert_int_eq(list(NULL, 0), 2);
    /* Whoever holds its LOCK file knows that the original's owner is dead, however late it dies. */
    struct shm_segment *again = create(&a);
    ck_assert_int_eq(list(NULL, 0), 2);
    shm_segment_close(original);
    shm_segment_close(copy); /* left over, of a LOCK file that is nobody's now */
    ck_assert_int_eq(list(NULL, 0), 2);
    ck_assert_int_eq(shm_segment_remove_stale(io, directory, a.uuid, (struct io_identity){0}, NULL),
                     LSM_OK);
    ck_assert_int_eq(list(NULL, 0), 1);
    shm_segment_destroy(again);
    ck_assert_int_eq(list(NULL, 0), 0);
}
END_TEST

static lsm_status open_again(struct shm_segment *segment, uint64_t inode_off, lsm_error *err)
{
    char place[256];
    struct io_identity identity;
    struct shm_segment *again = NULL;
    lsm_status status = shm_segment_place(segment, place, sizeof place, &identity, err);
    identity.inode += inode_off;
    if (status == LSM_OK)
        status = shm_segment_open(io, place, shm_segment_name(segment), identity, &again, err);
    if (status == LSM_OK)
        ck_assert_mem_eq(shm_layout(again), shm_layout(segment), sizeof(struct shm_ident));
    shm_segment_close(again);
    return status;
}

START_TEST(test_segment_open_maps_only_what_lies_as_expected)
{
    struct shm_options options = options_of(8);
    struct shm_segment *segment = create(&options);
    struct shm_ident *ident = &shm_layout(segment)->ident, good = *ident;
    lsm_error err = {0};
    ck_assert_int_eq(open_again(segment, 0, &err), LSM_OK);
    ck_assert_int_eq(open_again(segment, 1, &err), LSM_UNSUPPORTED);
    ident->magic++;
    ck_assert_int_eq(open_again(segment, 0, &err), LSM_CORRUPT);
    *ident = good;
    ident->layout++;
    ck_assert_int_eq(open_again(segment, 0, &err), LSM_UNSUPPORTED);
    *ident = good;
    ident->layout_hash++;
    ck_assert_int_eq(open_again(segment, 0, &err), LSM_UNSUPPORTED);
    *ident = good;
    ident->memtable_count = SHM_MAX_MEMTABLES + 1;
    ck_assert_int_eq(open_again(segment, 0, &err), LSM_CORRUPT);
    ident->memtable_count = 1; /* less than the file has room for */
    ck_assert_int_eq(open_again(segment, 0, &err), LSM_CORRUPT);
    *ident = good;
    ident->segment_size += 4096;
    ck_assert_int_eq(open_again(segment, 0, &err), LSM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(err.message, "size"));
    *ident = good;
    ck_assert_int_eq(open_again(segment, 0, &err), LSM_OK);
    shm_segment_destroy(segment);
}
END_TEST

START_TEST(test_segment_remove_stale_in_a_missing_directory_is_nothing)
{
    uint8_t uuid[SHM_UUID_SIZE] = {1};
    lsm_error err = {0};
    ck_assert_int_eq(
        shm_segment_remove_stale(io, "/tmp/there is/no such", uuid, (struct io_identity){0}, &err),
        LSM_OK);
    ck_assert_int_eq(err.status, LSM_OK);
}
END_TEST

START_TEST(test_segment_create_makes_a_missing_directory)
{
    struct shm_options options = options_of(1);
    char path[96];
    snprintf(path, sizeof path, "%s/below", directory);
    options.directory = path;
    struct shm_segment *segment = create(&options);
    struct stat about;
    ck_assert_int_eq(stat(path, &about), 0);
    shm_segment_destroy(segment);
}
END_TEST

START_TEST(test_segment_two_of_different_databases_live_together)
{
    struct shm_options a = options_of(1), b = options_of(2);
    struct shm_segment *first = create(&a), *second = create(&b);
    ck_assert_int_eq(list(NULL, 0), 2);
    ck_assert_mem_ne(shm_layout(first)->ident.nonce, shm_layout(second)->ident.nonce,
                     SHM_UUID_SIZE);
    shm_segment_destroy(first);
    ck_assert_int_eq(list(NULL, 0), 1);
    shm_segment_destroy(second);
}
END_TEST

static uint64_t disk_bytes(void)
{
    char name[256], path[400];
    ck_assert_int_eq(list(name, sizeof name), 1);
    snprintf(path, sizeof path, "%s/%s", directory, name);
    struct stat about;
    ck_assert_int_eq(stat(path, &about), 0);
    return (uint64_t)about.st_blocks * 512;
}

START_TEST(test_segment_back_allocates_what_was_asked_and_no_more)
{
    struct shm_options options = options_of(3);
    struct shm_segment *segment = create(&options);
    uint64_t layout_size = shm_layout(segment)->ident.arenas_offset;
    ck_assert_uint_eq(shm_segment_bytes(segment), layout_size);
    ck_assert_uint_le(disk_bytes(), layout_size + 8192);

    ck_assert_int_eq(shm_arena_back(segment, 1, 100, 4 * MIB - 100, NULL), LSM_OK);
    ck_assert_uint_eq(shm_segment_bytes(segment), layout_size + 2 * MIB);
    ck_assert_uint_ge(disk_bytes(), layout_size + 2 * MIB);
    ck_assert_uint_lt(disk_bytes(), layout_size + 3 * MIB);
    ((uint8_t *)shm_arena(segment, 1))[MIB - 1] = 1;
    ((uint8_t *)shm_arena(segment, 1))[3 * MIB] = 1;

    ck_assert_int_eq(shm_arena_back(segment, 1, MIB, 3 * MIB, NULL), LSM_OK); /* nothing to do */
    ck_assert_uint_eq(shm_segment_bytes(segment), layout_size + 2 * MIB);
    ck_assert_int_eq(shm_arena_back(segment, 1, MIB + 1, 4 * MIB, NULL), LSM_OK);
    ck_assert_uint_eq(shm_segment_bytes(segment), layout_size + 3 * MIB);
    ck_assert_int_eq(shm_arena_back(segment, 1, 4 * MIB, 0, NULL), LSM_OK);
    ck_assert_uint_eq(shm_segment_bytes(segment), layout_size + 4 * MIB);
    ck_assert_int_eq(shm_arena_back(segment, 2, 0, 4 * MIB - 1, NULL), LSM_OK);
    ck_assert_uint_eq(shm_segment_bytes(segment), layout_size + 5 * MIB);
    shm_segment_destroy(segment);
}
END_TEST

START_TEST(test_segment_back_of_a_small_arena_takes_it_whole)
{
    struct shm_options options = options_of(4);
    options.arena_size = 65536;
    options.memtable_count = SHM_MAX_MEMTABLES;
    struct shm_segment *segment = create(&options);
    uint64_t layout_size = shm_layout(segment)->ident.arenas_offset;
    ck_assert_int_eq(shm_arena_back(segment, 7, 1, 65535, NULL), LSM_OK);
    ck_assert_uint_eq(shm_segment_bytes(segment), layout_size + 65536);
    memset(shm_arena(segment, 7), 0xff, 65536);
    shm_segment_destroy(segment);
}
END_TEST

#define BACKERS 4

struct backer {
    struct shm_segment *segment;
    unsigned number;
};

/* Each asks for its own multiples of a step, so that they overtake one another all the time. */
static void *back_steps(void *context)
{
    const struct backer *b = context;
    lsm_status status = LSM_OK;
    uint64_t last = 0;
    for (uint64_t step = b->number; step <= 32 && status == LSM_OK; step += 1 + b->number) {
        uint64_t reach = step * SHM_BACK_STEP;
        status = shm_arena_back(b->segment, 0, reach, 64 * MIB - reach, NULL);
        const struct shm_memtable *table = &shm_layout(b->segment)->memtables[0];
        uint64_t low = atomic_load(&table->backed_low), high = atomic_load(&table->backed_high);
        if (low < reach || low < last || high > 64 * MIB - reach)
            status = LSM_INVALID;
        last = low;
    }
    return (void *)(uintptr_t)status;
}

START_TEST(test_segment_back_by_several_at_once_keeps_what_the_farthest_has)
{
    for (unsigned round = 0; round < 5; round++) {
        struct shm_options options = options_of(3);
        options.arena_size = 64 * MIB;
        struct shm_segment *segment = create(&options);
        pthread_t threads[BACKERS];
        struct backer backers[BACKERS];
        for (unsigned i = 0; i < BACKERS; i++) {
            backers[i] = (struct backer){segment, i};
            ck_assert_int_eq(pthread_create(&threads[i], NULL, back_steps, &backers[i]), 0);
        }
        for (unsigned i = 0; i < BACKERS; i++) {
            void *status;
            ck_assert_int_eq(pthread_join(threads[i], &status), 0);
            ck_assert_uint_eq((uintptr_t)status, LSM_OK);
        }
        ck_assert_uint_eq(shm_segment_bytes(segment),
                          shm_layout(segment)->ident.arenas_offset + 64 * MIB);
        shm_segment_destroy(segment);
    }
}
END_TEST

START_TEST(test_segment_without_options_in_range_is_refused)
{
    struct shm_segment *segment = NULL;
    struct shm_options options = options_of(5);
    options.memtable_count = SHM_MAX_MEMTABLES + 1;
    ck_assert_int_eq(shm_segment_create(io, &options, &segment, NULL), LSM_INVALID);
    options.memtable_count = 0;
    ck_assert_int_eq(shm_segment_create(io, &options, &segment, NULL), LSM_INVALID);
    options = options_of(5);
    options.arena_size = 0;
    ck_assert_int_eq(shm_segment_create(io, &options, &segment, NULL), LSM_INVALID);
    options.arena_size = UINT64_MAX;
    ck_assert_int_eq(shm_segment_create(io, &options, &segment, NULL), LSM_INVALID);
    ck_assert_ptr_null(segment);
}
END_TEST

START_TEST(test_segment_allocation_failures_leave_nothing_behind)
{
    struct shm_options options = options_of(6);
    struct shm_segment *segment = NULL;
    int64_t failures = 0;
    for (; segment == NULL; failures++) {
        ck_assert_int_lt(failures, 100);
        mem_fail_after(failures, false);
        lsm_error err = {0};
        lsm_status status = shm_segment_create(io, &options, &segment, &err);
        mem_fail_after(-1, false);
        ck_assert(status == LSM_OK || status == LSM_NO_MEMORY);
        if (status != LSM_OK) {
            ck_assert_ptr_null(segment);
            ck_assert_int_eq(list(NULL, 0), 0);
        }
    }
    ck_assert_int_gt(failures, 2);
    shm_segment_destroy(segment);
}
END_TEST

/* On a simulated disk of the given size; `segment` is NULL when it could not be made. */
static struct sim_disk *simulate(uint64_t capacity, struct io **sim, struct shm_segment **segment,
                                 lsm_error *err)
{
    struct shm_options options = options_of(7);
    options.directory = "/shm";
    struct sim_disk *disk = sim_disk_new(1);
    ck_assert_ptr_nonnull(disk);
    sim_set_capacity(disk, capacity);
    ck_assert_int_eq(sim_open(disk, sim, NULL), LSM_OK);
    lsm_status status = shm_segment_create(*sim, &options, segment, err);
    ck_assert_int_eq(status, err->status);
    return disk;
}

static void check_says_what_to_do(const lsm_error *err)
{
    ck_assert_int_eq(err->status, LSM_NO_SPACE);
    ck_assert_int_eq(err->os_errno, ENOSPC);
    ck_assert_int_eq(strncmp(err->file, "lsm-0708090a", 12), 0);
    ck_assert_ptr_nonnull(strstr(err->message, "'/shm'"));
    ck_assert_ptr_nonnull(strstr(err->message, "shm_dir"));
    ck_assert_ptr_nonnull(strstr(err->message, "memtable_size"));
}

START_TEST(test_segment_without_space_for_an_arena_says_what_to_do)
{
    struct io *sim = NULL;
    struct shm_segment *segment = NULL;
    lsm_error err = {0};
    struct sim_disk *disk = simulate(3 * MIB, &sim, &segment, &err);
    ck_assert_int_eq(shm_arena_back(segment, 0, MIB, 4 * MIB - 1, &err), LSM_OK);
    uint64_t before = shm_segment_bytes(segment);
    ck_assert_int_eq(shm_arena_back(segment, 0, 2 * MIB, 4 * MIB - 1, &err), LSM_NO_SPACE);
    check_says_what_to_do(&err);
    ck_assert_uint_eq(shm_segment_bytes(segment), before);
    sim_set_capacity(disk, 8 * MIB); /* somebody made room: the same call works */
    ck_assert_int_eq(shm_arena_back(segment, 0, 2 * MIB, 4 * MIB - 1, &err), LSM_OK);
    memset(shm_arena(segment, 0), 1, 2 * MIB);
    shm_segment_destroy(segment);
    io_close(sim);
    sim_disk_free(disk);
}
END_TEST

START_TEST(test_segment_without_space_for_its_layout_is_not_made)
{
    struct io *sim = NULL;
    struct shm_segment *segment = NULL;
    lsm_error err = {0};
    struct sim_disk *disk = simulate(4096, &sim, &segment, &err);
    ck_assert_ptr_null(segment);
    check_says_what_to_do(&err);
    io_close(sim);
    sim_disk_free(disk);
}
END_TEST

START_TEST(test_segment_allocation_error_is_passed_on)
{
    struct io *sim = NULL;
    struct shm_segment *segment = NULL;
    lsm_error err = {0};
    struct sim_disk *disk = simulate(0, &sim, &segment, &err);
    sim_fail_after(disk, SIM_FAULT_ALLOCATE, 0, EIO, false);
    ck_assert_int_eq(shm_arena_back(segment, 2, MIB, 4 * MIB, &err), LSM_IO);
    ck_assert_int_eq(err.os_errno, EIO);
    shm_segment_destroy(segment);
    io_close(sim);
    sim_disk_free(disk);
}
END_TEST

START_TEST(test_segment_destroy_of_nothing_is_allowed)
{
    shm_segment_destroy(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm segment");
    TCase *tests = tcase_create("segment");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_segment_create_lays_out_and_names_it);
    tcase_add_test(tests, test_segment_create_removes_left_overs_of_its_database_only);
    tcase_add_test(tests, test_segment_create_spares_the_living_segment_of_a_copy);
    tcase_add_test(tests, test_segment_open_maps_only_what_lies_as_expected);
    tcase_add_test(tests, test_segment_remove_stale_in_a_missing_directory_is_nothing);
    tcase_add_test(tests, test_segment_create_makes_a_missing_directory);
    tcase_add_test(tests, test_segment_two_of_different_databases_live_together);
    tcase_add_test(tests, test_segment_back_allocates_what_was_asked_and_no_more);
    tcase_add_test(tests, test_segment_back_of_a_small_arena_takes_it_whole);
    tcase_add_test(tests, test_segment_back_by_several_at_once_keeps_what_the_farthest_has);
    tcase_add_test(tests, test_segment_without_options_in_range_is_refused);
    tcase_add_test(tests, test_segment_allocation_failures_leave_nothing_behind);
    tcase_add_test(tests, test_segment_without_space_for_an_arena_says_what_to_do);
    tcase_add_test(tests, test_segment_without_space_for_its_layout_is_not_made);
    tcase_add_test(tests, test_segment_allocation_error_is_passed_on);
    tcase_add_test(tests, test_segment_destroy_of_nothing_is_allowed);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
