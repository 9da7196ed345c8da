/*
 * A segment is a sparse file of the full size, mapped whole; memory is allocated piece by piece
 * through io_file_allocate() before anybody stores to it, because a store into a hole of a full
 * tmpfs is a SIGBUS and a failed allocation is a sentence.
 *
 * The name is "lsm-<uuid>-<nonce>": the uuid finds what a dead population left, the nonce makes
 * every segment a new file, so that a zombie's late stores reach the old one only.
 *
 * Whoever has a segment mapped shares a lock on its first byte. It tells the segment of a living
 * copy of the database, which has the same uuid, from one that was left over; a new file counts
 * only once that lock is held and the name is still there.
 */
#include "engine/shm/segment.h"

#include "engine/base/buffer.h"
#include "engine/base/hash.h"
#include "engine/base/memory.h"
#include "engine/base/parse.h"
#include "engine/base/step.h"
#include "engine/shm/frames.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define SEGMENT_DIRECTORY "/dev/shm"
#define SEGMENT_DIR_MODE  0700u

/* What shm_segment_has_room() leaves to others: so many arenas, and some more. */
#define SPARED_ARENAS 4
#define SPARED_BYTES  ((uint64_t)16 << 20)

#define PRESENCE_BYTE 0  /* of the file; shared by everybody who has it mapped */
#define CREATE_TRIES  16 /* names, before it is given up that each is removed at once */

#define NAME_NONCE_SIZE  8 /* bytes of the nonce that the name shows */
#define NAME_PREFIX_SIZE (4 + 2 * SHM_UUID_SIZE + 1)
#define NAME_SIZE        (NAME_PREFIX_SIZE + 2 * NAME_NONCE_SIZE)

static_assert(NAME_SIZE < IO_NAME_MAX, "a segment's name fits io's limit");

struct shm_segment {
    struct io_dir *dir;         /* owned */
    struct io_file *file;       /* owned */
    struct io_lock *presence;   /* owned */
    struct io_mapping *mapping; /* owned */
    struct shm_layout *layout;
    bool is_named; /* the file exists under `name` */
    char name[IO_NAME_MAX];
};

static char *put_hex(char *at, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        *at++ = digits[bytes[i] >> 4];
        *at++ = digits[bytes[i] & 15];
    }
    return at;
}

/* Writes "lsm-<uuid>-" without a NUL and returns its end. */
static char *put_name_prefix(char *at, const uint8_t uuid[SHM_UUID_SIZE])
{
    memcpy(at, "lsm-", 4);
    at = put_hex(at + 4, uuid, SHM_UUID_SIZE);
    *at++ = '-';
    return at;
}

static const char *directory_or_default(const char *directory)
{
    return directory != NULL ? directory : SEGMENT_DIRECTORY;
}

/* ---- left-over segments ---------------------------------------------------------------------- */

struct stale_search {
    char prefix[NAME_PREFIX_SIZE];
    struct buffer names; /* each with its NUL */
};

static bool name_is_segment_of(const char *name, const char prefix[NAME_PREFIX_SIZE])
{
    return strlen(name) == NAME_SIZE && memcmp(name, prefix, NAME_PREFIX_SIZE) == 0 &&
           strspn(name + NAME_PREFIX_SIZE, "0123456789abcdef") == 2 * NAME_NONCE_SIZE;
}

static lsm_status collect_stale(void *context, const char *name, lsm_error *err)
{
    struct stale_search *search = context;
    if (!name_is_segment_of(name, search->prefix))
        return LSM_OK;
    buffer_append(&search->names, name, NAME_SIZE + 1);
    return search->names.failed ? lsm_fail_memory(err, NAME_SIZE + 1) : LSM_OK;
}

/* What the file says it belongs to; zero when it says nothing. */
static struct io_identity owner_of(struct io_file *file)
{
    struct shm_ident ident;
    size_t got = 0;
    if (io_file_read(file, &ident, sizeof ident, 0, &got, NULL) != LSM_OK || got < sizeof ident ||
        ident.magic != SHM_MAGIC || ident.layout != SHM_LAYOUT_VERSION)
        return (struct io_identity){0};
    return ident.lock_file;
}

