#include "tests/unit/memtable/memtable_reference.h"

#include "engine/base/hash.h"
#include "engine/memtable/memtable_private.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

const char *const key_shape_names[KEYS_SHAPES] = {
    "ascending decimal",
    "descending decimal",
    "shuffled decimal",
    "long prefix",
    "extreme",
    "random",
    "short",
    "huge",
    "mixed",
};

uint64_t reference_seed(const char *test)
{
    const char *given = getenv("SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("%s: SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static size_t make_decimal(const char *prefix, uint64_t number, uint8_t *key)
{
    return (size_t)sprintf((char *)key, "%s%016llu", prefix, (unsigned long long)number);
}

static size_t make_extreme(struct random_state *random, uint8_t *key)
{
    size_t size = random_below(random, 30);
    for (size_t at = 0; at < size; at++)
        key[at] = random_below(random, 8) == 0 ? (uint8_t)random_next(random)
                                               : (random_below(random, 2) ? 0x00 : 0xff);
    return size;
}

static size_t make_prefixed(struct random_state *random, uint8_t *key)
{
    static const char *const prefixes[] = {
        "user", "user:profile:", "user:profile:2024:", "table/one/row/", "table/one/rox/"};
    return make_decimal(prefixes[random_below(random, 5)], random_below(random, 100000), key);
}

static size_t make_random(struct random_state *random, size_t size, uint8_t *key)
{
    for (size_t at = 0; at < size; at++)
        key[at] = (uint8_t)random_next(random);
    return size;
}

static size_t make_huge(struct random_state *random, uint8_t *key)
{
    size_t size = random_below(random, 2) ? KEY_BUFFER_SIZE : 200 + random_below(random, 400);
    memset(key, 'h', size);
    key[size - 1] = (uint8_t)random_next(random);
    if (random_below(random, 3) == 0)
        key[size / 2] = (uint8_t)random_next(random);
    return size;
}

size_t make_key(enum key_shape shape, uint64_t i, struct random_state *random, uint8_t *key)
{
    switch (shape) {
    case KEYS_ASCENDING_DECIMAL:
        return make_decimal("", i, key);
    case KEYS_DESCENDING_DECIMAL:
        return make_decimal("", UINT64_C(1000000000) - i, key);
    case KEYS_SHUFFLED_DECIMAL:
        return make_decimal("", random_below(random, 1000000), key);
    case KEYS_LONG_PREFIX:
        return make_prefixed(random, key);
    case KEYS_EXTREME:
        return make_extreme(random, key);
    case KEYS_RANDOM:
        return make_random(random, 16, key);
    case KEYS_SHORT:
        return make_random(random, random_below(random, 4), key);
    case KEYS_HUGE:
        return make_huge(random, key);
    case KEYS_MIXED:
    case KEYS_SHAPES:
        break;
    }
    enum key_shape other = (enum key_shape)random_below(random, KEYS_HUGE);
    return make_key(other, i, random, key);
}

/* ---- inserts --------------------------------------------------------------------------------- */

static void fill_value(const struct reference_entry *e, uint8_t *value)
{
    for (uint32_t i = 0; i < e->value_size; i++)
        value[i] = (uint8_t)(e->order * 31 + i);
}

static void insert_entry(const struct reference_entry *e, struct memtable *mt)
{
    uint8_t *value = malloc(e->value_size + 1);
    fill_value(e, value);
    memtable_insert(mt, e->cf, LSM_SLICE(e->key, e->key_size), hash_key(e->key, e->key_size),
                    e->trailer, LSM_SLICE(value, e->value_size));
    free(value);
}

void reference_bulk_add(const struct reference *r, size_t index, struct memtable_bulk *bulk)
{
    const struct reference_entry *e = &r->entries[index];
    uint8_t *value = malloc(e->value_size + 1);
    fill_value(e, value);
    memtable_bulk_add(bulk, e->cf, LSM_SLICE(e->key, e->key_size), hash_key(e->key, e->key_size),
                      e->trailer, LSM_SLICE(value, e->value_size));
    free(value);
}

void reference_insert(struct reference *r, struct memtable *mt, uint32_t cf, lsm_slice key,
                      uint64_t trailer, uint32_t value_size)
{
    if (r->count == r->capacity) {
        r->capacity = r->capacity == 0 ? 64 : 2 * r->capacity;
        r->entries = realloc(r->entries, r->capacity * sizeof *r->entries);
    }
    struct reference_entry *e = &r->entries[r->count];
    *e = (struct reference_entry){.cf = cf,
                                  .key = malloc(key.size + 1),
                                  .key_size = key.size,
                                  .trailer = trailer,
                                  .order = (uint32_t)r->count,
                                  .value_size = value_size};
    if (key.size > 0)
        memcpy(e->key, key.data, key.size);
    r->count++;
    insert_entry(e, mt);
}

void reference_repeat(const struct reference *r, struct memtable *mt, size_t first, size_t limit)
{
    for (size_t i = first; i < limit; i++)
        insert_entry(&r->entries[i], mt);
}

static void approach_entry(const struct reference_entry *e, struct memtable *mt,
                           struct memtable_way *way)
{
    memtable_approach(mt, e->cf, LSM_SLICE(e->key, e->key_size), hash_key(e->key, e->key_size),
                      way);
}

static void insert_entry_on(const struct reference_entry *e, struct memtable *mt,
                            struct memtable_way *way)
{
    uint8_t *value = malloc(e->value_size + 1);
    fill_value(e, value);
    memtable_insert_on(mt, way, e->trailer, LSM_SLICE(value, e->value_size));
    free(value);
}

void reference_repeat_ahead(const struct reference *r, struct memtable *mt,
                            struct random_state *random)
{
    struct memtable_way ways[REFERENCE_AHEAD];
    size_t approached = 0;
    for (size_t i = 0; i < r->count; i++) {
        size_t limit = i + 1 + random_below(random, REFERENCE_AHEAD);
        for (; approached < r->count && approached < limit; approached++)
            approach_entry(&r->entries[approached], mt, &ways[approached % REFERENCE_AHEAD]);
        insert_entry_on(&r->entries[i], mt, &ways[i % REFERENCE_AHEAD]);
    }
}

void reference_release(struct reference *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->entries[i].key);
    free(r->entries);
    *r = (struct reference){0};
}

/* ---- checks ---------------------------------------------------------------------------------- */

typedef const struct reference_entry *entry_ref;

static lsm_slice key_of(entry_ref e)
{
    return LSM_SLICE(e->key, e->key_size);
}

static int compare_refs(const void *a, const void *b)
{
    entry_ref x = *(const entry_ref *)a, y = *(const entry_ref *)b;
    if (x->cf != y->cf)
        return x->cf < y->cf ? -1 : 1;
    int order = slice_compare(key_of(x), key_of(y));
    if (order != 0)
        return order;
    uint64_t s = entry_sequence(x->trailer), t = entry_sequence(y->trailer);
    if (s != t)
        return s > t ? -1 : 1;
    return x->order > y->order ? -1 : 1;
}

/* What is shown, in order: of one key and sequence number only the last insert. */
static entry_ref *sort_shown(const struct reference *r, size_t count, size_t *shown_count)
{
    entry_ref *refs = malloc((count + 1) * sizeof(entry_ref));
    for (size_t i = 0; i < count; i++)
        refs[i] = &r->entries[i];
    qsort(refs, count, sizeof *refs, compare_refs);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        entry_ref e = refs[i];
        if (kept > 0 && refs[kept - 1]->cf == e->cf &&
            slice_equal(key_of(refs[kept - 1]), key_of(e)) &&
            entry_sequence(refs[kept - 1]->trailer) == entry_sequence(e->trailer))
            continue;
        refs[kept++] = e;
    }
    *shown_count = kept;
    return refs;
}

