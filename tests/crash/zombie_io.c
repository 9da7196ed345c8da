/*
 * The program of zombie_io.sh: writes numbered keys and notes on a board, in a file of another file
 * system, which of them were acknowledged.
 *
 *   zombie_io write DIR BOARD PLACE   writes until it is killed: two threads sync, two do not
 *   zombie_io check DIR BOARD         everything acknowledged is there, and nothing twice
 */
#include "engine/lsm.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PLACES  4
#define THREADS 4
#define VALUE   700

struct board {
    _Atomic uint64_t begun[PLACES][THREADS], acknowledged[PLACES][THREADS];
};

static struct board *board;
static lsm_db *db;
static unsigned place;

#define must(call)                                                                                 \
    do {                                                                                           \
        lsm_error err_ = {0};                                                                      \
        lsm_error *err = &err_;                                                                    \
        if ((call) != LSM_OK) {                                                                    \
            fprintf(stderr, "zombie_io: %s: %s\n", #call, err->message);                           \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static lsm_slice key_of(unsigned p, unsigned thread, uint64_t number, char key[48])
{
    return LSM_SLICE(key, (size_t)snprintf(key, 48, "p%u/t%u/%08" PRIu64, p, thread, number));
}

static void *write_keys(void *argument)
{
    unsigned thread = *(unsigned *)argument;
    lsm_write_options options = {.durability = thread < 2 ? LSM_SYNC : LSM_WRITE};
    char key[48], value[VALUE];
    for (uint64_t n = 1;; n++) {
        memset(value, (int)n, sizeof value);
        memcpy(value, &n, sizeof n);
        atomic_store(&board->begun[place][thread], n);
        must(lsm_put(db, NULL, key_of(place, thread, n, key), LSM_SLICE(value, sizeof value),
                     &options, err));
        atomic_store(&board->acknowledged[place][thread], n);
        if (options.durability == LSM_WRITE)
            nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
    }
    return NULL;
}

static void open_it(const char *path)
{
    lsm_options options = LSM_OPTIONS_INIT;
    must(lsm_options_parse(&options,
                           "create=true,memtable_size=1MiB,stage_size=1MiB,"
                           "wal_segment_size=1MiB,table_size=256KiB",
                           err));
    must(lsm_open(path, &options, &db, err));
}

static int write_all(const char *path)
{
    static unsigned numbers[THREADS];
    pthread_t threads[THREADS];
    open_it(path);
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        if (pthread_create(&threads[i], NULL, write_keys, &numbers[i]) != 0)
            return 99;
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 1;
}

/* 0: the key is absent. */
static uint64_t read_number(unsigned p, unsigned thread, uint64_t n)
{
    char key[48], value[VALUE];
    size_t size = 0;
    uint64_t number = 0;
    must(lsm_get_into(db, NULL, key_of(p, thread, n, key), NULL, value, sizeof value, &size, err));
    if (size != LSM_ABSENT)
        memcpy(&number, value, sizeof number);
    return number;
}

static int check_all(const char *path)
{
    uint64_t sum = 0;
    open_it(path);
    for (unsigned p = 0; p < PLACES; p++) {
        for (unsigned t = 0; t < THREADS; t++) {
            uint64_t acknowledged = atomic_load(&board->acknowledged[p][t]);
            uint64_t begun = atomic_load(&board->begun[p][t]);
            for (uint64_t n = 1; n <= begun + 1; n++) {
                uint64_t found = read_number(p, t, n);
                if (found == n ? n <= begun : found == 0 && n > acknowledged)
                    continue;
                fprintf(stderr,
                        "zombie_io: key %" PRIu64 " of thread %u of place %u reads %" PRIu64
                        "; acknowledged %" PRIu64 ", begun %" PRIu64 "\n",
                        n, t, p, found, acknowledged, begun);
                return 1;
            }
            sum += acknowledged;
        }
    }
    must(lsm_close(db, err));
    printf("zombie_io: %" PRIu64 " acknowledged writes are there\n", sum);
    return 0;
}

int main(int count, char **words)
{
    if (count < 4)
        return 99;
    int fd = open(words[3], O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *board) != 0)
        return 99;
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (board == MAP_FAILED)
        return 99;
    if (count == 5 && strcmp(words[1], "write") == 0) {
        place = (unsigned)atoi(words[4]) % PLACES;
        return write_all(words[2]);
    }
    return strcmp(words[1], "check") == 0 ? check_all(words[2]) : 99;
}
