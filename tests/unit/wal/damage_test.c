/*
 * Damaged logs: what was synced is missed with its exact place, what was not ends the log without a
 * word, and nothing wrong is ever read. Left-overs of an earlier life are never taken for the log.
 */
#include "engine/format/stage_trailer.h"
#include "tests/unit/wal/rig.h"

#define MAX_FILES 8

/* A log at rest on a simulated disk, and what is known of its records. */
struct specimen {
    struct rig rig;
    uint64_t starts[64]; /* positions of records, from 1; [count + 1] is the end */
    uint64_t synced[64]; /* what each says */
    uint64_t count;
    uint64_t wal_numbers[MAX_FILES];
    uint8_t *wal_bytes[MAX_FILES];
    size_t wal_sizes[MAX_FILES];
    struct log_segment_header headers[MAX_FILES];
    size_t wal_count;
};

static void put(struct specimen *s, size_t size)
{
    uint64_t end;
    s->count++;
    s->starts[s->count] = rig_staged(&s->rig);
    s->synced[s->count] = rig_durable(&s->rig);
    ck_ok(rig_put_sized(&s->rig, size, &end, err));
    s->starts[s->count + 1] = end;
}

static void sync_log(struct specimen *s)
{
    ck_ok(wal_sync_locked(s->rig.wal, rig_staged(&s->rig), err));
}

static const char *wal_name(uint64_t number)
{
    static char name[FILE_NAME_SIZE];
    return file_name_make(FILE_WAL, number, name);
}

static void overwrite(struct rig *rig, const char *name, uint64_t offset, const void *bytes,
                      size_t size)
{
    ck_ok(sim_overwrite(rig->disk, rig->path, name, offset, bytes, size, err));
}

static uint8_t *read_file(struct rig *rig, const char *name, size_t *size)
{
    const void *bytes;
    if (sim_contents(rig->disk, rig->path, name, &bytes, size, NULL) != LSM_OK)
        return NULL;
    uint8_t *copy = malloc(*size + 1);
    memcpy(copy, bytes, *size);
    return copy;
}

/* Power goes, everything written stays but the ring, which reads as zeros. */
static void lay_down(struct specimen *s)
{
    rig_crash(&s->rig, SIM_CRASH_KEEP_ALL, 1);
    size_t size = 0;
    uint8_t *ring = read_file(&s->rig, "STAGE", &size);
    size -= STAGE_TRAILER_SIZE;
    memset(ring, 0, size);
    overwrite(&s->rig, "STAGE", 0, ring, size);
    free(ring);
    for (uint64_t number = 1; number < 40; number++) {
        size_t i = s->wal_count;
        uint8_t *bytes = read_file(&s->rig, wal_name(number), &s->wal_sizes[i]);
        if (bytes == NULL)
            continue;
        ck_assert_uint_lt(i, MAX_FILES);
        s->wal_numbers[i] = number;
        s->wal_bytes[i] = bytes;
        ck_assert_int_eq(log_segment_decode(bytes, s->rig.options.uuid, number, &s->headers[i]),
                         LOG_SEGMENT_OK);
        s->wal_count++;
    }
}

static void specimen_init(struct specimen *s, uint64_t seed)
{
    *s = (struct specimen){0};
    ck_assert(rig_init(&s->rig, RIG_SIM, seed));
    s->rig.options.segment_size = RIG_STAGE;
    rig_start(&s->rig, NULL);
}

static void specimen_release(struct specimen *s)
{
    for (size_t i = 0; i < s->wal_count; i++)
        free(s->wal_bytes[i]);
    rig_release(&s->rig);
}

/* Two full segments and a third, with a synced and an unsynced part, in two lives. */
static void make_specimen(struct specimen *s)
{
    specimen_init(s, 3);
    for (unsigned i = 0; i < 5; i++)
        put(s, 2100 + 8 * i);
    sync_log(s);
    put(s, 900);
    put(s, 31);
    rig_abandon(&s->rig);
    rig_start(&s->rig, NULL);
    for (unsigned i = 0; i < 7; i++)
        put(s, 2000 + i);
    sync_log(s);
    put(s, 300);
    put(s, 200);
    sync_log(s);
    put(s, 100);
    put(s, 0);
    put(s, 50);
    ck_ok(wal_write_locked(s->rig.wal, rig_staged(&s->rig), err));
    lay_down(s);
    ck_assert_uint_eq(s->wal_count, 3);
}

/* ---- rot ------------------------------------------------------------------------------------- */

/* The record that holds `position`; 0 when none does. */
static uint64_t record_at(const struct specimen *s, uint64_t position)
{
    for (uint64_t n = 1; n <= s->count; n++) {
        if (s->starts[n] <= position && position < s->starts[n + 1])
            return n;
    }
    return 0;
}