static void check_value(entry_ref e, lsm_slice value)
{
    ck_assert_uint_eq(value.size, e->value_size);
    const uint8_t *bytes = value.data;
    for (uint32_t i = 0; i < e->value_size; i++)
        if (bytes[i] != (uint8_t)(e->order * 31 + i))
            ck_abort_msg("value of insert %u differs at byte %u", e->order, i);
}

static void check_shown(const struct iter *it, entry_ref e)
{
    if (!it->valid || it->entry->trailer != e->trailer || !slice_equal(it->entry->key, key_of(e)))
        ck_abort_msg("the iterator is not at insert %u (valid %d, trailer %llu for %llu)", e->order,
                     it->valid, (unsigned long long)it->entry->trailer,
                     (unsigned long long)e->trailer);
    ck_assert_uint_eq(it->entry->head, bytes_head(e->key, e->key_size));
    check_value(e, it->entry->value);
}

/* NULL as the sequence number: all versions. */
static struct iter *iter_as_of(const struct memtable *mt, uint32_t cf, const uint64_t *sequence)
{
    struct iter *it = NULL;
    ck_assert_int_eq(sequence == NULL ? memtable_iter_new(mt, cf, &it, NULL)
                                      : memtable_scan_new(mt, cf, sequence, &it, NULL),
                     LSM_OK);
    return it;
}

