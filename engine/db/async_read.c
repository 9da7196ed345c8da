/*
 * Reads of an asynchronous queue. A request looks into the memtables and into cached blocks as it
 * is submitted; each of its searches goes on from block to block as they arrive, and the last one
 * finishes the request.
 */
#include "engine/db/async_private.h"
#include "engine/db/read_account.h"

#include "engine/base/hash.h"
#include "engine/base/memory.h"

/* ---- answers --------------------------------------------------------------------------------- */

static void store(lsm_async *async, struct async_search *search, const struct hit *hit)
{
    struct async_request *request = search->request;
    if (request->kind == ASYNC_GET_INTO)
        *request->size = hit_copy(hit, request->buffer, request->capacity);
    else
        hit_pin(async->db, hit, &request->pins[search - request->searches]);
}

/* A value in a blob file is waited for. */
static lsm_status read_value(struct async_search *search, const struct db_state *state,
                             lsm_error *err)
{
    struct version_search *s = &search->search;
    if (!s->is_found || entry_type_of(s->found.trailer) != ENTRY_BLOB)
        return LSM_OK;
    return version_blob_get(state->version, s->key, s->hash, search->request->table_flags,
                            &s->found, err);
}

/* `state` is held, or borrowed inside this epoch. */
static void search_is_over(lsm_async *async, struct async_search *search,
                           const struct db_state *state)
{
    struct async_request *request = search->request;
    if (request->status != LSM_OK)
        return;
    lsm_error error;
    epoch_enter();
    lsm_status status = read_value(search, state, &error);
    if (status == LSM_OK) {
        struct hit hit;
        hit_from_table(&hit, search->search.is_found, &search->search.found);
        store(async, search, &hit);
        if (read_is_sampled(1))
            db_read_sample(state, &search->search.walk, hit_sequence(&hit));
        if (request->kind == ASYNC_GET_INTO)
            hit_let_go(&hit);
    } else {
        async_request_fail(request, status, &error);
    }
    epoch_exit();
}

/* One search less to wait for; the last one finishes the request. */
static void count_down(lsm_async *async, struct async_request *request)
{
    if (--request->waiting > 0)
        return;
    if (request->status != LSM_OK && request->kind == ASYNC_GET) {
        for (size_t i = 0; i < request->search_count; i++)
            lsm_pin_release(&request->pins[i]);
    }
    async_request_finish(async, request);
}

/* ---- searches -------------------------------------------------------------------------------- */

/* Until the search is over (true), or waits for a block. `state` is held, or borrowed inside this
 * epoch. */
static bool search_run(lsm_async *async, struct async_search *search, struct db_state *state)
{
    struct async_request *request = search->request;
    lsm_error error;
    bool wants_block;
    lsm_status status = version_search_advance(&search->search, &wants_block, &error);
    if (status == LSM_OK && wants_block) {
        status = async_fetch_want(async, search, state, &error);
        if (status == LSM_OK && request->state == NULL) {
            db_state_keep(state);
            request->state = state;
        }
        if (status == LSM_OK)
            return false;
    }
    if (status != LSM_OK)
        async_request_fail(request, status, &error);
    else
        search_is_over(async, search, state);
    return true;
}

void async_search_arrived(lsm_async *async, struct async_search *search, struct block *block,
                          lsm_status status, const lsm_error *error)
{
    struct async_request *request = search->request;
    if (status != LSM_OK)
        async_request_fail(request, status, error);
    else if (request->status == LSM_OK) {
        if (version_search_look(&search->search, block))
            search_is_over(async, search, request->state);
        else if (!search_run(async, search, request->state))
            return;
    }
    count_down(async, request);
}

void async_read_give_up(lsm_async *async, struct async_request *request)
{
    for (size_t i = 0; i < request->search_count; i++) {
        if (request->searches[i].fetch != NULL)
            async_fetch_forget(&request->searches[i]);
    }
    request->waiting = 1;
    count_down(async, request);
}

/* ---- submitting ------------------------------------------------------------------------------ */

/* Looks for key `i` as far as memory goes; false: it waits for a block. Inside an epoch. */
static bool begin_search(lsm_async *async, struct async_request *request, size_t i,
                         const struct reading *r, const struct version_cf *family)
{
    struct async_search *search = &request->searches[i];
    struct version_search *s = &search->search;
    struct hit hit;
    if (find_in_memtables(r, s->key, s->hash, &hit)) {
        store(async, search, &hit);
        return true;
    }
    s->max_sequence = r->sequence;
    version_search_begin(s, family);
    return search_run(async, search, r->state);
}

