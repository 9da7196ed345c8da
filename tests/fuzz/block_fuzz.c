/* Arbitrary bytes as a block: refused, or every read of it stays inside. */
#include "engine/format/block.h"
#include "engine/format/block_columns.h"

#include <stdlib.h>
#include <string.h>

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

static void turn_and_back(const uint8_t *data, size_t size, uint8_t *copy)
{
    bool no_memory;
    block_columns_turn((lsm_slice){data, size}, copy);
    require(block_columns_turn_back(copy, size, &no_memory) == NULL);
    require(memcmp(copy, data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + (size == 0)); /* of exactly its size, for the sanitizer */
    if (copy == NULL)
        return 0;
    if (size > 0)
        memcpy(copy, data, size);
    bool is_block = block_check(copy, size) == NULL, no_memory;
    if (is_block)
        use_block(copy, size);
    /* The same bytes as what decompression gave: of turned columns. */
    if (block_columns_turn_back(copy, size, &no_memory) == NULL && block_check(copy, size) == NULL)
        use_block(copy, size);
    if (is_block)
        turn_and_back(data, size, copy);
    free(copy);
    return 0;
}
