/*
 * Finding the end of the log.
 *
 * The records are followed through the segments that a seal ends, each of which was flushed before
 * it was sealed, so that a bad record there is rot; then through the newest segment as far as it
 * goes; then through the ring. Where the chain stops for good, a bad record may be what a crash
 * left of a write that nobody was promised, or damage to one that was synced. To tell them apart
 * all that lies behind it, in the newest segment and in the ring, is searched for a record which is
 * whole by itself and was made when the log had been durable beyond the bad one. Such a record is
 * proof. Where the shared memory of those who died is still there it says how far the log had been
 * durable, and what lies behind need not be read.
 */
#include "engine/wal/wal_private.h"

#include "engine/wal/log_stream.h"

/* Why the chain stops. */
struct broken_record {
    enum log_record_fault fault;
    bool chain_differs; /* a whole record, but not the one that comes next */
    uint64_t expected, found;
};

struct replay {
    const struct wal_options *options;
    struct segment_dir dir;
    wal_visit visit;
    void *context;
    bool clean; /* nobody was let in behind what the segments hold */
    struct log_stream stream;
    struct segment_chain chain;

    uint64_t position; /* of the record to come */
    uint64_t checksum; /* of the one before; 0: not known */
    struct broken_record broken;
    struct wal_end end;
};

/* A place to read records from. */
struct replay_source {
    struct log_source bytes;
    const struct log_segment_header *header; /* whose nonces count */
    uint64_t seed_position; /* `seed` is that of records from here on, up to where it changes */
    uint64_t seed;
};

static uint64_t seed_at(struct replay_source *source, uint64_t position)
{
    bool later = position >= source->header->resume;
    bool known_later = source->seed_position >= source->header->resume;
    if (source->seed == 0 || later != known_later) {
        source->seed = log_segment_seed(source->header, position);
        source->seed_position = position;
    }
    return source->seed;
}

/* ---- failures -------------------------------------------------------------------------------- */

/* Says what is wrong at the position where the log stops, and how it is known to be wrong. */
static lsm_status rot(const struct replay *r, const struct replay_source *source, const char *why,
                      uint64_t number, lsm_error *err)
{
    const char *name = io_file_name(source->bytes.file);
    uint64_t offset = log_source_offset(&source->bytes, r->position);
    const char *fault = r->broken.chain_differs ? "it does not continue the record before it"
                                                : log_record_fault_text(r->broken.fault);
    lsm_status status =
        lsm_fail(err, LSM_CORRUPT,
                 "the log record at position %" PRIu64 ", in '%s' at offset %" PRIu64
                 ", is bad: %s; %s %" PRIu64 "; run lsm-verify on the database",
                 r->position, name, offset, fault, why, number);
    status_place(err, name, offset);
    status_numbers(err, r->broken.expected, r->broken.found);
    return status;
}

/* ---- following the chain --------------------------------------------------------------------- */

/* Reads the record at r->position. *broken says what is wrong with it, if anything. */
static lsm_status read_record(struct replay *r, struct replay_source *source,
                              struct log_record *record, lsm_error *err)
{
    uint64_t left = source->bytes.limit - r->position;
    const uint8_t *bytes;
    size_t size;
    r->broken = (struct broken_record){
        .fault = LOG_RECORD_SHORT, .expected = LOG_RECORD_MIN, .found = left};
    if (left < LOG_RECORD_MIN)
        return LSM_OK;
    lsm_status status = log_stream_peek(&r->stream, r->position, LOG_RECORD_HEAD, &bytes, err);
    if (status != LSM_OK)
        return status;
    r->broken = (struct broken_record){.fault = log_record_peek(bytes, &size)};
    if (r->broken.fault == LOG_RECORD_OK && log_record_peek_position(bytes) != r->position)
        r->broken = (struct broken_record){.fault = LOG_RECORD_OTHER_POSITION,
                                           .expected = r->position,
                                           .found = log_record_peek_position(bytes)};
    if (r->broken.fault == LOG_RECORD_OK && size > left)
        r->broken =
            (struct broken_record){.fault = LOG_RECORD_BAD_LENGTH, .expected = left, .found = size};
    if (r->broken.fault != LOG_RECORD_OK)
        return LSM_OK;
    status = log_stream_peek(&r->stream, r->position, size, &bytes, err);
    if (status == LSM_OK)
        r->broken.fault = log_record_decode((lsm_slice){bytes, size}, r->position,
                                            seed_at(source, r->position), record);
    return status;
}

