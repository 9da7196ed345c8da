/*
 * What would become of a directory: an environment over another one, in which all that is written,
 * made, renamed and removed is only remembered. What is there below reads as it is, and nothing
 * below is ever changed. For looking at the outcome of work before it is done.
 */
#ifndef ENGINE_IO_DRAFT_H
#define ENGINE_IO_DRAFT_H

#include "engine/io/io.h"

/*
 * `below` is borrowed until io_close(), which forgets everything. What is written is held in
 * memory, `most` bytes at most: beyond them writes fail with LSM_NO_SPACE. Existing files of
 * `below` are read only (LSM_READ_ONLY), no directories are made, and there are no mappings and
 * locks; whether others hold a lock is told. One thread.
 */
lsm_status draft_open(struct io *below, size_t most, struct io **io, lsm_error *err);

#endif
