/*
 * A block: a run of sorted entries in columns. The decoded form is the stored form, so nothing is
 * parsed when a block enters memory; it is checked once (block_check) and then trusted.
 *
 *     offset  field
 *          0  entry count u32, at least 1
 *          4  prefix size u16: bytes that all keys begin with
 *          6  key size u16: bytes after the prefix, when all keys have the same (else 0)
 *          8  flags u8, then 7 zero bytes
 *         16  trailer base u64
 *         24  8 zero bytes
 *         32  tags      u8 an entry, a byte of hash_key(); zero-filled to a multiple of 32
 *             heads     u64 an entry, bytes_head() of the key after the prefix
 *             trailers  nothing (all equal the base), u32 (added to the base) or u64 an entry
 *             offsets   u16 or u32, one an entry and one for the end of the block
 *             key sizes u16 an entry, unless all are the same: bytes after the prefix
 *             prefix    bytes
 *             heap      an entry at its offset: key from its 9th byte after the prefix on, value
 *
 * A point read compares 32 tags at once, then one head; an ordered search reads heads only; both
 * touch the heap where the answer is. Integers are little-endian.
 */
#ifndef ENGINE_FORMAT_BLOCK_H
#define ENGINE_FORMAT_BLOCK_H

#include "engine/base/buffer.h"
#include "engine/base/hash.h"
#include "engine/format/entry.h"

#define BLOCK_HEADER_SIZE ((size_t)32)
#define BLOCK_TAG_GROUP   ((size_t)32) /* tags are compared in groups of so many */
#define BLOCK_HEAD_SIZE   ((size_t)8)
/* The largest block: one entry with the longest key and value, and room for its columns. */
#define BLOCK_MAX_SIZE (LSM_MAX_VALUE_SIZE + ((size_t)1 << 20))

/* Stored: never renumber. */
enum block_flags {
    BLOCK_WIDE_OFFSETS = 1,   /* offsets are u32 */
    BLOCK_KEY_SIZES = 2,      /* there is a column of key sizes */
    BLOCK_SHORT_TRAILERS = 4, /* trailers are u32, to be added to the base */
    BLOCK_LONG_TRAILERS = 8,  /* trailers are u64; the base is 0 */
};

/* ---- reading --------------------------------------------------------------------------------- */

/* Where the columns of a checked block are. Borrowed from its bytes. */
struct block_view {
    const uint8_t *data;
    const uint8_t *heads;
    const uint8_t *trailers;
    const uint8_t *offsets;
    const uint8_t *key_sizes; /* of u16; unused unless BLOCK_KEY_SIZES */
    const uint8_t *prefix;
    uint64_t trailer_base;
    uint32_t count;
    uint32_t prefix_size;
    uint32_t key_size;
    uint32_t flags;
};

/*
 * Checks everything that the functions below rely on for memory safety: sizes, flags, padding and
 * offsets. NULL when sound, else what is wrong (static storage). Order and tags: block_check_order.
 */
const char *block_check(const void *data, size_t size);
/* For verification: entries ascend strictly, heads are filled with zeros, tags are the hashes'. */
const char *block_check_order(const struct block_view *view);

static inline size_t block_tags_size(uint32_t count)
{
    return ((size_t)count + (BLOCK_TAG_GROUP - 1)) & ~(BLOCK_TAG_GROUP - 1);
}

/* `data` was accepted by block_check(). */
static inline struct block_view block_view_of(const uint8_t *data)
{
    struct block_view v;
    v.data = data;
    v.count = bytes_get_u32(data);
    v.prefix_size = bytes_get_u16(data + 4);
    v.key_size = bytes_get_u16(data + 6);
    v.flags = data[8];
    v.trailer_base = bytes_get_u64(data + 16);
    size_t count = v.count;
    size_t trailer_size = v.flags & (BLOCK_SHORT_TRAILERS | BLOCK_LONG_TRAILERS); /* 0, 4, 8 */
    size_t offset_size = v.flags & BLOCK_WIDE_OFFSETS ? 4 : 2;
    v.heads = data + BLOCK_HEADER_SIZE + block_tags_size(v.count);
    v.trailers = v.heads + count * BLOCK_HEAD_SIZE;
    v.offsets = v.trailers + count * trailer_size;
    v.key_sizes = v.offsets + (count + 1) * offset_size;
    v.prefix = v.key_sizes + (v.flags & BLOCK_KEY_SIZES ? count * 2 : 0);
    return v;
}

/* For a table that says itself which sequence number its entries have, where the block says 0. Not
 * with BLOCK_LONG_TRAILERS. */
static inline void block_view_raise(struct block_view *v, uint64_t sequence)
{
    v->trailer_base += sequence << 8;
}

static inline uint64_t block_head(const struct block_view *v, size_t index)
{
    return bytes_get_u64(v->heads + index * BLOCK_HEAD_SIZE);
}

static inline uint64_t block_trailer(const struct block_view *v, size_t index)
{
    if (v->flags & BLOCK_SHORT_TRAILERS)
        return v->trailer_base + bytes_get_u32(v->trailers + index * 4);
    if (v->flags & BLOCK_LONG_TRAILERS)
        return bytes_get_u64(v->trailers + index * 8);
    return v->trailer_base;
}

