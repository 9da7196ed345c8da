/*
 * Processes that read and write few keys, some killed and some stopped on the way, and whether all
 * that they saw has one order.
 *
 * Every call on the keys is noted in shared memory, with its begin and end on the one monotonic
 * clock, so that the calls of the dead are known. What a dead process was writing has taken effect,
 * or never does, when a later process has written something; that is noted as the call's end. The
 * whole history is then checked for one order of all calls (tests/lib/history.h).
 *
 *   history_test [--seconds N] [--processes N] [--seed N]
 */
#include "engine/base/random.h"
#include "engine/lsm.h"
#include "tests/lib/history.h"
#include "tests/lib/scratch.h"

#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX 16
#define CALLS_MAX     400000
#define VALUE_MAX     1500

struct note {
    struct history_call call;
    _Atomic uint32_t state; /* enum note_state */
};

enum note_state { NOTE_UNUSED, NOTE_BEGUN, NOTE_ENDED };

static struct board {
    _Atomic uint64_t count;                  /* of notes */
    _Atomic uint64_t pending[PROCESSES_MAX]; /* note of the last call + 1; 0: none */
    _Atomic uint64_t next_value;
    _Atomic uint32_t failed;
    char message[1000];
    struct note notes[CALLS_MAX];
} * board;

static struct {
    uint64_t seed, seconds, processes;
} arguments = {.seconds = 15, .processes = 5};
static char directory[SCRATCH_PATH_SIZE], path[SCRATCH_PATH_SIZE + 8];
static unsigned key_count;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_us(uint64_t us)
{
    nanosleep(&(struct timespec){(time_t)(us / 1000000), (long)(us % 1000000) * 1000}, NULL);
}

static _Noreturn void complain(const char *what, const char *why)
{
    if (atomic_exchange(&board->failed, 1) == 0)
        snprintf(board->message, sizeof board->message, "%s: %s", what, why);
    _exit(1);
}

