/*
 * Inside the simulated disk.
 *
 *   sim_image.c  a file's bytes as shared pages
 *   sim_inode.c  a file: what is durable, what is current, what lies between
 *   sim_folder.c names, likewise
 *   sim_disk.c   the disk: steps, faults, space; cloning
 *   sim_crash.c  what a crash leaves
 *   sim.c        the struct io on a disk
 *   sim_queue.c  its queues
 *
 * Everything in struct sim_disk is guarded by its mutex; functions ending in _locked need it. Pages
 * and operations are shared by clones, hence immutable once shared and counted atomically.
 */
#ifndef ENGINE_IO_SIM_PRIVATE_H
#define ENGINE_IO_SIM_PRIVATE_H

#include "engine/base/random.h"
#include "engine/io/io_private.h"
#include "engine/io/sim.h"

#include <pthread.h>

/* ---- images ---------------------------------------------------------------------------------- */

#define SIM_PAGE_SIZE   ((size_t)4096)
#define SIM_SECTOR_SIZE ((size_t)512)
#define SIM_FILE_MAX    ((uint64_t)16 << 30) /* larger files are EFBIG: the page table is an array */

struct sim_page {
    _Atomic unsigned reference_count;
    uint8_t bytes[4096];
};

/* Zeroed is an empty file. Bytes of the last page behind `size` are zero. */
struct sim_image {
    uint64_t size;
    struct sim_page **pages; /* NULL: a hole, no space reserved */
    size_t page_count;
    size_t page_capacity;
    size_t used; /* pages that take space */
};

void sim_image_release(struct sim_image *image);
int sim_image_copy(struct sim_image *to, const struct sim_image *from); /* `to` is empty */
/* Puts page `index` of `from` (a hole where there is none) into `to`; sizes stay. */
int sim_image_share(struct sim_image *to, const struct sim_image *from, size_t index);
void sim_image_read(const struct sim_image *image, uint64_t offset, void *bytes, size_t size);
int sim_image_write(struct sim_image *image, uint64_t offset, const void *bytes, size_t size);
int sim_image_allocate(struct sim_image *image, uint64_t offset, uint64_t size);
int sim_image_resize(struct sim_image *image, uint64_t size);
/* Pages of the range that have no space yet. */
size_t sim_image_missing(const struct sim_image *image, uint64_t offset, uint64_t size);
/* The bytes of page `index`; zeros for a hole. */
const uint8_t *sim_image_page(const struct sim_image *image, size_t index);

static inline size_t sim_page_limit(uint64_t size)
{
    return (size_t)((size + SIM_PAGE_SIZE - 1) / SIM_PAGE_SIZE);
}

/* ---- disk ------------------------------------------------------------------------------------ */

enum sim_op_kind {
    SIM_OP_WRITE,
    SIM_OP_TRUNCATE, /* to `offset` */
    SIM_OP_ALLOCATE,
};

/* An unsynced change of a file. Immutable. */
struct sim_op {
    _Atomic unsigned reference_count;
    enum sim_op_kind kind;
    uint64_t offset;
    uint64_t size;
    uint8_t bytes[];
};

/* A write handed over and not landed. */
struct sim_flight {
    struct sim_op *op;
    const struct io *issuer; /* compared only */
    bool orphaned;           /* its process is dead: it lands later, or never */
};

/* What a mapping points to; outlives the inode's use of it when the machine is switched off. */
struct sim_memory {
    unsigned reference_count;
    size_t size;
    uint8_t *bytes;
};

struct sim_inode {
    struct sim_inode *next;
    unsigned reference_count; /* names of both kinds, name operations, handles, mappings */
    unsigned use_count;       /* current names and handles: it takes space */
    struct sim_image durable;
    struct sim_image current; /* folded: up to date with `memory` */
    struct sim_op **ops;      /* in order; all are in `current` */
    size_t op_count;
    size_t op_capacity;
    struct sim_flight *flights; /* none is in `current` */
    size_t flight_count;
    size_t flight_capacity;
    struct sim_memory *memory; /* NULL: not mapped */
    unsigned map_count;
    bool stored;            /* was mapped for writing since it was last clean */
    uint64_t number;        /* unique on the disk, and kept by its clones */
    struct sim_inode *twin; /* while cloning */
};

struct sim_name {
    char name[64];
    struct sim_inode *inode; /* counted */
};

struct sim_names {
    struct sim_name *entries;
    size_t count;
    size_t capacity;
};

enum sim_name_op_kind {
    SIM_NAME_CREATE, /* `to` */
    SIM_NAME_RENAME,
    SIM_NAME_UNLINK, /* `from` */
};

struct sim_name_op {
    enum sim_name_op_kind kind;
    char from[64];
    char to[64];
    struct sim_inode *inode; /* counted */
};

struct sim_folder {
    struct sim_folder *next;
    char *path;
    unsigned handle_count;
    bool removed; /* freed with its last handle */
    struct sim_names durable;
    struct sim_names current;
    struct sim_name_op *ops;
    size_t op_count;
    size_t op_capacity;
};

struct sim_fault {
    bool armed;
    bool sticky;
    uint64_t count;
    int os_errno;
};

struct sim_lock {
    struct io_lock base;
    struct sim_lock *next; /* while held */
    struct sim_disk *disk;
    struct sim_inode *inode; /* counted */
    struct io *owner;
    uint64_t byte;
    enum io_lock_mode mode;
    bool held;
};

