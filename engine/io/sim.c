/*
 * The struct io on a simulated disk. Every call enters through sim_enter(), which refuses a machine
 * that is off; a change counts a step first, then asks for a fault, then is done.
 */
#include "engine/io/sim_private.h"

#include "engine/base/memory.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SIM_DEVICE        1                         /* the disk, to those who compare files */
#define SIM_TICK_NS       1000                      /* the clock, a call */
#define SIM_WALL_START_MS ((uint64_t)1700000000000) /* some day in 2023 */

struct sim_dir {
    struct io_dir base;
    struct sim_folder *folder;
};

struct sim_mapping {
    struct io_mapping base;
    struct sim_disk *disk;
    struct sim_inode *inode;   /* counted */
    struct sim_memory *memory; /* counted */
};

static struct sim_disk *disk_of(struct io *io)
{
    return ((struct sim_io *)io)->disk;
}

int sim_enter(struct io *io, struct sim_disk **disk)
{
    struct sim_io *s = (struct sim_io *)io;
    pthread_mutex_lock(&s->disk->mutex);
    if (s->disk->stopped || s->killed || s->epoch != s->disk->epoch) {
        pthread_mutex_unlock(&s->disk->mutex);
        return IO_ERRNO_OFF;
    }
    *disk = s->disk;
    s->disk->caller = s;
    return 0;
}

void sim_leave(struct sim_disk *disk)
{
    disk->caller = NULL;
    pthread_mutex_unlock(&disk->mutex);
}

/* ---- clock and randomness -------------------------------------------------------------------- */

static uint64_t tick(struct io *io)
{
    struct sim_disk *disk = disk_of(io);
    pthread_mutex_lock(&disk->mutex);
    disk->clock_ns += SIM_TICK_NS;
    uint64_t now = disk->clock_ns;
    pthread_mutex_unlock(&disk->mutex);
    return now;
}

static uint64_t wall(struct io *io)
{
    return SIM_WALL_START_MS + tick(io) / 1000000u;
}

static void fill_random(struct io *io, void *bytes, size_t size)
{
    struct sim_disk *disk = disk_of(io);
    pthread_mutex_lock(&disk->mutex);
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)random_next(&disk->random);
    pthread_mutex_unlock(&disk->mutex);
}

static void describe_process(struct io *io, struct io_process *process)
{
    (void)io;
    snprintf(process->boot_id, sizeof process->boot_id, "simulated");
    snprintf(process->command, sizeof process->command, "simulated");
    process->pid_namespace = 1;
    process->pid = getpid();
}

/* Nobody outside the simulation is told of. */
static void describe_thread(struct io *io, int64_t id, struct io_thread *thread)
{
    (void)io;
    (void)id;
    (void)thread;
}

/* ---- directories ----------------------------------------------------------------------------- */

static int open_folder_locked(struct sim_disk *disk, const char *path, unsigned flags,
                              struct sim_folder **folder)
{
    *folder = sim_folder_find_locked(disk, path);
    if (*folder != NULL)
        return 0;
    if ((flags & IO_DIR_CREATE) == 0)
        return ENOENT;
    int number = sim_step_locked(disk);
    return number != 0 ? number : sim_folder_make_locked(disk, path, folder);
}

static int dir_open(struct io *io, const char *path, unsigned flags, uint32_t mode,
                    struct io_dir **dir)
{
    (void)mode;
    struct sim_dir *d = mem_alloc_zeroed(sizeof *d);
    if (d == NULL)
        return ENOMEM;
    struct sim_disk *disk = NULL;
    int number = sim_enter(io, &disk);
    if (number == 0) {
        number = sim_fault_locked(disk, SIM_FAULT_OPEN);
        if (number == 0)
            number = open_folder_locked(disk, path, flags, &d->folder);
        if (number == 0)
            d->folder->handle_count++;
        sim_leave(disk);
    }
    if (number != 0)
        mem_free(d);
    else
        *dir = &d->base;
    return number;
}