/* Does anything say that the log was durable behind the start of record n? */
static bool is_proven(const struct specimen *s, uint64_t n)
{
    if (s->starts[n] < s->headers[s->wal_count - 1].resume)
        return true; /* the opening of the newest segment had it durable */
    for (uint64_t later = n + 1; later <= s->count; later++) {
        if (s->synced[later] > s->starts[n])
            return true;
    }
    return false;
}

/* What a flip of a byte at `offset` of segment file `file` must lead to. */
static void check_flip(struct specimen *s, size_t file, uint64_t offset)
{
    const struct log_segment_header *header = &s->headers[file];
    bool is_newest = file + 1 == s->wal_count;
    uint64_t limit = is_newest ? log_segment_limit(header) : s->headers[file + 1].start;
    uint64_t position = header->start + offset - LOG_SEGMENT_HEADER;
    uint64_t n = offset < LOG_SEGMENT_HEADER || position >= limit ? 0 : record_at(s, position);
    struct wal_end end = {0};
    lsm_error error = {0};
    lsm_status status = rig_replay(&s->rig, &end, &error);
    if (offset < LOG_SEGMENT_HEADER) {
        if (status != LSM_CORRUPT || strcmp(error.file, wal_name(header->number)) != 0 ||
            error.offset != 0)
            ck_abort_msg("header byte %" PRIu64 ": %d '%s'", offset, (int)status, error.message);
    } else if (n == 0) {
        if (status != LSM_OK || end.record_count != s->count)
            ck_abort_msg("free byte %" PRIu64 ": %d '%s'", offset, (int)status, error.message);
    } else if (!is_newest || is_proven(s, n)) {
        uint64_t place = LOG_SEGMENT_HEADER + s->starts[n] - header->start;
        if (status != LSM_CORRUPT || strcmp(error.file, wal_name(header->number)) != 0 ||
            error.offset != place)
            ck_abort_msg("byte %" PRIu64 " of record %" PRIu64 ": %d '%s'", offset, n, (int)status,
                         error.message);
    } else if (status != LSM_OK || end.record_count != n - 1 || end.position != s->starts[n]) {
        ck_abort_msg("byte %" PRIu64 " of unproven record %" PRIu64 ": %d '%s'", offset, n,
                     (int)status, error.message);
    }
}

START_TEST(test_damage_each_byte_of_a_segment_is_found_or_unproven)
{
    struct specimen s;
    make_specimen(&s);
    struct wal_end end;
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, s.count);
    size_t file = (size_t)_i;
    const char *name = wal_name(s.wal_numbers[file]);
    for (size_t offset = 0; offset < s.wal_sizes[file]; offset++) {
        uint8_t byte = s.wal_bytes[file][offset], flipped = (uint8_t)(byte ^ (1u << offset % 8));
        ck_ok(sim_overwrite(s.rig.disk, s.rig.path, name, offset, &flipped, 1, err));
        check_flip(&s, file, offset);
        name = wal_name(s.wal_numbers[file]);
        ck_ok(sim_overwrite(s.rig.disk, s.rig.path, name, offset, &byte, 1, err));
    }
    specimen_release(&s);
}
END_TEST

/* With the ring as it was: a bad record of the newest segment may be there once more. */
START_TEST(test_damage_to_the_newest_segment_heals_from_the_ring)
{
    struct specimen s;
    specimen_init(&s, 5);
    char newest[FILE_NAME_SIZE];
    file_name_make(FILE_WAL, s.rig.layout->commit.segment_number, newest);
    for (unsigned i = 0; i < 6; i++)
        put(&s, 200);
    sync_log(&s);
    put(&s, 100);
    rig_crash(&s.rig, SIM_CRASH_KILL, 1);
    uint8_t bad = 0x55;
    overwrite(&s.rig, newest, LOG_SEGMENT_HEADER + s.starts[3] + 60, &bad, 1);
    struct wal_end end;
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, 7);
    ck_assert_uint_eq(end.segments_end, s.starts[3]);
    rig_start(&s.rig, &end);
    rig_crash(&s.rig, SIM_CRASH_LOSE_ALL, 1);
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, 7);
    specimen_release(&s);
}
END_TEST

