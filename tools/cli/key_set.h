/* The keys of a batch that is not written yet, so that "do not overwrite" can see them. */
#ifndef TOOLS_CLI_KEY_SET_H
#define TOOLS_CLI_KEY_SET_H

#include "tools/cli/text.h"

struct key_set_entry {
    uint64_t hash;
    size_t offset; /* of the key in `keys` */
    size_t size;
    size_t group; /* keys of different groups differ */
};

struct key_set {
    struct key_set_entry *entries; /* in order of arrival; owned */
    size_t count;
    size_t capacity;
    size_t *slots;     /* index + 1 of an entry, 0: free; owned */
    size_t slot_count; /* a power of two */
    struct text keys;
};

/* False when it was there already. */
bool key_set_add(struct key_set *set, size_t group, lsm_slice key);
void key_set_clear(struct key_set *set); /* keeps the memory */
void key_set_release(struct key_set *set);

#endif
