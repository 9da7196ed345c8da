/*
 * What a crash leaves.
 *
 * A power cut builds each file anew: the durable image, then a subset of the unsynced operations in
 * their order, each whole or torn, then a subset of the pages that were stored through a mapping.
 * A lost write may leave its size behind, with zeros or garbage for bytes. Names likewise: a subset
 * of the unsynced operations on the durable names, each of them all or nothing.
 */
#include "engine/io/sim_private.h"

#include <string.h>

struct cut {
    struct sim_disk *disk;
    struct random_state random;
    unsigned keep_of_8; /* chance of an operation to survive */
};

static bool chance(struct cut *cut, unsigned count, unsigned of)
{
    return random_below(&cut->random, of) < count;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* The bytes that a size without data shows: zeros, or what the disk held there before. */
static void fill_unwritten(struct cut *cut, struct sim_image *image, uint64_t first, uint64_t limit)
{
    bool garbage = chance(cut, 1, 2);
    uint8_t page[SIM_PAGE_SIZE];
    memset(page, 0, sizeof page);
    while (first < limit) {
        size_t step = limit - first < sizeof page ? (size_t)(limit - first) : sizeof page;
        for (size_t i = 0; garbage && i < sizeof page; i += sizeof(uint64_t)) {
            uint64_t word = random_next(&cut->random);
            memcpy(page + i, &word, sizeof word);
        }
        sim_must(sim_image_write(image, first, page, step));
        first += step;
    }
}

enum tear {
    TEAR_NOTHING,
    TEAR_ANYWHERE, /* each unit survives or not */
    TEAR_TAIL,     /* a first part survives */
    TEAR_HEAD,     /* a last part survives */
    TEAR_KINDS,
};

/* Copies a write, or the units of it that survive. */
static void write_torn(struct cut *cut, struct sim_image *image, uint64_t offset,
                       const uint8_t *bytes, uint64_t size)
{
    enum tear tear = chance(cut, 1, 3) ? (enum tear)(1 + random_below(&cut->random, TEAR_KINDS - 1))
                                       : TEAR_NOTHING;
    size_t unit = chance(cut, 1, 2) ? SIM_SECTOR_SIZE : SIM_PAGE_SIZE;
    uint64_t border = offset + random_below(&cut->random, size + 1);
    for (uint64_t at = offset; at < offset + size;) {
        uint64_t next = at - at % unit + unit;
        if (next > offset + size)
            next = offset + size;
        bool survives = tear == TEAR_NOTHING || (tear == TEAR_ANYWHERE && chance(cut, 1, 2)) ||
                        (tear == TEAR_TAIL && next <= border) ||
                        (tear == TEAR_HEAD && at >= border);
        if (survives)
            sim_must(sim_image_write(image, at, bytes + (at - offset), (size_t)(next - at)));
        at = next;
    }
}

static void keep_write(struct cut *cut, struct sim_image *image, const struct sim_op *op)
{
    bool survives = chance(cut, cut->keep_of_8, 8);
    bool size_survives = survives || chance(cut, cut->keep_of_8, 32);
    uint64_t limit = op->offset + op->size;
    if (size_survives && limit > image->size)
        fill_unwritten(cut, image, op->offset > image->size ? op->offset : image->size, limit);
    if (survives && op->size > 0)
        write_torn(cut, image, op->offset, op->bytes, op->size);
}

static void keep_op(struct cut *cut, struct sim_image *image, const struct sim_op *op)
{
    if (op->kind == SIM_OP_WRITE)
        keep_write(cut, image, op);
    else if (!chance(cut, cut->keep_of_8, 8))
        return;
    else if (op->kind == SIM_OP_TRUNCATE)
        sim_must(sim_image_resize(image, op->offset));
    else
        sim_must(sim_image_allocate(image, op->offset, op->size));
}

/* Stores through a mapping: each page that differs is there, torn, or not. */
static void keep_stored(struct cut *cut, struct sim_image *image, const struct sim_inode *inode)
{
    uint64_t limit = inode->current.size < image->size ? inode->current.size : image->size;
    for (uint64_t at = 0; at < limit; at += SIM_PAGE_SIZE) {
        size_t index = (size_t)(at / SIM_PAGE_SIZE);
        const uint8_t *stored = sim_image_page(&inode->current, index);
        const uint8_t *old = sim_image_page(image, index);
        size_t size = limit - at < SIM_PAGE_SIZE ? (size_t)(limit - at) : SIM_PAGE_SIZE;
        if (stored == old || memcmp(stored, old, size) == 0)
            continue;
        if (!chance(cut, cut->keep_of_8, 8))
            continue;
        bool torn = chance(cut, 1, 4);
        for (size_t s = 0; s < size; s += SIM_SECTOR_SIZE) {
            size_t step = size - s < SIM_SECTOR_SIZE ? size - s : SIM_SECTOR_SIZE;
            if (!torn || chance(cut, 1, 2))
                sim_must(sim_image_write(image, at + s, stored + s, step));
        }
    }
}

/* Makes `current` the new durable image, clean. */
static void settle(struct sim_inode *inode)
{
    sim_inode_forget_locked(inode);
    inode->stored = false;
    sim_image_release(&inode->current);
    sim_must(sim_image_copy(&inode->current, &inode->durable));
}

static void shuffle_flights(struct cut *cut, struct sim_inode *inode)
{
    for (size_t i = inode->flight_count; i > 1; i--) {
        size_t j = (size_t)random_below(&cut->random, i);
        struct sim_flight other = inode->flights[i - 1];
        inode->flights[i - 1] = inode->flights[j];
        inode->flights[j] = other;
    }
}

/* Each write in flight reaches the page cache or not, in any order. */
static void land_flights(struct cut *cut, struct sim_inode *inode, unsigned count, unsigned of)
{
    shuffle_flights(cut, inode);
    for (size_t i = 0; i < inode->flight_count; i++) {
        struct sim_op *op = inode->flights[i].op;
        if (!chance(cut, count, of) || sim_inode_apply_locked(cut->disk, inode, op) != 0)
            sim_op_drop(op);
    }
    inode->flight_count = 0;
}

static void cut_file(struct cut *cut, struct sim_inode *inode, enum sim_crash crash)
{
    switch (crash) {
    case SIM_CRASH_KILL:
        land_flights(cut, inode, 1, 2);
        return;
    case SIM_CRASH_LOSE_ALL:
        land_flights(cut, inode, 0, 1);
        break;
    case SIM_CRASH_KEEP_ALL:
        land_flights(cut, inode, 1, 1);
        sim_must(sim_inode_sync_locked(inode));
        break;
    case SIM_CRASH_RANDOM:
        land_flights(cut, inode, 1, 1);
        for (size_t i = 0; i < inode->op_count; i++)
            keep_op(cut, &inode->durable, inode->ops[i]);
        if (inode->stored)
            keep_stored(cut, &inode->durable, inode);
        break;
    }
    settle(inode);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void keep_name_op(struct cut *cut, struct sim_names *names, const struct sim_name_op *op)
{
    switch (op->kind) {
    case SIM_NAME_CREATE:
        sim_must(sim_names_set_locked(cut->disk, names, op->to, op->inode));
        return;
    case SIM_NAME_RENAME:
        sim_must(sim_names_set_locked(cut->disk, names, op->to, op->inode));
        if (sim_names_find(names, op->from) == op->inode)
            sim_names_remove_locked(cut->disk, names, op->from);
        return;
    case SIM_NAME_UNLINK:
        if (sim_names_find(names, op->from) == op->inode)
            sim_names_remove_locked(cut->disk, names, op->from);
        return;
    }
}

static void cut_names(struct cut *cut, struct sim_folder *folder, enum sim_crash crash)
{
    struct sim_disk *disk = cut->disk;
    if (crash == SIM_CRASH_KILL)
        return;
    if (crash == SIM_CRASH_KEEP_ALL)
        sim_must(sim_folder_sync_locked(disk, folder));
    if (crash == SIM_CRASH_RANDOM) {
        bool prefix = chance(cut, 1, 3);
        size_t limit = (size_t)random_below(&cut->random, folder->op_count + 1);
        for (size_t i = 0; i < folder->op_count; i++)
            if (prefix ? i < limit : chance(cut, cut->keep_of_8, 8))
                keep_name_op(cut, &folder->durable, &folder->ops[i]);
    }
    for (size_t i = 0; i < folder->current.count; i++)
        folder->current.entries[i].inode->use_count--;
    sim_must(sim_names_copy_locked(disk, &folder->current, &folder->durable));
    for (size_t i = 0; i < folder->current.count; i++)
        folder->current.entries[i].inode->use_count++;
    sim_folder_forget_locked(disk, folder);
}

/* ---- the crash ------------------------------------------------------------------------------- */

static void drop_locks(struct sim_disk *disk)
{
    while (disk->locks != NULL) {
        struct sim_lock *lock = disk->locks;
        disk->locks = lock->next;
        lock->held = false;
    }
}

void sim_crash(struct sim_disk *disk, enum sim_crash crash, uint64_t seed)
{
    pthread_mutex_lock(&disk->mutex);
    struct cut cut = {.disk = disk, .random = random_seeded(seed)};
    cut.keep_of_8 = (unsigned)random_below(&cut.random, 9);
    drop_locks(disk);
    for (struct sim_inode *i = disk->inodes; i != NULL; i = i->next) {
        sim_inode_detach_locked(i);
        cut_file(&cut, i, crash);
    }
    for (struct sim_folder *f = disk->folders; f != NULL; f = f->next)
        cut_names(&cut, f, crash);
    disk->orphan_count = 0;
    disk->stopped = false;
    disk->stop_at = 0;
    disk->epoch++;
    disk->random = random_seeded(seed ^ random_next(&disk->random));
    pthread_mutex_unlock(&disk->mutex);
}