START_TEST(test_damage_to_each_byte_of_the_ring_never_gives_a_wrong_record)
{
    struct specimen s;
    specimen_init(&s, 6);
    for (unsigned i = 0; i < 20; i++) {
        put(&s, 900 + i);
        if (i == 12)
            sync_log(&s);
    }
    rig_crash(&s.rig, SIM_CRASH_KILL, 1);
    size_t size;
    uint8_t *ring = read_file(&s.rig, "STAGE", &size);
    size -= STAGE_TRAILER_SIZE;
    uint64_t written = s.starts[14];
    for (size_t offset = 0; offset < size; offset++) {
        uint8_t flipped = ring[offset] ^ 0x10;
        ck_ok(sim_overwrite(s.rig.disk, s.rig.path, "STAGE", offset, &flipped, 1, err));
        uint64_t position = s.starts[s.count + 1] - size;
        position += (offset + size - position % size) % size;
        uint64_t n = position < written ? 0 : record_at(&s, position);
        struct wal_end end = {0};
        lsm_error error = {0};
        lsm_status status = rig_replay(&s.rig, &end, &error);
        uint64_t expected = n == 0 ? s.count : n - 1;
        if (status != LSM_OK || end.record_count != expected)
            ck_abort_msg("byte %zu, record %" PRIu64 ": %" PRIu64 " records, %s", offset, n,
                         end.record_count, error.message);
        ck_ok(sim_overwrite(s.rig.disk, s.rig.path, "STAGE", offset, &ring[offset], 1, err));
    }
    free(ring);
    specimen_release(&s);
}
END_TEST

/* ---- torn tails ------------------------------------------------------------------------------ */

START_TEST(test_damage_last_record_cut_anywhere_is_the_quiet_end)
{
    struct specimen s;
    specimen_init(&s, 8);
    char newest[FILE_NAME_SIZE];
    file_name_make(FILE_WAL, s.rig.layout->commit.segment_number, newest);
    for (unsigned i = 0; i < 4; i++)
        put(&s, 150);
    sync_log(&s);
    put(&s, 211);
    ck_ok(wal_write_locked(s.rig.wal, rig_staged(&s.rig), err));
    lay_down(&s);
    uint64_t start = s.starts[5], size = s.starts[6] - start;
    uint8_t zeros[512] = {0};
    struct wal_end end;
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, 5);
    for (uint64_t cut = size; cut-- > 0;) {
        bool was_zero = s.wal_bytes[0][LOG_SEGMENT_HEADER + start + cut] == 0;
        overwrite(&s.rig, newest, LOG_SEGMENT_HEADER + start + cut, zeros, (size_t)(size - cut));
        ck_ok(rig_replay(&s.rig, &end, err));
        if (end.record_count == 5 && was_zero && cut + 1 == size)
            continue; /* its last byte is a zero */
        ck_assert_uint_eq(end.record_count, 4);
        ck_assert_uint_eq(end.position, start);
        ck_assert_uint_eq(end.last_sequence, 4);
    }
    specimen_release(&s);
}
END_TEST

/* ---- forgeries ------------------------------------------------------------------------------- */

/* Puts another record of the same size in the place of record n: whole, but for its `previous`. */
static void forge_record(struct specimen *s, size_t file, uint64_t n, uint64_t previous)
{
    const struct log_segment_header *header = &s->headers[file];
    uint8_t *place = s->wal_bytes[file] + LOG_SEGMENT_HEADER + (s->starts[n] - header->start);
    struct log_record old;
    uint64_t seed = log_segment_seed(header, s->starts[n]);
    size_t size = (size_t)(s->starts[n + 1] - s->starts[n]);
    ck_assert_int_eq(log_record_decode((lsm_slice){place, size}, s->starts[n], seed, &old),
                     LOG_RECORD_OK);
    uint8_t *batch = malloc(old.batch.size + 1);
    memcpy(batch, old.batch.data, old.batch.size);
    lsm_slice piece = {batch, old.batch.size};
    old.previous = previous;
    log_record_encode(place, &old, &piece, 1, seed);
    free(batch);
    overwrite(&s->rig, wal_name(header->number), 0, s->wal_bytes[file], s->wal_sizes[file]);
}

START_TEST(test_damage_record_off_the_chain_is_found)
{
    struct specimen s;
    struct wal_end end;
    lsm_error error = {0};
    make_specimen(&s);
    forge_record(&s, 0, 3, 4711);
    ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
    ck_assert_uint_eq(error.found, 4711);
    ck_assert_uint_eq(error.offset, LOG_SEGMENT_HEADER + s.starts[3]);
    s.rig.from = s.starts[3]; /* without a chain to compare with it is as good as any */
    s.rig.from_chain = 0;
    ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
    ck_assert_uint_eq(error.offset, LOG_SEGMENT_HEADER + s.starts[4]);
    specimen_release(&s);
}
END_TEST

/* The first record of an opening must follow what its segment's header says was before. */
START_TEST(test_damage_first_record_of_an_opening_is_held_to_the_header)
{
    struct specimen s;
    struct wal_end end;
    lsm_error error = {0};
    make_specimen(&s);
    uint64_t n = 1;
    while (s.starts[n] != s.headers[1].resume)
        n++;
    s.rig.from = s.starts[n];
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, s.count - n + 1);
    s.rig.from_chain = 4712; /* the header knows better */
    ck_ok(rig_replay(&s.rig, &end, err));
    s.rig.from_chain = 0;
    forge_record(&s, 1, n, 4711);
    ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
    ck_assert_uint_eq(error.found, 4711);
    specimen_release(&s);
}
END_TEST

