/*
 * One iterator over several files that follow each other in key order: a level below 0, a part of
 * it, or a single file. It opens tables as it comes to them and holds only the current one.
 */
#ifndef ENGINE_VERSION_LEVEL_ITER_H
#define ENGINE_VERSION_LEVEL_ITER_H

#include "engine/version/version.h"

/*
 * `files` is borrowed, as are the files themselves, until the iterator is released: whoever made it
 * holds the version. Failures: it->status, with the details in *err, which lives as long.
 */
lsm_status level_iter_new(struct version_file *const *files, size_t count,
                          const struct table_iter_options *options, struct iter **it,
                          lsm_error *err);

#endif
