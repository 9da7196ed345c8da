/* Between the parts that make a state out of tables: candidates.c, lineage.c, families.c and
 * account.c. */
#ifndef ENGINE_REPAIR_LINEAGE_PRIVATE_H
#define ENGINE_REPAIR_LINEAGE_PRIVATE_H

#include "engine/repair/repair_private.h"

/* A table that may be live. */
struct candidate {
    struct table_meta meta; /* owned keys */
    uint64_t file; /* number in its name: another one than its own when names were mixed up */
    char cf_name[TABLE_MAX_NAME + 1];
    struct table_properties properties; /* owned; number 0: they are lost */
    bool is_dead;
    bool is_added; /* by an edit */
    bool is_unproven;
};

/* What wrote tables in place of others. */
struct job {
    uint64_t number;
    const struct candidate *output; /* one of them */
    uint32_t output_count, last_index;
    bool has_last; /* last_index is known */
    bool is_completed, is_refuted, is_known, is_doubtful;
};

/* A file that a job took, and the completed job that did. */
struct taken {
    uint64_t file;
    uint64_t job; /* 0: none is known to be completed */
};

struct lineage {
    struct repair *r;
    struct repair_facts facts;
    struct candidate *tables; /* by number */
    size_t count, room;
    struct job *jobs; /* by number, descending; those that replaced something */
    size_t job_count;
    struct taken *taken; /* by file */
    size_t taken_count;
    struct buffer unreadable; /* u64 each, ascending: table files that say nothing at all */
};

/* ---- candidates.c ---------------------------------------------------------------------------- */

lsm_status candidates_read(struct lineage *l, lsm_error *err);
/* Tables that edits name and that are not there: looking at them will say so. */
lsm_status candidates_add_missing(struct lineage *l, lsm_error *err);
struct candidate *candidate_find(const struct lineage *l, uint64_t number);
void candidates_release(struct lineage *l);
bool facts_removed(const struct repair_facts *f, uint64_t number);
const struct table_meta *facts_added(const struct repair_facts *f, uint64_t number);

/* ---- lineage.c ------------------------------------------------------------------------------- */

/* Does any table say that it was written in place of that file? */
bool lineage_took(const struct lineage *l, uint64_t file);

/* ---- families.c ------------------------------------------------------------------------------ */

/* The families of the state, when the facts and tables are known. Tables of dropped ones die. */
lsm_status families_make(struct lineage *l, lsm_error *err);

/* ---- account.c ------------------------------------------------------------------------------- */

/* Tells what may be lost where a file is missing of which nobody says what became of it. */
lsm_status account_for_numbers(struct lineage *l, lsm_error *err);

#endif
