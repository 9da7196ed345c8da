/* Arbitrary bytes as a block: refused, or every read of it stays inside. */
#include "engine/format/block.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
    if (!claim)
        abort();
}

static void search(const struct block_view *v, lsm_slice key, uint64_t trailer)
{
    uint32_t fast = UINT32_MAX, portable = UINT32_MAX;
    uint64_t hash = hash_key(key.data, key.size);
    bool found = block_find(v, key, hash, trailer, 0, &fast);
    block_use_portable(true);
    require(block_find(v, key, hash, trailer, 0, &portable) == found);
    block_use_portable(false);
    require(fast == portable && (!found || fast < v->count));
    uint32_t at = block_seek(v, key, trailer);
    require(at <= v->count);
    if (at < v->count)
        (void)block_compare(v, at, key, trailer);
}

static void use_block(const uint8_t *data, size_t size)
{
    struct block_view v = block_view_of(data);
    struct buffer key = {0};
    bool in_order = block_check_order(&v) == NULL;
    for (size_t i = 0; i < v.count; i++) {
        require(block_copy_key(&v, i, &key));
        lsm_slice value = block_value(&v, i);
        require((const uint8_t *)value.data >= data &&
                (const uint8_t *)value.data + value.size <= data + size);
        search(&v, buffer_slice(&key), block_trailer(&v, i));
        /* In a sound block every entry is where it is looked for. */
        if (in_order)
            require(block_seek(&v, buffer_slice(&key), block_trailer(&v, i)) == i);
    }
    search(&v, (lsm_slice){"", 0}, UINT64_MAX);
    buffer_release(&key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + (size == 0)); /* of exactly its size, for the sanitizer */
    if (copy == NULL)
        return 0;
    if (size > 0)
        memcpy(copy, data, size);
    if (block_check(copy, size) == NULL)
        use_block(copy, size);
    free(copy);
    return 0;
}
