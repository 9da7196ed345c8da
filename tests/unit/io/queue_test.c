/* Queues on every backend. */
#include "tests/unit/io/backend.h"

#include "engine/io/queue_pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#define RW            (IO_FILE_WRITE | IO_FILE_CREATE)
#define REQUEST_COUNT 100
#define REQUEST_SIZE  ((size_t)4096)

static struct backend b;

#define BEGIN                                                                                      \
    if (!backend_open(&b, _i))                                                                     \
        return;

static struct io_request requests[REQUEST_COUNT];

/* Fills requests[] with transfers of one page each, page i being byte 'i'. */
static void make_requests(enum io_operation operation, struct io_file *file, char *pages)
{
    for (size_t i = 0; i < REQUEST_COUNT; i++)
        requests[i] = (struct io_request){.operation = operation,
                                          .file = file,
                                          .memory = pages + i * REQUEST_SIZE,
                                          .size = REQUEST_SIZE,
                                          .offset = i * REQUEST_SIZE,
                                          .owner = &requests[i]};
}

static void reap_all(struct io_queue *queue)
{
    unsigned reaped = 0;
    ck_assert_uint_eq(io_queue_in_flight(queue), REQUEST_COUNT);
    for (struct io_request *r; (r = io_queue_reap(queue, true)) != NULL; reaped++) {
        ck_assert_ptr_eq(r->owner, r);
        r->owner = NULL; /* once each */
        ck_assert_int_eq(r->os_errno, 0);
        ck_assert_uint_eq(r->transferred, REQUEST_SIZE);
    }
    ck_assert_uint_eq(reaped, REQUEST_COUNT);
    ck_assert_uint_eq(io_queue_in_flight(queue), 0);
}

static void transfer_hundred(unsigned flags)
{
    struct io_file *f = backend_file(&b, "a", RW | flags);
    struct io_queue *queue = NULL;
    char *pages = backend_pages(REQUEST_COUNT * REQUEST_SIZE, 0);
    ck_ok(io_queue_open(b.io, 8, &queue, err));
    uint64_t before = io_submission_count(b.io);
    for (size_t i = 0; i < REQUEST_COUNT; i++)
        memset(pages + i * REQUEST_SIZE, (int)i, REQUEST_SIZE);
    make_requests(IO_WRITE, f, pages);
    for (size_t i = 0; i < REQUEST_COUNT; i++)
        io_queue_push(queue, &requests[i]);
    ck_ok(io_queue_submit(queue, err));
    reap_all(queue);
    ck_assert_uint_gt(io_submission_count(b.io), before);

    memset(pages, 0xff, REQUEST_COUNT * REQUEST_SIZE);
    make_requests(IO_READ, f, pages);
    for (size_t i = 0; i < REQUEST_COUNT; i++)
        io_queue_push(queue, &requests[i]);
    reap_all(queue); /* submits by itself */
    for (size_t i = 0; i < REQUEST_COUNT; i++) {
        ck_assert_int_eq(pages[i * REQUEST_SIZE], (char)i);
        ck_assert_int_eq(pages[(i + 1) * REQUEST_SIZE - 1], (char)i);
    }
    io_queue_close(queue);
    io_file_close(f);
    free(pages);
}

START_TEST(test_queue_hundred_requests_over_depth_eight_all_complete)
{
    BEGIN
    transfer_hundred(0);
    transfer_hundred(IO_FILE_DIRECT);
    backend_close(&b);
}
END_TEST

