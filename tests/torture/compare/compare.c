/*
 * Repair side by side: the same history in each engine, the same damage, its own repair, and then
 * what is wrong with what can be read.
 *
 *     compare [--trials N] [--seed N] [--tools DIR]
 *
 * Prints a table: wrong answers of 20,000 keys, mean over the trials. "lost": the newest value is
 * gone; "stale": an older one is there; "revived": a deleted key is back; "corrupt": a value that
 * the key never had; "silent": of all these, those that no reported range holds (an engine that
 * reports nothing is silent about all); "failed": repairs that returned an error, left what cannot
 * be read to its end, or an engine that ended the program. After such an end no answers are
 * counted. A second table says what the tools that only look say of the same damages; lsm-verify
 * and lsm-dump are those in DIR (default: the working directory, as that of a build is).
 */
#include "tests/torture/compare/hospital.h"

#include "tests/lib/model.h"
#include "tests/lib/scratch.h"
#include "tests/lib/verdict.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_SECONDS 60

void peer_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(99);
}

bool in_child(void (*run)(void *context), void *context)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(nowhere, STDERR_FILENO); /* what an assertion says */
        alarm(CHILD_SECONDS);
        run(context);
        _exit(0);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return child > 0 && status == 0;
}

/* ---- the outcome ----------------------------------------------------------------------------- */

struct outcome {
    uint64_t lost, stale, revived, corrupt, silent, failed;
};

struct reader {
    const struct peer *peer;
    const struct history *history;
    struct outcome *outcome;
    bool *seen;
};

static void is_wrong(struct reader *r, uint64_t *count, lsm_slice key)
{
    ++*count;
    r->outcome->silent += r->peer->reports == NULL || !r->peer->reports(key);
}

static void see(void *context, lsm_slice key, lsm_slice value)
{
    struct reader *r = context;
    char text[VALUE_SIZE + 1] = "", wanted[VALUE_SIZE + 1];
    uint32_t number, of, version;
    if (key.size != 11 || sscanf(key.data, "key%8" SCNu32, &number) != 1 || number >= KEYS) {
        is_wrong(r, &r->outcome->corrupt, key);
        return;
    }
    memcpy(text, value.data, value.size < VALUE_SIZE ? value.size : VALUE_SIZE);
    r->seen[number] = true;
    if (value.size != VALUE_SIZE || sscanf(text, "%8" SCNu32 "/%6" SCNu32, &of, &version) != 2 ||
        of != number || version == 0 || version > r->history->versions[number] ||
        memcmp(text, make_value(number, version, wanted).data, VALUE_SIZE) != 0)
        is_wrong(r, &r->outcome->corrupt, key);
    else if (r->history->is_deleted[number])
        is_wrong(r, &r->outcome->revived, key);
    else if (version != r->history->versions[number])
        is_wrong(r, &r->outcome->stale, key);
}

/* One repair and a look at what it made. */
struct trial {
    struct hospital *hospital;
    const char *path;
    struct outcome *outcome; /* shared with the child */
};

static void repair_and_read(void *context)
{
    struct trial *trial = context;
    struct hospital *h = trial->hospital;
    struct outcome *outcome = trial->outcome;
    struct reader r = {.peer = h->peer, .history = h->history, .outcome = outcome};
    r.seen = test_alloc(KEYS);
    memset(r.seen, 0, KEYS);
    bool repaired = h->peer->repair(trial->path);
    bool whole = h->peer->read(trial->path, see, &r);
    outcome->failed += !repaired || !whole;
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];
        if (!r.seen[i] && !h->history->is_deleted[i])
            is_wrong(&r, &outcome->lost, make_key(i, key));
    }
    free(r.seen);
}

static void run_trial(struct hospital *h, const struct damage *damage, const char *path,
                      struct outcome *outcome)
{
    struct trial trial = {h, path, outcome};
    struct outcome before = *outcome;
    hospital_admit(h, damage, path);
    if (!in_child(repair_and_read, &trial)) {
        *outcome = before; /* it died while it was asked */
        outcome->failed++;
    }
}

static void print_row(const char *name, const struct outcome *o, unsigned trials)
{
    double n = trials;
    printf("    %-10s %9.1f %9.1f %9.1f %9.1f %9.1f %9.1f\n", name, (double)o->lost / n,
           (double)o->stale / n, (double)o->revived / n, (double)o->corrupt / n,
           (double)o->silent / n, (double)o->failed / n);
    fflush(stdout);
}

static void compare(const struct peer *const *peers, size_t count, unsigned trials, uint64_t seed,
                    const char *tools)
{
    char scratch[SCRATCH_PATH_SIZE], path[SCRATCH_PATH_SIZE + 24];
    struct history *histories = test_alloc(count * sizeof *histories);
    memset(histories, 0, count * sizeof *histories);
    scratch_make(scratch);
    for (size_t i = 0; i < count; i++) {
        uint32_t live = 0;
        snprintf(path, sizeof path, "%s/%zu", scratch, i);
        history_make(&histories[i], peers[i], path, seed);
        for (uint32_t k = 0; k < KEYS; k++)
            live += !histories[i].is_deleted[k];
        printf("%s: %" PRIu32 " of %d keys are live, %zu files\n", peers[i]->name, live, KEYS,
               histories[i].files.count);
    }
    printf("%-14s %9s %9s %9s %9s %9s %9s\n", "", "lost", "stale", "revived", "corrupt", "silent",
           "failed");
    for (size_t d = 0; d < damage_count; d++) {
        printf("%s\n", damages[d].text);
        for (size_t i = 0; i < count; i++) {
            struct hospital h = {.peer = peers[i], .history = &histories[i]};
            struct outcome *outcome = shared_memory(sizeof *outcome);
            h.random = random_seeded(seed + d);
            snprintf(path, sizeof path, "%s/%zu", scratch, i);
            for (unsigned trial = 0; trial < trials; trial++)
                run_trial(&h, &damages[d], path, outcome);
            print_row(peers[i]->name, outcome, trials);
            munmap(outcome, sizeof *outcome);
            folder_release(&h.work);
        }
    }
    compare_tools(peers, histories, count, scratch, trials, seed, tools);
    for (size_t i = 0; i < count; i++) {
        history_release(&histories[i]);
    }
    free(histories);
    scratch_remove(scratch);
}

int main(int argc, char **argv)
{
    static const struct peer *const peers[] = {
#ifdef HAVE_LEVELDB
        &peer_leveldb,
#endif
#ifdef HAVE_ROCKSDB
        &peer_rocksdb,
#endif
        &peer_lsm,
    };
    unsigned trials = 20;
    uint64_t seed = 1;
    const char *tools = ".";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--trials") == 0)
            trials = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--tools") == 0)
            tools = argv[i + 1];
        else
            peer_die("usage: compare [--trials N] [--seed N] [--tools DIR]");
    }
    compare(peers, sizeof peers / sizeof peers[0], trials > 0 ? trials : 1, seed, tools);
    return 0;
}
