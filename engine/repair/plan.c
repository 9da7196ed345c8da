/* The lists of what is wrong, what will be done, and what is lost. */
#include "engine/repair/repair_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool make_room(void **array, size_t *room, size_t count, size_t element)
{
    if (count < *room)
        return true;
    size_t wanted = *room == 0 ? 16 : 2 * *room;
    void *grown = mem_resize(*array, wanted * element);
    if (grown == NULL)
        return false;
    *array = grown;
    *room = wanted;
    return true;
}

struct repair_step repair_step_of(enum repair_part part, uint64_t number, enum finding_id id,
                                  const char *file)
{
    struct repair_step step = {.part = part, .number = number, .id = id, .offset = LSM_NO_OFFSET};
    if (file != NULL)
        snprintf(step.file, sizeof step.file, "%s", file);
    return step;
}

lsm_status repair_add_step(struct repair *r, const struct repair_step *step, const char *problem,
                           const char *action, lsm_error *err)
{
    if (!make_room((void **)&r->steps, &r->step_room, r->step_count, sizeof *r->steps))
        return lsm_fail_memory(err, 2 * r->step_room * sizeof *r->steps);
    struct repair_step *s = &r->steps[r->step_count];
    *s = *step;
    s->problem = mem_copy_text(problem);
    s->action = mem_copy_text(action);
    r->step_count++;
    return s->problem == NULL || s->action == NULL ? lsm_fail_memory(err, strlen(problem)) : LSM_OK;
}

lsm_status repair_add_patch(struct repair *r, const struct repair_patch *patch, lsm_error *err)
{
    if (!make_room((void **)&r->patches, &r->patch_room, r->patch_count, sizeof *r->patches))
        return lsm_fail_memory(err, 2 * r->patch_room * sizeof *r->patches);
    struct repair_patch *p = &r->patches[r->patch_count];
    *p = *patch;
    if (patch->bytes != NULL) {
        p->bytes = mem_alloc(patch->size);
        if (p->bytes == NULL)
            return lsm_fail_memory(err, patch->size);
        memcpy(p->bytes, patch->bytes, patch->size);
    }
    r->patch_count++;
    return LSM_OK;
}

void repair_cut_plan(struct repair *r, size_t steps, size_t patches)
{
    for (; r->step_count > steps; r->step_count--) {
        mem_free(r->steps[r->step_count - 1].problem);
        mem_free(r->steps[r->step_count - 1].action);
    }
    for (; r->patch_count > patches; r->patch_count--)
        mem_free(r->patches[r->patch_count - 1].bytes);
}

/* Goes the range on where this one ends, in the file and in the order of keys? */
static bool continues(const struct repair_loss *l, const struct repair_loss *next, lsm_slice first,
                      lsm_slice last)
{
    return l->kinds == next->kinds && l->has_cf && next->has_cf && l->cf == next->cf &&
           l->file[0] != '\0' && strcmp(l->file, next->file) == 0 && l->length > 0 &&
           next->length > 0 && l->offset != LSM_NO_OFFSET &&
           l->offset + l->length == next->offset && (l->records > 0) == (next->records > 0) &&
           !l->last_open && !next->first_open &&
           (l->first_open || slice_compare(buffer_slice(&l->first), first) <= 0) &&
           slice_compare(first, buffer_slice(&l->last)) <= 0 &&
           (next->last_open || slice_compare(buffer_slice(&l->last), last) <= 0);
}

/* Neighbours are told as one. */
static lsm_status join(struct repair_loss *l, const struct repair_loss *next, lsm_slice last,
                       lsm_error *err)
{
    bool has_sequences = l->max_sequence > 0 && next->max_sequence > 0;
    l->length += next->length;
    l->records += next->records;
    l->last_open = next->last_open;
    l->min_sequence = !has_sequences                         ? 0
                      : next->min_sequence < l->min_sequence ? next->min_sequence
                                                             : l->min_sequence;
    l->max_sequence = !has_sequences                         ? 0
                      : next->max_sequence > l->max_sequence ? next->max_sequence
                                                             : l->max_sequence;
    if (next->last_open)
        buffer_clear(&l->last);
    else if (!buffer_assign(&l->last, last))
        return lsm_fail_memory(err, last.size);
    return LSM_OK;
}

lsm_status repair_add_loss(struct repair *r, const struct repair_loss *loss, lsm_slice first,
                           lsm_slice last, lsm_error *err)
{
    struct repair_loss *before = r->loss_count == 0 ? NULL : &r->losses[r->loss_count - 1];
    if (before != NULL && continues(before, loss, first, last))
        return join(before, loss, last, err);
    if (!make_room((void **)&r->losses, &r->loss_room, r->loss_count, sizeof *r->losses))
        return lsm_fail_memory(err, 2 * r->loss_room * sizeof *r->losses);
    struct repair_loss *l = &r->losses[r->loss_count++];
    *l = *loss;
    l->first = l->last = (struct buffer){0};
    if (!l->first_open)
        buffer_append(&l->first, first.data, first.size);
    if (!l->last_open)
        buffer_append(&l->last, last.data, last.size);
    return l->first.failed || l->last.failed ? lsm_fail_memory(err, first.size + last.size)
                                             : LSM_OK;
}

const char *repair_family_name(const struct repair *r, uint32_t cf)
{
    for (size_t i = 0; i < r->state.snapshot.created_count; i++) {
        if (r->state.snapshot.created[i].id == cf)
            return r->state.snapshot.created[i].name;
    }
    return NULL;
}

