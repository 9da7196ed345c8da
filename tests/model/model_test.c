/*
 * Random operations on the engine and on a sorted array, compared reply by reply.
 *
 * One list of operations is made from a seed and run under many option sets and on every I/O
 * backend: all must give the same replies. Lists with crashes run on the simulated disk. Each run
 * is a process of its own, so that a fault that kills or hangs it is a finding like any other. A
 * list that fails is shrunk and printed as text, ready for --replay; the lists in tests/seeds/ were
 * found so and are run again each time.
 *
 *   model_test [--rounds N] [--ops N] [--seed N] [--set NAME] [--backend NAME] [--no-shrink]
 *   model_test --replay FILE...       runs lists of operations, in this process
 */
#include "engine/base/random.h"
#include "tests/lib/driver.h"
#include "tests/lib/scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUN_SECONDS    60  /* a run that takes longer hangs */
#define SHRINK_RUNS    600 /* at most, for one failure */
#define SHRINK_SECONDS 90

struct option_set {
    const char *name;
    const char *text;
    bool large; /* has room for keys to the limit and values of some 100 KiB */
};

#define SMALL "memtable_size=64KiB,stage_size=128KiB,wal_segment_size=128KiB,"
#define ROOMY "memtable_size=4MiB,stage_size=4MiB,wal_segment_size=4MiB,"

static const struct option_set option_sets[] = {
    {"alone", SMALL "workers=none,cache_size=1MiB", false},
    {"alone-block512", SMALL "workers=none,block_size=512,cache_size=none", false},
    {"alone-zstd", SMALL "workers=none,compression=zstd:3,block_size=1KiB,cache_size=64KiB", false},
    {"alone-dictionary",
     SMALL "workers=none,compression=zstd,dictionary_size=4KiB,block_size=512,cache_size=1MiB",
     false},
    {"alone-deep",
     SMALL "workers=none,table_size=4KiB,level_base_size=4KiB,level_ratio=2,level0_trigger=1,"
           "compression=none,cache_size=256KiB",
     false},
    {"alone-skiplist", SMALL "workers=none,memtable=skiplist,filter_bits=5", false},
    {"alone-no-filter", SMALL "workers=none,filter_bits=none,cache_size=1MiB", false},
    {"alone-two-memtables", SMALL "workers=none,memtable_count=2,level0_trigger=2", false},
    {"alone-few-tables",
     SMALL "workers=none,max_open_tables=8,table_size=8KiB,level_base_size=4KiB,level_ratio=3",
     false},
    {"one-worker", SMALL "workers=1,cache_size=1MiB,block_size=2KiB,direct_io=false", false},
    {"one-worker-deep",
     SMALL "workers=1,table_size=4KiB,level_base_size=4KiB,level_ratio=2,level0_trigger=2,"
           "compression=none,cache_size=256KiB",
     false},
    {"one-worker-skiplist", SMALL "workers=1,memtable=skiplist,cache_size=none", false},
    {"two-workers", SMALL "workers=2,cache_size=1MiB,filter_bits=12", false},
    {"two-workers-zstd",
     SMALL "workers=2,compression=zstd:1,table_size=16KiB,level_base_size=8KiB,level_ratio=3",
     false},
    {"two-workers-dictionary",
     SMALL "workers=2,compression=zstd,dictionary_size=2KiB,table_size=32KiB,cache_size=none",
     false},
    {"two-workers-filter20", SMALL "workers=2,filter_bits=20,level0_trigger=1", false},
    {"two-workers-stalls",
     SMALL "workers=2,memtable_count=2,level0_trigger=1,level0_slowdown=2,level0_stop=3", false},
    {"alone-tiered",
     SMALL "workers=none,compaction=tiered,table_size=4KiB,level0_trigger=2,compression_above=zstd",
     false},
    {"three-workers-tiered",
     SMALL "workers=3,compaction=tiered,table_size=4KiB,level0_trigger=3,size_ratio=50,ttl=1",
     false},
    {"alone-fifo", SMALL "workers=none,compaction=fifo,fifo_size=1TiB", false},
    {"two-workers-ttl", SMALL "workers=2,table_size=4KiB,level_base_size=4KiB,ttl=1", false},
    {"alone-blobs",
     SMALL "workers=none,blob_threshold=64,table_size=4KiB,level_base_size=4KiB,level_ratio=2,"
           "level0_trigger=2,cache_size=none",
     false},
    {"two-workers-blobs",
     SMALL "workers=2,blob_threshold=100,table_size=4KiB,level_base_size=4KiB,level_ratio=3,"
           "compression=none,max_open_tables=8",
     false},
    {"alone-tiered-blobs",
     SMALL "workers=none,blob_threshold=64,compaction=tiered,table_size=8KiB,level0_trigger=2",
     false},
    {"large-blobs", ROOMY "workers=2,blob_threshold=4KiB,table_size=16KiB,level_base_size=8KiB",
     true},
    {"large-block64k", ROOMY "workers=none,block_size=64KiB,cache_size=8MiB", true},
    {"large-zstd", ROOMY "workers=2,compression=zstd,cache_size=1MiB,direct_io=false", true},
    {"large-tiny-cache", ROOMY "workers=1,block_size=512,cache_size=64KiB,filter_bits=8", true},
    {"large-deep",
     ROOMY "workers=2,table_size=16KiB,level_base_size=8KiB,level_ratio=2,level0_trigger=1", true},
    {"large-skiplist", ROOMY "workers=1,memtable=skiplist,compression=none", true},
    {"large-many-memtables", ROOMY "workers=2,memtable_count=8,memtable_size=1MiB", true},
    {"defaults", "cache_size=64MiB,memtable_size=16MiB", true},
};
#define SET_COUNT (sizeof option_sets / sizeof option_sets[0])

