/*
 * What other processes applied: reading it after its publication, and bringing to an end what a
 * dead one began.
 *
 * Edits are read from the manifest behind the set's own place and built one upon the other; only
 * the last version is installed, so that no reader meets one in between. When the manifest has
 * been changed for another, the snapshot at the new one's head is compared with the current
 * version and the difference is applied like an edit. Either way all that stayed is shared.
 *
 * Behind the published end a dead owner of the version lock may have left: nothing; a piece of a
 * frame; a whole frame, synced or not; a new manifest that CURRENT names or does not. The files
 * tell which. A manifest that CURRENT names is complete, and so is taken over; a whole frame is
 * written again, since a sync of the dead may have failed and left it marked clean, synced, and
 * taken over; anything else is cut off. Each step leaves a state that another taker can begin from.
 */
#include "engine/version/set_private.h"

#include "engine/base/step.h"

#include <assert.h>

/* ---- one step ---------------------------------------------------------------------------------
 */

/* A state that is being made, on top of the set's or of itself. */
struct ahead {
    struct live_version *version; /* owned; NULL: the current one */
    struct version_state state;
    struct frame_chain chain;
};

static struct ahead ahead_begin(const struct version_set *set)
{
    return (struct ahead){.state = set->state, .chain = set->manifest.chain};
}

static const struct version *ahead_version(const struct version_set *set, const struct ahead *a)
{
    return a->version == NULL ? &set->current->base : &a->version->base;
}

static void ahead_release(struct ahead *a)
{
    if (a->version != NULL)
        version_drop(&a->version->base);
    *a = (struct ahead){0};
}

static lsm_status ahead_build(struct version_set *set, struct ahead *a, struct version_edit *edit,
                              lsm_error *err)
{
    struct live_version *next = NULL;
    struct version_state state = a->state;
    version_state_apply(&state, edit);
    lsm_status status = version_resolve_stored(edit, err);
    if (status == LSM_OK)
        status = version_check_numbers(edit, &state, err);
    if (status == LSM_OK)
        status = version_build(ahead_version(set, a), edit, &set->pool, &next, err);
    if (status != LSM_OK)
        return status;
    if (a->version != NULL)
        version_drop(&a->version->base);
    a->version = next;
    a->state = state;
    return LSM_OK;
}

/* Decodes the frame into empty `edit`; one of a kind that may be skipped changes nothing. */
static lsm_status decode_frame(const struct frame *frame, struct version_edit *edit, lsm_error *err)
{
    if (frame->kind >= FRAME_OPTIONAL)
        return LSM_OK;
    if (frame->kind != FRAME_EDIT)
        return lsm_fail(err, LSM_NEWER_FORMAT, "it is of the unknown kind %u", frame->kind);
    lsm_status status = edit_decode(frame->payload, edit, err);
    if (status == LSM_OK && (edit->is_snapshot || frame->more > 0))
        status = lsm_fail(err, LSM_CORRUPT, "it is a snapshot, which belongs at a file's head");
    return status;
}

static lsm_status ahead_step(struct version_set *set, struct ahead *a, const struct frame *frame,
                             struct version_edit *edit, lsm_error *err)
{
    lsm_error own = {0};
    lsm_status status = decode_frame(frame, edit, &own);
    if (status == LSM_OK)
        status = ahead_build(set, a, edit, &own);
    if (status != LSM_OK) {
        const char *name = io_file_name(set->manifest.file);
        lsm_fail(err, status, "manifest '%s', edit %" PRIu64 " at offset %" PRIu64 ": %s", name,
                 frame->number, frame->offset, own.message);
        status_place(err, name, frame->offset);
    }
    return status;
}

/* Makes it the set's state. */
static void ahead_commit(struct version_set *set, struct ahead *a)
{
    set->manifest.chain = a->chain;
    set->state = a->state;
    version_raise(&set->last_sequence, a->state.last_sequence);
    version_raise(set->next_file_number, a->state.next_file_number);
    if (a->version != NULL)
        version_set_install(set, a->version);
    a->version = NULL;
}

/* ---- another manifest -------------------------------------------------------------------------
 */

/* Changes over to the manifest `next`, whose edits make `snapshot`, and takes it. The files that
 * this takes from the current version are the set's to remove when `is_owner`. */
