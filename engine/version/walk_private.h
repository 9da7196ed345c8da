/* The files that may hold a key, newest data first. */
#ifndef ENGINE_VERSION_WALK_PRIVATE_H
#define ENGINE_VERSION_WALK_PRIVATE_H

#include "engine/version/search.h"
#include "engine/version/version_private.h"

static inline struct version_walk walk_begin(const struct version_cf *cf, lsm_slice key,
                                             uint64_t max_sequence)
{
    struct version_walk w;
    w.cf = cf;
    w.key = key;
    w.max_sequence = max_sequence;
    w.head = 0;
    w.levels = cf->used_levels & ~UINT32_C(1);
    w.left = 0;
    if ((cf->used_levels & 1) != 0 && level_head(&cf->levels[0], key, &w.head))
        w.left = cf->levels[0].count;
    return w;
}

/* NULL at the end. */
static inline struct version_file *walk_next(struct version_walk *w)
{
    const struct version_level *level = &w->cf->levels[0];
    while (w->left > 0) {
        size_t at = --w->left;
        if (level_file_spans(level, at, w->key, w->head) &&
            level->files[at]->meta.min_sequence <= w->max_sequence)
            return level->files[at];
    }
    while (w->levels != 0) {
        level = &w->cf->levels[__builtin_ctz(w->levels)];
        w->levels &= w->levels - 1;
        struct version_file *file = level_file_of(level, w->key);
        if (file != NULL && file->meta.min_sequence <= w->max_sequence)
            return file;
    }
    return NULL;
}

#endif
