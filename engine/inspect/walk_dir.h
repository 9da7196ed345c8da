/*
 * What stands in a database's directory: every name, what it is, and what it should be. Nothing is
 * opened or followed, so a link leads nowhere and a pipe does not hang.
 */
#ifndef ENGINE_INSPECT_WALK_DIR_H
#define ENGINE_INSPECT_WALK_DIR_H

#include "engine/format/file_name.h"
#include "engine/io/io.h"

enum walk_name {
    WALK_NAME_OURS,    /* it parses: kind and number are set */
    WALK_NAME_ODD,     /* looks like one of ours, spelled in another way */
    WALK_NAME_FOREIGN, /* none of ours */
};

struct walk_file {
    char *text; /* the name; owned */
    enum walk_name name;
    enum file_kind kind;
    uint64_t number;
    struct io_entry entry;
};

struct walk_dir {
    struct io_entry self;
    struct walk_file *files; /* by name as bytes; owned */
    size_t count, room;
    uint64_t unlisted; /* names over the limit of WALK_DIR_MAX */
};

#define WALK_DIR_MAX ((size_t)16 << 20) /* names kept */

/* Names that vanish meanwhile are left out. LSM_IO, LSM_NO_MEMORY. */
lsm_status walk_dir_read(struct io_dir *dir, struct walk_dir *list, lsm_error *err);
void walk_dir_release(struct walk_dir *list); /* becomes empty */

/* The file of this kind and number, or NULL. */
const struct walk_file *walk_dir_find(const struct walk_dir *list, enum file_kind kind,
                                      uint64_t number);

/* False: the entry is something that the engine refuses to open, or should not trust. */
static inline bool walk_file_is_plain(const struct walk_file *file)
{
    return file->entry.kind == IO_ENTRY_FILE;
}

#endif
