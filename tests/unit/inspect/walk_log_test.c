/* Logs of databases that were left without a close, damaged in all ways, and walked. */
#include "engine/inspect/walk_log.h"

#include "engine/base/step.h"
#include "engine/format/batch.h"
#include "engine/format/current.h"
#include "tests/unit/db/db_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RECORDS 200
#define LOG_OPTIONS                                                                                \
    "create=true,workers=none,memtable_size=1MiB,stage_size=64KiB,wal_segment_size=64KiB"

#define LARGE_OPTIONS                                                                              \
    "create=true,workers=none,memtable_size=4MiB,stage_size=1MiB,wal_segment_size=4MiB"
#define LARGE_VALUE 3000 /* RECORDS of them are more than the walk holds of a file */

struct tally {
    unsigned records, corrected, damages, elsewhere, notes;
    uint64_t lost_bytes;
    bool seen[4 * RECORDS];
};

static struct tally tally;
static struct walk_log_end end;

static lsm_status on_record(void *context, const struct walk_log_record *record, lsm_error *err)
{
    (void)context, (void)err;
    struct batch_reader r = batch_read(record->batch);
    struct batch_entry entry;
    tally.records++;
    while (batch_next(&r, &entry)) {
        unsigned number;
        ck_assert_int_eq(sscanf((const char *)entry.key.data, "many-%06u", &number), 1);
        ck_assert_uint_lt(number, 4 * RECORDS);
        ck_assert_msg(!tally.seen[number], "key %u twice", number);
        tally.seen[number] = true;
        for (size_t i = 0; i < entry.value.size; i++)
            ck_assert_int_eq(((const char *)entry.value.data)[i], 'a' + (int)(number % 26));
    }
    return LSM_OK;
}

static lsm_status on_damage(void *context, const struct walk_log_damage *damage, lsm_error *err)
{
    (void)context, (void)err;
    ck_assert(damage->text != NULL && damage->text[0] != '\0');
    if (finding_kind_of(damage->id)->severity != LSM_DAMAGE) {
        tally.notes++;
        return LSM_OK;
    }
    tally.damages++;
    tally.corrected += damage->is_corrected;
    tally.elsewhere += damage->is_elsewhere;
    tally.lost_bytes += damage->limit - damage->position;
    return LSM_OK;
}

static void walk_now(void)
{
    struct io *io = NULL;
    struct io_dir *dir = NULL;
    char path[sizeof db_path + 16], text_of[CURRENT_MAX_SIZE];
    uint64_t manifest;
    snprintf(path, sizeof path, "%s/CURRENT", db_path);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    size_t size = fread(text_of, 1, sizeof text_of, f);
    fclose(f);
    ck_ok(io_open("posix", &io, &error));
    ck_ok(io_dir_open(io, db_path, 0, 0, &dir, &error));
    struct walk_log_options options = {.io = io, .dir = dir};
    ck_ok(current_decode(text_of, size, db_path, options.uuid, &manifest, &error));
    struct walk_log_visitor visitor = {.record = on_record, .damage = on_damage};
    tally = (struct tally){0};
    ck_ok(walk_log(&options, &visitor, &end, &error));
    ck_assert_uint_eq(tally.records, end.record_count);
    ck_assert_uint_eq(tally.damages, end.damage_count);
    ck_assert_uint_eq(tally.lost_bytes, end.lost_bytes);
    io_dir_close(dir);
    io_close(io);
}

/* A database with a log of `count` records that no table holds. The last ones are in the ring only,
 * unless they were synced. */
static void make_log_of(const char *options, size_t value_size, unsigned count, bool is_synced)
{
    lsm_db *db = open_with(options);
    lsm_write_options sync = {.durability = LSM_SYNC};
    char key[32], value[LARGE_VALUE];
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof key, "many-%06u", i);
        memset(value, 'a' + (int)(i % 26), value_size);
        ck_ok(lsm_put(db, NULL, text(key), LSM_SLICE(value, value_size),
                      is_synced && (i % 80 == 0 || i + 2 >= count) ? &sync : NULL, &error));
    }
    db_abandon(db);
}

static void make_log(unsigned count, bool is_synced)
{
    make_log_of(LOG_OPTIONS, 100, count, is_synced);
}

static void change(const char *name, long offset, const void *bytes, size_t size)
{
    char path[sizeof db_path + 64];
    snprintf(path, sizeof path, "%s/%s", db_path, name);
    int fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, bytes, size, offset), (ssize_t)size);
    close(fd);
}

