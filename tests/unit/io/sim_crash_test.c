/* What crashes of the simulated disk lose, tear and keep. */
#include "tests/unit/io/machine.h"

/* ---- certain crashes ------------------------------------------------------------------------- */

START_TEST(test_sim_synced_data_survives_and_unsynced_is_lost)
{
    struct machine m = new_machine(1);
    put_file(&m, "a", 'o', 10000, true);
    put_file(&m, "a", 'n', 20000, false);
    ck_assert(is_all(&m, "a", 'n', 20000));
    crash(&m, SIM_CRASH_LOSE_ALL, 1);
    ck_assert(is_all(&m, "a", 'o', 10000));
    discard(&m);
}
END_TEST

START_TEST(test_sim_unsynced_data_survives_a_kill_and_may_survive_a_power_cut)
{
    struct machine m = new_machine(1);
    put_file(&m, "a", 'n', 20000, false);
    crash(&m, SIM_CRASH_KILL, 1);
    ck_assert(is_all(&m, "a", 'n', 20000));
    crash(&m, SIM_CRASH_KEEP_ALL, 1);
    ck_assert(is_all(&m, "a", 'n', 20000));
    crash(&m, SIM_CRASH_LOSE_ALL, 1); /* keeping made it durable */
    ck_assert(is_all(&m, "a", 'n', 20000));
    discard(&m);
}
END_TEST

START_TEST(test_sim_kill_does_not_make_anything_durable)
{
    struct machine m = new_machine(1);
    put_file(&m, "a", 'o', 5000, true);
    put_file(&m, "a", 'n', 5000, false);
    crash(&m, SIM_CRASH_KILL, 1);
    crash(&m, SIM_CRASH_LOSE_ALL, 1);
    ck_assert(is_all(&m, "a", 'o', 5000));
    discard(&m);
}
END_TEST

START_TEST(test_sim_unsynced_name_is_lost_though_its_data_was_synced)
{
    struct machine m = new_machine(1);
    struct io_file *f = open_file(&m, "a", RW);
    ck_ok(io_file_write(f, "abc", 3, 0, err));
    ck_ok(io_file_sync(f, err));
    io_file_close(f);
    crash(&m, SIM_CRASH_LOSE_ALL, 1);
    ck_assert(!exists(&m, "a"));
    discard(&m);
}
END_TEST

START_TEST(test_sim_synced_name_without_synced_data_is_empty)
{
    struct machine m = new_machine(1);
    put_file(&m, "a", 'x', 3000, false);
    ck_ok(io_dir_sync(m.dir, err));
    crash(&m, SIM_CRASH_LOSE_ALL, 1);
    ck_assert(is_all(&m, "a", 'x', 0));
    discard(&m);
}
END_TEST

START_TEST(test_sim_unsynced_rename_and_unlink_are_undone)
{
    struct machine m = new_machine(1);
    put_file(&m, "CURRENT", 'o', 10, true);
    put_file(&m, "other", 'u', 10, true);
    put_file(&m, "tmp", 'n', 20, true);
    ck_ok(io_dir_rename(m.dir, "tmp", "CURRENT", err));
    ck_ok(io_dir_unlink(m.dir, "other", NULL, err));
    ck_assert(!exists(&m, "other"));
    crash(&m, SIM_CRASH_LOSE_ALL, 1);
    ck_assert(is_all(&m, "CURRENT", 'o', 10));
    ck_assert(is_all(&m, "tmp", 'n', 20));
    ck_assert(is_all(&m, "other", 'u', 10));
    ck_ok(io_dir_rename(m.dir, "tmp", "CURRENT", err));
    ck_ok(io_dir_unlink(m.dir, "other", NULL, err));
    ck_ok(io_dir_sync(m.dir, err));
    crash(&m, SIM_CRASH_LOSE_ALL, 1);
    ck_assert(is_all(&m, "CURRENT", 'n', 20));
    ck_assert(!exists(&m, "tmp"));
    ck_assert(!exists(&m, "other"));
    discard(&m);
}
END_TEST

