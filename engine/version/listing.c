/* See the header. */
#include "engine/version/listing.h"

#include "engine/base/memory.h"

#include <stdlib.h>

#define FIRST_ROOM 64

void listing_release(struct listing *list)
{
    mem_free(list->files);
    *list = (struct listing){0};
}

lsm_status listing_add(struct listing *list, enum file_kind kind, uint64_t number, lsm_error *err)
{
    if (list->count == list->room) {
        size_t room = list->room == 0 ? FIRST_ROOM : list->room * 2;
        struct found_file *grown = mem_resize(list->files, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        list->files = grown;
        list->room = room;
    }
    list->files[list->count++] = (struct found_file){.kind = kind, .number = number};
    return LSM_OK;
}

static lsm_status visit(void *context, const char *name, lsm_error *err)
{
    struct found_file found;
    if (!file_name_parse(name, &found.kind, &found.number))
        return LSM_OK;
    return listing_add(context, found.kind, found.number, err);
}

lsm_status listing_read(struct listing *list, struct io_dir *dir, lsm_error *err)
{
    return io_dir_list(dir, visit, list, err);
}

static int compare_files(const void *a, const void *b)
{
    const struct found_file *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

void listing_sort(struct listing *list)
{
    if (list->count > 0)
        qsort(list->files, list->count, sizeof *list->files, compare_files);
}

bool listing_has(const struct listing *list, const struct found_file *file)
{
    return list->count > 0 &&
           bsearch(file, list->files, list->count, sizeof *list->files, compare_files) != NULL;
}
