/*
 * What proves that a manifest lost its end although it is whole.
 *
 * Two things do. The edit mark (engine/format/edit_mark.h) names an edit that is not there. And in
 * a manifest that ends in "closed", a table: one that has a number which the manifest has not given
 * out, and holds what was written after the last sequence number that it knows, was made by a later
 * life, which could only begin with an edit that is not there any more. A crash leaves neither: an
 * edit is durable before it is marked, and the edit that opens a closed database is durable before
 * anybody may write.
 *
 * Both are looked at before the manifest is read. Then they prove something also where somebody who
 * is not known of opens the database meanwhile: what he adds is in neither.
 */
#ifndef ENGINE_VERSION_LOST_EDITS_H
#define ENGINE_VERSION_LOST_EDITS_H

#include "engine/format/edit.h"
#include "engine/format/edit_mark.h"
#include "engine/io/io.h"

#define LOST_EDITS_TEXT ((size_t)320)

/* What there is to prove it with; filled in before the manifest is read. */
struct lost_edits_evidence {
    struct edit_mark mark;  /* frame_number 0: there is none */
    const uint64_t *tables; /* numbers of all table files; borrowed */
    size_t table_count;

    /* The highest sequence number in a table, as it says itself; 0 when it says nothing that can be
     * believed. A status ends the search. */
    lsm_status (*ask)(const void *context, uint64_t number, uint64_t *max_sequence, lsm_error *err);
    const void *context;
};

enum lost_edits_proof {
    LOST_EDITS_NONE = 0,
    LOST_EDITS_MARK,  /* wanted, found: numbers of edits: the marked one, the manifest's last */
    LOST_EDITS_TABLE, /* wanted, found: sequence numbers: the table's, the manifest's last */
};

struct lost_edits {
    enum lost_edits_proof proof;
    uint64_t wanted, found;
    uint64_t table; /* number */
};

/* Writes the mark: frame `frame_number` of the manifest is durable. Where that fails there is none,
 * or one of an earlier edit, which proves less. */
void edit_mark_write(struct io_dir *dir, const struct edit_mark *mark);
/* frame_number is 0 where there is none, no file, or something else in its place. LSM_IO,
 * LSM_NO_MEMORY; then it is 0, too. */
lsm_status edit_mark_read(struct io_dir *dir, struct edit_mark *mark, lsm_error *err);

/*
 * Did the manifest lose edits that makes `state` and whose last frame has the number `last_frame`?
 * `uuid` is the database's. Fails only as asking the tables does.
 */
lsm_status lost_edits_find(const struct lost_edits_evidence *evidence,
                           const uint8_t uuid[HASH_UUID_SIZE], const struct version_edit *state,
                           uint64_t last_frame, struct lost_edits *lost, lsm_error *err);

/* A sentence about a proof. */
const char *lost_edits_text(const struct lost_edits *lost, char text[LOST_EDITS_TEXT]);

#endif
