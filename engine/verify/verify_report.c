/*
 * Telling. A damage that is found while nobody seems to have the database open is told only after a
 * look that this is still so: otherwise files change and vanish rightly.
 */
#include "engine/verify/verify_private.h"

#include "engine/base/memory.h"
#include "engine/shm/attach.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#define PROGRESS_NS UINT64_C(50000000)
#define TEXT_SIZE   512
#define NS_PER_S    UINT64_C(1000000000)
#define LONGEST_NAP UINT64_C(200000000) /* ns; so that cancelling is noticed */

const char *verify_family_name(const struct verify *v, uint32_t id)
{
    const struct version_edit *state = &v->replay.state; /* families are in order of id */
    size_t first = 0, limit = state->created_count;
    while (first < limit) {
        size_t middle = first + (limit - first) / 2;
        if (state->created[middle].id < id)
            first = middle + 1;
        else
            limit = middle;
    }
    return first < state->created_count && state->created[first].id == id
               ? state->created[first].name
               : NULL;
}

bool verify_wants_family(const struct verify *v, uint32_t id)
{
    if (v->options.family_count == 0)
        return true;
    const char *name = verify_family_name(v, id);
    for (size_t i = 0; name != NULL && i < v->options.family_count; i++) {
        if (strcmp(v->options.families[i], name) == 0)
            return true;
    }
    return false;
}

void verify_blame_meta(lsm_finding *f, const struct table_meta *meta)
{
    if (meta == NULL)
        return;
    finding_family(f, meta->cf, NULL);
    finding_range(f, meta->smallest, meta->largest);
}

lsm_status verify_go_on(struct verify *v, lsm_error *err)
{
    if (atomic_load_explicit(&v->is_cancelled, memory_order_relaxed))
        return lsm_fail(err, LSM_CANCELLED, "the verification of '%s' was cancelled", v->path);
    return LSM_OK;
}

bool verify_is_undisturbed(struct verify *v)
{
    char text[sizeof v->current_text];
    size_t size = 0;
    struct io_file *file = NULL;
    if (v->db != NULL || v->is_held)
        return true;
    if (shm_attach_look(v->io, v->dir, v->path, NULL) != LSM_OK)
        return false;
    if (io_file_open(v->dir, "CURRENT", 0, 0, &file, NULL) == LSM_OK &&
        io_file_read(file, text, sizeof text, 0, &size, NULL) != LSM_OK)
        size = 0;
    io_file_close(file);
    return size == v->current_size && memcmp(text, v->current_text, size) == 0;
}

static void note_first(struct verify *v, const lsm_finding *f)
{
    if (v->has_told_damage)
        return;
    v->has_told_damage = true;
    lsm_fail(&v->first_damage, LSM_CORRUPT, "%s%s%s", f->file == NULL ? "" : f->file,
             f->file == NULL ? "" : ": ", f->text);
    status_place(&v->first_damage, f->file == NULL ? "" : f->file, f->offset);
    if (f->has_numbers)
        status_numbers(&v->first_damage, f->expected, f->found);
}

static lsm_status tell_locked(struct verify *v, lsm_finding *f, lsm_error *err)
{
    if (v->is_stopped)
        return lsm_fail(err, LSM_CANCELLED, "the first damage was found");
    if (f->severity == LSM_DAMAGE && !verify_is_undisturbed(v)) {
        atomic_store(&v->came_in, true);
        return lsm_fail(err, LSM_BUSY,
                        "'%s' was opened while it was verified; verify it again while it is open, "
                        "or keep it closed",
                        v->path);
    }
    switch (f->severity) {
    case LSM_NOTE:
        v->result.notes++;
        break;
    case LSM_WARNING:
        v->result.warnings++;
        break;
    case LSM_DAMAGE:
        v->result.damages++;
        note_first(v, f);
        break;
    }
    if (v->options.finding != NULL && !v->options.finding(v->options.context, f)) {
        atomic_store(&v->is_cancelled, true);
        return verify_go_on(v, err);
    }
    v->is_stopped = v->options.first_error && f->severity == LSM_DAMAGE;
    return v->is_stopped ? lsm_fail(err, LSM_CANCELLED, "the first damage was found") : LSM_OK;
}