START_TEST(test_queue_without_waiting_delivers_in_the_end)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW);
    struct io_queue *queue = NULL;
    ck_ok(io_queue_open(b.io, 4, &queue, err));
    ck_assert_ptr_null(io_queue_reap(queue, true));
    struct io_request r = {
        .operation = IO_WRITE, .file = f, .memory = (void *)(uintptr_t) "abc", .size = 3};
    io_queue_push(queue, &r);
    struct io_request *done = NULL;
    for (unsigned tries = 0; done == NULL && tries < 10000; tries++) {
        done = io_queue_reap(queue, false);
        usleep(done == NULL ? 100 : 0);
    }
    ck_assert_ptr_eq(done, &r);
    ck_assert_uint_eq(r.transferred, 3);
    io_queue_close(queue);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_queue_read_at_end_is_short_and_no_error)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW);
    struct io_file *direct = backend_file(&b, "a", IO_FILE_WRITE | IO_FILE_DIRECT);
    struct io_queue *queue = NULL;
    char *pages = backend_pages(3 * IO_ALIGNMENT, 'x');
    ck_ok(io_file_write(f, pages, 5000, 0, err));
    ck_ok(io_file_sync(f, err));
    ck_ok(io_queue_open(b.io, 4, &queue, err));
    const struct {
        struct io_file *file;
        uint64_t offset;
        size_t expected;
    } cases[] = {{f, 0, 5000}, {f, 4096, 904}, {f, 8192, 0}, {direct, 0, 5000}, {direct, 8192, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct io_request r = {.operation = IO_READ,
                               .file = cases[i].file,
                               .memory = pages,
                               .size = 3 * IO_ALIGNMENT,
                               .offset = cases[i].offset};
        io_queue_push(queue, &r);
        ck_assert_ptr_eq(io_queue_reap(queue, true), &r);
        ck_assert_int_eq(r.os_errno, 0);
        ck_assert_uint_eq(r.transferred, cases[i].expected);
    }
    io_queue_close(queue);
    io_file_close(direct);
    io_file_close(f);
    free(pages);
    backend_close(&b);
}
END_TEST

START_TEST(test_queue_refused_request_comes_back_with_its_sentence)
{
    BEGIN
    io_file_close(backend_file(&b, "a", RW));
    struct io_file *f = backend_file(&b, "a", 0);
    struct io_queue *queue = NULL;
    char bytes[16] = {0};
    ck_ok(io_queue_open(b.io, 4, &queue, err));
    struct io_request bad = {
        .operation = IO_WRITE, .file = f, .memory = bytes, .size = 16, .offset = 4096};
    struct io_request good = {.operation = IO_READ, .file = f, .memory = bytes, .size = 16};
    io_queue_push(queue, &bad);
    io_queue_push(queue, &good);
    while (io_queue_reap(queue, true) != NULL)
        ;
    ck_assert_int_eq(bad.os_errno, EBADF);
    ck_assert_int_eq(good.os_errno, 0);
    lsm_error error = {0};
    ck_assert_int_eq(io_request_error(&bad, &error), LSM_IO);
    char expected[400];
    snprintf(expected, sizeof expected,
             "cannot write 16 bytes at offset 4096 to '%s/a': Bad file descriptor", b.path);
    ck_assert_str_eq(error.message, expected);
    ck_assert_str_eq(error.file, "a");
    ck_assert_uint_eq(error.offset, 4096);
    ck_assert_int_eq(error.os_errno, EBADF);
    io_queue_close(queue);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_queue_closing_drains)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW);
    struct io_queue *queue = NULL;
    char *pages = backend_pages(REQUEST_COUNT * REQUEST_SIZE, 'd');
    ck_ok(io_queue_open(b.io, 8, &queue, err));
    make_requests(IO_WRITE, f, pages);
    for (size_t i = 0; i < REQUEST_COUNT; i++)
        io_queue_push(queue, &requests[i]);
    io_queue_close(queue);
    uint64_t size = 0;
    ck_ok(io_file_size(f, &size, err));
    ck_assert_uint_eq(size, REQUEST_COUNT * REQUEST_SIZE);
    io_file_close(f);
    free(pages);
    backend_close(&b);
}
END_TEST

/* ---- handing a queue from thread to thread --------------------------------------------------- */

struct relay {
    pthread_mutex_t mutex;
    struct io_queue *queue;
    struct io_file *file;
    char *pages;
    unsigned turns;
};

