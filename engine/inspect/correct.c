/*
 * The order of the search: the checksum itself (one comparison), the header, whose fields may move
 * the end of what is covered (all values of its bytes), then all bits behind it, then all bytes.
 *
 * XXH3 over more than XXH3_SHORT bytes keeps eight lanes. Each 64-byte stripe adds to lane i a
 * product of its own 8 bytes and to lane i ^ 1 these bytes; after each 1024 bytes the lanes are
 * scrambled, each by itself; at the end the last 64 bytes are added once more and the lanes are
 * folded in pairs (i, i ^ 1), the four results are added up and mixed by a function that can be
 * turned round. So a changed byte of a stripe changes the sum of one pair in one block, and what
 * the fold of this pair has to be is known. What the last stripe overlaps is tried by hashing.
 */
#include "engine/inspect/correct.h"

#include "engine/base/bytes.h"
#include "engine/base/memory.h"
#include "engine/format/current.h"
#include "engine/format/frame.h"
#include "engine/format/log_record.h"
#include "engine/format/stage_trailer.h"
#include "engine/format/table_format.h"

#define LANES        8
#define STRIPE       ((size_t)64)
#define BLOCK        ((size_t)1024) /* 16 stripes */
#define STRIPES      (BLOCK / STRIPE)
#define SECRET_SIZE  ((size_t)192)
#define XXH3_SHORT   ((size_t)240) /* up to here it is another function */
#define SECRET_LAST  (SECRET_SIZE - STRIPE - 7)
#define SECRET_MERGE ((size_t)11)

#define PRIME32_1 UINT64_C(0x9e3779b1)
#define PRIME32_2 UINT64_C(0x85ebca77)
#define PRIME32_3 UINT64_C(0xc2b2ae3d)
#define PRIME64_1 UINT64_C(0x9e3779b185ebca87)
#define PRIME64_2 UINT64_C(0xc2b2ae3d27d4eb4f)
#define PRIME64_3 UINT64_C(0x165667b19e3779f9)
#define PRIME64_4 UINT64_C(0x85ebca77c2b2ae63)
#define PRIME64_5 UINT64_C(0x27d4eb2f165667c5)
#define MIX       UINT64_C(0x165667919e3779f9)

/* The secret that XXH3 derives all others from. Stored checksums depend on it: it never changes. */
static const uint8_t first_secret[SECRET_SIZE] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

/* ---- the hash, taken apart ------------------------------------------------------------------- */

struct lanes {
    uint64_t at[LANES];
};

struct taken_apart {
    const uint8_t *bytes;
    size_t size;
    size_t block_count; /* whole ones, each followed by a scramble */
    uint8_t secret[SECRET_SIZE];
    struct lanes *before; /* of each block, and of the rest: the lanes at its beginning */
    struct lanes *sums;   /* what its stripes add; the rest's has the last stripe in it */
    uint64_t folds[LANES / 2];
    uint64_t length_term;
};

static void make_secret(uint8_t secret[SECRET_SIZE], uint64_t seed)
{
    for (size_t i = 0; i < SECRET_SIZE; i += 16) {
        bytes_put_u64(secret + i, bytes_get_u64(first_secret + i) + seed);
        bytes_put_u64(secret + i + 8, bytes_get_u64(first_secret + i + 8) - seed);
    }
}

static inline uint64_t product(uint64_t key)
{
    return (key & UINT32_MAX) * (key >> 32);
}

static void add_stripe(struct lanes *sum, const uint8_t *bytes, const uint8_t *secret)
{
    for (size_t i = 0; i < LANES; i++) {
        uint64_t value = bytes_get_u64(bytes + 8 * i);
        sum->at[i ^ 1] += value;
        sum->at[i] += product(value ^ bytes_get_u64(secret + 8 * i));
    }
}

static inline uint64_t scramble(uint64_t lane, uint64_t key)
{
    return ((lane ^ lane >> 47) ^ key) * PRIME32_1;
}

static inline uint64_t scramble_key(const struct taken_apart *t, size_t lane)
{
    return bytes_get_u64(t->secret + SECRET_SIZE - STRIPE + 8 * lane);
}

static inline uint64_t fold(const struct taken_apart *t, size_t pair, uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    const uint8_t *secret = t->secret + SECRET_MERGE + 16 * pair;
    wide both = (wide)(a ^ bytes_get_u64(secret)) * (b ^ bytes_get_u64(secret + 8));
    return (uint64_t)both ^ (uint64_t)(both >> 64);
}

static uint64_t mix(uint64_t sum)
{
    sum = (sum ^ sum >> 37) * MIX;
    return sum ^ sum >> 32;
}

