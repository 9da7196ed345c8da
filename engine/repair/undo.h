/*
 * The record of a repair, beside the files that it replaced:
 *
 *     lsm-undo 1
 *     uuid HEX
 *     current HEX          the bytes of CURRENT when the repair is done
 *     had-current 0|1      there was one before
 *     first-file N         tables, manifests and temporary files from N on are the repair's
 *     first-segment N      so are log segments from N on
 *     keep NAME            once for each file whose bytes from before are here
 *     checksum HEX         XXH3-64 of the bytes before this line
 */
#ifndef ENGINE_REPAIR_UNDO_H
#define ENGINE_REPAIR_UNDO_H

#include "engine/repair/repair_private.h"

#define UNDO_PARENT   "lost+found"
#define UNDO_NAME     "undo"
#define UNDO_NEW      "undo.new" /* about to replace it */
#define UNDO_MAX_SIZE ((size_t)64 << 20)

/* Writes the record of r->kept, or replaces the one of an earlier round; durable with its name and
 * those of the copies. */
lsm_status undo_write(struct repair *r, lsm_slice current_after, lsm_error *err);

/* The lock is held. `record`: its path; NULL: the newest in lost+found. */
lsm_status undo_run(struct repair *r, const char *record, bool force, lsm_error *err);

#endif
