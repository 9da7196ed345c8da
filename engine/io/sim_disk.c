/* The disk itself: the count of steps, stopping, faults, space, cloning, and looking in. */
#include "engine/io/sim_private.h"

#include "engine/base/memory.h"

#include <string.h>

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
    struct sim_io *caller = disk->caller;
    if (caller != NULL && caller->kill_at > 0 && --caller->kill_at == 0) {
        sim_kill_locked(caller);
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

uint64_t sim_read_bytes(const struct sim_disk *disk)
{
    struct sim_disk *d = (struct sim_disk *)(uintptr_t)disk; /* for its mutex */
    pthread_mutex_lock(&d->mutex);
    uint64_t bytes = d->read_bytes;
    pthread_mutex_unlock(&d->mutex);
    return bytes;
}

void sim_set_capacity(struct sim_disk *disk, uint64_t bytes)
{
    pthread_mutex_lock(&disk->mutex);
    disk->capacity = bytes;
    pthread_mutex_unlock(&disk->mutex);
}

void sim_set_remote_name(struct sim_disk *disk, const char *name)
{
    pthread_mutex_lock(&disk->mutex);
    disk->remote_name = name;
    pthread_mutex_unlock(&disk->mutex);
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
        sim_inode_free(disk->inodes);
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
    to->number = from->number;
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
    clone->remote_name = from->remote_name;
    int number = 0;
    for (struct sim_inode *i = from->inodes; i != NULL && number == 0; i = i->next)
        number = clone_inode(clone, i);
    clone->inode_count = from->inode_count;
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
            sim_inode_damage_locked(inode, offset, bytes, size);
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