/* The number that mix() makes `mixed` of. */
static uint64_t unmix(uint64_t mixed)
{
    uint64_t inverse = MIX; /* by Newton: each step doubles the bits that are right */
    for (int i = 0; i < 5; i++)
        inverse *= 2 - MIX * inverse;
    mixed ^= mixed >> 32;
    mixed *= inverse;
    return mixed ^ mixed >> 37;
}

static void sum_stripes(struct taken_apart *t)
{
    for (size_t block = 0; block <= t->block_count; block++) {
        size_t first = block * BLOCK;
        size_t count = block < t->block_count ? STRIPES : (t->size - 1 - first) / STRIPE;
        t->sums[block] = (struct lanes){{0}};
        for (size_t i = 0; i < count; i++)
            add_stripe(&t->sums[block], t->bytes + first + i * STRIPE, t->secret + 8 * i);
    }
    add_stripe(&t->sums[t->block_count], t->bytes + t->size - STRIPE, t->secret + SECRET_LAST);
}

/* False when memory is short, or this is not the hash that the library computes. */
static bool take_apart(struct taken_apart *t, const uint8_t *bytes, size_t size, uint64_t seed)
{
    *t = (struct taken_apart){.bytes = bytes, .size = size, .block_count = (size - 1) / BLOCK};
    make_secret(t->secret, seed);
    t->before = mem_alloc(2 * (t->block_count + 1) * sizeof *t->before);
    if (t->before == NULL)
        return false;
    t->sums = t->before + t->block_count + 1;
    sum_stripes(t);
    struct lanes lanes = {
        {PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1}};
    for (size_t block = 0; block <= t->block_count; block++) {
        t->before[block] = lanes;
        for (size_t i = 0; i < LANES; i++) {
            lanes.at[i] += t->sums[block].at[i];
            if (block < t->block_count)
                lanes.at[i] = scramble(lanes.at[i], scramble_key(t, i));
        }
    }
    t->length_term = size * PRIME64_1;
    uint64_t sum = t->length_term;
    for (size_t pair = 0; pair < LANES / 2; pair++)
        sum += t->folds[pair] = fold(t, pair, lanes.at[2 * pair], lanes.at[2 * pair + 1]);
    return mix(sum) == hash_bytes(bytes, size, seed);
}

/* What the fold of one pair is when its lanes change by (even, odd) in one block. */
static inline uint64_t changed_fold(const struct taken_apart *t, size_t block, size_t pair,
                                    uint64_t even, uint64_t odd)
{
    size_t lane = 2 * pair;
    uint64_t a = t->before[block].at[lane] + t->sums[block].at[lane] + even;
    uint64_t b = t->before[block].at[lane + 1] + t->sums[block].at[lane + 1] + odd;
    uint64_t key_a = scramble_key(t, lane), key_b = scramble_key(t, lane + 1);
    for (size_t i = block; i < t->block_count; i++) {
        a = scramble(a, key_a) + t->sums[i + 1].at[lane];
        b = scramble(b, key_b) + t->sums[i + 1].at[lane + 1];
    }
    return fold(t, pair, a, b);
}

/* ---- the search ------------------------------------------------------------------------------ */

/* Where the checksum stands, and what it covers. */
struct form {
    bool at_end; /* it stands behind what it covers, else in front of it */
    size_t head; /* bytes on whose values the size depends */
    size_t (*size_of)(const uint8_t *bytes, size_t available); /* of the whole; 0: impossible */
};

struct search {
    uint8_t *bytes;
    size_t available;
    uint64_t seed;
    const struct form *form;
    size_t size;  /* of the whole, as the header says; 0: impossible */
    size_t first; /* of the bytes covered */
    size_t covered;
    struct correct_change *change;
};

static void set_extent(struct search *s)
{
    s->size = s->form->size_of(s->bytes, s->available);
    s->first = s->form->at_end ? 0 : 8;
    s->covered = s->size < 8 ? 0 : s->size - 8;
}

static size_t checksum_at(const struct search *s)
{
    return s->form->at_end ? s->size - 8 : 0;
}

static uint64_t computed(const struct search *s)
{
    return hash_bytes(s->bytes + s->first, s->covered, s->seed);
}

static bool fits(const struct search *s)
{
    return s->size != 0 && computed(s) == bytes_get_u64(s->bytes + checksum_at(s));
}

static bool is_power_of_two(unsigned value)
{
    return (value & (value - 1)) == 0;
}

static enum correct_outcome found(struct search *s, size_t at, uint8_t expected)
{
    uint8_t before = s->bytes[at];
    *s->change = (struct correct_change){.offset = at,
                                         .found = before,
                                         .expected = expected,
                                         .is_bit = is_power_of_two(before ^ expected)};
    s->bytes[at] = expected;
    return CORRECT_DONE;
}