void repair_tell(struct repair *r, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (r->options->on_done != NULL && !r->is_rehearsal)
        r->options->on_done(r->options->context, text);
}

/* ---- showing --------------------------------------------------------------------------------- */

static bool was_told(const struct repair *r)
{
    return r->round < r->told_rounds;
}

/* A step that is left out takes with it what it belongs to. */
static lsm_status refuse(struct repair *r, const struct repair_step *s, lsm_error *err)
{
    r->result.is_damage_left = true;
    switch (s->part) {
    case REPAIR_TABLE:
        for (size_t i = 0; i < r->state.snapshot.added_count; i++) {
            if (r->tables[i].meta.number == s->number)
                r->tables[i].is_refused = true;
        }
        return LSM_OK;
    case REPAIR_BLOB:
        for (size_t i = 0; i < r->blob_count; i++) {
            if (r->blobs[i].meta.number == s->number)
                r->blobs[i].is_refused = true;
        }
        return LSM_OK;
    case REPAIR_LOG:
        r->log_is_refused = true;
        return LSM_OK;
    case REPAIR_CURRENT:
    case REPAIR_MANIFEST:
    case REPAIR_PLANT:
        break;
    }
    return lsm_fail(err, LSM_CANCELLED,
                    "the manifest of '%s' is damaged: without putting it right nothing can be done",
                    r->path);
}

static lsm_status show_steps(struct repair *r, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < r->step_count; i++) {
        const struct repair_step *s = &r->steps[i];
        lsm_repair_step step = {.struct_size = sizeof step,
                                .round = r->round + 1,
                                .id = finding_kind_of(s->id)->id,
                                .severity = finding_kind_of(s->id)->severity,
                                .file = s->file[0] == '\0' ? NULL : s->file,
                                .offset = s->offset,
                                .length = s->length,
                                .problem = s->problem,
                                .action = s->action,
                                .is_exact = s->is_exact};
        r->result.step_count++;
        r->result.exact_count += s->is_exact;
        if (r->options->on_step != NULL && !was_told(r) &&
            !r->options->on_step(r->options->context, &step))
            status = refuse(r, s, err);
    }
    return status;
}

static void show_losses(struct repair *r)
{
    for (size_t i = 0; i < r->loss_count; i++) {
        const struct repair_loss *l = &r->losses[i];
        lsm_loss loss = {.struct_size = sizeof loss,
                         .round = r->round + 1,
                         .kinds = l->kinds,
                         .has_cf = l->has_cf,
                         .cf_id = l->cf,
                         .cf_name = l->has_cf ? repair_family_name(r, l->cf) : NULL,
                         .first_open = l->first_open,
                         .last_open = l->last_open,
                         .first = buffer_slice(&l->first),
                         .last = buffer_slice(&l->last),
                         .records = l->records,
                         .min_sequence = l->min_sequence,
                         .max_sequence = l->max_sequence,
                         .file = l->file[0] == '\0' ? NULL : l->file,
                         .offset = l->offset,
                         .length = l->length};
        r->result.records_lost += l->records;
        r->result.loss_count += l->kinds != LSM_LOSS_UNSEEN;
        if (r->options->on_loss != NULL && !was_told(r))
            r->options->on_loss(r->options->context, &loss);
    }
    r->result.is_data_lost = r->result.loss_count > 0;
}

/* What was planned is not done. What earlier rounds did stays, and so does what they cost. */
static void take_back_plan(struct repair *r, const lsm_repair_result *before)
{
    r->result.is_damage_left = true;
    if (!r->result.is_changed)
        return;
    r->result.loss_count = before->loss_count;
    r->result.records_lost = before->records_lost;
    r->result.is_data_lost = before->is_data_lost;
}

static lsm_status ask(struct repair *r, lsm_error *err)
{
    const lsm_repair_options *o = r->options;
    if (o->only_exact && r->result.exact_count < r->result.step_count)
        return lsm_fail(err, LSM_CANCELLED,
                        "'%s' has damage that cannot be corrected exactly, which is left as it is",
                        r->path);
    if (o->on_plan != NULL && !o->dry_run && !r->is_rehearsal &&
        !o->on_plan(o->context, &r->result))
        return lsm_fail(err, LSM_CANCELLED, "the %s of '%s' was not wanted",
                        r->result.is_changed ? "rest of the repair" : "repair", r->path);
    return LSM_OK;
}

lsm_status repair_show_plan(struct repair *r, lsm_error *err)
{
    lsm_repair_result before = r->result;
    lsm_status status = show_steps(r, err);
    if (r->round == 0 || r->step_count > 0) /* told already, when nothing more is done about it */
        show_losses(r);
    if (r->step_count > 0)
        r->result.round_count = r->round + 1;
    if (status == LSM_OK && r->step_count > 0)
        status = ask(r, err);
    if (status != LSM_OK)
        take_back_plan(r, &before);
    return status;
}

void repair_plan_release(struct repair *r)
{
    repair_cut_plan(r, 0, 0);
    for (size_t i = 0; i < r->loss_count; i++) {
        buffer_release(&r->losses[i].first);
        buffer_release(&r->losses[i].last);
    }
    mem_free(r->steps);
    mem_free(r->patches);
    mem_free(r->losses);
    mem_free(r->contradictions);
}
