/* Both keys live in one allocation, smallest first. */
#include "engine/format/table_meta.h"

#include "engine/base/memory.h"
#include "engine/base/status.h"

void table_meta_release(struct table_meta *meta)
{
    mem_free((void *)(uintptr_t)meta->smallest.data);
    *meta = (struct table_meta){0};
}

lsm_status table_meta_copy(struct table_meta *to, const struct table_meta *from, lsm_error *err)
{
    size_t size = from->smallest.size + from->largest.size;
    uint8_t *keys = mem_alloc(size);
    if (keys == NULL)
        return lsm_fail_memory(err, size);
    if (from->smallest.size > 0)
        memcpy(keys, from->smallest.data, from->smallest.size);
    if (from->largest.size > 0)
        memcpy(keys + from->smallest.size, from->largest.data, from->largest.size);
    *to = *from;
    to->smallest.data = keys;
    to->largest.data = keys + from->smallest.size;
    return LSM_OK;
}