static void flip(const char *name, long offset, uint8_t bits)
{
    char path[sizeof db_path + 64];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/%s", db_path, name);
    int fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
    byte ^= bits;
    ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

static void empty_ring(void)
{
    static const uint8_t zeros[64 << 10];
    change("STAGE", 0, zeros, sizeof zeros);
}

/* Number of segment files, and the names of the first and the last. */
static unsigned segments(char first[32], char last[32])
{
    unsigned count = 0;
    DIR *dir = opendir(db_path);
    strcpy(first, "~");
    strcpy(last, "");
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        size_t length = strlen(e->d_name);
        if (length < 5 || length > 20 || strcmp(e->d_name + length - 4, ".wal") != 0)
            continue;
        count++;
        if (strcmp(e->d_name, first) < 0)
            snprintf(first, 32, "%.20s", e->d_name);
        if (strcmp(e->d_name, last) > 0)
            snprintf(last, 32, "%.20s", e->d_name);
    }
    closedir(dir);
    return count;
}

static const char *oldest(void)
{
    static char first[32], last[32];
    segments(first, last);
    return first;
}

START_TEST(test_walk_log_healthy_every_record_is_told)
{
    make_log(RECORDS, false);
    walk_now();
    ck_assert_uint_eq(tally.records, RECORDS);
    ck_assert_uint_eq(tally.damages, 0);
    ck_assert_uint_eq(end.last_sequence, RECORDS);
    ck_assert(!end.is_torn);
}
END_TEST

START_TEST(test_walk_log_many_segments_every_record_is_told)
{
    char first[32], last[32];
    make_log(4 * RECORDS, false);
    ck_assert_uint_gt(segments(first, last), 1);
    walk_now();
    ck_assert_uint_eq(tally.records, 4 * RECORDS);
    ck_assert_uint_eq(tally.damages, 0);
}
END_TEST

START_TEST(test_walk_log_flipped_bit_the_ring_has_it)
{
    make_log(RECORDS, true);
    flip(oldest(), 4096 + 3000, 0x10);
    walk_now();
    ck_assert_uint_eq(tally.records, RECORDS);
    ck_assert_uint_eq(tally.damages, 1);
    ck_assert_uint_eq(tally.elsewhere, 1);
}
END_TEST

/* What writers do while the walk looks whether the record in the ring should be in the segment. */
static void write_over_ring(const char *step)
{
    if (strcmp(step, "log walk: searched") != 0 || atomic_exchange(&step_hook, NULL) == NULL)
        return;
    flip(oldest(), 4096 + 3000, 0x10);
    empty_ring();
}

START_TEST(test_walk_log_ring_is_written_over_when_the_segment_has_it)
{
    make_log_of(LARGE_OPTIONS, LARGE_VALUE, RECORDS, true);
    flip(oldest(), 4096 + 3000, 0x10);
    atomic_store(&step_hook, write_over_ring);
    walk_now();
    ck_assert(atomic_load(&step_hook) == NULL);
    ck_assert_uint_eq(tally.records, RECORDS);
    ck_assert_uint_eq(tally.damages, 0);
    ck_assert_uint_eq(end.last_sequence, RECORDS);
}
END_TEST

START_TEST(test_walk_log_flipped_bit_without_ring_is_corrected)
{
    make_log(RECORDS, true);
    empty_ring();
    for (long at = 4096; at < 4096 + 400; at += 3) {
        flip(oldest(), at, 0x10);
        walk_now();
        ck_assert_msg(tally.records == RECORDS && tally.damages == 1 && tally.corrected == 1,
                      "byte %ld: %u records, %u damages", at, tally.records, tally.damages);
        flip(oldest(), at, 0x10);
    }
}
END_TEST

START_TEST(test_walk_log_zeroed_bytes_only_their_records_are_lost)
{
    static const uint8_t zeros[300];
    make_log(RECORDS, true);
    empty_ring();
    change(oldest(), 4096 + 2000, zeros, sizeof zeros);
    walk_now();
    ck_assert_uint_ge(tally.records, RECORDS - 4);
    ck_assert_uint_lt(tally.records, RECORDS);
    ck_assert_uint_eq(tally.damages, 1);
    ck_assert_uint_ge(tally.lost_bytes, sizeof zeros);
    ck_assert_uint_eq(end.last_sequence, RECORDS);
}
END_TEST

START_TEST(test_walk_log_damage_behind_what_was_synced_is_torn)
{
    static const uint8_t zeros[30];
    make_log(RECORDS, false);
    walk_now();
    /* The last record, in the ring. */
    uint64_t last = end.position - 8;
    change("STAGE", (long)(last % (64 << 10)) - 40, zeros, sizeof zeros);
    walk_now();
    ck_assert_uint_eq(tally.records, RECORDS - 1);
    ck_assert_uint_eq(tally.damages, 0);
    ck_assert_uint_eq(tally.notes, 1);
    ck_assert(end.is_torn);
}
END_TEST