#define must(call)                                                                                 \
    do {                                                                                           \
        lsm_error err_ = {0};                                                                      \
        lsm_error *err = &err_;                                                                    \
        if ((call) != LSM_OK)                                                                      \
            complain(#call, err->message);                                                         \
    } while (0)

/* ---- notes ----------------------------------------------------------------------------------- */

/* NULL when there is no room for more. */
static struct note *begin_note(unsigned process, bool writes, unsigned keys)
{
    uint64_t index = atomic_fetch_add(&board->count, 1);
    if (index >= CALLS_MAX)
        return NULL;
    struct note *n = &board->notes[index];
    n->call = (struct history_call){
        .process = process, .writes = writes, .keys = (uint8_t)keys, .end = HISTORY_PENDING};
    n->call.begin = now_ns();
    atomic_store(&n->state, NOTE_BEGUN);
    atomic_store(&board->pending[process], index + 1);
    return n;
}

static void end_note(struct note *n)
{
    n->call.end = now_ns();
    atomic_store(&n->state, NOTE_ENDED);
    atomic_store(&board->pending[n->call.process], 0);
}

/* ---- calls ----------------------------------------------------------------------------------- */

struct client {
    lsm_db *db;
    unsigned process;
    struct random_state random;
};

static lsm_slice key_of(unsigned key, char text[16])
{
    return LSM_SLICE(text, (size_t)snprintf(text, 16, "hot-%u", key));
}

static uint64_t number_in(const void *data, size_t size)
{
    uint64_t number = 0;
    if (size != LSM_ABSENT)
        memcpy(&number, data, sizeof number);
    return number;
}

static lsm_write_options any_durability(struct random_state *r)
{
    return (lsm_write_options){.durability = random_below(r, 6) == 0 ? LSM_SYNC : LSM_WRITE};
}

/* Of one key or of several, one in five a deletion of all of them. */
static bool write_some(struct client *c)
{
    struct random_state *r = &c->random;
    char text[16], value[VALUE_MAX];
    bool deletes = random_below(r, 5) == 0;
    unsigned keys = random_below(r, 2) == 0 ? 1u << random_below(r, key_count)
                                            : 1 + (unsigned)random_below(r, (1u << key_count) - 1);
    uint64_t number = deletes ? HISTORY_ABSENT : atomic_fetch_add(&board->next_value, 1) + 1;
    size_t size = 8 + random_below(r, VALUE_MAX - 8);
    lsm_write_options options = any_durability(r);
    lsm_batch *batch = NULL;
    memset(value, (int)number, sizeof value);
    memcpy(value, &number, sizeof number);
    must(lsm_batch_new(&batch, err));
    for (unsigned k = 0; k < key_count; k++) {
        if ((keys >> k & 1) != 0 && deletes)
            must(lsm_batch_delete(batch, NULL, key_of(k, text), err));
        else if ((keys >> k & 1) != 0)
            must(lsm_batch_put(batch, NULL, key_of(k, text), LSM_SLICE(value, size), err));
    }
    struct note *n = begin_note(c->process, true, 0);
    if (n != NULL) {
        for (unsigned k = 0; k < key_count; k++)
            n->call.values[k] = number;
        /* Last: without keys a call that is not noted whole writes nothing. */
        atomic_signal_fence(memory_order_release);
        n->call.keys = (uint8_t)keys;
        if ((keys & (keys - 1)) == 0 && !deletes)
            must(lsm_put(c->db, NULL, key_of((unsigned)__builtin_ctz(keys), text),
                         LSM_SLICE(value, size), &options, err));
        else
            must(lsm_write(c->db, batch, &options, err));
        end_note(n);
    }
    lsm_batch_free(batch);
    return n != NULL;
}

static bool read_one(struct client *c)
{
    char text[16];
    uint64_t number = 0;
    size_t size = 0;
    unsigned key = (unsigned)random_below(&c->random, key_count);
    struct note *n = begin_note(c->process, false, 1u << key);
    if (n == NULL)
        return false;
    must(lsm_get_into(c->db, NULL, key_of(key, text), NULL, &number, sizeof number, &size, err));
    n->call.values[key] = size == LSM_ABSENT ? HISTORY_ABSENT : number;
    end_note(n);
    return true;
}

static bool read_many(struct client *c)
{
    char texts[HISTORY_KEYS][16];
    lsm_slice keys[HISTORY_KEYS];
    lsm_pin pins[HISTORY_KEYS] = {{.found = false}};
    for (unsigned k = 0; k < key_count; k++)
        keys[k] = key_of(k, texts[k]);
    struct note *n = begin_note(c->process, false, (1u << key_count) - 1);
    if (n == NULL)
        return false;
    must(lsm_multi_get(c->db, NULL, key_count, keys, NULL, pins, err));
    for (unsigned k = 0; k < key_count; k++)
        n->call.values[k] =
            pins[k].found ? number_in(pins[k].value.data, pins[k].value.size) : HISTORY_ABSENT;
    end_note(n);
    for (unsigned k = 0; k < key_count; k++)
        lsm_pin_release(&pins[k]);
    return true;
}

/* The moment is that of opening: the call ends there, whatever the walk takes. */
static bool walk(struct client *c)
{
    lsm_read_options options = {.prefix = LSM_SLICE("hot-", 4)};
    lsm_iter *it = NULL;
    bool slow = random_below(&c->random, 4) == 0;
    struct note *n = begin_note(c->process, false, (1u << key_count) - 1);
    if (n == NULL)
        return false;
    must(lsm_iter_open(c->db, NULL, &options, &it, err));
    uint64_t end = now_ns();
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it)) {
        lsm_slice key = lsm_iter_key(it), value = lsm_iter_value(it);
        n->call.values[((const char *)key.data)[4] - '0'] = number_in(value.data, value.size);
        if (slow)
            sleep_us(random_below(&c->random, 3000));
    }
    must(lsm_iter_status(it, err));
    lsm_iter_close(it);
    end_note(n);
    n->call.end = end;
    return true;
}

static bool read_snapshot(struct client *c)
{
    char text[16];
    lsm_snapshot *snapshot = NULL;
    struct note *n = begin_note(c->process, false, (1u << key_count) - 1);
    if (n == NULL)
        return false;
    must(lsm_snapshot_acquire(c->db, &snapshot, err));
    uint64_t end = now_ns();
    lsm_read_options options = {.snapshot = snapshot};
    for (unsigned k = 0; k < key_count; k++) {
        uint64_t number = 0;
        size_t size = 0;
        must(lsm_get_into(c->db, NULL, key_of(k, text), &options, &number, sizeof number, &size,
                          err));
        n->call.values[k] = size == LSM_ABSENT ? HISTORY_ABSENT : number;
        sleep_us(random_below(&c->random, 500));
    }
    lsm_snapshot_release(c->db, snapshot);
    end_note(n);
    n->call.end = end;
    return true;
}