static void check_walks(entry_ref *refs, size_t count, const struct memtable *mt,
                        const uint64_t *as_of)
{
    size_t first = 0;
    while (first < count) {
        size_t limit = first;
        while (limit < count && refs[limit]->cf == refs[first]->cf)
            limit++;
        struct iter *it = iter_as_of(mt, refs[first]->cf, as_of);
        it->ops->first(it);
        for (size_t i = first; i < limit; i++, iter_next(it))
            check_shown(it, refs[i]);
        ck_assert(!it->valid && it->status == LSM_OK);
        it->ops->last(it);
        for (size_t i = limit; i-- > first; iter_prev(it))
            check_shown(it, refs[i]);
        ck_assert(!it->valid && it->status == LSM_OK);
        iter_release(it);
        first = limit;
    }
}

/* The first index in [0, count) whose entry is not below (cf, key, trailer). */
static size_t lower_bound(entry_ref *refs, size_t count, uint32_t cf, lsm_slice key,
                          uint64_t trailer)
{
    size_t first = 0, limit = count;
    while (first < limit) {
        size_t middle = first + (limit - first) / 2;
        entry_ref e = refs[middle];
        bool below =
            e->cf != cf ? e->cf < cf : entry_compare(key_of(e), e->trailer, key, trailer) < 0;
        if (below)
            first = middle + 1;
        else
            limit = middle;
    }
    return first;
}

static void check_at(const struct iter *it, entry_ref *refs, size_t count, size_t at, uint32_t cf)
{
    if (at < count && refs[at]->cf == cf)
        check_shown(it, refs[at]);
    else
        ck_assert(!it->valid);
}

/* From a place on, some steps to and fro. */
static void check_wander(struct iter *it, entry_ref *refs, size_t count, size_t at, uint32_t cf,
                         struct random_state *random)
{
    for (unsigned steps = (unsigned)random_below(random, 12); it->valid && steps > 0; steps--) {
        if (random_below(random, 2) == 0) {
            iter_next(it);
            at++;
        } else {
            iter_prev(it);
            at--; /* wraps below the first: then nothing is there either */
        }
        check_at(it, refs, count, at, cf);
    }
}

