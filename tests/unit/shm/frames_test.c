/* Shared blocks: found by all, right for ever, bounded, given back. */
#include "tests/unit/shm/frames_fixture.h"

#include <pthread.h>

/* Blocks of file `number` until so many bytes were tried, while `other` (if any) tells. Returns how
 * many went in. */
static uint32_t insert_beside(struct shm_frames *f, struct shm_frames *other, uint64_t number,
                              uint64_t bytes)
{
    uint32_t count = 0;
    for (uint32_t i = 0; bytes > 0; i++) {
        uint64_t size = block_size_of(number, i);
        count += insert(f, number, i);
        if (other != NULL)
            (void)shm_frames_tell(other);
        bytes -= size < bytes ? size : bytes;
    }
    return count;
}

static uint32_t insert_bytes(struct shm_frames *f, uint64_t number, uint64_t bytes)
{
    return insert_beside(f, NULL, number, bytes);
}

static struct shm_frames_counts counts_of(struct peer *p)
{
    struct shm_frames_counts counts;
    shm_frames_count(p->frames, &counts);
    return counts;
}

START_TEST(test_frames_inserted_by_one_are_found_by_another)
{
    fixture_open(8 * MIB);
    struct peer a = peer_open(0), b = peer_open(5);
    for (uint32_t i = 0; i < 500; i++)
        ck_assert(insert(a.frames, 7, i));
    for (uint32_t i = 0; i < 500; i++)
        ck_assert(find(b.frames, 7, i));
    ck_assert(!find(b.frames, 7, 500));
    ck_assert(!find(b.frames, 8, 1));
    ck_assert_uint_eq(counts_of(&a).inserted, 500);
    ck_assert_uint_eq(counts_of(&b).found, 500);
    ck_assert_uint_gt(counts_of(&b).bytes, 500 * 3000);
    check_shards(a.frames);
    peer_close(&a);
    ck_assert(find(b.frames, 7, 3));
    peer_close(&b);
    fixture_close();
}
END_TEST

START_TEST(test_frames_inserted_twice_are_one)
{
    fixture_open(8 * MIB);
    struct peer a = peer_open(0), b = peer_open(1);
    struct shm_frame *first = insert_sized(a.frames, 9, 2, 4000);
    struct shm_frame *second = insert_sized(b.frames, 9, 2, 4000);
    ck_assert_uint_eq((size_t)(first - a.frames->frames), (size_t)(second - b.frames->frames));
    ck_assert_uint_eq(counts_of(&b).inserted, 0);
    peer_close(&a);
    peer_close(&b);
    fixture_close();
}
END_TEST

START_TEST(test_frames_of_a_small_capacity_are_none)
{
    fixture_open(FRAMES_MIN_SIZE - 1);
    struct peer a = peer_open(0);
    ck_assert_ptr_null(a.frames);
    ck_assert_uint_eq(shm_layout(segment)->ident.frames_capacity, 0);
    shm_frames_reap(segment, 3);
    peer_close(&a);
    fixture_close();
}
END_TEST

START_TEST(test_frames_refuse_what_has_no_place)
{
    fixture_open(8 * MIB);
    struct peer a = peer_open(0);
    ck_assert_ptr_null(insert_sized(a.frames, 1, 1, FRAMES_MAX_BLOCK + 1));
    ck_assert_ptr_null(insert_sized(a.frames, 0, 1, 100));
    ck_assert_ptr_nonnull(insert_sized(a.frames, 1, 1, FRAMES_MAX_BLOCK));
    ck_assert_ptr_nonnull(insert_sized(a.frames, 1, 2, 0));
    check_shards(a.frames);
    peer_close(&a);
    fixture_close();
}
END_TEST

