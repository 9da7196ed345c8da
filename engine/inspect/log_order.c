/*
 * A segment says where it begins, and where the one before it began and ended. So one whose own
 * header is lost, or which is lost as a whole, is placed by its successor; the newest has none and
 * is placed by its first whole record.
 */
#include "engine/inspect/log_order.h"

#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

struct listing {
    struct log_order *order;
    size_t room;
};

static lsm_status visit_name(void *context, const char *name, lsm_error *err)
{
    struct listing *l = context;
    struct log_order *order = l->order;
    enum file_kind kind;
    uint64_t number;
    if (!file_name_parse(name, &kind, &number))
        return LSM_OK;
    if (kind == FILE_STAGE)
        order->has_stage = true;
    if ((kind != FILE_WAL && kind != FILE_WAL_SPARE) || number == 0 || number > UINT64_MAX / 2)
        return LSM_OK;
    if (number >= order->next_number)
        order->next_number = number + 1;
    if (kind != FILE_WAL)
        return LSM_OK;
    if (order->count == l->room) {
        size_t room = l->room == 0 ? 16 : 2 * l->room;
        struct log_stretch *grown = mem_resize(order->stretches, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        order->stretches = grown;
        l->room = room;
    }
    order->stretches[order->count++] = (struct log_stretch){.number = number};
    return LSM_OK;
}

static int compare_stretches(const void *left, const void *right)
{
    const struct log_stretch *a = left, *b = right;
    return (a->number > b->number) - (a->number < b->number);
}

/* ---- headers --------------------------------------------------------------------------------- */

static lsm_status decode_header(const struct walk_log_options *options, struct log_stretch *s,
                                uint8_t *block, lsm_error *err)
{
    s->fault = log_segment_decode(block, options->uuid, s->number, &s->header);
    s->state = s->fault == LOG_SEGMENT_OK ? LOG_HEADER_GOOD : LOG_HEADER_BAD;
    if (s->fault == LOG_SEGMENT_NEWER) {
        char name[FILE_NAME_SIZE];
        return lsm_fail(err, LSM_NEWER_FORMAT,
                        "log segment '%s' is of a newer format; use a newer version of the library",
                        file_name_make(FILE_WAL, s->number, name));
    }
    bool worth_it = s->fault == LOG_SEGMENT_NO_MAGIC || s->fault == LOG_SEGMENT_BAD_CHECKSUM ||
                    s->fault == LOG_SEGMENT_OTHER_DATABASE || s->fault == LOG_SEGMENT_OTHER_NUMBER;
    if (!worth_it || options->no_correcting)
        return LSM_OK;
    uint64_t seed = hash_place(options->uuid, s->number, 0);
    if (correct_log_segment(block, seed, &s->change) == CORRECT_DONE &&
        log_segment_decode(block, options->uuid, s->number, &s->header) == LOG_SEGMENT_OK)
        s->state = LOG_HEADER_CORRECTED;
    return LSM_OK;
}

static lsm_status read_header(const struct walk_log_options *options, struct log_stretch *s,
                              uint8_t *block, lsm_error *err)
{
    struct io_file *file = NULL;
    char name[FILE_NAME_SIZE];
    size_t got = 0;
    lsm_status status =
        io_file_open(options->dir, file_name_make(FILE_WAL, s->number, name), 0, 0, &file, err);
    if (status == LSM_MISSING || status == LSM_CORRUPT) { /* a symbolic link, a directory */
        s->state = LOG_HEADER_MISSING;
        return LSM_OK;
    }
    memset(block, 0, LOG_SEGMENT_HEADER);
    if (status == LSM_OK)
        status = io_file_read(file, block, LOG_SEGMENT_HEADER, 0, &got, err);
    io_file_close(file);
    if (status == LSM_OK)
        status = decode_header(options, s, block, err);
    if (status == LSM_OK && log_stretch_has_header(s)) {
        s->has_start = true;
        s->start = s->header.start;
    }
    return status;
}

static bool add_seed(struct log_order *order, uint64_t seed)
{
    for (size_t i = 0; i < order->seed_count; i++) {
        if (order->seeds[i] == seed)
            return true;
    }
    uint64_t *grown = mem_resize(order->seeds, (order->seed_count + 1) * sizeof *grown);
    if (grown == NULL)
        return false;
    order->seeds = grown;
    order->seeds[order->seed_count++] = seed;
    return true;
}

static lsm_status read_headers(const struct walk_log_options *options, struct log_order *order,
                               lsm_error *err)
{
    uint8_t *block = mem_alloc(LOG_SEGMENT_HEADER);
    lsm_status status = block == NULL ? lsm_fail_memory(err, LOG_SEGMENT_HEADER) : LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < order->count; i++) {
        struct log_stretch *s = &order->stretches[i];
        status = read_header(options, s, block, err);
        if (status != LSM_OK || !log_stretch_has_header(s))
            continue;
        if (!add_seed(order, log_record_seed(options->uuid, s->header.nonce)) ||
            !add_seed(order, log_record_seed(options->uuid, s->header.nonce_before)))
            status = lsm_fail_memory(err, (order->seed_count + 1) * sizeof *order->seeds);
    }
    mem_free(block);
    return status;
}

