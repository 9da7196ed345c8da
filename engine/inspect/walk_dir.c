/* See the header. */
#include "engine/inspect/walk_dir.h"

#include "engine/base/memory.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FIRST_ROOM ((size_t)64)

void walk_dir_release(struct walk_dir *list)
{
    for (size_t i = 0; i < list->count; i++)
        mem_free(list->files[i].text);
    mem_free(list->files);
    *list = (struct walk_dir){0};
}

/* Digits, then one of our endings; or one of our words; upper and lower case alike. */
static bool looks_like_ours(const char *name)
{
    static const char *const words[] = {"CURRENT", "LOCK", "STAGE"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcasecmp(name, words[i]) == 0)
            return true;
    }
    if (strncasecmp(name, "MANIFEST-", 9) == 0)
        name += 9;
    size_t digits = strspn(name, "0123456789");
    static const char *const endings[] = {"", ".sst", ".wal", ".spare", ".tmp"};
    for (size_t i = 0; digits > 0 && i < sizeof endings / sizeof *endings; i++) {
        if (strcasecmp(name + digits, endings[i]) == 0)
            return true;
    }
    return false;
}

static lsm_status add(struct walk_dir *list, struct walk_file file, lsm_error *err)
{
    if (list->count == WALK_DIR_MAX) {
        list->unlisted++;
        mem_free(file.text);
        return LSM_OK;
    }
    if (list->count == list->room) {
        size_t room = list->room == 0 ? FIRST_ROOM : list->room * 2;
        struct walk_file *grown = mem_resize(list->files, room * sizeof *grown);
        if (grown == NULL) {
            mem_free(file.text);
            return lsm_fail_memory(err, room * sizeof *grown);
        }
        list->files = grown;
        list->room = room;
    }
    list->files[list->count++] = file;
    return LSM_OK;
}

struct visit {
    struct io_dir *dir;
    struct walk_dir *list;
};

static lsm_status visit_name(void *context, const char *name, lsm_error *err)
{
    struct visit *v = context;
    struct walk_file file = {.name = WALK_NAME_FOREIGN};
    lsm_error inner;
    lsm_status status = io_dir_describe(v->dir, name, &file.entry, &inner);
    if (status == LSM_MISSING)
        return LSM_OK;
    if (status != LSM_OK) {
        status_copy(err, &inner);
        return status;
    }
    if (file_name_parse(name, &file.kind, &file.number))
        file.name = WALK_NAME_OURS;
    else if (looks_like_ours(name))
        file.name = WALK_NAME_ODD;
    file.text = mem_copy_text(name);
    return file.text == NULL ? lsm_fail_memory(err, strlen(name) + 1) : add(v->list, file, err);
}

static int compare(const void *a, const void *b)
{
    const struct walk_file *x = a, *y = b;
    return strcmp(x->text, y->text);
}

lsm_status walk_dir_read(struct io_dir *dir, struct walk_dir *list, lsm_error *err)
{
    struct walk_dir read = {0};
    struct visit v = {.dir = dir, .list = &read};
    lsm_status status = io_dir_describe(dir, NULL, &read.self, err);
    if (status == LSM_OK)
        status = io_dir_list(dir, visit_name, &v, err);
    if (status != LSM_OK) {
        walk_dir_release(&read);
        return status;
    }
    if (read.count > 0)
        qsort(read.files, read.count, sizeof *read.files, compare);
    *list = read;
    return LSM_OK;
}

const struct walk_file *walk_dir_find(const struct walk_dir *list, enum file_kind kind,
                                      uint64_t number)
{
    char name[FILE_NAME_SIZE];
    struct walk_file wanted = {.text = name};
    file_name_make(kind, number, name);
    return list->count == 0
               ? NULL
               : bsearch(&wanted, list->files, list->count, sizeof *list->files, compare);
}
