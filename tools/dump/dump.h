/* What the files of lsm-dump share: the command line, and a way to each kind of output. */
#ifndef TOOLS_DUMP_DUMP_H
#define TOOLS_DUMP_DUMP_H

#include "tools/cli/cli.h"
#include "tools/cli/dump_format.h"
#include "tools/cli/json.h"
#include "tools/cli/output.h"

enum dump_work {
    DUMP_CONTENTS,
    DUMP_NAMES,
    DUMP_DIGESTS,
    DUMP_CHECKPOINT,
    DUMP_MANIFESTS, /* what the files hold, from here on */
    DUMP_TABLES,
    DUMP_LOG,
    DUMP_FIND,
    DUMP_LAYOUT,
    DUMP_IMAGE,
};

/* What is shown of tables; none: an overview. */
enum dump_view {
    DUMP_VIEW_BLOCKS = 1,
    DUMP_VIEW_INDEX = 2,
    DUMP_VIEW_FILTER = 4,
    DUMP_VIEW_PROPERTIES = 8,
    DUMP_VIEW_INTERNAL = 16,
};

struct dumper;
struct salvage;

typedef int (*dump_visitor)(struct dumper *d, lsm_slice key, lsm_slice value);

struct dumper {
    struct cli cli;
    enum dump_work work;
    struct dump_style style;
    bool compat_given;
    const char *file;       /* of -f; NULL: stdout */
    const char *at;         /* a token or a sequence number; NULL: now */
    const char *checkpoint; /* of --checkpoint */
    bool is_copy;           /* of its tables */
    bool wants_all;
    struct text directory; /* of `inspected`, where that is a path */
    bool is_salvage;
    bool is_aggressive;    /* superseded versions too */
    bool shows_data;       /* keys and values in diagnostics and tables */
    bool is_image;         /* keys and names are hidden, see dump_hide() */
    uint64_t secret[2];    /* for that */
    const char *find_text; /* of --find; find_key is what it means */
    struct text find_key;
    uint32_t views;        /* flags of enum dump_view */
    const char *inspected; /* the file of --manifest, --sst or --wal; NULL: those in force */

    struct output output;
    struct digest digest;
    uint64_t pair_count; /* of all families so far */
    uint64_t byte_count; /* of keys and values so far */
    uint64_t map_bytes;  /* for LMDB */

    struct salvage *salvage; /* NULL: not with --salvage */

    /* The database as the public door shows it; see dump_database.c. */
    lsm_db *db;
    lsm_snapshot *snapshot;
    char **names; /* of lsm_cf_list() */
    size_t name_count;
    /* Calls `visit` for each pair of the family in the range, in order. */
    int (*walk)(struct dumper *d, const char *name, dump_visitor visit);
};

/* ---- dump_database.c: what an open database holds -------------------------------------------- */

/* Sets walk and names. */
int dump_open_database(struct dumper *d);
/* Also when it was not opened. Returns `code`, or that of a failure with it. */
int dump_close_database(struct dumper *d, int code);

/* ---- dump_checkpoint.c: a database of one moment of it ----------------------------------------
 */

int dump_checkpoint(struct dumper *d);

/* ---- salvage.c: what is whole of a damaged one ----------------------------------------------- */

/* Both as above; closing adds what was found damaged to the code. */
int dump_open_salvage(struct dumper *d);
int dump_close_salvage(struct dumper *d, int code);

/* ---- dump_contents.c: sections of text ------------------------------------------------------- */

/* The contents of an open database. */
int dump_contents(struct dumper *d);
/* Output that cannot be written. Returns the code. */
int dump_fail_output(struct dumper *d);

/* Is the key in what --start, --end and --prefix ask for? */
bool dump_range_has(const struct cli *cli, lsm_slice key);

/* ---- inspect.c: what stands in the files ----------------------------------------------------- */

int dump_inspect(struct dumper *d);

/* What an image has in the place of the user's bytes: a hash that nobody can turn back. */
uint64_t dump_hide(const struct dumper *d, lsm_slice bytes);

/* ---- dump_names.c ---------------------------------------------------------------------------- */

/* Names or digests of the families of an open database: lines, or an array of objects. */
int dump_describe_families(struct dumper *d, struct json_object *families);

#endif
