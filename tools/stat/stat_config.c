/* A file of options: one `name=value` a line, or several with commas; '#' begins a comment. */
#include "tools/stat/stat.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Without the comment, blanks around it, and a comma at its end. */
static char *trimmed(char *line)
{
    line[strcspn(line, "#\r\n")] = '\0';
    line += strspn(line, " \t");
    size_t size = strlen(line);
    while (size > 0 && strchr(" \t,", line[size - 1]) != NULL)
        line[--size] = '\0';
    return line;
}

int stat_check_config(struct cli *cli, const char *path)
{
    lsm_options options = LSM_OPTIONS_INIT;
    char *line = NULL;
    size_t capacity = 0, number = 0, settings = 0;
    ssize_t size;
    int code = EXIT_DONE;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return cli_error(cli, EXIT_OPERATION, "LSM_IO", "cannot read '%s': %s", path,
                         strerror(errno));
    while ((size = getline(&line, &capacity, file)) >= 0) {
        lsm_error err = {0};
        number++;
        if (strlen(line) != (size_t)size) {
            code |= cli_error(cli, EXIT_OPERATION, "INPUT", "%s:%zu: a NUL byte", path, number);
            continue;
        }
        const char *text = trimmed(line);
        if (text[0] == '\0')
            continue;
        settings++;
        if (lsm_options_parse(&options, text, &err) != LSM_OK)
            code |=
                cli_error(cli, EXIT_OPERATION, "INPUT", "%s:%zu: %s", path, number, err.message);
    }
    if (ferror(file))
        code |=
            cli_error(cli, EXIT_OPERATION, "LSM_IO", "cannot read '%s': %s", path, strerror(errno));
    free(line);
    (void)fclose(file);
    if (code == EXIT_DONE && !cli->quiet && !cli->json)
        printf("%s: %zu lines of options, all good\n", path, settings);
    return code;
}