/* What an opening found was durable before its segment had a name, so a hole there is rot, even
 * with nothing behind it. */
START_TEST(test_damage_to_the_tail_an_opening_took_over_is_rot)
{
    struct specimen s;
    specimen_init(&s, 31);
    put(&s, 100);
    put(&s, 120);
    rig_abandon(&s.rig);
    rig_start(&s.rig, NULL);
    char newest[FILE_NAME_SIZE];
    file_name_make(FILE_WAL, s.rig.layout->commit.segment_number, newest);
    lay_down(&s);
    uint8_t bad = 0x77;
    overwrite(&s.rig, newest, LOG_SEGMENT_HEADER + s.starts[2] + 50, &bad, 1);
    struct wal_end end;
    lsm_error error = {0};
    ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
    ck_assert_uint_eq(error.offset, LOG_SEGMENT_HEADER + s.starts[2]);
    specimen_release(&s);
}
END_TEST

/* A value that looks like a record, at its right place even, proves nothing. */
START_TEST(test_damage_look_alike_inside_a_value_is_no_proof)
{
    struct specimen s;
    specimen_init(&s, 32);
    put(&s, 100);
    sync_log(&s);
    put(&s, 100);
    uint64_t start = rig_staged(&s.rig), end_position;
    uint8_t fake[400] = {0};
    for (size_t at = 0; at + 64 <= sizeof fake; at += 64) {
        struct log_record record = {.position = start + LOG_RECORD_HEAD + at, .synced = start};
        log_record_encode(fake + at, &record, NULL, 0, 1);
    }
    lsm_slice piece = {fake, sizeof fake};
    ck_ok(wal_stage_locked(s.rig.wal, 3, &piece, 1, &end_position, err));
    wal_publish_locked(s.rig.wal);
    ck_ok(wal_write_locked(s.rig.wal, end_position, err));
    lay_down(&s);
    uint8_t bad = 0x77;
    overwrite(&s.rig, wal_name(s.wal_numbers[0]), LOG_SEGMENT_HEADER + s.starts[2] + 50, &bad, 1);
    struct wal_end end;
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, 1);
    specimen_release(&s);
}
END_TEST

/* The proof may stand in the ring alone. */
START_TEST(test_damage_is_proven_by_a_record_of_the_ring)
{
    struct specimen s;
    specimen_init(&s, 33);
    for (unsigned i = 0; i < 12; i++)
        put(&s, 2000);
    sync_log(&s);
    put(&s, 100);
    rig_crash(&s.rig, SIM_CRASH_KILL, 1);
    struct wal_end end;
    lsm_error error = {0};
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, 13);
    char name[FILE_NAME_SIZE];
    uint64_t start = 0;
    for (uint64_t number = 1; number < 40; number++) {
        size_t size;
        struct log_segment_header header;
        uint8_t *bytes = read_file(&s.rig, wal_name(number), &size);
        if (bytes != NULL) {
            ck_assert_int_eq(log_segment_decode(bytes, s.rig.options.uuid, number, &header),
                             LOG_SEGMENT_OK);
            start = header.start;
            file_name_make(FILE_WAL, number, name);
        }
        free(bytes);
    }
    uint64_t n = 1; /* the first record of the newest segment, and all behind it but the ring's */
    while (s.starts[n] < start)
        n++;
    uint8_t bad[4096] = {0};
    for (uint64_t at = start; at < s.starts[13]; at += sizeof bad)
        overwrite(&s.rig, name, LOG_SEGMENT_HEADER + (at - start), bad, sizeof bad);
    size_t size;
    uint8_t *ring = read_file(&s.rig, "STAGE", &size);
    size -= STAGE_TRAILER_SIZE;
    ring[s.starts[n] % size + 50] ^= 1;
    overwrite(&s.rig, "STAGE", 0, ring, size);
    free(ring);
    ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
    ck_assert_str_eq(error.file, name);
    ck_assert_uint_eq(error.offset, LOG_SEGMENT_HEADER + s.starts[n] - start);
    specimen_release(&s);
}
END_TEST

START_TEST(test_damage_headers_that_do_not_fit_together_are_told)
{
    struct specimen s;
    struct wal_end end;
    lsm_error error = {0};
    make_specimen(&s);
    uint8_t block[LOG_SEGMENT_HEADER];
    struct log_segment_header header = s.headers[2];
    header.previous_start += 8;
    log_segment_encode(block, &header);
    overwrite(&s.rig, wal_name(header.number), 0, block, sizeof block);
    ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "by the one that follows it"));
    header = s.headers[2];
    header.previous = header.previous_start = header.previous_end = 0;
    log_segment_encode(block, &header);
    overwrite(&s.rig, wal_name(header.number), 0, block, sizeof block);
    ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "the log begins with segment"));
    specimen_release(&s);
}
END_TEST