START_TEST(test_walk_log_header_with_a_wrong_byte_is_corrected)
{
    make_log(RECORDS, true);
    empty_ring();
    for (long at = 0; at < 200; at += 7) {
        flip(oldest(), at, 0x42);
        walk_now();
        ck_assert_uint_eq(tally.records, RECORDS);
        ck_assert_uint_eq(tally.damages, 1);
        ck_assert_uint_eq(tally.corrected, 1);
        flip(oldest(), at, 0x42);
    }
}
END_TEST

START_TEST(test_walk_log_lost_header_is_done_without)
{
    static const uint8_t zeros[4096];
    char first[32], last[32];
    make_log(4 * RECORDS, true);
    ck_assert_uint_gt(segments(first, last), 1);
    change(first, 0, zeros, sizeof zeros);
    walk_now();
    ck_assert_uint_eq(tally.records, 4 * RECORDS);
    ck_assert_uint_eq(tally.damages, 1);
    empty_ring();
    change(last, 0, zeros, sizeof zeros); /* now none tells the nonce, unless there is a third */
    walk_now();
    ck_assert_uint_ge(tally.damages, 2);
}
END_TEST

START_TEST(test_walk_log_lost_newest_header_is_done_without)
{
    static const uint8_t zeros[4096];
    char first[32], last[32];
    make_log(4 * RECORDS, true);
    ck_assert_uint_gt(segments(first, last), 1);
    change(last, 0, zeros, sizeof zeros);
    walk_now();
    ck_assert_uint_eq(tally.records, 4 * RECORDS);
    ck_assert_uint_ge(tally.damages, 1);
}
END_TEST

START_TEST(test_walk_log_missing_segment_the_others_are_told)
{
    char first[32], last[32], path[sizeof db_path + 64];
    make_log(4 * RECORDS, true);
    ck_assert_uint_gt(segments(first, last), 1);
    empty_ring();
    snprintf(path, sizeof path, "%s/%s", db_path, first);
    ck_assert_int_eq(unlink(path), 0);
    walk_now();
    ck_assert_uint_gt(tally.records, 0);
    ck_assert_uint_lt(tally.records, 4 * RECORDS);
    ck_assert_uint_ge(tally.damages, 1);
    ck_assert_uint_gt(tally.lost_bytes, 32 << 10);
}
END_TEST

START_TEST(test_walk_log_random_damage_tells_no_wrong_record)
{
    char first[32], last[32];
    make_log(4 * RECORDS, true);
    unsigned count = segments(first, last);
    const char *names[] = {first, last, "STAGE"};
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < 8; i++) {
            uint8_t bytes[64];
            size_t size = 1 + (size_t)random() % sizeof bytes;
            for (size_t k = 0; k < size; k++)
                bytes[k] = (uint8_t)random();
            change(names[random() % 3], random() % (60 << 10), bytes, size);
        }
        walk_now(); /* checks what it is told */
        ck_assert_uint_gt(count, 1);
    }
}
END_TEST

int main(void)
{
    const char *given = getenv("LSM_TEST_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("LSM_TEST_SEED=%u\n", seed);
    srandom(seed);
    Suite *suite = suite_create("walk_log");
    TCase *tcase = tcase_create("damage");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, fixture_set_up, fixture_tear_down);
    tcase_add_test(tcase, test_walk_log_healthy_every_record_is_told);
    tcase_add_test(tcase, test_walk_log_many_segments_every_record_is_told);
    tcase_add_test(tcase, test_walk_log_flipped_bit_the_ring_has_it);
    tcase_add_test(tcase, test_walk_log_ring_is_written_over_when_the_segment_has_it);
    tcase_add_test(tcase, test_walk_log_flipped_bit_without_ring_is_corrected);
    tcase_add_test(tcase, test_walk_log_zeroed_bytes_only_their_records_are_lost);
    tcase_add_test(tcase, test_walk_log_damage_behind_what_was_synced_is_torn);
    tcase_add_test(tcase, test_walk_log_header_with_a_wrong_byte_is_corrected);
    tcase_add_test(tcase, test_walk_log_lost_header_is_done_without);
    tcase_add_test(tcase, test_walk_log_lost_newest_header_is_done_without);
    tcase_add_test(tcase, test_walk_log_missing_segment_the_others_are_told);
    tcase_add_test(tcase, test_walk_log_random_damage_tells_no_wrong_record);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
