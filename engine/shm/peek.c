/*
 * The page of the LOCK file is read without the attach lock, so what it says may be half written or
 * of a population that is gone: it is believed when the segment that it names is there, names this
 * LOCK file, and somebody who is in it lives or nobody comes in. Otherwise it is read again.
 */
#include "engine/shm/peek.h"

#include "engine/base/memory.h"
#include "engine/shm/attach_private.h"

#include <string.h>
#include <time.h>

#define LOCK_NAME     "LOCK"
#define LOOK_TRIES    10
#define LOOK_PAUSE_NS 3000000
#define LAYOUT_ROUNDED                                                                             \
    ((sizeof(struct shm_layout) + IO_ALIGNMENT - 1) / IO_ALIGNMENT * IO_ALIGNMENT)

struct shm_peek {
    /* Never attached: only file, identity, page, segment and the path for messages are used. */
    struct shm_attachment view;
    enum shm_peek_state state;
    lsm_error why;
};

static bool is_held(const struct shm_peek *p, uint64_t byte)
{
    return io_lock_is_held(p->view.file, byte);
}

/* Who changes the mode of B holds A meanwhile: when both look free B is looked at again. */
static bool is_anybody_there(const struct shm_peek *p)
{
    return is_held(p, SHM_LOCK_PRESENCE) || is_held(p, SHM_LOCK_ATTACH) ||
           is_held(p, SHM_LOCK_PRESENCE);
}

static void forget(struct shm_peek *p)
{
    shm_segment_close(p->view.segment);
    p->view.segment = NULL;
    p->view.page = (struct attach_page){0};
    p->why = (lsm_error){0};
}

/* Whether what is wrong is so for good, or may be because somebody comes or leaves just now. */
static enum shm_peek_state hidden_or_changing(const struct shm_peek *p)
{
    bool is_settled = !is_held(p, SHM_LOCK_ATTACH) && is_held(p, SHM_LOCK_PRESENCE);
    return is_settled ? SHM_PEEK_HIDDEN : SHM_PEEK_CHANGING;
}

static lsm_status open_segment(struct shm_peek *p, lsm_error *err)
{
    const struct attach_page *page = &p->view.page;
    return shm_segment_look(p->view.options.io, page->directory, page->segment_name, page->segment,
                            &p->view.segment, err);
}

static enum shm_peek_state look_inside(struct shm_peek *p)
{
    struct shm_attachment *a = &p->view;
    bool anybody_lives = attach_living_slot(a->segment, a->file) != NULL;
    if (is_held(p, SHM_LOCK_ATTACH) && !anybody_lives)
        return SHM_PEEK_CHANGING; /* the page is of those who were there before */
    uint32_t ready = atomic_load_explicit(&shm_layout(a->segment)->ctl.ready, memory_order_acquire);
    return a->page.ready && ready == 1 ? SHM_PEEK_SHARED : SHM_PEEK_ALONE;
}

static enum shm_peek_state look_at_page(struct shm_peek *p)
{
    struct shm_attachment *a = &p->view;
    lsm_status status = attach_read_page(a->file, &a->page, &p->why);
    if (status == LSM_CORRUPT || status == LSM_NEWER_FORMAT)
        (void)lsm_fail(&p->why, status, "'%s' is open in some process, but its LOCK file is %s",
                       a->options.path,
                       status == LSM_CORRUPT ? "damaged" : "of a newer version of libengine");
    if (status != LSM_OK)
        return hidden_or_changing(p);
    if (a->page.segment_name[0] == '\0')
        return SHM_PEEK_CHANGING;
    if (attach_check_page(a, &p->why) != LSM_OK)
        return hidden_or_changing(p);
    status = open_segment(p, &p->why);
    if (status == LSM_OK)
        status = attach_check_segment(a, &p->why);
    return status == LSM_OK ? look_inside(p) : hidden_or_changing(p);
}

