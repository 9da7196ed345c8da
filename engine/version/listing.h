/* The numbered files of a directory, or some of them. */
#ifndef ENGINE_VERSION_LISTING_H
#define ENGINE_VERSION_LISTING_H

#include "engine/format/file_name.h"
#include "engine/io/io.h"

struct found_file {
    enum file_kind kind;
    uint64_t number;
};

struct listing {
    struct found_file *files;
    size_t count, room;
};

void listing_release(struct listing *list); /* becomes empty */
lsm_status listing_add(struct listing *list, enum file_kind kind, uint64_t number, lsm_error *err);
/* Adds every file whose name is the engine's. */
lsm_status listing_read(struct listing *list, struct io_dir *dir, lsm_error *err);

/* After listing_sort(): is the file in it? */
void listing_sort(struct listing *list);
bool listing_has(const struct listing *list, const struct found_file *file);

#endif
