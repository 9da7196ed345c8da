/*
 * The disk itself: inodes with their durable and current bytes, folders with their durable and
 * current names, the count of steps, faults, space, and cloning.
 *
 * An unsynced change is done to the current image at once and remembered as an operation; a sync
 * takes the pages that operations touched over into the durable image. Stores into a mapping cannot
 * be seen one by one: an inode that was mapped for writing compares whole pages instead.
 */
#include "engine/io/sim_private.h"

#include "engine/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A test tool may say so and end: these places have nobody to report to. */
static void must_fit(int number)
{
    if (number != 0) {
        fprintf(stderr, "the simulated disk ran out of memory\n");
        abort();
    }
}

int sim_grow(void **array, size_t *capacity, size_t count, size_t entry_size)
{
    if (count < *capacity)
        return 0;
    size_t larger = *capacity < 8 ? 8 : *capacity * 2;
    void *grown = mem_resize(*array, larger * entry_size);
    if (grown == NULL)
        return ENOMEM;
    *array = grown;
    *capacity = larger;
    return 0;
}

/* ---- operations ------------------------------------------------------------------------------ */

struct sim_op *sim_op_new(enum sim_op_kind kind, uint64_t offset, uint64_t size, const void *bytes)
{
    size_t payload = kind == SIM_OP_WRITE ? (size_t)size : 0;
    struct sim_op *op = mem_alloc(sizeof *op + payload);
    if (op == NULL)
        return NULL;
    atomic_init(&op->reference_count, 1);
    op->kind = kind;
    op->offset = offset;
    op->size = size;
    if (payload > 0)
        memcpy(op->bytes, bytes, payload);
    return op;
}

struct sim_op *sim_op_acquire(struct sim_op *op)
{
    atomic_fetch_add_explicit(&op->reference_count, 1, memory_order_relaxed);
    return op;
}

void sim_op_drop(struct sim_op *op)
{
    /* The last drop acquires what the others released before it frees. */
    if (op != NULL && atomic_fetch_sub_explicit(&op->reference_count, 1, memory_order_acq_rel) == 1)
        mem_free(op);
}

/* ---- steps, faults, space -------------------------------------------------------------------- */

static void stop_locked(struct sim_disk *disk)
{
    disk->stopped = true;
    for (struct sim_inode *i = disk->inodes; i != NULL; i = i->next)
        sim_inode_detach_locked(i);
}

bool sim_chance_locked(struct sim_disk *disk, unsigned of)
{
    return random_below(&disk->random, of) == 0;
}

/* Lets one write of a dead process land now and then. */
static void land_orphan_locked(struct sim_disk *disk)
{
    for (struct sim_inode *i = disk->inodes; i != NULL; i = i->next)
        for (size_t f = 0; f < i->flight_count; f++) {
            if (!i->flights[f].orphaned || !sim_chance_locked(disk, 4))
                continue;
            struct sim_op *op = sim_op_acquire(i->flights[f].op);
            sim_inode_land_locked(i, op);
            disk->orphan_count--;
            if (sim_inode_apply_locked(disk, i, op) != 0)
                sim_op_drop(op);
            return;
        }
}

int sim_step_locked(struct sim_disk *disk)
{
    if (disk->stop_at != 0 && disk->step_count + 1 >= disk->stop_at) {
        stop_locked(disk);
        return IO_ERRNO_OFF;
    }
    disk->step_count++;
    if (disk->orphan_count > 0)
        land_orphan_locked(disk);
    return 0;
}

int sim_fault_locked(struct sim_disk *disk, enum sim_fault_kind kind)
{
    struct sim_fault *fault = &disk->faults[kind];
    disk->operations[kind]++;
    if (!fault->armed)
        return 0;
    if (fault->count > 0) {
        fault->count--;
        return 0;
    }
    fault->armed = fault->sticky;
    return fault->os_errno;
}

int sim_space_locked(const struct sim_disk *disk, size_t pages)
{
    if (disk->capacity == 0)
        return 0;
    size_t used = 0;
    for (const struct sim_inode *i = disk->inodes; i != NULL; i = i->next)
        if (i->use_count > 0)
            used += i->current.used;
    size_t limit = (size_t)(disk->capacity / SIM_PAGE_SIZE);
    return used <= limit && pages <= limit - used ? 0 : ENOSPC;
}