static bool reap_one(struct relay *relay, bool wait)
{
    struct io_request *done = io_queue_reap(relay->queue, wait);
    if (done != NULL)
        done->owner = NULL;
    return done != NULL;
}

/* Reaps what the other threads pushed, and pushes for them. */
static void *take_turns(void *context)
{
    struct relay *relay = context;
    for (unsigned i = 0; i < 200; i++) {
        pthread_mutex_lock(&relay->mutex);
        unsigned slot = relay->turns % REQUEST_COUNT;
        while (i % 16 == 0 && reap_one(relay, true))
            ;
        if (requests[slot].owner == NULL) { /* not in flight */
            requests[slot].owner = relay;
            io_queue_push(relay->queue, &requests[slot]);
            if (io_queue_submit(relay->queue, NULL) != LSM_OK)
                abort();
        }
        reap_one(relay, false);
        relay->turns++;
        pthread_mutex_unlock(&relay->mutex);
    }
    return NULL;
}

START_TEST(test_queue_handed_between_threads_loses_nothing)
{
    BEGIN
    struct relay relay = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    relay.file = backend_file(&b, "a", RW);
    relay.pages = backend_pages(REQUEST_COUNT * REQUEST_SIZE, 't');
    ck_ok(io_queue_open(b.io, 16, &relay.queue, err));
    make_requests(IO_WRITE, relay.file, relay.pages);
    for (size_t i = 0; i < REQUEST_COUNT; i++)
        requests[i].owner = NULL;
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_turns, &relay), 0);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    while (io_queue_reap(relay.queue, true) != NULL)
        ;
    ck_assert_uint_eq(io_queue_in_flight(relay.queue), 0);
    for (size_t i = 0; i < REQUEST_COUNT; i++) {
        ck_assert_int_eq(requests[i].os_errno, 0);
        ck_assert_uint_eq(requests[i].transferred, REQUEST_SIZE);
    }
    io_queue_close(relay.queue);
    io_file_close(relay.file);
    free(relay.pages);
    backend_close(&b);
}
END_TEST

/* ---- the host's limits ----------------------------------------------------------------------- */

START_TEST(test_queue_without_room_for_a_ring_works_by_calls)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW);
    char bytes[3] = "abc";
    struct io_queue *queue = NULL;
    struct rlimit old;
    getrlimit(RLIMIT_NOFILE, &old);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = 3, .rlim_max = old.rlim_max});
    ck_ok(io_queue_open(b.io, 4, &queue, err));
    setrlimit(RLIMIT_NOFILE, &old);
    struct io_request r = {.operation = IO_WRITE, .file = f, .memory = bytes, .size = 3};
    io_queue_push(queue, &r);
    ck_assert_ptr_eq(io_queue_reap(queue, true), &r);
    ck_assert_int_eq(r.os_errno, 0);
    ck_assert_uint_eq(r.transferred, 3);
    io_queue_close(queue);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

/* A limit on the size of files gives a real short write, then a real error. */
START_TEST(test_queue_short_write_goes_on_and_ends_in_its_error)
{
    BEGIN
    if (b.disk != NULL) { /* the simulated disk has no such limit */
        backend_close(&b);
        return;
    }
    struct io_file *f = backend_file(&b, "a", RW);
    struct io_queue *queue = NULL;
    char *pages = backend_pages(16 * IO_ALIGNMENT, 's');
    ck_ok(io_queue_open(b.io, 4, &queue, err));
    struct rlimit old;
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){.rlim_cur = 20000, .rlim_max = old.rlim_max});
    struct io_request r = {
        .operation = IO_WRITE, .file = f, .memory = pages, .size = 16 * IO_ALIGNMENT};
    io_queue_push(queue, &r);
    ck_assert_ptr_eq(io_queue_reap(queue, true), &r);
    setrlimit(RLIMIT_FSIZE, &old);
    ck_assert_int_eq(r.os_errno, EFBIG);
    uint64_t size = 0;
    ck_ok(io_file_size(f, &size, err));
    ck_assert_uint_eq(size, 20000);
    io_queue_close(queue);
    io_file_close(f);
    free(pages);
    backend_close(&b);
}
END_TEST

