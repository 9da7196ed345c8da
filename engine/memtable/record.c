/* Records and the chains of their versions, the same under both structures. */
#include "engine/memtable/memtable_private.h"

static void copy(uint8_t *to, const void *from, size_t size)
{
    if (size > 0)
        memcpy(to, from, size);
}

void record_write(struct memtable *mt, const struct entry *e, uint32_t older)
{
    struct record *r = record_at(mt, e->place);
    uint32_t cf = e->target.cf;
    atomic_store_explicit(&r->older, older, memory_order_relaxed);
    atomic_store_explicit(&r->newer, 0, memory_order_relaxed);
    r->trailer = e->trailer;
    r->value_size = (uint32_t)e->value.size;
    r->key_size = (uint32_t)e->target.size;
    r->family[0] = (uint8_t)(cf >> 24);
    r->family[1] = (uint8_t)(cf >> 16);
    r->family[2] = (uint8_t)(cf >> 8);
    r->family[3] = (uint8_t)cf;
    copy(r->bytes, e->target.key, e->target.size);
    copy(r->bytes + e->target.size, e->value.data, e->value.size);
}

/* Offsets fall along the chain, so the walk ends at the place where the record would be. */
static bool chain_holds(const struct memtable *mt, uint32_t newest, uint32_t place)
{
    while (newest > place)
        newest = record_older(record_at(mt, newest));
    return newest == place;
}

bool chain_push(struct memtable *mt, _Atomic uint32_t *newest, const struct entry *e)
{
    uint32_t head = atomic_load_explicit(newest, memory_order_relaxed);
    bool is_new = !chain_holds(mt, head, e->place);
    if (is_new) {
        record_write(mt, e, head);
        /* Publishes the record; pairs with the acquire loads of leaves and skiplist nodes. */
        atomic_store_explicit(newest, e->place, memory_order_release);
    }
    uint32_t older = record_older(record_at(mt, e->place));
    if (older != 0) /* pairs with record_newer() of iterators that walk backwards */
        atomic_store_explicit(&record_at(mt, older)->newer, e->place, memory_order_release);
    return is_new;
}
