/* Logs of usual sizes: long records, long writes, many chunks read ahead, the ring mapped ahead. */
#include "tests/unit/wal/rig.h"

#define MIB ((size_t)1 << 20)

/* Records of up to half the ring among short ones, until `limit` bytes are staged. */
static void fill(struct rig *rig, uint64_t limit, uint64_t seed)
{
    struct random_state random = random_seeded(seed);
    while (rig_staged(rig) < limit) {
        size_t size = (size_t)random_below(&random, 200000);
        if (random_below(&random, 20) == 0)
            size = wal_max_batch(rig->wal) - (size_t)random_below(&random, 100);
        uint64_t end;
        ck_ok(rig_put_sized(rig, size, &end, err));
        if (wal_wants_write(rig->wal) && random_below(&random, 4) == 0)
            ck_ok(wal_write_locked(rig->wal, end, err));
        if (random_below(&random, 4) == 0)
            wal_populate_ahead(rig->wal);
        if (random_below(&random, 40) == 0)
            ck_ok(wal_prepare(rig->wal, err));
    }
}

static void live_twice(enum rig_backend backend, uint64_t stage_size, bool refuse_mapping)
{
    struct rig rig;
    if (!rig_init(&rig, backend, 50))
        return;
    rig.options.stage_size = stage_size;
    rig.options.segment_size = 12 * MIB;
    rig.options.refuse_mapping = refuse_mapping;
    uint64_t staged = 0;
    for (unsigned life = 1; life <= 2; life++) {
        struct wal_end end;
        rig_start(&rig, &end);
        ck_assert_uint_eq(end.position, staged);
        ck_assert_uint_eq(end.last_sequence, rig.sequence);
        fill(&rig, life * 24 * MIB, life);
        staged = rig_staged(&rig);
        rig_abandon(&rig);
    }
    struct wal_end end;
    ck_ok(rig_replay(&rig, &end, err));
    ck_assert_uint_eq(end.position, staged);
    ck_assert_uint_eq(end.record_count, rig.sequence);
    rig_release(&rig);
}

START_TEST(test_large_log_comes_back)
{
    live_twice((enum rig_backend)_i, 12 * MIB, false);
}
END_TEST

/* A ring that is no whole number of stretches. */
START_TEST(test_large_log_comes_back_from_an_odd_ring)
{
    live_twice((enum rig_backend)_i, 4 * MIB + 4096 * 5, false);
}
END_TEST

START_TEST(test_large_log_comes_back_without_a_mapping)
{
    live_twice((enum rig_backend)_i, 4 * MIB, true);
}
END_TEST

START_TEST(test_large_tail_moves_into_a_segment_of_its_own_size)
{
    struct rig rig;
    ck_assert(rig_init(&rig, RIG_SIM, 51));
    rig.options.stage_size = rig.options.segment_size = 4 * MIB;
    rig_start(&rig, NULL);
    uint64_t position;
    for (unsigned i = 0; i < 6; i++)
        ck_ok(rig_put_sized(&rig, MIB / 2, &position, err));
    rig_abandon(&rig);
    rig.options.stage_size = rig.options.segment_size = RIG_STAGE;
    struct wal_end end;
    rig_start(&rig, &end);
    ck_assert_uint_eq(end.record_count, 6);
    for (unsigned i = 0; i < 60; i++)
        ck_ok(rig_put_sized(&rig, 3000, &position, err));
    rig_crash(&rig, SIM_CRASH_KILL, 1);
    ck_ok(rig_replay(&rig, &end, err));
    ck_assert_uint_eq(end.record_count, 66);
    rig_release(&rig);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal/large");
    TCase *tests = tcase_create("large");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_large_log_comes_back, 0, RIG_BACKENDS);
    tcase_add_loop_test(tests, test_large_log_comes_back_from_an_odd_ring, 0, RIG_BACKENDS);
    tcase_add_loop_test(tests, test_large_log_comes_back_without_a_mapping, 0, RIG_BACKENDS);
    tcase_add_test(tests, test_large_tail_moves_into_a_segment_of_its_own_size);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
