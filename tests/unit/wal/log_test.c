/* Writing and reading back on every backend; the life of segment files. */
#include "tests/unit/wal/rig.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>

/* ---- round trips ----------------------------------------------------------------------------- */

static void do_some_writing(struct rig *rig, struct random_state *random, uint64_t end)
{
    switch (random_below(random, 12)) {
    case 0:
        ck_ok(wal_sync_locked(rig->wal, end, err));
        ck_assert_uint_ge(rig_durable(rig), end);
        break;
    case 1:
        ck_ok(wal_write_begin_locked(rig->wal, err));
        break;
    case 2:
        ck_ok(wal_write_finish_locked(rig->wal, err));
        break;
    case 3:
        ck_ok(wal_prepare(rig->wal, err));
        break;
    case 4:
        ck_ok(wal_write_locked(rig->wal, end, err));
        ck_assert_uint_ge(rig_written(rig), end);
        break;
    default:
        break;
    }
}

static void put_many(struct rig *rig, unsigned count, struct random_state *random)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t end;
        ck_ok(rig_put(rig, &end, err));
        ck_assert_uint_eq(end, rig_staged(rig));
        do_some_writing(rig, random, end);
        ck_assert_uint_le(rig_written(rig), rig_staged(rig));
        ck_assert_uint_le(rig_durable(rig), rig_written(rig));
    }
}

/* Six lives that each die; ring and segments go round many times. */
static void live_and_die(struct rig *rig, uint64_t seed)
{
    struct random_state random = random_seeded(seed);
    struct wal_end end;
    rig_start(rig, &end);
    ck_assert_uint_eq(end.position, 0);
    ck_assert_uint_eq(end.record_count, 0);
    uint64_t count = 0;
    for (unsigned life = 0; life < 6; life++) {
        put_many(rig, 60, &random);
        count += 60;
        uint64_t staged = rig_staged(rig), chain = rig->layout->commit.chain;
        rig_abandon(rig);
        struct wal_end again;
        ck_ok(rig_replay(rig, &again, err));
        rig_start(rig, &end);
        ck_assert_uint_eq(end.position, staged);
        ck_assert_uint_eq(end.chain, chain);
        ck_assert_uint_eq(end.record_count, count);
        ck_assert_uint_eq(end.last_sequence, count);
        ck_assert_int_eq(memcmp(&end, &again, sizeof end), 0);
        ck_assert_uint_eq(rig_durable(rig), staged);
        ck_assert_uint_eq(rig_written(rig), staged);
    }
    ck_assert_uint_gt(rig_staged(rig), 8 * RIG_STAGE);
}

START_TEST(test_log_records_come_back_after_death)
{
    struct rig rig;
    if (!rig_init(&rig, (enum rig_backend)_i, 7))
        return;
    live_and_die(&rig, 7);
    ck_assert_ptr_nonnull(strstr(wal_path_text(rig.wal), "mapped"));
    rig_release(&rig);
}
END_TEST

START_TEST(test_log_records_come_back_after_death_without_a_mapping)
{
    struct rig rig;
    if (!rig_init(&rig, (enum rig_backend)_i, 8))
        return;
    rig.options.refuse_mapping = true;
    live_and_die(&rig, 8);
    ck_assert_ptr_nonnull(strstr(wal_path_text(rig.wal), "cannot be mapped"));
    rig_release(&rig);
}
END_TEST

/* The ring is kept full to its last byte, so that whatever is given back too early is lost. */
START_TEST(test_log_full_ring_gives_back_only_what_is_written)
{
    struct rig rig;
    if (!rig_init(&rig, (enum rig_backend)_i, 9))
        return;
    rig_start(&rig, NULL);
    struct random_state random = random_seeded(9);
    for (unsigned round = 0; round < 200; round++) {
        uint64_t end, reusable = atomic_load(&rig.layout->commit.reusable);
        uint64_t room = rig.options.stage_size - (rig_staged(&rig) - reusable);
        if (room < log_record_size(0)) {
            ck_assert(!wal_has_room_locked(rig.wal, 0));
            ck_ok(wal_write_locked(rig.wal, rig_staged(&rig), err));
            continue;
        }
        uint64_t size = room - log_record_size(0);
        if (size > wal_max_batch(rig.wal))
            size = random_below(&random, wal_max_batch(rig.wal));
        ck_assert(wal_has_room_locked(rig.wal, (size_t)size));
        ck_assert(size == wal_max_batch(rig.wal) || size + 8 <= wal_max_batch(rig.wal));
        ck_ok(rig_put_sized(&rig, (size_t)size, &end, err));
    }
    uint64_t staged = rig_staged(&rig);
    rig_abandon(&rig);
    struct wal_end end;
    ck_ok(rig_replay(&rig, &end, err));
    ck_assert_uint_eq(end.position, staged);
    rig_release(&rig);
}
END_TEST