static lsm_status look_once(struct shm_peek *p, lsm_error *err)
{
    struct shm_attachment *a = &p->view;
    lsm_error own = {0};
    io_file_close(a->file);
    a->file = NULL;
    forget(p);
    p->state = SHM_PEEK_NOBODY;
    lsm_status status = io_file_open(a->options.dir, LOCK_NAME, 0, 0, &a->file, &own);
    if (status == LSM_MISSING)
        return LSM_OK;
    if (status == LSM_OK)
        status = io_file_identity(a->file, &a->lock_file, &own);
    if (status != LSM_OK) {
        status_copy(err, &own);
        return status;
    }
    if (is_anybody_there(p))
        p->state = look_at_page(p);
    if (p->state != SHM_PEEK_HIDDEN)
        p->why = (lsm_error){0};
    return LSM_OK;
}

lsm_status shm_peek_open(struct io *io, struct io_dir *dir, const char *path,
                         struct shm_peek **peek, lsm_error *err)
{
    struct shm_peek *p = mem_alloc_zeroed(sizeof *p);
    if (p == NULL)
        return lsm_fail_memory(err, sizeof *p);
    p->view.options = (struct shm_attach_options){.io = io, .dir = dir, .path = path};
    io_describe_process(io, &p->view.process);
    lsm_status status = look_once(p, err);
    for (unsigned i = 1; i < LOOK_TRIES && status == LSM_OK &&
                         (p->state == SHM_PEEK_CHANGING || p->state == SHM_PEEK_HIDDEN);
         i++) {
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_PAUSE_NS}, NULL);
        status = look_once(p, err);
    }
    if (status != LSM_OK) {
        shm_peek_close(p);
        return status;
    }
    if (p->state != SHM_PEEK_ALONE && p->state != SHM_PEEK_SHARED) {
        shm_segment_close(p->view.segment);
        p->view.segment = NULL;
    }
    *peek = p;
    return LSM_OK;
}

void shm_peek_close(struct shm_peek *peek)
{
    if (peek == NULL)
        return;
    shm_segment_close(peek->view.segment);
    io_file_close(peek->view.file);
    mem_free(peek);
}

enum shm_peek_state shm_peek_state(const struct shm_peek *peek)
{
    return peek->state;
}

const lsm_error *shm_peek_why(const struct shm_peek *peek)
{
    return &peek->why;
}

const struct io_process *shm_peek_founder(const struct shm_peek *peek)
{
    return &peek->view.page.process;
}

const struct shm_layout *shm_peek_layout(const struct shm_peek *peek)
{
    return peek->view.segment == NULL ? NULL : shm_layout(peek->view.segment);
}

const char *shm_peek_directory(const struct shm_peek *peek)
{
    return peek->view.page.directory;
}

const char *shm_peek_name(const struct shm_peek *peek)
{
    return peek->view.page.segment_name;
}

/* Both were checked against the file's size when it was mapped, and are written once. */
uint32_t shm_peek_arena_count(const struct shm_peek *peek)
{
    const struct shm_layout *layout = shm_peek_layout(peek);
    return layout == NULL ? 0 : layout->ident.memtable_count;
}

uint64_t shm_peek_arena_size(const struct shm_peek *peek)
{
    const struct shm_layout *layout = shm_peek_layout(peek);
    return layout == NULL ? 0 : layout->ident.arena_size;
}

const void *shm_peek_arena(const struct shm_peek *peek, uint32_t index, uint64_t size)
{
    const struct shm_layout *layout = shm_peek_layout(peek);
    if (layout == NULL || index >= layout->ident.memtable_count || size > layout->ident.arena_size)
        return NULL;
    /* Acquire: what was backed before is there. A backed piece stays so. */
    if (atomic_load_explicit(&layout->memtables[index].backed_low, memory_order_acquire) < size)
        return NULL;
    return (const uint8_t *)layout + LAYOUT_ROUNDED + index * layout->ident.arena_size;
}

bool shm_peek_slot_is_alive(const struct shm_peek *peek, uint32_t index)
{
    return index < SHM_MAX_SLOTS && peek->view.file != NULL && is_held(peek, SHM_LOCK_SLOT(index));
}

bool shm_peek_is_current(const struct shm_peek *peek)
{
    struct attach_page now;
    if (peek->view.file == NULL || !is_anybody_there(peek))
        return peek->state == SHM_PEEK_NOBODY;
    if (attach_read_page(peek->view.file, &now, NULL) != LSM_OK)
        return peek->state == SHM_PEEK_HIDDEN;
    return memcmp(now.nonce, peek->view.page.nonce, sizeof now.nonce) == 0;
}