START_TEST(test_frames_stay_within_their_capacity)
{
    for (uint64_t capacity = 4 * MIB; capacity <= 32 * MIB; capacity *= 2) {
        fixture_open(capacity);
        struct peer a = peer_open(0), b = peer_open(1);
        uint32_t tried = 0, in = 0;
        for (uint64_t number = 1; number <= 40; number++) {
            in += number % 2 == 0 ? insert_beside(a.frames, b.frames, number, capacity / 10)
                                  : insert_beside(b.frames, a.frames, number, capacity / 10);
            tried += (uint32_t)(capacity / 10 / 4050);
            ck_assert_uint_le(counts_of(&a).bytes, capacity);
        }
        check_shards(a.frames);
        ck_assert_uint_gt(counts_of(&a).bytes, capacity / 10 * 7);
        ck_assert_uint_gt(in, tried / 10 * 9);
        ck_assert(!find(a.frames, 1, 1)); /* long ago */
        peer_close(&a);
        peer_close(&b);
        fixture_close();
    }
}
END_TEST

START_TEST(test_frames_touched_now_and_then_stay)
{
    fixture_open(8 * MIB);
    struct peer a = peer_open(0);
    for (uint32_t i = 0; i < 100; i++)
        ck_assert(insert(a.frames, 1, i));
    uint32_t found = 0;
    for (uint64_t number = 2; number < 100; number++) {
        (void)insert_bytes(a.frames, number, MIB / 2);
        found = 0;
        for (uint32_t i = 0; i < 100; i++)
            found += find(a.frames, 1, i);
    }
    ck_assert_uint_eq(found, 100);
    peer_close(&a);
    fixture_close();
}
END_TEST

START_TEST(test_frames_kept_stay_whole_until_dropped)
{
    fixture_open(4 * MIB);
    struct peer a = peer_open(0), b = peer_open(1);
    struct shm_frame *kept[50];
    for (uint32_t i = 0; i < 50; i++) {
        epoch_enter();
        (void)insert(a.frames, 1, i);
        kept[i] = shm_frames_find(b.frames, 1, i);
        shm_frame_keep(kept[i]);
        epoch_exit();
    }
    for (uint64_t number = 2; number < 60; number++)
        (void)insert_beside(a.frames, b.frames, number, MIB / 2);
    for (uint32_t i = 0; i < 50; i++) {
        ck_assert(!find(a.frames, 1, i));
        ck_assert(block_is_right(kept[i], block_size_of(1, i), 1, i));
        shm_frame_drop(kept[i]);
    }
    for (uint64_t number = 60; number < 100; number++)
        (void)insert_beside(a.frames, b.frames, number, MIB / 2);
    uint32_t used_again = 0;
    for (uint32_t i = 0; i < 50; i++)
        used_again += !block_is_right(kept[i], block_size_of(1, i), 1, i);
    ck_assert_uint_gt(used_again, 40);
    check_shards(a.frames);
    peer_close(&a);
    peer_close(&b);
    fixture_close();
}
END_TEST

/* Who does not tell costs the others room, never a wrong byte; and all is well when it tells. */
START_TEST(test_frames_wait_for_who_did_not_tell)
{
    fixture_open(4 * MIB);
    struct peer a = peer_open(0), b = peer_open(1);
    epoch_enter();
    (void)insert(a.frames, 1, 1);
    struct shm_frame *seen = shm_frames_find(b.frames, 1, 1);
    epoch_exit();
    uint32_t events = shm_event_count(&shm_layout(segment)->version.changed);
    for (uint64_t number = 2; number < 30; number++)
        (void)insert_bytes(a.frames, number, MIB / 2);
    ck_assert(!shm_frame_is(seen, 1, 1));
    ck_assert(block_is_right(seen, block_size_of(1, 1), 1, 1));
    ck_assert_uint_gt(counts_of(&a).turned_away, 100);
    ck_assert_uint_ne(shm_event_count(&shm_layout(segment)->version.changed), events);
    check_shards(a.frames);
    ck_assert(shm_frames_tell(b.frames));
    (void)insert_beside(a.frames, b.frames, 30, MIB / 4); /* all sizes get what was held back */
    uint64_t away = counts_of(&a).turned_away;
    (void)insert_beside(a.frames, b.frames, 31, MIB);
    ck_assert_uint_le(counts_of(&a).turned_away, away + 10);
    peer_close(&a);
    peer_close(&b);
    fixture_close();
}
END_TEST

static pthread_barrier_t barrier;

