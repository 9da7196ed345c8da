/*
 * Who has the database open. It is looked at before anything else: joined by the public door where
 * that is possible, so that the tables of one moment stay; otherwise the files are read by
 * themselves.
 */
#include "engine/verify/verify_private.h"

#include "engine/base/memory.h"
#include "engine/db/open.h"

#include <time.h>

#define CHANGING_TRIES   150
#define CHANGING_WAIT_NS 20000000 /* three seconds in all */

static lsm_status refuse(struct verify *v, const struct inspect_live *live, const char *how,
                         lsm_error *err)
{
    return lsm_fail(err, LSM_BUSY, "'%s' is %s process %" PRId64 " (%s)", v->path, how,
                    live->founder.pid, live->founder.command);
}

/* ---- what is odd about it -------------------------------------------------------------------- */

static lsm_status tell_dead(struct verify *v, const struct inspect_live *live, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < live->process_count; i++) {
        const struct inspect_process *p = &live->processes[i];
        if (p->is_alive)
            continue;
        lsm_finding f = finding_of(FINDING_DEAD_PROCESS);
        status =
            verify_say(v, &f, err,
                       "process %" PRId64 " (%s) died with the database open; its slot %" PRIu32
                       " was not cleaned up yet",
                       p->pid, p->command, p->slot);
    }
    return status;
}

static lsm_status tell_state(struct verify *v, const struct inspect_live *live, lsm_error *err)
{
    lsm_status status = tell_dead(v, live, err);
    if (status == LSM_OK && live->poisoned != 0) {
        lsm_finding f = finding_of(FINDING_POISONED);
        finding_numbers(&f, 0, live->poisoned);
        status = verify_tell(v, &f, err);
    }
    if (status == LSM_OK && (live->takeover_due || live->roll_forward_due)) {
        lsm_finding f = finding_of(FINDING_TAKEOVER_DUE);
        status = verify_tell(v, &f, err);
    }
    return status;
}

/* ---- joining --------------------------------------------------------------------------------- */

static lsm_status join(struct verify *v, lsm_error *err)
{
    lsm_options options = LSM_OPTIONS_INIT;
    options.read_only = true;
    options.workers = LSM_NO_WORKERS;
    options.cache_size = LSM_NO_CACHE;
    lsm_error inner = {.message = ""};
    lsm_status status = db_open_on(v->io, v->path, &options, &v->db, &inner);
    if (status == LSM_OK && !db_is_joined(v->db)) { /* they have left in between */
        status = lsm_close(v->db, err);
        v->db = NULL;
        return status;
    }
    if (status == LSM_OK)
        status = db_view_acquire(v->db, &v->view, &inner);
    if (status == LSM_OK) {
        v->result.is_live = true;
        v->result.sequence = v->view.sequence;
        return LSM_OK;
    }
    if (v->db != NULL)
        (void)lsm_close(v->db, NULL);
    v->db = NULL;
    if (status == LSM_CORRUPT || status == LSM_MISSING)
        return lsm_fail(
            err, LSM_BUSY,
            "'%s' is open, but cannot be joined, so its files cannot be told from those "
            "that are being made: %s; close it everywhere and verify it again",
            v->path, inner.message);
    status_copy(err, &inner);
    return status;
}

static lsm_status enter(struct verify *v, const struct inspect_live *live, bool *again,
                        lsm_error *err)
{
    *again = false;
    switch (live->state) {
    case SHM_PEEK_NOBODY:
        return LSM_OK;
    case SHM_PEEK_CHANGING:
        *again = true;
        return LSM_OK;
    case SHM_PEEK_ALONE:
        if (v->options.offline)
            return refuse(v, live, "open in", err);
        *again = true; /* it may be on its way to letting others in */
        return LSM_OK;
    case SHM_PEEK_HIDDEN:
        return lsm_fail(err, LSM_UNSUPPORTED,
                        "'%s' is open where it cannot be joined from here: %s", v->path,
                        live->why.message);
    case SHM_PEEK_SHARED:
        break;
    }
    if (v->options.offline)
        return refuse(v, live, "open in", err);
    lsm_status status = join(v, err);
    *again = status == LSM_OK && v->db == NULL;
    return status == LSM_OK && v->db != NULL ? tell_state(v, live, err) : status;
}

static lsm_status look(struct verify *v, bool *again, bool is_last, lsm_error *err)
{
    struct inspect_live *live = NULL;
    lsm_error inner = {.message = ""};
    lsm_status status = inspect_live_open(v->io, v->path, &live, &inner);
    *again = false;
    if (status == LSM_MISSING)
        return LSM_OK; /* whether there is a database is said by the identity */
    if (status != LSM_OK) {
        status_copy(err, &inner);
        return status;
    }
    status = enter(v, live, again, err);
    if (status == LSM_OK && *again && is_last)
        status = refuse(v, live,
                        live->state == SHM_PEEK_ALONE ? "open, and lets nobody in, in"
                                                      : "being opened or closed by",
                        err);
    inspect_live_free(live);
    return status;
}

lsm_status verify_shared(struct verify *v, lsm_error *err)
{
    bool again = true;
    lsm_status status = LSM_OK;
    verify_pass(v, 8, 0);
    if (v->is_held)
        return LSM_OK;
    for (unsigned i = 0; status == LSM_OK && again && i < CHANGING_TRIES; i++) {
        if (i > 0)
            (void)nanosleep(&(struct timespec){.tv_nsec = CHANGING_WAIT_NS}, NULL);
        status = verify_progress(v, 0, err);
        if (status == LSM_OK)
            status = look(v, &again, i + 1 == CHANGING_TRIES, err);
    }
    return status;
}
