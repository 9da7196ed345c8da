/*
 * What the population before said last. All of it died, or left with the database half closed; its
 * segment is still where its page says, as it was when the last of them died.
 */
#include "engine/shm/attach_private.h"

#include <string.h>

/* Nothing is believed of a population that was opening, closing, of another machine or life of it,
 * or of another build; nor of one that could not write any more, or had not got rid of what such a
 * one had left. */
static bool is_believable(struct shm_attachment *a, lsm_error *why)
{
    const struct attach_page *page = &a->page;
    if (!page->ready || page->process.boot_id[0] == '\0' || attach_check_page(a, why) != LSM_OK ||
        shm_segment_look(a->options.io, page->directory, page->segment_name, page->segment,
                         &a->segment, why) != LSM_OK)
        return false;
    struct shm_layout *l = shm_layout(a->segment);
    return attach_check_segment(a, why) == LSM_OK &&
           atomic_load_explicit(&l->ctl.ready, memory_order_acquire) == 1 &&
           atomic_load_explicit(&l->ctl.poisoned, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&l->ctl.log_is_doubtful, memory_order_relaxed) == 0;
}

void attach_take_last_words(struct shm_attachment *a, const struct attach_page *before)
{
    struct shm_last_words *words = &a->last_words;
    lsm_error why = {0};
    a->page = *before;
    if (is_believable(a, &why)) {
        const struct shm_commit *c = &shm_layout(a->segment)->commit;
        memcpy(words->log_nonce, c->log.nonce, sizeof words->log_nonce);
        words->durable = atomic_load_explicit(&c->durable, memory_order_relaxed);
        words->is_known = true;
    }
    shm_segment_close(a->segment);
    a->segment = NULL;
}

struct shm_last_words shm_attachment_last_words(const struct shm_attachment *attachment)
{
    return attachment->last_words;
}
