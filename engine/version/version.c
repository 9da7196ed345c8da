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

/* What all keys of the files begin with. */
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

static uint64_t head_behind(lsm_slice key, size_t prefix)
{
    return bytes_head((const uint8_t *)key.data + prefix, key.size - prefix);
}

struct level_files *level_files_new(struct version_file **files, size_t count)
{
    size_t entry = sizeof *files + 2 * sizeof(uint64_t);
    struct level_files *array = mem_alloc(sizeof *array + count * entry);
    if (array == NULL)
        return NULL;
    uint64_t *heads = (uint64_t *)(array + 1);
    uint64_t *smallest = heads + count;
    struct version_file **copy = (struct version_file **)(smallest + count);
    size_t prefix = count == 0 ? 0 : common_prefix(files, count);
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        const struct table_meta *meta = &files[i]->meta;
        copy[i] = files[i];
        heads[i] = head_behind(meta->largest, prefix);
        smallest[i] = head_behind(meta->smallest, prefix);
        bytes += meta->size;
        atomic_fetch_add_explicit(&live_file_of(files[i])->references, 1, memory_order_relaxed);
    }
    atomic_init(&array->references, 1);
    array->level = (struct version_level){.files = copy,
                                          .count = count,
                                          .bytes = bytes,
                                          .prefix_size = prefix,
                                          .heads = heads,
                                          .smallest_heads = smallest};
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

/* The first file whose largest key is >= key, which begins with the level's prefix. */
static size_t find_by_head(const struct version_level *level, lsm_slice key, uint64_t head)
{
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

size_t version_level_find(const struct version_level *level, lsm_slice key)
{
    if (level->count == 0)
        return 0;
    lsm_slice prefix = {level->files[0]->meta.smallest.data, level->prefix_size};
    if (!slice_begins_with(key, prefix))
        return slice_compare(key, prefix) < 0 ? 0 : level->count;
    return find_by_head(level, key, head_behind(key, prefix.size));
}

bool level_head(const struct version_level *level, lsm_slice key, uint64_t *head)
{
    if (level->count == 0)
        return false;
    lsm_slice prefix = {level->files[0]->meta.smallest.data, level->prefix_size};
    if (!slice_begins_with(key, prefix))
        return false;
    *head = head_behind(key, prefix.size);
    return true;
}

bool level_file_spans(const struct version_level *level, size_t index, lsm_slice key, uint64_t head)
{
    const struct table_meta *meta = &level->files[index]->meta;
    uint64_t first = level->smallest_heads[index], last = level->heads[index];
    if (head < first || head > last)
        return false;
    return (head > first || slice_compare(meta->smallest, key) <= 0) &&
           (head < last || slice_compare(key, meta->largest) <= 0);
}

struct version_file *level_file_of(const struct version_level *level, lsm_slice key)
{
    uint64_t head;
    if (!level_head(level, key, &head))
        return NULL;
    size_t at = find_by_head(level, key, head);
    if (at == level->count || head < level->smallest_heads[at] ||
        (head == level->smallest_heads[at] &&
         slice_compare(level->files[at]->meta.smallest, key) > 0))
        return NULL;
    return level->files[at];
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
    if (limit > 0 && version->families[0]->id == id) /* most databases have one */
        return version->families[0];
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

struct version_file *version_find_file(const struct version *version, uint64_t number)
{
    for (size_t i = 0; i < version->family_count; i++) {
        for (size_t k = 0; k < VERSION_LEVELS; k++) {
            const struct version_level *level = &version->families[i]->levels[k];
            for (size_t f = 0; f < level->count; f++) {
                if (level->files[f]->meta.number == number)
                    return level->files[f];
            }
        }
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
    /* First: what is dropped last goes first, and a table goes before what it refers to. */
    version_release_blobs(&live->base);
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