static void check_seeks(entry_ref *refs, size_t count, const struct memtable *mt,
                        const uint64_t *as_of, struct random_state *random)
{
    static uint8_t key[KEY_BUFFER_SIZE];
    for (int round = 0; round < 150; round++) {
        entry_ref near = refs[random_below(random, count)];
        uint32_t cf = near->cf;
        size_t size = near->key_size;
        memcpy(key, near->key, size);
        uint64_t trailer = near->trailer;
        switch (random_below(random, 6)) {
        case 0:
            size = random_below(random, size + 1);
            break;
        case 1:
            if (size < KEY_BUFFER_SIZE)
                key[size++] = (uint8_t)random_next(random);
            break;
        case 2:
            if (size > 0)
                key[random_below(random, size)]++;
            break;
        case 3:
            trailer += random_below(random, 1000) - 500;
            break;
        case 4:
            cf += (uint32_t)random_below(random, 3) - 1;
            break;
        default:
            break;
        }
        struct iter *it = iter_as_of(mt, cf, as_of);
        size_t at = lower_bound(refs, count, cf, LSM_SLICE(key, size), trailer);
        for (uint64_t steps = random_below(random, 5); steps > 0; steps--)
            iter_approach(it, LSM_SLICE(key, size), trailer);
        if (random_below(random, 8) == 0)
            iter_rest(it);
        iter_seek(it, LSM_SLICE(key, size), trailer);
        check_at(it, refs, count, at, cf);
        check_wander(it, refs, count, at, cf, random);

        bool is_equal = at < count && refs[at]->cf == cf && refs[at]->trailer == trailer &&
                        slice_equal(key_of(refs[at]), LSM_SLICE(key, size));
        at = is_equal ? at : at - 1;
        it->ops->seek_for_prev(it, LSM_SLICE(key, size), trailer);
        check_at(it, refs, count, at, cf);
        check_wander(it, refs, count, at, cf, random);
        iter_release(it);
    }
}

/* Of sorted entries, those that are there as of a sequence number: the newest of each key. */
static size_t select_as_of(entry_ref *refs, size_t count, uint64_t sequence, entry_ref *selected)
{
    size_t selected_count = 0;
    for (size_t i = 0; i < count; i++) {
        entry_ref last = selected_count > 0 ? selected[selected_count - 1] : NULL;
        if (entry_sequence(refs[i]->trailer) > sequence ||
            (last != NULL && last->cf == refs[i]->cf && slice_equal(key_of(last), key_of(refs[i]))))
            continue;
        selected[selected_count++] = refs[i];
    }
    return selected_count;
}

/* Walks that show one version of a key: the newest of all, and those of some moments before. */
static void check_moments(entry_ref *refs, size_t count, const struct memtable *mt,
                          struct random_state *random)
{
    entry_ref *selected = malloc((count + 1) * sizeof *selected);
    ck_assert_ptr_nonnull(selected);
    for (int round = 0; round < 2 && count > 0; round++) {
        uint64_t sequence =
            round == 0 ? ENTRY_MAX_SEQUENCE
                       : entry_sequence(refs[random_below(random, count)]->trailer) - (round == 1);
        size_t selected_count = select_as_of(refs, count, sequence, selected);
        check_walks(selected, selected_count, mt, &sequence);
        if (selected_count > 0)
            check_seeks(selected, selected_count, mt, &sequence, random);
    }
    free(selected);
}

/* The structure without the index before it. */
static bool is_in_structure(const struct memtable *mt, uint32_t cf, lsm_slice key)
{
    struct target t = target_of(cf, key);
    return (mt->kind == MEMTABLE_BTREE ? btree_find(mt, &t) : skiplist_find(mt, &t)) != 0;
}