uint64_t sim_step_count(const struct sim_disk *disk)
{
    struct sim_disk *d = (struct sim_disk *)(uintptr_t)disk;
    pthread_mutex_lock(&d->mutex);
    uint64_t count = d->step_count;
    pthread_mutex_unlock(&d->mutex);
    return count;
}

uint64_t sim_overlap_count(const struct sim_disk *disk)
{
    struct sim_disk *d = (struct sim_disk *)(uintptr_t)disk;
    pthread_mutex_lock(&d->mutex);
    uint64_t count = d->overlap_count;
    pthread_mutex_unlock(&d->mutex);
    return count;
}

void sim_stop_at(struct sim_disk *disk, uint64_t step)
{
    pthread_mutex_lock(&disk->mutex);
    disk->stop_at = step;
    if (step != 0 && step <= disk->step_count && !disk->stopped)
        stop_locked(disk);
    pthread_mutex_unlock(&disk->mutex);
}

bool sim_is_stopped(const struct sim_disk *disk)
{
    struct sim_disk *d = (struct sim_disk *)(uintptr_t)disk;
    pthread_mutex_lock(&d->mutex);
    bool stopped = d->stopped;
    pthread_mutex_unlock(&d->mutex);
    return stopped;
}

void sim_fail_after(struct sim_disk *disk, enum sim_fault_kind kind, uint64_t count, int os_errno,
                    bool sticky)
{
    pthread_mutex_lock(&disk->mutex);
    disk->faults[kind] =
        (struct sim_fault){.armed = true, .sticky = sticky, .count = count, .os_errno = os_errno};
    pthread_mutex_unlock(&disk->mutex);
}

void sim_fail_never(struct sim_disk *disk)
{
    pthread_mutex_lock(&disk->mutex);
    memset(disk->faults, 0, sizeof disk->faults);
    pthread_mutex_unlock(&disk->mutex);
}

uint64_t sim_operation_count(const struct sim_disk *disk, enum sim_fault_kind kind)
{
    struct sim_disk *d = (struct sim_disk *)(uintptr_t)disk; /* for its mutex */
    pthread_mutex_lock(&d->mutex);
    uint64_t count = d->operations[kind];
    pthread_mutex_unlock(&d->mutex);
    return count;
}

void sim_set_capacity(struct sim_disk *disk, uint64_t bytes)
{
    pthread_mutex_lock(&disk->mutex);
    disk->capacity = bytes;
    pthread_mutex_unlock(&disk->mutex);
}

/* ---- inodes ---------------------------------------------------------------------------------- */

struct sim_inode *sim_inode_new_locked(struct sim_disk *disk)
{
    struct sim_inode *inode = mem_alloc_zeroed(sizeof *inode);
    if (inode == NULL)
        return NULL;
    inode->reference_count = 1;
    inode->next = disk->inodes;
    disk->inodes = inode;
    return inode;
}

void sim_inode_forget_locked(struct sim_inode *inode)
{
    for (size_t i = 0; i < inode->op_count; i++)
        sim_op_drop(inode->ops[i]);
    inode->op_count = 0;
}

static void inode_free(struct sim_inode *inode)
{
    sim_inode_forget_locked(inode);
    for (size_t i = 0; i < inode->flight_count; i++)
        sim_op_drop(inode->flights[i].op);
    mem_free(inode->ops);
    mem_free(inode->flights);
    sim_memory_drop(inode->memory);
    sim_image_release(&inode->durable);
    sim_image_release(&inode->current);
    mem_free(inode);
}

void sim_inode_drop_locked(struct sim_disk *disk, struct sim_inode *inode)
{
    if (--inode->reference_count > 0)
        return;
    struct sim_inode **link = &disk->inodes;
    while (*link != inode)
        link = &(*link)->next;
    *link = inode->next;
    for (size_t i = 0; i < inode->flight_count; i++)
        disk->orphan_count -= inode->flights[i].orphaned;
    inode_free(inode);
}

void sim_memory_drop(struct sim_memory *memory)
{
    if (memory == NULL || --memory->reference_count > 0)
        return;
    mem_free(memory->bytes);
    mem_free(memory);
}

