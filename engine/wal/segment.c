/*
 * A segment's header is durable before its file gets the name of a segment, so a file of that name
 * with a bad header is damage and never the trace of a crash.
 */
#include "engine/wal/segment.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"

#include <stdlib.h>

/* ---- the directory --------------------------------------------------------------------------- */

struct numbers {
    uint64_t **array;
    size_t *count;
    size_t capacity;
};

struct listing {
    struct segment_list *list;
    struct numbers segments, spares;
};

static lsm_status add_number(struct numbers *numbers, uint64_t number, lsm_error *err)
{
    if (*numbers->count == numbers->capacity) {
        size_t capacity = numbers->capacity == 0 ? 16 : 2 * numbers->capacity;
        uint64_t *larger = mem_resize(*numbers->array, capacity * sizeof *larger);
        if (larger == NULL)
            return lsm_fail_memory(err, capacity * sizeof *larger);
        *numbers->array = larger;
        numbers->capacity = capacity;
    }
    (*numbers->array)[(*numbers->count)++] = number;
    return LSM_OK;
}

static lsm_status visit_name(void *context, const char *name, lsm_error *err)
{
    struct listing *listing = context;
    enum file_kind kind;
    uint64_t number;
    if (!file_name_parse(name, &kind, &number))
        return LSM_OK;
    if (kind == FILE_STAGE)
        listing->list->has_stage = true;
    if ((kind != FILE_WAL && kind != FILE_WAL_SPARE) || number == 0 || number == UINT64_MAX)
        return LSM_OK;
    if (number >= listing->list->next_number)
        listing->list->next_number = number + 1;
    return add_number(kind == FILE_WAL ? &listing->segments : &listing->spares, number, err);
}