static lsm_status change_over(struct version_set *set, struct manifest *next,
                              struct version_edit *snapshot, bool is_owner, lsm_error *err)
{
    struct version_edit diff = {0};
    struct ahead a = ahead_begin(set);
    a.chain = next->chain;
    lsm_status status = version_resolve_stored(snapshot, err);
    if (status == LSM_OK)
        status = version_diff(&set->current->base, snapshot, &diff, err);
    if (status == LSM_OK) {
        diff.next_cf = snapshot->next_cf;
        diff.next_file_number = snapshot->next_file_number;
        diff.last_sequence = snapshot->last_sequence;
        diff.has_log = snapshot->has_log;
        diff.log_position = snapshot->log_position;
        diff.log_chain = snapshot->log_chain;
        diff.clean = snapshot->clean;
        status = ahead_build(set, &a, &diff, err);
    }
    if (status == LSM_OK) {
        if (is_owner)
            version_mark_removed(&set->current->base, &diff, &a.version->base,
                                 next->chain.number - 1);
        manifest_close(&set->manifest);
        set->manifest = *next;
        *next = (struct manifest){0};
        ahead_commit(set, &a);
    }
    ahead_release(&a);
    edit_release(&diff);
    return status;
}

static lsm_status check_end(const struct manifest *m, const struct version_place *place,
                            lsm_error *err)
{
    if (m->chain.offset == place->offset && m->chain.number == place->frame_number &&
        m->chain.previous == place->chain)
        return LSM_OK;
    const char *name = io_file_name(m->file);
    lsm_fail(err, LSM_CORRUPT,
             "manifest '%s' was published up to edit %" PRIu64 " at offset %" PRIu64
             ", but its whole edits end with %" PRIu64 " at offset %" PRIu64,
             name, place->frame_number - 1, place->offset, m->chain.number - 1, m->chain.offset);
    status_place(err, name, m->chain.offset);
    status_numbers(err, place->offset, m->chain.offset);
    return LSM_CORRUPT;
}

static lsm_status open_published(struct version_set *set, const struct version_place *place,
                                 struct manifest *manifest, struct version_edit *snapshot,
                                 lsm_error *err)
{
    struct manifest m = {0};
    struct version_edit found = {0};
    lsm_status status = manifest_open(set->options.env, place->manifest_number, place->offset,
                                      !set->options.read_only, &m, &found, err);
    if (status == LSM_OK)
        status = check_end(&m, place, err);
    if (status != LSM_OK) {
        manifest_close(&m);
        edit_release(&found);
        return status;
    }
    *manifest = m;
    *snapshot = found;
    return LSM_OK;
}

static lsm_status refresh_from_other(struct version_set *set, const struct version_place *place,
                                     lsm_error *err)
{
    struct manifest next = {0};
    struct version_edit snapshot = {0};
    lsm_status status = open_published(set, place, &next, &snapshot, err);
    if (status == LSM_OK)
        status = change_over(set, &next, &snapshot, false, err);
    manifest_close(&next);
    edit_release(&snapshot);
    return status;
}

/* ---- the same manifest ------------------------------------------------------------------------
 */

static lsm_status follow_frames(struct version_set *set, struct ahead *a, lsm_slice bytes,
                                lsm_error *err)
{
    lsm_status status = LSM_OK;
    while (status == LSM_OK && bytes.size > 0) {
        struct frame frame;
        struct version_edit edit = {0};
        if (!frame_follow(&set->manifest.place, bytes, &a->chain, &frame)) {
            const char *name = io_file_name(set->manifest.file);
            status = lsm_fail(err, LSM_CORRUPT,
                              "manifest '%s' has no whole edit at offset %" PRIu64
                              ", although one was published",
                              name, a->chain.offset);
            status_place(err, name, a->chain.offset);
            break;
        }
        bytes = (lsm_slice){(const uint8_t *)bytes.data + frame.size, bytes.size - frame.size};
        status = ahead_step(set, a, &frame, &edit, err);
        edit_release(&edit);
    }
    return status;
}