/* Does the record come next? The checksum before the resume position is also in the header. */
static void check_previous(struct replay *r, const struct replay_source *source,
                           const struct log_record *record)
{
    uint64_t expected = r->checksum;
    bool known = expected != 0;
    if (r->position == source->header->resume && r->position > 0) {
        expected = source->header->chain;
        known = true;
    }
    if (known && record->previous != expected)
        r->broken = (struct broken_record){
            .chain_differs = true, .expected = expected, .found = record->previous};
}

static bool is_broken(const struct replay *r)
{
    return r->broken.fault != LOG_RECORD_OK || r->broken.chain_differs;
}

/* Visits records from r->position on until one is broken or the source ends. */
static lsm_status follow(struct replay *r, struct replay_source *source, lsm_error *err)
{
    r->broken = (struct broken_record){0};
    if (r->position >= source->bytes.limit)
        return LSM_OK;
    lsm_status status = log_stream_begin(&r->stream, &source->bytes, r->position, err);
    while (status == LSM_OK && r->position < source->bytes.limit) {
        struct log_record record;
        status = read_record(r, source, &record, err);
        if (status != LSM_OK)
            break;
        if (!is_broken(r))
            check_previous(r, source, &record);
        if (is_broken(r))
            break;
        uint64_t end = r->position + record.size;
        status = r->visit(r->context, r->position, end, record.sequence, record.batch, err);
        if (status != LSM_OK)
            break;
        r->position = end;
        r->checksum = record.checksum;
        r->end.last_sequence = record.sequence;
        r->end.record_count++;
    }
    return status;
}

/* ---- the search for proof -------------------------------------------------------------------- */

struct proof {
    bool found;
    uint64_t position; /* of the record that proves it */
};

/* The position a record at `place` of the source would have if its own claim is possible there. */
static bool position_is_possible(const struct log_source *bytes, uint64_t place, uint64_t claimed)
{
    if (bytes->ring_size == 0)
        return claimed == place;
    return claimed >= place && claimed <= UINT64_MAX / 2 &&
           claimed % bytes->ring_size == place % bytes->ring_size;
}

/* Is there a whole record at `place` that was made when the log was durable beyond r->position? */
static lsm_status try_place(struct replay *r, struct replay_source *source, uint64_t place,
                            struct proof *proof, lsm_error *err)
{
    const uint8_t *bytes;
    size_t size;
    uint64_t left = source->bytes.limit - place;
    if (left < LOG_RECORD_MIN)
        return LSM_OK;
    lsm_status status = log_stream_peek(&r->stream, place, LOG_RECORD_HEAD, &bytes, err);
    if (status != LSM_OK || log_record_peek(bytes, &size) != LOG_RECORD_OK || size > left)
        return status;
    uint64_t position = log_record_peek_position(bytes), synced = log_record_peek_synced(bytes);
    if (!position_is_possible(&source->bytes, place, position) || synced > position ||
        synced <= r->position)
        return LSM_OK;
    status = log_stream_peek(&r->stream, place, size, &bytes, err);
    if (status != LSM_OK)
        return status;
    struct log_record record;
    enum log_record_fault fault =
        log_record_decode((lsm_slice){bytes, size}, position, seed_at(source, position), &record);
    if (fault == LOG_RECORD_OK)
        *proof = (struct proof){.found = true, .position = position};
    else /* the long look may have left behind what comes next */
        status = log_stream_begin(&r->stream, &source->bytes, place, err);
    return status;
}

/* First place in [0, size) where a record may begin; `size` when there is none. */
static size_t find_magic(const uint8_t *bytes, size_t size)
{
    size_t at = 0;
    while (at + LOG_RECORD_ALIGNMENT <= size && bytes_get_u32(bytes + at) != LOG_RECORD_MAGIC)
        at += LOG_RECORD_ALIGNMENT;
    return at + LOG_RECORD_ALIGNMENT <= size ? at : size;
}

static lsm_status search(struct replay *r, struct replay_source *source, struct proof *proof,
                         lsm_error *err)
{
    uint64_t place = r->position + LOG_RECORD_ALIGNMENT;
    if (place >= source->bytes.limit)
        return LSM_OK;
    lsm_status status = log_stream_begin(&r->stream, &source->bytes, place, err);
    while (status == LSM_OK && !proof->found && place < source->bytes.limit) {
        const uint8_t *bytes;
        size_t size;
        status = log_stream_span(&r->stream, place, &bytes, &size, err);
        if (status != LSM_OK)
            break;
        size_t at = find_magic(bytes, size);
        place += at;
        if (at == size)
            continue;
        status = try_place(r, source, place, proof, err);
        place += LOG_RECORD_ALIGNMENT;
    }
    return status;
}

