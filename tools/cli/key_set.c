#include "tools/cli/key_set.h"

#include "tools/cli/memory.h"

#include <string.h>
#include <xxhash.h>

#define KEY_SET_FIRST_SLOTS ((size_t)1024)

static bool entry_is(const struct key_set *set, const struct key_set_entry *entry, uint64_t hash,
                     size_t group, lsm_slice key)
{
    return entry->hash == hash && entry->group == group && entry->size == key.size &&
           (key.size == 0 || memcmp(set->keys.bytes + entry->offset, key.data, key.size) == 0);
}

static size_t *free_slot(struct key_set *set, uint64_t hash)
{
    size_t at = (size_t)hash & (set->slot_count - 1);
    while (set->slots[at] != 0)
        at = (at + 1) & (set->slot_count - 1);
    return &set->slots[at];
}

/* At most half of the slots are taken. */
static void make_room(struct key_set *set)
{
    if (set->count == set->capacity) {
        set->capacity = set->capacity == 0 ? KEY_SET_FIRST_SLOTS / 2 : set->capacity * 2;
        set->entries = memory_resize(set->entries, set->capacity * sizeof *set->entries);
    }
    if (set->slot_count >= 2 * (set->count + 1))
        return;
    set->slot_count = set->slot_count == 0 ? KEY_SET_FIRST_SLOTS : set->slot_count * 2;
    set->slots = memory_resize(set->slots, set->slot_count * sizeof *set->slots);
    memset(set->slots, 0, set->slot_count * sizeof *set->slots);
    for (size_t i = 0; i < set->count; i++)
        *free_slot(set, set->entries[i].hash) = i + 1;
}

bool key_set_add(struct key_set *set, size_t group, lsm_slice key)
{
    uint64_t hash = XXH3_64bits_withSeed(key.size == 0 ? "" : key.data, key.size, group);
    make_room(set);
    size_t at = (size_t)hash & (set->slot_count - 1);
    while (set->slots[at] != 0) {
        if (entry_is(set, &set->entries[set->slots[at] - 1], hash, group, key))
            return false;
        at = (at + 1) & (set->slot_count - 1);
    }
    set->slots[at] = set->count + 1;
    set->entries[set->count++] = (struct key_set_entry){
        .hash = hash, .offset = set->keys.size, .size = key.size, .group = group};
    text_append(&set->keys, key.data, key.size);
    return true;
}

void key_set_clear(struct key_set *set)
{
    set->count = 0;
    text_clear(&set->keys);
    if (set->slots != NULL)
        memset(set->slots, 0, set->slot_count * sizeof *set->slots);
}

void key_set_release(struct key_set *set)
{
    memory_free(set->entries);
    memory_free(set->slots);
    text_release(&set->keys);
    *set = (struct key_set){0};
}
