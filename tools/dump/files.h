/*
 * A database directory as its files, however damaged: nothing is opened as a database, replayed or
 * written. Where other processes have it open it is joined for as long as this lasts, so that no
 * table goes away meanwhile.
 */
#ifndef TOOLS_DUMP_FILES_H
#define TOOLS_DUMP_FILES_H

#include "engine/format/edit.h"
#include "engine/format/file_name.h"
#include "engine/inspect/walk_log.h"
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
    bool log_is_known;     /* where tables end in the log: state.log_position */

    bool is_open;   /* somebody has it open, or is about to open or close it */
    lsm_db *joined; /* NULL: nobody has it open, or cannot be joined */
    lsm_iter *pin;  /* of that: keeps its tables */
};

/* Opens the directory and finds out whose it is. Damage is no error. Returns the code. */
int dump_files_open(struct dumper *d, struct dump_files *f);
/* Replays the manifest in force into f->state. Damage is no error, see has_state. */
int dump_files_load(struct dumper *d, struct dump_files *f);
/* The same again, where others may have gone on. What cannot be read leaves the state as it was. */
int dump_files_reload(struct dumper *d, struct dump_files *f);
void dump_files_close(struct dump_files *f);

/* The name of a family; NULL when the manifest does not know it. */
const char *dump_files_family(const struct dump_files *f, uint32_t id);
/* Puts the tables of a state that was made elsewhere into the order that the next call wants. */
void dump_files_sort(struct dump_files *f);
/* What the manifest says of a table, or NULL. */
const struct table_meta *dump_files_table(const struct dump_files *f, uint64_t number);
/* The same of a blob file. */
const struct blob_meta *dump_files_blob(const struct dump_files *f, uint64_t number);
/*
 * A table that nobody names may be one that a job is still writing. `meta` NULL asks the same of
 * any file that the state does not vouch for.
 */
bool dump_files_may_be_unfinished(const struct dump_files *f, const struct table_meta *meta);
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

/* A file's first `limit` bytes, fewer when it is shorter, appended to `bytes`. */
lsm_status dump_files_read(struct dump_files *f, const char *name, uint64_t limit,
                           struct text *bytes, lsm_error *err);

/* ---- read_log.c ------------------------------------------------------------------------------ */

struct dump_log_reading {
    struct walk_log_visitor visitor; /* neither function is NULL */
    bool from_oldest;                /* not from where tables end, unless others write */
};
/* Reads the log. Returns the code; of *end the positions are set with EXIT_DONE. */
int dump_read_log(struct dumper *d, struct dump_files *f, const struct dump_log_reading *how,
                  struct walk_log_end *end);

/* ---- the work of each option; all return the code -------------------------------------------- */

/* The one that is named, or in force; and one by number. */
int dump_manifests(struct dumper *d, struct dump_files *f);
int dump_manifest(struct dumper *d, struct dump_files *f, uint64_t number);
/* A row of what a table refers to in one blob file. False when output fails. */
bool dump_blob_use(struct dumper *d, const struct blob_use *use);
/* The one that is named, or all live ones; and one by number. */
int dump_tables(struct dumper *d, struct dump_files *f);
int dump_table(struct dumper *d, struct dump_files *f, enum file_kind kind, uint64_t number);
int dump_log(struct dumper *d, struct dump_files *f);
int dump_find(struct dumper *d, struct dump_files *f);
int dump_layout(struct dumper *d, struct dump_files *f);
int dump_image(struct dumper *d, struct dump_files *f);

#endif