/* ---- the newest segment and the ring --------------------------------------------------------- */

static lsm_status open_segment(struct replay *r, const struct log_segment_header *header,
                               uint64_t limit, struct replay_source *source, lsm_error *err)
{
    *source = (struct replay_source){.header = header};
    source->bytes.start = header->start;
    source->bytes.limit = limit;
    return segment_open(&r->dir, FILE_WAL, header->number, 0, &source->bytes.file, err);
}

static void close_source(struct replay *r, struct replay_source *source)
{
    log_stream_settle(&r->stream);
    io_file_close(source->bytes.file);
}

/* Opens the stage file, whatever its size; without one source->bytes.file stays NULL. */
static lsm_status open_ring(struct replay *r, const struct log_segment_header *header,
                            struct replay_source *source, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    struct wal_stage_look look = {0};
    bool is_marked = header != NULL && (header->flags & LOG_SEGMENT_MARKED) != 0;
    *source = (struct replay_source){.header = header};
    file_name_make(FILE_STAGE, 0, name);
    lsm_status status = io_file_open(r->dir.dir, name, 0, r->dir.mode, &source->bytes.file, err);
    if (status == LSM_MISSING)
        return LSM_OK;
    if (status == LSM_OK)
        status = wal_stage_look(&r->dir, source->bytes.file, is_marked, &look, err);
    if (status != LSM_OK)
        return status;
    if (look.ring_size == 0 || look.file_size % IO_ALIGNMENT != 0) {
        status = lsm_fail(err, LSM_CORRUPT,
                          "the stage file '%s' has %" PRIu64
                          " bytes, which is no multiple of %zu: its end was cut off",
                          name, look.file_size, IO_ALIGNMENT);
        status_place(err, name, look.file_size);
        return status;
    }
    source->bytes.ring_size = look.ring_size;
    return header == NULL || r->clean ? LSM_OK : wal_stage_check(&r->dir, &look, header, err);
}

/* Lets the source reach over the whole ring from the current position on. */
static void aim_ring(struct replay_source *ring, uint64_t position)
{
    ring->bytes.limit = position + ring->bytes.ring_size;
}

static bool is_of_last_life(const struct replay *r, const struct log_segment_header *newest)
{
    const struct wal_last_life *life = r->options->last_life;
    return life != NULL && memcmp(life->nonce, newest->nonce, sizeof life->nonce) == 0;
}

/* It is known that no record was made when the log had been durable beyond r->position. */
static bool needs_no_search(const struct replay *r)
{
    return r->end.is_of_last_life && r->options->last_life->durable <= r->position;
}

/* The chain has stopped at r->position: was the log known to go on? */
static lsm_status check_end(struct replay *r, struct replay_source *segment,
                            struct replay_source *ring, const struct broken_record *in_segment,
                            lsm_error *err)
{
    struct proof proof = {0};
    if (needs_no_search(r))
        return LSM_OK;
    lsm_status status = search(r, segment, &proof, err);
    if (status == LSM_OK && !proof.found && ring->bytes.file != NULL) {
        aim_ring(ring, r->position);
        status = search(r, ring, &proof, err);
    }
    if (status != LSM_OK || !proof.found)
        return status;
    /* The segment has the record's place, unless the chain went on in the ring. */
    bool in_ring = r->position != r->end.segments_end || r->position >= segment->bytes.limit;
    if (!in_ring)
        r->broken = *in_segment;
    return rot(r, in_ring && ring->bytes.file != NULL ? ring : segment,
               "but it had been synced, as is said by the record at position", proof.position, err);
}

static lsm_status replay_newest(struct replay *r, const struct log_segment_header *header,
                                lsm_error *err)
{
    struct replay_source segment = {0}, ring = {0};
    struct broken_record in_segment;
    r->end.is_of_last_life = is_of_last_life(r, header);
    lsm_status status = open_segment(r, header, log_segment_limit(header), &segment, err);
    if (status == LSM_OK)
        status = follow(r, &segment, err);
    if (status != LSM_OK)
        goto out;
    in_segment = r->broken;
    r->end.segments_end = r->position;
    if (r->position < header->resume) {
        status = rot(r, &segment, "but the segment was begun with all before position",
                     header->resume, err);
        goto out;
    }
    status = open_ring(r, header, &ring, err);
    if (status == LSM_OK && ring.bytes.file != NULL) {
        aim_ring(&ring, r->position);
        status = follow(r, &ring, err);
    }
    if (status == LSM_OK && r->options->replay_ended != NULL)
        r->options->replay_ended(r->context);
    if (status == LSM_OK)
        status = check_end(r, &segment, &ring, &in_segment, err);
out:
    close_source(r, &segment);
    close_source(r, &ring);
    return status;
}