static inline size_t block_offset(const struct block_view *v, size_t index)
{
    return v->flags & BLOCK_WIDE_OFFSETS ? bytes_get_u32(v->offsets + index * 4)
                                         : bytes_get_u16(v->offsets + index * 2);
}

/* Bytes of the key after the prefix. */
static inline size_t block_suffix_size(const struct block_view *v, size_t index)
{
    return v->flags & BLOCK_KEY_SIZES ? bytes_get_u16(v->key_sizes + index * 2) : v->key_size;
}

/* Bytes of the key that are in the heap. */
static inline size_t block_rest_size(const struct block_view *v, size_t index)
{
    size_t suffix = block_suffix_size(v, index);
    return suffix > BLOCK_HEAD_SIZE ? suffix - BLOCK_HEAD_SIZE : 0;
}

static inline size_t block_key_size(const struct block_view *v, size_t index)
{
    return v->prefix_size + block_suffix_size(v, index);
}

static inline lsm_slice block_value(const struct block_view *v, size_t index)
{
    size_t first = block_offset(v, index) + block_rest_size(v, index);
    return (lsm_slice){v->data + first, block_offset(v, index + 1) - first};
}

/* Writes the key's bytes after the prefix to `at`, and up to 8 bytes of rubbish after them:
 * block_suffix_size() + BLOCK_HEAD_SIZE bytes of room. Returns the suffix size. */
static inline size_t block_copy_suffix(const struct block_view *v, size_t index, uint8_t *at)
{
    size_t suffix = block_suffix_size(v, index);
    uint64_t head = BYTES_BE64(block_head(v, index));
    memcpy(at, &head, BLOCK_HEAD_SIZE);
    if (suffix > BLOCK_HEAD_SIZE)
        bytes_copy(at + BLOCK_HEAD_SIZE, v->data + block_offset(v, index),
                   suffix - BLOCK_HEAD_SIZE);
    return suffix;
}

/* Appends the whole key to `key`, emptied before. False when out of memory. */
bool block_copy_key(const struct block_view *v, size_t index, struct buffer *key);

/* The newest version of `key` whose trailer is at most `trailer`; `hash` is hash_key(key), and its
 * first `shared` bytes are known to be those of all keys of the block. */
bool block_find(const struct block_view *v, lsm_slice key, uint64_t hash, uint64_t trailer,
                size_t shared, uint32_t *index);

/*
 * block_find() in steps, so that searches in several blocks wait for memory together. Each begins
 * to fetch what the next one reads: of the entries with the key's tag the columns, then the bytes
 * of the first that has its head. Returns that entry; the entry count: there is none.
 *
 * `shared` bytes of the key are known to be those of all keys of the block.
 */
void block_approach(const struct block_view *v, uint64_t hash, size_t shared);
uint32_t block_approach_entry(const struct block_view *v, lsm_slice key, uint64_t hash);
bool block_find_at(const struct block_view *v, lsm_slice key, uint64_t hash, uint64_t trailer,
                   size_t shared, uint32_t entry, uint32_t *index);

/* The first entry at or after (key, trailer); the entry count when there is none. */
uint32_t block_seek(const struct block_view *v, lsm_slice key, uint64_t trailer);

/* The order of entry `index` against (key, trailer): <0, 0, >0. */
int block_compare(const struct block_view *v, size_t index, lsm_slice key, uint64_t trailer);

/* For tests: makes this process use the portable code although the processor could do better. */
void block_use_portable(bool portable);

/* ---- building -------------------------------------------------------------------------------- */

struct block_builder_entry;

/* Collects entries and lays them out. Zeroed and then initialised; buffers are reused. */
struct block_builder {
    struct buffer bytes;                 /* key, value, key, value ... as they came */
    struct buffer built;                 /* `headroom` bytes, then the block */
    struct block_builder_entry *entries; /* owned */
    size_t capacity;
    size_t headroom;
    uint32_t count;
    bool failed; /* an allocation failed */
    size_t prefix_size;
    size_t key_bytes, value_bytes;
    uint32_t min_key_size, max_key_size;
    uint64_t min_trailer, max_trailer;
};

/* `headroom` bytes are left free in front of a built block, for a frame. */
void block_builder_init(struct block_builder *b, size_t headroom);
void block_builder_release(struct block_builder *b);
void block_builder_clear(struct block_builder *b);

/* In entry order; sizes within the limits of lsm.h. A failure shows in block_builder_finish(). */
void block_builder_add(struct block_builder *b, lsm_slice key, uint64_t hash, uint64_t trailer,
                       lsm_slice value);
/* Bytes of the block with one more such entry (0, 0: as it is). Exact unless keys are short. */
size_t block_builder_size_with(const struct block_builder *b, lsm_slice key, size_t value_size);
/* The last key added; the block is not empty. Borrowed until the next add or clear. */
lsm_slice block_builder_last_key(const struct block_builder *b);
uint64_t block_builder_last_trailer(const struct block_builder *b);

/* The bytes of the block, `headroom` free bytes in front of them; valid until the next finish or
 * release. LSM_NO_MEMORY; LSM_TOO_LARGE over BLOCK_MAX_SIZE. At least one entry was added. */
lsm_status block_builder_finish(struct block_builder *b, uint8_t **data, size_t *size);

#endif