/* ---- left-overs ------------------------------------------------------------------------------ */

/*
 * A power cut takes record 2 out of the ring and leaves record 3. The caller then writes record 2
 * again, byte for byte. Record 3 was never acknowledged in this life, and must not come back.
 */
START_TEST(test_damage_left_over_behind_a_retried_record_is_not_recovered)
{
    struct specimen s;
    specimen_init(&s, 9);
    put(&s, 100);
    sync_log(&s);
    put(&s, 120);
    put(&s, 140);
    uint64_t second = s.starts[2], third = s.starts[3];
    rig_crash(&s.rig, SIM_CRASH_KEEP_ALL, 1);
    uint8_t zeros[512] = {0};
    overwrite(&s.rig, "STAGE", second, zeros, (size_t)(third - second));
    struct wal_end end;
    rig_start(&s.rig, &end);
    ck_assert_uint_eq(end.position, second);
    s.rig.sequence = 1;
    s.count = 1;
    put(&s, 120);
    ck_assert_uint_eq(rig_staged(&s.rig), third);
    rig_crash(&s.rig, SIM_CRASH_KILL, 1);
    size_t size;
    uint8_t *ring = read_file(&s.rig, "STAGE", &size);
    ck_assert_uint_eq(bytes_get_u32(ring + third), LOG_RECORD_MAGIC); /* it does lie there */
    free(ring);
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, 2);
    ck_assert_uint_eq(end.position, third);
    specimen_release(&s);
}
END_TEST

/* The same in a segment: what lies behind the seal of an old one is never read. */
START_TEST(test_damage_left_over_behind_a_seal_is_not_recovered)
{
    struct specimen s;
    specimen_init(&s, 10);
    char newest[FILE_NAME_SIZE];
    file_name_make(FILE_WAL, s.rig.layout->commit.segment_number, newest);
    put(&s, 100);
    sync_log(&s);
    put(&s, 120);
    put(&s, 140);
    ck_ok(wal_write_locked(s.rig.wal, rig_staged(&s.rig), err));
    uint64_t second = s.starts[2], third = s.starts[3];
    lay_down(&s);
    uint8_t zeros[512] = {0};
    overwrite(&s.rig, newest, LOG_SEGMENT_HEADER + second, zeros, (size_t)(third - second));
    struct wal_end end;
    rig_start(&s.rig, &end);
    ck_assert_uint_eq(end.position, second);
    s.rig.sequence = 1;
    put(&s, 120);
    sync_log(&s);
    rig_crash(&s.rig, SIM_CRASH_KEEP_ALL, 1);
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, 2);
    ck_assert_uint_eq(end.position, third);
    specimen_release(&s);
}
END_TEST

/* ---- files ----------------------------------------------------------------------------------- */

START_TEST(test_damage_missing_segment_is_named)
{
    struct specimen s;
    make_specimen(&s);
    struct wal_end end;
    lsm_error error = {0};
    for (size_t i = 0; i + 1 < s.wal_count; i++) {
        ck_ok(io_dir_rename(s.rig.options.dir, wal_name(s.wal_numbers[i]), "away", err));
        ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
        ck_assert_str_eq(error.file, wal_name(s.wal_numbers[i]));
        ck_assert_ptr_nonnull(strstr(error.message, "is missing"));
        ck_ok(io_dir_rename(s.rig.options.dir, "away", wal_name(s.wal_numbers[i]), err));
    }
    /* What the tables hold may be gone. */
    ck_ok(io_dir_unlink(s.rig.options.dir, wal_name(s.wal_numbers[0]), NULL, err));
    s.rig.from = s.headers[1].start;
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.position, s.starts[s.count + 1]);
    specimen_release(&s);
}
END_TEST

/* The one before was cut to what it holds when it was sealed, and misses its successor. */
START_TEST(test_damage_missing_newest_segment_is_told)
{
    struct specimen s;
    specimen_init(&s, 11);
    put(&s, 100);
    rig_abandon(&s.rig);
    rig_start(&s.rig, NULL);
    put(&s, 100);
    sync_log(&s);
    char newest[FILE_NAME_SIZE];
    file_name_make(FILE_WAL, s.rig.layout->commit.segment_number, newest);
    lay_down(&s);
    ck_assert_uint_eq(s.wal_count, 2);
    ck_assert_uint_lt(s.wal_sizes[0], s.wal_sizes[1]);
    ck_ok(io_dir_unlink(s.rig.options.dir, newest, NULL, err));
    struct wal_end end;
    lsm_error error = {0};
    ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "is missing"));
    specimen_release(&s);
}
END_TEST

