/*
 * The Dekker pair: a reader stores its epoch, then (full fence) loads shared pointers; a writer
 * unlinks, then (full fence) advances the epoch and scans the slots. So either the scan sees the
 * reader, or the reader sees the unlinking.
 */
#include "engine/base/epoch.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define EPOCH_LINE 64

struct epoch_slot {
    _Alignas(EPOCH_LINE) _Atomic uint64_t epoch; /* 0: outside */
    _Atomic bool taken;
};

static struct epoch_slot slots[EPOCH_SLOT_COUNT];
static _Atomic uint32_t slot_limit; /* slots at or above it were never taken */
static _Alignas(EPOCH_LINE) _Atomic uint64_t epoch_now = 1;

/* Threads that found no slot: one shared announcement, held by a count. */
static pthread_mutex_t overflow_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t overflow_count;
static _Atomic uint64_t overflow_epoch;

static pthread_mutex_t retired_lock = PTHREAD_MUTEX_INITIALIZER;
static struct epoch_retired *retired_first;
static struct epoch_retired **retired_last = &retired_first;
static uint32_t collectors; /* threads that took things off the list and are still freeing them */

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t slot_key;

static __thread struct epoch_slot *my_slot;
static __thread uint32_t my_depth;

static void slot_give_back(void *slot)
{
    struct epoch_slot *s = slot;
    my_slot = NULL;
    atomic_store_explicit(&s->epoch, 0, memory_order_release);
    atomic_store_explicit(&s->taken, false, memory_order_release);
}

/* ---- fork ------------------------------------------------------------------------------------ */

static void fork_prepare(void)
{
    pthread_mutex_lock(&retired_lock);
    pthread_mutex_lock(&overflow_lock);
}

static void fork_parent(void)
{
    pthread_mutex_unlock(&overflow_lock);
    pthread_mutex_unlock(&retired_lock);
}

/*
 * A child has this thread only: nobody would ever leave what the others had entered. What was
 * retired is the parent's to give up, for it may lie where the child has no memory, and is leaked.
 */
static void fork_child(void)
{
    for (uint32_t i = 0; i < EPOCH_SLOT_COUNT; i++) {
        if (&slots[i] == my_slot)
            continue;
        atomic_store(&slots[i].epoch, 0);
        atomic_store(&slots[i].taken, false);
    }
    overflow_count = my_depth > 0 && my_slot == NULL ? 1 : 0;
    if (overflow_count == 0)
        atomic_store(&overflow_epoch, 0);
    retired_first = NULL;
    retired_last = &retired_first;
    collectors = 0;
    fork_parent();
}

static void key_make(void)
{
    (void)pthread_key_create(&slot_key, slot_give_back);
    (void)pthread_atfork(fork_prepare, fork_parent, fork_child);
}

static struct epoch_slot *slot_take(void)
{
    pthread_once(&key_once, key_make);
    for (uint32_t i = 0; i < EPOCH_SLOT_COUNT; i++) {
        bool free_slot = false;
        if (!atomic_compare_exchange_strong(&slots[i].taken, &free_slot, true))
            continue;
        uint32_t limit = atomic_load(&slot_limit);
        while (limit < i + 1 && !atomic_compare_exchange_weak(&slot_limit, &limit, i + 1))
            ;
        pthread_setspecific(slot_key, &slots[i]);
        return &slots[i];
    }
    return NULL;
}

static void overflow_enter(void)
{
    pthread_mutex_lock(&overflow_lock);
    if (overflow_count++ == 0)
        atomic_store(&overflow_epoch, atomic_load(&epoch_now));
    pthread_mutex_unlock(&overflow_lock);
    atomic_thread_fence(memory_order_seq_cst);
}

static void overflow_exit(void)
{
    pthread_mutex_lock(&overflow_lock);
    if (--overflow_count == 0)
        atomic_store(&overflow_epoch, 0);
    pthread_mutex_unlock(&overflow_lock);
}

void epoch_enter(void)
{
    if (my_depth++ > 0)
        return;
    if (my_slot == NULL && (my_slot = slot_take()) == NULL) {
        overflow_enter();
        return;
    }
    /* The exchange is the full fence of the Dekker pair above. */
    atomic_exchange_explicit(&my_slot->epoch,
                             atomic_load_explicit(&epoch_now, memory_order_acquire),
                             memory_order_seq_cst);
}

void epoch_exit(void)
{
    assert(my_depth > 0);
    if (--my_depth > 0)
        return;
    if (my_slot == NULL)
        overflow_exit();
    else
        atomic_store_explicit(&my_slot->epoch, 0, memory_order_release);
}

bool epoch_is_inside(void)
{
    return my_depth > 0;
}

static uint64_t oldest_announced(void)
{
    atomic_thread_fence(memory_order_seq_cst);
    uint64_t oldest = UINT64_MAX;
    uint32_t limit = atomic_load(&slot_limit);
    for (uint32_t i = 0; i < limit; i++) {
        uint64_t epoch = atomic_load_explicit(&slots[i].epoch, memory_order_acquire);
        if (epoch != 0 && epoch < oldest)
            oldest = epoch;
    }
    uint64_t shared = atomic_load(&overflow_epoch);
    return shared != 0 && shared < oldest ? shared : oldest;
}

void epoch_retire(struct epoch_retired *thing, void (*retire)(struct epoch_retired *thing))
{
    pthread_once(&key_once, key_make); /* whatever is retired, a child must forget */
    thing->next = NULL;
    thing->retire = retire;
    pthread_mutex_lock(&retired_lock);
    thing->epoch = atomic_fetch_add(&epoch_now, 1);
    *retired_last = thing;
    retired_last = &thing->next;
    pthread_mutex_unlock(&retired_lock);
    epoch_collect();
}

/* A reader that announced an epoch <= thing->epoch may have loaded the pointer before. */
void epoch_collect(void)
{
    pthread_mutex_lock(&retired_lock);
    struct epoch_retired *free_first = NULL, **free_last = &free_first;
    if (retired_first != NULL) {
        uint64_t oldest = oldest_announced();
        while (retired_first != NULL && retired_first->epoch < oldest) {
            struct epoch_retired *thing = retired_first;
            retired_first = thing->next;
            *free_last = thing;
            free_last = &thing->next;
        }
        if (retired_first == NULL)
            retired_last = &retired_first;
    }
    *free_last = NULL;
    if (free_first == NULL) {
        pthread_mutex_unlock(&retired_lock);
        return;
    }
    collectors++;
    pthread_mutex_unlock(&retired_lock);
    while (free_first != NULL) {
        struct epoch_retired *thing = free_first;
        free_first = thing->next;
        thing->retire(thing);
    }
    pthread_mutex_lock(&retired_lock);
    collectors--;
    pthread_mutex_unlock(&retired_lock);
}

void epoch_drain(void)
{
    assert(my_depth == 0);
    pthread_mutex_lock(&retired_lock);
    uint64_t target = atomic_load(&epoch_now);
    pthread_mutex_unlock(&retired_lock);
    for (;;) {
        epoch_collect();
        pthread_mutex_lock(&retired_lock);
        bool clear = collectors == 0 && (retired_first == NULL || retired_first->epoch >= target);
        pthread_mutex_unlock(&retired_lock);
        if (clear)
            return;
        sched_yield();
    }
}
