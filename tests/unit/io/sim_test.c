/* What the simulated disk loses, tears, keeps and refuses. */
#include "tests/unit/io/backend.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <errno.h>
#include <pthread.h>

#define RW     (IO_FILE_WRITE | IO_FILE_CREATE)
#define SECTOR ((size_t)512)
#define PAGE   ((size_t)4096)
#define OFF    "the simulated machine is off"

/* A disk with one environment and one directory, "db". */
struct machine {
    struct sim_disk *disk;
    struct io *io;
    struct io_dir *dir;
};

static void boot(struct machine *m, struct sim_disk *disk)
{
    *m = (struct machine){.disk = disk};
    ck_ok(sim_open(disk, &m->io, err));
    ck_ok(io_dir_open(m->io, "db", IO_DIR_CREATE, 0, &m->dir, err));
}

static struct machine new_machine(uint64_t seed)
{
    struct machine m;
    boot(&m, sim_disk_new(seed));
    return m;
}

static void shut(struct machine *m)
{
    io_dir_close(m->dir);
    io_close(m->io);
}

/* Closes the environment, crashes the disk, and opens another environment. */
static void crash(struct machine *m, enum sim_crash how, uint64_t seed)
{
    struct sim_disk *disk = m->disk;
    shut(m);
    sim_crash(disk, how, seed);
    boot(m, disk);
}

static void discard(struct machine *m)
{
    shut(m);
    sim_disk_free(m->disk);
}

static struct io_file *open_file(struct machine *m, const char *name, unsigned flags)
{
    struct io_file *f = NULL;
    ck_ok(io_file_open(m->dir, name, flags, 0, &f, err));
    return f;
}

/* Writes a whole file of `size` times `byte`; durable with `sync`. */
static void put_file(struct machine *m, const char *name, int byte, size_t size, bool sync)
{
    struct io_file *f = open_file(m, name, RW);
    void *bytes = backend_pages(size + PAGE - size % PAGE, byte);
    ck_ok(io_file_truncate(f, 0, err));
    ck_ok(io_file_write(f, bytes, size, 0, err));
    if (sync) {
        ck_ok(io_file_sync(f, err));
        ck_ok(io_dir_sync(m->dir, err));
    }
    free(bytes);
    io_file_close(f);
}

static bool exists(struct machine *m, const char *name)
{
    const void *bytes = NULL;
    size_t size = 0;
    return sim_contents(m->disk, "db", name, &bytes, &size, NULL) == LSM_OK;
}

static const unsigned char *contents(struct machine *m, const char *name, size_t *size)
{
    const void *bytes = NULL;
    ck_ok(sim_contents(m->disk, "db", name, &bytes, size, err));
    return bytes;
}

/* Whether the file is `size` times `byte`. */
static bool is_all(struct machine *m, const char *name, int byte, size_t size)
{
    size_t found = 0;
    const unsigned char *bytes = contents(m, name, &found);
    if (found != size)
        return false;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != byte)
            return false;
    return true;
}

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

static struct io_mapping *map_file(struct io_file *f, size_t size)
{
    struct io_mapping *mapping = NULL;
    ck_ok(io_map(f, size, IO_MAP_WRITE, &mapping, err));
    return mapping;
}

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

/* ---- queues ---------------------------------------------------------------------------------- */

/* Writes 'a' and 'b' to one place at once; the byte that is there in the end, 0 for neither. */
static int race_two_writes(uint64_t seed, bool stop, enum sim_crash how)
{
    struct machine m = new_machine(seed);
    put_file(&m, "a", 'o', SECTOR, true);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_queue *queue = NULL;
    char bytes[2][512];
    struct io_request requests[2];
    ck_ok(io_queue_open(m.io, 4, &queue, err));
    for (size_t i = 0; i < 2; i++) {
        memset(bytes[i], i == 0 ? 'a' : 'b', SECTOR);
        requests[i] = (struct io_request){
            .operation = IO_WRITE, .file = f, .memory = bytes[i], .size = SECTOR};
        io_queue_push(queue, &requests[i]);
    }
    ck_ok(io_queue_submit(queue, err));
    ck_assert_uint_eq(sim_overlap_count(m.disk), 1);
    if (stop)
        sim_stop_at(m.disk, 1);
    io_queue_close(queue);
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(requests[i].os_errno != 0, stop);
    io_file_close(f);
    crash(&m, how, seed);
    size_t size = 0;
    const unsigned char *found = contents(&m, "a", &size);
    ck_assert_uint_eq(size, SECTOR);
    int byte = found[0];
    ck_assert(is_all(&m, "a", byte, SECTOR));
    discard(&m);
    return byte;
}

