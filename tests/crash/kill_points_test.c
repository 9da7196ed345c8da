/*
 * A process dies, or stops, at each step at which that makes a difference to others, in every role;
 * survivors go on, recoveries follow, and nothing acknowledged is lost, nobody is blocked.
 *
 * For each role a life or two in which nobody dies tell which steps the victim passes. Then follows
 * a life for each of them, with a kill; for some also with a stop, and for some with a second kill
 * of who takes over, at one of the steps that it passes meanwhile. --full stops at all of them,
 * does it with all kinds of survivors and with some second kills each; --pairs 1000 with all of
 * them, which takes hours. Several lives run at once, each in a directory of its own.
 *
 *   kill_points_test [--full] [--seed N] [--jobs N] [--pairs N] [--seconds N] [--verbose]
 *       [--role NAME] [--step NAME] [--occurrence N] [--survivors N] [--stop]
 *       [--second NAME] [--second-occurrence N] [--variant N]
 */
#include "tests/crash/points.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OCCURRENCES 2 /* of a step in one role; twice as many with --full */
#define MAX_POINTS  400
#define MAX_JOBS    32
#define STOP_EACH   6 /* without --full: one point in so many is also stopped at, */
#define PAIR_EACH   5 /* and one in so many is followed by a second kill */
#define FULL_PAIRS  3 /* with --full: second kills for each first one */

struct queue {
    struct life *lives;
    size_t count, room, next;
};

/* What runs at one time. */
struct job {
    struct board *board;
    struct life_result *result; /* shared */
    struct life life;
    pid_t pid; /* 0: free */
};

static struct {
    uint64_t seed, jobs, pairs, seconds, occurrence, second_occurrence, variant;
    int64_t survivors;
    bool full, verbose, stop;
    const char *role, *step, *second;
} arguments = {.seed = 1, .jobs = 6, .occurrence = 1, .second_occurrence = 1, .survivors = -1};

static struct job jobs[MAX_JOBS];
static struct queue queue;
static uint64_t points, lives, stops, pairs, missed, failures;

/* ---- the queue ------------------------------------------------------------------------------- */

static void queue_add(const struct life *life)
{
    if (queue.count == queue.room) {
        queue.room = queue.room == 0 ? 256 : 2 * queue.room;
        queue.lives = realloc(queue.lives, queue.room * sizeof *queue.lives);
        if (queue.lives == NULL)
            exit(99);
    }
    queue.lives[queue.count++] = *life;
}

static void describe(const struct life *life, char *text, size_t size)
{
    static const char *const kinds[] = {"no", "one light", "two with workers"};
    int used =
        snprintf(text, size, "role %s, %s survivors, ", life->role->name, kinds[life->survivors]);
    if (life->point.name == NULL)
        snprintf(text + used, size - (size_t)used, "nobody dies");
    else
        used += snprintf(text + used, size - (size_t)used, "%s at '%s' #%u (variant %u)",
                         life->stops ? "stop" : "death", life->point.name, life->point.occurrence,
                         life->variant);
    if (life->second.name != NULL)
        snprintf(text + used, size - (size_t)used, ", then death at '%s' #%u", life->second.name,
                 life->second.occurrence);
}

/* ---- what comes of a life -------------------------------------------------------------------- */

static bool is_possible(const struct role *role, unsigned survivors)
{
    return (role->survivors >> survivors & 1) != 0;
}

/* The kind whose turn it is. */
static enum survivors rotate(const struct role *role, uint64_t turn)
{
    unsigned kind = (unsigned)(turn % SURVIVORS_COUNT);
    while (!is_possible(role, kind))
        kind = (kind + 1) % SURVIVORS_COUNT;
    return (enum survivors)kind;
}

static void plan_point(const struct life *counted, struct step_point point, uint64_t turn)
{
    struct life life = {
        .role = counted->role, .point = point, .variant = (unsigned)((turn + turn / 7) % 3)};
    life.counted = counted->survivors;
    points++;
    for (unsigned kind = 0; kind < SURVIVORS_COUNT; kind++) {
        if (!is_possible(life.role, kind) || (!arguments.full && kind != rotate(life.role, turn)))
            continue;
        life.survivors = (enum survivors)kind;
        life.stops = false;
        queue_add(&life);
        life.stops = true;
        /* Who comes meanwhile would wait for a stopped one. */
        if (life.role->during == NULL && (arguments.full || turn % STOP_EACH == 0))
            queue_add(&life);
    }
}

