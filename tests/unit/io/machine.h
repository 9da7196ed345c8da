/* A simulated disk with one environment and one directory, "db", for its tests. */
#ifndef TESTS_UNIT_IO_MACHINE_H
#define TESTS_UNIT_IO_MACHINE_H

#include "tests/unit/io/backend.h"

#define RW     (IO_FILE_WRITE | IO_FILE_CREATE)
#define SECTOR ((size_t)512)
#define PAGE   ((size_t)4096)
#define OFF    "the simulated machine is off"

/* A disk with one environment and one directory, "db". */
struct machine {
    struct sim_disk *disk;
    struct io *io;
    struct io_dir *dir;
};

static inline void boot(struct machine *m, struct sim_disk *disk)
{
    *m = (struct machine){.disk = disk};
    ck_ok(sim_open(disk, &m->io, err));
    ck_ok(io_dir_open(m->io, "db", IO_DIR_CREATE, 0, &m->dir, err));
}

static inline struct machine new_machine(uint64_t seed)
{
    struct machine m;
    boot(&m, sim_disk_new(seed));
    return m;
}

static inline void shut(struct machine *m)
{
    io_dir_close(m->dir);
    io_close(m->io);
}

/* Closes the environment, crashes the disk, and opens another environment. */
static inline void crash(struct machine *m, enum sim_crash how, uint64_t seed)
{
    struct sim_disk *disk = m->disk;
    shut(m);
    sim_crash(disk, how, seed);
    boot(m, disk);
}

static inline void discard(struct machine *m)
{
    shut(m);
    sim_disk_free(m->disk);
}

static inline struct io_file *open_file(struct machine *m, const char *name, unsigned flags)
{
    struct io_file *f = NULL;
    ck_ok(io_file_open(m->dir, name, flags, 0, &f, err));
    return f;
}

/* Writes a whole file of `size` times `byte`; durable with `sync`. */
static inline void put_file(struct machine *m, const char *name, int byte, size_t size, bool sync)
{
    struct io_file *f = open_file(m, name, RW);
    void *bytes = backend_pages(size + PAGE - size % PAGE, byte);
    ck_ok(io_file_truncate(f, 0, err));
    ck_ok(io_file_write(f, bytes, size, 0, err));
    if (sync) {
        ck_ok(io_file_sync(f, err));
        ck_ok(io_dir_sync(m->dir, err));
    }
    free(bytes);
    io_file_close(f);
}

static inline bool exists(struct machine *m, const char *name)
{
    const void *bytes = NULL;
    size_t size = 0;
    return sim_contents(m->disk, "db", name, &bytes, &size, NULL) == LSM_OK;
}

static inline const unsigned char *contents(struct machine *m, const char *name, size_t *size)
{
    const void *bytes = NULL;
    ck_ok(sim_contents(m->disk, "db", name, &bytes, size, err));
    return bytes;
}

/* Whether the file is `size` times `byte`. */
static inline bool is_all(struct machine *m, const char *name, int byte, size_t size)
{
    size_t found = 0;
    const unsigned char *bytes = contents(m, name, &found);
    if (found != size)
        return false;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != byte)
            return false;
    return true;
}

static inline struct io_mapping *map_file(struct io_file *f, size_t size)
{
    struct io_mapping *mapping = NULL;
    ck_ok(io_map(f, size, IO_MAP_WRITE, &mapping, err));
    return mapping;
}

#endif
