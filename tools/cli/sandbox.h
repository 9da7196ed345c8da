/*
 * Tools that read foreign bytes lock themselves in first: once they know their paths, and before
 * they look at a byte of a file, they give up all else. What a damaged or forged file talks them
 * into is then limited to the database they were pointed at.
 *
 *     take_options(&tool, argc, argv);          // cli_parsed() is called in there
 *     sandbox_enter(&tool.cli, &(struct sandbox_wish){.writes_database = true});
 *     ... lsm_open() ...
 *
 * It must come before the first thread is made (lsm_open() makes some), for it binds the calling
 * thread and those that it makes later. Descriptors that are open stay as they are.
 *
 * What is left afterwards:
 *   - the database's directory: reading, and its LOCK file; writing with writes_database,
 *   - /dev/shm, or shm_dir of --options, and the segment of those who have the database open,
 *   - what the wish names,
 *   - reading /proc and /sys/devices/system/cpu,
 * but no other file, no new program, no TCP, no signal to another process, no new privileges.
 *
 * On a kernel without Landlock, or with LSM_SANDBOX=off in the environment, it does nothing; -v
 * says what was done either way. It never fails: a tool that repairs has to work without it, too.
 */
#ifndef TOOLS_CLI_SANDBOX_H
#define TOOLS_CLI_SANDBOX_H

#include "tools/cli/cli.h"

struct sandbox_wish {
    bool writes_database;  /* files may be made, changed and removed in the database's directory */
    bool creates_database; /* its directory is made when it is missing; empty it may be removed */
    bool has_no_database;  /* cli->directory means nothing */
    const char *const *read; /* files and directories to read; NULL-terminated, NULL: none */
    /* Files that are made or replaced: what is in the directories they are in can be changed. What
     * is there and no regular file (a pipe, /dev/null) is opened for writing alone. */
    const char *const *write_files;
    const char *const *write_directories; /* all in them can be changed; they exist */
};

void sandbox_enter(struct cli *cli, const struct sandbox_wish *wish);

#endif
