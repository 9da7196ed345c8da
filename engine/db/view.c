/* See the header. A state holds a version and, by its pin, the files of it over all processes. */
#include "engine/db/view.h"

#include "engine/db/db_private.h"

#define VIEW_TRIES 1000

bool db_is_joined(const lsm_db *db)
{
    return !db->is_private;
}

/* Numbers from here on may be those of running jobs. */
static uint64_t job_limit(lsm_db *db)
{
    uint64_t limit = atomic_load(&db->layout->ctl.next_file_number);
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        uint64_t floor = atomic_load(&db->layout->slots[i].out_floor);
        if (floor != 0 && floor < limit)
            limit = floor;
    }
    return limit;
}

lsm_status db_view_acquire(lsm_db *db, struct db_view *view, lsm_error *err)
{
    for (unsigned i = 0; i < VIEW_TRIES; i++) {
        struct db_view v = {.job_limit = job_limit(db)};
        lsm_status status = db_refresh(db, err);
        if (status != LSM_OK)
            return status;
        v.state = db_state_acquire(db);
        pthread_mutex_lock(&db->view_lock); /* who refreshes meanwhile moves the place on */
        struct version_state now;
        version_set_place(db->versions, &v.place);
        version_set_state(db->versions, &now);
        v.log_position = now.log_position;
        v.log_chain = now.log_chain;
        v.sequence = atomic_load(&db->layout->commit.visible_sequence);
        v.durable = atomic_load(&db->layout->commit.durable);
        v.written = atomic_load(&db->layout->commit.written);
        pthread_mutex_unlock(&db->view_lock);
        if (v.state->version->number == v.place.frame_number - 1) {
            *view = v;
            return LSM_OK;
        }
        db_state_drop(v.state);
    }
    return lsm_fail(err, LSM_BUSY, "the tables of '%s' change faster than they can be looked at",
                    db->path);
}

void db_view_release(struct db_view *view)
{
    db_state_drop(view->state);
    *view = (struct db_view){0};
}