/* A role is counted twice, without and with survivors: what it passes differs a little. */
static bool is_planned(const struct role *role, struct step_point point)
{
    for (size_t i = 0; i < queue.count; i++) {
        const struct life *l = &queue.lives[i];
        if (l->role == role && l->point.name == point.name &&
            l->point.occurrence == point.occurrence)
            return true;
    }
    return false;
}

static void plan_points(const struct life *counted, const struct step_record *record)
{
    static struct step_point found[MAX_POINTS];
    unsigned occurrences = arguments.full ? 2 * OCCURRENCES : OCCURRENCES;
    size_t count = stepping_points(record, occurrences, found, MAX_POINTS), fresh = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_planned(counted->role, found[i]))
            continue;
        plan_point(counted, found[i], arguments.seed + points);
        fresh++;
    }
    if (arguments.verbose)
        printf("role %s passes %zu points, %zu of them new\n", counted->role->name, count, fresh);
}

/* Who took over passed these steps: in another life it dies at one of them. */
static void plan_pairs(const struct life *done, const struct step_record *record)
{
    static struct step_point found[MAX_POINTS];
    size_t count = stepping_points(record, 1, found, MAX_POINTS);
    uint64_t turn = arguments.seed + pairs * 2654435761U + lives;
    size_t wanted = arguments.pairs > 0 ? (size_t)arguments.pairs
                    : arguments.full    ? (size_t)FULL_PAIRS
                                        : (size_t)(lives % PAIR_EACH == 0);
    for (size_t i = 0; i < wanted && i < count; i++) {
        struct life life = *done;
        size_t at = wanted >= count ? i : (size_t)((turn / 16 + i * 31) % count);
        life.second = found[at];
        queue_add(&life);
    }
}

/* Survivors may be faster than the victim, which then has nothing to do. */
static void try_beside_others(const struct life *life)
{
    struct life other = *life;
    other.survivors = life->counted;
    if (life->survivors != life->counted && arguments.step == NULL)
        queue_add(&other);
}

static void settle(struct job *job)
{
    const struct life *life = &job->life;
    char text[300];
    int status = 0;
    describe(life, text, sizeof text);
    (void)waitpid(job->pid, &status, 0);
    job->pid = 0;
    lives++;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        failures++;
        printf("FAILED: %s: its director ended with status %x\n", text, (unsigned)status);
    } else if (job->result->failed) {
        failures++;
        printf("FAILED: %s: %s\n", text, job->result->message);
    } else if (life->point.name == NULL) {
        plan_points(life, &job->board->victim_steps);
    } else {
        stops += life->stops;
        pairs += life->second.name != NULL;
        bool reached =
            job->result->reached && (life->second.name == NULL || job->result->second_reached);
        missed += !reached;
        if (arguments.verbose && !reached)
            printf("missed: %s\n", text);
        if (!reached && life->second.name == NULL)
            try_beside_others(life);
        if (reached && !life->stops && life->second.name == NULL && arguments.step == NULL)
            plan_pairs(life, &job->board->taker_steps);
    }
    fflush(stdout);
}

/* ---- running --------------------------------------------------------------------------------- */

static void start_job(struct job *job, const struct life *life)
{
    fflush(NULL);
    job->life = *life;
    job->pid = fork();
    if (job->pid < 0)
        exit(99);
    if (job->pid == 0) {
        life_run(&job->life, job->board, job->result);
        _exit(0);
    }
}

static size_t running(void)
{
    size_t count = 0;
    for (size_t i = 0; i < arguments.jobs; i++)
        count += jobs[i].pid != 0;
    return count;
}

static void wait_for_one(void)
{
    siginfo_t info = {0};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) != 0)
        exit(99);
    for (size_t i = 0; i < arguments.jobs; i++) {
        if (jobs[i].pid == info.si_pid)
            settle(&jobs[i]);
    }
}

static void run_queue(void)
{
    time_t end = time(NULL) + (time_t)arguments.seconds;
    while (queue.next < queue.count || running() > 0) {
        bool is_late = arguments.seconds > 0 && time(NULL) >= end;
        bool may_start = queue.next < queue.count && !is_late && failures < 20;
        if (!may_start && running() == 0)
            break;
        if (may_start && running() < arguments.jobs) {
            for (size_t i = 0; i < arguments.jobs; i++) {
                if (jobs[i].pid == 0) {
                    start_job(&jobs[i], &queue.lives[queue.next++]);
                    break;
                }
            }
            continue;
        }
        wait_for_one();
    }
}

