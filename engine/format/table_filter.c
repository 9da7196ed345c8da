/* Both forms, portable and AVX2, set and test the same bits. */
#include "engine/format/table_filter.h"

#include "engine/base/bytes.h"

#include <stdatomic.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define FILTER_HAS_AVX2 1
#endif

#define WORDS    8
#define MAX_SIZE ((uint64_t)UINT32_MAX / 2) /* of a frame's payload */

/* Stored in every filter's bits: never change. */
static const uint32_t salts[WORDS] = {0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d,
                                      0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31};

static _Atomic bool portable_only;

void table_filter_use_portable(bool portable)
{
    atomic_store_explicit(&portable_only, portable, memory_order_relaxed);
}

size_t table_filter_size(uint64_t key_count, uint32_t bits)
{
    if (key_count > MAX_SIZE || bits > TABLE_FILTER_MAX_BITS)
        return 0;
    uint64_t blocks = (key_count * bits + TABLE_FILTER_BLOCK * 8 - 1) / (TABLE_FILTER_BLOCK * 8);
    blocks = blocks == 0 ? 1 : blocks;
    return blocks > MAX_SIZE / TABLE_FILTER_BLOCK ? 0 : (size_t)blocks * TABLE_FILTER_BLOCK;
}

static uint32_t word_mask(uint32_t low, size_t word)
{
    return UINT32_C(1) << (low * salts[word] >> 27);
}

static void add_portable(uint8_t *block, uint32_t low)
{
    for (size_t i = 0; i < WORDS; i++)
        bytes_put_u32(block + i * 4, bytes_get_u32(block + i * 4) | word_mask(low, i));
}

static bool test_portable(const uint8_t *block, uint32_t low)
{
    for (size_t i = 0; i < WORDS; i++) {
        if ((bytes_get_u32(block + i * 4) & word_mask(low, i)) == 0)
            return false;
    }
    return true;
}

#ifdef FILTER_HAS_AVX2
__attribute__((target("avx2"))) static inline __m256i mask_avx2(uint32_t low)
{
    __m256i salt = _mm256_loadu_si256((const __m256i *)(const void *)salts);
    __m256i bit = _mm256_srli_epi32(_mm256_mullo_epi32(_mm256_set1_epi32((int)low), salt), 27);
    return _mm256_sllv_epi32(_mm256_set1_epi32(1), bit);
}

__attribute__((target("avx2"))) static void build_avx2(uint8_t *filter, size_t size,
                                                       const uint64_t *hashes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        __m256i *block = (__m256i *)(void *)(filter + table_filter_offset(size, hashes[i]));
        __m256i mask = mask_avx2((uint32_t)hashes[i]);
        _mm256_storeu_si256(block, _mm256_or_si256(_mm256_loadu_si256(block), mask));
    }
}

__attribute__((target("avx2"))) static bool test_avx2(const uint8_t *block, uint32_t low)
{
    __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)block);
    return _mm256_testc_si256(bits, mask_avx2(low)) != 0;
}

static inline bool use_avx2(void)
{
    return __builtin_cpu_supports("avx2") &&
           !atomic_load_explicit(&portable_only, memory_order_relaxed);
}
#endif

void table_filter_build(uint8_t *filter, size_t size, const uint64_t *hashes, size_t count)
{
#ifdef FILTER_HAS_AVX2
    if (use_avx2()) {
        build_avx2(filter, size, hashes, count);
        return;
    }
#endif
    for (size_t i = 0; i < count; i++)
        add_portable(filter + table_filter_offset(size, hashes[i]), (uint32_t)hashes[i]);
}

bool table_filter_may_have(const uint8_t *filter, size_t size, uint64_t hash)
{
    if (size == 0)
        return true;
    const uint8_t *block = filter + table_filter_offset(size, hash);
#ifdef FILTER_HAS_AVX2
    if (use_avx2())
        return test_avx2(block, (uint32_t)hash);
#endif
    return test_portable(block, (uint32_t)hash);
}