START_TEST(test_log_largest_batch_fits_and_fills_half_the_ring)
{
    struct rig rig;
    ck_assert(rig_init(&rig, RIG_SIM, 10));
    rig.options.segment_size = rig.options.stage_size;
    rig_start(&rig, NULL);
    size_t most = wal_max_batch(rig.wal);
    ck_assert_uint_gt(most + 128, RIG_STAGE / 2);
    for (unsigned i = 0; i < 9; i++) {
        uint64_t end;
        ck_ok(rig_put_sized(&rig, i % 3 == 2 ? 1 : most, &end, err));
    }
    rig_abandon(&rig);
    struct wal_end end;
    ck_ok(rig_replay(&rig, &end, err));
    ck_assert_uint_eq(end.record_count, 9);
    rig_release(&rig);
}
END_TEST

START_TEST(test_log_staged_is_not_written_before_it_is_published)
{
    struct rig rig;
    ck_assert(rig_init(&rig, RIG_SIM, 11));
    rig_start(&rig, NULL);
    lsm_slice piece = {"abc", 3};
    uint64_t end;
    ck_ok(wal_stage_locked(rig.wal, 1, &piece, 1, &end, err));
    ck_assert_uint_eq(rig_staged(&rig), 0);
    ck_ok(wal_write_begin_locked(rig.wal, err));
    ck_ok(wal_write_finish_locked(rig.wal, err));
    ck_assert_uint_eq(rig_written(&rig), 0);
    ck_assert_uint_eq(wal_bytes_written(rig.wal), 0);
    wal_publish_locked(rig.wal);
    ck_assert_uint_eq(rig_staged(&rig), end);
    ck_ok(wal_write_locked(rig.wal, end, err));
    ck_assert_uint_eq(rig_written(&rig), end);
    ck_assert_uint_eq(rig_durable(&rig), 0);
    ck_assert_uint_gt(wal_bytes_written(rig.wal), 0);
    rig_release(&rig);
}
END_TEST

START_TEST(test_log_wants_to_be_written_when_much_is_staged)
{
    struct rig rig;
    ck_assert(rig_init(&rig, RIG_SIM, 12));
    rig_start(&rig, NULL);
    uint64_t end;
    ck_ok(rig_put_sized(&rig, 100, &end, err));
    ck_assert(!wal_wants_write(rig.wal));
    ck_ok(rig_put_sized(&rig, 5000, &end, err));
    ck_assert(wal_wants_write(rig.wal));
    ck_ok(wal_write_locked(rig.wal, end, err));
    ck_assert(!wal_wants_write(rig.wal));
    rig_release(&rig);
}
END_TEST

START_TEST(test_log_same_seed_takes_the_same_steps)
{
    uint64_t steps[2];
    for (size_t i = 0; i < 2; i++) {
        struct rig rig;
        ck_assert(rig_init(&rig, RIG_SIM, 13));
        live_and_die(&rig, 13);
        steps[i] = sim_step_count(rig.disk);
        rig_release(&rig);
    }
    ck_assert_uint_eq(steps[0], steps[1]);
}
END_TEST

START_TEST(test_log_bad_sizes_are_refused)
{
    static const uint64_t sizes[][2] = {
        {8192, 32768}, {16385, 32768}, {32768, 16384}, {16384, 16385}, {0, 0}};
    struct rig rig;
    ck_assert(rig_init(&rig, RIG_SIM, 14));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct wal_end end = {0};
        lsm_error error = {0};
        rig.options.stage_size = sizes[i][0];
        rig.options.segment_size = sizes[i][1];
        ck_assert_int_eq(rig_open_at(&rig, &end, &error), LSM_INVALID);
        free(rig.layout);
        rig.layout = NULL;
    }
    rig_release(&rig);
}
END_TEST