/* One that cannot be opened is not ours to remove. */
static lsm_status remove_if_dead(struct io_dir *dir, const char *name, struct io_identity lock_file,
                                 lsm_error *err)
{
    struct io_file *file = NULL;
    struct io_lock *lock = NULL;
    if (io_file_open(dir, name, IO_FILE_WRITE, 0, &file, NULL) != LSM_OK)
        return LSM_OK;
    lsm_status status = LSM_OK;
    struct io_identity owner = owner_of(file);
    bool is_ours = lock_file.inode != 0 && io_identity_equal(owner, lock_file);
    /* Of ours a dying process may hold the lock a little longer. */
    if (io_try_lock(file, PRESENCE_BYTE, &lock, NULL) == LSM_OK || is_ours)
        status = io_dir_unlink(dir, name, NULL, err);
    STEP("segment: a stale one looked at");
    io_unlock(lock);
    io_file_close(file);
    return status;
}

/* Names are gathered first: what a listing shows while entries vanish differs between systems. */
static lsm_status remove_stale_in(struct io_dir *dir, const uint8_t uuid[SHM_UUID_SIZE],
                                  struct io_identity lock_file, lsm_error *err)
{
    struct stale_search search = {0};
    put_name_prefix(search.prefix, uuid);
    lsm_status status = io_dir_list(dir, collect_stale, &search, err);
    for (size_t at = 0; status == LSM_OK && at < search.names.size; at += NAME_SIZE + 1)
        status = remove_if_dead(dir, (const char *)search.names.data + at, lock_file, err);
    buffer_release(&search.names);
    return status;
}