static lsm_status refresh_from_tail(struct version_set *set, const struct version_place *place,
                                    lsm_error *err)
{
    struct buffer bytes = {0};
    struct ahead a = ahead_begin(set);
    lsm_status status = manifest_read_tail(&set->manifest, place->offset, &bytes, err);
    if (status == LSM_OK)
        status = follow_frames(set, &a, buffer_slice(&bytes), err);
    if (status == LSM_OK) {
        struct manifest reached = set->manifest;
        reached.chain = a.chain;
        status = check_end(&reached, place, err);
    }
    if (status == LSM_OK)
        ahead_commit(set, &a);
    ahead_release(&a);
    buffer_release(&bytes);
    return status;
}

/* ---- joining and following --------------------------------------------------------------------
 */

lsm_status version_set_attach(const struct version_options *options,
                              const struct version_place *place, struct version_set **set,
                              lsm_error *err)
{
    struct manifest manifest = {0};
    struct version_edit snapshot = {0};
    lsm_status status = LSM_OK;
    struct version_set *s = version_set_new(options);
    if (s == NULL)
        return lsm_fail_memory(err, sizeof *s);
    s->current = version_new_empty(&s->pool);
    if (s->current == NULL)
        status = lsm_fail_memory(err, sizeof *s->current);
    if (status == LSM_OK)
        status = open_published(s, place, &manifest, &snapshot, err);
    if (status == LSM_OK)
        status = change_over(s, &manifest, &snapshot, false, err);
    if (status == LSM_OK) {
        s->previous_number = place->previous_number;
        *set = s;
        s = NULL;
    }
    manifest_close(&manifest);
    edit_release(&snapshot);
    version_set_close(s);
    return status;
}

lsm_status version_set_refresh(struct version_set *set, const struct version_place *place,
                               lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (place->frame_number <= set->manifest.chain.number)
        return LSM_OK;
    if (place->manifest_number == set->manifest.place.file_number)
        status = refresh_from_tail(set, place, err);
    else
        status = refresh_from_other(set, place, err);
    if (status == LSM_OK)
        set->previous_number = place->previous_number;
    return status;
}

/* ---- the work of the dead ---------------------------------------------------------------------
 */

/* CURRENT names a manifest that was not published: takes its snapshot. What stands behind that is
 * looked at like the tail of any other. */
static lsm_status adopt_manifest(struct version_set *set, uint64_t number, lsm_error *err)
{
    const struct table_env *env = set->options.env;
    uint64_t published = set->manifest.place.file_number, before = set->previous_number;
    struct manifest next = {0};
    struct version_edit snapshot = {0};
    if (number < published)
        return lsm_fail(err, LSM_CORRUPT,
                        "CURRENT in '%s' names manifest %" PRIu64 ", but %" PRIu64
                        " was published already",
                        io_dir_path(env->dir), number, published);
    /* The dead owner may have renamed CURRENT without making that durable. */
    lsm_status status = io_dir_sync(env->dir, err);
    STEP("roll forward: directory synced");
    if (status == LSM_OK)
        status = manifest_open(env, number, MANIFEST_HEAD, true, &next, &snapshot, err);
    if (status == LSM_OK && next.chain.number <= set->manifest.chain.number)
        status = lsm_fail(
            err, LSM_CORRUPT,
            "manifest '%s' begins with edit %" PRIu64 ", but %" PRIu64 " was published already",
            io_file_name(next.file), next.chain.number - 1, set->manifest.chain.number - 1);
    if (status == LSM_OK)
        status = change_over(set, &next, &snapshot, true, err);
    if (status == LSM_OK) {
        set->previous_number = published;
        if (before != 0)
            dead_files_add(&set->dead, FILE_MANIFEST, before, 0, version_set_number(set));
    }
    manifest_close(&next);
    edit_release(&snapshot);
    return status;
}

/* Goes on in a new manifest, because the end of this one cannot be made known. */
static lsm_status leave_manifest(struct version_set *set, lsm_error *err)
{
    bool is_uncertain;
    lsm_error own = {0};
    lsm_status status =
        version_set_rotate_current(set, set->manifest.chain.number + 1, &is_uncertain, &own);
    if (status == LSM_OK)
        return LSM_OK;
    if (is_uncertain)
        return version_set_break(set, &own, err);
    status_copy(err, &own);
    return status;
}

