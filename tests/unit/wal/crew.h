/*
 * Several handles over one log, each with an environment of its own, as processes have them.
 *
 * The rig's own handle founds the log. A put, sync and so on is done by whichever handle rig->wal
 * points to.
 */
#ifndef TESTS_UNIT_WAL_CREW_H
#define TESTS_UNIT_WAL_CREW_H

#include "tests/unit/wal/rig.h"

struct member {
    struct wal_options options;
    struct wal *wal; /* NULL: not there */
};

/* Joins the log that the rig has opened. */
static inline void member_join(struct member *member, const struct rig *rig)
{
    member->options = rig->options;
    if (rig->disk != NULL)
        ck_ok(sim_open(rig->disk, &member->options.io, err));
    else
        ck_ok(io_open(io_name(rig->io), &member->options.io, err));
    ck_ok(io_dir_open(member->options.io, rig->path, 0, 0, &member->options.dir, err));
    member->options.layout = rig->layout;
    member->options.stage_size = member->options.segment_size = 0; /* the founder's count */
    ck_ok(wal_attach(&member->options, &member->wal, err));
}

static inline void member_close(struct member *member)
{
    io_dir_close(member->options.dir);
    io_close(member->options.io);
    member->wal = NULL;
}

static inline void member_leave(struct member *member)
{
    wal_detach(member->wal);
    member_close(member);
}

/* What is on disk, in all. */
struct census {
    unsigned segments, spares;
    uint64_t newest;
};

static inline lsm_status crew_count(void *context, const char *name, lsm_error *err)
{
    (void)err;
    struct census *census = context;
    enum file_kind kind;
    uint64_t number;
    if (!file_name_parse(name, &kind, &number))
        return LSM_OK;
    if (kind == FILE_WAL && ++census->segments > 0 && number > census->newest)
        census->newest = number;
    census->spares += kind == FILE_WAL_SPARE;
    return LSM_OK;
}

static inline struct census crew_census(const struct rig *rig)
{
    struct census census = {0};
    ck_ok(io_dir_list(rig->options.dir, crew_count, &census, err));
    return census;
}

#endif