static int compare_numbers(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

lsm_status segment_list_read(struct io_dir *dir, struct segment_list *list, lsm_error *err)
{
    struct segment_list found = {.next_number = 1};
    struct listing listing = {
        .list = &found,
        .segments = {&found.segments, &found.segment_count, 0},
        .spares = {&found.spares, &found.spare_count, 0},
    };
    lsm_status status = io_dir_list(dir, visit_name, &listing, err);
    if (status != LSM_OK) {
        segment_list_release(&found);
        return status;
    }
    if (found.segment_count > 1)
        qsort(found.segments, found.segment_count, sizeof *found.segments, compare_numbers);
    if (found.spare_count > 1)
        qsort(found.spares, found.spare_count, sizeof *found.spares, compare_numbers);
    *list = found;
    return LSM_OK;
}

void segment_list_release(struct segment_list *list)
{
    mem_free(list->segments);
    mem_free(list->spares);
    *list = (struct segment_list){0};
}

lsm_status segment_open(const struct segment_dir *dir, enum file_kind kind, uint64_t number,
                        unsigned flags, struct io_file **file, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    return io_file_open(dir->dir, file_name_make(kind, number, name), flags | IO_FILE_DIRECT,
                        dir->mode, file, err);
}

/* ---- headers --------------------------------------------------------------------------------- */

static lsm_status header_failure(const char *name, enum log_segment_fault fault, lsm_error *err)
{
    lsm_status status = fault == LOG_SEGMENT_NEWER ? LSM_NEWER_FORMAT : LSM_CORRUPT;
    const char *advice = fault == LOG_SEGMENT_NEWER ? "use a newer version of the library"
                                                    : "run lsm-verify on the database";
    status = lsm_fail(err, status, "the header of log segment '%s' at offset 0 is bad: %s; %s",
                      name, log_segment_fault_text(fault), advice);
    status_place(err, name, 0);
    return status;
}

static lsm_status check_file_size(struct io_file *file, uint64_t size, lsm_error *err)
{
    uint64_t found;
    lsm_status status = io_file_size(file, &found, err);
    if (status != LSM_OK || found >= size)
        return status;
    const char *name = io_file_name(file);
    status = lsm_fail(err, LSM_CORRUPT,
                      "log segment '%s' has %" PRIu64 " bytes, and should have %" PRIu64
                      ": its end was cut off, or the segment that follows it is missing",
                      name, found, size);
    status_place(err, name, found);
    status_numbers(err, size, found);
    return status;
}

uint64_t segment_sealed_size(const struct log_segment_header *header, uint64_t end)
{
    uint64_t size = end - header->start + (IO_ALIGNMENT - 1);
    size = LOG_SEGMENT_HEADER + (size - size % IO_ALIGNMENT);
    return size < header->size ? size : header->size;
}

lsm_status segment_read_header(const struct segment_dir *dir, uint64_t number, uint64_t end,
                               struct log_segment_header *header, lsm_error *err)
{
    struct io_file *file = NULL;
    uint8_t *block = NULL;
    struct log_segment_header found;
    enum log_segment_fault fault;

    lsm_status status = segment_open(dir, FILE_WAL, number, 0, &file, err);
    if (status != LSM_OK)
        goto out;
    block = mem_alloc_aligned(IO_ALIGNMENT, LOG_SEGMENT_HEADER);
    if (block == NULL) {
        status = lsm_fail_memory(err, LOG_SEGMENT_HEADER);
        goto out;
    }
    status = io_file_read_exact(file, block, LOG_SEGMENT_HEADER, 0, err);
    if (status != LSM_OK)
        goto out;
    fault = log_segment_decode(block, dir->uuid, number, &found);
    if (fault != LOG_SEGMENT_OK) {
        status = header_failure(io_file_name(file), fault, err);
        goto out;
    }
    status = check_file_size(
        file, end == SEGMENT_NOT_SEALED ? found.size : segment_sealed_size(&found, end), err);
    if (status == LSM_OK)
        *header = found;
out:
    mem_free(block);
    io_file_close(file);
    return status;
}

/* ---- chains ---------------------------------------------------------------------------------- */

static lsm_status missing_segment(const struct log_segment_header *next, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    file_name_make(FILE_WAL, next->previous, name);
    lsm_status status = lsm_fail(err, LSM_CORRUPT,
                                 "log segment '%s' is missing: it holds the log from position "
                                 "%" PRIu64 " to %" PRIu64 ", which no table holds",
                                 name, next->previous_start, next->previous_end);
    status_place(err, name, 0);
    return status;
}

static lsm_status no_beginning(const struct log_segment_header *oldest, uint64_t from,
                               lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    file_name_make(FILE_WAL, oldest->number, name);
    lsm_status status = lsm_fail(err, LSM_CORRUPT,
                                 "the log begins with segment '%s' at position %" PRIu64
                                 ", and the tables hold it only up to %" PRIu64,
                                 name, oldest->start, from);
    status_place(err, name, 0);
    status_numbers(err, from, oldest->start);
    return status;
}

static lsm_status check_link(const struct log_segment_header *previous,
                             const struct log_segment_header *next, lsm_error *err)
{
    if (previous->start == next->previous_start)
        return LSM_OK;
    char name[FILE_NAME_SIZE];
    file_name_make(FILE_WAL, previous->number, name);
    lsm_status status = lsm_fail(err, LSM_CORRUPT,
                                 "log segment '%s' begins at position %" PRIu64 ", and at %" PRIu64
                                 " by the one that follows it",
                                 name, previous->start, next->previous_start);
    status_place(err, name, 0);
    status_numbers(err, next->previous_start, previous->start);
    return status;
}

static bool add_header(struct segment_chain *chain, size_t *capacity,
                       const struct log_segment_header *header)
{
    if (chain->count == *capacity) {
        size_t larger = *capacity == 0 ? 8 : 2 * *capacity;
        struct log_segment_header *headers = mem_resize(chain->headers, larger * sizeof *headers);
        if (headers == NULL)
            return false;
        chain->headers = headers;
        *capacity = larger;
    }
    chain->headers[chain->count++] = *header;
    return true;
}

static void reverse(struct segment_chain *chain)
{
    for (size_t i = 0, j = chain->count; i + 1 < j; i++) {
        struct log_segment_header other = chain->headers[--j];
        chain->headers[j] = chain->headers[i];
        chain->headers[i] = other;
    }
}

/* The header of the segment before `next`, of which the log from `from` on needs something, or (not
 * `needed`) nothing. *found: there is one. */
static lsm_status previous_header(const struct segment_dir *dir,
                                  const struct log_segment_header *next, bool needed,
                                  struct log_segment_header *header, bool *found, lsm_error *err)
{
    lsm_status status = segment_read_header(dir, next->previous, next->start, header, err);
    if (status == LSM_OK)
        status = check_link(header, next, err);
    *found = status == LSM_OK;
    if (status == LSM_MISSING && needed)
        return missing_segment(next, err);
    if (!needed && (status == LSM_MISSING || status == LSM_CORRUPT || status == LSM_NEWER_FORMAT))
        return LSM_OK;
    return status;
}

lsm_status segment_chain_read(const struct segment_dir *dir, uint64_t newest, uint64_t from,
                              bool all, struct segment_chain *chain, lsm_error *err)
{
    struct segment_chain read = {0};
    size_t capacity = 0;
    struct log_segment_header header;
    bool found = true;
    lsm_status status = segment_read_header(dir, newest, SEGMENT_NOT_SEALED, &header, err);
    while (status == LSM_OK && found) {
        if (!add_header(&read, &capacity, &header)) {
            status = lsm_fail_memory(err, 2 * capacity * sizeof header);
            break;
        }
        bool needed = header.start > from;
        if (!needed && !all)
            break;
        if (header.previous == 0) {
            status = needed ? no_beginning(&header, from, err) : LSM_OK;
            break;
        }
        struct log_segment_header next = header;
        status = previous_header(dir, &next, needed, &header, &found, err);
    }
    if (status != LSM_OK) {
        segment_chain_release(&read);
        return status;
    }
    reverse(&read);
    *chain = read;
    return LSM_OK;
}

void segment_chain_release(struct segment_chain *chain)
{
    mem_free(chain->headers);
    *chain = (struct segment_chain){0};
}

/* ---- new files ------------------------------------------------------------------------------- */

/* The size comes last: a spare that has it has its beginning reserved, too. */
lsm_status segment_spare_make(const struct segment_dir *dir, uint64_t number, uint64_t size,
                              uint64_t reserved, struct segment_spare *spare, lsm_error *err)
{
    struct segment_spare made = {.number = number, .size = size};
    lsm_status status = segment_open(dir, FILE_WAL_SPARE, number,
                                     IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_NEW, &made.file, err);
    if (status != LSM_OK)
        return status;
    STEP("log file: made");
    status = io_file_allocate(made.file, 0, reserved < size ? reserved : size, err);
    STEP("log file: reserved");
    if (status == LSM_OK && reserved < size)
        status = io_file_truncate(made.file, size, err);
    if (status == LSM_OK)
        *spare = made;
    else
        segment_spare_discard(dir, &made);
    return status;
}

void segment_spare_discard(const struct segment_dir *dir, struct segment_spare *spare)
{
    char name[FILE_NAME_SIZE];
    io_file_close(spare->file);
    spare->file = NULL;
    /* One that stays is removed by the next open. */
    (void)io_dir_unlink(dir->dir, file_name_make(FILE_WAL_SPARE, spare->number, name), NULL, NULL);
}
