/* What is freed is not counted back: an upper bound of the sum is an upper bound of the peak. */
#include "engine/format/proto_alloc.h"

#include "engine/base/memory.h"

#define ALLOCATION_COST 16 /* bytes that the heap adds to each allocation */

static void *counted_alloc(void *context, size_t size)
{
    struct proto_alloc *alloc = context;
    size_t cost;
    if (!mem_add(size, ALLOCATION_COST, &cost) || cost > alloc->left) {
        alloc->exceeded = true;
        return NULL;
    }
    void *memory = mem_alloc(size);
    if (memory == NULL) {
        alloc->failed = true;
        return NULL;
    }
    alloc->left -= cost;
    return memory;
}

static void counted_free(void *context, void *memory)
{
    (void)context;
    mem_free(memory);
}

ProtobufCAllocator *proto_alloc_init(struct proto_alloc *alloc, size_t limit_bytes)
{
    *alloc = (struct proto_alloc){
        .base = {.alloc = counted_alloc, .free = counted_free, .allocator_data = alloc},
        .left = limit_bytes,
    };
    return &alloc->base;
}

size_t proto_alloc_limit(size_t size)
{
    size_t scaled;
    if (!mem_multiply(size, PROTO_ALLOC_FACTOR, &scaled))
        scaled = SIZE_MAX;
    return scaled > PROTO_ALLOC_LIMIT ? scaled : PROTO_ALLOC_LIMIT;
}
