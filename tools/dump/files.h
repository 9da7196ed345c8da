/*
 * A database directory as its files, however damaged: nothing is opened as a database, replayed or
 * written. Where other processes have it open it is joined for as long as this lasts, so that no
 * table goes away meanwhile.
 */
#ifndef TOOLS_DUMP_FILES_H
#define TOOLS_DUMP_FILES_H

#include "engine/format/edit.h"
#include "engine/format/file_name.h"
#include "engine/inspect/walk_table.h"
#include "tools/dump/dump.h"

struct dump_files {
    struct io *io;
    struct io_dir *dir;
    struct walk_env env;
    bool has_uuid; /* of CURRENT, or of a manifest; env.uuid is set */

    uint64_t manifest_number; /* in force; 0: CURRENT does not say */
    lsm_error current_error;  /* why not */

    bool has_state; /* the manifest in force could be replayed */
    struct version_edit state;
    lsm_error state_error; /* why not */

    lsm_db *joined; /* NULL: nobody else has it open */
};

/* Opens the directory and finds out whose it is. Damage is no error. Returns the code. */
int dump_files_open(struct dumper *d, struct dump_files *f);
/* Replays the manifest in force into f->state. Damage is no error, see has_state. */
int dump_files_load(struct dumper *d, struct dump_files *f);
void dump_files_close(struct dump_files *f);

/* The name of a family; NULL when the manifest does not know it. */
const char *dump_files_family(const struct dump_files *f, uint32_t id);
/* What the manifest says of a table, or NULL. */
const struct table_meta *dump_files_table(const struct dump_files *f, uint64_t number);
/*
 * A table that was ingested says the sequence number of all its entries in its properties, and the
 * manifest does; its blocks say 0. Puts the true one into the block's view. `meta` may be NULL.
 */
void dump_files_raise(const struct walk_table *walk, const struct table_meta *meta,
                      struct walk_block *block);
/* True when --cf does not leave the family out. One without a name is only wanted without --cf. */
bool dump_files_wants(const struct dumper *d, const struct dump_files *f, uint32_t cf);

/* A file of the directory whose name is the engine's. */
struct dump_file {
    enum file_kind kind;
    uint64_t number;
    uint64_t bytes; /* UINT64_MAX: it cannot be opened */
};
/* All of them, by kind and number. Owned by the caller (memory_free). Returns the code. */
int dump_files_list(struct dumper *d, struct dump_files *f, struct dump_file **files,
                    size_t *count);

/* The whole of a file, at most `limit` bytes of it: owned by the caller. Returns the code. */
int dump_files_read(struct dumper *d, struct dump_files *f, const char *name, uint64_t limit,
                    struct text *bytes);

/* ---- the work of each option; all return the code -------------------------------------------- */

/* The one that is named, or in force; and one by number. */
int dump_manifests(struct dumper *d, struct dump_files *f);
int dump_manifest(struct dumper *d, struct dump_files *f, uint64_t number);
/* The one that is named, or all live ones; and one by number. */
int dump_tables(struct dumper *d, struct dump_files *f);
int dump_table(struct dumper *d, struct dump_files *f, uint64_t number);
int dump_log(struct dumper *d, struct dump_files *f);
int dump_find(struct dumper *d, struct dump_files *f);
int dump_layout(struct dumper *d, struct dump_files *f);
int dump_image(struct dumper *d, struct dump_files *f);

#endif