static lsm_status cut_tail(struct version_set *set, lsm_error *err)
{
    struct manifest *m = &set->manifest;
    if (io_file_truncate(m->file, m->chain.offset, NULL) == LSM_OK &&
        io_file_sync(m->file, NULL) == LSM_OK)
        return LSM_OK;
    return leave_manifest(set, err);
}

/* Writes the frame's own bytes once more, which makes the sync cover them whatever was synced
 * before, successfully or not. */
static lsm_status make_frame_durable(struct manifest *m, const struct frame *frame,
                                     const void *bytes, lsm_error *err)
{
    lsm_status status = io_file_write(m->file, bytes, frame->size, frame->offset, err);
    STEP("roll forward: frame written");
    return status == LSM_OK ? io_file_sync(m->file, err) : status;
}

/* The frame cannot be made durable where it is: it goes into the snapshot of a new manifest. That
 * failing is no end, as the next attempt writes the frame again, unless CURRENT is in doubt. */
static lsm_status adopt_into_next(struct version_set *set, struct ahead *a, const lsm_error *first,
                                  lsm_error *err)
{
    bool is_uncertain;
    lsm_error own = {0};
    lsm_status status =
        version_set_rotate(set, &a->version->base, &a->state, a->chain.number, &is_uncertain, &own);
    if (status == LSM_OK) {
        a->state = set->state;
        a->chain = set->manifest.chain;
        return LSM_OK;
    }
    if (is_uncertain)
        return version_set_break(set, &own, err);
    status_copy(err, first);
    return first->status;
}

static lsm_status adopt_frame(struct version_set *set, const struct frame *frame,
                              const struct frame_chain *chain, const void *bytes, lsm_error *err)
{
    struct version_edit edit = {0};
    struct ahead a = ahead_begin(set);
    lsm_error first = {0};
    a.chain = *chain;
    lsm_status status = ahead_step(set, &a, frame, &edit, err);
    if (status == LSM_OK && make_frame_durable(&set->manifest, frame, bytes, &first) != LSM_OK)
        status = adopt_into_next(set, &a, &first, err);
    if (status == LSM_OK) {
        version_mark_removed(&set->current->base, &edit, ahead_version(set, &a),
                             a.chain.number - 1);
        ahead_commit(set, &a);
    }
    ahead_release(&a);
    edit_release(&edit);
    return status;
}

/* Adopts the whole frames behind the set's place, of which there is at most one when every owner
 * published what it applied, and cuts off the rest. */
static lsm_status adopt_tail(struct version_set *set, lsm_error *err)
{
    struct buffer bytes = {0};
    uint64_t number = set->manifest.place.file_number;
    lsm_status status = manifest_read_tail(&set->manifest, MANIFEST_WHOLE, &bytes, err);
    size_t at = 0;
    while (status == LSM_OK && at < bytes.size && set->manifest.place.file_number == number) {
        const uint8_t *rest = (const uint8_t *)bytes.data + at;
        struct frame_chain chain = set->manifest.chain;
        struct frame frame;
        if (!frame_follow(&set->manifest.place, LSM_SLICE(rest, bytes.size - at), &chain, &frame) ||
            frame.more > 0) {
            status = cut_tail(set, err);
            STEP("roll forward: tail cut");
            break;
        }
        status = adopt_frame(set, &frame, &chain, rest, err);
        at += frame.size;
    }
    buffer_release(&bytes);
    return status;
}

lsm_status version_set_roll_forward(struct version_set *set, const struct version_place *place,
                                    bool *adopted, lsm_error *err)
{
    const struct table_env *env = set->options.env;
    uint8_t uuid[TABLE_UUID_SIZE];
    uint64_t number = 0;
    lsm_status status = version_set_check_writable(set, err);
    if (status == LSM_OK)
        status = version_set_refresh(set, place, err);
    if (status == LSM_OK)
        status = version_read_current(env->io, env->dir, uuid, &number, err);
    if (status == LSM_OK && number != set->manifest.place.file_number)
        status = adopt_manifest(set, number, err);
    if (status == LSM_OK)
        status = adopt_tail(set, err);
    if (status == LSM_OK)
        *adopted = set->manifest.chain.number != place->frame_number;
    return status;
}