START_TEST(test_sim_writes_in_flight_land_in_any_order)
{
    unsigned seen[256] = {0};
    for (uint64_t seed = 1; seed <= 100; seed++)
        seen[race_two_writes(seed, false, SIM_CRASH_KILL)]++;
    ck_assert_msg(seen['a'] > 10 && seen['b'] > 10, "a %u b %u", seen['a'], seen['b']);
    ck_assert_uint_eq(seen['o'], 0);
}
END_TEST

START_TEST(test_sim_writes_in_flight_at_the_end_may_land_or_not)
{
    const enum sim_crash ways[] = {SIM_CRASH_KILL, SIM_CRASH_RANDOM};
    for (size_t w = 0; w < 2; w++) {
        unsigned seen[256] = {0};
        for (uint64_t seed = 1; seed <= 200; seed++)
            seen[race_two_writes(seed, true, ways[w])]++;
        ck_assert_msg(seen['a'] > 5 && seen['b'] > 5 && seen['o'] > 5, "a %u b %u o %u", seen['a'],
                      seen['b'], seen['o']);
    }
    for (uint64_t seed = 1; seed <= 50; seed++) {
        ck_assert_int_eq(race_two_writes(seed, true, SIM_CRASH_LOSE_ALL), 'o');
        ck_assert_int_ne(race_two_writes(seed, true, SIM_CRASH_KEEP_ALL), 'o');
    }
}
END_TEST

START_TEST(test_sim_overlap_is_counted_between_writes_in_flight_only)
{
    struct machine m = new_machine(4);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_queue *queue = NULL;
    char bytes[512] = {0};
    struct io_request requests[3];
    const uint64_t offsets[3] = {0, SECTOR, SECTOR - 1};
    ck_ok(io_queue_open(m.io, 4, &queue, err));
    for (size_t i = 0; i < 3; i++)
        requests[i] = (struct io_request){.operation = IO_WRITE,
                                          .file = f,
                                          .memory = bytes,
                                          .size = SECTOR,
                                          .offset = offsets[i]};
    for (size_t i = 0; i < 3; i++) { /* one after the other */
        io_queue_push(queue, &requests[i]);
        ck_assert_ptr_eq(io_queue_reap(queue, true), &requests[i]);
    }
    io_queue_push(queue, &requests[0]); /* side by side */
    io_queue_push(queue, &requests[1]);
    ck_ok(io_queue_submit(queue, err));
    ck_assert_uint_eq(sim_overlap_count(m.disk), 0);
    io_queue_push(queue, &requests[2]);
    ck_ok(io_queue_submit(queue, err));
    ck_assert_uint_eq(sim_overlap_count(m.disk), 1);
    io_queue_close(queue);
    io_file_close(f);
    discard(&m);
}
END_TEST

START_TEST(test_sim_requests_complete_in_seeded_order)
{
    unsigned first_is_last = 0;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct machine m = new_machine(seed);
        put_file(&m, "a", 'o', 8 * PAGE, true);
        struct io_file *f = open_file(&m, "a", 0);
        struct io_queue *queue = NULL;
        static char bytes[8][4096];
        struct io_request requests[8];
        ck_ok(io_queue_open(m.io, 8, &queue, err));
        for (size_t i = 0; i < 8; i++) {
            requests[i] = (struct io_request){.operation = IO_READ,
                                              .file = f,
                                              .memory = bytes[i],
                                              .size = PAGE,
                                              .offset = i * PAGE};
            io_queue_push(queue, &requests[i]);
        }
        const struct io_request *last = NULL;
        for (const struct io_request *r; (r = io_queue_reap(queue, true)) != NULL;)
            last = r;
        first_is_last += last == &requests[0];
        io_queue_close(queue);
        io_file_close(f);
        discard(&m);
    }
    ck_assert_msg(first_is_last > 0 && first_is_last < 50, "%u", first_is_last);
}
END_TEST

