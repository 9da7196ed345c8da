/* What the two halves of the atlas share. */
#ifndef TESTS_LIB_ATLAS_PRIVATE_H
#define TESTS_LIB_ATLAS_PRIVATE_H

#include "engine/format/edit.h"
#include "tests/lib/atlas.h"
#include "tests/lib/model.h"

/* Prints the sentence; false. */
bool atlas_fail(const char *file, const char *what);
/* Both copy what they are given. The part is valid until the next one is added. */
struct atlas_part *atlas_add_part(struct atlas *a, enum atlas_kind kind, const char *file,
                                  uint64_t offset, uint64_t size);
void atlas_add_entry(struct atlas *a, const struct atlas_entry *entry, lsm_slice value);

/* The segments and the ring behind the position that the state names. */
bool atlas_walk_log(struct atlas *a, const struct folder *files, const struct version_edit *state);

#endif
