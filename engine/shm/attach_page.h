/*
 * The first page of the LOCK file: who founded the population that has the database open, and where
 * its segment is. Written and believed only under the attach lock (engine/shm/attach.h); it need
 * not survive a power cut, because nobody does who was attached.
 *
 *   0    magic         u64       "eLSMLOCK"
 *   8    version       u32       1
 *   12   ready         u32       1: the segment may be entered; 0: opening or closing goes on
 *   16   database      16 bytes  uuid
 *   32   nonce         16 bytes  of the segment
 *   48   device        u64       of the segment's file
 *   56   inode         u64
 *   64   layout        u64       what the founder's build hashes its layout to
 *   72   PID namespace u64       inode
 *   80   process       u64       id of the founder, or of who closes; for messages
 *   88   boot          40 bytes  id of the running kernel, NUL-terminated text like the next
 *   128  C library     24 bytes
 *   152  command       16 bytes  for messages
 *   168  segment       64 bytes  name in the directory
 *   232  directory     2048 bytes
 *   4088 checksum      u64       of the bytes before, seed 0
 */
#ifndef ENGINE_SHM_ATTACH_PAGE_H
#define ENGINE_SHM_ATTACH_PAGE_H

#include "engine/shm/segment.h"

#define ATTACH_PAGE_SIZE      ((size_t)4096)
#define ATTACH_PAGE_VERSION   1
#define ATTACH_LIBRARY_SIZE   24
#define ATTACH_DIRECTORY_SIZE 2048

struct attach_page {
    bool ready;
    uint8_t uuid[SHM_UUID_SIZE];
    uint8_t nonce[SHM_UUID_SIZE];
    struct io_identity segment;
    uint64_t layout_hash;
    struct io_process process;
    char
        library[ATTACH_LIBRARY_SIZE]; /* "glibc-64-40": kind, bits of a pointer, bytes of a mutex */
    char segment_name[IO_NAME_MAX];   /* empty when there is none yet */
    char directory[ATTACH_DIRECTORY_SIZE];
};

/* Fills in what this process and build are; the rest is zero. */
void attach_page_init(struct attach_page *page, const struct io_process *process);

void attach_page_encode(const struct attach_page *page, uint8_t bytes[ATTACH_PAGE_SIZE]);
/* LSM_CORRUPT when the bytes are no page, LSM_NEWER_FORMAT when a later version wrote them. */
lsm_status attach_page_decode(const uint8_t bytes[ATTACH_PAGE_SIZE], struct attach_page *page);

#endif