/* ---- reading from the middle ----------------------------------------------------------------- */

START_TEST(test_log_replay_begins_where_the_tables_end)
{
    struct rig rig;
    ck_assert(rig_init(&rig, RIG_SIM, 15));
    struct random_state random = random_seeded(15);
    rig_start(&rig, NULL);
    put_many(&rig, 40, &random);
    rig_abandon(&rig);
    rig_start(&rig, NULL);
    put_many(&rig, 40, &random);
    rig_abandon(&rig);
    for (uint64_t first = 1; first <= 80; first++) {
        struct wal_end end;
        rig.from = rig.ends[first - 1];
        ck_ok(rig_replay(&rig, &end, err));
        ck_assert_uint_eq(end.record_count, 80 - first + 1);
        lsm_error error = {0};
        rig.from += 4; /* nothing can begin there */
        ck_assert_int_eq(rig_replay(&rig, &end, &error), LSM_CORRUPT);
    }
    rig_release(&rig);
}
END_TEST

/* Tables may hold what no segment ever did: the ring was flushed and then lost. */
START_TEST(test_log_goes_on_where_tables_end_behind_the_segments)
{
    struct rig rig;
    ck_assert(rig_init(&rig, RIG_SIM, 16));
    rig_start(&rig, NULL);
    uint64_t end_position;
    for (unsigned i = 0; i < 5; i++)
        ck_ok(rig_put_sized(&rig, 2000, &end_position, err));
    rig.from = end_position;
    rig.from_chain = rig.layout->commit.chain;
    rig_crash(&rig, SIM_CRASH_LOSE_ALL, 1);
    for (unsigned life = 1; life < 4; life++) {
        struct wal_end end;
        rig_start(&rig, &end);
        ck_assert_uint_eq(end.record_count, life - 1);
        rig.sequence = 4 + life;
        ck_ok(rig_put_sized(&rig, 100, &end_position, err));
        ck_ok(wal_sync_locked(rig.wal, end_position, err));
        rig_crash(&rig, SIM_CRASH_LOSE_ALL, life);
    }
    rig_release(&rig);
}
END_TEST

static lsm_status refuse_third(void *context, uint64_t position, uint64_t end, uint64_t sequence,
                               lsm_slice batch, lsm_error *err)
{
    (void)context, (void)position, (void)end, (void)batch;
    return sequence == 3 ? lsm_fail(err, LSM_NO_MEMORY, "three is too many") : LSM_OK;
}

START_TEST(test_log_replay_hands_on_what_the_visitor_says)
{
    struct rig rig;
    ck_assert(rig_init(&rig, RIG_SIM, 17));
    rig_start(&rig, NULL);
    uint64_t end_position;
    for (unsigned i = 0; i < 5; i++)
        ck_ok(rig_put_sized(&rig, 20, &end_position, err));
    struct wal_end end;
    lsm_error error = {0};
    ck_assert_int_eq(wal_replay(&rig.options, 0, 0, false, refuse_third, NULL, &end, &error),
                     LSM_NO_MEMORY);
    ck_assert_str_eq(error.message, "three is too many");
    rig_release(&rig);
}
END_TEST

/* ---- files ----------------------------------------------------------------------------------- */

struct census {
    unsigned segments, spares, others;
    uint64_t newest;
};

static lsm_status count_name(void *context, const char *name, lsm_error *err)
{
    (void)err;
    struct census *census = context;
    enum file_kind kind;
    uint64_t number;
    if (!file_name_parse(name, &kind, &number) || kind == FILE_TEMPORARY)
        census->others++;
    else if (kind == FILE_WAL && ++census->segments > 0 && number > census->newest)
        census->newest = number;
    else if (kind == FILE_WAL_SPARE)
        census->spares++;
    return LSM_OK;
}

static struct census take_census(struct rig *rig)
{
    struct census census = {0};
    ck_ok(io_dir_list(rig->options.dir, count_name, &census, err));
    ck_assert_uint_eq(census.others, 0);
    return census;
}

