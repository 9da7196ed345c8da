/* What the files of the attachment share. */
#ifndef ENGINE_SHM_ATTACH_PRIVATE_H
#define ENGINE_SHM_ATTACH_PRIVATE_H

#include "engine/shm/attach.h"
#include "engine/shm/attach_page.h"

struct shm_attachment {
    struct shm_attach_options options;
    struct io_process process;
    struct io_file *file;         /* LOCK; owned, like all below */
    struct io_identity lock_file; /* its identity */
    struct io_lock *attach;       /* A */
    struct io_lock *presence;     /* B */
    bool alone;                   /* B is exclusive */
    struct io_lock *slot_lock;    /* S(slot); NULL: no slot */
    struct shm_segment *segment;
    uint32_t slot;
    uint32_t generation;
    struct attach_page page; /* as written last, or found when joining */
    struct shm_last_words last_words;
};

/* Takes a slot of the mapped segment (A held). */
lsm_status attach_take_slot(struct shm_attachment *a, lsm_error *err);
/* Empties the own slot and gives it back; its lock stays. */
void attach_free_slot(struct shm_attachment *a);
/* Whether any slot but the own one has a living owner. */
bool attach_others_live(const struct shm_attachment *a);
/* A slot with a living owner, or NULL. */
const struct shm_slot *attach_living_slot(struct shm_segment *segment, struct io_file *file);

/* The page of an open LOCK file: LSM_CORRUPT, LSM_NEWER_FORMAT or what reading it failed with. */
lsm_status attach_read_page(struct io_file *file, struct attach_page *page, lsm_error *err);
/* Can the population of `page` be understood from here: the same machine, namespace and build? */
lsm_status attach_check_page(const struct shm_attachment *a, lsm_error *err);
/* Is the mapped segment the one of `page`, and of this LOCK file? */
lsm_status attach_check_segment(const struct shm_attachment *a, lsm_error *err);
/* Checks that this process may enter the population of `page`, maps its segment, takes a slot. */
lsm_status attach_join(struct shm_attachment *a, lsm_error *err);
/* Fills in a->last_words from what the page names, if that can be believed. a->page is used up. */
void attach_take_last_words(struct shm_attachment *a, const struct attach_page *before);
/* LSM_BUSY, naming a process that has the database of the LOCK file open. */
lsm_status attach_busy(struct io *io, struct io_file *file, const char *path, bool is_settled,
                       lsm_error *err);

#endif
