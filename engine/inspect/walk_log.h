/*
 * The log as one that may be damaged: every record by its position, and what is wrong between them.
 *
 * Segments are put in order by what their headers, or the ones behind them, say of positions; a
 * header that is damaged is corrected, or done without where another one of the same opening tells
 * the nonce. A record is looked for in its segment, then in the stage ring, which still has a copy
 * of the newest part of the log; then its bytes are corrected; then the next one is searched for
 * that is whole by itself. Where nothing is whole any more the log ends, and whether it was torn
 * there or is damaged is judged as wal_replay() does: by a record behind that was made when the log
 * had been durable beyond, by the position at which the newest segment was begun, by a seal.
 *
 * Nothing is written. Memory is bounded by the longest record; time by the size of the files, and
 * the search of engine/inspect/correct.h for each damaged record.
 */
#ifndef ENGINE_INSPECT_WALK_LOG_H
#define ENGINE_INSPECT_WALK_LOG_H

#include "engine/format/file_name.h"
#include "engine/format/log_record.h"
#include "engine/inspect/correct.h"
#include "engine/inspect/finding.h"
#include "engine/io/io.h"

#define WALK_LOG_MAX_RECORD ((size_t)1 << 31) /* a longer one is not looked at */
#define WALK_LOG_MAX_STAGE                                                                         \
    ((uint64_t)4 << 30) /* no option makes a larger one, so it is none of the engine's */

struct walk_log_options {
    struct io *io;
    struct io_dir *dir; /* borrowed */
    uint8_t uuid[HASH_UUID_SIZE];
    uint64_t from;      /* what stands below is in tables */
    bool from_oldest;   /* instead: from the beginning of the oldest segment */
    uint64_t chain;     /* checksum of the record before `from`; 0: not known */
    bool clean;         /* the database was closed at `from`: there need not be a segment */
    bool no_correcting; /* report damage without searching for the wrong byte */
    bool corrects_end;  /* but do search at the end, where one wrong byte looks like a torn tail */
};

struct walk_log_record {
    uint64_t position, end;
    uint64_t sequence;
    uint64_t synced; /* the log was durable up to here when it was made */
    lsm_slice batch; /* it decodes; borrowed until the visit returns */
    uint64_t entry_count;
    const char *file; /* where it was found */
    uint64_t offset;
    bool is_corrected; /* a damage was told before, with the same position */
};

/* One damage, or a note: see FINDING_LIST for what `id` means. */
struct walk_log_damage {
    enum finding_id id;
    const char *file; /* "STAGE" or a segment; borrowed */
    uint64_t offset, length;
    uint64_t position, limit;     /* of the log; equal when no part of it is lost */
    bool is_corrected;            /* nothing is lost: `change` puts it right */
    bool is_blind;                /* none of the file's records can be told from rubbish */
    bool is_elsewhere;            /* nothing is lost: the ring has the record whole */
    struct correct_change change; /* offset counts from `offset` */
    uint64_t ring_size;           /* where not 0, offsets in the file go round at it */
    lsm_slice right;              /* the record as it should stand there, when it is not lost */
    bool has_numbers;
    uint64_t expected, found;
    const char *text; /* a sentence; borrowed */
};

struct walk_log_visitor {
    void *context;
    /* Either may be NULL. The first status that is not LSM_OK ends the walk. */
    lsm_status (*record)(void *context, const struct walk_log_record *record, lsm_error *err);
    lsm_status (*damage)(void *context, const struct walk_log_damage *damage, lsm_error *err);
};

struct walk_log_end {
    uint64_t segment_count;
    uint64_t record_count, entry_count;
    uint64_t bytes;            /* of whole records */
    uint64_t lost_bytes;       /* of the log, between whole records */
    uint64_t damage_count;     /* told, of severity damage */
    uint64_t first_position;   /* where the walk began */
    uint64_t position;         /* behind the last whole record */
    uint64_t highest_position; /* no record can be beyond: a new log may begin here */
    uint64_t last_sequence;    /* highest seen; 0: none */
    uint64_t newest_segment;   /* number; 0: none */
    uint64_t newest_start;     /* its first position, as far as known */
    uint64_t next_segment;     /* a number above every .wal and .spare file's */
    bool is_torn;
};

/* LSM_IO, LSM_NO_MEMORY, LSM_NEWER_FORMAT; damage is LSM_OK. */
lsm_status walk_log(const struct walk_log_options *options, const struct walk_log_visitor *visitor,
                    struct walk_log_end *end, lsm_error *err);

#endif