START_TEST(test_damage_all_segments_missing_is_told)
{
    struct specimen s;
    specimen_init(&s, 12);
    char newest[FILE_NAME_SIZE];
    file_name_make(FILE_WAL, s.rig.layout->commit.segment_number, newest);
    put(&s, 100);
    rig_crash(&s.rig, SIM_CRASH_KILL, 1);
    ck_ok(io_dir_unlink(s.rig.options.dir, newest, NULL, err));
    struct wal_end end;
    lsm_error error = {0};
    ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
    s.rig.from = s.starts[2];
    ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
    s.rig.clean = true;
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.position, s.starts[2]);
    specimen_release(&s);
}
END_TEST

START_TEST(test_damage_cut_segment_is_told_at_every_length)
{
    struct specimen s;
    make_specimen(&s);
    for (size_t i = 0; i < s.wal_count; i++) {
        for (uint64_t size = 0; size < s.wal_sizes[i]; size += 777) {
            struct io_file *file;
            struct wal_end end;
            lsm_error error = {0};
            ck_ok(io_file_open(s.rig.options.dir, wal_name(s.wal_numbers[i]), IO_FILE_WRITE, 0,
                               &file, err));
            ck_ok(io_file_truncate(file, size, err));
            ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
            ck_assert_ptr_nonnull(strstr(error.message, wal_name(s.wal_numbers[i])));
            ck_ok(io_file_truncate(file, s.wal_sizes[i], err));
            io_file_close(file);
            overwrite(&s.rig, wal_name(s.wal_numbers[i]), 0, s.wal_bytes[i], s.wal_sizes[i]);
        }
    }
    struct wal_end end;
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, s.count);
    specimen_release(&s);
}
END_TEST

START_TEST(test_damage_segment_of_a_newer_format_or_another_database_is_refused)
{
    struct specimen s;
    make_specimen(&s);
    uint8_t block[LOG_SEGMENT_HEADER];
    uint64_t number = s.wal_numbers[2];
    struct wal_end end;
    lsm_error error = {0};
    memcpy(block, s.wal_bytes[2], sizeof block);
    bytes_put_u32(block + 8, LOG_SEGMENT_FORMAT + 1);
    bytes_put_u64(block + sizeof block - 8,
                  hash_bytes(block, sizeof block - 8, hash_place(s.rig.options.uuid, number, 0)));
    overwrite(&s.rig, wal_name(number), 0, block, sizeof block);
    ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_NEWER_FORMAT);
    struct log_segment_header header = s.headers[2];
    header.uuid[0] ^= 1;
    log_segment_encode(block, &header);
    overwrite(&s.rig, wal_name(number), 0, block, sizeof block);
    ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "another database"));
    specimen_release(&s);
}
END_TEST

/* ---- the stage file -------------------------------------------------------------------------- */

START_TEST(test_damage_missing_stage_file_ends_the_log_with_the_segments)
{
    struct specimen s;
    specimen_init(&s, 13);
    put(&s, 100);
    put(&s, 100);
    sync_log(&s);
    put(&s, 100);
    rig_crash(&s.rig, SIM_CRASH_KILL, 1);
    ck_ok(io_dir_unlink(s.rig.options.dir, "STAGE", NULL, err));
    struct wal_end end;
    rig_start(&s.rig, &end);
    ck_assert_uint_eq(end.record_count, 2);
    put(&s, 40);
    rig_crash(&s.rig, SIM_CRASH_KILL, 1);
    s.rig.salts[3] = s.rig.salt;
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, 3);
    specimen_release(&s);
}
END_TEST

START_TEST(test_damage_cut_stage_file_is_told)
{
    struct specimen s;
    specimen_init(&s, 14);
    put(&s, 100);
    rig_crash(&s.rig, SIM_CRASH_KILL, 1);
    struct io_file *file;
    struct wal_end end;
    lsm_error error = {0};
    ck_ok(io_file_open(s.rig.options.dir, "STAGE", IO_FILE_WRITE, 0, &file, err));
    ck_ok(io_file_truncate(file, 1000, err));
    io_file_close(file);
    ck_assert_int_eq(rig_replay(&s.rig, &end, &error), LSM_CORRUPT);
    ck_assert_str_eq(error.file, "STAGE");
    specimen_release(&s);
}
END_TEST

/* What a process was told is there before it died; the segments need not hold it yet. */
static void write_unsynced(struct specimen *s, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        put(s, 100);
    rig_crash(&s->rig, SIM_CRASH_KILL, 1);
}

/* A stage file of the same size, taken from the life of a log of its own. */
static uint8_t *foreign_ring(uint8_t uuid_byte, size_t *size)
{
    struct specimen other = {0};
    ck_assert(rig_init(&other.rig, RIG_SIM, 77));
    other.rig.options.uuid[0] = uuid_byte;
    rig_start(&other.rig, NULL);
    write_unsynced(&other, 5);
    uint8_t *bytes = read_file(&other.rig, "STAGE", size);
    specimen_release(&other);
    return bytes;
}

