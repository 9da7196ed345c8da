/*
 * The order of locks, page and segment in coming in and leaving. Each state that a death can leave
 * is one of three: B free (the next one founds, whatever the page says), B shared by a living or
 * dying process and a page that is ready (the next one joins), or B exclusively a dying founder's
 * (the next one waits).
 */
#include "engine/shm/attach_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"

#include <assert.h>
#include <string.h>

#define LOCK_NAME     "LOCK"
#define REPLACED_MAX  100  /* LOCK files that vanish under their lock before it is given up */
#define DYING_WAIT_MS 2000 /* longest wait of the last one for a dying process, to end cleanly */

/* ---- time ------------------------------------------------------------------------------------ */

static uint64_t deadline_in(struct io *io, unsigned timeout_ms)
{
    return io_now_ns(io) + (uint64_t)timeout_ms * 1000000u;
}

static unsigned left_ms(struct io *io, uint64_t deadline)
{
    uint64_t now = io_now_ns(io);
    return now >= deadline ? 0 : (unsigned)((deadline - now + 999999u) / 1000000u);
}

/* ---- parts ----------------------------------------------------------------------------------- */

static lsm_status write_page(struct shm_attachment *a, bool ready, lsm_error *err)
{
    uint8_t bytes[ATTACH_PAGE_SIZE];
    a->page.ready = ready;
    a->page.process = a->process;
    attach_page_encode(&a->page, bytes);
    return io_file_write(a->file, bytes, sizeof bytes, 0, err);
}

/* `if_unknown` is the answer when the file cannot be looked at, for lack of descriptors say. */
static bool is_still_named(const struct shm_attachment *a, bool if_unknown)
{
    struct io_file *named = NULL;
    struct io_identity found;
    lsm_status status = io_file_open(a->options.dir, LOCK_NAME, 0, 0, &named, NULL);
    if (status == LSM_MISSING)
        return false;
    if (status == LSM_OK)
        status = io_file_identity(named, &found, NULL);
    bool same = status == LSM_OK ? io_identity_equal(found, a->lock_file) : if_unknown;
    io_file_close(named);
    return same;
}

/* A on the LOCK file of the name: one that was replaced while waiting for it is not it. */
static lsm_status lock_attach(struct shm_attachment *a, uint64_t deadline, lsm_error *err)
{
    const struct shm_attach_options *o = &a->options;
    for (unsigned i = 0; i < REPLACED_MAX; i++) {
        lsm_status status =
            io_file_open(o->dir, LOCK_NAME, IO_FILE_WRITE | IO_FILE_CREATE, o->mode, &a->file, err);
        if (status == LSM_OK)
            status = io_file_identity(a->file, &a->lock_file, err);
        if (status == LSM_OK)
            status = io_lock_as(a->file, SHM_LOCK_ATTACH, IO_LOCK_EXCLUSIVE,
                                left_ms(o->io, deadline), &a->attach, err);
        if (status == LSM_BUSY)
            return attach_busy(o->io, a->file, o->path, false, err);
        if (status != LSM_OK)
            return status;
        if (is_still_named(a, false))
            return LSM_OK;
        io_unlock(a->attach);
        a->attach = NULL;
        io_file_close(a->file);
        a->file = NULL;
    }
    return lsm_fail(err, LSM_BUSY, "the LOCK file of '%s' is replaced again and again", o->path);
}

static void unlock(struct io_lock **lock)
{
    io_unlock(*lock);
    *lock = NULL;
}

static lsm_status lock_presence(struct shm_attachment *a, enum io_lock_mode mode, unsigned wait_ms,
                                lsm_error *err)
{
    lsm_status status = io_lock_as(a->file, SHM_LOCK_PRESENCE, mode, wait_ms, &a->presence, err);
    a->alone = status == LSM_OK && mode == IO_LOCK_EXCLUSIVE;
    return status;
}

/*
 * B exclusive when nobody is there, else shared. Neither can be had while a founder, whose A is
 * free already, dies; and when the wait for it was for nothing there may be nobody left.
 */
static lsm_status settle_presence(struct shm_attachment *a, uint64_t deadline, lsm_error *err)
{
    struct io *io = a->options.io;
    if (a->options.how == SHM_ATTACH_ALONE)
        return lock_presence(a, IO_LOCK_EXCLUSIVE, left_ms(io, deadline), err);
    for (;;) {
        lsm_status status = lock_presence(a, IO_LOCK_EXCLUSIVE, 0, err);
        if (status == LSM_BUSY)
            status = lock_presence(a, IO_LOCK_SHARED, 0, err);
        if (status != LSM_BUSY)
            return status;
        status = lock_presence(a, IO_LOCK_SHARED, left_ms(io, deadline), err);
        if (status != LSM_OK)
            return status;
        unlock(&a->presence);
    }
}