START_TEST(test_sim_killed_process_leaves_writes_that_land_later_or_never)
{
    unsigned at_once = 0;
    unsigned later = 0;
    unsigned never = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct machine victim = new_machine(seed);
        put_file(&victim, "wal", 'o', SECTOR, true);
        struct machine survivor;
        boot(&survivor, victim.disk);
        struct io_file *f = open_file(&victim, "wal", RW);
        struct io_lock *lock = NULL;
        struct io_queue *queue = NULL;
        char bytes[512];
        memset(bytes, 'z', sizeof bytes);
        struct io_request r = {.operation = IO_WRITE, .file = f, .memory = bytes, .size = SECTOR};
        ck_ok(io_lock(f, 0, &lock, err));
        ck_ok(io_queue_open(victim.io, 4, &queue, err));
        io_queue_push(queue, &r);
        ck_ok(io_queue_submit(queue, err));
        sim_kill(victim.io);
        ck_assert_int_eq(io_file_sync(f, NULL), LSM_IO);
        io_queue_close(queue);
        ck_assert_int_ne(r.os_errno, 0);
        struct io_file *g = open_file(&survivor, "wal", RW);
        ck_assert(!io_lock_is_held(g, 0));
        bool landed = is_all(&survivor, "wal", 'z', SECTOR);
        at_once += landed;
        for (unsigned i = 0; i < 4; i++)
            ck_ok(io_dir_sync(survivor.dir, err));
        bool landed_later = is_all(&survivor, "wal", 'z', SECTOR);
        later += landed_later && !landed;
        never += !landed_later;
        io_unlock(lock);
        io_file_close(f);
        io_file_close(g);
        shut(&victim);
        discard(&survivor);
    }
    ck_assert_msg(at_once > 10 && later > 10 && never > 5, "at once %u later %u never %u", at_once,
                  later, never);
}
END_TEST

/* ---- stopping -------------------------------------------------------------------------------- */

/* Replaces "CURRENT" as a careful program does; stops at the first failure. */
static lsm_status replace_current(struct machine *m, lsm_error *err)
{
    struct io_file *f = NULL;
    char bytes[100];
    memset(bytes, 'n', sizeof bytes);
    lsm_status status = io_file_open(m->dir, "tmp", RW, 0, &f, err);
    if (status == LSM_OK)
        status = io_file_write(f, bytes, sizeof bytes, 0, err);
    if (status == LSM_OK)
        status = io_file_sync(f, err);
    io_file_close(f);
    if (status == LSM_OK)
        status = io_dir_rename(m->dir, "tmp", "CURRENT", err);
    return status == LSM_OK ? io_dir_sync(m->dir, err) : status;
}

START_TEST(test_sim_stop_at_each_step_leaves_the_old_or_the_new)
{
    struct machine m = new_machine(5);
    put_file(&m, "CURRENT", 'o', 50, true);
    struct sim_disk *start = sim_disk_clone(m.disk);
    uint64_t first = sim_step_count(m.disk);
    ck_ok(replace_current(&m, err));
    uint64_t last = sim_step_count(m.disk);
    ck_assert_uint_eq(last - first, 5); /* create, write, sync, rename, directory sync */
    discard(&m);

    unsigned news = 0;
    for (uint64_t step = first + 1; step <= last; step++)
        for (uint64_t seed = 1; seed <= 40; seed++) {
            boot(&m, sim_disk_clone(start));
            sim_stop_at(m.disk, step);
            lsm_error error = {0};
            ck_assert_int_eq(replace_current(&m, &error), LSM_IO);
            ck_assert_ptr_nonnull(strstr(error.message, OFF));
            ck_assert(sim_is_stopped(m.disk));
            ck_assert_uint_eq(sim_step_count(m.disk), step - 1);
            enum sim_crash how = seed <= 3 ? (enum sim_crash)(seed - 1) : SIM_CRASH_RANDOM;
            crash(&m, how, seed);
            bool is_new = is_all(&m, "CURRENT", 'n', 100);
            ck_assert(is_new || is_all(&m, "CURRENT", 'o', 50));
            ck_assert(!is_new || step == last); /* the rename is step last - 1 */
            news += is_new;
            ck_ok(replace_current(&m, err)); /* the disk works again */
            ck_assert(is_all(&m, "CURRENT", 'n', 100));
            discard(&m);
        }
    ck_assert_uint_gt(news, 5);
    sim_disk_free(start);
}
END_TEST

static lsm_status count_visit(void *context, const char *name, lsm_error *err)
{
    (void)name;
    (void)err;
    ++*(unsigned *)context;
    return LSM_OK;
}

