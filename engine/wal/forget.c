/*
 * Removing what nobody needs.
 *
 * Which segments there are is asked of the directory, and how they hang together of their headers,
 * so any process can do it, and one that died half-way is simply followed by the next. Of the chain
 * from the current segment back only the part down to the one that holds the position asked for is
 * needed; every other segment with a smaller number than the current one's goes, on the chain or
 * not.
 *
 * A segment turns into a spare only when every write to it was waited for, which a word in shared
 * memory says. What a dead process wrote may still be on its way, so the segment it was writing has
 * no such word, and is unlinked; so are spares that have none.
 */
#include "engine/wal/wal_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"

/* ---- the chain ------------------------------------------------------------------------------- */

void wal_add_link(struct wal *wal, const struct wal_link *link)
{
    if (wal->link_count == wal->link_capacity) {
        size_t capacity = wal->link_capacity == 0 ? 16 : 2 * wal->link_capacity;
        struct wal_link *links = mem_resize(wal->links, capacity * sizeof *links);
        if (links == NULL)
            return; /* its header is read when it is needed */
        wal->links = links;
        wal->link_capacity = capacity;
    }
    wal->links[wal->link_count++] = *link;
}

static bool find_link(const struct wal *wal, uint64_t number, struct wal_link *link)
{
    for (size_t i = wal->link_count; i-- > 0;) {
        if (wal->links[i].number == number) {
            *link = wal->links[i];
            return true;
        }
    }
    return false;
}

/* `end`: where the segment is sealed, or SEGMENT_NOT_SEALED. */
static lsm_status get_link(struct wal *wal, uint64_t number, uint64_t end, struct wal_link *link,
                           lsm_error *err)
{
    if (find_link(wal, number, link))
        return LSM_OK;
    struct log_segment_header header;
    lsm_status status = segment_read_header(&wal->dir, number, end, &header, err);
    if (status != LSM_OK)
        return status;
    *link = (struct wal_link){header.number, header.start, header.previous};
    wal_add_link(wal, link);
    return LSM_OK;
}

static void forget_links(struct wal *wal, uint64_t below)
{
    size_t kept = 0;
    for (size_t i = 0; i < wal->link_count; i++) {
        if (wal->links[i].number >= below)
            wal->links[kept++] = wal->links[i];
    }
    wal->link_count = kept;
}

/* Numbers of segments, newest first. */
struct chain {
    uint64_t *numbers; /* owned */
    size_t count, capacity;
    bool is_whole; /* the last of them begins at or before the position */
};

static lsm_status chain_add(struct chain *chain, uint64_t number, lsm_error *err)
{
    if (chain->count == chain->capacity) {
        size_t capacity = chain->capacity == 0 ? 16 : 2 * chain->capacity;
        uint64_t *numbers = mem_resize(chain->numbers, capacity * sizeof *numbers);
        if (numbers == NULL)
            return lsm_fail_memory(err, capacity * sizeof *numbers);
        chain->numbers = numbers;
        chain->capacity = capacity;
    }
    chain->numbers[chain->count++] = number;
    return LSM_OK;
}

static bool chain_has(const struct chain *chain, uint64_t number)
{
    for (size_t i = 0; i < chain->count; i++) {
        if (chain->numbers[i] == number)
            return true;
    }
    return false;
}

/* Follows the seals back from the current segment to the one that holds `position`. Where that has
 * been forgotten, the chain ends earlier and is not whole. */
static lsm_status chain_read(struct wal *wal, uint64_t position, struct chain *chain,
                             lsm_error *err)
{
    uint64_t number = wal->current.number, end = SEGMENT_NOT_SEALED;
    while (number != 0 && !chain->is_whole) {
        struct wal_link link = {number, wal->current.start, 0};
        bool is_enough = number == wal->current.number && link.start <= position;
        lsm_error failure;
        lsm_status status = is_enough ? LSM_OK : get_link(wal, number, end, &link, &failure);
        if (status == LSM_MISSING && chain->count > 0)
            break;
        if (status != LSM_OK) {
            status_copy(err, &failure);
            return status;
        }
        status = chain_add(chain, number, err);
        if (status != LSM_OK)
            return status;
        chain->is_whole = link.start <= position;
        end = link.start;
        number = link.previous;
    }
    return LSM_OK;
}