static void dir_close(struct io_dir *dir)
{
    struct sim_disk *disk = disk_of(dir->io);
    struct sim_folder *folder = ((struct sim_dir *)dir)->folder;
    pthread_mutex_lock(&disk->mutex);
    if (--folder->handle_count == 0 && folder->removed)
        sim_folder_free_locked(disk, folder);
    pthread_mutex_unlock(&disk->mutex);
    mem_free(dir);
}

/* Paths on the disk are what they are called by. */
static int dir_real_path(struct io_dir *dir, char *path, size_t size)
{
    size_t length = strlen(dir->path);
    if (length >= size)
        return ENAMETOOLONG;
    memcpy(path, dir->path, length + 1);
    return 0;
}

static const char *dir_remote_name(struct io_dir *dir)
{
    struct sim_disk *disk = disk_of(dir->io);
    pthread_mutex_lock(&disk->mutex);
    const char *name = disk->remote_name;
    pthread_mutex_unlock(&disk->mutex);
    return name;
}

static bool dir_lacks_barriers(struct io_dir *dir)
{
    (void)dir;
    return false;
}

static int dir_sync(struct io_dir *dir)
{
    struct sim_folder *folder = ((struct sim_dir *)dir)->folder;
    struct sim_disk *disk = NULL;
    int number = sim_enter(dir->io, &disk);
    if (number != 0)
        return number;
    number = sim_step_locked(disk);
    if (number == 0) {
        number = sim_fault_locked(disk, SIM_FAULT_SYNC);
        if (number == 0)
            number = sim_folder_sync_locked(disk, folder);
        else
            sim_folder_forget_locked(disk, folder);
    }
    sim_leave(disk);
    return number;
}

/* A copy of the names, so that visits run without the mutex. */
static int copy_names(struct io_dir *dir, char (**names)[64], size_t *count, size_t *first)
{
    const struct sim_names *current = &((struct sim_dir *)dir)->folder->current;
    struct sim_disk *disk = NULL;
    int number = sim_enter(dir->io, &disk);
    if (number != 0)
        return number;
    *count = current->count;
    *first = *count > 0 ? (size_t)random_below(&disk->random, *count) : 0;
    *names = mem_alloc(*count * sizeof **names);
    if (*names == NULL)
        number = ENOMEM;
    for (size_t i = 0; i < *count && number == 0; i++)
        memcpy((*names)[i], current->entries[i].name, sizeof **names);
    sim_leave(disk);
    return number;
}

static int dir_list(struct io_dir *dir, io_visit visit, void *context, lsm_status *stopped,
                    lsm_error *err)
{
    char(*names)[64] = NULL;
    size_t count = 0;
    size_t first = 0;
    int number = copy_names(dir, &names, &count, &first);
    for (size_t i = 0; i < count && number == 0 && *stopped == LSM_OK; i++)
        *stopped = visit(context, names[(first + i) % count], err);
    mem_free(names);
    return number;
}

/* Files only, that their owner alone may use. */
static int dir_describe(struct io_dir *dir, const char *name, struct io_entry *entry)
{
    struct sim_folder *folder = ((struct sim_dir *)dir)->folder;
    struct sim_disk *disk = NULL;
    int number = sim_enter(dir->io, &disk);
    if (number != 0)
        return number;
    *entry = (struct io_entry){
        .kind = IO_ENTRY_DIRECTORY, .mode = 0700, .links = 1, .identity = {.device = SIM_DEVICE}};
    const struct sim_inode *inode = name == NULL ? NULL : sim_names_find(&folder->current, name);
    if (inode != NULL) {
        entry->kind = IO_ENTRY_FILE;
        entry->mode = 0600;
        entry->size = inode->current.size;
        entry->identity.inode = inode->number;
    }
    sim_leave(disk);
    return name != NULL && inode == NULL ? ENOENT : 0;
}