lsm_status shm_segment_remove_stale(struct io *io, const char *directory,
                                    const uint8_t uuid[SHM_UUID_SIZE], struct io_identity lock_file,
                                    lsm_error *err)
{
    struct io_dir *dir = NULL;
    lsm_status status = io_dir_open(io, directory_or_default(directory), 0, 0, &dir, err);
    if (status == LSM_MISSING) {
        /* Nothing can be left over in a directory that is not there. */
        if (err != NULL)
            *err = (lsm_error){0};
        return LSM_OK;
    }
    if (status != LSM_OK)
        return status;
    status = remove_stale_in(dir, uuid, lock_file, err);
    io_dir_close(dir);
    return status;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Allocates [offset, offset + size) of the segment's file; says what to do when there is no room.
 */
static lsm_status back(struct shm_segment *segment, uint64_t offset, uint64_t size, lsm_error *err)
{
    lsm_error cause = {0};
    lsm_status status = io_file_allocate(segment->file, offset, size, &cause);
    if (status == LSM_OK) {
        if (segment->mapping != NULL)
            io_mapping_populate(segment->mapping, (size_t)offset, (size_t)size);
        return LSM_OK;
    }
    if (status != LSM_NO_SPACE) {
        status_copy(err, &cause);
        return status;
    }
    char text[PARSE_SIZE_TEXT];
    lsm_fail_errno(err, cause.os_errno != 0 ? cause.os_errno : ENOSPC,
                   "no %s of shared memory left in '%s' for '%s' at offset %" PRIu64
                   "; enlarge it (docker: --shm-size), set shm_dir to a directory with room, or "
                   "make memtable_size smaller",
                   parse_format_size(size, text), io_dir_path(segment->dir), segment->name, offset);
    status_place(err, segment->name, offset);
    return LSM_NO_SPACE;
}

static uint64_t round_up(uint64_t value, uint64_t step)
{
    return (value + step - 1) / step * step;
}

/* Two may back the same bytes: what is backed only grows. */
static void raise_edge(_Atomic uint64_t *edge, uint64_t to)
{
    uint64_t seen = atomic_load_explicit(edge, memory_order_relaxed);
    while (seen < to && !atomic_compare_exchange_weak(edge, &seen, to))
        ;
}

static void lower_edge(_Atomic uint64_t *edge, uint64_t to)
{
    uint64_t seen = atomic_load_explicit(edge, memory_order_relaxed);
    while (seen > to && !atomic_compare_exchange_weak(edge, &seen, to))
        ;
}

lsm_status shm_arena_back(struct shm_segment *segment, uint32_t index, uint64_t low, uint64_t high,
                          lsm_error *err)
{
    const struct shm_ident *ident = &segment->layout->ident;
    assert(index < ident->memtable_count);
    struct shm_memtable *table = &segment->layout->memtables[index];
    uint64_t backed_low = atomic_load_explicit(&table->backed_low, memory_order_relaxed);
    uint64_t backed_high = atomic_load_explicit(&table->backed_high, memory_order_relaxed);
    if (low <= backed_low && high >= backed_high)
        return LSM_OK;

    uint64_t size = ident->arena_size;
    assert(low <= size && high <= size);
    low = round_up(low, SHM_BACK_STEP) < size ? round_up(low, SHM_BACK_STEP) : size;
    high = high / SHM_BACK_STEP * SHM_BACK_STEP;
    lsm_status status = LSM_OK;
    if (low > backed_low) {
        status = back(segment, table->arena_offset + backed_low, low - backed_low, err);
        if (status != LSM_OK)
            return status;
        raise_edge(&table->backed_low, low);
    }
    if (high < backed_high) {
        status = back(segment, table->arena_offset + high, backed_high - high, err);
        if (status != LSM_OK)
            return status;
        lower_edge(&table->backed_high, high);
    }
    return LSM_OK;
}

lsm_status shm_segment_back(struct shm_segment *segment, uint64_t offset, uint64_t size,
                            lsm_error *err)
{
    assert(offset + size <= segment->layout->ident.segment_size);
    return back(segment, offset, size, err);
}

bool shm_segment_has_room(const struct shm_segment *segment)
{
    uint64_t spared = SPARED_ARENAS * segment->layout->ident.arena_size + SPARED_BYTES;
    return io_dir_free_bytes(segment->dir) >= spared;
}

const char *shm_wait_name(enum shm_wait kind)
{
    static const char *const names[SHM_WAIT_KINDS] = {"memtables", "level0", "log", "lock",
                                                      "switch"};
    return names[kind];
}

uint64_t shm_segment_bytes(const struct shm_segment *segment)
{
    const struct shm_layout *layout = segment->layout;
    uint64_t size = layout->ident.arena_size, total = layout->ident.arenas_offset;
    for (uint32_t i = 0; i < layout->ident.memtable_count; i++) {
        const struct shm_memtable *table = &layout->memtables[i];
        uint64_t low = atomic_load_explicit(&table->backed_low, memory_order_relaxed);
        uint64_t high = atomic_load_explicit(&table->backed_high, memory_order_relaxed);
        total += low >= high ? size : low + (size - high);
    }
    return total;
}

/* ---- create and destroy ---------------------------------------------------------------------- */

static lsm_status check_options(const struct shm_options *options, lsm_error *err)
{
    if (options->memtable_count == 0 || options->memtable_count > SHM_MAX_MEMTABLES)
        return lsm_fail(err, LSM_INVALID, "memtable_count is %" PRIu32 ", not between 1 and %d",
                        options->memtable_count, SHM_MAX_MEMTABLES);
    if (options->arena_size == 0 || options->arena_size > UINT64_MAX / 16 / SHM_MAX_MEMTABLES)
        return lsm_fail(err, LSM_INVALID, "a memtable of %" PRIu64 " bytes cannot be mapped",
                        options->arena_size);
    if (options->frames_capacity > UINT64_MAX / 16)
        return lsm_fail(err, LSM_INVALID, "%" PRIu64 " bytes of blocks cannot be mapped",
                        options->frames_capacity);
    return LSM_OK;
}

uint64_t shm_layout_hash(void)
{
    const uint64_t facts[] = {
        SHM_LAYOUT_VERSION,
        sizeof(struct shm_layout),
        offsetof(struct shm_layout, ctl),
        offsetof(struct shm_layout, locks),
        offsetof(struct shm_layout, commit),
        offsetof(struct shm_layout, intent),
        offsetof(struct shm_layout, version),
        offsetof(struct shm_layout, memtables),
        offsetof(struct shm_layout, reads),
        offsetof(struct shm_layout, slots),
        sizeof(struct shm_lock),
        sizeof(struct shm_memtable),
        sizeof(struct shm_slot),
        offsetof(struct shm_slot, jobs),
        sizeof(struct shm_job),
        offsetof(struct shm_slot, manual),
        offsetof(struct shm_slot, report),
        sizeof(struct shm_report),
        SHM_MAX_PENDING,
        shm_frames_layout_hash(),
        BYTES_LE32(1), /* differs with the byte order */
    };
    return hash_bytes(facts, sizeof facts, 0);
}

static uint64_t frames_offset_of(const struct shm_options *options)
{
    return round_up(sizeof(struct shm_layout), IO_ALIGNMENT) +
           options->memtable_count * round_up(options->arena_size, IO_ALIGNMENT);
}

static uint64_t size_for(const struct shm_options *options)
{
    return frames_offset_of(options) + shm_frames_region(options->frames_capacity);
}

/* The file is all zeros, which is the right start of everything that is not set here. */
static lsm_status init_layout(struct shm_segment *segment, const struct shm_options *options,
                              const uint8_t nonce[SHM_UUID_SIZE], uint64_t segment_size,
                              lsm_error *err)
{
    struct shm_layout *layout = segment->layout;
    uint64_t arena_size = round_up(options->arena_size, IO_ALIGNMENT);
    layout->ident = (struct shm_ident){
        .magic = SHM_MAGIC,
        .layout = SHM_LAYOUT_VERSION,
        .layout_hash = shm_layout_hash(),
        .segment_size = segment_size,
        .arena_size = arena_size,
        .arenas_offset = round_up(sizeof *layout, IO_ALIGNMENT),
        .frames_offset = frames_offset_of(options),
        .frames_capacity =
            shm_frames_region(options->frames_capacity) == 0 ? 0 : options->frames_capacity,
        .memtable_count = options->memtable_count,
        .slot_count = SHM_MAX_SLOTS,
        .lock_file = options->lock_file,
    };
    memcpy(layout->ident.uuid, options->uuid, SHM_UUID_SIZE);
    memcpy(layout->ident.nonce, nonce, SHM_UUID_SIZE);
    for (uint32_t i = 0; i < options->memtable_count; i++) {
        layout->memtables[i].arena_offset = layout->ident.arenas_offset + i * arena_size;
        atomic_store_explicit(&layout->memtables[i].backed_high, arena_size, memory_order_relaxed);
    }
    struct shm_lock *locks[] = {&layout->locks.reg, &layout->locks.version, &layout->locks.append,
                                &layout->locks.change, &layout->locks.sync};
    for (size_t i = 0; i < sizeof locks / sizeof *locks; i++) {
        int error = shm_lock_init(locks[i]);
        if (error != 0)
            return lsm_fail_errno(err, error, "cannot make a lock in '%s'", segment->name);
    }
    return LSM_OK;
}

static void name_segment(char name[IO_NAME_MAX], const uint8_t uuid[SHM_UUID_SIZE],
                         const uint8_t nonce[SHM_UUID_SIZE])
{
    char *end = put_hex(put_name_prefix(name, uuid), nonce, NAME_NONCE_SIZE);
    *end = '\0';
}

/* Whether `name` still means the file that is open. */
static bool is_named(struct shm_segment *segment)
{
    struct io_file *again = NULL;
    struct io_identity mine, found;
    bool same = io_file_identity(segment->file, &mine, NULL) == LSM_OK &&
                io_file_open(segment->dir, segment->name, 0, 0, &again, NULL) == LSM_OK &&
                io_file_identity(again, &found, NULL) == LSM_OK && io_identity_equal(mine, found);
    io_file_close(again);
    return same;
}

static lsm_status take_presence(struct shm_segment *segment, lsm_error *err)
{
    return io_lock_as(segment->file, PRESENCE_BYTE, IO_LOCK_SHARED, IO_LOCK_PATIENCE_MS,
                      &segment->presence, err);
}

/* An empty file under a new name that nobody takes for a left-over. */
static lsm_status make_file(struct shm_segment *segment, const struct shm_options *options,
                            uint8_t nonce[SHM_UUID_SIZE], struct io *io, lsm_error *err)
{
    for (unsigned try = 1;; try++) {
        io_random(io, nonce, SHM_UUID_SIZE);
        name_segment(segment->name, options->uuid, nonce);
        lsm_status status =
            io_file_open(segment->dir, segment->name, IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_NEW,
                         options->mode, &segment->file, err);
        segment->is_named = status != LSM_EXISTS; /* one that failed late leaves the name behind */
        if (status == LSM_OK)
            status = take_presence(segment, err);
        if (status == LSM_OK && is_named(segment))
            return LSM_OK;
        if ((status != LSM_OK && status != LSM_BUSY && status != LSM_EXISTS) || try == CREATE_TRIES)
            return status != LSM_OK
                       ? status
                       : lsm_fail(err, LSM_BUSY, "somebody removes every new segment in '%s'",
                                  io_dir_path(segment->dir));
        if (segment->is_named)
            (void)io_dir_unlink(segment->dir, segment->name, NULL, NULL);
        io_unlock(segment->presence);
        io_file_close(segment->file);
        segment->presence = NULL;
        segment->file = NULL;
        segment->is_named = false;
    }
}

static lsm_status map_segment(struct shm_segment *segment, uint64_t size, unsigned flags,
                              lsm_error *err)
{
    lsm_status status =
        io_map(segment->file, (size_t)size, flags | IO_MAP_HOLES, &segment->mapping, err);
    if (status == LSM_OK)
        segment->layout = io_mapping_memory(segment->mapping);
    return status;
}

lsm_status shm_segment_directory(struct io *io, const char *directory, char *path, size_t size,
                                 lsm_error *err)
{
    struct io_dir *dir = NULL;
    lsm_status status = io_dir_open(io, directory_or_default(directory), IO_DIR_CREATE,
                                    SEGMENT_DIR_MODE, &dir, err);
    if (status == LSM_OK)
        status = io_dir_real_path(dir, path, size, err);
    io_dir_close(dir);
    return status;
}

lsm_status shm_segment_create(struct io *io, const struct shm_options *options,
                              struct shm_segment **segment, lsm_error *err)
{
    lsm_status status = check_options(options, err);
    if (status != LSM_OK)
        return status;
    struct shm_segment *s = mem_alloc_zeroed(sizeof *s);
    if (s == NULL)
        return lsm_fail_memory(err, sizeof *s);

    uint8_t nonce[SHM_UUID_SIZE];
    uint64_t size = size_for(options);
    status = io_dir_open(io, directory_or_default(options->directory), IO_DIR_CREATE,
                         SEGMENT_DIR_MODE, &s->dir, err);
    if (status == LSM_OK)
        status = remove_stale_in(s->dir, options->uuid, options->lock_file, err);
    if (status == LSM_OK)
        status = make_file(s, options, nonce, io, err);
    STEP("segment: file made");
    if (status == LSM_OK)
        status = io_file_truncate(s->file, size, err);
    if (status == LSM_OK)
        status = back(s, 0, round_up(sizeof(struct shm_layout), IO_ALIGNMENT), err);
    if (status == LSM_OK)
        status = map_segment(s, size, IO_MAP_WRITE, err);
    STEP("segment: mapped");
    if (status == LSM_OK)
        status = init_layout(s, options, nonce, size, err);
    if (status == LSM_OK)
        status = shm_frames_make(s, err);
    if (status != LSM_OK) {
        shm_segment_destroy(s);
        return status;
    }
    *segment = s;
    return LSM_OK;
}

/* ---- open ------------------------------------------------------------------------------------ */

static lsm_status differs(const struct shm_segment *segment, lsm_status status, const char *what,
                          uint64_t expected, uint64_t found, lsm_error *err)
{
    (void)lsm_fail(err, status, "segment '%s' in '%s': its %s is %" PRIu64 ", expected %" PRIu64,
                   segment->name, io_dir_path(segment->dir), what, found, expected);
    status_place(err, segment->name, 0);
    status_numbers(err, expected, found);
    return status;
}

/* A layout of another build must not be looked at beyond its first two words. */
static lsm_status check_layout(struct shm_segment *segment, uint64_t file_size, lsm_error *err)
{
    const struct shm_ident *ident = &segment->layout->ident;
    if (ident->magic != SHM_MAGIC)
        return differs(segment, LSM_CORRUPT, "magic", SHM_MAGIC, ident->magic, err);
    if (ident->layout != SHM_LAYOUT_VERSION)
        return differs(segment, LSM_UNSUPPORTED, "layout", SHM_LAYOUT_VERSION, ident->layout, err);
    if (ident->layout_hash != shm_layout_hash())
        return differs(segment, LSM_UNSUPPORTED, "layout's hash", shm_layout_hash(),
                       ident->layout_hash, err);
    struct shm_options options = {.arena_size = ident->arena_size,
                                  .memtable_count = ident->memtable_count,
                                  .frames_capacity = ident->frames_capacity};
    lsm_status status = check_options(&options, err);
    if (status != LSM_OK)
        return differs(segment, LSM_CORRUPT, "count of memtables", SHM_MAX_MEMTABLES,
                       ident->memtable_count, err);
    if (ident->segment_size != file_size || size_for(&options) != file_size)
        return differs(segment, LSM_CORRUPT, "size", file_size, ident->segment_size, err);
    return LSM_OK;
}

static lsm_status open_file(struct shm_segment *segment, struct io_identity expected,
                            bool is_writable, lsm_error *err)
{
    struct io_identity found = {0};
    lsm_status status = io_file_open(segment->dir, segment->name, is_writable ? IO_FILE_WRITE : 0,
                                     0, &segment->file, err);
    if (status == LSM_OK)
        status = io_file_identity(segment->file, &found, err);
    if (status == LSM_OK && !io_identity_equal(found, expected))
        return differs(segment, LSM_UNSUPPORTED, "inode", expected.inode, found.inode, err);
    return status == LSM_OK && is_writable ? take_presence(segment, err) : status;
}

static lsm_status open_named(struct io *io, const char *directory, const char *name,
                             struct io_identity expected, bool is_writable,
                             struct shm_segment **segment, lsm_error *err)
{
    if (strlen(name) != NAME_SIZE)
        return lsm_fail(err, LSM_CORRUPT, "'%s' is not the name of a segment", name);
    struct shm_segment *s = mem_alloc_zeroed(sizeof *s);
    if (s == NULL)
        return lsm_fail_memory(err, sizeof *s);
    memcpy(s->name, name, NAME_SIZE + 1);
    uint64_t size = 0;
    lsm_status status = io_dir_open(io, directory, 0, 0, &s->dir, err);
    if (status == LSM_OK)
        status = open_file(s, expected, is_writable, err);
    if (status == LSM_OK)
        status = io_file_size(s->file, &size, err);
    if (status == LSM_OK && size < sizeof(struct shm_layout))
        status = differs(s, LSM_UNSUPPORTED, "size", sizeof(struct shm_layout), size, err);
    if (status == LSM_OK)
        status = map_segment(s, size, is_writable ? IO_MAP_WRITE : 0, err);
    if (status == LSM_OK)
        status = check_layout(s, size, err);
    if (status != LSM_OK) {
        shm_segment_close(s);
        return status;
    }
    s->is_named = is_writable;
    *segment = s;
    return LSM_OK;
}

lsm_status shm_segment_open(struct io *io, const char *directory, const char *name,
                            struct io_identity expected, struct shm_segment **segment,
                            lsm_error *err)
{
    return open_named(io, directory, name, expected, true, segment, err);
}

lsm_status shm_segment_look(struct io *io, const char *directory, const char *name,
                            struct io_identity expected, struct shm_segment **segment,
                            lsm_error *err)
{
    return open_named(io, directory, name, expected, false, segment, err);
}

/* ---- end ------------------------------------------------------------------------------------- */

void shm_segment_close(struct shm_segment *segment)
{
    if (segment == NULL)
        return;
    if (segment->mapping != NULL)
        io_unmap(segment->mapping);
    io_unlock(segment->presence);
    io_file_close(segment->file);
    if (segment->dir != NULL)
        io_dir_close(segment->dir);
    mem_free(segment);
}

void shm_segment_destroy(struct shm_segment *segment)
{
    /* A name that cannot be removed is removed by the next create as stale. */
    if (segment != NULL && segment->is_named)
        (void)io_dir_unlink(segment->dir, segment->name, NULL, NULL);
    shm_segment_close(segment);
}

const char *shm_segment_name(const struct shm_segment *segment)
{
    return segment->name;
}

lsm_status shm_segment_place(struct shm_segment *segment, char *directory, size_t size,
                             struct io_identity *identity, lsm_error *err)
{
    lsm_status status = io_dir_real_path(segment->dir, directory, size, err);
    return status == LSM_OK ? io_file_identity(segment->file, identity, err) : status;
}

struct shm_layout *shm_layout(struct shm_segment *segment)
{
    return segment->layout;
}

void *shm_arena(struct shm_segment *segment, uint32_t index)
{
    assert(index < segment->layout->ident.memtable_count);
    return (uint8_t *)segment->layout + segment->layout->memtables[index].arena_offset;
}