/* A segment that another one seals: all of it was durable before. */
static lsm_status replay_sealed(struct replay *r, const struct log_segment_header *header,
                                const struct log_segment_header *next, lsm_error *err)
{
    struct replay_source segment;
    uint64_t limit = log_segment_limit(header);
    if (r->position >= next->start)
        return LSM_OK;
    lsm_status status =
        open_segment(r, header, next->start < limit ? next->start : limit, &segment, err);
    if (status == LSM_OK)
        status = follow(r, &segment, err);
    if (status == LSM_OK && r->position != next->start)
        status = rot(r, &segment, "but the segment is sealed at position", next->start, err);
    close_source(r, &segment);
    return status;
}

/* ---- the whole log --------------------------------------------------------------------------- */

/* Without a segment there is no log. That is right at the beginning and after a clean close. */
static lsm_status replay_nothing(struct replay *r, bool has_stage, lsm_error *err)
{
    if (r->clean || (r->position == 0 && !has_stage))
        return LSM_OK;
    struct replay_source ring;
    const uint8_t *bytes = NULL;
    size_t size;
    bool was_used = r->position > 0;
    lsm_status status = LSM_OK;
    if (!was_used) { /* the stage file is made before the first record, and so is a segment */
        status = open_ring(r, NULL, &ring, err);
        if (status == LSM_OK && ring.bytes.file != NULL) {
            aim_ring(&ring, 0);
            status = log_stream_begin(&r->stream, &ring.bytes, 0, err);
            if (status == LSM_OK)
                status = log_stream_peek(&r->stream, 0, LOG_RECORD_HEAD, &bytes, err);
            was_used = status == LSM_OK && log_record_peek(bytes, &size) == LOG_RECORD_OK;
        }
        close_source(r, &ring);
    }
    if (status != LSM_OK || !was_used)
        return status;
    return lsm_fail(err, LSM_CORRUPT,
                    "there is no log segment in '%s': the log from position %" PRIu64
                    " on is missing, which no table holds",
                    io_dir_path(r->dir.dir), r->position);
}

static lsm_status replay_all(struct replay *r, const struct segment_list *list, lsm_error *err)
{
    r->end.next_segment = list->next_number;
    if (list->segment_count == 0) {
        lsm_status status = replay_nothing(r, list->has_stage, err);
        r->end.segments_end = r->position;
        return status;
    }
    r->end.last_segment = list->segments[list->segment_count - 1];
    lsm_status status =
        segment_chain_read(&r->dir, r->end.last_segment, r->position, false, &r->chain, err);
    for (size_t i = 0; status == LSM_OK && i + 1 < r->chain.count; i++)
        status = replay_sealed(r, &r->chain.headers[i], &r->chain.headers[i + 1], err);
    if (status == LSM_OK)
        status = replay_newest(r, &r->chain.headers[r->chain.count - 1], err);
    return status;
}

lsm_status wal_replay(const struct wal_options *options, uint64_t from, uint64_t chain, bool clean,
                      wal_visit visit, void *context, struct wal_end *end, lsm_error *err)
{
    if (from % LOG_RECORD_ALIGNMENT != 0 || from > UINT64_MAX / 2)
        return lsm_fail(err, LSM_CORRUPT,
                        "the log cannot be read from position %" PRIu64 ": no record begins there",
                        from);
    struct replay r = {
        .options = options,
        .dir = {.io = options->io, .dir = options->dir, .mode = options->mode},
        .visit = visit,
        .context = context,
        .clean = clean,
        .position = from,
        .checksum = chain,
    };
    memcpy(r.dir.uuid, options->uuid, sizeof r.dir.uuid);
    struct segment_list list = {0};
    lsm_status status = log_stream_open(&r.stream, options->io, err);
    if (status == LSM_OK)
        status = segment_list_read(options->dir, &list, err);
    if (status == LSM_OK)
        status = replay_all(&r, &list, err);
    if (status == LSM_OK) {
        r.end.position = r.position;
        r.end.chain = r.checksum;
        *end = r.end;
    }
    log_stream_close(&r.stream);
    segment_list_release(&list);
    segment_chain_release(&r.chain);
    return status;
}