START_TEST(test_queue_pool_hands_idle_queues_out_again)
{
    BEGIN;
    struct io_queue_pool *pool = io_queue_pool_new(b.io, 4, 2);
    struct io_queue *queues[3], *again[3];
    ck_assert_ptr_nonnull(pool);
    for (size_t i = 0; i < 3; i++)
        ck_ok(io_queue_pool_take(pool, &queues[i], err));
    ck_assert(queues[0] != queues[1] && queues[1] != queues[2] && queues[0] != queues[2]);
    for (size_t i = 0; i < 3; i++)
        io_queue_pool_give_back(pool, queues[i]); /* the third one is closed */
    io_queue_pool_give_back(pool, NULL);
    for (size_t i = 0; i < 3; i++)
        ck_ok(io_queue_pool_take(pool, &again[i], err));
    ck_assert_ptr_eq(again[0], queues[1]);
    ck_assert_ptr_eq(again[1], queues[0]);
    for (size_t i = 0; i < 3; i++)
        io_queue_pool_give_back(pool, again[i]);
    io_queue_pool_free(pool);
    io_queue_pool_free(NULL);
    backend_close(&b);
}
END_TEST

/* Puts something else in the place of every ring of this process; how many there were. */
static unsigned break_rings(void)
{
    char path[64], target[64];
    unsigned count = 0;
    for (int fd = 3; fd < 1024; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(path, target, sizeof target - 1);
        if (size <= 0)
            continue;
        target[size] = '\0';
        if (strstr(target, "io_uring") == NULL)
            continue;
        ck_assert_int_eq(dup2(0, fd), fd);
        count++;
    }
    return count;
}

START_TEST(test_queue_pool_does_not_keep_a_broken_queue)
{
    BEGIN;
    struct io_file *f = backend_file(&b, "a", RW);
    char *page = backend_pages(REQUEST_SIZE, 'p');
    struct io_queue_pool *pool = io_queue_pool_new(b.io, 4, 2);
    struct io_queue *queue = NULL;
    ck_ok(io_file_write(f, page, REQUEST_SIZE, 0, err));
    ck_ok(io_queue_pool_take(pool, &queue, err));
    bool is_broken = break_rings() > 0;
    for (unsigned round = 0; round < 2; round++) {
        struct io_request r = {
            .operation = IO_READ, .file = f, .memory = page, .size = REQUEST_SIZE};
        io_queue_push(queue, &r);
        (void)io_queue_submit(queue, NULL);
        ck_assert_ptr_eq(io_queue_reap(queue, true), &r);
        ck_assert_int_eq(r.os_errno != 0, is_broken && round == 0);
        io_queue_pool_give_back(pool, queue);
        ck_ok(io_queue_pool_take(pool, &queue, err));
    }
    io_queue_pool_give_back(pool, queue);
    io_queue_pool_free(pool);
    io_file_close(f);
    free(page);
    backend_close(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("io queue");
    TCase *cases = tcase_create("all backends");
    const TTest *const tests[] = {
        test_queue_hundred_requests_over_depth_eight_all_complete,
        test_queue_without_waiting_delivers_in_the_end,
        test_queue_read_at_end_is_short_and_no_error,
        test_queue_refused_request_comes_back_with_its_sentence,
        test_queue_closing_drains,
        test_queue_handed_between_threads_loses_nothing,
        test_queue_without_room_for_a_ring_works_by_calls,
        test_queue_short_write_goes_on_and_ends_in_its_error,
        test_queue_pool_hands_idle_queues_out_again,
        test_queue_pool_does_not_keep_a_broken_queue,
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_loop_test(cases, tests[i], 0, BACKEND_COUNT);
    suite_add_tcase(suite, cases);
    return backend_run(suite);
}