/* What the population before left: its page names a segment that nobody may need any more. */
static lsm_status begin_founding(struct shm_attachment *a, lsm_error *err)
{
    struct attach_page before;
    if (attach_read_page(a->file, &before, NULL) == LSM_OK && before.directory[0] != '\0') {
        attach_take_last_words(a, &before);
        (void)shm_segment_remove_stale(a->options.io, before.directory, before.uuid, a->lock_file,
                                       NULL); /* if not here, then by the next one */
    }
    attach_page_init(&a->page, &a->process);
    lsm_status status = write_page(a, false, err);
    if (status == LSM_OK)
        STEP("attach: page cleared");
    return status;
}

/* ---- coming in ------------------------------------------------------------------------------- */

static lsm_status check_file_system(const struct shm_attach_options *o, lsm_error *err)
{
    const char *name = io_dir_remote_name(o->dir);
    if (name == NULL || o->allow_remote || o->how == SHM_ATTACH_ALONE)
        return LSM_OK;
    return lsm_fail(err, LSM_UNSUPPORTED,
                    "'%s' is on a shared file system (%s), where locks may not reach all who use "
                    "it; put the database on a local one, or open it with the option 'exclusive' "
                    "in one process at a time",
                    o->path, name);
}

static lsm_status come_in(struct shm_attachment *a, lsm_error *err)
{
    const struct shm_attach_options *o = &a->options;
    uint64_t deadline = deadline_in(o->io, o->timeout_ms);
    lsm_status status = lock_attach(a, deadline, err);
    if (status != LSM_OK)
        return status;
    STEP("attach: locked");
    status = settle_presence(a, deadline, err);
    if (status == LSM_BUSY)
        return attach_busy(o->io, a->file, o->path, o->how == SHM_ATTACH_ALONE, err);
    if (status != LSM_OK)
        return status;
    STEP("attach: presence locked");
    if (a->alone && o->how == SHM_ATTACH_JOIN)
        return lsm_fail(err, LSM_MISSING, "nobody has '%s' open", o->path);
    if (a->alone)
        return begin_founding(a, err);
    status = attach_join(a, err);
    if (status != LSM_OK)
        return status;
    unlock(&a->attach);
    STEP("attach: joined");
    return LSM_OK;
}

lsm_status shm_attach_begin(const struct shm_attach_options *options,
                            struct shm_attachment **attachment, enum shm_attach_role *role,
                            lsm_error *err)
{
    lsm_status status = check_file_system(options, err);
    if (status != LSM_OK)
        return status;
    struct shm_attachment *a = mem_alloc_zeroed(sizeof *a);
    if (a == NULL)
        return lsm_fail_memory(err, sizeof *a);
    a->options = *options;
    io_describe_process(options->io, &a->process);
    status = come_in(a, err);
    if (status != LSM_OK) {
        if (a->slot_lock != NULL)
            attach_free_slot(a);
        shm_attachment_abandon(a);
        return status;
    }
    *role = a->alone ? SHM_ATTACH_FOUNDER : SHM_ATTACH_JOINED;
    *attachment = a;
    if (err != NULL)
        *err = (lsm_error){0}; /* a lock that was only tried is no error */
    return LSM_OK;
}

/* ---- founding -------------------------------------------------------------------------------- */

static lsm_status found(struct shm_attachment *a, const struct shm_options *options, lsm_error *err)
{
    struct attach_page *page = &a->page;
    /* Where it will be, so that the next founder finds one that is only half made. */
    memcpy(page->uuid, options->uuid, sizeof page->uuid);
    lsm_status status = shm_segment_directory(a->options.io, options->directory, page->directory,
                                              sizeof page->directory, err);
    if (status == LSM_OK)
        status = write_page(a, false, err);
    STEP("attach: segment announced");
    if (status == LSM_OK)
        status = shm_segment_create(a->options.io, options, &a->segment, err);
    if (status != LSM_OK)
        return status;
    STEP("attach: segment made");
    status =
        shm_segment_place(a->segment, page->directory, sizeof page->directory, &page->segment, err);
    if (status != LSM_OK)
        return status;
    const struct shm_ident *ident = &shm_layout(a->segment)->ident;
    memcpy(page->nonce, ident->nonce, sizeof page->nonce);
    memcpy(page->segment_name, shm_segment_name(a->segment),
           strlen(shm_segment_name(a->segment)) + 1);
    status = write_page(a, false, err); /* so that it is found, should recovery not end */
    STEP("attach: segment named");
    return status == LSM_OK ? attach_take_slot(a, err) : status;
}

lsm_status shm_attach_found(struct shm_attachment *attachment, const struct shm_options *options,
                            lsm_error *err)
{
    assert(attachment->alone && attachment->segment == NULL);
    struct shm_options mine = *options;
    mine.lock_file = attachment->lock_file;
    if (mine.mode == 0)
        mine.mode = attachment->options.mode;
    lsm_status status = found(attachment, &mine, err);
    if (status != LSM_OK) {
        shm_segment_destroy(attachment->segment);
        attachment->segment = NULL;
    }
    return status;
}