void sim_inode_fold_range_locked(struct sim_inode *inode, uint64_t offset, uint64_t size)
{
    if (inode->memory == NULL)
        return;
    uint64_t limit = inode->memory->size;
    if (limit > inode->current.size)
        limit = inode->current.size;
    if (offset < limit && size < limit - offset)
        limit = offset + size;
    for (uint64_t at = offset - offset % SIM_PAGE_SIZE; at < limit; at += SIM_PAGE_SIZE) {
        uint64_t left = inode->current.size - at;
        size_t step = left < SIM_PAGE_SIZE ? (size_t)left : SIM_PAGE_SIZE;
        const uint8_t *from = inode->memory->bytes + at;
        if (memcmp(sim_image_page(&inode->current, (size_t)(at / SIM_PAGE_SIZE)), from, step) == 0)
            continue;
        if (sim_image_missing(&inode->current, at, step) > 0) {
            fprintf(stderr, "a store into a hole of a mapping, at offset %" PRIu64 "\n", at);
            abort(); /* on a full disk it would have been SIGBUS */
        }
        must_fit(sim_image_write(&inode->current, at, from, step));
    }
}

void sim_inode_fold_locked(struct sim_inode *inode)
{
    sim_inode_fold_range_locked(inode, 0, UINT64_MAX);
}

void sim_inode_detach_locked(struct sim_inode *inode)
{
    sim_inode_fold_locked(inode);
    sim_memory_drop(inode->memory);
    inode->memory = NULL;
    inode->map_count = 0;
}

/* Shows a part of `current` in the mapped memory. */
static void show(struct sim_inode *inode, uint64_t offset, uint64_t size)
{
    if (inode->memory == NULL || offset >= inode->memory->size)
        return;
    size_t room = inode->memory->size - (size_t)offset;
    sim_image_read(&inode->current, offset, inode->memory->bytes + offset,
                   size < room ? (size_t)size : room);
}

/* Does `op` to the current image. */
static int change(struct sim_inode *inode, const struct sim_op *op)
{
    int number;
    switch (op->kind) {
    case SIM_OP_WRITE:
        number = sim_image_write(&inode->current, op->offset, op->bytes, (size_t)op->size);
        show(inode, op->offset, op->size);
        return number;
    case SIM_OP_TRUNCATE:
        sim_inode_fold_locked(inode);
        number = sim_image_resize(&inode->current, op->offset);
        show(inode, op->offset, UINT64_MAX);
        return number;
    case SIM_OP_ALLOCATE:
        return sim_image_allocate(&inode->current, op->offset, op->size);
    }
    return EINVAL;
}

/* The write of the part that still fits, as a real file system does before it says ENOSPC. */
static void write_some_locked(struct sim_disk *disk, struct sim_inode *inode,
                              const struct sim_op *op)
{
    uint64_t fits = SIM_PAGE_SIZE - op->offset % SIM_PAGE_SIZE;
    if (op->kind != SIM_OP_WRITE || fits >= op->size ||
        sim_image_missing(&inode->current, op->offset, fits) != 0)
        return;
    struct sim_op *part = sim_op_new(SIM_OP_WRITE, op->offset, fits, op->bytes);
    if (part != NULL && sim_inode_apply_locked(disk, inode, part) != 0)
        sim_op_drop(part);
}

int sim_inode_apply_locked(struct sim_disk *disk, struct sim_inode *inode, struct sim_op *op)
{
    if (op->kind != SIM_OP_TRUNCATE) {
        if (op->offset > SIM_FILE_MAX || op->size > SIM_FILE_MAX - op->offset)
            return EFBIG;
        size_t missing = sim_image_missing(&inode->current, op->offset, op->size);
        if (missing > 0 && sim_space_locked(disk, missing) != 0) {
            write_some_locked(disk, inode, op);
            return ENOSPC;
        }
    }
    void *ops = inode->ops;
    int number = sim_grow(&ops, &inode->op_capacity, inode->op_count, sizeof(struct sim_op *));
    inode->ops = ops;
    if (number != 0)
        return number;

    number = change(inode, op);
    if (number == 0)
        inode->ops[inode->op_count++] = op;
    return number;
}

/* Takes the pages that `op` touched over into the durable image. */
static int harden(struct sim_inode *inode, uint64_t offset, uint64_t size)
{
    size_t limit = inode->current.page_count > inode->durable.page_count
                       ? inode->current.page_count
                       : inode->durable.page_count;
    if (size < UINT64_MAX - offset && sim_page_limit(offset + size) < limit)
        limit = sim_page_limit(offset + size);
    int number = 0;
    for (size_t i = (size_t)(offset / SIM_PAGE_SIZE); i < limit && number == 0; i++)
        number = sim_image_share(&inode->durable, &inode->current, i);
    return number;
}