START_TEST(test_log_clean_close_keeps_spares_and_numbers_grow)
{
    struct rig rig;
    if (!rig_init(&rig, (enum rig_backend)_i, 20))
        return;
    struct random_state random = random_seeded(20);
    uint64_t newest = 0;
    for (unsigned life = 0; life < 8; life++) {
        struct wal_end end;
        rig_start(&rig, &end);
        ck_assert_uint_eq(end.record_count, 0);
        ck_assert_uint_eq(end.position, rig.from);
        put_many(&rig, 50, &random);
        struct census census = take_census(&rig);
        ck_assert_uint_gt(census.newest, newest);
        newest = census.newest;
        rig_close_clean(&rig);
        census = take_census(&rig);
        ck_assert_uint_eq(census.segments, 0);
        ck_assert_uint_gt(census.spares, 0);
        ck_assert_uint_le(census.spares, 2);
    }
    rig_release(&rig);
}
END_TEST

START_TEST(test_log_forgotten_segments_are_recycled)
{
    struct rig rig;
    if (!rig_init(&rig, (enum rig_backend)_i, 21))
        return;
    struct random_state random = random_seeded(21);
    rig_start(&rig, NULL);
    for (unsigned round = 0; round < 12; round++) {
        put_many(&rig, 30, &random);
        ck_ok(wal_write_locked(rig.wal, rig_staged(&rig), err));
        uint64_t before = rig.from;
        rig.from = rig_staged(&rig);
        rig.from_chain = rig.layout->commit.chain;
        struct census old = take_census(&rig);
        ck_ok(wal_forget_locked(rig.wal, before, err));
        struct census now = take_census(&rig);
        ck_assert_uint_le(now.segments, old.segments);
        ck_assert_uint_le(now.spares, 2);
        ck_ok(wal_forget_locked(rig.wal, rig.from, err));
        ck_assert_uint_eq(take_census(&rig).segments, 1);
    }
    put_many(&rig, 10, &random);
    rig_abandon(&rig);
    struct wal_end end;
    rig_start(&rig, &end);
    ck_assert_uint_eq(end.record_count, 10);
    ck_ok(wal_forget_locked(rig.wal, end.position, err));
    ck_assert_uint_eq(take_census(&rig).segments, 1);
    ck_assert_uint_eq(take_census(&rig).spares, 0); /* nobody closed: a write may be on its way */
    rig_release(&rig);
}
END_TEST

/* Bytes on disk of the log's files but the stage file; *largest: size of the largest. */
static uint64_t log_space(const struct rig *rig, uint64_t *largest)
{
    DIR *folder = opendir(rig->path);
    struct dirent *entry;
    uint64_t sum = 0;
    *largest = 0;
    ck_assert_ptr_nonnull(folder);
    while ((entry = readdir(folder)) != NULL) {
        enum file_kind kind;
        uint64_t number;
        struct stat found;
        if (!file_name_parse(entry->d_name, &kind, &number))
            continue;
        if (kind != FILE_WAL && kind != FILE_WAL_SPARE)
            continue;
        ck_assert_int_eq(fstatat(dirfd(folder), entry->d_name, &found, 0), 0);
        sum += (uint64_t)found.st_blocks * 512;
        if ((uint64_t)found.st_size > *largest)
            *largest = (uint64_t)found.st_size;
    }
    closedir(folder);
    return sum;
}

#define SPACE_SEGMENT ((uint64_t)1 << 20)
#define SPACE_STEP    (SPACE_SEGMENT / 16)

START_TEST(test_log_short_takes_little_room)
{
    struct rig rig;
    uint64_t end, largest;
    if (!rig_init(&rig, RIG_POSIX, 23))
        return;
    rig.options.segment_size = SPACE_SEGMENT;
    rig_start(&rig, NULL);
    ck_ok(rig_put_sized(&rig, 100, &end, err));
    ck_ok(wal_write_locked(rig.wal, end, err));
    ck_assert(!wal_wants_spare(rig.wal));
    ck_assert_uint_le(log_space(&rig, &largest), 2 * SPACE_STEP);
    ck_assert_uint_eq(largest, SPACE_SEGMENT);
    for (unsigned i = 0; i < 150; i++) {
        ck_ok(rig_put_sized(&rig, 4000, &end, err));
        ck_ok(wal_write_locked(rig.wal, end, err));
    }
    ck_assert(wal_wants_spare(rig.wal));
    ck_assert_uint_ge(log_space(&rig, &largest), 600000);
    ck_assert_uint_le(log_space(&rig, &largest), 600000 + 3 * SPACE_STEP);
    ck_ok(wal_prepare(rig.wal, err));
    ck_assert(!wal_wants_spare(rig.wal));
    rig_release(&rig);
}
END_TEST

