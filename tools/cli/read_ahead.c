#include "tools/cli/read_ahead.h"

#include "tools/cli/memory.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define PIECE_SIZE ((size_t)256 << 10) /* fits the second cache of both who fill and who use it */
#define PIECES     3                   /* one is used, one is ready, one is filled */

struct piece {
    char *bytes; /* owned; the headroom, and then what was read */
    size_t size;
    bool is_full;
};

struct read_ahead {
    int descriptor;
    pthread_t thread;
    unsigned next;   /* piece for the caller */
    bool has_handed; /* it has the one before */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* guarded by lock, and a piece's bytes by who has it */
    struct piece pieces[PIECES];
    bool is_ended; /* nothing comes behind the full pieces */
    bool is_stopped;
    int os_errno;
};

/* Fills the piece as far as the file goes. False at its end or after a failure. */
static bool fill(struct read_ahead *a, struct piece *p, int *os_errno)
{
    p->size = 0;
    while (p->size < PIECE_SIZE) {
        ssize_t got =
            read(a->descriptor, p->bytes + READ_AHEAD_HEADROOM + p->size, PIECE_SIZE - p->size);
        if (got < 0 && errno == EINTR)
            continue;
        *os_errno = got < 0 ? errno : 0;
        if (got <= 0)
            return false;
        p->size += (size_t)got;
    }
    return true;
}

static void *reading_thread(void *argument)
{
    struct read_ahead *a = argument;
    bool goes_on = true;
    pthread_mutex_lock(&a->lock);
    for (unsigned i = 0; goes_on; i = (i + 1) % PIECES) {
        struct piece *p = &a->pieces[i];
        int os_errno = 0;
        while (p->is_full && !a->is_stopped)
            pthread_cond_wait(&a->changed, &a->lock);
        if (a->is_stopped)
            break;
        pthread_mutex_unlock(&a->lock);
        goes_on = fill(a, p, &os_errno);
        pthread_mutex_lock(&a->lock);
        p->is_full = p->size > 0;
        a->is_ended = !goes_on;
        a->os_errno = os_errno;
        pthread_cond_broadcast(&a->changed);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

static void release(struct read_ahead *a)
{
    for (unsigned i = 0; i < PIECES; i++)
        memory_free(a->pieces[i].bytes);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    memory_free(a);
}

/* Signals are for the thread that asks whether one came. */
static int make_thread(struct read_ahead *a)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&a->thread, NULL, reading_thread, a);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

struct read_ahead *read_ahead_start(int descriptor)
{
    struct read_ahead *a = memory_alloc(sizeof *a);
    *a = (struct read_ahead){.descriptor = descriptor};
    for (unsigned i = 0; i < PIECES; i++)
        a->pieces[i].bytes = memory_alloc(READ_AHEAD_HEADROOM + PIECE_SIZE);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    if (make_thread(a) != 0) {
        release(a);
        return NULL;
    }
    return a;
}

bool read_ahead_next(struct read_ahead *a, char **bytes, size_t *size, int *os_errno)
{
    pthread_mutex_lock(&a->lock);
    if (a->has_handed) {
        a->pieces[(a->next + PIECES - 1) % PIECES].is_full = false;
        pthread_cond_broadcast(&a->changed);
    }
    struct piece *p = &a->pieces[a->next];
    while (!p->is_full && !a->is_ended)
        pthread_cond_wait(&a->changed, &a->lock);
    a->has_handed = p->is_full;
    *os_errno = a->has_handed ? 0 : a->os_errno;
    pthread_mutex_unlock(&a->lock);
    if (!a->has_handed)
        return false;
    a->next = (a->next + 1) % PIECES;
    *bytes = p->bytes + READ_AHEAD_HEADROOM;
    *size = p->size;
    return true;
}

void read_ahead_stop(struct read_ahead *a)
{
    if (a == NULL)
        return;
    pthread_mutex_lock(&a->lock);
    a->is_stopped = true;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    release(a);
}
