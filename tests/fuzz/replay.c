/*
 * Runs a fuzz target without libFuzzer, so that `make check` keeps all of them sound: first the
 * inputs that once found a fault, tests/seeds/TARGET/, then some random ones.
 *
 *     TARGET [--seed N] [--runs N] [FILE ...]
 */
#include "engine/base/random.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX    ((size_t)4096)
#define DEFAULT_RUNS 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_file(const char *path)
{
    uint8_t bytes[INPUT_MAX];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(99);
    }
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    printf("%s\n", path);
    fflush(stdout);
    (void)LLVMFuzzerTestOneInput(bytes, size);
}

static void run_seeds(const char *program)
{
    const char *source = getenv("srcdir"), *name = strrchr(program, '/');
    char folder[1024], path[1400];
    snprintf(folder, sizeof folder, "%s/tests/seeds/%s", source == NULL ? "." : source,
             name == NULL ? program : name + 1);
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return; /* it never found any */
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        run_file(path);
    }
    closedir(dir);
}

/* Most of them small, and half of the bytes those that formats are fond of. */
static void run_random(struct random_state *random)
{
    static const char liked[] = {0, 1, 2, '\n', ' ', '=', '"', '\\', '{', '\x7f', '\x80', '\xff'};
    uint8_t bytes[INPUT_MAX];
    size_t size = (size_t)random_below(random, 2 + random_below(random, INPUT_MAX - 1));
    size = random_below(random, 4) == 0 ? size : size % 40;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(random_below(random, 2) == 0
                                 ? random_below(random, 256)
                                 : (uint8_t)liked[random_below(random, sizeof liked)]);
    (void)LLVMFuzzerTestOneInput(bytes, size);
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, runs = DEFAULT_RUNS;
    int next = 1;
    for (; next + 1 < argc && strncmp(argv[next], "--", 2) == 0; next += 2)
        *(strcmp(argv[next], "--seed") == 0 ? &seed : &runs) = strtoull(argv[next + 1], NULL, 0);
    for (int i = next; i < argc; i++)
        run_file(argv[i]);
    if (next < argc)
        return 0;
    run_seeds(argv[0]);
    struct random_state random = random_seeded(seed);
    for (uint64_t i = 0; i < runs; i++)
        run_random(&random);
    printf("%" PRIu64 " random inputs, seed %" PRIu64 "\n", runs, seed);
    return 0;
}