/* ---- the order ------------------------------------------------------------------------------- */

/* What a header says of the segment before it: it may be there, bad, or missing. */
static lsm_status place_previous(struct log_order *order, size_t index, lsm_error *err)
{
    struct log_segment_header next = order->stretches[index].header;
    if (next.previous == 0)
        return LSM_OK;
    size_t at = index;
    while (at > 0 && order->stretches[at - 1].number > next.previous)
        at--;
    struct log_stretch *before = at > 0 ? &order->stretches[at - 1] : NULL;
    if (before != NULL && before->number == next.previous) {
        if (!before->has_start) {
            before->has_start = true;
            before->start = next.previous_start;
        }
        return LSM_OK;
    }
    struct log_stretch missing = {.number = next.previous,
                                  .state = LOG_HEADER_MISSING,
                                  .has_start = true,
                                  .start = next.previous_start};
    struct log_stretch *grown =
        mem_resize(order->stretches, (order->count + 1) * sizeof *order->stretches);
    if (grown == NULL)
        return lsm_fail_memory(err, (order->count + 1) * sizeof *grown);
    order->stretches = grown;
    memmove(grown + at + 1, grown + at, (order->count - at) * sizeof *grown);
    grown[at] = missing;
    order->count++;
    return LSM_OK;
}

/* Segments end where the next one begins; positions that would go back are not believed. */
static void set_ends(struct log_order *order)
{
    uint64_t end = LOG_NOT_SEALED;
    for (size_t i = order->count; i > 0; i--) {
        struct log_stretch *s = &order->stretches[i - 1];
        if (s->has_start && s->start > end)
            s->has_start = false;
        s->end = end;
        if (s->has_start)
            end = s->start;
    }
}

lsm_status log_order_read(const struct walk_log_options *options, struct log_order *order,
                          lsm_error *err)
{
    struct log_order found = {.next_number = 1};
    struct listing listing = {.order = &found};
    lsm_status status = io_dir_list(options->dir, visit_name, &listing, err);
    if (status == LSM_OK && found.count > 1)
        qsort(found.stretches, found.count, sizeof *found.stretches, compare_stretches);
    if (status == LSM_OK)
        status = read_headers(options, &found, err);
    found.newest = found.count == 0 ? 0 : found.stretches[found.count - 1].number;
    size_t from_end = 0; /* places may be added in front */
    while (status == LSM_OK && from_end < found.count) {
        size_t index = found.count - 1 - from_end++;
        if (log_stretch_has_header(&found.stretches[index]))
            status = place_previous(&found, index, err);
    }
    if (status != LSM_OK) {
        log_order_release(&found);
        return status;
    }
    set_ends(&found);
    *order = found;
    return LSM_OK;
}

void log_order_release(struct log_order *order)
{
    mem_free(order->stretches);
    mem_free(order->seeds);
    *order = (struct log_order){0};
}