START_TEST(test_log_at_rest_gives_room_back)
{
    struct rig rig;
    uint64_t end, largest, before;
    if (!rig_init(&rig, RIG_POSIX, 24))
        return;
    rig.options.segment_size = SPACE_SEGMENT;
    rig_start(&rig, NULL);
    for (unsigned i = 0; i < 1000; i++) {
        ck_ok(rig_put_sized(&rig, 4000, &end, err));
        ck_ok(wal_write_locked(rig.wal, end, err));
        if (i % 400 != 399)
            continue;
        rig.from = end;
        rig.from_chain = rig.layout->commit.chain;
        ck_ok(wal_forget_locked(rig.wal, end, err));
    }
    before = log_space(&rig, &largest);
    ck_assert_uint_gt(before, 2 * SPACE_SEGMENT);
    ck_ok(rig_put_sized(&rig, 100, &end, err));
    ck_ok(wal_rest_locked(rig.wal, rig.from, err)); /* it does not rest */
    ck_assert_uint_eq(log_space(&rig, &largest), before);
    ck_ok(wal_sync_locked(rig.wal, end, err));
    ck_ok(wal_rest_locked(rig.wal, rig.from, err));
    ck_assert_uint_eq(take_census(&rig).spares, 0);
    ck_assert_uint_lt(log_space(&rig, &largest), 200 * 4100 + 3 * SPACE_STEP);
    uint64_t segment = rig.layout->commit.segment_number;
    ck_ok(wal_rest_locked(rig.wal, rig.from, err));
    ck_assert_uint_eq(rig.layout->commit.segment_number, segment);
    ck_ok(rig_put_sized(&rig, 100, &end, err));
    ck_ok(wal_sync_locked(rig.wal, end, err));
    rig_abandon(&rig);
    struct wal_end found;
    rig_start(&rig, &found);
    ck_assert_uint_eq(found.record_count, 202);
    ck_assert_uint_eq(found.position, end);
    rig_release(&rig);
}
END_TEST

START_TEST(test_log_at_rest_that_tables_hold_goes)
{
    struct rig rig;
    uint64_t end, largest;
    if (!rig_init(&rig, RIG_POSIX, 25))
        return;
    rig.options.segment_size = SPACE_SEGMENT;
    rig_start(&rig, NULL);
    for (unsigned i = 0; i < 240; i++) {
        ck_ok(rig_put_sized(&rig, 4000, &end, err));
        ck_ok(wal_write_locked(rig.wal, end, err));
    }
    ck_ok(wal_rest_locked(rig.wal, end - 8, err)); /* tables do not hold the last record */
    ck_assert_uint_gt(log_space(&rig, &largest), 240 * 4000);
    rig.from = end;
    rig.from_chain = rig.layout->commit.chain;
    ck_ok(wal_rest_locked(rig.wal, end, err));
    ck_assert_uint_eq(take_census(&rig).segments, 1);
    ck_assert_uint_eq(take_census(&rig).spares, 0);
    ck_assert_uint_le(log_space(&rig, &largest), SPACE_STEP);
    uint64_t segment = rig.layout->commit.segment_number;
    ck_ok(wal_rest_locked(rig.wal, end, err)); /* once is enough */
    ck_assert_uint_eq(rig.layout->commit.segment_number, segment);
    ck_ok(rig_put_sized(&rig, 100, &end, err));
    ck_ok(wal_sync_locked(rig.wal, end, err));
    rig_abandon(&rig);
    struct wal_end found;
    rig_start(&rig, &found);
    ck_assert_uint_eq(found.record_count, 1);
    ck_assert_uint_eq(found.position, end);
    rig_release(&rig);
}
END_TEST