static bool uring_is_there;

/* What a run told its parent; in shared memory. */
struct outcome {
    bool finished, passed;
    size_t at; /* operation */
    uint64_t digest;
    char message[1500];
};

static struct {
    uint64_t seed;
    uint32_t rounds, ops;
    const char *only_set, *only_backend;
    bool no_shrink;
} arguments = {.seed = 1, .rounds = 1, .ops = 2000};

static struct outcome *outcome;
static unsigned run_count;

/* ---- one run --------------------------------------------------------------------------------- */

static bool is_simulated(const struct script *s)
{
    return strcmp(s->backend, "sim") == 0;
}

/* `directory` is an empty one, for the backends that need it. */
static void run(const struct script *s, const char *directory, struct outcome *result)
{
    char path[SCRATCH_PATH_SIZE + 8];
    struct driver_setup setup = {.backend = s->backend, .options = s->options};
    if (is_simulated(s)) {
        setup.disk = sim_disk_new(7);
        setup.path = "/db";
    } else {
        snprintf(path, sizeof path, "%s/db", directory);
        setup.path = path;
        setup.shm_dir = directory;
    }
    struct driver *d = driver_new(&setup);
    enum driver_result done = driver_open(d);
    if (done == DRIVER_OK)
        done = driver_run(d, s, 0, s->count, &result->at);
    if (done == DRIVER_OK)
        done = driver_verify(d);
    result->digest = driver_digest(d);
    if (done == DRIVER_OK)
        done = driver_close(d);
    if (done == DRIVER_OK)
        done = driver_open(d);
    if (done == DRIVER_OK)
        done = driver_close(d);
    result->passed = done == DRIVER_OK;
    snprintf(result->message, sizeof result->message, "%s", driver_message(d));
    result->finished = true;
    driver_free(d);
    if (setup.disk != NULL)
        sim_disk_free(setup.disk);
}

/* The same in a process of its own; false when it failed in any way. */
static bool run_apart(const struct script *s, bool quiet)
{
    char directory[SCRATCH_PATH_SIZE];
    if (!is_simulated(s))
        scratch_make(directory);
    *outcome = (struct outcome){0};
    run_count++;
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        exit(99);
    }
    if (child == 0) {
        alarm(RUN_SECONDS);
        if (quiet && freopen("/dev/null", "w", stderr) == NULL)
            _exit(99);
        run(s, directory, outcome);
        exit(0);
    }
    int how = 0;
    waitpid(child, &how, 0);
    if (!is_simulated(s))
        scratch_remove(directory);
    if (outcome->finished && outcome->passed && WIFEXITED(how) && WEXITSTATUS(how) == 0)
        return true;
    if (outcome->message[0] == '\0' && WIFSIGNALED(how))
        snprintf(outcome->message, sizeof outcome->message, "%s",
                 WTERMSIG(how) == SIGALRM ? "it hangs" : strsignal(WTERMSIG(how)));
    if (outcome->message[0] == '\0')
        snprintf(outcome->message, sizeof outcome->message, "exit %d", WEXITSTATUS(how));
    outcome->passed = false;
    return false;
}

/* ---- shrinking ------------------------------------------------------------------------------- */

