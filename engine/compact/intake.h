/*
 * Intake: entries of any families, in any order, become sealed tables (see table_writer_seal()) of
 * one entry a key. What comes in key order is written straight to them. The rest is sorted: as much
 * as memory holds becomes a run, in a file without a name, and at the end the runs are merged.
 *
 * All files have numbers of the set's counter and nobody names them, so those that a death leaves
 * are orphans.
 */
#ifndef ENGINE_COMPACT_INTAKE_H
#define ENGINE_COMPACT_INTAKE_H

#include "engine/compact/compact.h"

struct intake;

struct intake_options {
    const struct compact_env *env; /* outlives the intake */
    size_t memory;                 /* bytes of entries kept until they are sorted and written */
    bool in_background;            /* a thread sorts and writes while the next ones come */
    size_t merge_threads;          /* for the last merge, the caller's included */
    bool keep_first;               /* of several entries of a key the first counts, not the last */
};

lsm_status intake_new(const struct intake_options *options, struct intake **intake, lsm_error *err);
/* Ends the thread and removes all files that were not given. NULL is allowed. */
void intake_free(struct intake *intake);

/* Makes a family known; its entries come later. The options are resolved. */
bool intake_knows(struct intake *intake, uint32_t cf);
lsm_status intake_add_family(struct intake *intake, uint32_t cf, const char *name,
                             const lsm_cf_options *options, lsm_error *err);

/* Copies an entry of a known family, within the limits of lsm.h. After a failure, which may be that
 * of an earlier entry's table, only intake_free() follows. */
lsm_status intake_add(struct intake *intake, uint32_t cf, enum entry_type type, lsm_slice key,
                      lsm_slice value, lsm_error *err);

/* No more entries come: all are in sealed tables on return, and their names are durable. Asks
 * env->progress while it merges. */
lsm_status intake_finish(struct intake *intake, lsm_error *err);

/* After intake_finish(): the tables, those of a family one after the other in key order. */
size_t intake_table_count(const struct intake *intake);
const struct table_meta *intake_table(const struct intake *intake, size_t index);
uint64_t intake_entry_count(const struct intake *intake); /* one a key */

/*
 * Writes the ends of all tables, at this sequence number, and adds them to `edit`, each in the
 * level that `levels` says. From then on the files that are in the edit are the caller's, also
 * after a failure; the others go with the intake.
 */
lsm_status intake_give(struct intake *intake, uint64_t sequence, const uint32_t *levels,
                       struct version_edit *edit, lsm_error *err);

#endif