/* ---- arguments ------------------------------------------------------------------------------- */

static const char *word_after(int *at, int count, char **words)
{
    if (*at + 1 >= count) {
        fprintf(stderr, "%s wants a value\n", words[*at]);
        exit(99);
    }
    return words[++*at];
}

static bool take_flag(const char *word)
{
    bool *flag = strcmp(word, "--full") == 0      ? &arguments.full
                 : strcmp(word, "--verbose") == 0 ? &arguments.verbose
                 : strcmp(word, "--stop") == 0    ? &arguments.stop
                                                  : NULL;
    if (flag != NULL)
        *flag = true;
    return flag != NULL;
}

static void take_arguments(int count, char **words)
{
    for (int i = 1; i < count; i++) {
        const char *word = words[i];
        if (take_flag(word))
            continue;
        const char *value = word_after(&i, count, words);
        if (strcmp(word, "--role") == 0)
            arguments.role = value;
        else if (strcmp(word, "--step") == 0)
            arguments.step = value;
        else if (strcmp(word, "--second") == 0)
            arguments.second = value;
        else if (strcmp(word, "--survivors") == 0)
            arguments.survivors = (int64_t)strtoull(value, NULL, 10);
        else if (strcmp(word, "--seed") == 0)
            arguments.seed = strtoull(value, NULL, 10);
        else if (strcmp(word, "--jobs") == 0)
            arguments.jobs = strtoull(value, NULL, 10);
        else if (strcmp(word, "--pairs") == 0)
            arguments.pairs = strtoull(value, NULL, 10);
        else if (strcmp(word, "--seconds") == 0)
            arguments.seconds = strtoull(value, NULL, 10);
        else if (strcmp(word, "--occurrence") == 0)
            arguments.occurrence = strtoull(value, NULL, 10);
        else if (strcmp(word, "--second-occurrence") == 0)
            arguments.second_occurrence = strtoull(value, NULL, 10);
        else if (strcmp(word, "--variant") == 0)
            arguments.variant = strtoull(value, NULL, 10);
        else {
            fprintf(stderr, "kill_points_test: unknown word '%s'\n", word);
            exit(99);
        }
    }
    if (arguments.jobs < 1 || arguments.jobs > MAX_JOBS ||
        arguments.survivors >= (int64_t)SURVIVORS_COUNT)
        exit(99);
}

/* With --step this one life, otherwise those that count. */
static void plan_role(const struct role *role)
{
    struct life life = {.role = role, .survivors = rotate(role, SURVIVORS_LIGHT)};
    if (arguments.step == NULL && is_possible(role, SURVIVORS_NONE) &&
        is_possible(role, SURVIVORS_LIGHT)) {
        life.survivors = SURVIVORS_NONE;
        queue_add(&life);
        life.survivors = SURVIVORS_LIGHT;
    }
    if (arguments.step != NULL) {
        life.point = (struct step_point){arguments.step, (unsigned)arguments.occurrence};
        life.stops = arguments.stop;
        life.variant = (unsigned)arguments.variant;
        if (arguments.second != NULL)
            life.second =
                (struct step_point){arguments.second, (unsigned)arguments.second_occurrence};
        if (arguments.survivors >= 0)
            life.survivors = (enum survivors)arguments.survivors;
    }
    queue_add(&life);
}

int main(int count, char **words)
{
    take_arguments(count, words);
    /* The page cache outlives a killed process: the disk does not matter here. */
    if (access("/dev/shm", W_OK | X_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 0);
    for (size_t i = 0; i < arguments.jobs; i++) {
        jobs[i].board = shared_memory(sizeof *jobs[i].board);
        jobs[i].result = shared_memory(sizeof *jobs[i].result);
    }
    for (size_t i = 0; i < role_count; i++) {
        if (arguments.role == NULL || strcmp(roles[i].name, arguments.role) == 0)
            plan_role(&roles[i]);
    }
    run_queue();
    printf("kill points: points=%" PRIu64 " lives=%" PRIu64 " stops=%" PRIu64 " pairs=%" PRIu64
           " missed=%" PRIu64 " not-run=%zu failures=%" PRIu64 " seed=%" PRIu64 "%s\n",
           points, lives, stops, pairs, missed, queue.count - queue.next, failures, arguments.seed,
           arguments.full ? " (full)" : "");
    free(queue.lives);
    return failures == 0 ? 0 : 1;
}