START_TEST(test_sim_sync_after_shrinking_and_growing_leaves_no_old_bytes)
{
    struct machine m = new_machine(1);
    put_file(&m, "a", 'o', 10 * PAGE, true);
    struct io_file *f = open_file(&m, "a", RW);
    ck_ok(io_file_truncate(f, PAGE, err));
    ck_ok(io_file_truncate(f, 8 * PAGE, err));
    ck_ok(io_file_sync(f, err));
    io_file_close(f);
    crash(&m, SIM_CRASH_LOSE_ALL, 1);
    size_t size = 0;
    const unsigned char *bytes = contents(&m, "a", &size);
    ck_assert_uint_eq(size, 8 * PAGE);
    size_t wrong = 0;
    for (size_t i = 0; i < size; i++)
        wrong += bytes[i] != (i < PAGE ? 'o' : 0);
    ck_assert_uint_eq(wrong, 0);
    discard(&m);
}
END_TEST

START_TEST(test_sim_old_environment_and_locks_are_dead_after_a_crash)
{
    struct machine m = new_machine(1);
    struct io_file *f = open_file(&m, "LOCK", RW);
    struct io_lock *lock = NULL;
    ck_ok(io_lock(f, 0, &lock, err));
    sim_crash(m.disk, SIM_CRASH_KILL, 1); /* nobody closed anything */
    struct machine later;
    boot(&later, m.disk);
    struct io_file *g = open_file(&later, "LOCK", RW);
    struct io_lock *mine = NULL;
    ck_ok(io_lock(g, 0, &mine, err));
    lsm_error error = {0};
    ck_assert_int_eq(io_file_write(f, "x", 1, 0, &error), LSM_IO);
    ck_assert_ptr_nonnull(strstr(error.message, OFF));
    io_unlock(lock); /* must not free the new owner's */
    ck_assert(io_lock_is_held(g, 0));
    io_file_close(f);
    shut(&m);
    io_unlock(mine);
    io_file_close(g);
    discard(&later);
}
END_TEST

/* ---- random power cuts ----------------------------------------------------------------------- */

START_TEST(test_sim_random_cut_never_loses_what_was_synced)
{
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct machine m = new_machine(seed);
        put_file(&m, "a", 'o', 9000, true);
        struct io_file *f = open_file(&m, "a", RW);
        char bytes[3000];
        memset(bytes, 'n', sizeof bytes);
        ck_ok(io_file_write(f, bytes, sizeof bytes, 9000, err));
        io_file_close(f);
        crash(&m, SIM_CRASH_RANDOM, seed);
        size_t size = 0;
        const unsigned char *found = contents(&m, "a", &size);
        ck_assert_uint_ge(size, 9000);
        size_t right = 0;
        while (right < 9000 && found[right] == 'o')
            right++;
        ck_assert_msg(right == 9000, "seed %u byte %zu", (unsigned)seed, right);
        discard(&m);
    }
}
END_TEST

/* Sees that an overwrite comes out old, new, and torn between two sectors; and nothing else. */
START_TEST(test_sim_random_cut_tears_overwrites_at_sectors)
{
    unsigned old = 0;
    unsigned whole = 0;
    unsigned torn = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct machine m = new_machine(seed);
        put_file(&m, "a", 'o', 3 * PAGE, true);
        struct io_file *f = open_file(&m, "a", RW | IO_FILE_DIRECT);
        void *bytes = backend_pages(2 * PAGE, 'n');
        ck_ok(io_file_write(f, bytes, 2 * PAGE, 0, err));
        free(bytes);
        io_file_close(f);
        crash(&m, SIM_CRASH_RANDOM, seed);
        size_t size = 0;
        const unsigned char *found = contents(&m, "a", &size);
        ck_assert_uint_eq(size, 3 * PAGE);
        size_t new_sectors = 0;
        size_t wrong = 0;
        for (size_t i = 0; i < size; i++) {
            wrong += found[i] != 'o' && (found[i] != 'n' || i >= 2 * PAGE);
            wrong += found[i] != found[i - i % SECTOR];
            new_sectors += i % SECTOR == 0 && found[i] == 'n';
        }
        ck_assert_uint_eq(wrong, 0);
        old += new_sectors == 0;
        whole += new_sectors == 2 * PAGE / SECTOR;
        torn += new_sectors > 0 && new_sectors < 2 * PAGE / SECTOR;
        discard(&m);
    }
    ck_assert_msg(old > 20 && whole > 20 && torn > 20, "old %u whole %u torn %u", old, whole, torn);
}
END_TEST