static void replay_is_refused(struct specimen *s, const char *why)
{
    struct wal_end end;
    lsm_error error = {0};
    ck_assert_int_eq(rig_replay(&s->rig, &end, &error), LSM_CORRUPT);
    ck_assert_str_eq(error.file, "STAGE");
    ck_assert_msg(strstr(error.message, why) != NULL, "%s", error.message);
}

START_TEST(test_damage_stage_file_of_another_database_is_told)
{
    struct specimen s;
    size_t size = 0;
    uint8_t *ring = foreign_ring('x', &size);
    specimen_init(&s, 21);
    write_unsynced(&s, 3);
    overwrite(&s.rig, "STAGE", 0, ring, size);
    replay_is_refused(&s, "another database");
    free(ring);
    specimen_release(&s);
}
END_TEST

/* As when the directory is copied back file by file, or was begun anew from the same copy. */
START_TEST(test_damage_stage_file_of_another_life_is_told)
{
    struct specimen s;
    size_t size = 0;
    uint8_t *ring = foreign_ring('0', &size); /* the same uuid */
    specimen_init(&s, 22);
    write_unsynced(&s, 3);
    overwrite(&s.rig, "STAGE", 0, ring, size);
    replay_is_refused(&s, "another time");
    free(ring);
    specimen_release(&s);
}
END_TEST

START_TEST(test_damage_older_stage_file_is_told)
{
    struct specimen s;
    size_t size = 0;
    specimen_init(&s, 23);
    write_unsynced(&s, 3);
    uint8_t *older = read_file(&s.rig, "STAGE", &size);
    rig_start(&s.rig, NULL);
    write_unsynced(&s, 3);
    uint8_t *right = read_file(&s.rig, "STAGE", &size);
    overwrite(&s.rig, "STAGE", 0, older, size);
    replay_is_refused(&s, "another time");
    overwrite(&s.rig, "STAGE", 0, right, size);
    struct wal_end end;
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, 6);
    free(older);
    free(right);
    specimen_release(&s);
}
END_TEST

/* All of the directory is put back as it was, but the stage file. */
START_TEST(test_damage_stage_file_of_the_next_life_is_told)
{
    struct specimen s;
    size_t size = 0;
    specimen_init(&s, 24);
    write_unsynced(&s, 3);
    struct rig copy = s.rig;
    copy.disk = sim_disk_clone(s.rig.disk);
    rig_environment(&copy, NULL);
    rig_start(&copy, NULL);
    rig_crash(&copy, SIM_CRASH_KILL, 1);
    uint8_t *newer = read_file(&copy, "STAGE", &size);
    rig_release(&copy);
    overwrite(&s.rig, "STAGE", 0, newer, size);
    replay_is_refused(&s, "another time");
    free(newer);
    specimen_release(&s);
}
END_TEST

START_TEST(test_damage_stage_file_of_zeros_is_told)
{
    struct specimen s;
    size_t size = 0;
    specimen_init(&s, 25);
    write_unsynced(&s, 3);
    uint8_t *ring = read_file(&s.rig, "STAGE", &size);
    memset(ring, 0, size);
    overwrite(&s.rig, "STAGE", 0, ring, size);
    replay_is_refused(&s, "last block");
    free(ring);
    specimen_release(&s);
}
END_TEST

START_TEST(test_damage_to_each_byte_of_the_trailer_is_told)
{
    struct specimen s;
    size_t size = 0;
    specimen_init(&s, 27);
    write_unsynced(&s, 3);
    uint8_t *ring = read_file(&s.rig, "STAGE", &size);
    struct stage_trailer trailer;
    uint8_t *block = ring + size - STAGE_TRAILER_SIZE;
    ck_assert_int_eq(stage_trailer_decode(block, s.rig.options.uuid, RIG_STAGE, &trailer),
                     STAGE_TRAILER_OK);
    for (size_t i = 0; i < 80; i++) {
        uint8_t flipped = block[i] ^ 4;
        overwrite(&s.rig, "STAGE", RIG_STAGE + i, &flipped, 1);
        replay_is_refused(&s, "last block");
        overwrite(&s.rig, "STAGE", RIG_STAGE + i, &block[i], 1);
    }
    struct wal_end end;
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, 3);
    free(ring);
    specimen_release(&s);
}
END_TEST

/* What an older library left: no trailer, and a segment that knows of none. Its ring is read as it
 * is, and the next life's is told from others. */
