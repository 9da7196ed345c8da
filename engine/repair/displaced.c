/*
 * Table files that got the names of others, as when somebody copies files by hand: a footer says
 * which table it belongs to. One is taken for what it says where the file of the right name is
 * missing, or is another one itself.
 */
#include "engine/repair/repair_private.h"

#include <stdlib.h>
#include <string.h>

/* The number that a sound footer of this database says; 0: there is none. */
static uint64_t number_of_page(const struct repair *r, const uint8_t *page, uint64_t offset,
                               uint64_t file_size)
{
    struct table_footer footer;
    struct table_problem problem;
    uint64_t number = bytes_get_u64(page + 32);
    bool is_sound = table_footer_decode(page, offset, file_size, r->walk.uuid, number, &footer,
                                        &problem) == LSM_OK;
    return is_sound && number < REPAIR_MAX_NUMBER ? number : 0;
}

/* 0: neither footer is sound, or one says that it is where it should be. */
static uint64_t other_number(const struct repair *r, const struct walk_file *f)
{
    uint8_t pages[TABLE_FOOTER_COUNT * TABLE_PAGE_SIZE];
    struct io_file *file = NULL;
    uint64_t size = f->entry.size, other = 0;
    if (size < TABLE_MIN_FILE_SIZE || io_file_open(r->dir, f->text, 0, 0, &file, NULL) != LSM_OK)
        return 0;
    for (size_t i = 0; i < TABLE_FOOTER_COUNT; i++) {
        uint64_t offset = table_footer_offset(size, i);
        uint8_t *page = pages + i * TABLE_PAGE_SIZE;
        if (io_file_read_exact(file, page, TABLE_PAGE_SIZE, offset, NULL) != LSM_OK)
            continue;
        uint64_t number = number_of_page(r, page, offset, size);
        if (number != 0)
            other = number;
        if (number == f->number)
            break;
    }
    io_file_close(file);
    return other == f->number ? 0 : other;
}

static int compare_displaced(const void *left, const void *right)
{
    const struct repair_displaced *a = left, *b = right;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return (a->file > b->file) - (a->file < b->file);
}

static bool is_displaced(const struct repair_displaced *list, size_t count, uint64_t file)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i].file == file)
            return true;
    }
    return false;
}

/* Each table once, and only where the file of its own name is none of it. */
static lsm_status choose(struct repair *r, lsm_error *err)
{
    struct repair_displaced *list = (struct repair_displaced *)(void *)r->displaced.data;
    size_t count = r->displaced.size / sizeof *list, kept = 0;
    if (count > 1)
        qsort(list, count, sizeof *list, compare_displaced);
    bool *is_wanted = mem_alloc_zeroed(count + 1);
    if (is_wanted == NULL)
        return lsm_fail_memory(err, count + 1);
    for (size_t i = 0; i < count; i++) {
        bool is_first = i == 0 || list[i - 1].number != list[i].number;
        is_wanted[i] = is_first && (walk_dir_find(&r->list, FILE_TABLE, list[i].number) == NULL ||
                                    is_displaced(list, count, list[i].number));
    }
    for (size_t i = 0; i < count; i++) {
        if (is_wanted[i])
            list[kept++] = list[i];
    }
    r->displaced.size = kept * sizeof *list;
    mem_free(is_wanted);
    return LSM_OK;
}

lsm_status repair_find_displaced(struct repair *r, lsm_error *err)
{
    for (size_t i = 0; i < r->list.count; i++) {
        const struct walk_file *f = &r->list.files[i];
        if (f->name != WALK_NAME_OURS || f->kind != FILE_TABLE || !walk_file_is_plain(f))
            continue;
        struct repair_displaced d = {.number = other_number(r, f), .file = f->number};
        if (d.number != 0)
            buffer_append(&r->displaced, &d, sizeof d);
    }
    if (r->displaced.failed)
        return lsm_fail_memory(err, r->displaced.size);
    return choose(r, err);
}

uint64_t repair_file_of_table(const struct repair *r, uint64_t number)
{
    const struct repair_displaced *list =
        (const struct repair_displaced *)(const void *)r->displaced.data;
    size_t low = 0, limit = r->displaced.size / sizeof *list;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (list[middle].number < number)
            low = middle + 1;
        else
            limit = middle;
    }
    bool is_there = low < r->displaced.size / sizeof *list && list[low].number == number;
    return is_there ? list[low].file : number;
}
