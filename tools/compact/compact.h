/* What the files of lsm-compact share: levels before and after, and looking at others' merges. */
#ifndef TOOLS_COMPACT_COMPACT_H
#define TOOLS_COMPACT_COMPACT_H

#include "engine/inspect/inspect_live.h"
#include "tools/cli/cli.h"
#include "tools/cli/json.h"

/* One look at a database. NULL when it failed, which was reported and is in *code. Owned by the
 * caller. Damage of the manifest is reported, too. */
struct inspect_live *compact_look(struct cli *cli, struct io *io, int *code);

/* NULL: `live` is NULL, or has no such family. */
const struct inspect_family *compact_family(const struct inspect_live *live, const char *name);

/* The levels of a family that hold tables on stdout; `after` NULL: there is only one moment. */
void compact_print_levels(const struct inspect_family *before, const struct inspect_family *after);
/* {"tables": ..., "levels": [...]}; `family` NULL: null. */
struct json_object *compact_levels_json(const struct inspect_family *family);

/* --status: the levels, who merges what and how far that is, and who waits. Returns the code. */
int compact_status(struct cli *cli, struct io *io, struct json_object *object);

/* --cancel: asks, and waits. Returns the code. */
int compact_cancel(struct cli *cli, struct io *io, struct json_object *object);

#endif
