#include "engine/repair/state.h"

#include "engine/repair/repair_private.h"

static void tell_doubts(const struct repair *r,
                        void (*doubt)(void *context, const struct repair_state_doubt *doubt),
                        void *context)
{
    for (size_t i = 0; i < r->loss_count; i++) {
        const struct repair_loss *loss = &r->losses[i];
        if (loss->kinds == LSM_LOSS_UNSEEN)
            continue; /* nothing that is known to be missing */
        doubt(context, &(struct repair_state_doubt){.file = loss->file,
                                                    .all_families = !loss->has_cf,
                                                    .cf = loss->cf,
                                                    .first_open = loss->first_open,
                                                    .last_open = loss->last_open,
                                                    .first = buffer_slice(&loss->first),
                                                    .last = buffer_slice(&loss->last)});
    }
}

lsm_status repair_read_state(struct io *io, struct io_dir *dir, const char *path,
                             struct repair_state_view *view,
                             void (*doubt)(void *context, const struct repair_state_doubt *doubt),
                             void *context, lsm_error *err)
{
    static const lsm_repair_options defaults = LSM_REPAIR_OPTIONS_INIT;
    struct repair r = {.path = path,
                       .options = &defaults,
                       .io = io,
                       .dir = dir,
                       .walk = {.io = io, .dir = dir, .memory_limit = REPAIR_MEMORY}};
    lsm_status status = walk_dir_read(dir, &r.list, err);
    if (status == LSM_OK)
        status = repair_identify(&r, err);
    if (status == LSM_OK)
        status = repair_find_displaced(&r, err);
    if (status == LSM_OK)
        status = repair_read_manifests(&r, err);
    if (status == LSM_OK) {
        tell_doubts(&r, doubt, context);
        memcpy(view->uuid, r.walk.uuid, sizeof view->uuid);
        view->log_is_known = r.state.log_is_known;
        view->snapshot = r.state.snapshot;
        view->gone = r.state.gone;
        r.state.snapshot = r.state.gone = (struct version_edit){0};
    }
    edit_release(&r.state.snapshot);
    edit_release(&r.state.gone);
    buffer_release(&r.state.unbounded);
    buffer_release(&r.displaced);
    repair_plan_release(&r);
    walk_dir_release(&r.list);
    return status;
}
