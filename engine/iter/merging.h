/*
 * One iterator over several: the k-way merge, a loser tree over the heads of its children with
 * galloping (while one child keeps winning, it is compared with the runner-up only).
 *
 * Two entries never compare equal in a sound database (a sequence number and key exist once), but
 * should they, the child with the smaller index comes first, forwards.
 */
#ifndef ENGINE_ITER_MERGING_H
#define ENGINE_ITER_MERGING_H

#include "engine/iter/iter.h"

/*
 * Takes ownership of the `count` children (also on failure) and of nothing else; `children` itself
 * is copied. With one child, that child is returned. With none, an iterator that is never valid.
 * A child's failure makes the merge invalid with that status.
 */
lsm_status merging_new(struct iter **children, size_t count, struct iter **merged, lsm_error *err);

#endif
