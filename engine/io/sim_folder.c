/* Names on the simulated disk: the durable ones, the current ones, and the operations between. */
#include "engine/io/sim_private.h"

#include "engine/base/memory.h"

#include <stdio.h>
#include <string.h>

/* ---- names ----------------------------------------------------------------------------------- */

static struct sim_name *find_name(const struct sim_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->entries[i].name, name) == 0)
            return &names->entries[i];
    return NULL;
}

struct sim_inode *sim_names_find(const struct sim_names *names, const char *name)
{
    const struct sim_name *found = find_name(names, name);
    return found != NULL ? found->inode : NULL;
}

int sim_names_set_locked(struct sim_disk *disk, struct sim_names *names, const char *name,
                         struct sim_inode *inode)
{
    struct sim_name *found = find_name(names, name);
    inode->reference_count++;
    if (found != NULL) {
        struct sim_inode *old = found->inode;
        found->inode = inode;
        sim_inode_drop_locked(disk, old);
        return 0;
    }
    void *entries = names->entries;
    int number = sim_grow(&entries, &names->capacity, names->count, sizeof(struct sim_name));
    names->entries = entries;
    if (number != 0) {
        sim_inode_drop_locked(disk, inode);
        return number;
    }
    struct sim_name *entry = &names->entries[names->count++];
    *entry = (struct sim_name){.inode = inode};
    snprintf(entry->name, sizeof entry->name, "%s", name);
    return 0;
}

bool sim_names_remove_locked(struct sim_disk *disk, struct sim_names *names, const char *name)
{
    struct sim_name *found = find_name(names, name);
    if (found == NULL)
        return false;
    struct sim_inode *inode = found->inode;
    *found = names->entries[--names->count];
    sim_inode_drop_locked(disk, inode);
    return true;
}

void sim_names_clear_locked(struct sim_disk *disk, struct sim_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        sim_inode_drop_locked(disk, names->entries[i].inode);
    mem_free(names->entries);
    *names = (struct sim_names){0};
}

int sim_names_copy_locked(struct sim_disk *disk, struct sim_names *to, const struct sim_names *from)
{
    struct sim_names copy = {0};
    for (size_t i = 0; i < from->count; i++) {
        int number =
            sim_names_set_locked(disk, &copy, from->entries[i].name, from->entries[i].inode);
        if (number != 0) {
            sim_names_clear_locked(disk, &copy);
            return number;
        }
    }
    sim_names_clear_locked(disk, to);
    *to = copy;
    return 0;
}

/* ---- folders --------------------------------------------------------------------------------- */

/* Length of a path without slashes at its end. */
static size_t path_length(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    return length;
}

struct sim_folder *sim_folder_find_locked(struct sim_disk *disk, const char *path)
{
    size_t length = path_length(path);
    for (struct sim_folder *f = disk->folders; f != NULL; f = f->next)
        if (!f->removed && strlen(f->path) == length && memcmp(f->path, path, length) == 0)
            return f;
    return NULL;
}

int sim_folder_make_locked(struct sim_disk *disk, const char *path, struct sim_folder **folder)
{
    struct sim_folder *f = mem_alloc_zeroed(sizeof *f);
    char *copy = mem_copy_text(path);
    if (f == NULL || copy == NULL) {
        mem_free(f);
        mem_free(copy);
        return ENOMEM;
    }
    copy[path_length(path)] = '\0';
    f->path = copy;
    f->next = disk->folders;
    disk->folders = f;
    *folder = f;
    return 0;
}

int sim_folder_move_locked(struct sim_folder *folder, const char *path)
{
    char *copy = mem_copy_text(path);
    if (copy == NULL)
        return ENOMEM;
    copy[path_length(path)] = '\0';
    mem_free(folder->path);
    folder->path = copy;
    return 0;
}

void sim_folder_forget_locked(struct sim_disk *disk, struct sim_folder *folder)
{
    for (size_t i = 0; i < folder->op_count; i++)
        sim_inode_drop_locked(disk, folder->ops[i].inode);
    folder->op_count = 0;
}

void sim_folder_free_locked(struct sim_disk *disk, struct sim_folder *folder)
{
    struct sim_folder **link = &disk->folders;
    while (*link != folder)
        link = &(*link)->next;
    *link = folder->next;
    sim_folder_forget_locked(disk, folder);
    for (size_t i = 0; i < folder->current.count; i++)
        folder->current.entries[i].inode->use_count--;
    sim_names_clear_locked(disk, &folder->current);
    sim_names_clear_locked(disk, &folder->durable);
    mem_free(folder->ops);
    mem_free(folder->path);
    mem_free(folder);
}

int sim_folder_sync_locked(struct sim_disk *disk, struct sim_folder *folder)
{
    int number = sim_names_copy_locked(disk, &folder->durable, &folder->current);
    if (number == 0)
        sim_folder_forget_locked(disk, folder);
    return number;
}

int sim_folder_record_locked(struct sim_folder *folder, enum sim_name_op_kind kind,
                             const char *from, const char *to, struct sim_inode *inode)
{
    void *ops = folder->ops;
    int number = sim_grow(&ops, &folder->op_capacity, folder->op_count, sizeof(struct sim_name_op));
    folder->ops = ops;
    if (number != 0)
        return number;
    struct sim_name_op *op = &folder->ops[folder->op_count++];
    *op = (struct sim_name_op){.kind = kind, .inode = inode};
    inode->reference_count++;
    snprintf(op->from, sizeof op->from, "%s", from);
    snprintf(op->to, sizeof op->to, "%s", to);
    return 0;
}

void sim_folder_withdraw_locked(struct sim_disk *disk, struct sim_folder *folder)
{
    sim_inode_drop_locked(disk, folder->ops[--folder->op_count].inode);
}
