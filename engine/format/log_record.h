/*
 * The bytes of the write-ahead log: records, and the header block of a segment file.
 *
 * A record begins at an 8-byte aligned *position* of the log and says so itself:
 *
 *     magic u32 | length u32 | position u64 | sequence u64 | synced u64 | previous u64 |
 *     batch | zeros | length u32 | zeros' count u32 | checksum u64
 *
 *   length    of the whole record, a multiple of 8; twice, so that it can be read from its end
 *   sequence  of the batch
 *   synced    the log was durable up to this position when the record was made: proof, should an
 *             earlier record be bad, that it is rot and no torn tail
 *   previous  the checksum of the record before: the chain
 *   checksum  XXH3-64 of all before it, seeded with the uuid of the database and the nonce of the
 *             opening that wrote the record
 *
 * The nonce enters every checksum through the seed. So a record of an earlier life of the database
 * never continues the chain of this one, even where a retried batch stands in front of it at the
 * same position; and a reader that lost the chain can still tell a whole record by itself, with no
 * more than the header of the segment that holds its position.
 *
 * A segment begins with one block:
 *
 *     magic u64 | format u32 | flags u32 | uuid | number u64 | start u64 | size u64 |
 *     previous: number u64, start u64, end u64 | resume u64 | chain u64 | nonce | nonce before |
 *     zeros | checksum u64
 *
 * Position p of the log stands at file offset LOG_SEGMENT_HEADER + (p - start). Records from
 * position `resume` on carry `nonce`, those before it (the tail that the opening found) `nonce
 * before`; `chain` is the checksum of the last record before `resume`. These four belong to the
 * opening and are copied into each segment it begins.
 */
#ifndef ENGINE_FORMAT_LOG_RECORD_H
#define ENGINE_FORMAT_LOG_RECORD_H

#include "engine/base/bytes.h"
#include "engine/base/hash.h"
#include "engine/base/slice.h"

/* ---- records --------------------------------------------------------------------------------- */

#define LOG_RECORD_MAGIC     UINT32_C(0xd76c0e15) /* never renumber */
#define LOG_RECORD_ALIGNMENT ((size_t)8)
#define LOG_RECORD_HEAD      ((size_t)40) /* bytes before the batch */
#define LOG_RECORD_TAIL      ((size_t)16) /* bytes behind the zeros */
#define LOG_RECORD_OVERHEAD  (LOG_RECORD_HEAD + LOG_RECORD_TAIL + LOG_RECORD_ALIGNMENT - 1)
#define LOG_RECORD_MIN       (LOG_RECORD_HEAD + LOG_RECORD_TAIL)
#define LOG_RECORD_MAX       ((size_t)UINT32_MAX - (LOG_RECORD_ALIGNMENT - 1))
#define LOG_NONCE_SIZE       16

struct log_record {
    uint64_t position;
    uint64_t sequence;
    uint64_t synced;
    uint64_t previous;
    uint64_t checksum; /* set by encode and decode */
    size_t size;       /* of the whole record; set by encode and decode */
    lsm_slice batch;   /* set by decode; borrowed from the bytes */
};

/* What is wrong with bytes that should be a record. */
enum log_record_fault {
    LOG_RECORD_OK = 0,
    LOG_RECORD_SHORT,          /* the bytes end inside it */
    LOG_RECORD_NO_MAGIC,       /* unwritten bytes among others */
    LOG_RECORD_BAD_LENGTH,     /* impossible, or its two copies differ */
    LOG_RECORD_OTHER_POSITION, /* it belongs elsewhere: a left-over */
    LOG_RECORD_BAD_CHECKSUM,   /* damaged, or of another life or database */
    LOG_RECORD_BAD_PADDING,
};

/* The seed of the checksums of one opening. */
uint64_t log_record_seed(const uint8_t uuid[HASH_UUID_SIZE], const uint8_t nonce[LOG_NONCE_SIZE]);

/* The size of the record of a batch of `batch_size` bytes, at most LOG_RECORD_MAX -
 * LOG_RECORD_OVERHEAD. */