START_TEST(test_sim_random_cut_leaves_sizes_without_data)
{
    unsigned lost = 0;
    unsigned whole = 0;
    unsigned zeros = 0;
    unsigned garbage = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct machine m = new_machine(seed);
        put_file(&m, "a", 'o', 0, true);
        put_file(&m, "a", 'n', 2 * PAGE, false);
        crash(&m, SIM_CRASH_RANDOM, seed);
        size_t size = 0;
        const unsigned char *found = contents(&m, "a", &size);
        lost += size == 0;
        if (size > 0) {
            size_t written = 0;
            size_t empty = 0;
            for (size_t i = 0; i < size; i++) {
                written += found[i] == 'n';
                empty += found[i] == 0;
            }
            whole += written == size;
            zeros += empty == size;
            garbage += written + empty < size;
        }
        discard(&m);
    }
    ck_assert_msg(lost > 20 && whole > 20 && zeros > 5 && garbage > 5,
                  "lost %u whole %u zeros %u garbage %u", lost, whole, zeros, garbage);
}
END_TEST

START_TEST(test_sim_random_cut_keeps_renames_atomic)
{
    unsigned new_current = 0;
    unsigned both = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct machine m = new_machine(seed);
        put_file(&m, "CURRENT", 'o', 10, true);
        struct io_file *f = open_file(&m, "tmp", RW);
        ck_ok(io_file_write(f, "nnnnn", 5, 0, err));
        ck_ok(io_file_sync(f, err));
        io_file_close(f);
        ck_ok(io_dir_rename(m.dir, "tmp", "CURRENT", err));
        crash(&m, SIM_CRASH_RANDOM, seed);
        bool is_new = is_all(&m, "CURRENT", 'n', 5);
        ck_assert(is_new || is_all(&m, "CURRENT", 'o', 10));
        if (exists(&m, "tmp"))
            ck_assert(is_all(&m, "tmp", 'n', 5));
        new_current += is_new;
        both += is_new && exists(&m, "tmp");
        discard(&m);
    }
    ck_assert_uint_eq(both, 0);
    ck_assert_msg(new_current > 20 && new_current < 180, "%u", new_current);
}
END_TEST

/* Two files made in order: each of the four outcomes occurs. */
START_TEST(test_sim_random_cut_does_not_order_names)
{
    unsigned seen[4] = {0};
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct machine m = new_machine(seed);
        put_file(&m, "a", 'x', 1, false);
        put_file(&m, "b", 'x', 1, false);
        crash(&m, SIM_CRASH_RANDOM, seed);
        seen[(exists(&m, "a") ? 1 : 0) + (exists(&m, "b") ? 2 : 0)]++;
        discard(&m);
    }
    for (size_t i = 0; i < 4; i++)
        ck_assert_msg(seen[i] > 5, "outcome %zu: %u", i, seen[i]);
}
END_TEST

START_TEST(test_sim_random_cut_may_undo_a_removal)
{
    unsigned removed = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct machine m = new_machine(seed);
        put_file(&m, "a", 'o', 100, true);
        ck_ok(io_dir_unlink(m.dir, "a", NULL, err));
        crash(&m, SIM_CRASH_RANDOM, seed);
        if (exists(&m, "a"))
            ck_assert(is_all(&m, "a", 'o', 100));
        else
            removed++;
        discard(&m);
    }
    ck_assert_msg(removed > 10 && removed < 90, "%u", removed);
}
END_TEST

