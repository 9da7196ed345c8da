/*
 * What the tools that only look say of each damage: ldb and sst_dump of RocksDB, where they are
 * installed, and lsm-verify and lsm-dump. A tool is right that ends with another exit code than 0
 * when something is damaged; one that prints an error and ends with 0 tells nobody who asks from a
 * script.
 */
#include "tests/torture/compare/hospital.h"

#include "tests/lib/model.h"
#include "tests/lib/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOOL_SECONDS 60
#define MAX_WORDS    8
#define HEARD        (1u << 20) /* bytes of what a tool prints that are looked at */

enum said { SAID_FOUND, SAID_ONLY_TOLD, SAID_NOTHING, SAID_CRASHED, SAID_COUNT };

static const struct tool {
    const char *engine;
    const char *words[MAX_WORDS]; /* "%s" is the database; the first is the program */
} tools[] = {
    {"RocksDB", {"ldb", "--db=%s", "checkconsistency"}},
    {"RocksDB", {"ldb", "--db=%s", "scan"}},
    {"RocksDB", {"ldb", "--db=%s", "dump"}},
    {"RocksDB", {"sst_dump", "--file=%s", "--command=check"}},
    {"RocksDB", {"sst_dump", "--file=%s", "--command=verify"}},
    {"libengine", {"lsm-verify", "--level=quick", "%s"}},
    {"libengine", {"lsm-verify", "%s"}},
    {"libengine", {"lsm-dump", "--digest", "%s"}},
};
#define TOOLS (sizeof tools / sizeof tools[0])

/* ---- running one ----------------------------------------------------------------------------- */

__attribute__((noreturn)) static void exec_tool(const struct tool *t, const char *path,
                                                const char *prints)
{
    char text[MAX_WORDS][SCRATCH_PATH_SIZE + 64];
    char *words[MAX_WORDS + 1] = {NULL};
    for (size_t i = 0; i < MAX_WORDS && t->words[i] != NULL; i++) {
        const char *at = strstr(t->words[i], "%s");
        size_t before = at == NULL ? strlen(t->words[i]) : (size_t)(at - t->words[i]);
        snprintf(text[i], sizeof text[i], "%.*s%s", (int)before, t->words[i],
                 at == NULL ? "" : path);
        words[i] = text[i];
    }
    int to = open(prints, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    dup2(to, STDOUT_FILENO);
    dup2(to, STDERR_FILENO);
    alarm(TOOL_SECONDS);
    execvp(words[0], words);
    _exit(127);
}

/* Words that tools have for damage, and that random letters of values hardly make. */
static bool tells_error(const char *prints)
{
    static const char *const words[] = {
        "orruption", "Error", "error:", "mismatch", "failed", "Failed"};
    char *text = test_alloc(HEARD + 1);
    int from = open(prints, O_RDONLY | O_CLOEXEC);
    ssize_t size = from < 0 ? 0 : read(from, text, HEARD);
    bool tells = false;
    if (from >= 0)
        close(from);
    for (ssize_t i = 0; i < size; i++)
        text[i] = text[i] == '\0' ? ' ' : text[i];
    text[size < 0 ? 0 : size] = '\0';
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        tells = tells || strstr(text, words[i]) != NULL;
    free(text);
    return tells;
}

static enum said run_tool(const struct tool *t, const char *path, const char *prints)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        exec_tool(t, path, prints);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (child < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 127))
        peer_die("%s cannot be run", t->words[0]);
    if (!WIFEXITED(status))
        return SAID_CRASHED;
    if (WEXITSTATUS(status) != 0)
        return SAID_FOUND;
    return tells_error(prints) ? SAID_ONLY_TOLD : SAID_NOTHING;
}

static bool is_installed(const char *program)
{
    const char *path = getenv("PATH");
    char file[1100];
    while (path != NULL && *path != '\0') {
        size_t length = strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s/%s", (int)length, path, program);
        if (access(file, X_OK) == 0)
            return true;
        path += length + (path[length] == ':');
    }
    return false;
}

/* ---- the table ------------------------------------------------------------------------------- */

static void print_tool(const struct tool *t, const unsigned said[SAID_COUNT])
{
    char name[60] = "";
    for (size_t i = 0; i < MAX_WORDS && t->words[i] != NULL; i++) {
        if (strchr(t->words[i], '%') == NULL)
            snprintf(name + strlen(name), sizeof name - strlen(name), "%s%s", i == 0 ? "" : " ",
                     t->words[i]);
    }
    printf("    %-27s %6u %6u %6u %8u\n", name, said[SAID_FOUND], said[SAID_ONLY_TOLD],
           said[SAID_NOTHING], said[SAID_CRASHED]);
    fflush(stdout);
}

/* The tool gets the same damages as the others of its engine, each a fresh one: opening changes
 * files. */
static void ask_tool(const struct tool *t, const struct peer *peer, struct history *history,
                     const struct damage *damage, const char *path, unsigned trials, uint64_t seed)
{
    struct hospital h = {.peer = peer, .history = history, .random = random_seeded(seed)};
    unsigned said[SAID_COUNT] = {0};
    char prints[SCRATCH_PATH_SIZE + 40];
    snprintf(prints, sizeof prints, "%s.prints", path);
    for (unsigned trial = 0; trial < trials; trial++) {
        hospital_admit(&h, damage, path);
        said[run_tool(t, path, prints)]++;
    }
    print_tool(t, said);
    folder_release(&h.work);
}

void compare_tools(const struct peer *const *peers, struct history *histories, size_t count,
                   const char *scratch, unsigned trials, uint64_t seed, const char *own)
{
    char path[SCRATCH_PATH_SIZE + 24], search[4200];
    const char *before = getenv("PATH");
    snprintf(search, sizeof search, "%s%s%s", own, before == NULL ? "" : ":",
             before == NULL ? "" : before);
    setenv("PATH", search, 1);
    printf("\nwhat tools that only look say of %u such databases: found: by their exit code; told: "
           "in words\nalone, with exit code 0\n%-31s %6s %6s %6s %8s\n",
           trials, "", "found", "told", "silent", "crashed");
    for (size_t d = 0; d < damage_count; d++) {
        printf("%s\n", damages[d].text);
        for (size_t i = 0; i < TOOLS * count; i++) {
            const struct tool *t = &tools[i / count];
            if (strcmp(t->engine, peers[i % count]->name) != 0 || !is_installed(t->words[0]))
                continue;
            snprintf(path, sizeof path, "%s/%zu", scratch, i % count);
            ask_tool(t, peers[i % count], &histories[i % count], &damages[d], path, trials,
                     seed + d);
        }
    }
}