static void *sit_in_epoch(void *unused)
{
    epoch_enter();
    pthread_barrier_wait(&barrier); /* inside */
    pthread_barrier_wait(&barrier); /* may leave */
    epoch_exit();
    return unused;
}

START_TEST(test_frames_wait_for_threads_in_an_epoch)
{
    pthread_t thread;
    fixture_open(4 * MIB);
    struct peer a = peer_open(0);
    pthread_barrier_init(&barrier, NULL, 2);
    (void)insert_bytes(a.frames, 1, 2 * MIB);
    ck_assert_int_eq(pthread_create(&thread, NULL, sit_in_epoch, NULL), 0);
    pthread_barrier_wait(&barrier);
    struct shm_frame *seen = shm_frames_find(a.frames, 1, 5);
    ck_assert_ptr_nonnull(seen);
    for (uint64_t number = 2; number < 30; number++)
        (void)insert_bytes(a.frames, number, MIB / 2);
    ck_assert(block_is_right(seen, block_size_of(1, 5), 1, 5));
    ck_assert(!shm_frames_tell(a.frames));
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    (void)shm_frames_tell(a.frames);
    ck_assert(shm_frames_tell(a.frames));
    (void)insert_bytes(a.frames, 30, MIB / 4);
    ck_assert_uint_gt(insert_bytes(a.frames, 31, MIB / 4), 50);
    pthread_barrier_destroy(&barrier);
    peer_close(&a);
    fixture_close();
}
END_TEST

START_TEST(test_frames_held_by_a_dead_process_come_back)
{
    fixture_open(4 * MIB);
    struct peer a = peer_open(0), b = peer_open(1);
    (void)insert_bytes(a.frames, 1, 4 * MIB);
    for (uint32_t i = 0; i < 1000; i++) {
        epoch_enter();
        struct shm_frame *frame = shm_frames_find(b.frames, 1, i);
        if (frame != NULL)
            shm_frame_keep(frame);
        epoch_exit();
    }
    peer_die(&b);
    for (uint64_t number = 2; number < 12; number++)
        (void)insert_bytes(a.frames, number, MIB / 2);
    uint64_t away = counts_of(&a).turned_away;
    ck_assert_uint_gt(away, 100);
    shm_frames_reap(a.segment, 1);
    shm_frames_reap(a.segment, 1); /* as after a reaper's death */
    for (uint64_t number = 12; number < 30; number++)
        (void)insert_bytes(a.frames, number, MIB / 2);
    ck_assert_uint_le(counts_of(&a).turned_away, away + 50);
    check_shards(a.frames);
    b = peer_open(1); /* the next owner of the slot */
    (void)insert_bytes(b.frames, 30, MIB / 2);
    peer_close(&b);
    peer_close(&a);
    fixture_close();
}
END_TEST

/* Memory is not stuck with the sizes that were wanted first. */
START_TEST(test_frames_of_another_size_get_room)
{
    fixture_open(8 * MIB);
    struct peer a = peer_open(0);
    (void)insert_bytes(a.frames, 1, 16 * MIB);
    static const size_t sizes[] = {20000, 2000, 100000, 4096, 250000, 9000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint32_t in = 0, tried = (uint32_t)(32 * MIB / sizes[i]);
        for (uint32_t k = 0; k < tried; k++)
            in += insert_sized(a.frames, 2 + i, k, sizes[i]) != NULL;
        ck_assert_msg(in > tried / 3, "of %u blocks of %zu bytes only %u went in", tried, sizes[i],
                      in);
        uint64_t there = 0;
        for (uint32_t k = 0; k < tried; k++)
            there += shm_frames_find(a.frames, 2 + i, k) != NULL ? sizes[i] : 0;
        ck_assert_msg(there > 4 * MIB, "of %zu bytes each there are %lu in all", sizes[i],
                      (unsigned long)there);
        check_shards(a.frames);
    }
    peer_close(&a);
    fixture_close();
}
END_TEST

/* ---- races ----------------------------------------------------------------------------------- */

#define RACERS 4

struct racer {
    pthread_t thread;
    struct peer *peer;
    uint64_t seed;
    uint64_t found, wrong;
};