lsm_status verify_tell(struct verify *v, lsm_finding *f, lsm_error *err)
{
    if (f->has_cf && f->cf_name == NULL)
        f->cf_name = verify_family_name(v, f->cf_id);
    enum finding_id id = finding_parse(f->id);
    pthread_mutex_lock(&v->lock);
    lsm_status status = LSM_OK;
    if (id < FINDING_COUNT && v->ignored[id])
        v->result.ignored++;
    else
        status = tell_locked(v, f, err);
    if (id == FINDING_NEWER_FORMAT)
        v->result.has_newer_format = true;
    pthread_mutex_unlock(&v->lock);
    return status;
}

lsm_status verify_say(struct verify *v, lsm_finding *f, lsm_error *err, const char *format, ...)
{
    char text[TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    f->text = text;
    lsm_status status = verify_tell(v, f, err);
    f->text = finding_kind_of(finding_parse(f->id))->meaning; /* the other one ends here */
    return status;
}

void verify_unmeasured(struct verify *v, unsigned pass, const char *file, const char *format, ...)
{
    char text[TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&v->lock);
    v->result.unmeasured++;
    if (v->options.unmeasured != NULL)
        v->options.unmeasured(v->options.context, pass, file, text);
    pthread_mutex_unlock(&v->lock);
}

/* ---- progress -------------------------------------------------------------------------------- */

void verify_pass(struct verify *v, unsigned pass, uint64_t total)
{
    v->pass = pass;
    v->pass_total = total;
    v->told_ns = 0;
    atomic_store(&v->pass_done, 0);
    (void)verify_progress(v, 0, NULL); /* cancelling is noticed by the next one */
}

lsm_status verify_progress(struct verify *v, uint64_t done, lsm_error *err)
{
    uint64_t all = atomic_fetch_add_explicit(&v->pass_done, done, memory_order_relaxed) + done;
    if (v->options.progress == NULL)
        return verify_go_on(v, err);
    pthread_mutex_lock(&v->lock);
    uint64_t now = io_now_ns(v->io);
    if (v->told_ns == 0 || now - v->told_ns >= PROGRESS_NS || (done > 0 && all >= v->pass_total)) {
        v->told_ns = now;
        if (!v->options.progress(v->options.context, v->pass, finding_pass_name(v->pass),
                                 all < v->pass_total ? all : v->pass_total, v->pass_total))
            atomic_store(&v->is_cancelled, true);
    }
    pthread_mutex_unlock(&v->lock);
    return verify_go_on(v, err);
}

/* Sleeps until the bytes read so far are what the rate allows. */
static void keep_rate(struct verify *v, uint64_t bytes)
{
    uint64_t rate = v->options.rate;
    uint64_t due = bytes / rate * NS_PER_S + bytes % rate * NS_PER_S / rate;
    while (!atomic_load_explicit(&v->is_cancelled, memory_order_relaxed)) {
        uint64_t now = io_now_ns(v->io) - v->pace_began_ns;
        if (now >= due)
            return;
        uint64_t nap = due - now < LONGEST_NAP ? due - now : LONGEST_NAP;
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)nap}, NULL);
        if (verify_progress(v, 0, NULL) != LSM_OK)
            return;
    }
}

bool verify_pace(void *context, uint64_t bytes)
{
    struct verify *v = context;
    uint64_t all = atomic_fetch_add_explicit(&v->bytes_read, bytes, memory_order_relaxed) + bytes;
    if (verify_progress(v, v->pass == 4 ? bytes : 0, NULL) != LSM_OK)
        return false;
    if (v->options.rate != 0)
        keep_rate(v, all);
    return !atomic_load_explicit(&v->is_cancelled, memory_order_relaxed);
}
