/* Entering a population that is there: what is believed of the LOCK page, and what is not. */
#include "engine/shm/attach_private.h"

#include "engine/base/memory.h"

#include <stdio.h>
#include <string.h>

#define HOLDER_TEXT 64

lsm_status attach_read_page(struct io_file *file, struct attach_page *page, lsm_error *err)
{
    uint8_t bytes[ATTACH_PAGE_SIZE];
    size_t got = 0;
    lsm_status status = io_file_read(file, bytes, sizeof bytes, 0, &got, err);
    if (status != LSM_OK)
        return status;
    memset(bytes + got, 0, sizeof bytes - got);
    return attach_page_decode(bytes, page);
}

static void write_holder(char text[HOLDER_TEXT], int64_t pid, const char *command)
{
    snprintf(text, HOLDER_TEXT, "%" PRId64 " ('%.*s')", pid, SHM_COMMAND_SIZE, command);
}

/* The founder may be gone while others stay: their slots know better than the page. */
static void find_holder(struct io *io, struct io_file *file, char text[HOLDER_TEXT])
{
    struct attach_page page;
    struct shm_segment *segment = NULL;
    snprintf(text, HOLDER_TEXT, "(unknown)");
    if (attach_read_page(file, &page, NULL) != LSM_OK)
        return;
    write_holder(text, page.process.pid, page.process.command);
    if (!page.ready || shm_segment_open(io, page.directory, page.segment_name, page.segment,
                                        &segment, NULL) != LSM_OK)
        return;
    const struct shm_slot *slot = attach_living_slot(segment, file);
    if (slot != NULL)
        write_holder(text, atomic_load_explicit(&slot->pid, memory_order_relaxed), slot->command);
    shm_segment_close(segment);
}

lsm_status attach_busy(struct io *io, struct io_file *file, const char *path, bool is_settled,
                       lsm_error *err)
{
    char holder[HOLDER_TEXT];
    find_holder(io, file, holder);
    lsm_status status =
        is_settled ? lsm_fail(err, LSM_BUSY, "'%s' is open in process %s; close it there first",
                              path, holder)
                   : lsm_fail(err, LSM_BUSY,
                              "'%s' is being opened or closed, by process %s or one that came "
                              "later; try again when it is done",
                              path, holder);
    status_place(err, path, LSM_NO_OFFSET);
    return status;
}

/* ---- checks ---------------------------------------------------------------------------------- */

/* Refuses to join; `differs` says why and `advice` what to do. */
static lsm_status refuse(const struct shm_attachment *a, lsm_status status, const char *differs,
                         const char *advice, lsm_error *err)
{
    const struct io_process *p = &a->page.process;
    (void)lsm_fail(err, status, "'%s' was opened by process %" PRId64 " ('%s') %s; %s",
                   a->options.path, p->pid, p->command, differs, advice);
    status_place(err, a->options.path, LSM_NO_OFFSET);
    return status;
}

lsm_status attach_check_page(const struct shm_attachment *a, lsm_error *err)
{
    const struct attach_page *page = &a->page;
    struct attach_page here;
    attach_page_init(&here, &a->process);
    if (strcmp(page->process.boot_id, here.process.boot_id) != 0)
        return refuse(a, LSM_UNSUPPORTED, "on another machine",
                      "memory cannot be shared with it: close it there first", err);
    if (page->process.pid_namespace != here.process.pid_namespace)
        return refuse(a, LSM_UNSUPPORTED, "in another PID namespace",
                      "let the containers share one (docker: --pid), or close it there first", err);
    if (strcmp(page->library, here.library) != 0)
        return refuse(a, LSM_UNSUPPORTED, "with another C library or word size",
                      "locks differ between them: close it there first", err);
    if (page->layout_hash != here.layout_hash)
        return refuse(a, LSM_UNSUPPORTED, "with another version of libengine",
                      "use one version in all processes, or close it there first", err);
    return LSM_OK;
}

static const char advice[] = "close it in all processes, then open it again";

lsm_status attach_check_segment(const struct shm_attachment *a, lsm_error *err)
{
    const struct shm_ident *ident = &shm_layout(a->segment)->ident;
    if (!io_identity_equal(ident->lock_file, a->lock_file))
        return refuse(a, LSM_CORRUPT, "with a segment that belongs to another LOCK file", advice,
                      err);
    if (memcmp(ident->uuid, a->page.uuid, SHM_UUID_SIZE) != 0 ||
        memcmp(ident->nonce, a->page.nonce, SHM_UUID_SIZE) != 0)
        return refuse(a, LSM_CORRUPT, "with a segment other than its LOCK file says", advice, err);
    return LSM_OK;
}

static lsm_status check_ready(const struct shm_attachment *a, lsm_error *err)
{
    if (!a->page.ready)
        return refuse(a, LSM_CORRUPT, "and says it is not ready although others are in", advice,
                      err);
    if (a->segment != NULL &&
        atomic_load_explicit(&shm_layout(a->segment)->ctl.ready, memory_order_acquire) != 1)
        return refuse(a, LSM_CORRUPT, "with a segment that is not ready", advice, err);
    return LSM_OK;
}

static lsm_status open_segment(struct shm_attachment *a, lsm_error *err)
{
    struct shm_segment *segment = NULL;
    lsm_error cause = {0};
    const struct attach_page *page = &a->page;
    lsm_status status = shm_segment_open(a->options.io, page->directory, page->segment_name,
                                         page->segment, &segment, &cause);
    if (status == LSM_OK) {
        a->segment = segment;
        return LSM_OK;
    }
    /* The layout was compared already: what is there is another file of that name. */
    if (status == LSM_MISSING || status == LSM_UNSUPPORTED) {
        status = lsm_fail(err, LSM_UNSUPPORTED,
                          "'%s' is open in process %" PRId64 ", but its shared memory '%s/%s' is "
                          "not visible here; let the containers share that directory, or close it "
                          "there first",
                          a->options.path, page->process.pid, page->directory, page->segment_name);
        status_place(err, page->segment_name, LSM_NO_OFFSET);
        return status;
    }
    status_copy(err, &cause);
    return status;
}

lsm_status attach_join(struct shm_attachment *a, lsm_error *err)
{
    lsm_status status = attach_read_page(a->file, &a->page, err);
    if (status == LSM_CORRUPT || status == LSM_NEWER_FORMAT) {
        status = lsm_fail(err, status == LSM_CORRUPT ? LSM_CORRUPT : LSM_UNSUPPORTED,
                          "'%s' is open in some process, but its LOCK file is %s; close it in all "
                          "processes, then open it again",
                          a->options.path,
                          status == LSM_CORRUPT ? "damaged" : "of a newer version of libengine");
        status_place(err, "LOCK", 0);
        return status;
    }
    if (status == LSM_OK)
        status = attach_check_page(a, err);
    if (status == LSM_OK)
        status = check_ready(a, err);
    if (status == LSM_OK)
        status = open_segment(a, err);
    if (status == LSM_OK)
        status = attach_check_segment(a, err);
    if (status == LSM_OK)
        status = check_ready(a, err);
    if (status == LSM_OK)
        status = attach_take_slot(a, err);
    return status;
}