static void *race(void *argument)
{
    struct racer *r = argument;
    struct random_state random = random_seeded(r->seed);
    struct shm_frame *old[16] = {NULL}; /* what is remembered: identities are compared */
    struct shm_frame *kept[4] = {NULL}; /* and what is kept */
    uint64_t numbers[16] = {0}, kept_numbers[4] = {0};
    uint32_t indexes[16] = {0}, kept_indexes[4] = {0};
    for (unsigned step = 0; step < 30000; step++) {
        uint64_t number = 1 + random_below(&random, 3);
        uint32_t index = (uint32_t)random_below(&random, 700),
                 way = (uint32_t)random_below(&random, 16);
        size_t place = random_below(&random, 16), keep = random_below(&random, 4);
        epoch_enter();
        struct shm_frame *frame = old[place];
        if (frame != NULL && shm_frame_is(frame, numbers[place], indexes[place])) {
            number = numbers[place];
            index = indexes[place];
        } else {
            frame = shm_frames_find(r->peer->frames, number, index);
        }
        if (frame == NULL && way < 8) {
            (void)insert(r->peer->frames, number, index);
            frame = shm_frames_find(r->peer->frames, number, index);
        }
        if (frame != NULL) {
            r->found++;
            if (way % 4 == 0)
                shm_frame_touch(frame);
            r->wrong += !block_is_right(frame, block_size_of(number, index), number, index);
            old[place] = frame;
            numbers[place] = number;
            indexes[place] = index;
        }
        if (frame != NULL && way == 15) {
            if (kept[keep] != NULL) {
                r->wrong += !block_is_right(kept[keep],
                                            block_size_of(kept_numbers[keep], kept_indexes[keep]),
                                            kept_numbers[keep], kept_indexes[keep]);
                shm_frame_drop(kept[keep]);
            }
            shm_frame_keep(frame);
            kept[keep] = frame;
            kept_numbers[keep] = number;
            kept_indexes[keep] = index;
        }
        epoch_exit();
        if (way == 14)
            (void)shm_frames_tell(r->peer->frames);
    }
    for (size_t i = 0; i < 4; i++)
        if (kept[i] != NULL)
            shm_frame_drop(kept[i]);
    return NULL;
}

START_TEST(test_frames_raced_for_are_always_right)
{
    fixture_open(4 * MIB);
    struct peer peers[2] = {peer_open(0), peer_open(1)};
    struct racer racers[RACERS] = {0};
    uint64_t seed = (uint64_t)getpid();
    printf("seed %lu\n", (unsigned long)seed);
    for (size_t i = 0; i < RACERS; i++) {
        racers[i].peer = &peers[i % 2];
        racers[i].seed = seed + i;
        ck_assert_int_eq(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (size_t i = 0; i < RACERS; i++) {
        pthread_join(racers[i].thread, NULL);
        ck_assert_uint_eq(racers[i].wrong, 0);
        ck_assert_uint_gt(racers[i].found, 1000);
    }
    check_shards(peers[0].frames);
    peer_close(&peers[0]);
    peer_close(&peers[1]);
    fixture_close();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("frames");
    TCase *all = tcase_create("all");
    tcase_set_timeout(all, 60);
    tcase_add_test(all, test_frames_inserted_by_one_are_found_by_another);
    tcase_add_test(all, test_frames_inserted_twice_are_one);
    tcase_add_test(all, test_frames_of_a_small_capacity_are_none);
    tcase_add_test(all, test_frames_refuse_what_has_no_place);
    tcase_add_test(all, test_frames_stay_within_their_capacity);
    tcase_add_test(all, test_frames_touched_now_and_then_stay);
    tcase_add_test(all, test_frames_kept_stay_whole_until_dropped);
    tcase_add_test(all, test_frames_wait_for_who_did_not_tell);
    tcase_add_test(all, test_frames_wait_for_threads_in_an_epoch);
    tcase_add_test(all, test_frames_held_by_a_dead_process_come_back);
    tcase_add_test(all, test_frames_of_another_size_get_room);
    tcase_add_test(all, test_frames_raced_for_are_always_right);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
