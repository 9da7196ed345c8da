/*
 * A storm: processes of all kinds on one database, killed and stopped at random moments, in the
 * middle of calls, while the others go on.
 *
 * They overwrite and delete keys, in batches and transactions, read what others have acknowledged,
 * hold snapshots and iterators while others die, flush, compact, sync, make and drop families, open
 * and close. Who ends is replaced. Now and then all are killed, or all but one. In the end
 * everything acknowledged is there, nothing else is, two openings see the same, and no file is left
 * that should not be.
 *
 *   processes_test [--kills N] [--seconds N] [--processes N] [--seed N] [--quiet-steps]
 */
#include "tests/crash/storm.h"
#include "tests/lib/scratch.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILL_ALL      37 /* one kill in so many takes everybody, */
#define KILL_OTHERS   29 /* or all but one */
#define STOP_MS       2000
#define STUCK_SECONDS 60 /* without a write of anybody */

struct process {
    pid_t pid;
    uint64_t resume_ms; /* stopped until then; 0: it runs */
};

static struct process processes[STORM_PLACES];
static uint64_t deaths, stops;

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void fail(const char *message)
{
    if (atomic_exchange(&storm_board->failed, 1) == 0)
        snprintf(storm_board->message, sizeof storm_board->message, "%s", message);
}

static void start(unsigned place)
{
    uint64_t life = atomic_fetch_add(&storm_board->places[place].life, 1);
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(99);
    }
    if (pid == 0)
        storm_live(place, storm_settings.seed * 1000003 + place * 7919 + life);
    processes[place] = (struct process){.pid = pid};
}

static void note_end(int status)
{
    char text[80];
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        deaths++;
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        snprintf(text, sizeof text, "a process ended with status %#x", (unsigned)status);
        fail(text);
    }
}

static uint64_t any_pause_ms(struct random_state *r)
{
    return 2 + random_below(r, random_below(r, 4) == 0 ? STOP_MS : 50);
}

/* Starts again those that have ended, and lets those go on that were stopped for long enough. */
static void look_after(struct random_state *r)
{
    uint64_t now = now_ms();
    for (unsigned i = 0; i < storm_settings.processes; i++) {
        struct process *p = &processes[i];
        int status;
        if (p->resume_ms != 0 && now >= p->resume_ms) {
            p->resume_ms = 0;
            kill(p->pid, SIGCONT);
        }
        if (waitpid(p->pid, &status, WNOHANG | WUNTRACED) != p->pid)
            continue;
        if (WIFSTOPPED(status)) {
            stops++;
            p->resume_ms = now + any_pause_ms(r);
            continue;
        }
        note_end(status);
        start(i);
    }
}

static void kill_some(struct random_state *r)
{
    bool all = random_below(r, KILL_ALL) == 0, others = random_below(r, KILL_OTHERS) == 0;
    unsigned one = (unsigned)random_below(r, storm_settings.processes);
    for (unsigned i = 0; i < storm_settings.processes; i++) {
        if (all || (others ? i != one : i == one))
            kill(processes[i].pid, SIGKILL);
    }
}

static void stop_one(struct random_state *r)
{
    kill(processes[random_below(r, storm_settings.processes)].pid, SIGSTOP);
}

static void end_all(void)
{
    for (unsigned i = 0; i < storm_settings.processes; i++) {
        int status;
        kill(processes[i].pid, SIGKILL);
        if (waitpid(processes[i].pid, &status, 0) == processes[i].pid)
            note_end(status);
    }
}

static void storm(void)
{
    struct random_state r = random_seeded(storm_settings.seed);
    uint64_t writes_before = 0, end = now_ms() + storm_settings.seconds * 1000;
    uint64_t moved = now_ms(), due = now_ms();
    for (unsigned i = 0; i < storm_settings.processes; i++)
        start(i);
    while (deaths < storm_settings.kills && now_ms() < end && !atomic_load(&storm_board->failed)) {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        if (now_ms() >= due) {
            random_below(&r, 3) == 0 ? stop_one(&r) : kill_some(&r);
            due = now_ms() + random_below(&r, 160);
        }
        look_after(&r);
        uint64_t writes = atomic_load(&storm_board->writes);
        if (writes != writes_before)
            moved = now_ms();
        writes_before = writes;
        if (now_ms() - moved > STUCK_SECONDS * 1000)
            fail("nobody has written for a long time");
    }
    end_all();
}