/* ---- a life ---------------------------------------------------------------------------------- */

static lsm_db *open_it(bool with_workers)
{
    lsm_options options = LSM_OPTIONS_INIT;
    must(lsm_options_parse(&options,
                           "create=true,memtable_size=64KiB,stage_size=64KiB,"
                           "wal_segment_size=64KiB,table_size=32KiB,level_base_size=64KiB,"
                           "level0_trigger=2,cache_size=256KiB",
                           err));
    options.workers = with_workers ? 1 : LSM_NO_WORKERS;
    options.shm_dir = directory;
    lsm_db *db = NULL;
    lsm_error error = {0};
    lsm_status status = LSM_BUSY;
    for (unsigned i = 0; status == LSM_BUSY && i < 20; i++) /* who opens or closes may be stopped */
        status = lsm_open(path, &options, &db, &error);
    if (status != LSM_OK)
        complain("opening", error.message);
    return db;
}

/* What the place's last life was writing is there, or never is, once something is written after. */
static void settle(lsm_db *db, unsigned process)
{
    must(lsm_put(db, NULL, LSM_SLICE("settled", 7), LSM_SLICE("", 0), NULL, err));
    uint64_t pending = atomic_load(&board->pending[process]);
    struct note *n = &board->notes[pending == 0 ? 0 : pending - 1];
    if (pending != 0 && atomic_load(&n->state) == NOTE_BEGUN) {
        n->call.optional = true;
        n->call.end = now_ns();
        atomic_store(&n->state, NOTE_ENDED);
    }
    atomic_store(&board->pending[process], 0);
}

static _Noreturn void live(unsigned process, uint64_t seed)
{
    struct client c = {.process = process, .random = random_seeded(seed)};
    struct random_state *r = &c.random;
    c.db = open_it(random_below(r, 3) != 0);
    settle(c.db, process);
    uint64_t limit = 100 + random_below(r, 6000);
    bool going = true;
    for (uint64_t i = 0; going && i < limit; i++) {
        uint64_t choice = random_below(r, 100);
        if (choice < 45)
            going = write_some(&c);
        else if (choice < 75)
            going = read_one(&c);
        else if (choice < 85)
            going = read_many(&c);
        else if (choice < 92)
            going = walk(&c);
        else if (choice < 97)
            going = read_snapshot(&c);
        else if (choice < 98 && random_below(r, 8) == 0)
            must(lsm_flush(c.db, err));
        else
            sleep_us(random_below(r, 2000));
    }
    (void)lsm_close(c.db, NULL);
    _exit(0);
}

/* ---- the run --------------------------------------------------------------------------------- */

static pid_t pids[PROCESSES_MAX];
static uint64_t resume_ns[PROCESSES_MAX];
static uint64_t deaths, stops, lives;

static void start(unsigned i)
{
    resume_ns[i] = 0;
    fflush(NULL);
    pids[i] = fork();
    if (pids[i] == 0)
        live(i, arguments.seed * 1000003 + ++lives);
    lives++;
}

static void note_end(int status)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        deaths++;
    else if ((!WIFEXITED(status) || WEXITSTATUS(status) != 0) &&
             atomic_exchange(&board->failed, 1) == 0)
        snprintf(board->message, sizeof board->message, "a process ended with %#x",
                 (unsigned)status);
}

static void look_after(void)
{
    for (unsigned i = 0; i < arguments.processes; i++) {
        int status;
        if (resume_ns[i] != 0 && now_ns() >= resume_ns[i]) {
            resume_ns[i] = 0;
            kill(pids[i], SIGCONT);
        }
        if (waitpid(pids[i], &status, WNOHANG) == pids[i]) {
            note_end(status);
            start(i);
        }
    }
}