START_TEST(test_sim_stopped_machine_refuses_everything)
{
    struct machine m = new_machine(5);
    put_file(&m, "a", 'o', 2 * PAGE, true);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_file *g = NULL;
    struct io_dir *dir = NULL;
    struct io_mapping *mapping = NULL;
    struct io_lock *lock = NULL;
    struct io *io = NULL;
    lsm_error error = {0};
    char bytes[16] = {0};
    size_t got = 0;
    uint64_t size = 0;
    unsigned visits = 0;
    sim_stop_at(m.disk, sim_step_count(m.disk));
    ck_assert_int_eq(io_file_read(f, bytes, 16, 0, &got, &error), LSM_IO);
    ck_assert_str_eq(error.message, "cannot read 16 bytes at offset 0 of 'db/a': " OFF);
    ck_assert_int_eq(io_file_write(f, bytes, 16, 0, NULL), LSM_IO);
    ck_assert_int_eq(io_file_sync(f, NULL), LSM_IO);
    ck_assert_int_eq(io_file_size(f, &size, NULL), LSM_IO);
    ck_assert_int_eq(io_file_truncate(f, 0, NULL), LSM_IO);
    ck_assert_int_eq(io_file_allocate(f, 0, 99999, NULL), LSM_IO);
    ck_assert_int_eq(io_file_open(m.dir, "a", 0, 0, &g, NULL), LSM_IO);
    ck_assert_int_eq(io_file_open(m.dir, "b", RW, 0, &g, NULL), LSM_IO);
    ck_assert_int_eq(io_dir_open(m.io, "db", 0, 0, &dir, NULL), LSM_IO);
    ck_assert_int_eq(io_dir_list(m.dir, count_visit, &visits, NULL), LSM_IO);
    ck_assert_int_eq(io_dir_sync(m.dir, NULL), LSM_IO);
    ck_assert_int_eq(io_dir_rename(m.dir, "a", "b", NULL), LSM_IO);
    ck_assert_int_eq(io_dir_unlink(m.dir, "a", NULL, NULL), LSM_IO);
    ck_assert_int_eq(io_dir_remove(m.io, "db", NULL), LSM_IO);
    ck_assert_int_eq(io_map(f, PAGE, 0, &mapping, NULL), LSM_IO);
    ck_assert_int_eq(io_lock(f, 0, &lock, NULL), LSM_IO);
    ck_assert_int_eq(sim_open(m.disk, &io, &error), LSM_IO);
    ck_assert_ptr_nonnull(strstr(error.message, OFF));
    ck_assert_uint_eq(visits, 0);
    io_file_close(f);
    crash(&m, SIM_CRASH_KILL, 1);
    ck_assert(is_all(&m, "a", 'o', 2 * PAGE));
    discard(&m);
}
END_TEST

START_TEST(test_sim_stopped_queue_gives_requests_back_with_the_reason)
{
    struct machine m = new_machine(5);
    put_file(&m, "a", 'o', PAGE, true);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_queue *queue = NULL;
    char bytes[512] = {0};
    struct io_request requests[6];
    ck_ok(io_queue_open(m.io, 4, &queue, err));
    sim_stop_at(m.disk, sim_step_count(m.disk) + 3);
    for (size_t i = 0; i < 6; i++) {
        requests[i] =
            (struct io_request){.operation = IO_WRITE, .file = f, .memory = bytes, .size = SECTOR};
        io_queue_push(queue, &requests[i]);
    }
    unsigned failed = 0;
    for (const struct io_request *r; (r = io_queue_reap(queue, true)) != NULL;)
        failed += r->os_errno != 0;
    ck_assert_uint_ge(failed, 4); /* steps 1 and 2 were done, perhaps not reaped */
    ck_assert(sim_is_stopped(m.disk));
    lsm_error error = {0};
    ck_assert_int_eq(io_request_error(&requests[5], &error), LSM_IO);
    ck_assert_str_eq(error.message, "cannot write 512 bytes at offset 0 to 'db/a': " OFF);
    io_queue_close(queue);
    io_file_close(f);
    discard(&m);
}
END_TEST

/* ---- faults and space ------------------------------------------------------------------------ */