struct sim_disk {
    pthread_mutex_t mutex;
    struct random_state random;
    struct sim_folder *folders;
    struct sim_inode *inodes;
    struct sim_lock *locks;
    uint64_t step_count;
    uint64_t overlap_count;
    uint64_t stop_at;
    struct sim_io *caller; /* between sim_enter() and sim_leave() */
    uint64_t epoch;        /* of environments; a crash ends those before */
    bool stopped;
    size_t orphan_count; /* flights whose process is dead */
    uint64_t clock_ns;
    struct sim_fault faults[SIM_FAULT_KINDS];
    uint64_t operations[SIM_FAULT_KINDS];
    uint64_t read_bytes;
    uint64_t capacity;       /* bytes; 0: no limit */
    uint64_t inode_count;    /* made so far */
    const char *remote_name; /* of the file system; NULL: a local one */
    void *contents;          /* of sim_contents() */
};

/* 0, or IO_ERRNO_OFF when this step is the one at which the machine stops or its process dies. */
int sim_step_locked(struct sim_disk *disk);
void sim_kill_locked(struct sim_io *io);
/* 0, or the errno with which this operation has to fail. */
int sim_fault_locked(struct sim_disk *disk, enum sim_fault_kind kind);
/* 0 or ENOSPC for `pages` more pages. */
int sim_space_locked(const struct sim_disk *disk, size_t pages);
bool sim_chance_locked(struct sim_disk *disk, unsigned of); /* one in `of` */

struct sim_folder *sim_folder_find_locked(struct sim_disk *disk, const char *path);
int sim_folder_make_locked(struct sim_disk *disk, const char *path, struct sim_folder **folder);
int sim_folder_move_locked(struct sim_folder *folder, const char *path);
void sim_folder_free_locked(struct sim_disk *disk, struct sim_folder *folder);
int sim_folder_sync_locked(struct sim_disk *disk, struct sim_folder *folder);
int sim_folder_record_locked(struct sim_folder *folder, enum sim_name_op_kind kind,
                             const char *from, const char *to, struct sim_inode *inode);
void sim_folder_withdraw_locked(struct sim_disk *disk, struct sim_folder *folder); /* the last */
void sim_folder_forget_locked(struct sim_disk *disk, struct sim_folder *folder);

/* Names. Setting counts the inode and drops the one that had the name. */
struct sim_inode *sim_names_find(const struct sim_names *names, const char *name);
int sim_names_set_locked(struct sim_disk *disk, struct sim_names *names, const char *name,
                         struct sim_inode *inode);
bool sim_names_remove_locked(struct sim_disk *disk, struct sim_names *names, const char *name);
int sim_names_copy_locked(struct sim_disk *disk, struct sim_names *to,
                          const struct sim_names *from);
void sim_names_clear_locked(struct sim_disk *disk, struct sim_names *names);

struct sim_inode *sim_inode_new_locked(struct sim_disk *disk);
void sim_inode_drop_locked(struct sim_disk *disk, struct sim_inode *inode);
void sim_inode_free(struct sim_inode *inode); /* whoever refers to it */
/* Overwrites bytes inside the file in both images, leaving no operation. */
void sim_inode_damage_locked(struct sim_inode *inode, uint64_t offset, const void *bytes,
                             size_t size);
/* Takes what was stored in the mapped memory into `current`. */
void sim_inode_fold_locked(struct sim_inode *inode);
void sim_inode_fold_range_locked(struct sim_inode *inode, uint64_t offset, uint64_t size);
void sim_inode_detach_locked(struct sim_inode *inode); /* folds, and lets go of the memory */
/* Does `op` to `current` and records it as unsynced; takes over the reference on success only.
 * ENOSPC after doing a part of a write. */
int sim_inode_apply_locked(struct sim_disk *disk, struct sim_inode *inode, struct sim_op *op);
int sim_inode_sync_locked(struct sim_inode *inode);
void sim_inode_forget_locked(struct sim_inode *inode); /* drops the unsynced operations */
int sim_inode_fly_locked(struct sim_inode *inode, struct sim_op *op, const struct io *issuer);
/* Removes the flight of `op`; false when it is gone. */
bool sim_inode_land_locked(struct sim_inode *inode, const struct sim_op *op);

struct sim_op *sim_op_new(enum sim_op_kind kind, uint64_t offset, uint64_t size, const void *bytes);
struct sim_op *sim_op_acquire(struct sim_op *op);
void sim_op_drop(struct sim_op *op);

void sim_memory_drop(struct sim_memory *memory);
/* Ends the program on a failure in a place that has nobody to report it to. */
void sim_must(int number);
/* Grows an array to hold one more. */
int sim_grow(void **array, size_t *capacity, size_t count, size_t entry_size);

/* ---- environment ----------------------------------------------------------------------------- */

struct sim_io {
    struct io base;
    struct sim_disk *disk;
    uint64_t epoch;
    bool killed;
    uint64_t kill_at; /* the step from now, counted down; 0: none */
};

struct sim_file {
    struct io_file base;
    struct sim_inode *inode; /* counted */
};

/* Takes the disk's mutex; 0, or IO_ERRNO_OFF without it when the environment is dead. */
int sim_enter(struct io *io, struct sim_disk **disk);
void sim_leave(struct sim_disk *disk);

int sim_queue_open(struct io *io, unsigned depth, struct io_queue **queue);
int sim_read_locked(struct sim_disk *disk, struct sim_inode *inode, void *memory, size_t size,
                    uint64_t offset, size_t *got);

#endif
