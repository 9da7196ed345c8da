/*
 * One thread, one epoll loop, a thousand reads at once: keys come in by a pipe, one a line, and
 * each answer is printed when its block has come from the disk. A key that ends in '=' and a value
 * is written instead, and acknowledged when it is durable.
 *
 *     cc epoll.c $(pkg-config --cflags --libs libengine) && printf 'a=1\na\nb\n' | ./a.out
 * example.db
 */
#include <engine/lsm.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MOST    1000 /* requests under way; more input waits in the pipe */
#define EVENTS  2
#define AT_ONCE 64

/* A line of input: what was asked, and where the answer goes. */
struct line {
    lsm_pin pin;
    bool is_write;
    char key[];
};

struct loop {
    lsm_db *db;
    lsm_async *async;
    lsm_batch *batch;
    int epoll, signal;
    bool input_ended;
    size_t used; /* of buffer */
    char buffer[4096];
};

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "epoll: %s: %s\n", what, why);
    exit(1);
}

static void check(lsm_status status, const lsm_error *err, const char *what)
{
    if (status != LSM_OK)
        fail(what, err != NULL ? err->message : lsm_strerror(status));
}

/* Begins what one line says. */
static void submit(struct loop *l, const char *text)
{
    lsm_error err;
    struct line *line = calloc(1, sizeof *line + strlen(text) + 1);
    if (line == NULL)
        fail("line", "out of memory");
    strcpy(line->key, text);
    char *equals = strchr(line->key, '=');
    line->is_write = equals != NULL;
    if (equals == NULL) {
        lsm_slice key = LSM_SLICE(line->key, strlen(line->key));
        check(lsm_async_get(l->async, NULL, key, NULL, &line->pin, line, &err), &err, "get");
        return;
    }
    *equals = '\0';
    lsm_write_options durable = {.durability = LSM_SYNC};
    lsm_slice key = LSM_SLICE(line->key, strlen(line->key));
    lsm_slice value = LSM_SLICE(equals + 1, strlen(equals + 1));
    lsm_batch_clear(l->batch);
    check(lsm_batch_put(l->batch, NULL, key, value, &err), &err, "put");
    check(lsm_async_write(l->async, l->batch, &durable, line, &err), &err, "write");
}

/* Takes the whole lines that there are. */
static void read_input(struct loop *l)
{
    ssize_t got = read(STDIN_FILENO, l->buffer + l->used, sizeof l->buffer - 1 - l->used);
    if (got < 0 && errno != EINTR)
        fail("input", strerror(errno));
    l->input_ended = got == 0;
    l->used += got > 0 ? (size_t)got : 0;
    l->buffer[l->used] = '\0';
    char *first = l->buffer, *end;
    while ((end = strchr(first, '\n')) != NULL) {
        *end = '\0';
        submit(l, first);
        first = end + 1;
    }
    l->used = strlen(first);
    memmove(l->buffer, first, l->used);
    if (l->used == sizeof l->buffer - 1)
        fail("input", "a line is too long");
}

static void print_answer(const lsm_completion *done)
{
    struct line *line = done->user_data;
    check(done->status, done->error, line->key);
    if (line->is_write)
        printf("%s is durable\n", line->key);
    else if (line->pin.found)
        printf("%s = %.*s\n", line->key, (int)line->pin.value.size,
               (const char *)line->pin.value.data);
    else
        printf("%s is not there\n", line->key);
    lsm_pin_release(&line->pin);
    free(line);
}

static void take_answers(struct loop *l)
{
    lsm_completion done[AT_ONCE];
    size_t count;
    lsm_error err;
    check(lsm_async_poll(l->async, done, AT_ONCE, &count, &err), &err, "poll");
    for (size_t i = 0; i < count; i++)
        print_answer(&done[i]);
}

static void watch(struct loop *l, int operation, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(l->epoll, operation, fd, &event) != 0)
        fail(errno == EPERM ? "input has to come by a pipe" : "epoll_ctl", strerror(errno));
}

static void run(struct loop *l)
{
    bool watches_input = false;
    while (!l->input_ended || lsm_async_pending(l->async) > 0) {
        bool wants_input = !l->input_ended && lsm_async_pending(l->async) < MOST;
        if (wants_input != watches_input)
            watch(l, wants_input ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, STDIN_FILENO);
        watches_input = wants_input;
        struct epoll_event events[EVENTS];
        int count = epoll_wait(l->epoll, events, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            fail("epoll_wait", strerror(errno));
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == STDIN_FILENO)
                read_input(l);
            else
                take_answers(l);
        }
    }
}

int main(int argc, char **argv)
{
    static struct loop l;
    lsm_error err;
    lsm_options options = LSM_OPTIONS_INIT;
    options.create = true;
    if (argc != 2)
        fail("usage", "epoll DATABASE < lines");
    check(lsm_open(argv[1], &options, &l.db, &err), &err, "open");
    check(lsm_async_open(l.db, NULL, &l.async, &err), &err, "queue");
    check(lsm_async_fd(l.async, &l.signal, &err), &err, "descriptor");
    check(lsm_batch_new(&l.batch, &err), &err, "batch");
    l.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l.epoll < 0)
        fail("epoll_create1", strerror(errno));
    watch(&l, EPOLL_CTL_ADD, l.signal);
    run(&l);
    lsm_batch_free(l.batch);
    lsm_async_close(l.async);
    close(l.epoll);
    check(lsm_close(l.db, &err), &err, "close");
    return 0;
}
