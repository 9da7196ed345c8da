/*
 * A file on the simulated disk: its durable and its current bytes and what lies between them.
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

void sim_must(int number)
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

/* ---- inodes ---------------------------------------------------------------------------------- */

struct sim_inode *sim_inode_new_locked(struct sim_disk *disk)
{
    struct sim_inode *inode = mem_alloc_zeroed(sizeof *inode);
    if (inode == NULL)
        return NULL;
    inode->reference_count = 1;
    inode->number = ++disk->inode_count;
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

void sim_inode_free(struct sim_inode *inode)
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
    sim_inode_free(inode);
}

void sim_memory_drop(struct sim_memory *memory)
{
    if (memory == NULL || --memory->reference_count > 0)
        return;
    mem_free(memory->bytes);
    mem_free(memory);
}

/* A power cut does not wait for the threads that store into a mapping: their memory is read as it
 * is at this moment. The thread sanitizer is kept from it by a copy made behind its back. */
#ifdef __SANITIZE_THREAD__
__attribute__((no_sanitize_thread)) static const uint8_t *page_now(const volatile uint8_t *from,
                                                                   size_t size,
                                                                   uint8_t page[SIM_PAGE_SIZE])
{
    for (size_t i = 0; i < size; i++)
        page[i] = from[i];
    return page;
}
#else
static const uint8_t *page_now(const uint8_t *from, size_t size, uint8_t page[SIM_PAGE_SIZE])
{
    (void)size;
    (void)page;
    return from;
}
#endif

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
        uint8_t page[SIM_PAGE_SIZE];
        const uint8_t *from = page_now(inode->memory->bytes + at, step, page);
        if (memcmp(sim_image_page(&inode->current, (size_t)(at / SIM_PAGE_SIZE)), from, step) == 0)
            continue;
        if (sim_image_missing(&inode->current, at, step) > 0) {
            fprintf(stderr, "a store into a hole of a mapping, at offset %" PRIu64 "\n", at);
            abort(); /* on a full disk it would have been SIGBUS */
        }
        sim_must(sim_image_write(&inode->current, at, from, step));
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

void sim_inode_damage_locked(struct sim_inode *inode, uint64_t offset, const void *bytes,
                             size_t size)
{
    sim_inode_fold_locked(inode);
    sim_must(sim_image_write(&inode->current, offset, bytes, size));
    show(inode, offset, size);
    if (offset + size <= inode->durable.size)
        sim_must(sim_image_write(&inode->durable, offset, bytes, size));
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
