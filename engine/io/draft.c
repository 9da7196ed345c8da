/*
 * See the header. A folder that was opened remembers the names that are not as they are below: what
 * they stand for now is bytes in memory, a file below that had another name, or nothing. A file is
 * either one below or bytes in memory, for as long as it is open.
 */
#include "engine/io/draft.h"

#include "engine/base/memory.h"
#include "engine/io/io_private.h"

#include <string.h>

struct draft_bytes {
    uint8_t *data; /* owned */
    size_t size, room;
    uint32_t mode;
    unsigned references; /* of the name and of open files */
};

struct draft_name {
    struct draft_name *next;
    char *name;                /* owned */
    struct draft_bytes *bytes; /* held; NULL: see the next */
    char *below;               /* owned: what it is called below; NULL as well: it is gone */
};

struct draft_folder {
    struct draft_folder *next;
    char *path;               /* owned */
    struct draft_name *names; /* owned */
};

struct draft {
    struct io base;
    struct io *below;             /* borrowed */
    struct draft_folder *folders; /* owned; by the paths that they were opened by */
    size_t used, most;            /* bytes in memory */
};

struct draft_dir {
    struct io_dir base;
    struct io_dir *below; /* owned */
    struct draft_folder *folder;
};

struct draft_file {
    struct io_file base;
    struct io_file *below;     /* owned; NULL: the next */
    struct draft_bytes *bytes; /* held */
};