static void strike(struct random_state *r)
{
    unsigned one = (unsigned)random_below(r, arguments.processes);
    if (random_below(r, 2) == 0) {
        kill(pids[one], SIGSTOP);
        resume_ns[one] = now_ns() + 1000000 * (1 + random_below(r, 200));
        stops++;
        return;
    }
    bool all = random_below(r, 25) == 0;
    for (unsigned i = 0; i < arguments.processes; i++) {
        if (all || i == one)
            kill(pids[i], SIGKILL);
    }
}

static void run(void)
{
    struct random_state r = random_seeded(arguments.seed);
    uint64_t end = now_ns() + arguments.seconds * 1000000000u, due = 0;
    for (unsigned i = 0; i < arguments.processes; i++)
        start(i);
    while (now_ns() < end && !atomic_load(&board->failed) &&
           atomic_load(&board->count) < CALLS_MAX) {
        sleep_us(1000);
        if (now_ns() >= due) {
            strike(&r);
            due = now_ns() + random_below(&r, 80000000);
        }
        look_after();
    }
    for (unsigned i = 0; i < arguments.processes; i++) {
        int status;
        kill(pids[i], SIGKILL);
        if (waitpid(pids[i], &status, 0) == pids[i])
            note_end(status);
    }
}

/* After the last death: all is settled, and read twice. */
static void look_again(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (unsigned i = 0; i < 2; i++) {
            struct client c = {.db = open_it(false), .process = PROCESSES_MAX - 1};
            for (unsigned p = 0; i == 0 && p < arguments.processes; p++)
                settle(c.db, p);
            (void)read_many(&c);
            must(lsm_close(c.db, err));
        }
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    note_end(status);
}

static enum history_verdict check_history(char *text, size_t size)
{
    static struct history_call calls[CALLS_MAX];
    uint64_t noted = atomic_load(&board->count), count = 0;
    for (uint64_t i = 0; i < noted && i < CALLS_MAX; i++) {
        if (atomic_load(&board->notes[i].state) == NOTE_ENDED)
            calls[count++] = board->notes[i].call;
    }
    return history_check(calls, count, text, size);
}

static uint64_t number_after(int *at, int count, char **words)
{
    if (*at + 1 >= count) {
        fprintf(stderr, "%s wants a value\n", words[*at]);
        exit(99);
    }
    return strtoull(words[++*at], NULL, 10);
}

static void take_arguments(int count, char **words)
{
    arguments.seed = now_ns() ^ (uint64_t)getpid() << 20;
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "--seconds") == 0)
            arguments.seconds = number_after(&i, count, words);
        else if (strcmp(words[i], "--processes") == 0)
            arguments.processes = number_after(&i, count, words);
        else if (strcmp(words[i], "--seed") == 0)
            arguments.seed = number_after(&i, count, words);
        else {
            fprintf(stderr, "history_test: unknown word '%s'\n", words[i]);
            exit(99);
        }
    }
    if (arguments.processes < 1 || arguments.processes >= PROCESSES_MAX)
        exit(99);
}

int main(int count, char **words)
{
    char text[600] = "";
    take_arguments(count, words);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 99;
    key_count = 3 + (unsigned)(arguments.seed % (HISTORY_KEYS - 2));
    scratch_make(directory);
    snprintf(path, sizeof path, "%s/db", directory);
    printf("history: seed=%" PRIu64 " keys=%u\n", arguments.seed, key_count);
    run();
    uint64_t killed = deaths;
    if (!atomic_load(&board->failed))
        look_again();
    enum history_verdict verdict = HISTORY_LINEARISABLE;
    if (!atomic_load(&board->failed))
        verdict = check_history(text, sizeof text);
    printf("history: kills=%" PRIu64 " stops=%" PRIu64 " calls=%" PRIu64 "\n", killed, stops,
           atomic_load(&board->count));
    if (atomic_load(&board->failed) || verdict == HISTORY_VIOLATED) {
        printf("FAILED: %s%s\n(left in %s)\n", board->message, text, directory);
        return 1;
    }
    if (verdict == HISTORY_TOO_WIDE)
        printf("too many calls at once to tell from here on: %s\n", text);
    scratch_remove(directory);
    return verdict == HISTORY_TOO_WIDE ? 99 : 0;
}
