/*
 * Going on with a load that was interrupted. With --resume a family of its own holds one pair, the
 * marker: how many pairs of the input have been written, and a hash of them. It is written together
 * with them, in the same batch or ingest, so it is never ahead nor behind: no pair is loaded twice.
 * The input is read again from its beginning; pairs up to the mark are passed over, and their hash
 * tells whether it is the same input.
 */
#include "tools/load/load.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

const char load_resume_key[] = "marker";

#define MARKER_FORMAT "pairs=%" PRIu64 " hash=%" PRIx64 " options=%" PRIx64

static uint64_t hash_text(const char *text, uint64_t seed)
{
    return text == NULL ? XXH3_64bits_withSeed("", 0, seed ^ 1)
                        : XXH3_64bits_withSeed(text, strlen(text), seed);
}

/* Of the options that say where pairs go. */
static uint64_t options_hash(const struct loader *l)
{
    uint64_t hash = (uint64_t)l->keeps << 1 | (uint64_t)l->is_text;
    for (size_t i = 0; i < l->rename_count; i++)
        hash = hash_text(l->renames[i].to, hash_text(l->renames[i].from, hash));
    for (size_t i = 0; i < l->cli.family_count; i++)
        hash = hash_text(l->cli.families[i], hash + 1);
    return hash;
}

static int read_marker(struct loader *l)
{
    lsm_error err = {0};
    char text[97] = "";
    size_t size = 0;
    uint64_t options = 0;
    if (lsm_get_into(l->db, l->marker, LSM_SLICE(load_resume_key, strlen(load_resume_key)), NULL,
                     text, sizeof text - 1, &size, &err) != LSM_OK)
        return cli_library_error(&l->cli, "--resume", &err);
    if (size == LSM_ABSENT)
        return EXIT_DONE; /* it died before it wrote anything */
    if (size >= sizeof text || sscanf(text, "pairs=%" SCNu64 " hash=%" SCNx64 " options=%" SCNx64,
                                      &l->resume_pairs, &l->resume_hash, &options) != 3)
        return cli_error(&l->cli, EXIT_DAMAGE, "LSM_CORRUPT",
                         "the marker in column family '%s' is none of lsm-load's",
                         LOAD_MARKER_FAMILY);
    if (options != options_hash(l))
        return cli_error(&l->cli, EXIT_OPERATION, "LSM_INVALID",
                         "the load that was interrupted had other options of -T, -n, -s and --cf");
    cli_note(&l->cli, "%" PRIu64 " pairs were loaded before", l->resume_pairs);
    return EXIT_DONE;
}

int load_resume_begin(struct loader *l)
{
    lsm_error err = {0};
    lsm_cf *marker = NULL;
    lsm_status status =
        l->db == NULL ? LSM_MISSING : lsm_cf_open(l->db, LOAD_MARKER_FAMILY, &marker, &err);
    if (status == LSM_OK && !l->resumes) {
        cli_warn(&l->cli, "a load with --resume was interrupted here; --resume goes on with it");
        return EXIT_DONE;
    }
    if (!l->resumes || l->way == LOAD_DRY)
        return EXIT_DONE;
    if (status == LSM_OK) {
        l->marker = marker;
        return read_marker(l);
    }
    if (status == LSM_MISSING)
        status = lsm_cf_create(l->db, LOAD_MARKER_FAMILY, NULL, &l->marker, &err);
    return status == LSM_OK ? EXIT_DONE : cli_library_error(&l->cli, "--resume", &err);
}

int load_resume_pass(struct loader *l, lsm_slice key, lsm_slice value, bool *is_over)
{
    *is_over = false;
    if (l->marker == NULL)
        return EXIT_DONE;
    uint64_t seed = XXH3_64bits_withSeed(key.data, key.size, l->read_hash);
    l->read_hash = XXH3_64bits_withSeed(value.data, value.size, seed);
    l->read_pairs++;
    *is_over = l->read_pairs <= l->resume_pairs;
    l->resumed_pairs += *is_over;
    if (l->read_pairs == l->resume_pairs && l->read_hash != l->resume_hash)
        return cli_error(&l->cli, EXIT_OPERATION, "INPUT",
                         "line %" PRIu64 ": up to here the input is not the one that was being "
                         "loaded; nothing was changed",
                         l->reader.pair_line);
    return EXIT_DONE;
}

int load_resume_check_end(struct loader *l)
{
    if (l->marker == NULL || l->read_pairs >= l->resume_pairs)
        return EXIT_DONE;
    return cli_error(&l->cli, EXIT_OPERATION, "INPUT",
                     "the input has %" PRIu64 " pairs, but %" PRIu64
                     " were loaded before: it is another one; nothing was changed",
                     l->read_pairs, l->resume_pairs);
}

lsm_slice load_resume_mark(struct loader *l, char text[96])
{
    int size = snprintf(text, 96, MARKER_FORMAT, l->read_pairs, l->read_hash, options_hash(l));
    return LSM_SLICE(text, (size_t)size);
}

int load_resume_end(struct loader *l)
{
    lsm_error err = {0};
    if (l->marker == NULL || lsm_cf_drop(l->db, l->marker, &err) == LSM_OK)
        return EXIT_DONE;
    return cli_library_error(&l->cli, "dropping the marker of --resume", &err);
}
