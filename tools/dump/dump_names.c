/* The column families: their names, or a digest of what each holds. */
#include "tools/dump/dump.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int add_to_digest(struct dumper *d, lsm_slice key, lsm_slice value)
{
    digest_add(&d->digest, key, value);
    return EXIT_DONE;
}

/* The line of a family, or its object in `families`. */
static void describe_family(struct dumper *d, const char *name, struct json_object *families)
{
    struct text line = {0};
    if (families == NULL) {
        if (d->work == DUMP_DIGESTS)
            text_append_format(&line, "%016" PRIx64 "  %" PRIu64 "  ", digest_value(&d->digest),
                               d->digest.pair_count);
        text_append_print(&line, LSM_SLICE(name, strlen(name)));
        puts(text_string(&line));
        text_release(&line);
        return;
    }
    struct json_object *family = json_object_new_object();
    json_add_text(family, "name", name);
    if (d->work == DUMP_DIGESTS) {
        text_append_format(&line, "%016" PRIx64, digest_value(&d->digest));
        json_add_text(family, "xxh3", text_string(&line));
        json_add_u64(family, "count", d->digest.pair_count);
        json_add_u64(family, "bytes", d->digest.byte_count);
    }
    json_object_array_add(families, family);
    text_release(&line);
}

int dump_describe_families(struct dumper *d, struct json_object *families)
{
    for (size_t i = 0; i < d->name_count; i++) {
        if (!cli_wants_family(&d->cli, d->names[i]))
            continue;
        if (d->work == DUMP_DIGESTS) {
            digest_begin(&d->digest);
            int code = d->walk(d, d->names[i], add_to_digest);
            if (code != EXIT_DONE)
                return code;
        }
        describe_family(d, d->names[i], families);
    }
    if (fflush(stdout) != 0)
        return cli_error(&d->cli, EXIT_OPERATION, "LSM_IO", "cannot write to stdout");
    return EXIT_DONE;
}