int sim_inode_sync_locked(struct sim_inode *inode)
{
    sim_inode_fold_locked(inode);
    int number = 0;
    if (inode->durable.size > inode->current.size || inode->stored)
        number = sim_image_resize(&inode->durable, inode->current.size);
    if (inode->stored && number == 0)
        number = harden(inode, 0, UINT64_MAX);
    for (size_t i = 0; i < inode->op_count && number == 0; i++) {
        const struct sim_op *op = inode->ops[i];
        number = harden(inode, op->offset, op->kind == SIM_OP_TRUNCATE ? UINT64_MAX : op->size);
    }
    if (number == 0)
        number = sim_image_resize(&inode->durable, inode->current.size);
    if (number != 0)
        return number;
    sim_inode_forget_locked(inode);
    inode->stored = inode->memory != NULL && inode->stored;
    return 0;
}

int sim_inode_fly_locked(struct sim_inode *inode, struct sim_op *op, const struct io *issuer)
{
    void *flights = inode->flights;
    int number =
        sim_grow(&flights, &inode->flight_capacity, inode->flight_count, sizeof(struct sim_flight));
    inode->flights = flights;
    if (number == 0)
        inode->flights[inode->flight_count++] =
            (struct sim_flight){.op = sim_op_acquire(op), .issuer = issuer};
    return number;
}

bool sim_inode_land_locked(struct sim_inode *inode, const struct sim_op *op)
{
    for (size_t i = 0; i < inode->flight_count; i++) {
        if (inode->flights[i].op != op)
            continue;
        sim_op_drop(inode->flights[i].op);
        inode->flights[i] = inode->flights[--inode->flight_count];
        return true;
    }
    return false;
}

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

/* ---- making, cloning, freeing ---------------------------------------------------------------- */

struct sim_disk *sim_disk_new(uint64_t seed)
{
    struct sim_disk *disk = mem_alloc_zeroed(sizeof *disk);
    if (disk == NULL)
        return NULL;
    if (pthread_mutex_init(&disk->mutex, NULL) != 0) {
        mem_free(disk);
        return NULL;
    }
    disk->random = random_seeded(seed);
    disk->epoch = 1;
    return disk;
}

void sim_disk_free(struct sim_disk *disk)
{
    if (disk == NULL)
        return;
    while (disk->folders != NULL)
        sim_folder_free_locked(disk, disk->folders);
    while (disk->inodes != NULL) { /* left by handles that were never closed */
        struct sim_inode *next = disk->inodes->next;
        inode_free(disk->inodes);
        disk->inodes = next;
    }
    mem_free(disk->contents);
    pthread_mutex_destroy(&disk->mutex);
    mem_free(disk);
}

static int clone_inode(struct sim_disk *clone, struct sim_inode *from)
{
    struct sim_inode *to = sim_inode_new_locked(clone);
    if (to == NULL)
        return ENOMEM;
    from->twin = to;
    sim_inode_fold_locked(from);
    to->stored = from->stored;
    int number = sim_image_copy(&to->durable, &from->durable);
    if (number == 0)
        number = sim_image_copy(&to->current, &from->current);
    if (number != 0)
        return number;
    to->ops = mem_alloc(from->op_count * sizeof(struct sim_op *));
    to->flights = mem_alloc(from->flight_count * sizeof(struct sim_flight));
    if (to->ops == NULL || to->flights == NULL)
        return ENOMEM;
    to->op_capacity = from->op_count;
    to->flight_capacity = from->flight_count;
    for (; to->op_count < from->op_count; to->op_count++)
        to->ops[to->op_count] = sim_op_acquire(from->ops[to->op_count]);
    for (; to->flight_count < from->flight_count; to->flight_count++) {
        to->flights[to->flight_count] = (struct sim_flight){
            .op = sim_op_acquire(from->flights[to->flight_count].op), .orphaned = true};
        clone->orphan_count++;
    }
    return 0;
}

static int clone_names(struct sim_disk *clone, struct sim_names *to, const struct sim_names *from)
{
    int number = 0;
    for (size_t i = 0; i < from->count && number == 0; i++)
        number =
            sim_names_set_locked(clone, to, from->entries[i].name, from->entries[i].inode->twin);
    return number;
}

