/*
 * Arbitrary bytes as the parts of a table file, and as patches of a sound file whose checksums are
 * put right again, so that the fuzzer gets behind them.
 *
 * First byte 0: footer page, then frame, index payload and properties, all from the same bytes.
 * Else: patches of three bytes each, offset u16 and the byte to put there.
 */
#include "engine/base/memory.h"
#include "engine/format/table_format.h"
#include "engine/format/table_index.h"
#include "engine/format/table_properties.h"
#include "engine/io/sim.h"
#include "engine/sst/table.h"

#include <stdio.h>
#include <stdlib.h>

#define DIRECTORY "db"
#define FILE_NAME "000001.sst"
#define ENTRIES   60

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sim_disk *disk;
static struct table_env env;
static uint8_t *sound; /* the file as it was written */
static size_t sound_size;

static void require(bool claim)
{
    if (!claim)
        abort();
}

/* ---- parts ----------------------------------------------------------------------------------- */

static void decode_parts(const uint8_t *data, size_t size)
{
    struct table_frame frame;
    struct table_problem problem;
    struct table_footer footer;
    struct table_index index;
    struct table_properties properties;
    lsm_slice bytes = {data, size};
    if (table_frame_open(bytes, 1, &frame, &problem))
        require(TABLE_FRAME_SIZE + frame.stored_size <= size);
    if (size >= TABLE_PAGE_SIZE)
        (void)table_footer_decode(data, 4096, 12288, env.uuid, 1, &footer, &problem);
    if (table_index_decode(bytes, 1 << 20, &index, &problem)) {
        for (size_t n = 0; n < size; n += 7)
            require(table_index_find(&index, (lsm_slice){data + n, size - n}, n) < index.count);
        table_index_release(&index);
    }
    if (table_properties_decode(bytes, &properties, NULL) == LSM_OK) {
        require(slice_compare(properties.smallest, properties.largest) <= 0);
        table_properties_release(&properties);
    }
}

/* ---- whole files ----------------------------------------------------------------------------- */

static lsm_slice make_key(char *key, unsigned number)
{
    return (lsm_slice){key, (size_t)sprintf(key, "key%05u", number * 3)};
}

static void make_file(void)
{
    struct table_write_options options = {
        .number = 1, .cf_name = "f", .block_size = 512, .filter_bits = 10, .compress = true};
    struct table_writer *w;
    struct table_meta meta;
    require(table_writer_new(&env, &options, &w, NULL) == LSM_OK);
    for (unsigned i = 0; i < ENTRIES; i++) {
        char key[32], value[64];
        lsm_slice v = {value, (size_t)sprintf(value, "some value %u of some length", i)};
        require(table_writer_add(w, make_key(key, i), entry_trailer(i + 1, ENTRY_PUT), v, NULL) ==
                LSM_OK);
    }
    require(table_writer_finish(w, &meta, NULL) == LSM_OK);
    table_meta_release(&meta);
    const void *bytes;
    require(sim_contents(disk, DIRECTORY, FILE_NAME, &bytes, &sound_size, NULL) == LSM_OK);
    sound = malloc(sound_size);
    require(sound != NULL);
    memcpy(sound, bytes, sound_size);
}

static void begin(void)
{
    disk = sim_disk_new(1);
    require(disk != NULL && sim_open(disk, &env.io, NULL) == LSM_OK);
    require(io_dir_open(env.io, DIRECTORY, IO_DIR_CREATE, 0700, &env.dir, NULL) == LSM_OK);
    env.mode = 0600;
    env.cache = block_cache_new(4096);
    require(env.cache != NULL);
    make_file();
}

/* Frames where the sound file had them, whatever their size is now, and both footers. */
static void sign_again(uint8_t *file)
{
    for (size_t at = 0; at + TABLE_FRAME_SIZE <= sound_size; at += TABLE_FRAME_ALIGNMENT) {
        if (bytes_get_u32(sound + at + 8) != TABLE_FRAME_MAGIC)
            continue;
        size_t stored = bytes_get_u32(file + at + 16);
        if (stored <= sound_size - at - TABLE_FRAME_SIZE)
            bytes_put_u64(file + at, hash_bytes(file + at + 8, TABLE_FRAME_SIZE - 8 + stored,
                                                hash_place(env.uuid, 1, at)));
    }
    for (size_t i = 0; i < TABLE_FOOTER_COUNT; i++) {
        uint64_t at = table_footer_offset(sound_size, i);
        bytes_put_u64(file + at + TABLE_FOOTER_SIZE - 8,
                      hash_bytes(file + at, TABLE_FOOTER_SIZE - 8, hash_place(env.uuid, 1, at)));
    }
}

static void read_table(struct table *t)
{
    struct iter *it;
    require(table_iter_new(t, &(struct table_iter_options){0}, &it, NULL) == LSM_OK);
    size_t seen = 0;
    for (it->ops->first(it); it->valid && seen < 100000; iter_next(it))
        seen += 1 + it->entry->value.size;
    for (it->ops->last(it); it->valid && seen < 200000; iter_prev(it))
        seen += 1 + it->entry->key.size;
    for (unsigned i = 0; i < ENTRIES; i++) {
        char bytes[32];
        lsm_slice key = make_key(bytes, i);
        bool is_found;
        struct table_found found;
        iter_seek(it, key, ENTRY_MAX_TRAILER);
        epoch_enter();
        (void)table_get(t, key, hash_key(key.data, key.size), ENTRY_MAX_SEQUENCE, 0, &is_found,
                        &found, NULL);
        if (is_found && found.owned)
            block_drop(found.block);
        epoch_exit();
    }
    iter_release(it);
}

static void patch_file(const uint8_t *data, size_t size)
{
    uint8_t *file = malloc(sound_size);
    require(file != NULL);
    memcpy(file, sound, sound_size);
    for (; size >= 3; data += 3, size -= 3)
        file[bytes_get_u16(data) % sound_size] = data[2];
    sign_again(file);
    require(sim_overwrite(disk, DIRECTORY, FILE_NAME, 0, file, sound_size, NULL) == LSM_OK);
    free(file);
    struct table *t;
    if (table_open(&env, 1, sound_size, &t, NULL) == LSM_OK) {
        read_table(t);
        table_close(t);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (disk == NULL)
        begin();
    if (size == 0)
        return 0;
    if (data[0] == 0)
        decode_parts(data + 1, size - 1);
    else
        patch_file(data + 1, size - 1);
    return 0;
}
