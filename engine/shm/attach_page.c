#include "engine/shm/attach_page.h"

#include "engine/base/bytes.h"
#include "engine/base/hash.h"

#include <assert.h>
#include <stdio.h>

#define PAGE_MAGIC UINT64_C(0x4b434f4c4d534c65) /* "eLSMLOCK" */

enum page_offset {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_READY = 12,
    AT_UUID = 16,
    AT_NONCE = 32,
    AT_DEVICE = 48,
    AT_INODE = 56,
    AT_LAYOUT = 64,
    AT_PID_NAMESPACE = 72,
    AT_PID = 80,
    AT_BOOT = 88,
    AT_LIBRARY = 128,
    AT_COMMAND = 152,
    AT_SEGMENT = 168,
    AT_DIRECTORY = 232,
    AT_CHECKSUM = 4088,
};

static_assert(AT_BOOT + sizeof(((struct io_process *)0)->boot_id) == AT_LIBRARY, "boot id fits");
static_assert(AT_LIBRARY + ATTACH_LIBRARY_SIZE == AT_COMMAND, "library fits");
static_assert(AT_COMMAND + sizeof(((struct io_process *)0)->command) == AT_SEGMENT, "command fits");
static_assert(AT_SEGMENT + IO_NAME_MAX == AT_DIRECTORY, "name fits");
static_assert(AT_DIRECTORY + ATTACH_DIRECTORY_SIZE <= AT_CHECKSUM, "directory fits");

void attach_page_init(struct attach_page *page, const struct io_process *process)
{
    *page = (struct attach_page){.process = *process, .layout_hash = shm_layout_hash()};
#ifdef __GLIBC__
    const char *kind = "glibc";
#else
    const char *kind = "libc";
#endif
    snprintf(page->library, sizeof page->library, "%s-%zu-%zu", kind, sizeof(void *) * 8,
             sizeof(pthread_mutex_t));
}

void attach_page_encode(const struct attach_page *page, uint8_t bytes[ATTACH_PAGE_SIZE])
{
    memset(bytes, 0, ATTACH_PAGE_SIZE);
    bytes_put_u64(bytes + AT_MAGIC, PAGE_MAGIC);
    bytes_put_u32(bytes + AT_VERSION, ATTACH_PAGE_VERSION);
    bytes_put_u32(bytes + AT_READY, page->ready);
    memcpy(bytes + AT_UUID, page->uuid, sizeof page->uuid);
    memcpy(bytes + AT_NONCE, page->nonce, sizeof page->nonce);
    bytes_put_u64(bytes + AT_DEVICE, page->segment.device);
    bytes_put_u64(bytes + AT_INODE, page->segment.inode);
    bytes_put_u64(bytes + AT_LAYOUT, page->layout_hash);
    bytes_put_u64(bytes + AT_PID_NAMESPACE, page->process.pid_namespace);
    bytes_put_u64(bytes + AT_PID, (uint64_t)page->process.pid);
    memcpy(bytes + AT_BOOT, page->process.boot_id, sizeof page->process.boot_id);
    memcpy(bytes + AT_LIBRARY, page->library, sizeof page->library);
    memcpy(bytes + AT_COMMAND, page->process.command, sizeof page->process.command);
    memcpy(bytes + AT_SEGMENT, page->segment_name, sizeof page->segment_name);
    memcpy(bytes + AT_DIRECTORY, page->directory, sizeof page->directory);
    bytes_put_u64(bytes + AT_CHECKSUM, hash_bytes(bytes, AT_CHECKSUM, 0));
}

/* False when no NUL ends the text. */
static bool take_text(const uint8_t *from, char *text, size_t size)
{
    memcpy(text, from, size);
    return memchr(text, '\0', size) != NULL;
}

lsm_status attach_page_decode(const uint8_t bytes[ATTACH_PAGE_SIZE], struct attach_page *page)
{
    if (bytes_get_u64(bytes + AT_MAGIC) != PAGE_MAGIC ||
        bytes_get_u64(bytes + AT_CHECKSUM) != hash_bytes(bytes, AT_CHECKSUM, 0))
        return LSM_CORRUPT;
    if (bytes_get_u32(bytes + AT_VERSION) != ATTACH_PAGE_VERSION)
        return LSM_NEWER_FORMAT;
    *page = (struct attach_page){
        .ready = bytes_get_u32(bytes + AT_READY) == 1,
        .segment = {.device = bytes_get_u64(bytes + AT_DEVICE),
                    .inode = bytes_get_u64(bytes + AT_INODE)},
        .layout_hash = bytes_get_u64(bytes + AT_LAYOUT),
        .process = {.pid_namespace = bytes_get_u64(bytes + AT_PID_NAMESPACE),
                    .pid = (int64_t)bytes_get_u64(bytes + AT_PID)},
    };
    memcpy(page->uuid, bytes + AT_UUID, sizeof page->uuid);
    memcpy(page->nonce, bytes + AT_NONCE, sizeof page->nonce);
    struct io_process *p = &page->process;
    bool whole = take_text(bytes + AT_BOOT, p->boot_id, sizeof p->boot_id);
    whole = take_text(bytes + AT_LIBRARY, page->library, sizeof page->library) && whole;
    whole = take_text(bytes + AT_COMMAND, p->command, sizeof p->command) && whole;
    whole = take_text(bytes + AT_SEGMENT, page->segment_name, IO_NAME_MAX) && whole;
    whole = take_text(bytes + AT_DIRECTORY, page->directory, sizeof page->directory) && whole;
    return whole ? LSM_OK : LSM_CORRUPT;
}