lsm_status shm_attach_ready(struct shm_attachment *attachment, lsm_error *err)
{
    struct shm_attachment *a = attachment;
    assert(a->alone && a->attach != NULL && a->segment != NULL);
    /* Pairs with the acquire in attach_join.c; both are ordered by the page and A as well. */
    atomic_store_explicit(&shm_layout(a->segment)->ctl.ready, 1, memory_order_release);
    STEP("attach: segment ready");
    lsm_status status = write_page(a, true, err);
    if (status != LSM_OK)
        return status;
    STEP("attach: page written");
    unlock(&a->presence);
    a->alone = false;
    STEP("attach: presence free");
    status = lock_presence(a, IO_LOCK_SHARED, 0, err);
    if (status != LSM_OK)
        return status;
    STEP("attach: presence shared");
    unlock(&a->attach);
    STEP("attach: founded");
    return LSM_OK;
}

/* ---- leaving --------------------------------------------------------------------------------- */

/* Whoever has B and no slot is dying (nobody else comes in now): better wait than leave files that
 * the next one has to recover. */
static lsm_status decide_last(struct shm_attachment *a, lsm_error *err)
{
    unlock(&a->presence);
    STEP("detach: presence free");
    lsm_status status = lock_presence(a, IO_LOCK_EXCLUSIVE, 0, err);
    if (status == LSM_BUSY && !attach_others_live(a))
        status = lock_presence(a, IO_LOCK_EXCLUSIVE, DYING_WAIT_MS, err);
    if (status == LSM_BUSY)
        status = lock_presence(a, IO_LOCK_SHARED, 0, err);
    return status;
}

lsm_status shm_detach_begin(struct shm_attachment *attachment, bool *is_last, lsm_error *err)
{
    struct shm_attachment *a = attachment;
    lsm_status status = LSM_OK;
    if (a->attach == NULL)
        status = io_lock_as(a->file, SHM_LOCK_ATTACH, IO_LOCK_EXCLUSIVE, SHM_DETACH_TIMEOUT_MS,
                            &a->attach, err);
    if (status == LSM_BUSY)
        return attach_busy(a->options.io, a->file, a->options.path, false, err);
    if (status != LSM_OK)
        return status;
    STEP("detach: locked");
    if (!a->alone)
        status = decide_last(a, err);
    if (status != LSM_OK)
        return status;
    if (a->alone)
        (void)write_page(a, false, NULL); /* only says who is closing */
    STEP("detach: decided");
    *is_last = a->alone;
    if (err != NULL)
        *err = (lsm_error){0};
    return LSM_OK;
}

/* The memory goes before the locks: who finds those free finds nobody in the segment. */
static void let_go(struct shm_attachment *a)
{
    shm_segment_close(a->segment);
    io_unlock(a->slot_lock);
    io_unlock(a->presence);
    STEP("detach: presence left");
    io_unlock(a->attach);
    io_file_close(a->file);
    STEP("detach: done");
    mem_free(a);
}

void shm_detach_end(struct shm_attachment *attachment)
{
    struct shm_attachment *a = attachment;
    assert(a->attach != NULL && a->presence != NULL);
    if (a->alone) {
        shm_segment_destroy(a->segment);
        a->segment = NULL;
        STEP("detach: segment removed");
    } else {
        attach_free_slot(a);
        STEP("detach: slot free");
    }
    let_go(a);
}

void shm_attachment_abandon(struct shm_attachment *attachment)
{
    if (attachment != NULL)
        let_go(attachment);
}

/* ---- looking --------------------------------------------------------------------------------- */

struct shm_segment *shm_attachment_segment(const struct shm_attachment *attachment)
{
    return attachment->segment;
}

uint32_t shm_attachment_slot(const struct shm_attachment *attachment)
{
    return attachment->slot;
}

uint32_t shm_attachment_generation(const struct shm_attachment *attachment)
{
    return attachment->generation;
}

bool shm_attachment_is_intact(const struct shm_attachment *attachment)
{
    return is_still_named(attachment, true);
}

lsm_status shm_attach_look(struct io *io, struct io_dir *dir, const char *path, lsm_error *err)
{
    struct io_file *file = NULL;
    lsm_status status = io_file_open(dir, LOCK_NAME, 0, 0, &file, err);
    if (status == LSM_MISSING) {
        if (err != NULL)
            *err = (lsm_error){0};
        return LSM_OK;
    }
    if (status != LSM_OK)
        return status;
    bool is_settled = io_lock_is_held(file, SHM_LOCK_PRESENCE);
    if (is_settled || io_lock_is_held(file, SHM_LOCK_ATTACH))
        status = attach_busy(io, file, path, is_settled, err);
    io_file_close(file);
    return status;
}