/* Every version by a get at its own sequence number, at the one before, and at the highest. */
static void check_gets(entry_ref *refs, size_t count, const struct memtable *mt)
{
    for (size_t i = 0; i < count; i++) {
        entry_ref e = refs[i];
        struct memtable_found found = {0};
        uint64_t hash = hash_key(e->key, e->key_size), sequence = entry_sequence(e->trailer);
        ck_assert(memtable_may_contain(mt, e->cf, hash));
        ck_assert(is_in_structure(mt, e->cf, key_of(e)));
        ck_assert(memtable_get(mt, e->cf, key_of(e), hash, sequence, &found));
        ck_assert_uint_eq(found.trailer, e->trailer);
        check_value(e, found.value);

        entry_ref older = i + 1 < count ? refs[i + 1] : NULL;
        bool is_same = older != NULL && older->cf == e->cf && slice_equal(key_of(older), key_of(e));
        bool was_there =
            sequence > 0 && memtable_get(mt, e->cf, key_of(e), hash, sequence - 1, &found);
        ck_assert_int_eq(was_there, is_same);
        if (is_same)
            ck_assert_uint_eq(found.trailer, older->trailer);

        bool is_newest =
            i == 0 || refs[i - 1]->cf != e->cf || !slice_equal(key_of(refs[i - 1]), key_of(e));
        if (is_newest) {
            ck_assert(memtable_get(mt, e->cf, key_of(e), hash, ENTRY_MAX_SEQUENCE, &found));
            ck_assert_uint_eq(found.trailer, e->trailer);
        }
    }
}

/* Keys that stand near each other, one in three with a byte more than was written, looked up
 * together, find what each finds alone. */
static void check_many_gets(entry_ref *refs, size_t count, const struct memtable *mt)
{
    enum { MANY = 70 };
    struct memtable_wanted wanted[MANY];
    static uint8_t longer[MANY][64];
    for (size_t first = 0, size; first < count; first += size) {
        uint32_t cf = refs[first]->cf;
        uint64_t sequence = entry_sequence(refs[first]->trailer);
        for (size = 0; size < MANY && first + size < count && refs[first + size]->cf == cf;
             size++) {
            lsm_slice key = key_of(refs[first + size]);
            if (size % 3 == 2 && key.size < sizeof longer[size]) {
                if (key.size > 0)
                    memcpy(longer[size], key.data, key.size);
                longer[size][key.size] = 0;
                key = LSM_SLICE(longer[size], key.size + 1);
            }
            wanted[size] = (struct memtable_wanted){
                .key = key, .hash = hash_key(key.data, key.size), .is_found = size % 11 == 10};
        }
        size_t found = 0;
        size_t told = memtable_get_many(mt, cf, sequence, wanted, size);
        for (size_t i = 0; i < size; i++) {
            const struct memtable_wanted *w = &wanted[i];
            struct memtable_found alone;
            if (i % 11 == 10) { /* had been found elsewhere */
                ck_assert_ptr_null(w->found.value.data);
                continue;
            }
            bool is_there = memtable_get(mt, cf, w->key, w->hash, sequence, &alone);
            ck_assert_int_eq(w->is_found, is_there);
            found += is_there;
            if (!is_there)
                continue;
            ck_assert_uint_eq(w->found.trailer, alone.trailer);
            ck_assert_ptr_eq(w->found.value.data, alone.value.data);
        }
        ck_assert_uint_eq(told, found);
    }
}

static bool is_key(entry_ref *refs, size_t count, uint32_t cf, lsm_slice key)
{
    size_t at = lower_bound(refs, count, cf, key, ENTRY_MAX_TRAILER);
    return at < count && refs[at]->cf == cf && slice_equal(key_of(refs[at]), key);
}

/* Neighbours of keys that are there; under the hash of one that is, too, which leads to that. */
static void check_absent(entry_ref *refs, size_t count, const struct memtable *mt,
                         struct random_state *random)
{
    static uint8_t key[KEY_BUFFER_SIZE];
    for (int round = 0; round < 150; round++) {
        entry_ref near = refs[random_below(random, count)];
        size_t size = near->key_size;
        memcpy(key, near->key, size);
        if (size > 0 && random_below(random, 2) == 0)
            key[size - 1] ^= (uint8_t)(1u << random_below(random, 8));
        else if (size < KEY_BUFFER_SIZE)
            key[size++] = 0;
        struct memtable_found found;
        lsm_slice wanted = LSM_SLICE(key, size);
        bool is_there = is_key(refs, count, near->cf, wanted);
        ck_assert_int_eq(is_in_structure(mt, near->cf, wanted), is_there);
        uint64_t hash = hash_key(key, size), other = hash_key(near->key, near->key_size);
        ck_assert_int_eq(memtable_get(mt, near->cf, wanted, hash, ENTRY_MAX_SEQUENCE, &found),
                         is_there);
        if (!is_there)
            ck_assert(!memtable_get(mt, near->cf, wanted, other, ENTRY_MAX_SEQUENCE, &found));
    }
}