START_TEST(test_damage_stage_file_of_an_older_library_is_read_and_replaced)
{
    struct specimen s;
    specimen_init(&s, 28);
    uint64_t number = s.rig.layout->commit.segment_number;
    write_unsynced(&s, 3);
    size_t size = 0;
    uint8_t *segment = read_file(&s.rig, wal_name(number), &size);
    struct log_segment_header header;
    ck_assert_int_eq(log_segment_decode(segment, s.rig.options.uuid, number, &header),
                     LOG_SEGMENT_OK);
    ck_assert_uint_eq(header.flags, LOG_SEGMENT_OPENED | LOG_SEGMENT_MARKED);
    header.flags = LOG_SEGMENT_OPENED;
    log_segment_encode(segment, &header);
    overwrite(&s.rig, wal_name(number), 0, segment, LOG_SEGMENT_HEADER);
    struct io_file *file;
    ck_ok(io_file_open(s.rig.options.dir, "STAGE", IO_FILE_WRITE, 0, &file, err));
    ck_ok(io_file_truncate(file, RIG_STAGE, err));
    io_file_close(file);
    struct wal_end end;
    rig_start(&s.rig, &end);
    ck_assert_uint_eq(end.record_count, 3);
    write_unsynced(&s, 2);
    ck_ok(rig_replay(&s.rig, &end, err));
    ck_assert_uint_eq(end.record_count, 5);
    rig_start(&s.rig, &end);
    write_unsynced(&s, 1);
    uint8_t *ring = read_file(&s.rig, "STAGE", &size);
    ck_assert_uint_eq(size, RIG_STAGE + STAGE_TRAILER_SIZE);
    memset(ring, 0, size);
    overwrite(&s.rig, "STAGE", 0, ring, size);
    replay_is_refused(&s, "last block");
    free(ring);
    free(segment);
    specimen_release(&s);
}
END_TEST

/* Behind a clean close nothing is in it: whichever it is, it is made ours. */
START_TEST(test_damage_foreign_stage_file_behind_a_clean_close_is_taken_over)
{
    for (unsigned kind = 0; kind < 3; kind++) {
        struct specimen s;
        size_t size = 0;
        uint8_t *ring = foreign_ring(kind == 0 ? 'x' : '0', &size);
        if (kind == 2)
            memset(ring, 0, size);
        specimen_init(&s, 26);
        put(&s, 100);
        rig_close_clean(&s.rig);
        overwrite(&s.rig, "STAGE", 0, ring, size);
        rig_start(&s.rig, NULL);
        s.rig.clean = false;
        write_unsynced(&s, 2);
        struct wal_end end;
        ck_ok(rig_replay(&s.rig, &end, err));
        ck_assert_uint_eq(end.record_count, 2);
        free(ring);
        specimen_release(&s);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal/damage");
    TCase *tests = tcase_create("damage");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_damage_each_byte_of_a_segment_is_found_or_unproven, 0, 3);
    tcase_add_test(tests, test_damage_to_the_newest_segment_heals_from_the_ring);
    tcase_add_test(tests, test_damage_to_each_byte_of_the_ring_never_gives_a_wrong_record);
    tcase_add_test(tests, test_damage_last_record_cut_anywhere_is_the_quiet_end);
    tcase_add_test(tests, test_damage_record_off_the_chain_is_found);
    tcase_add_test(tests, test_damage_first_record_of_an_opening_is_held_to_the_header);
    tcase_add_test(tests, test_damage_to_the_tail_an_opening_took_over_is_rot);
    tcase_add_test(tests, test_damage_look_alike_inside_a_value_is_no_proof);
    tcase_add_test(tests, test_damage_is_proven_by_a_record_of_the_ring);
    tcase_add_test(tests, test_damage_headers_that_do_not_fit_together_are_told);
    tcase_add_test(tests, test_damage_left_over_behind_a_retried_record_is_not_recovered);
    tcase_add_test(tests, test_damage_left_over_behind_a_seal_is_not_recovered);
    tcase_add_test(tests, test_damage_missing_segment_is_named);
    tcase_add_test(tests, test_damage_missing_newest_segment_is_told);
    tcase_add_test(tests, test_damage_all_segments_missing_is_told);
    tcase_add_test(tests, test_damage_cut_segment_is_told_at_every_length);
    tcase_add_test(tests, test_damage_segment_of_a_newer_format_or_another_database_is_refused);
    tcase_add_test(tests, test_damage_missing_stage_file_ends_the_log_with_the_segments);
    tcase_add_test(tests, test_damage_cut_stage_file_is_told);
    tcase_add_test(tests, test_damage_stage_file_of_another_database_is_told);
    tcase_add_test(tests, test_damage_stage_file_of_another_life_is_told);
    tcase_add_test(tests, test_damage_older_stage_file_is_told);
    tcase_add_test(tests, test_damage_stage_file_of_the_next_life_is_told);
    tcase_add_test(tests, test_damage_stage_file_of_zeros_is_told);
    tcase_add_test(tests, test_damage_to_each_byte_of_the_trailer_is_told);
    tcase_add_test(tests, test_damage_stage_file_of_an_older_library_is_read_and_replaced);
    tcase_add_test(tests, test_damage_foreign_stage_file_behind_a_clean_close_is_taken_over);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