static enum correct_outcome try_checksum(struct search *s)
{
    if (s->size == 0)
        return CORRECT_FAILED;
    size_t at = checksum_at(s);
    uint8_t right[8];
    size_t wrong_count = 0, wrong = 0;
    bytes_put_u64(right, computed(s));
    for (size_t i = 0; i < sizeof right; i++) {
        if (right[i] != s->bytes[at + i]) {
            wrong = i;
            wrong_count++;
        }
    }
    return wrong_count == 1 ? found(s, at + wrong, right[wrong]) : CORRECT_FAILED;
}

/* All values of the bytes in [first, limit), each with a hash of the whole. */
static enum correct_outcome try_values(struct search *s, size_t first, size_t limit)
{
    for (size_t at = first; at < limit; at++) {
        uint8_t before = s->bytes[at];
        for (unsigned change = 1; change < 256; change++) {
            s->bytes[at] = (uint8_t)(before ^ change);
            if (at < s->form->head)
                set_extent(s);
            bool is_right = s->size != 0 && fits(s);
            uint8_t expected = s->bytes[at];
            s->bytes[at] = before;
            if (is_right)
                return found(s, at, expected);
        }
        if (at < s->form->head)
            set_extent(s);
    }
    return CORRECT_FAILED;
}

/* The byte at `at` (among those covered), whose stripe is not overlapped by the last one. */
static int try_byte(const struct taken_apart *t, size_t at, bool only_bits,
                    const uint64_t wanted[LANES / 2])
{
    size_t block = at / BLOCK, stripe = at % BLOCK / STRIPE, lane = at % STRIPE / 8;
    unsigned shift = 8 * (unsigned)(at % 8);
    uint64_t value = bytes_get_u64(t->bytes + (at & ~(size_t)7));
    uint64_t key = bytes_get_u64(t->secret + 8 * stripe + 8 * lane);
    uint64_t before = product(value ^ key);
    for (unsigned change = 1; change < 256; change = only_bits ? change << 1 : change + 1) {
        uint64_t other = value ^ (uint64_t)change << shift;
        uint64_t own = product(other ^ key) - before, neighbour = other - value;
        uint64_t result = lane % 2 == 0 ? changed_fold(t, block, lane / 2, own, neighbour)
                                        : changed_fold(t, block, lane / 2, neighbour, own);
        if (result == wanted[lane / 2])
            return (int)change;
    }
    return 0;
}

/* Bits first: most damage is one. */
static enum correct_outcome try_apart(struct search *s, size_t first, size_t limit)
{
    struct taken_apart t;
    enum correct_outcome outcome = CORRECT_FAILED;
    if (!take_apart(&t, s->bytes + s->first, s->covered, s->seed)) {
        mem_free(t.before);
        return try_values(s, s->first + first, s->first + limit);
    }
    uint64_t wanted[LANES / 2], needed = unmix(bytes_get_u64(s->bytes + checksum_at(s)));
    for (size_t pair = 0; pair < LANES / 2; pair++) {
        wanted[pair] = needed - t.length_term;
        for (size_t other = 0; other < LANES / 2; other++)
            wanted[pair] -= other == pair ? 0 : t.folds[other];
    }
    size_t bytes_limit = s->covered <= CORRECT_BYTES_LIMIT ? 2 : 1;
    for (size_t round = 0; outcome != CORRECT_DONE && round < bytes_limit; round++) {
        for (size_t at = first; outcome != CORRECT_DONE && at < limit; at++) {
            int change = try_byte(&t, at, round == 0, wanted);
            if (change != 0)
                outcome = found(s, s->first + at, (uint8_t)(s->bytes[s->first + at] ^ change));
        }
    }
    mem_free(t.before);
    return outcome;
}

static enum correct_outcome search(struct search *s)
{
    if (s->available < s->form->head)
        return CORRECT_FAILED;
    set_extent(s);
    if (fits(s))
        return CORRECT_NOTHING;
    enum correct_outcome outcome = try_checksum(s);
    if (outcome == CORRECT_FAILED)
        outcome = try_values(s, s->form->at_end ? 0 : 8, s->form->head);
    if (outcome != CORRECT_FAILED || s->size == 0)
        return outcome;
    if (s->covered > CORRECT_BITS_LIMIT)
        return CORRECT_TOO_LONG;
    /* The last stripe reaches back into the ones before it. */
    size_t head = s->form->head > s->first ? s->form->head - s->first : 0;
    size_t apart = s->covered > XXH3_SHORT ? (s->covered - STRIPE) / STRIPE * STRIPE : 0;
    if (apart > head)
        outcome = try_apart(s, head, apart);
    if (outcome == CORRECT_FAILED && s->covered > head)
        outcome = try_values(s, s->first + (apart > head ? apart : head), s->first + s->covered);
    if (outcome == CORRECT_FAILED && s->covered > CORRECT_BYTES_LIMIT)
        outcome = CORRECT_TOO_LONG;
    return outcome;
}

