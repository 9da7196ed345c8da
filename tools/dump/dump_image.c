/*
 * An image for a bug report: everything that the files say of themselves, as JSON Lines, and not a
 * byte of what the user put in. Keys and names of families are written as a hash under a random
 * secret that is forgotten afterwards, so that equal ones can be told and none be guessed; values
 * only count. Sentences that may name a path are left out.
 */
#include "tools/dump/files.h"
#include "tools/dump/row.h"

#include "engine/base/bytes.h"
#include "tools/cli/memory.h"

#include <sys/utsname.h>

/* ---- SipHash-2-4 ----------------------------------------------------------------------------- */

static uint64_t rotate(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_rounds(uint64_t v[4], unsigned rounds)
{
    while (rounds-- > 0) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] = rotate(v[2], 32);
    }
}

static void sip_take(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_rounds(v, 2);
    v[0] ^= word;
}

uint64_t dump_hide(const struct dumper *d, lsm_slice bytes)
{
    const unsigned char *at = bytes.data;
    uint64_t v[4] = {
        d->secret[0] ^ UINT64_C(0x736f6d6570736575), d->secret[1] ^ UINT64_C(0x646f72616e646f6d),
        d->secret[0] ^ UINT64_C(0x6c7967656e657261), d->secret[1] ^ UINT64_C(0x7465646279746573)};
    uint64_t last = (uint64_t)bytes.size << 56;
    size_t i = 0;
    for (; bytes.size - i >= 8; i += 8)
        sip_take(v, bytes_get_u64(at + i));
    for (unsigned shift = 0; i < bytes.size; i++, shift += 8)
        last |= (uint64_t)at[i] << shift;
    sip_take(v, last);
    v[2] ^= 0xff;
    sip_rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* ---- the image ------------------------------------------------------------------------------- */

static bool show_system(struct dumper *d, const struct dump_files *f)
{
    struct utsname system;
    struct row row;
    row_begin(&row, d, 0, "system");
    row_text(&row, "library", lsm_version());
    if (uname(&system) == 0) {
        row_text(&row, "kernel", system.release);
        row_text(&row, "machine", system.machine);
    }
    const char *remote = io_dir_remote_name(f->dir);
    row_text(&row, "file_system", remote == NULL ? "local" : remote);
    row_text(&row, "io", io_name(f->io));
    row_flag(&row, "current_is_sound", f->manifest_number != 0);
    row_flag(&row, "manifest_is_sound", f->has_state);
    row_flag(&row, "others_have_it_open", f->is_open);
    return row_end(&row);
}

static bool show_names(struct dumper *d, const struct dump_file *files, size_t count)
{
    bool is_good = true;
    for (size_t i = 0; is_good && i < count; i++) {
        char name[FILE_NAME_SIZE];
        struct row row;
        row_begin(&row, d, 0, "file");
        row_text(&row, "name", file_name_make(files[i].kind, files[i].number, name));
        if (files[i].bytes != UINT64_MAX)
            row_u64(&row, "bytes", files[i].bytes);
        is_good = row_end(&row);
    }
    return is_good;
}

int dump_image(struct dumper *d, struct dump_files *f)
{
    struct dump_file *files = NULL;
    size_t count = 0;
    io_random(f->io, d->secret, sizeof d->secret);
    int code = dump_files_list(d, f, &files, &count);
    if (code == EXIT_DONE && !(show_system(d, f) && show_names(d, files, count)))
        code = dump_fail_output(d);
    for (size_t i = 0; (code & ~EXIT_DAMAGE) == EXIT_DONE && i < count; i++) {
        if (files[i].kind == FILE_MANIFEST)
            code |= dump_manifest(d, f, files[i].number);
        else if (files[i].kind == FILE_TABLE || files[i].kind == FILE_BLOB)
            code |= dump_table(d, f, files[i].kind, files[i].number);
    }
    if ((code & ~EXIT_DAMAGE) == EXIT_DONE && f->has_uuid)
        code |= dump_log(d, f);
    memory_free(files);
    return code;
}