static time_t shrink_end;

/* With background threads a fault does not show each time. */
static bool still_fails(const struct script *s, unsigned *runs_left)
{
    unsigned tries = strstr(s->options, "workers=none") != NULL ? 1 : 3;
    for (unsigned i = 0; i<tries && * runs_left> 0 && time(NULL) < shrink_end; i++) {
        (*runs_left)--;
        if (!run_apart(s, true))
            return true;
    }
    return false;
}

/* Takes away ops [first, first + size) when it still fails without. */
static bool try_without(struct script *s, size_t first, size_t size, unsigned *runs_left)
{
    bool *kept = test_alloc(s->count);
    for (size_t i = 0; i < s->count; i++)
        kept[i] = i < first || i >= first + size;
    struct script smaller = script_copy(s, kept);
    free(kept);
    bool fails = still_fails(&smaller, runs_left);
    if (fails) {
        script_release(s);
        *s = smaller;
    } else
        script_release(&smaller);
    return fails;
}

static void shrink(struct script *s, size_t failed_at)
{
    unsigned runs_left = SHRINK_RUNS;
    shrink_end = time(NULL) + SHRINK_SECONDS;
    if (failed_at + 1 < s->count)
        try_without(s, failed_at + 1, s->count - failed_at - 1, &runs_left);
    for (size_t size = s->count / 2; size > 0; size /= 2) {
        bool any = true;
        while (any && runs_left > 0) {
            any = false;
            for (size_t first = 0; first < s->count;) {
                if (try_without(s, first, size, &runs_left))
                    any = true;
                else
                    first += size;
            }
        }
    }
}