/* Enters for a change of names. */
static int enter_for_names(struct io *io, struct sim_disk **disk)
{
    int number = sim_enter(io, disk);
    if (number != 0)
        return number;
    number = sim_step_locked(*disk);
    if (number == 0)
        number = sim_fault_locked(*disk, SIM_FAULT_NAME);
    if (number != 0)
        sim_leave(*disk);
    return number;
}

static int rename_locked(struct sim_disk *disk, struct sim_folder *folder, const char *from,
                         const char *to)
{
    struct sim_inode *inode = sim_names_find(&folder->current, from);
    if (inode == NULL)
        return ENOENT;
    if (strlen(to) >= IO_NAME_MAX)
        return ENAMETOOLONG;
    if (strcmp(from, to) == 0)
        return 0;
    int number = sim_folder_record_locked(folder, SIM_NAME_RENAME, from, to, inode);
    if (number != 0)
        return number;
    struct sim_inode *replaced = sim_names_find(&folder->current, to);
    if (replaced != NULL)
        replaced->use_count--; /* and setting a name that exists cannot fail */
    number = sim_names_set_locked(disk, &folder->current, to, inode);
    if (number != 0) {
        sim_folder_withdraw_locked(disk, folder);
        return number;
    }
    sim_names_remove_locked(disk, &folder->current, from);
    return 0;
}

static int dir_rename(struct io_dir *dir, const char *from, const char *to)
{
    struct sim_disk *disk = NULL;
    int number = enter_for_names(dir->io, &disk);
    if (number != 0)
        return number;
    number = rename_locked(disk, ((struct sim_dir *)dir)->folder, from, to);
    sim_leave(disk);
    return number;
}

static int dir_unlink(struct io_dir *dir, const char *name)
{
    struct sim_folder *folder = ((struct sim_dir *)dir)->folder;
    struct sim_disk *disk = NULL;
    int number = enter_for_names(dir->io, &disk);
    if (number != 0)
        return number;
    struct sim_inode *inode = sim_names_find(&folder->current, name);
    number =
        inode == NULL ? ENOENT : sim_folder_record_locked(folder, SIM_NAME_UNLINK, name, "", inode);
    if (number == 0) {
        inode->use_count--;
        sim_names_remove_locked(disk, &folder->current, name);
    }
    sim_leave(disk);
    return number;
}

static int link_locked(struct sim_disk *disk, struct sim_folder *from, const char *name,
                       struct sim_folder *to)
{
    struct sim_inode *inode = sim_names_find(&from->current, name);
    if (inode == NULL || to->removed)
        return ENOENT;
    if (sim_names_find(&to->current, name) != NULL)
        return EEXIST;
    int number = sim_folder_record_locked(to, SIM_NAME_CREATE, "", name, inode);
    if (number != 0)
        return number;
    number = sim_names_set_locked(disk, &to->current, name, inode);
    if (number != 0)
        sim_folder_withdraw_locked(disk, to);
    else
        inode->use_count++;
    return number;
}

static int dir_link(struct io_dir *from, const char *name, struct io_dir *to)
{
    struct sim_disk *disk = NULL;
    int number = enter_for_names(from->io, &disk);
    if (number != 0)
        return number;
    number = sim_fault_locked(disk, SIM_FAULT_LINK);
    if (number == 0)
        number = link_locked(disk, ((struct sim_dir *)from)->folder, name,
                             ((struct sim_dir *)to)->folder);
    sim_leave(disk);
    return number;
}

static int dir_remove(struct io *io, const char *path)
{
    struct sim_disk *disk = NULL;
    int number = enter_for_names(io, &disk);
    if (number != 0)
        return number;
    struct sim_folder *folder = sim_folder_find_locked(disk, path);
    if (folder == NULL) {
        number = ENOENT;
    } else if (folder->current.count > 0) {
        number = ENOTEMPTY;
    } else {
        folder->removed = true;
        if (folder->handle_count == 0)
            sim_folder_free_locked(disk, folder);
    }
    sim_leave(disk);
    return number;
}

/* Directories have no names of their own here: whether one is there is durable at once. The sync of
 * that is a step of its own all the same, and may fail. */