/* ---- the end --------------------------------------------------------------------------------- */

static uint64_t look(bool settled)
{
    struct storm_life life = {.random = random_seeded(storm_settings.seed)};
    storm_open(&life, false);
    for (unsigned i = 0; !settled && i < storm_settings.processes; i++) {
        life.place = i;
        storm_settle(&life);
    }
    uint64_t sum = storm_check_all(&life);
    storm_count_accounts(&life);
    storm_check_names(&life);
    if (settled)
        storm_check_files(&life);
    storm_must(lsm_close(life.db, err));
    return sum;
}

/* Nothing but the database is where the shared segment was. */
static void check_segments(void)
{
    DIR *folder = opendir(storm_settings.shm_dir);
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        if (strncmp(entry->d_name, ".", 1) != 0 && strcmp(entry->d_name, "db") != 0)
            storm_complain("a segment is left after the last close", NULL);
    }
    closedir(folder);
}

static void check(void)
{
    pid_t checker = fork();
    if (checker == 0) {
        uint64_t first = look(false);
        check_segments();
        if (look(true) != first || look(true) != first)
            storm_complain("a later opening finds other values than the first", NULL);
        check_segments();
        _exit(0);
    }
    int status;
    waitpid(checker, &status, 0);
    note_end(status);
}

/* ---- arguments ------------------------------------------------------------------------------- */

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
    storm_settings = (struct storm_settings){.seed = now_ms() ^ (uint64_t)getpid() << 20,
                                             .kills = UINT64_MAX,
                                             .seconds = 60,
                                             .processes = 8};
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "--kills") == 0)
            storm_settings.kills = number_after(&i, count, words);
        else if (strcmp(words[i], "--seconds") == 0)
            storm_settings.seconds = number_after(&i, count, words);
        else if (strcmp(words[i], "--processes") == 0)
            storm_settings.processes = number_after(&i, count, words);
        else if (strcmp(words[i], "--seed") == 0)
            storm_settings.seed = number_after(&i, count, words);
        else if (strcmp(words[i], "--quiet-steps") == 0)
            storm_settings.quiet_steps = true;
        else {
            fprintf(stderr, "processes_test: unknown word '%s'\n", words[i]);
            exit(99);
        }
    }
    if (storm_settings.processes < 1 || storm_settings.processes > STORM_PLACES)
        exit(99);
}

int main(int count, char **words)
{
    static char directory[SCRATCH_PATH_SIZE], path[SCRATCH_PATH_SIZE + 8];
    take_arguments(count, words);
    storm_board =
        mmap(NULL, sizeof *storm_board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (storm_board == MAP_FAILED)
        return 99;
    scratch_make(directory);
    snprintf(path, sizeof path, "%s/db", directory);
    storm_settings.path = path;
    storm_settings.shm_dir = directory;
    printf("processes: seed=%" PRIu64 "\n", storm_settings.seed);
    storm();
    uint64_t killed = deaths;
    if (!atomic_load(&storm_board->failed))
        check();
    printf("processes: kills=%" PRIu64 " stops=%" PRIu64 " takeovers=%" PRIu64
           " acknowledged=%" PRIu64 " reads=%" PRIu64 " transfers=%" PRIu64 " conflicts=%" PRIu64
           "\n",
           killed, stops, atomic_load(&storm_board->takeovers), atomic_load(&storm_board->writes),
           atomic_load(&storm_board->reads), atomic_load(&storm_board->transfers_acknowledged),
           atomic_load(&storm_board->conflicts));
    if (atomic_load(&storm_board->failed)) {
        printf("FAILED: %s\n(left in %s)\n", storm_board->message, directory);
        return 1;
    }
    scratch_remove(directory);
    return 0;
}