/* Says what failed, and prints the smallest list that fails too. */
static void report(const struct script *s, uint64_t seed, const char *set)
{
    printf("FAILED seed=%" PRIu64 " set=%s backend=%s at operation %zu: %s\n", seed, set,
           s->backend, outcome->at, outcome->message);
    if (outcome->at < s->count)
        script_print_op(stdout, &s->ops[outcome->at]);
    if (arguments.no_shrink)
        return;
    struct script small = script_copy(s, NULL);
    shrink(&small, outcome->at);
    run_apart(&small, false);
    printf("# shrunk to %zu operations: %s\n", small.count,
           outcome->passed ? "(fails now and then)" : outcome->message);
    script_print(stdout, &small);
    script_release(&small);
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static bool is_chosen(const struct option_set *set, const char *backend)
{
    if (strcmp(backend, "uring") == 0 && !uring_is_there)
        return false;
    return (arguments.only_set == NULL || strcmp(arguments.only_set, set->name) == 0) &&
           (arguments.only_backend == NULL || strcmp(arguments.only_backend, backend) == 0);
}

static bool run_set(struct script *s, const struct option_set *set, const char *backend,
                    uint64_t seed)
{
    snprintf(s->options, sizeof s->options, "%s", set->text);
    snprintf(s->backend, sizeof s->backend, "%s", backend);
    if (run_apart(s, false))
        return true;
    report(s, seed, set->name);
    return false;
}

/* The backend for option set `i`: the simulated disk, or all of them in turn. */
static const char *choose_backend(size_t i, bool real)
{
    static const char *const turns[] = {"uring", "posix", "sim", "posix"};
    if (arguments.only_backend != NULL)
        return arguments.only_backend;
    return real ? turns[uring_is_there ? i % 3 : 1 + i % 3] : "sim";
}

/* One list under every option set that has room for it: all replies must be the same. */
static unsigned round_of_sets(uint64_t seed, bool large, bool real)
{
    struct script_profile profile = {
        .seed = seed, .op_count = real ? arguments.ops / 8 : arguments.ops, .large = large};
    struct script s = script_generate(&profile);
    unsigned failures = 0;
    uint64_t digest = 0;
    const char *digest_of = NULL;
    for (size_t i = 0; i < SET_COUNT; i++) {
        const char *backend = choose_backend(i + seed, real);
        if ((large && !option_sets[i].large) || !is_chosen(&option_sets[i], backend))
            continue;
        if (!run_set(&s, &option_sets[i], backend, seed)) {
            failures++;
            continue;
        }
        if (digest_of == NULL) {
            digest = outcome->digest;
            digest_of = option_sets[i].name;
        } else if (digest != outcome->digest) {
            printf("FAILED seed=%" PRIu64 ": '%s' and '%s' give different replies\n", seed,
                   digest_of, option_sets[i].name);
            failures++;
        }
    }
    script_release(&s);
    return failures;
}

/* Lists with crashes, a different one for each option set. */
static unsigned round_of_crashes(uint64_t seed)
{
    unsigned failures = 0;
    for (size_t i = 0; i < SET_COUNT; i++) {
        if (!is_chosen(&option_sets[i], "sim"))
            continue;
        struct script_profile profile = {.seed = seed + 1000 * (i + 1),
                                         .op_count = arguments.ops,
                                         .crashes = true,
                                         .large = option_sets[i].large && seed % 2 == 0};
        struct script s = script_generate(&profile);
        failures += !run_set(&s, &option_sets[i], "sim", profile.seed);
        script_release(&s);
    }
    return failures;
}

/* ---- saved lists ----------------------------------------------------------------------------- */

static bool replay(const char *path, bool apart)
{
    struct script s = {0};
    if (!script_read(&s, path))
        return false;
    if (s.backend[0] == '\0')
        snprintf(s.backend, sizeof s.backend, "sim");
    bool passed = true;
    if (strcmp(s.backend, "uring") == 0 && !uring_is_there)
        printf("skipped %s: io_uring is refused here\n", path);
    else if (apart)
        passed = run_apart(&s, false);
    else {
        char directory[SCRATCH_PATH_SIZE];
        *outcome = (struct outcome){0};
        run(&s, scratch_make(directory), outcome);
        scratch_remove(directory);
        passed = outcome->passed;
    }
    if (!passed)
        printf("FAILED %s at operation %zu: %s\n", path, outcome->at, outcome->message);
    script_release(&s);
    return passed;
}

static unsigned replay_seeds(void)
{
    char directory[1000], path[1300];
    const char *source = getenv("top_srcdir");
    snprintf(directory, sizeof directory, "%s/tests/seeds", source != NULL ? source : ".");
    DIR *dir = opendir(directory);
    unsigned failures = 0;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        size_t length = strlen(entry->d_name);
        if (length < 4 || strcmp(entry->d_name + length - 4, ".txt") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        failures += !replay(path, true);
    }
    if (dir != NULL)
        closedir(dir);
    return failures;
}

static uint64_t number_after(int *at, int count, char **words)
{
    if (*at + 1 >= count) {
        fprintf(stderr, "%s wants a value\n", words[*at]);
        exit(2);
    }
    return strtoull(words[++*at], NULL, 10);
}

static unsigned take_arguments(int count, char **words, bool *done)
{
    unsigned failures = 0;
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "--rounds") == 0)
            arguments.rounds = (uint32_t)number_after(&i, count, words);
        else if (strcmp(words[i], "--ops") == 0)
            arguments.ops = (uint32_t)number_after(&i, count, words);
        else if (strcmp(words[i], "--seed") == 0)
            arguments.seed = number_after(&i, count, words);
        else if (strcmp(words[i], "--set") == 0 && i + 1 < count)
            arguments.only_set = words[++i];
        else if (strcmp(words[i], "--backend") == 0 && i + 1 < count)
            arguments.only_backend = words[++i];
        else if (strcmp(words[i], "--no-shrink") == 0)
            arguments.no_shrink = true;
        else if (strcmp(words[i], "--replay") == 0) {
            for (i++; i < count; i++)
                failures += !replay(words[i], false);
            *done = true;
        } else {
            fprintf(stderr, "model_test: unknown word '%s'\n", words[i]);
            exit(2);
        }
    }
    return failures;
}

int main(int count, char **words)
{
    struct io *io = NULL;
    uring_is_there = io_open("uring", &io, NULL) == LSM_OK;
    if (uring_is_there)
        io_close(io);
    outcome =
        mmap(NULL, sizeof *outcome, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (outcome == MAP_FAILED)
        return 99;
    bool done = false;
    unsigned failures = take_arguments(count, words, &done);
    if (done)
        return failures > 0;
    failures += replay_seeds();
    for (uint32_t i = 0; i < arguments.rounds; i++) {
        uint64_t seed = arguments.seed + i;
        failures += round_of_sets(seed, false, false);
        failures += round_of_sets(seed + 500, true, false);
        failures += round_of_crashes(seed);
        failures += round_of_sets(seed + 1000, seed % 2 == 0, true);
    }
    printf("model: runs=%u ops=%u failures=%u seed=%" PRIu64 "%s\n", run_count, arguments.ops,
           failures, arguments.seed, uring_is_there ? "" : " (without io_uring)");
    return failures > 0;
}