static int dir_move(struct io *io, const char *from, const char *to, bool *moved)
{
    struct sim_disk *disk = NULL;
    int number = enter_for_names(io, &disk);
    if (number != 0)
        return number;
    struct sim_folder *folder = sim_folder_find_locked(disk, from);
    if (folder == NULL)
        number = ENOENT;
    else if (sim_folder_find_locked(disk, to) != NULL)
        number = EEXIST;
    else
        number = sim_folder_move_locked(folder, to);
    *moved = number == 0;
    if (number == 0)
        number = sim_step_locked(disk);
    if (number == 0)
        number = sim_fault_locked(disk, SIM_FAULT_SYNC);
    sim_leave(disk);
    return number;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int make_file_locked(struct sim_disk *disk, struct sim_folder *folder, const char *name,
                            struct sim_inode **inode)
{
    if (strlen(name) >= IO_NAME_MAX)
        return ENAMETOOLONG;
    if (folder->removed)
        return ENOENT;
    int number = sim_step_locked(disk);
    if (number != 0)
        return number;
    struct sim_inode *made = sim_inode_new_locked(disk);
    if (made == NULL)
        return ENOMEM;
    number = sim_names_set_locked(disk, &folder->current, name, made);
    if (number == 0) {
        made->use_count++;
        number = sim_folder_record_locked(folder, SIM_NAME_CREATE, "", name, made);
    }
    sim_inode_drop_locked(disk, made); /* the name and the operation hold it now */
    *inode = made;
    return number;
}

static int open_inode_locked(struct sim_disk *disk, struct sim_folder *folder, const char *name,
                             unsigned flags, struct sim_inode **inode)
{
    int number = sim_fault_locked(disk, SIM_FAULT_OPEN);
    if (number != 0)
        return number;
    *inode = sim_names_find(&folder->current, name);
    if (*inode != NULL) {
        bool must_be_new = (flags & IO_FILE_CREATE) != 0 && (flags & IO_FILE_NEW) != 0;
        return must_be_new ? EEXIST : 0;
    }
    if ((flags & IO_FILE_CREATE) == 0)
        return ENOENT;
    return make_file_locked(disk, folder, name, inode);
}

static int file_open(struct io_dir *dir, const char *name, unsigned flags, uint32_t mode,
                     struct io_file **file)
{
    (void)mode;
    struct sim_file *f = mem_alloc_zeroed(sizeof *f);
    if (f == NULL)
        return ENOMEM;
    struct sim_disk *disk = NULL;
    int number = sim_enter(dir->io, &disk);
    if (number == 0) {
        number = open_inode_locked(disk, ((struct sim_dir *)dir)->folder, name, flags, &f->inode);
        if (number == 0) {
            f->inode->reference_count++;
            f->inode->use_count++;
        }
        sim_leave(disk);
    }
    if (number != 0) {
        mem_free(f);
        return number;
    }
    f->base.direct = (flags & IO_FILE_DIRECT) != 0;
    *file = &f->base;
    return 0;
}

static struct sim_inode *inode_of(const struct io_file *file)
{
    return ((const struct sim_file *)file)->inode;
}

static void file_close(struct io_file *file)
{
    struct sim_disk *disk = disk_of(file->io);
    pthread_mutex_lock(&disk->mutex);
    inode_of(file)->use_count--;
    sim_inode_drop_locked(disk, inode_of(file));
    pthread_mutex_unlock(&disk->mutex);
    mem_free(file);
}

int sim_read_locked(struct sim_disk *disk, struct sim_inode *inode, void *memory, size_t size,
                    uint64_t offset, size_t *got)
{
    sim_inode_fold_range_locked(inode, offset, size);
    uint64_t end = inode->current.size;
    if (offset >= end)
        size = 0;
    else if (size > end - offset)
        size = (size_t)(end - offset);
    sim_image_read(&inode->current, offset, memory, size);
    disk->read_bytes += size;
    *got = size;
    return 0;
}

static int file_read(struct io_file *file, void *memory, size_t size, uint64_t offset, size_t *got)
{
    struct sim_disk *disk = NULL;
    int number = sim_enter(file->io, &disk);
    if (number != 0)
        return number;
    number = sim_fault_locked(disk, SIM_FAULT_READ);
    if (number == 0)
        number = sim_read_locked(disk, inode_of(file), memory, size, offset, got);
    sim_leave(disk);
    return number;
}

/* Counts the step and does a change of a file, unless it has to fail. */
static int change_file(struct io_file *file, struct sim_op *op, int fault)
{
    struct sim_disk *disk = NULL;
    int number = op == NULL ? ENOMEM : sim_enter(file->io, &disk);
    if (number != 0) {
        sim_op_drop(op);
        return number;
    }
    number = sim_step_locked(disk);
    if (number == 0 && fault < SIM_FAULT_KINDS)
        number = sim_fault_locked(disk, (enum sim_fault_kind)fault);
    if (number == 0)
        number = sim_inode_apply_locked(disk, inode_of(file), op);
    if (number != 0)
        sim_op_drop(op);
    sim_leave(disk);
    return number;
}

static int file_write(struct io_file *file, const void *memory, size_t size, uint64_t offset)
{
    return change_file(file, sim_op_new(SIM_OP_WRITE, offset, size, memory), SIM_FAULT_WRITE);
}

static int file_truncate(struct io_file *file, uint64_t size)
{
    return change_file(file, sim_op_new(SIM_OP_TRUNCATE, size, 0, NULL), SIM_FAULT_KINDS);
}

static int file_allocate(struct io_file *file, uint64_t offset, uint64_t size)
{
    return change_file(file, sim_op_new(SIM_OP_ALLOCATE, offset, size, NULL), SIM_FAULT_ALLOCATE);
}

static int file_sync(struct io_file *file)
{
    struct sim_disk *disk = NULL;
    int number = sim_enter(file->io, &disk);
    if (number != 0)
        return number;
    number = sim_step_locked(disk);
    if (number == 0) {
        number = sim_fault_locked(disk, SIM_FAULT_SYNC);
        if (number == 0)
            number = sim_inode_sync_locked(inode_of(file));
        else
            sim_inode_forget_locked(inode_of(file));
    }
    sim_leave(disk);
    return number;
}

static int file_identity(struct io_file *file, struct io_identity *identity)
{
    struct sim_disk *disk = NULL;
    int number = sim_enter(file->io, &disk);
    if (number != 0)
        return number;
    *identity = (struct io_identity){.device = SIM_DEVICE, .inode = inode_of(file)->number};
    sim_leave(disk);
    return 0;
}

static int file_size(struct io_file *file, uint64_t *size)
{
    struct sim_disk *disk = NULL;
    int number = sim_enter(file->io, &disk);
    if (number != 0)
        return number;
    *size = inode_of(file)->current.size;
    sim_leave(disk);
    return 0;
}

/* ---- mappings -------------------------------------------------------------------------------- */

/* Gives the inode memory for [0, size) at least; whoever maps more of it later is refused. */
static int attach_memory_locked(struct sim_inode *inode, size_t size)
{
    if (inode->memory != NULL)
        return inode->memory->size >= size ? 0 : EINVAL;
    size_t whole = sim_page_limit(inode->current.size) * SIM_PAGE_SIZE;
    struct sim_memory *memory = mem_alloc_zeroed(sizeof *memory);
    uint8_t *bytes = mem_alloc_aligned(SIM_PAGE_SIZE, whole);
    if (memory == NULL || bytes == NULL) {
        mem_free(memory);
        mem_free(bytes);
        return ENOMEM;
    }
    sim_image_read(&inode->current, 0, bytes, whole);
    *memory = (struct sim_memory){.reference_count = 1, .size = whole, .bytes = bytes};
    inode->memory = memory;
    return 0;
}

static int map_locked(struct sim_inode *inode, size_t size, unsigned flags)
{
    bool writes = (flags & IO_MAP_WRITE) != 0;
    bool may_have_holes = !writes || (flags & IO_MAP_HOLES) != 0;
    if (inode->current.size < size ||
        (!may_have_holes && sim_image_missing(&inode->current, 0, size) > 0))
        return IO_RESULT_SHORT;
    int number = attach_memory_locked(inode, size);
    if (number != 0)
        return number;
    inode->map_count++;
    inode->reference_count++;
    inode->memory->reference_count++;
    inode->stored = inode->stored || writes;
    return 0;
}

static int map(struct io_file *file, size_t size, unsigned flags, struct io_mapping **mapping)
{
    struct sim_mapping *m = mem_alloc_zeroed(sizeof *m);
    if (m == NULL)
        return ENOMEM;
    struct sim_inode *inode = inode_of(file);
    int number = sim_enter(file->io, &m->disk);
    if (number == 0) {
        number = map_locked(inode, size, flags);
        if (number == 0) {
            m->inode = inode;
            m->memory = inode->memory;
            m->base.memory = inode->memory->bytes;
        }
        sim_leave(m->disk);
    }
    if (number != 0)
        mem_free(m);
    else
        *mapping = &m->base;
    return number;
}

static void unmap(struct io_mapping *mapping)
{
    struct sim_mapping *m = (struct sim_mapping *)mapping;
    pthread_mutex_lock(&m->disk->mutex);
    if (m->inode->memory == m->memory && --m->inode->map_count == 0)
        sim_inode_detach_locked(m->inode);
    sim_memory_drop(m->memory);
    sim_inode_drop_locked(m->disk, m->inode);
    pthread_mutex_unlock(&m->disk->mutex);
    mem_free(m);
}

static void populate(struct io_mapping *mapping, size_t offset, size_t size)
{
    (void)mapping;
    (void)offset;
    (void)size;
}

/* ---- locks ----------------------------------------------------------------------------------- */

/* Whether a lock of that mode would not be granted. */
static bool is_locked(const struct sim_disk *disk, const struct sim_inode *inode, uint64_t byte,
                      enum io_lock_mode mode)
{
    for (const struct sim_lock *l = disk->locks; l != NULL; l = l->next)
        if (l->inode == inode && l->byte == byte &&
            (l->mode == IO_LOCK_EXCLUSIVE || mode == IO_LOCK_EXCLUSIVE))
            return true;
    return false;
}

/* Nobody lets go late here, so patience would change nothing. */
static int lock_byte(struct io_file *file, uint64_t byte, enum io_lock_mode mode,
                     unsigned patience_ms, struct io_lock **lock)
{
    (void)patience_ms;
    struct sim_lock *l = mem_alloc_zeroed(sizeof *l);
    if (l == NULL)
        return ENOMEM;
    int number = sim_enter(file->io, &l->disk);
    if (number == 0 && is_locked(l->disk, inode_of(file), byte, mode)) {
        number = EAGAIN;
        sim_leave(l->disk);
    }
    if (number != 0) {
        mem_free(l);
        return number;
    }
    l->inode = inode_of(file);
    l->inode->reference_count++;
    l->owner = file->io;
    l->byte = byte;
    l->mode = mode;
    l->held = true;
    l->next = l->disk->locks;
    l->disk->locks = l;
    sim_leave(l->disk);
    *lock = &l->base;
    return 0;
}

static void let_go_locked(struct sim_lock *l)
{
    struct sim_lock **link = &l->disk->locks;
    while (*link != l)
        link = &(*link)->next;
    *link = l->next;
    l->held = false;
}

static void unlock(struct io_lock *lock)
{
    struct sim_lock *l = (struct sim_lock *)lock;
    pthread_mutex_lock(&l->disk->mutex);
    if (l->held)
        let_go_locked(l);
    sim_inode_drop_locked(l->disk, l->inode);
    pthread_mutex_unlock(&l->disk->mutex);
    mem_free(l);
}

static int lock_test(struct io_file *file, uint64_t byte, bool *held)
{
    struct sim_disk *disk = NULL;
    int number = sim_enter(file->io, &disk);
    if (number != 0)
        return number;
    *held = is_locked(disk, inode_of(file), byte, IO_LOCK_EXCLUSIVE);
    sim_leave(disk);
    return 0;
}

/* ---- environment ----------------------------------------------------------------------------- */

void sim_kill_locked(struct sim_io *s)
{
    struct sim_disk *disk = s->disk;
    struct io *io = &s->base;
    s->killed = true;
    for (struct sim_lock *l = disk->locks, *next; l != NULL; l = next) {
        next = l->next;
        if (l->owner == io)
            let_go_locked(l);
    }
    for (struct sim_inode *i = disk->inodes; i != NULL; i = i->next)
        for (size_t f = 0; f < i->flight_count; f++)
            if (i->flights[f].issuer == io && !i->flights[f].orphaned) {
                i->flights[f].orphaned = true;
                disk->orphan_count++;
            }
}

void sim_kill(struct io *io)
{
    struct sim_io *s = (struct sim_io *)io;
    pthread_mutex_lock(&s->disk->mutex);
    sim_kill_locked(s);
    pthread_mutex_unlock(&s->disk->mutex);
}

void sim_kill_at(struct io *io, uint64_t step)
{
    struct sim_io *s = (struct sim_io *)io;
    pthread_mutex_lock(&s->disk->mutex);
    s->kill_at = step;
    pthread_mutex_unlock(&s->disk->mutex);
}

bool sim_is_killed(struct io *io)
{
    struct sim_io *s = (struct sim_io *)io;
    pthread_mutex_lock(&s->disk->mutex);
    bool killed = s->killed;
    pthread_mutex_unlock(&s->disk->mutex);
    return killed;
}

static void close_sim(struct io *io)
{
    sim_kill(io); /* drops what locks were left */
    mem_free(io);
}

static const struct io_ops sim_ops = {
    .close = close_sim,
    .now_ns = tick,
    .wall_ms = wall,
    .random = fill_random,
    .describe_process = describe_process,
    .describe_thread = describe_thread,
    .dir_open = dir_open,
    .dir_close = dir_close,
    .dir_real_path = dir_real_path,
    .dir_remote_name = dir_remote_name,
    .dir_sync = dir_sync,
    .dir_list = dir_list,
    .dir_describe = dir_describe,
    .dir_lacks_barriers = dir_lacks_barriers,
    .dir_rename = dir_rename,
    .dir_unlink = dir_unlink,
    .dir_link = dir_link,
    .dir_remove = dir_remove,
    .dir_move = dir_move,
    .file_open = file_open,
    .file_close = file_close,
    .file_identity = file_identity,
    .file_read = file_read,
    .file_write = file_write,
    .file_sync = file_sync,
    .file_size = file_size,
    .file_truncate = file_truncate,
    .file_allocate = file_allocate,
    .map = map,
    .unmap = unmap,
    .populate = populate,
    .lock = lock_byte,
    .unlock = unlock,
    .lock_test = lock_test,
    .queue_open = sim_queue_open,
};

lsm_status sim_open(struct sim_disk *disk, struct io **io, lsm_error *err)
{
    struct sim_io *s = mem_alloc_zeroed(sizeof *s);
    if (s == NULL)
        return lsm_fail_memory(err, sizeof *s);
    pthread_mutex_lock(&disk->mutex);
    bool stopped = disk->stopped;
    s->epoch = disk->epoch;
    pthread_mutex_unlock(&disk->mutex);
    if (stopped) {
        mem_free(s);
        return lsm_fail(err, LSM_IO,
                        "cannot use the simulated disk: the simulated machine is off until "
                        "sim_crash()");
    }
    s->disk = disk;
    s->base.ops = &sim_ops;
    s->base.name = "sim";
    snprintf(s->base.reason, sizeof s->base.reason, "a test runs on a simulated disk");
    *io = &s->base;
    return LSM_OK;
}