static int clone_folder(struct sim_disk *clone, const struct sim_folder *from)
{
    struct sim_folder *to = NULL;
    int number = sim_folder_make_locked(clone, from->path, &to);
    if (number == 0)
        number = clone_names(clone, &to->durable, &from->durable);
    if (number == 0)
        number = clone_names(clone, &to->current, &from->current);
    for (size_t i = 0; number == 0 && i < to->current.count; i++)
        to->current.entries[i].inode->use_count++;
    for (size_t i = 0; number == 0 && i < from->op_count; i++) {
        const struct sim_name_op *op = &from->ops[i];
        number = sim_folder_record_locked(to, op->kind, op->from, op->to, op->inode->twin);
    }
    return number;
}

struct sim_disk *sim_disk_clone(const struct sim_disk *disk)
{
    struct sim_disk *from = (struct sim_disk *)(uintptr_t)disk; /* folds, under its mutex */
    struct sim_disk *clone = sim_disk_new(disk->random.state);
    if (clone == NULL)
        return NULL;
    pthread_mutex_lock(&from->mutex);
    clone->random = from->random;
    clone->step_count = from->step_count;
    clone->stopped = from->stopped;
    clone->clock_ns = from->clock_ns;
    clone->capacity = from->capacity;
    int number = 0;
    for (struct sim_inode *i = from->inodes; i != NULL && number == 0; i = i->next)
        number = clone_inode(clone, i);
    for (const struct sim_folder *f = from->folders; f != NULL && number == 0; f = f->next)
        if (!f->removed)
            number = clone_folder(clone, f);
    pthread_mutex_unlock(&from->mutex);

    /* The list's own references; what no name holds (open but unlinked files) ends here. */
    for (struct sim_inode *i = clone->inodes; i != NULL && number == 0;) {
        struct sim_inode *next = i->next;
        sim_inode_drop_locked(clone, i);
        i = next;
    }
    if (number != 0) {
        sim_disk_free(clone);
        return NULL;
    }
    return clone;
}

/* ---- looking from outside -------------------------------------------------------------------- */

static struct sim_inode *look_up_locked(struct sim_disk *disk, const char *path, const char *name,
                                        lsm_error *err)
{
    const struct sim_folder *folder = sim_folder_find_locked(disk, path);
    struct sim_inode *inode = folder != NULL ? sim_names_find(&folder->current, name) : NULL;
    if (inode == NULL) {
        lsm_status status =
            lsm_fail(err, LSM_MISSING, "there is no '%s/%s' on the simulated disk", path, name);
        (void)status;
        status_place(err, name, LSM_NO_OFFSET);
    }
    return inode;
}

lsm_status sim_overwrite(struct sim_disk *disk, const char *path, const char *name, uint64_t offset,
                         const void *bytes, size_t size, lsm_error *err)
{
    lsm_status status = LSM_MISSING;
    pthread_mutex_lock(&disk->mutex);
    struct sim_inode *inode = look_up_locked(disk, path, name, err);
    if (inode != NULL) {
        uint64_t end = inode->current.size;
        if (offset > end || size > end - offset) {
            status = lsm_fail(err, LSM_INVALID,
                              "cannot overwrite %zu bytes at offset %" PRIu64
                              " of '%s/%s', it ends at %" PRIu64,
                              size, offset, path, name, end);
        } else {
            sim_inode_fold_locked(inode);
            must_fit(sim_image_write(&inode->current, offset, bytes, size));
            show(inode, offset, size);
            if (offset + size <= inode->durable.size)
                must_fit(sim_image_write(&inode->durable, offset, bytes, size));
            status = LSM_OK;
        }
    }
    pthread_mutex_unlock(&disk->mutex);
    return status;
}

lsm_status sim_contents(struct sim_disk *disk, const char *path, const char *name,
                        const void **bytes, size_t *size, lsm_error *err)
{
    lsm_status status = LSM_MISSING;
    pthread_mutex_lock(&disk->mutex);
    struct sim_inode *inode = look_up_locked(disk, path, name, err);
    if (inode != NULL) {
        sim_inode_fold_locked(inode);
        size_t wanted = (size_t)inode->current.size;
        void *room = mem_resize(disk->contents, wanted);
        if (room == NULL) {
            status = lsm_fail_memory(err, wanted);
        } else {
            disk->contents = room;
            sim_image_read(&inode->current, 0, room, wanted);
            *bytes = room;
            *size = wanted;
            status = LSM_OK;
        }
    }
    pthread_mutex_unlock(&disk->mutex);
    return status;
}