START_TEST(test_log_prepared_segment_is_used)
{
    struct rig rig;
    ck_assert(rig_init(&rig, RIG_SIM, 22));
    rig_start(&rig, NULL);
    ck_ok(wal_prepare(rig.wal, err));
    ck_assert_uint_eq(take_census(&rig).spares, 1);
    ck_ok(wal_prepare(rig.wal, err));
    ck_assert_uint_eq(take_census(&rig).spares, 1);
    uint64_t end;
    for (unsigned i = 0; i < 9; i++)
        ck_ok(rig_put_sized(&rig, 4000, &end, err));
    ck_ok(wal_write_locked(rig.wal, end, err));
    ck_assert_uint_eq(take_census(&rig).spares, 0);
    ck_assert_uint_eq(take_census(&rig).segments, 2);
    rig_release(&rig);
}
END_TEST

/* One sync pays for a stretch of the file, the next ones for a block each; a recycled segment has
 * been paid for. */
START_TEST(test_log_sync_fills_fresh_segments_only)
{
    struct rig rig;
    if (!rig_init(&rig, (enum rig_backend)_i, 24))
        return;
    rig_start(&rig, NULL);
    uint64_t number = rig.layout->commit.segment_number;
    unsigned begun = 1;
    for (unsigned i = 0; begun < 5; i++) {
        uint64_t end, before = wal_bytes_written(rig.wal);
        ck_ok(rig_put_sized(&rig, 1000, &end, err));
        ck_ok(wal_sync_locked(rig.wal, end, err));
        uint64_t written = wal_bytes_written(rig.wal) - before;
        bool is_first = i == 0 || rig.layout->commit.segment_number != number;
        begun += i > 0 && is_first;
        if (is_first && begun <= 2)
            ck_assert_uint_ge(written, RIG_SEGMENT - 3 * IO_ALIGNMENT);
        else
            ck_assert_uint_le(written, 2 * IO_ALIGNMENT);
        number = rig.layout->commit.segment_number;
        ck_ok(wal_forget_locked(rig.wal, end, err));
    }
    ck_assert_uint_eq(take_census(&rig).segments, 1);
    rig_release(&rig);
}
END_TEST

START_TEST(test_log_stage_file_changes_its_size)
{
    static const uint64_t sizes[] = {RIG_STAGE, 8 * RIG_STAGE, RIG_STAGE + 4096, 2 * RIG_STAGE,
                                     RIG_STAGE};
    struct rig rig;
    if (!rig_init(&rig, (enum rig_backend)_i, 23))
        return;
    struct random_state random = random_seeded(23);
    uint64_t count = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct wal_end end;
        rig.options.stage_size = rig.options.segment_size = sizes[i];
        rig_start(&rig, &end);
        ck_assert_uint_eq(end.record_count, count);
        put_many(&rig, 20, &random);
        for (unsigned n = 0; n < 6; n++) { /* much of it in the ring alone */
            uint64_t position;
            ck_ok(rig_put_sized(&rig, wal_max_batch(rig.wal) / 5, &position, err));
        }
        count += 26;
        rig_abandon(&rig);
    }
    struct wal_end end;
    ck_ok(rig_replay(&rig, &end, err));
    ck_assert_uint_eq(end.record_count, count);
    rig_release(&rig);
}
END_TEST

/* ---- threads --------------------------------------------------------------------------------- */

struct crew {
    struct rig *rig;
    pthread_mutex_t append, sync;
    _Atomic bool over;
};

static void crew_check(lsm_status status, const lsm_error *error)
{
    if (status != LSM_OK) {
        fprintf(stderr, "%s\n", error->message);
        abort();
    }
}

static void *write_behind(void *argument)
{
    struct crew *crew = argument;
    while (!atomic_load(&crew->over)) {
        lsm_error error;
        pthread_mutex_lock(&crew->sync);
        if (wal_wants_write(crew->rig->wal))
            crew_check(wal_write_locked(crew->rig->wal, rig_staged(crew->rig), &error), &error);
        pthread_mutex_unlock(&crew->sync);
        crew_check(wal_prepare(crew->rig->wal, &error), &error);
    }
    return NULL;
}