/* ---- files ----------------------------------------------------------------------------------- */

void wal_note_clean(struct wal *wal, uint64_t number, uint64_t filled)
{
    struct shm_log *log = wal->log;
    if (!wal_can_pack(number))
        return;
    atomic_store_explicit(&log->clean[log->clean_count % SHM_LOG_CLEAN], wal_pack(number, filled),
                          memory_order_relaxed);
    log->clean_count++;
}

/* The word of a segment that may be recycled, or 0. */
static uint64_t clean_word(const struct wal *wal, uint64_t number)
{
    for (size_t i = 0; i < SHM_LOG_CLEAN; i++) {
        uint64_t word = atomic_load_explicit(&wal->log->clean[i], memory_order_relaxed);
        if (wal_packed_number(word) == number)
            return word;
    }
    return 0;
}

static lsm_status unlink_file(struct wal *wal, enum file_kind kind, uint64_t number, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    return io_dir_unlink(wal->dir.dir, file_name_make(kind, number, name), NULL, err);
}

/* What was done and has to be made durable. */
struct removal {
    size_t count;
    uint64_t recycled[SHM_LOG_SPARES]; /* packed; spares once their new names are durable */
    size_t recycled_count;
    uint64_t most_filled; /* of a segment that is recycled */
};

static lsm_status remove_segment(struct wal *wal, uint64_t number, struct removal *removal,
                                 lsm_error *err)
{
    char from[FILE_NAME_SIZE], to[FILE_NAME_SIZE];
    uint64_t word = clean_word(wal, number);
    bool wanted = wal_packed_filled(word) <= removal->most_filled &&
                  wal_spare_count(wal) + removal->recycled_count < SHM_LOG_SPARES;
    lsm_status status;
    if (word != 0 && wanted) {
        status = io_dir_rename(wal->dir.dir, file_name_make(FILE_WAL, number, from),
                               file_name_make(FILE_WAL_SPARE, number, to), err);
        if (status == LSM_OK)
            removal->recycled[removal->recycled_count++] = word;
    } else {
        status = unlink_file(wal, FILE_WAL, number, err);
    }
    STEP("log forget: a segment removed");
    removal->count += status == LSM_OK;
    return status;
}

/*
 * Before a spare is written to, its old name must not come back with new bytes: names first.
 * `status` is what removing came to; the first failure is told.
 */
static lsm_status finish_removal(struct wal *wal, const struct removal *removal, lsm_status status,
                                 lsm_error *err)
{
    if (removal->count > 0) {
        lsm_status synced = wal_sync_dir(wal, status == LSM_OK ? err : NULL);
        STEP("log forget: names synced");
        status = status == LSM_OK ? synced : status;
    }
    for (size_t i = 0; i < removal->recycled_count; i++) {
        uint64_t number = wal_packed_number(removal->recycled[i]);
        if (status == LSM_OK && wal_spare_put(wal, number, wal_packed_filled(removal->recycled[i])))
            continue;
        STEP("log forget: a spare too many");
        if (unlink_file(wal, FILE_WAL_SPARE, number, NULL) != LSM_OK) /* wal_prepare() was faster */
            atomic_store(&wal->log->sweep_due, 1);
    }
    return status;
}

