/* Both keys live in one allocation, smallest first. */
#include "engine/format/table_meta.h"

#include "engine/base/memory.h"
#include "engine/base/status.h"

void table_meta_release(struct table_meta *meta)
{
    mem_free((void *)(uintptr_t)meta->smallest.data);
    mem_free(meta->blobs);
    *meta = (struct table_meta){0};
}

lsm_status table_meta_copy(struct table_meta *to, const struct table_meta *from, lsm_error *err)
{
    size_t size = from->smallest.size + from->largest.size;
    uint8_t *keys = mem_alloc(size);
    struct blob_use *blobs = NULL;
    if (from->blob_count > 0)
        blobs = mem_alloc(from->blob_count * sizeof *blobs);
    if (keys == NULL || (from->blob_count > 0 && blobs == NULL)) {
        mem_free(keys);
        mem_free(blobs);
        return lsm_fail_memory(err, size + from->blob_count * sizeof *blobs);
    }
    if (from->blob_count > 0)
        memcpy(blobs, from->blobs, from->blob_count * sizeof *blobs);
    if (from->smallest.size > 0)
        memcpy(keys, from->smallest.data, from->smallest.size);
    if (from->largest.size > 0)
        memcpy(keys + from->smallest.size, from->largest.data, from->largest.size);
    *to = *from;
    to->blobs = blobs;
    to->smallest.data = keys;
    to->largest.data = keys + from->smallest.size;
    return LSM_OK;
}