static void check_families(entry_ref *refs, size_t count, const struct memtable *mt)
{
    uint32_t from = 0, cf = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && refs[i]->cf == refs[i - 1]->cf)
            continue;
        ck_assert(memtable_next_cf(mt, from, &cf));
        ck_assert_uint_eq(cf, refs[i]->cf);
        ck_assert(memtable_next_cf(mt, cf, &cf));
        ck_assert_uint_eq(cf, refs[i]->cf);
        if (cf == UINT32_MAX)
            return;
        from = cf + 1;
    }
    ck_assert(!memtable_next_cf(mt, from, &cf));
}

void reference_check(const struct reference *r, size_t count, const struct memtable *mt,
                     struct random_state *random)
{
    reference_check_quick(r, count, mt);
    size_t shown_count = 0;
    entry_ref *refs = sort_shown(r, count, &shown_count);
    if (shown_count > 0) {
        check_seeks(refs, shown_count, mt, NULL, random);
        check_moments(refs, shown_count, mt, random);
        check_absent(refs, shown_count, mt, random);
    }
    free(refs);
}

void reference_check_quick(const struct reference *r, size_t count, const struct memtable *mt)
{
    ck_assert_uint_eq(memtable_entry_count(mt), count);
    size_t shown_count = 0;
    entry_ref *refs = sort_shown(r, count, &shown_count);
    check_families(refs, shown_count, mt);
    check_walks(refs, shown_count, mt, NULL);
    check_gets(refs, shown_count, mt);
    check_many_gets(refs, shown_count, mt);
    free(refs);
}

static void skip_invisible(struct iter *it, void (*step)(struct iter *), uint64_t sequence)
{
    while (it->valid && entry_sequence(it->entry->trailer) > sequence)
        step(it);
}

void reference_check_visible(const struct reference *r, size_t count, const struct memtable *mt,
                             uint64_t sequence)
{
    size_t shown_count = 0;
    entry_ref *refs = sort_shown(r, count, &shown_count);
    struct iter *it = NULL;
    for (size_t i = 0; i < shown_count; i++) {
        entry_ref e = refs[i];
        if (i == 0 || refs[i - 1]->cf != e->cf) {
            iter_release(it);
            ck_assert_int_eq(memtable_iter_new(mt, e->cf, &it, NULL), LSM_OK);
            it->ops->first(it);
        }
        skip_invisible(it, iter_next, sequence);
        check_shown(it, e);
        iter_next(it);
        struct memtable_found found;
        uint64_t hash = hash_key(e->key, e->key_size);
        ck_assert(memtable_get(mt, e->cf, key_of(e), hash, entry_sequence(e->trailer), &found));
        ck_assert_uint_eq(found.trailer, e->trailer);
    }
    iter_release(it);
    it = NULL;
    for (size_t i = shown_count; i-- > 0;) {
        if (i + 1 == shown_count || refs[i + 1]->cf != refs[i]->cf) {
            iter_release(it);
            ck_assert_int_eq(memtable_iter_new(mt, refs[i]->cf, &it, NULL), LSM_OK);
            it->ops->last(it);
        }
        skip_invisible(it, iter_prev, sequence);
        check_shown(it, refs[i]);
        iter_prev(it);
    }
    iter_release(it);
    free(refs);
}