static void *commit_some(void *argument)
{
    struct crew *crew = argument;
    uint8_t bytes[400];
    lsm_error error;
    for (unsigned i = 0; i < 300;) {
        size_t size = (i * 37) % sizeof bytes;
        uint64_t end = 0;
        pthread_mutex_lock(&crew->append);
        bool room = wal_has_room_locked(crew->rig->wal, size);
        if (room) {
            uint64_t n = crew->rig->sequence + 1;
            rig_fill(crew->rig->salt, n, bytes, size);
            crew->rig->salts[n] = crew->rig->salt;
            lsm_slice piece = {bytes, size};
            crew_check(wal_stage_locked(crew->rig->wal, n, &piece, 1, &end, &error), &error);
            wal_publish_locked(crew->rig->wal);
            crew->rig->sequence = n;
            i++;
        }
        pthread_mutex_unlock(&crew->append);
        if (room && i % 16 != 0)
            continue;
        pthread_mutex_lock(&crew->sync);
        if (room)
            crew_check(wal_sync_locked(crew->rig->wal, end, &error), &error);
        else
            crew_check(wal_write_locked(crew->rig->wal, rig_staged(crew->rig), &error), &error);
        pthread_mutex_unlock(&crew->sync);
    }
    return NULL;
}

START_TEST(test_log_threads_commit_and_write_at_once)
{
    struct rig rig;
    if (!rig_init(&rig, (enum rig_backend)_i, 30))
        return;
    rig_start(&rig, NULL);
    struct crew crew = {
        .rig = &rig, .append = PTHREAD_MUTEX_INITIALIZER, .sync = PTHREAD_MUTEX_INITIALIZER};
    pthread_t writer, committers[3];
    pthread_create(&writer, NULL, write_behind, &crew);
    for (size_t i = 0; i < 3; i++)
        pthread_create(&committers[i], NULL, commit_some, &crew);
    for (size_t i = 0; i < 3; i++)
        pthread_join(committers[i], NULL);
    atomic_store(&crew.over, true);
    pthread_join(writer, NULL);
    rig_abandon(&rig);
    struct wal_end end;
    ck_ok(rig_replay(&rig, &end, err));
    ck_assert_uint_eq(end.record_count, 900);
    rig_release(&rig);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal/log");
    TCase *tests = tcase_create("log");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_log_records_come_back_after_death, 0, RIG_BACKENDS);
    tcase_add_loop_test(tests, test_log_records_come_back_after_death_without_a_mapping, 0,
                        RIG_BACKENDS);
    tcase_add_loop_test(tests, test_log_full_ring_gives_back_only_what_is_written, 0, RIG_BACKENDS);
    tcase_add_test(tests, test_log_largest_batch_fits_and_fills_half_the_ring);
    tcase_add_test(tests, test_log_staged_is_not_written_before_it_is_published);
    tcase_add_test(tests, test_log_wants_to_be_written_when_much_is_staged);
    tcase_add_test(tests, test_log_same_seed_takes_the_same_steps);
    tcase_add_test(tests, test_log_bad_sizes_are_refused);
    tcase_add_test(tests, test_log_replay_begins_where_the_tables_end);
    tcase_add_test(tests, test_log_goes_on_where_tables_end_behind_the_segments);
    tcase_add_test(tests, test_log_replay_hands_on_what_the_visitor_says);
    tcase_add_loop_test(tests, test_log_clean_close_keeps_spares_and_numbers_grow, 0, RIG_BACKENDS);
    tcase_add_loop_test(tests, test_log_forgotten_segments_are_recycled, 0, RIG_BACKENDS);
    tcase_add_test(tests, test_log_prepared_segment_is_used);
    tcase_add_test(tests, test_log_short_takes_little_room);
    tcase_add_test(tests, test_log_at_rest_gives_room_back);
    tcase_add_test(tests, test_log_at_rest_that_tables_hold_goes);
    tcase_add_loop_test(tests, test_log_sync_fills_fresh_segments_only, 0, RIG_BACKENDS);
    tcase_add_loop_test(tests, test_log_stage_file_changes_its_size, 0, RIG_BACKENDS);
    tcase_add_loop_test(tests, test_log_threads_commit_and_write_at_once, 0, RIG_BACKENDS);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