START_TEST(test_sim_faults_fail_the_chosen_operation_once_or_for_ever)
{
    struct machine m = new_machine(6);
    put_file(&m, "a", 'o', PAGE, true);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_file *g = NULL;
    char bytes[16] = {0};
    lsm_error error = {0};
    sim_fail_after(m.disk, SIM_FAULT_WRITE, 1, EIO, false);
    ck_ok(io_file_write(f, bytes, 16, 0, err));
    ck_assert_int_eq(io_file_write(f, bytes, 16, 512, &error), LSM_IO);
    ck_assert_str_eq(error.message,
                     "cannot write 16 bytes at offset 512 to 'db/a': Input/output error");
    ck_assert_int_eq(error.os_errno, EIO);
    ck_ok(io_file_write(f, bytes, 16, 0, err));

    sim_fail_after(m.disk, SIM_FAULT_READ, 0, EIO, true);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(io_file_read_exact(f, bytes, 16, 0, NULL), LSM_IO);
    sim_fail_never(m.disk);
    ck_ok(io_file_read_exact(f, bytes, 16, 0, err));

    sim_fail_after(m.disk, SIM_FAULT_ALLOCATE, 0, ENOSPC, false);
    ck_assert_int_eq(io_file_allocate(f, 0, 99999, NULL), LSM_NO_SPACE);
    sim_fail_after(m.disk, SIM_FAULT_OPEN, 0, EMFILE, false);
    ck_assert_int_eq(io_file_open(m.dir, "a", 0, 0, &g, NULL), LSM_IO);
    sim_fail_after(m.disk, SIM_FAULT_NAME, 1, EIO, false);
    ck_ok(io_dir_rename(m.dir, "a", "b", err));
    ck_assert_int_eq(io_dir_unlink(m.dir, "b", NULL, NULL), LSM_IO);
    ck_assert(exists(&m, "b"));
    sim_fail_after(m.disk, SIM_FAULT_SYNC, 0, EIO, false);
    ck_assert_int_eq(io_dir_sync(m.dir, NULL), LSM_IO);
    ck_ok(io_dir_sync(m.dir, err));
    io_file_close(f);
    discard(&m);
}
END_TEST

START_TEST(test_sim_fault_reaches_queued_requests)
{
    struct machine m = new_machine(6);
    put_file(&m, "a", 'o', PAGE, true);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_queue *queue = NULL;
    char bytes[16] = {0};
    ck_ok(io_queue_open(m.io, 4, &queue, err));
    for (int operation = 0; operation < 2; operation++) {
        struct io_request r = {.operation = operation == 0 ? IO_READ : IO_WRITE,
                               .file = f,
                               .memory = bytes,
                               .size = 16};
        sim_fail_after(m.disk, operation == 0 ? SIM_FAULT_READ : SIM_FAULT_WRITE, 0, EIO, false);
        for (int turn = 0; turn < 2; turn++) {
            io_queue_push(queue, &r);
            ck_assert_ptr_eq(io_queue_reap(queue, true), &r);
            ck_assert_int_eq(r.os_errno, turn == 0 ? EIO : 0);
        }
    }
    io_queue_close(queue);
    io_file_close(f);
    discard(&m);
}
END_TEST

/* As on ext4: the failed pages count as clean, a second sync succeeds and brings nothing back. */
START_TEST(test_sim_failed_sync_loses_the_data_for_good)
{
    struct machine m = new_machine(6);
    put_file(&m, "a", 'o', PAGE, true);
    struct io_file *f = open_file(&m, "a", RW);
    ck_ok(io_file_write(f, "new", 3, 0, err));
    sim_fail_after(m.disk, SIM_FAULT_SYNC, 0, EIO, false);
    lsm_error error = {0};
    ck_assert_int_eq(io_file_sync(f, &error), LSM_IO);
    ck_assert_str_eq(error.message, "cannot sync 'db/a', its last writes may be lost: "
                                    "Input/output error");
    ck_ok(io_file_sync(f, err));
    char got[3];
    ck_ok(io_file_read_exact(f, got, 3, 0, err));
    ck_assert_mem_eq(got, "new", 3); /* the page cache still shows it */
    io_file_close(f);
    crash(&m, SIM_CRASH_KEEP_ALL, 1);
    ck_assert(is_all(&m, "a", 'o', PAGE));
    discard(&m);
}
END_TEST

/* A mapping of an earlier life must not make it kinder. */
START_TEST(test_sim_failed_sync_loses_the_data_of_a_once_mapped_file_too)
{
    struct machine m = new_machine(6);
    put_file(&m, "a", 'o', PAGE, true);
    struct io_file *f = open_file(&m, "a", RW);
    io_unmap(map_file(f, PAGE));
    io_file_close(f);
    crash(&m, SIM_CRASH_LOSE_ALL, 1);
    f = open_file(&m, "a", RW);
    ck_ok(io_file_write(f, "new", 3, 0, err));
    sim_fail_after(m.disk, SIM_FAULT_SYNC, 0, EIO, false);
    ck_assert_int_eq(io_file_sync(f, NULL), LSM_IO);
    io_file_close(f);
    crash(&m, SIM_CRASH_KEEP_ALL, 1);
    ck_assert(is_all(&m, "a", 'o', PAGE));
    discard(&m);
}
END_TEST