static struct draft *draft_of(struct io *io)
{
    return (struct draft *)io;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static void bytes_drop(struct draft *d, struct draft_bytes *bytes)
{
    if (bytes == NULL || --bytes->references > 0)
        return;
    d->used -= bytes->room;
    mem_free(bytes->data);
    mem_free(bytes);
}

static int bytes_resize(struct draft *d, struct draft_bytes *b, uint64_t size)
{
    if (size > b->room) {
        size_t left = d->most - d->used;
        if (size - b->room > left)
            return ENOSPC;
        size_t room = (size_t)size < 4096 ? 4096 : (size_t)size;
        if (room < 2 * b->room)
            room = 2 * b->room;
        if (room - b->room > left)
            room = (size_t)size;
        uint8_t *grown = mem_resize(b->data, room);
        if (grown == NULL)
            return ENOMEM;
        d->used += room - b->room;
        b->data = grown;
        b->room = room;
    }
    if (size > b->size)
        memset(b->data + b->size, 0, (size_t)size - b->size);
    b->size = (size_t)size;
    return 0;
}

/* ---- names ----------------------------------------------------------------------------------- */

static struct draft_name *find_name(const struct draft_folder *folder, const char *name)
{
    struct draft_name *n = folder->names;
    while (n != NULL && strcmp(n->name, name) != 0)
        n = n->next;
    return n;
}

static bool is_gone(const struct draft_name *n)
{
    return n != NULL && n->bytes == NULL && n->below == NULL;
}

/* The name, from now on not as it is below; NULL: no memory. */
static struct draft_name *take_name(struct draft *d, struct draft_folder *folder, const char *name)
{
    struct draft_name *n = find_name(folder, name);
    if (n != NULL) {
        bytes_drop(d, n->bytes);
        mem_free(n->below);
        n->bytes = NULL;
        n->below = NULL;
        return n;
    }
    n = mem_alloc_zeroed(sizeof *n);
    if (n == NULL || (n->name = mem_copy_text(name)) == NULL) {
        mem_free(n);
        return NULL;
    }
    n->next = folder->names;
    folder->names = n;
    return n;
}

static void free_folder(struct draft *d, struct draft_folder *folder)
{
    while (folder->names != NULL) {
        struct draft_name *n = folder->names;
        folder->names = n->next;
        bytes_drop(d, n->bytes);
        mem_free(n->below);
        mem_free(n->name);
        mem_free(n);
    }
    mem_free(folder->path);
    mem_free(folder);
}

static struct draft_folder *take_folder(struct draft *d, const char *path)
{
    struct draft_folder *folder = d->folders;
    while (folder != NULL && strcmp(folder->path, path) != 0)
        folder = folder->next;
    if (folder != NULL)
        return folder;
    folder = mem_alloc_zeroed(sizeof *folder);
    if (folder == NULL || (folder->path = mem_copy_text(path)) == NULL) {
        mem_free(folder);
        return NULL;
    }
    folder->next = d->folders;
    d->folders = folder;
    return folder;
}

/* ---- directories ----------------------------------------------------------------------------- */

static int dir_open(struct io *io, const char *path, unsigned flags, uint32_t mode,
                    struct io_dir **dir)
{
    struct draft *d = draft_of(io);
    struct draft_folder *folder = take_folder(d, path);
    struct draft_dir *made = mem_alloc_zeroed(sizeof *made);
    int number = folder == NULL || made == NULL ? ENOMEM : 0;
    if (number == 0)
        number = d->below->ops->dir_open(d->below, path, flags & ~(unsigned)IO_DIR_CREATE, mode,
                                         &made->below);
    if (number != 0) {
        mem_free(made);
        return number == ENOENT && (flags & IO_DIR_CREATE) != 0 ? EROFS : number;
    }
    made->below->io = d->below;
    made->folder = folder;
    *dir = &made->base;
    return 0;
}

static struct draft_dir *dir_of(struct io_dir *dir)
{
    return (struct draft_dir *)dir;
}

static void dir_close(struct io_dir *dir)
{
    struct io_dir *below = dir_of(dir)->below;
    below->io->ops->dir_close(below);
    mem_free(dir);
}

static int dir_real_path(struct io_dir *dir, char *path, size_t size)
{
    struct io_dir *below = dir_of(dir)->below;
    return below->io->ops->dir_real_path(below, path, size);
}

static const char *dir_remote_name(struct io_dir *dir)
{
    struct io_dir *below = dir_of(dir)->below;
    return below->io->ops->dir_remote_name(below);
}

static bool dir_lacks_barriers(struct io_dir *dir)
{
    struct io_dir *below = dir_of(dir)->below;
    return below->io->ops->dir_lacks_barriers(below);
}

static int dir_sync(struct io_dir *dir)
{
    (void)dir;
    return 0;
}

struct listing_below {
    struct draft_folder *folder;
    io_visit visit;
    void *context;
};

static lsm_status visit_below(void *context, const char *name, lsm_error *err)
{
    struct listing_below *l = context;
    return find_name(l->folder, name) != NULL ? LSM_OK : l->visit(l->context, name, err);
}

static int dir_list(struct io_dir *dir, io_visit visit, void *context, lsm_status *stopped,
                    lsm_error *err)
{
    struct draft_dir *d = dir_of(dir);
    struct listing_below list = {d->folder, visit, context};
    int number = d->below->io->ops->dir_list(d->below, visit_below, &list, stopped, err);
    for (struct draft_name *n = d->folder->names; number == 0 && n != NULL; n = n->next) {
        if (*stopped == LSM_OK && !is_gone(n))
            *stopped = visit(context, n->name, err);
    }
    return number;
}

/* What a name of the draft is called below, NULL when it is not there; `name` NULL: NULL. */
static const char *name_below(struct draft_dir *d, const char *name, struct draft_name **own)
{
    *own = name == NULL ? NULL : find_name(d->folder, name);
    return *own == NULL ? name : (*own)->below;
}

static int dir_describe(struct io_dir *dir, const char *name, struct io_entry *entry)
{
    struct draft_dir *d = dir_of(dir);
    struct draft_name *own;
    const char *below = name_below(d, name, &own);
    if (is_gone(own))
        return ENOENT;
    if (own == NULL || own->bytes == NULL)
        return d->below->io->ops->dir_describe(d->below, below, entry);
    int number = d->below->io->ops->dir_describe(d->below, NULL, entry);
    entry->kind = IO_ENTRY_FILE;
    entry->mode = own->bytes->mode;
    entry->size = own->bytes->size;
    entry->links = 1;
    entry->identity = (struct io_identity){.inode = (uint64_t)(uintptr_t)own->bytes};
    return number;
}

static int dir_rename(struct io_dir *dir, const char *from, const char *to)
{
    struct draft_dir *d = dir_of(dir);
    struct draft *draft = draft_of(dir->io);
    struct io_entry entry;
    struct draft_name *own;
    const char *below = name_below(d, from, &own);
    int number = dir_describe(dir, from, &entry);
    if (number != 0 || strcmp(from, to) == 0)
        return number;
    struct draft_bytes *bytes = own == NULL ? NULL : own->bytes;
    char *copy = below == NULL ? NULL : mem_copy_text(below);
    struct draft_name *new = take_name(draft, d->folder, to);
    if (new == NULL || (below != NULL && copy == NULL)) {
        mem_free(copy);
        return ENOMEM;
    }
    if (bytes != NULL)
        bytes->references++;
    new->bytes = bytes;
    new->below = copy;
    return take_name(draft, d->folder, from) == NULL ? ENOMEM : 0; /* and so it is gone */
}

static int dir_unlink(struct io_dir *dir, const char *name)
{
    struct io_entry entry;
    int number = dir_describe(dir, name, &entry);
    if (number != 0)
        return number;
    return take_name(draft_of(dir->io), dir_of(dir)->folder, name) == NULL ? ENOMEM : 0;
}

static int dir_link(struct io_dir *from, const char *name, struct io_dir *to)
{
    (void)from, (void)name, (void)to;
    return EROFS;
}

static int dir_remove(struct io *io, const char *path)
{
    (void)io, (void)path;
    return EROFS;
}

static int dir_move(struct io *io, const char *from, const char *to, bool *moved)
{
    (void)io, (void)from, (void)to, (void)moved;
    return EROFS;
}

/* ---- files ----------------------------------------------------------------------------------- */

static struct draft_file *file_of(struct io_file *file)
{
    return (struct draft_file *)file;
}

static int make_bytes(struct draft_dir *d, const char *name, uint32_t mode,
                      struct draft_bytes **made)
{
    struct draft_bytes *bytes = mem_alloc_zeroed(sizeof *bytes);
    if (bytes == NULL)
        return ENOMEM;
    struct draft_name *n = take_name(draft_of(d->base.io), d->folder, name);
    if (n == NULL) {
        mem_free(bytes);
        return ENOMEM;
    }
    bytes->mode = mode == 0 ? 0600 : mode;
    bytes->references = 1;
    n->bytes = bytes;
    *made = bytes;
    return 0;
}

static int open_below(struct draft_dir *d, const char *below, unsigned flags,
                      struct draft_file *file)
{
    if ((flags & IO_FILE_WRITE) != 0)
        return EROFS;
    int number =
        d->below->io->ops->file_open(d->below, below, flags & IO_FILE_DIRECT, 0, &file->below);
    if (number == 0) {
        file->below->io = d->below->io;
        file->base.direct = file->below->direct;
    }
    return number;
}

static int file_open(struct io_dir *dir, const char *name, unsigned flags, uint32_t mode,
                     struct io_file **file)
{
    struct draft_dir *d = dir_of(dir);
    struct io_entry entry;
    struct draft_name *own;
    const char *below = name_below(d, name, &own);
    int number = dir_describe(dir, name, &entry);
    bool is_new = number == ENOENT && (flags & IO_FILE_CREATE) != 0;
    if (number == 0 && (flags & IO_FILE_CREATE) != 0 && (flags & IO_FILE_NEW) != 0)
        number = EEXIST;
    struct draft_file *f = mem_alloc_zeroed(sizeof *f);
    if (f == NULL)
        return ENOMEM;
    if (is_new)
        number = make_bytes(d, name, mode, &f->bytes);
    else if (number == 0 && own != NULL && own->bytes != NULL)
        f->bytes = own->bytes;
    else if (number == 0)
        number = open_below(d, below, flags, f);
    if (number != 0) {
        mem_free(f);
        return number;
    }
    if (f->bytes != NULL)
        f->bytes->references++;
    *file = &f->base;
    return 0;
}

static void file_close(struct io_file *file)
{
    struct draft_file *f = file_of(file);
    bytes_drop(draft_of(file->io), f->bytes);
    if (f->below != NULL)
        f->below->io->ops->file_close(f->below);
    mem_free(f);
}

static int file_identity(struct io_file *file, struct io_identity *identity)
{
    struct draft_file *f = file_of(file);
    if (f->below != NULL)
        return f->below->io->ops->file_identity(f->below, identity);
    *identity = (struct io_identity){.inode = (uint64_t)(uintptr_t)f->bytes};
    return 0;
}

static int file_read(struct io_file *file, void *memory, size_t size, uint64_t offset, size_t *got)
{
    struct draft_file *f = file_of(file);
    if (f->below != NULL)
        return f->below->io->ops->file_read(f->below, memory, size, offset, got);
    size_t there = offset < f->bytes->size ? f->bytes->size - (size_t)offset : 0;
    *got = size < there ? size : there;
    if (*got > 0)
        memcpy(memory, f->bytes->data + offset, *got);
    return 0;
}

static int file_write(struct io_file *file, const void *memory, size_t size, uint64_t offset)
{
    struct draft_file *f = file_of(file);
    if (f->below != NULL)
        return EROFS;
    int number = offset > SIZE_MAX / 2 || size > SIZE_MAX / 2 ? EFBIG : 0;
    if (number == 0 && offset + size > f->bytes->size)
        number = bytes_resize(draft_of(file->io), f->bytes, offset + size);
    if (number == 0 && size > 0)
        memcpy(f->bytes->data + offset, memory, size);
    return number;
}

static int file_sync(struct io_file *file)
{
    (void)file;
    return 0;
}

static int file_size(struct io_file *file, uint64_t *size)
{
    struct draft_file *f = file_of(file);
    if (f->below != NULL)
        return f->below->io->ops->file_size(f->below, size);
    *size = f->bytes->size;
    return 0;
}

static int file_truncate(struct io_file *file, uint64_t size)
{
    struct draft_file *f = file_of(file);
    return f->below != NULL ? EROFS : bytes_resize(draft_of(file->io), f->bytes, size);
}

static int file_allocate(struct io_file *file, uint64_t offset, uint64_t size)
{
    struct draft_file *f = file_of(file);
    if (f->below != NULL)
        return EROFS;
    if (offset > SIZE_MAX / 2 || size > SIZE_MAX / 2)
        return EFBIG;
    return offset + size <= f->bytes->size
               ? 0
               : bytes_resize(draft_of(file->io), f->bytes, offset + size);
}

/* ---- what there is not ----------------------------------------------------------------------- */

static int map(struct io_file *file, size_t size, unsigned flags, struct io_mapping **mapping)
{
    (void)file, (void)size, (void)flags, (void)mapping;
    return ENOTSUP;
}

static void unmap(struct io_mapping *mapping)
{
    (void)mapping;
}

static void advise(struct io_mapping *mapping, size_t offset, size_t size)
{
    (void)mapping, (void)offset, (void)size;
}

static int take_lock(struct io_file *file, uint64_t byte, enum io_lock_mode mode,
                     unsigned patience_ms, struct io_lock **lock)
{
    (void)file, (void)byte, (void)mode, (void)patience_ms, (void)lock;
    return EROFS;
}

static void unlock(struct io_lock *lock)
{
    (void)lock;
}

static int lock_test(struct io_file *file, uint64_t byte, bool *held)
{
    struct draft_file *f = file_of(file);
    *held = false;
    return f->below == NULL ? 0 : f->below->io->ops->lock_test(f->below, byte, held);
}

/* ---- queues ---------------------------------------------------------------------------------- */

static void perform(struct io_queue *queue, struct io_request *r)
{
    int number = queue_check(r);
    if (number == 0 && r->operation == IO_READ) {
        number = file_read(r->file, r->memory, r->size, r->offset, &r->progress);
    } else if (number == 0) {
        number = file_write(r->file, r->memory, r->size, r->offset);
        r->progress = number == 0 ? r->size : 0;
    }
    queue_add_done(queue, r, number);
}

static int submit(struct io_queue *queue)
{
    atomic_fetch_add_explicit(&queue->io->submission_count, 1, memory_order_relaxed);
    for (struct io_request *r; (r = queue_take_pushed(queue)) != NULL;)
        perform(queue, r);
    return 0;
}

static void collect(struct io_queue *queue, bool wait)
{
    (void)wait; /* submit finishes everything */
    if (queue->pushed_first != NULL)
        submit(queue);
}

static void close_queue(struct io_queue *queue)
{
    mem_free(queue);
}

static int queue_open(struct io *io, unsigned depth, struct io_queue **queue)
{
    static const struct io_queue_ops ops = {
        .submit = submit, .collect = collect, .close = close_queue};
    struct io_queue *made = mem_alloc_zeroed(sizeof *made);
    if (made == NULL)
        return ENOMEM;
    *made = (struct io_queue){.io = io, .ops = &ops, .depth = depth};
    *queue = made;
    return 0;
}

/* ---- the environment ------------------------------------------------------------------------- */

static uint64_t now_ns(struct io *io)
{
    return io_now_ns(draft_of(io)->below);
}

static uint64_t wall_ms(struct io *io)
{
    return io_wall_ms(draft_of(io)->below);
}

static void random_bytes(struct io *io, void *bytes, size_t size)
{
    io_random(draft_of(io)->below, bytes, size);
}

static void describe_process(struct io *io, struct io_process *process)
{
    io_describe_process(draft_of(io)->below, process);
}

static void describe_thread(struct io *io, int64_t id, struct io_thread *thread)
{
    struct io *below = draft_of(io)->below;
    below->ops->describe_thread(below, id, thread);
}

static void close_draft(struct io *io)
{
    struct draft *d = draft_of(io);
    while (d->folders != NULL) {
        struct draft_folder *folder = d->folders;
        d->folders = folder->next;
        free_folder(d, folder);
    }
    mem_free(d);
}

static const struct io_ops draft_ops = {
    .close = close_draft,
    .now_ns = now_ns,
    .wall_ms = wall_ms,
    .random = random_bytes,
    .describe_process = describe_process,
    .describe_thread = describe_thread,
    .dir_open = dir_open,
    .dir_close = dir_close,
    .dir_real_path = dir_real_path,
    .dir_remote_name = dir_remote_name,
    .dir_lacks_barriers = dir_lacks_barriers,
    .dir_sync = dir_sync,
    .dir_list = dir_list,
    .dir_describe = dir_describe,
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
    .populate = advise,
    .lock = take_lock,
    .unlock = unlock,
    .lock_test = lock_test,
    .queue_open = queue_open,
};

lsm_status draft_open(struct io *below, size_t most, struct io **io, lsm_error *err)
{
    struct draft *made = mem_alloc_zeroed(sizeof *made);
    if (made == NULL)
        return lsm_fail_memory(err, sizeof *made);
    made->base.ops = &draft_ops;
    made->base.name = "draft";
    made->below = below;
    made->most = most;
    *io = &made->base;
    return LSM_OK;
}
