/*
 * Other processes for tests of one database that many have open: each runs a function and talks
 * with the test over two pipes, in messages of a fixed size. They die with the test.
 */
#ifndef TESTS_UNIT_DB_PEERS_H
#define TESTS_UNIT_DB_PEERS_H

#include "tests/unit/db/db_fixture.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PEER_TEXT 160

/*
 * The thread sanitizer cannot follow threads that a child makes whose parent has some, and each
 * handle has its keeper. There handles of one process are what is looked at: handles_test.
 */
#ifdef __SANITIZE_THREAD__
#define PEERS_CANNOT_RUN true
#else
#define PEERS_CANNOT_RUN false
#endif
#define PEERS_SKIPPED 77 /* the exit status of a test that could not be run */

struct peer {
    pid_t pid; /* 0 in the peer itself */
    int to, from;
};

static inline void peer_say(const struct peer *p, const char *what)
{
    char message[PEER_TEXT] = "";
    ck_assert_uint_lt(strlen(what), sizeof message);
    memcpy(message, what, strlen(what));
    ck_assert_int_eq(write(p->to, message, sizeof message), sizeof message);
}

/* What the other one says next; false when it says no more. */
static inline bool peer_hear(const struct peer *p, char message[PEER_TEXT])
{
    size_t got = 0;
    while (got < PEER_TEXT) {
        ssize_t n = read(p->from, message + got, PEER_TEXT - got);
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

static inline void peer_expect(const struct peer *p, const char *what)
{
    char message[PEER_TEXT] = "";
    ck_assert_msg(peer_hear(p, message), "the other process ended before it said '%s'", what);
    ck_assert_str_eq(message, what);
}

static inline struct peer peer_start(void (*run)(struct peer *test))
{
    int there[2], back[2];
    ck_assert_int_eq(pipe(there), 0);
    ck_assert_int_eq(pipe(back), 0);
    pid_t parent = getpid(), pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        close(there[1]);
        close(back[0]);
        run(&(struct peer){.to = back[1], .from = there[0]});
        _exit(0);
    }
    close(there[0]);
    close(back[1]);
    return (struct peer){.pid = pid, .to = there[1], .from = back[0]};
}

/* Closes the pipes and waits for a clean end. */
static inline void peer_end(struct peer *p)
{
    int status;
    close(p->to);
    ck_assert_int_eq(waitpid(p->pid, &status, 0), p->pid);
    close(p->from);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "process %d ended with %d",
                  (int)p->pid, status);
}

static inline void peer_kill(struct peer *p)
{
    int status;
    kill(p->pid, SIGKILL);
    ck_assert_int_eq(waitpid(p->pid, &status, 0), p->pid);
    close(p->to);
    close(p->from);
}

/* Waits until the process has stopped itself. */
static inline void peer_await_stop(const struct peer *p)
{
    int status;
    ck_assert_int_eq(waitpid(p->pid, &status, WUNTRACED), p->pid);
    ck_assert_msg(WIFSTOPPED(status), "process %d did not stop: %d", (int)p->pid, status);
}

/* Memory that processes started later share with the test; zeroed. */
static inline void *shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    return memory;
}

#endif