START_TEST(test_sim_capacity_is_a_full_disk_until_something_is_removed)
{
    struct machine m = new_machine(6);
    put_file(&m, "a", 'a', 4 * PAGE, true);
    sim_set_capacity(m.disk, 8 * PAGE);
    put_file(&m, "b", 'b', 4 * PAGE, true);
    struct io_file *f = open_file(&m, "c", RW);
    lsm_error error = {0};
    ck_assert_int_eq(io_file_write(f, "x", 1, 0, &error), LSM_NO_SPACE);
    ck_assert_str_eq(error.message,
                     "cannot write 1 bytes at offset 0 to 'db/c': No space left on device");
    ck_assert_int_eq(io_file_allocate(f, 0, PAGE, NULL), LSM_NO_SPACE);
    struct io_file *a = open_file(&m, "a", RW);
    ck_ok(io_file_write(a, "x", 1, 0, err)); /* in place */
    char bytes[2 * 4096] = {0};
    ck_assert_int_eq(io_file_write(a, bytes, sizeof bytes, 4 * PAGE - 100, NULL), LSM_NO_SPACE);
    ck_ok(io_file_read_exact(a, bytes + PAGE, 101, 4 * PAGE - 101, err));
    ck_assert_mem_eq(bytes + PAGE, "a\0\0", 3); /* what fitted was written */
    ck_ok(io_dir_unlink(m.dir, "a", NULL, err));
    ck_assert_int_eq(io_file_write(f, "x", 1, 0, NULL), LSM_NO_SPACE); /* still open */
    io_file_close(a);
    ck_ok(io_file_write(f, "x", 1, 0, err));
    ck_ok(io_file_allocate(f, 0, 4 * PAGE, err));
    ck_assert_int_eq(io_file_allocate(f, 0, 5 * PAGE, NULL), LSM_NO_SPACE);
    ck_ok(io_dir_rename(m.dir, "c", "b", err)); /* frees what it replaces */
    ck_ok(io_file_allocate(f, 0, 8 * PAGE, err));
    io_file_close(f);
    discard(&m);
}
END_TEST

/* ---- clones and looking in ------------------------------------------------------------------- */

START_TEST(test_sim_clone_is_independent)
{
    struct machine m = new_machine(8);
    put_file(&m, "a", 'd', 2 * PAGE, true);
    put_file(&m, "a", 'p', 2 * PAGE, false);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_mapping *mapping = map_file(f, 2 * PAGE);
    ((char *)io_mapping_memory(mapping))[PAGE] = 'm';
    struct machine lost;
    struct machine kept;
    struct sim_disk *clones[2] = {sim_disk_clone(m.disk), sim_disk_clone(m.disk)};
    sim_crash(clones[0], SIM_CRASH_LOSE_ALL, 1);
    sim_crash(clones[1], SIM_CRASH_KEEP_ALL, 1);
    boot(&lost, clones[0]);
    boot(&kept, clones[1]);
    ck_assert(is_all(&lost, "a", 'd', 2 * PAGE));
    size_t size = 0;
    const unsigned char *bytes = contents(&kept, "a", &size);
    ck_assert_uint_eq(size, 2 * PAGE);
    ck_assert_int_eq(bytes[PAGE], 'm');
    put_file(&lost, "a", 'x', PAGE, true);
    put_file(&kept, "b", 'y', PAGE, true);
    ck_assert(!exists(&m, "b"));
    ((char *)io_mapping_memory(mapping))[PAGE] = 'p';
    ck_assert(is_all(&m, "a", 'p', 2 * PAGE));
    io_unmap(mapping);
    io_file_close(f);
    discard(&m);
    ck_assert(is_all(&lost, "a", 'x', PAGE)); /* outlives the original */
    discard(&lost);
    discard(&kept);
}
END_TEST