/* Spares without a word. Those that are being made are left to the next sweep. */
static lsm_status sweep_spares(struct wal *wal, const struct segment_list *list,
                               struct removal *removal, lsm_error *err)
{
    lsm_status status = LSM_OK;
    bool all = true;
    for (size_t i = 0; i < list->spare_count && all; i++)
        all = wal_spare_is_known(wal, list->spares[i]);
    if (all)
        return LSM_OK;
    enum shm_lock_result result = shm_trylock(&wal->log->spare_lock);
    if (result == SHM_LOCK_BUSY) {
        atomic_store(&wal->log->sweep_due, 1);
        return LSM_OK;
    }
    if (result == SHM_LOCKED_OWNER_DIED)
        shm_lock_repaired(&wal->log->spare_lock); /* what it was making goes now */
    for (size_t i = 0; i < list->spare_count && status == LSM_OK; i++) {
        if (wal_spare_is_known(wal, list->spares[i]))
            continue;
        status = unlink_file(wal, FILE_WAL_SPARE, list->spares[i], err);
        STEP("log forget: a spare removed");
        removal->count += status == LSM_OK;
    }
    shm_unlock(&wal->log->spare_lock);
    return status;
}

/* ---- forgetting ------------------------------------------------------------------------------ */

/* Removes those segments of the list that the log from the chain's beginning on does not need. */
static lsm_status remove_old(struct wal *wal, const struct segment_list *list,
                             const struct chain *chain, struct removal *removal, lsm_error *err)
{
    uint64_t oldest = chain->numbers[chain->count - 1];
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < list->segment_count && status == LSM_OK; i++) {
        uint64_t number = list->segments[i];
        bool is_needed = number < oldest ? !chain->is_whole : chain_has(chain, number);
        if (number < wal->current.number && !is_needed)
            status = remove_segment(wal, number, removal, err);
    }
    return status;
}

static lsm_status forget(struct wal *wal, uint64_t position, lsm_error *err)
{
    struct chain chain = {0};
    struct segment_list list = {0};
    struct removal removal = {.most_filled = UINT64_MAX};
    bool sweep = atomic_load(&wal->log->sweep_due) != 0;
    lsm_status status = chain_read(wal, position, &chain, err);
    uint64_t oldest = status == LSM_OK ? chain.numbers[chain.count - 1] : 0;
    if (status != LSM_OK || (!sweep && (!chain.is_whole || oldest == wal->log->forgotten)))
        goto out;
    atomic_store(&wal->log->sweep_due, 0); /* what comes behind the listing counts for the next */
    status = segment_list_read(wal->dir.dir, &list, err);
    if (status == LSM_OK)
        status = remove_old(wal, &list, &chain, &removal, err);
    if (status == LSM_OK && sweep)
        status = sweep_spares(wal, &list, &removal, err);
    status = finish_removal(wal, &removal, status, err);
    if (status != LSM_OK) {
        atomic_store(&wal->log->sweep_due, 1);
    } else if (chain.is_whole) {
        wal->log->forgotten = oldest;
        STEP("log forget: done");
        forget_links(wal, oldest);
    }
out:
    mem_free(chain.numbers);
    segment_list_release(&list);
    return status;
}

lsm_status wal_forget_locked(struct wal *wal, uint64_t position, lsm_error *err)
{
    lsm_status status = wal_check_poison(wal, err);
    if (status == LSM_OK)
        status = wal_take_up(wal, err);
    return status == LSM_OK ? forget(wal, position, err) : status;
}

/* From position 0 on everything on the chain is needed. */
lsm_status wal_sweep(struct wal *wal, lsm_error *err)
{
    return forget(wal, 0, err);
}

lsm_status wal_remove_all(struct wal *wal, lsm_error *err)
{
    struct segment_list list = {0};
    struct removal removal = {.most_filled = wal_reserve_step(wal)};
    bool any = false;
    lsm_status status = segment_list_read(wal->dir.dir, &list, err);
    if (status == LSM_OK)
        status = wal_drop_large_spares(wal, &any, err);
    removal.count += any;
    for (size_t i = 0; i < list.segment_count && status == LSM_OK; i++)
        status = remove_segment(wal, list.segments[i], &removal, err);
    if (status == LSM_OK)
        status = sweep_spares(wal, &list, &removal, err);
    segment_list_release(&list);
    return finish_removal(wal, &removal, status, err);
}