static lsm_status begin_searches(lsm_async *async, uint32_t cf, const lsm_read_options *options,
                                 struct async_request *request, lsm_error *err)
{
    epoch_enter();
    struct reading r = reading_begin(async->db, cf, options);
    const struct version_cf *family = version_find_cf(r.state->version, cf);
    if (family == NULL) {
        epoch_exit();
        return dropped_family(async->db, cf, err);
    }
    request->table_flags = r.table_flags;
    request->waiting = 1; /* so that it is not finished before all have begun */
    for (size_t i = 0; i < request->search_count; i++) {
        struct version_search *s = &request->searches[i].search;
        s->hash = hash_key(s->key.data, s->key.size);
        for (size_t m = 0; m < r.state->memtable_count; m++)
            memtable_prefetch(r.state->memtables[m]->table, cf, s->hash);
    }
    for (size_t i = 0; i < request->search_count; i++) {
        if (!begin_search(async, request, i, &r, family))
            request->waiting++;
    }
    async_fetches_push(async);
    count_down(async, request);
    epoch_exit();
    return LSM_OK;
}

/* Copies the keys behind the searches. */
static void take_keys(struct async_request *request, const lsm_slice *keys)
{
    uint8_t *to = (uint8_t *)&request->searches[request->search_count];
    for (size_t i = 0; i < request->search_count; i++) {
        struct async_search *search = &request->searches[i];
        search->request = request;
        search->fetch = NULL;
        if (keys[i].size > 0)
            memcpy(to, keys[i].data, keys[i].size);
        search->search.key = LSM_SLICE(to, keys[i].size);
        to += keys[i].size;
    }
}

static lsm_status check_keys(size_t count, const lsm_slice *keys, size_t *bytes, lsm_error *err)
{
    *bytes = 0;
    if (keys == NULL && count > 0)
        return lsm_fail(err, LSM_INVALID, "the array of keys is NULL");
    for (size_t i = 0; i < count; i++) {
        lsm_status status = db_check_key(keys[i], err);
        if (status != LSM_OK)
            return status;
        if (!mem_add(*bytes, keys[i].size, bytes))
            return lsm_fail_memory(err, SIZE_MAX);
    }
    return LSM_OK;
}

/* `what` has the kind and the places for results; it is copied. */
static lsm_status submit(lsm_async *async, lsm_cf *cf, size_t count, const lsm_slice *keys,
                         const lsm_read_options *options, const struct async_request *what,
                         lsm_error *err)
{
    uint32_t id;
    size_t key_bytes;
    lsm_status status = async_check(async, err);
    if (status == LSM_OK)
        status = check_read(async->db, cf, &id, err);
    if (status == LSM_OK)
        status = check_keys(count, keys, &key_bytes, err);
    struct async_request *request = NULL;
    if (status == LSM_OK)
        status = async_request_new(async, count, key_bytes, &request, err);
    if (status != LSM_OK)
        return status;
    request->kind = what->kind;
    request->user_data = what->user_data;
    request->pins = what->pins;
    request->buffer = what->buffer;
    request->capacity = what->capacity;
    request->size = what->size;
    take_keys(request, keys);
    for (size_t i = 0; request->kind == ASYNC_GET && i < count; i++)
        lsm_pin_release(&request->pins[i]);
    status = begin_searches(async, id, options, request, err);
    if (status != LSM_OK)
        async_request_forget(async, request);
    else
        async_tell(async);
    return status;
}

LSM_API lsm_status lsm_async_multi_get(lsm_async *async, lsm_cf *cf, size_t count,
                                       const lsm_slice *keys, const lsm_read_options *options,
                                       lsm_pin *pins, void *user_data, lsm_error *err)
{
    struct async_request what = {.kind = ASYNC_GET, .user_data = user_data, .pins = pins};
    if (pins == NULL && count > 0)
        return lsm_fail(err, LSM_INVALID, "the place for the values is NULL");
    return submit(async, cf, count, keys, options, &what, err);
}

LSM_API lsm_status lsm_async_get(lsm_async *async, lsm_cf *cf, lsm_slice key,
                                 const lsm_read_options *options, lsm_pin *pin, void *user_data,
                                 lsm_error *err)
{
    return lsm_async_multi_get(async, cf, 1, &key, options, pin, user_data, err);
}

LSM_API lsm_status lsm_async_get_into(lsm_async *async, lsm_cf *cf, lsm_slice key,
                                      const lsm_read_options *options, void *buffer,
                                      size_t capacity, size_t *size, void *user_data,
                                      lsm_error *err)
{
    struct async_request what = {.kind = ASYNC_GET_INTO,
                                 .user_data = user_data,
                                 .buffer = buffer,
                                 .capacity = capacity,
                                 .size = size};
    if (size == NULL || (buffer == NULL && capacity > 0))
        return lsm_fail(err, LSM_INVALID, "the place for the value or for its size is NULL");
    return submit(async, cf, 1, &key, options, &what, err);
}