START_TEST(test_sim_clone_has_writes_in_flight_and_unsynced_names)
{
    unsigned landed = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct machine m = new_machine(seed);
        put_file(&m, "a", 'o', SECTOR, true);
        ck_ok(io_dir_rename(m.dir, "a", "b", err));
        struct io_file *f = open_file(&m, "b", RW);
        struct io_queue *queue = NULL;
        char bytes[512];
        memset(bytes, 'n', sizeof bytes);
        struct io_request r = {.operation = IO_WRITE, .file = f, .memory = bytes, .size = SECTOR};
        ck_ok(io_queue_open(m.io, 4, &queue, err));
        io_queue_push(queue, &r);
        ck_ok(io_queue_submit(queue, err));
        const enum sim_crash ways[] = {SIM_CRASH_LOSE_ALL, SIM_CRASH_KEEP_ALL, SIM_CRASH_KILL};
        for (size_t w = 0; w < 3; w++) {
            struct machine copy = {.disk = sim_disk_clone(m.disk)};
            sim_crash(copy.disk, ways[w], seed);
            ck_assert_int_eq(exists(&copy, "b"), ways[w] != SIM_CRASH_LOSE_ALL);
            bool is_new = is_all(&copy, exists(&copy, "b") ? "b" : "a", 'n', SECTOR);
            if (ways[w] == SIM_CRASH_KILL)
                landed += is_new;
            else
                ck_assert_int_eq(is_new, ways[w] == SIM_CRASH_KEEP_ALL);
            sim_disk_free(copy.disk);
        }
        io_queue_close(queue);
        io_file_close(f);
        discard(&m);
    }
    ck_assert_msg(landed > 10 && landed < 40, "%u", landed);
}
END_TEST

START_TEST(test_sim_clone_shares_pages)
{
    struct machine m = new_machine(8);
    for (int i = 0; i < 8; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        put_file(&m, name, i, 64 * PAGE, true);
    }
    uint64_t before = mem_allocation_count();
    struct sim_disk *clone = sim_disk_clone(m.disk);
    ck_assert_uint_lt(mem_allocation_count() - before, 80); /* of 512 pages */
    sim_disk_free(clone);
    discard(&m);
}
END_TEST

START_TEST(test_sim_overwrite_damages_durably_and_inside_only)
{
    struct machine m = new_machine(8);
    put_file(&m, "a", 'o', 100, true);
    lsm_error error = {0};
    ck_ok(sim_overwrite(m.disk, "db", "a", 50, "DAMAGE", 6, err));
    crash(&m, SIM_CRASH_LOSE_ALL, 1);
    size_t size = 0;
    const unsigned char *bytes = contents(&m, "a", &size);
    ck_assert_uint_eq(size, 100);
    ck_assert_mem_eq(bytes + 49, "oDAMAGEo", 8);
    ck_assert_int_eq(sim_overwrite(m.disk, "db", "a", 98, "xyz", 3, &error), LSM_INVALID);
    ck_assert_int_eq(sim_overwrite(m.disk, "db", "none", 0, "x", 1, &error), LSM_MISSING);
    ck_assert_str_eq(error.message, "there is no 'db/none' on the simulated disk");
    discard(&m);
}
END_TEST

/* ---- against a plain array ------------------------------------------------------------------- */

#define MODEL_SIZE ((size_t)40000)

struct model {
    unsigned char bytes[40000];
    size_t size;
    size_t mapped; /* bytes of the file that the mapping shows */
};

static void random_change(struct random_state *random, struct io_file *f, struct model *model,
                          struct io_mapping **mapping)
{
    static unsigned char bytes[40000];
    size_t offset = (size_t)random_below(random, MODEL_SIZE);
    size_t size = (size_t)random_below(random, MODEL_SIZE - offset) + 1;
    memset(bytes, (int)random_below(random, 256), size);
    switch (random_below(random, 6)) {
    case 0:
    case 1:
        ck_ok(io_file_write(f, bytes, size, offset, err));
        memcpy(model->bytes + offset, bytes, size);
        if (offset + size > model->size)
            model->size = offset + size;
        return;
    case 2:
        if (*mapping != NULL)
            return; /* nobody cuts a mapped file */
        ck_ok(io_file_truncate(f, offset, err));
        memset(model->bytes + offset, 0, MODEL_SIZE - offset);
        model->size = offset;
        return;
    case 3:
        ck_ok(io_file_allocate(f, offset, size, err));
        if (offset + size > model->size)
            model->size = offset + size;
        return;
    case 4:
        if (*mapping == NULL && model->size > 0) {
            ck_ok(io_file_allocate(f, 0, model->size, err));
            *mapping = map_file(f, model->size);
            model->mapped = model->size;
        } else if (*mapping != NULL) {
            io_unmap(*mapping);
            *mapping = NULL;
        }
        return;
    default:
        if (*mapping != NULL && offset < model->size && random_below(random, 2) == 0 &&
            model->mapped >= model->size) {
            size = size < model->size - offset ? size : model->size - offset;
            memcpy((char *)io_mapping_memory(*mapping) + offset, bytes, size);
            memcpy(model->bytes + offset, bytes, size);
        } else {
            ck_ok(io_file_sync(f, err));
        }
    }
}