START_TEST(test_sim_crash_is_repeated_by_its_seed)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        unsigned char first[3 * 4096];
        size_t first_size = 0;
        for (int turn = 0; turn < 2; turn++) {
            struct machine m = new_machine(7);
            put_file(&m, "a", 'o', PAGE, true);
            put_file(&m, "a", 'n', 3 * PAGE, false);
            crash(&m, SIM_CRASH_RANDOM, seed);
            size_t size = 0;
            const unsigned char *bytes = contents(&m, "a", &size);
            if (turn == 0) {
                first_size = size;
                memcpy(first, bytes, size);
            }
            ck_assert_uint_eq(size, first_size);
            ck_assert_mem_eq(bytes, first, size);
            discard(&m);
        }
    }
}
END_TEST

/* ---- mappings -------------------------------------------------------------------------------- */

START_TEST(test_sim_mapped_stores_survive_a_kill_but_no_power_cut)
{
    for (int power = 0; power < 2; power++) {
        struct machine m = new_machine(3);
        put_file(&m, "stage", 'o', 4 * PAGE, true);
        struct io_file *f = open_file(&m, "stage", RW);
        struct io_mapping *mapping = map_file(f, 4 * PAGE);
        memset(io_mapping_memory(mapping), 'n', 4 * PAGE);
        io_unmap(mapping);
        io_file_close(f);
        crash(&m, power ? SIM_CRASH_LOSE_ALL : SIM_CRASH_KILL, 1);
        ck_assert(is_all(&m, "stage", power ? 'o' : 'n', 4 * PAGE));
        discard(&m);
    }
}
END_TEST

START_TEST(test_sim_mapped_stores_are_durable_after_a_sync)
{
    struct machine m = new_machine(3);
    put_file(&m, "stage", 'o', 4 * PAGE, true);
    struct io_file *f = open_file(&m, "stage", RW);
    struct io_mapping *mapping = map_file(f, 4 * PAGE);
    char *memory = io_mapping_memory(mapping);
    memset(memory, 'n', 4 * PAGE);
    ck_ok(io_file_sync(f, err));
    memory[0] = '!';
    io_unmap(mapping);
    io_file_close(f);
    crash(&m, SIM_CRASH_LOSE_ALL, 1);
    ck_assert(is_all(&m, "stage", 'n', 4 * PAGE));
    discard(&m);
}
END_TEST

START_TEST(test_sim_random_cut_keeps_mapped_pages_one_by_one)
{
    unsigned mixed = 0;
    unsigned torn = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct machine m = new_machine(seed);
        put_file(&m, "stage", 'o', 8 * PAGE, true);
        struct io_file *f = open_file(&m, "stage", RW);
        struct io_mapping *mapping = map_file(f, 8 * PAGE);
        memset(io_mapping_memory(mapping), 'n', 8 * PAGE);
        io_unmap(mapping);
        io_file_close(f);
        crash(&m, SIM_CRASH_RANDOM, seed);
        size_t size = 0;
        const unsigned char *found = contents(&m, "stage", &size);
        ck_assert_uint_eq(size, 8 * PAGE);
        size_t kept = 0;
        size_t wrong = 0;
        bool tear = false;
        for (size_t i = 0; i < size; i++) {
            wrong += found[i] != 'o' && found[i] != 'n';
            wrong += found[i] != found[i - i % SECTOR];
            tear |= found[i] != found[i - i % PAGE];
            kept += found[i] == 'n';
        }
        ck_assert_uint_eq(wrong, 0);
        mixed += kept > 0 && kept < size;
        torn += tear;
        discard(&m);
    }
    ck_assert_msg(mixed > 50 && torn > 50, "mixed %u torn %u", mixed, torn);
}
END_TEST

