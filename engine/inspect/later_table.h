/*
 * A manifest that ends in "closed" may be one that lost its end: cut between two edits it is whole,
 * and without a log there is nothing that would have to reach back to it. Then a table tells. One
 * that has a number which the manifest has not given out, and holds what was written after the last
 * sequence number that it knows, was made by a later life, which could only begin with an edit that
 * is not there any more.
 *
 * A crash leaves no such table: the edit that opens a closed database is durable before anybody may
 * write.
 */
#ifndef ENGINE_INSPECT_LATER_TABLE_H
#define ENGINE_INSPECT_LATER_TABLE_H

#include "engine/format/edit.h"
#include "engine/inspect/walk_dir.h"
#include "engine/inspect/walk_stream.h"

struct later_table {
    uint64_t number; /* 0: there is none */
    uint64_t max_sequence;
    uint64_t last_sequence; /* that the manifest knows of */
};

/* Only for a state that says "closed"; any other has none. Tables whose properties cannot be read
 * prove nothing. LSM_IO, LSM_NO_MEMORY, LSM_CANCELLED. */
lsm_status later_table_find(const struct walk_env *env, const struct walk_dir *list,
                            const struct version_edit *state, struct later_table *later,
                            lsm_error *err);

#endif