/* Random changes, looked at as they are, after a sync and a cut, and in clones kept or killed. */
START_TEST(test_sim_random_changes_match_a_plain_array)
{
    static struct model model;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct random_state random = random_seeded(seed);
        struct machine m = new_machine(seed);
        struct io_file *f = open_file(&m, "a", RW);
        struct io_mapping *mapping = NULL;
        ck_ok(io_dir_sync(m.dir, err));
        memset(&model, 0, sizeof model);
        for (unsigned i = 0; i < 60; i++) {
            random_change(&random, f, &model, &mapping);
            size_t size = 0;
            const unsigned char *bytes = contents(&m, "a", &size);
            ck_assert_msg(size == model.size && memcmp(bytes, model.bytes, size) == 0,
                          "seed %u change %u", (unsigned)seed, i);
            struct machine copy = {.disk = sim_disk_clone(m.disk)};
            sim_crash(copy.disk, i % 2 == 0 ? SIM_CRASH_KEEP_ALL : SIM_CRASH_KILL, i);
            bytes = contents(&copy, "a", &size);
            ck_assert_msg(size == model.size && memcmp(bytes, model.bytes, size) == 0,
                          "seed %u change %u, clone", (unsigned)seed, i);
            sim_disk_free(copy.disk);
        }
        ck_ok(io_file_sync(f, err));
        io_unmap(mapping);
        io_file_close(f);
        crash(&m, SIM_CRASH_LOSE_ALL, 1);
        size_t size = 0;
        const unsigned char *bytes = contents(&m, "a", &size);
        ck_assert_msg(size == model.size && memcmp(bytes, model.bytes, size) == 0, "seed %u, cut",
                      (unsigned)seed);
        discard(&m);
    }
}
END_TEST

/* ---- threads ----------------------------------------------------------------------------------
 */

struct worker {
    struct sim_disk *disk;
    int index;
};

static void *work(void *context)
{
    const struct worker *w = context;
    struct machine m;
    char name[16];
    boot(&m, w->disk);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "%d-%d", w->index, i % 7);
        put_file(&m, name, i, 3000, i % 5 == 0);
        struct sim_disk *clone = i % 10 == 0 ? sim_disk_clone(w->disk) : NULL;
        if (clone != NULL)
            sim_crash(clone, SIM_CRASH_RANDOM, (uint64_t)i);
        sim_disk_free(clone);
        ck_ok(io_dir_unlink(m.dir, name, NULL, err));
    }
    shut(&m);
    return NULL;
}

START_TEST(test_sim_serves_threads)
{
    struct sim_disk *disk = sim_disk_new(10);
    struct worker workers[3];
    pthread_t threads[3];
    struct machine m;
    boot(&m, disk);
    for (int i = 0; i < 3; i++) {
        workers[i] = (struct worker){.disk = disk, .index = i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    unsigned visits = 0;
    ck_ok(io_dir_list(m.dir, count_visit, &visits, err));
    ck_assert_uint_eq(visits, 0);
    discard(&m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("simulated disk");
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
        test_sim_writes_in_flight_land_in_any_order,
        test_sim_writes_in_flight_at_the_end_may_land_or_not,
        test_sim_overlap_is_counted_between_writes_in_flight_only,
        test_sim_requests_complete_in_seeded_order,
        test_sim_killed_process_leaves_writes_that_land_later_or_never,
        test_sim_stop_at_each_step_leaves_the_old_or_the_new,
        test_sim_stopped_machine_refuses_everything,
        test_sim_stopped_queue_gives_requests_back_with_the_reason,
        test_sim_faults_fail_the_chosen_operation_once_or_for_ever,
        test_sim_fault_reaches_queued_requests,
        test_sim_failed_sync_loses_the_data_for_good,
        test_sim_failed_sync_loses_the_data_of_a_once_mapped_file_too,
        test_sim_capacity_is_a_full_disk_until_something_is_removed,
        test_sim_clone_is_independent,
        test_sim_clone_has_writes_in_flight_and_unsynced_names,
        test_sim_clone_shares_pages,
        test_sim_overwrite_damages_durably_and_inside_only,
        test_sim_random_changes_match_a_plain_array,
        test_sim_serves_threads,
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(cases, tests[i]);
    suite_add_tcase(suite, cases);
    return backend_run(suite);
}