/* ---- what can be corrected ------------------------------------------------------------------- */

static size_t table_frame_size(const uint8_t *bytes, size_t available)
{
    if (available < TABLE_FRAME_SIZE)
        return 0;
    uint64_t size = TABLE_FRAME_SIZE + (uint64_t)bytes_get_u32(bytes + 16);
    return size > available ? 0 : (size_t)size;
}

enum correct_outcome correct_table_frame(uint8_t *bytes, size_t available, uint64_t seed,
                                         struct correct_change *change)
{
    static const struct form form = {.head = 20, .size_of = table_frame_size};
    struct search s = {bytes, available, seed, &form, 0, 0, 0, change};
    return search(&s);
}

/* Of things that have one size, all of which is there. */
static size_t all_of_it(const uint8_t *bytes, size_t available)
{
    (void)bytes;
    return available;
}

static enum correct_outcome correct_fixed(uint8_t *bytes, size_t size, uint64_t seed,
                                          struct correct_change *change)
{
    static const struct form form = {.at_end = true, .size_of = all_of_it};
    struct search s = {bytes, size, seed, &form, 0, 0, 0, change};
    return search(&s);
}

enum correct_outcome correct_table_footer(uint8_t *bytes, uint64_t seed,
                                          struct correct_change *change)
{
    return correct_fixed(bytes, TABLE_FOOTER_SIZE, seed, change);
}

enum correct_outcome correct_manifest_header(uint8_t *bytes, uint64_t seed,
                                             struct correct_change *change)
{
    return correct_fixed(bytes, FRAME_FILE_HEADER_SIZE, seed, change);
}

enum correct_outcome correct_log_segment(uint8_t *bytes, uint64_t seed,
                                         struct correct_change *change)
{
    return correct_fixed(bytes, LOG_SEGMENT_HEADER, seed, change);
}

enum correct_outcome correct_stage_trailer(uint8_t *bytes, uint64_t seed,
                                           struct correct_change *change)
{
    return correct_fixed(bytes, STAGE_TRAILER_BYTES, seed, change);
}

static size_t manifest_frame_size(const uint8_t *bytes, size_t available)
{
    if (available < FRAME_HEADER_SIZE)
        return 0;
    uint64_t size = FRAME_HEADER_SIZE + (uint64_t)bytes_get_u32(bytes + 12);
    size = (size + 7) & ~UINT64_C(7);
    return size > available || size > FRAME_HEADER_SIZE + FRAME_MAX_PAYLOAD ? 0 : (size_t)size;
}

enum correct_outcome correct_manifest_frame(uint8_t *bytes, size_t available, uint64_t seed,
                                            struct correct_change *change)
{
    static const struct form form = {.head = 16, .size_of = manifest_frame_size};
    struct search s = {bytes, available, seed, &form, 0, 0, 0, change};
    return search(&s);
}

static size_t log_record_size_of(const uint8_t *bytes, size_t available)
{
    if (available < LOG_RECORD_MIN)
        return 0;
    size_t size = bytes_get_u32(bytes + 4);
    return size < LOG_RECORD_MIN || size % LOG_RECORD_ALIGNMENT != 0 || size > available ? 0 : size;
}

enum correct_outcome correct_log_record(uint8_t *bytes, size_t available, uint64_t seed,
                                        struct correct_change *change)
{
    static const struct form form = {.at_end = true, .head = 8, .size_of = log_record_size_of};
    struct search s = {bytes, available, seed, &form, 0, 0, 0, change};
    return search(&s);
}

static bool current_is_right(const uint8_t *text, size_t size)
{
    uint8_t uuid[HASH_UUID_SIZE];
    uint64_t number;
    return current_decode((const char *)text, size, "", uuid, &number, NULL) == LSM_OK;
}

enum correct_outcome correct_current(uint8_t *text, size_t size, struct correct_change *change)
{
    if (size >= CURRENT_MAX_SIZE)
        return CORRECT_FAILED;
    if (current_is_right(text, size))
        return CORRECT_NOTHING;
    for (size_t at = 0; at < size; at++) {
        uint8_t before = text[at];
        for (unsigned wrong = 1; wrong < 256; wrong++) {
            text[at] = (uint8_t)(before ^ wrong);
            if (current_is_right(text, size)) {
                *change = (struct correct_change){.offset = at,
                                                  .found = before,
                                                  .expected = text[at],
                                                  .is_bit = is_power_of_two(wrong)};
                return CORRECT_DONE;
            }
        }
        text[at] = before;
    }
    return CORRECT_FAILED;
}
