/* Versions as data: finding things in them, and letting them go. */
#include "engine/version/version_private.h"

#include "engine/base/memory.h"

#include <assert.h>

/* ---- levels -----------------------------------------------------------------------------------
 */

static void file_drop(struct version_file *base)
{
    struct live_file *file = live_file_of(base);
    /* acq_rel here and below: the last one sees what others did before they dropped theirs */
    if (atomic_fetch_sub_explicit(&file->references, 1, memory_order_acq_rel) > 1)
        return;
    table_slot_drop(file->slot);
    table_meta_release(&file->base.meta);
    mem_free(file);
}

/* What all keys of the files begin with; level 0 is searched file by file and needs none. */
static size_t common_prefix(struct version_file **files, size_t count)
{
    lsm_slice first = files[0]->meta.smallest;
    size_t size = first.size;
    for (size_t i = 0; i < count && size > 0; i++) {
        size_t smallest = slice_common_prefix(first, files[i]->meta.smallest);
        size_t largest = slice_common_prefix(first, files[i]->meta.largest);
        size = smallest < size ? smallest : size;
        size = largest < size ? largest : size;
    }
    return size;
}

struct level_files *level_files_new(struct version_file **files, size_t count, uint32_t level)
{
    size_t entry = sizeof *files + sizeof(uint64_t);
    struct level_files *array = mem_alloc(sizeof *array + count * entry);
    if (array == NULL)
        return NULL;
    uint64_t *heads = (uint64_t *)(array + 1);
    struct version_file **copy = (struct version_file **)(heads + count);
    size_t prefix = level == 0 || count == 0 ? 0 : common_prefix(files, count);
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        const struct table_meta *meta = &files[i]->meta;
        copy[i] = files[i];
        heads[i] =
            bytes_head((const uint8_t *)meta->largest.data + prefix, meta->largest.size - prefix);
        bytes += meta->size;
        atomic_fetch_add_explicit(&live_file_of(files[i])->references, 1, memory_order_relaxed);
    }
    atomic_init(&array->references, 1);
    array->level = (struct version_level){
        .files = copy, .count = count, .bytes = bytes, .heads = heads, .prefix_size = prefix};
    return array;
}

void level_files_drop(struct level_files *array)
{
    if (array == NULL || atomic_fetch_sub_explicit(&array->references, 1, memory_order_acq_rel) > 1)
        return;
    for (size_t i = 0; i < array->level.count; i++)
        file_drop(array->level.files[i]);
    mem_free(array);
}

size_t version_level_find(const struct version_level *level, lsm_slice key)
{
    if (level->count == 0)
        return 0;
    lsm_slice first = level->files[0]->meta.smallest;
    lsm_slice prefix = {first.data, level->prefix_size};
    if (!slice_begins_with(key, prefix))
        return slice_compare(key, prefix) < 0 ? 0 : level->count;
    uint64_t head = bytes_head((const uint8_t *)key.data + prefix.size, key.size - prefix.size);
    size_t low = 0, count = level->count;
    while (count > 0) {
        size_t half = count / 2, middle = low + half;
        bool before = level->heads[middle] < head ||
                      (level->heads[middle] == head &&
                       slice_compare(level->files[middle]->meta.largest, key) < 0);
        low = before ? middle + 1 : low;
        count = before ? count - half - 1 : half;
    }
    return low;
}

/* ---- families ---------------------------------------------------------------------------------
 */

void version_cf_drop(struct live_cf *cf)
{
    if (atomic_fetch_sub_explicit(&cf->references, 1, memory_order_acq_rel) > 1)
        return;
    for (size_t i = 0; i < VERSION_LEVELS; i++)
        level_files_drop(cf->arrays[i]);
    mem_free((char *)(uintptr_t)cf->base.name);
    mem_free(cf);
}

const struct version_cf *version_find_cf(const struct version *version, uint32_t id)
{
    size_t low = 0, limit = version->family_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (version->families[middle]->id < id)
            low = middle + 1;
        else
            limit = middle;
    }
    if (low < version->family_count && version->families[low]->id == id)
        return version->families[low];
    return NULL;
}

const struct version_cf *version_find_cf_named(const struct version *version, const char *name)
{
    for (size_t i = 0; i < version->family_count; i++) {
        if (strcmp(version->families[i]->name, name) == 0)
            return version->families[i];
    }
    return NULL;
}

/* ---- versions ---------------------------------------------------------------------------------
 */

struct live_version *version_new_empty(struct table_pool *pool)
{
    struct live_version *version = mem_alloc_zeroed(sizeof *version);
    if (version == NULL)
        return NULL;
    version->pool = pool;
    atomic_init(&version->references, 1);
    return version;
}

void version_keep(struct version *version)
{
    struct live_version *live = (struct live_version *)version;
    atomic_fetch_add_explicit(&live->references, 1, memory_order_relaxed);
}

static void free_version(struct epoch_retired *thing)
{
    struct live_version *live =
        (struct live_version *)((char *)thing - offsetof(struct live_version, retired));
    for (size_t i = 0; i < live->base.family_count; i++)
        version_cf_drop(live_cf_of(live->base.families[i]));
    mem_free(live->base.families);
    mem_free(live);
}

void version_drop(struct version *version)
{
    struct live_version *live = (struct live_version *)version;
    if (live == NULL || atomic_fetch_sub_explicit(&live->references, 1, memory_order_acq_rel) > 1)
        return;
    struct table_pool *pool = live->pool;
    epoch_retire(&live->retired, free_version);
    table_pool_clean(pool);
}

lsm_status version_table_keep(struct version_file *file, struct table **table, lsm_error *err)
{
    return table_slot_hold(live_file_of(file)->slot, table, err);
}

void version_table_drop(struct version_file *file)
{
    table_slot_unhold(live_file_of(file)->slot);
}