static inline size_t log_record_size(size_t batch_size)
{
    size_t padded = (batch_size + LOG_RECORD_ALIGNMENT - 1) & ~(LOG_RECORD_ALIGNMENT - 1);
    return LOG_RECORD_HEAD + padded + LOG_RECORD_TAIL;
}

/*
 * Writes the record of the batch that `pieces` make together. `at` has room for the whole. The
 * fields up to `previous` are given, checksum and size are set.
 */
void log_record_encode(uint8_t *at, struct log_record *record, const lsm_slice *pieces,
                       size_t count, uint64_t seed);

/* The length a record that begins with these LOG_RECORD_HEAD bytes claims to have. Not checked
 * against anything but the limits of a record; OK, NO_MAGIC or BAD_LENGTH. */
enum log_record_fault log_record_peek(const uint8_t *head, size_t *size);

static inline uint64_t log_record_peek_position(const uint8_t *head)
{
    return bytes_get_u64(head + 8);
}
static inline uint64_t log_record_peek_synced(const uint8_t *head)
{
    return bytes_get_u64(head + 24);
}

/* Decodes the record at `position`, of which `bytes` holds at least the whole. Fills *record when
 * it is OK; whether it continues the chain (`previous`) is for the caller to say. */
enum log_record_fault log_record_decode(lsm_slice bytes, uint64_t position, uint64_t seed,
                                        struct log_record *record);

const char *log_record_fault_text(enum log_record_fault fault);

/* ---- segment headers ------------------------------------------------------------------------- */

#define LOG_SEGMENT_MAGIC  UINT64_C(0x314c4157304d534c) /* "LSM0WAL1" */
#define LOG_SEGMENT_FORMAT 1                            /* the newest that this library knows */
#define LOG_SEGMENT_HEADER ((size_t)4096)

/* Stored: never renumber. */
enum log_segment_flags {
    LOG_SEGMENT_OPENED = 1, /* begun by an opening, not because the one before was full */
    LOG_SEGMENT_MARKED = 2, /* the stage file had its trailer before; see stage_trailer.h */
};
#define LOG_SEGMENT_FLAGS_KNOWN 3u

struct log_segment_header {
    uint8_t uuid[HASH_UUID_SIZE];
    uint32_t flags;
    uint64_t number;         /* of the file */
    uint64_t start;          /* position of its first byte */
    uint64_t size;           /* bytes of the file, this block included */
    uint64_t previous;       /* number of the segment before; 0: none */
    uint64_t previous_start; /* */
    uint64_t previous_end;   /* it ends here, whatever its file holds behind; equals start */
    uint64_t resume;         /* where the opening went on */
    uint64_t chain;          /* checksum of the last record before resume; 0: none, or unknown */
    uint8_t nonce[LOG_NONCE_SIZE];        /* of records from resume on */
    uint8_t nonce_before[LOG_NONCE_SIZE]; /* of records before it */
};

enum log_segment_fault {
    LOG_SEGMENT_OK = 0,
    LOG_SEGMENT_NO_MAGIC,
    LOG_SEGMENT_BAD_CHECKSUM,
    LOG_SEGMENT_OTHER_DATABASE, /* whole, but of another uuid */
    LOG_SEGMENT_OTHER_NUMBER,   /* whole, but another file's */
    LOG_SEGMENT_NEWER,          /* whole, but of a format this library does not know */
    LOG_SEGMENT_BAD_FIELDS,     /* whole, but contradicting itself */
};

void log_segment_encode(uint8_t block[LOG_SEGMENT_HEADER], const struct log_segment_header *header);
/* *header is filled only when it is OK. */
enum log_segment_fault log_segment_decode(const uint8_t block[LOG_SEGMENT_HEADER],
                                          const uint8_t uuid[HASH_UUID_SIZE], uint64_t number,
                                          struct log_segment_header *header);
const char *log_segment_fault_text(enum log_segment_fault fault);

/* The seed of the record at `position` of a segment, or of what continues it in the ring. */
uint64_t log_segment_seed(const struct log_segment_header *header, uint64_t position);

/* Position behind the last byte the file has room for. */
static inline uint64_t log_segment_limit(const struct log_segment_header *header)
{
    return header->start + (header->size - LOG_SEGMENT_HEADER);
}

#endif