START_TEST(test_sim_stores_after_the_stop_do_not_reach_the_disk)
{
    struct machine m = new_machine(3);
    put_file(&m, "stage", 'o', 2 * PAGE, true);
    struct io_file *f = open_file(&m, "stage", RW);
    struct io_mapping *mapping = map_file(f, 2 * PAGE);
    char *memory = io_mapping_memory(mapping);
    memory[10] = 'b';
    sim_stop_at(m.disk, 1); /* in the past: now */
    ck_assert(sim_is_stopped(m.disk));
    memory[11] = 'a';
    io_unmap(mapping);
    io_file_close(f);
    crash(&m, SIM_CRASH_KILL, 1);
    size_t size = 0;
    const unsigned char *found = contents(&m, "stage", &size);
    ck_assert_int_eq(found[10], 'b');
    ck_assert_int_eq(found[11], 'o');
    discard(&m);
}
END_TEST

START_TEST(test_sim_mapping_with_holes_is_refused)
{
    struct machine m = new_machine(3);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_mapping *mapping = NULL;
    ck_ok(io_file_truncate(f, 4 * PAGE, err));
    ck_assert_int_eq(io_map(f, 4 * PAGE, IO_MAP_WRITE, &mapping, NULL), LSM_INVALID);
    ck_ok(io_file_allocate(f, 0, 4 * PAGE, err));
    mapping = map_file(f, 4 * PAGE);
    io_unmap(mapping);
    io_file_close(f);
    discard(&m);
}
END_TEST

/* Two environments, as two processes, see each other's stores. */
START_TEST(test_sim_mapping_is_shared_by_environments)
{
    struct machine one = new_machine(3);
    put_file(&one, "stage", 'o', 2 * PAGE, true);
    struct machine two;
    boot(&two, one.disk);
    struct io_file *f = open_file(&one, "stage", RW);
    struct io_file *g = open_file(&two, "stage", RW);
    struct io_mapping *a = map_file(f, 2 * PAGE);
    struct io_mapping *b = map_file(g, PAGE);
    ((char *)io_mapping_memory(a))[5] = 'a';
    ck_assert_int_eq(((char *)io_mapping_memory(b))[5], 'a');
    io_unmap(a);
    ((char *)io_mapping_memory(b))[6] = 'b';
    char got[2];
    ck_ok(io_file_read_exact(f, got, 2, 5, err));
    ck_assert_mem_eq(got, "ab", 2);
    io_unmap(b);
    io_file_close(f);
    io_file_close(g);
    shut(&one);
    discard(&two);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("simulated crashes");
    TCase *cases = tcase_create("sim");
    const TTest *const tests[] = {
        test_sim_synced_data_survives_and_unsynced_is_lost,
        test_sim_unsynced_data_survives_a_kill_and_may_survive_a_power_cut,
        test_sim_kill_does_not_make_anything_durable,
        test_sim_unsynced_name_is_lost_though_its_data_was_synced,
        test_sim_synced_name_without_synced_data_is_empty,
        test_sim_unsynced_rename_and_unlink_are_undone,
        test_sim_sync_after_shrinking_and_growing_leaves_no_old_bytes,
        test_sim_old_environment_and_locks_are_dead_after_a_crash,
        test_sim_random_cut_never_loses_what_was_synced,
        test_sim_random_cut_tears_overwrites_at_sectors,
        test_sim_random_cut_leaves_sizes_without_data,
        test_sim_random_cut_keeps_renames_atomic,
        test_sim_random_cut_does_not_order_names,
        test_sim_random_cut_may_undo_a_removal,
        test_sim_crash_is_repeated_by_its_seed,
        test_sim_mapped_stores_survive_a_kill_but_no_power_cut,
        test_sim_mapped_stores_are_durable_after_a_sync,
        test_sim_random_cut_keeps_mapped_pages_one_by_one,
        test_sim_stores_after_the_stop_do_not_reach_the_disk,
        test_sim_mapping_with_holes_is_refused,
        test_sim_mapping_is_shared_by_environments,
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(cases, tests[i]);
    suite_add_tcase(suite, cases);
    return backend_run(suite);
}
