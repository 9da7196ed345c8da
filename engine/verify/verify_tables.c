/*
 * All tables, by several threads. A thread takes the next table, so the largest ones decide how
 * long it takes; the first failure ends all.
 */
#include "engine/verify/verify_private.h"

#include "engine/base/memory.h"

struct crew {
    struct verify *v;
    struct walk_env env;
    struct verify_table **work; /* borrowed tables */
    size_t count;
    _Atomic size_t next;
    _Atomic bool has_failed;
    pthread_mutex_t lock; /* guards the two below */
    lsm_status status;
    lsm_error error;
};

static void fail(struct crew *c, lsm_status status, const lsm_error *error)
{
    pthread_mutex_lock(&c->lock);
    if (c->status == LSM_OK) {
        c->status = status;
        status_copy(&c->error, error);
    }
    pthread_mutex_unlock(&c->lock);
    atomic_store(&c->has_failed, true);
}

static void *work(void *context)
{
    struct crew *c = context;
    while (!atomic_load(&c->has_failed)) {
        size_t index = atomic_fetch_add(&c->next, 1);
        if (index >= c->count)
            break;
        lsm_error error = {.message = ""};
        lsm_status status = verify_table(c->v, &c->env, c->work[index], &error);
        if (status == LSM_OK && c->v->options.level == LSM_VERIFY_QUICK)
            status = verify_progress(c->v, 1, &error);
        if (status != LSM_OK)
            fail(c, status, &error);
    }
    return NULL;
}

/* What is not for walks. */
static uint64_t own_memory(const struct verify *v)
{
    return VERIFY_OWN_MEMORY + v->state_bytes;
}

/* Part of the memory limit of one of the few large things that a walk holds at once. */
static size_t walk_memory(const struct verify *v, unsigned threads)
{
    uint64_t limit = v->options.memory_limit,
             streams = (uint64_t)threads * WALK_PIECES * WALK_PIECE;
    uint64_t own = own_memory(v) + streams;
    uint64_t part = limit > own ? (limit - own) / (3 * (uint64_t)threads) : 0;
    if (part > SIZE_MAX / 4)
        part = SIZE_MAX / 4;
    return part < VERIFY_MIN_WALK ? VERIFY_MIN_WALK : (size_t)part;
}

/* No more threads than there is memory for. */
static unsigned fitting_threads(const struct verify *v, size_t tables)
{
    uint64_t each = (uint64_t)WALK_PIECES * WALK_PIECE + 3 * (uint64_t)VERIFY_MIN_WALK;
    uint64_t limit = v->options.memory_limit, own = own_memory(v);
    uint64_t most = limit > own ? (limit - own) / each : 0;
    uint64_t threads = v->options.threads < most ? v->options.threads : most;
    threads = threads < tables ? threads : tables;
    return threads == 0 ? 1 : (unsigned)threads;
}

static lsm_status run(struct crew *c, unsigned threads, lsm_error *err)
{
    pthread_t others[VERIFY_MAX_THREADS];
    unsigned started = 0;
    pthread_mutex_init(&c->lock, NULL);
    while (started + 1 < threads && pthread_create(&others[started], NULL, work, c) == 0)
        started++;
    (void)work(c);
    for (unsigned i = 0; i < started; i++)
        pthread_join(others[i], NULL);
    pthread_mutex_destroy(&c->lock);
    if (c->status != LSM_OK)
        status_copy(err, &c->error);
    return c->status;
}

static bool is_wanted(const struct verify *v, const struct verify_table *t)
{
    if (t->file == NULL || !walk_file_is_plain(t->file))
        return false;
    if (v->options.file != NULL && strcmp(v->options.file, t->file->text) != 0)
        return false;
    if (t->blob != NULL)
        return verify_wants_family(v, t->blob->cf);
    return t->meta == NULL || verify_wants_family(v, t->meta->cf);
}

lsm_status verify_tables(struct verify *v, lsm_error *err)
{
    struct crew c = {.v = v, .env = v->env};
    size_t size = v->table_count * sizeof *c.work;
    uint64_t bytes = 0;
    c.work = mem_alloc(size > 0 ? size : 1);
    if (c.work == NULL)
        return lsm_fail_memory(err, size);
    for (size_t i = 0; i < v->table_count; i++) {
        if (!is_wanted(v, &v->tables[i]))
            continue;
        c.work[c.count++] = &v->tables[i];
        bytes += v->tables[i].file->entry.size;
    }
    unsigned threads = fitting_threads(v, c.count);
    c.env.memory_limit = walk_memory(v, threads);
    bool is_quick = v->options.level == LSM_VERIFY_QUICK;
    verify_pass(v, is_quick ? 3 : 4, is_quick ? c.count : bytes);
    lsm_status status = run(&c, threads, err);
    mem_free(c.work);
    return status;
}
