/*
 * Enters the sandbox as a tool does and then tries what is asked: `sandboxed r|w DIR ATTEMPT...`
 * with attempts "read:PATH", "write:PATH", "make:PATH", "remove:PATH", "run:PATH", "connect:PORT"
 * (TCP, on this machine), "signal:PID"; before DIR may stand "in=PATH", "out=PATH", "into=PATH" and
 * "shm=PATH". Each attempt is answered with a line "ATTEMPT ok" or "ATTEMPT <error>".
 */
#include "tools/cli/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_PATHS 8

static int opens(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static int runs(const char *path)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        execl(path, path, (char *)NULL);
        _exit(errno);
    }
    return child < 0 || waitpid(child, &status, 0) < 0 ? errno : WEXITSTATUS(status);
}

static int connects(const char *port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int number = fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return number;
}

static int attempt(const char *what)
{
    const char *path = strchr(what, ':');
    path = path == NULL ? "" : path + 1;
    switch (what[0]) {
    case 'r':
        if (what[2] == 'n')
            return runs(path);
        if (what[2] == 'm')
            return unlink(path) == 0 ? 0 : errno;
        return opens(path, O_RDONLY);
    case 'w':
        return opens(path, O_WRONLY);
    case 'm':
        return opens(path, O_WRONLY | O_CREAT | O_EXCL);
    case 'c':
        return connects(path);
    case 's':
        return kill((pid_t)atoi(path), 0) == 0 ? 0 : errno;
    default:
        return EINVAL;
    }
}

struct attempts {
    char **what;
};

/* On a thread of its own: those that are made after entering are bound, too. */
static void *try_all(void *argument)
{
    const struct attempts *a = argument;
    for (char **what = a->what; *what != NULL; what++) {
        int number = attempt(*what);
        printf("%s %s\n", *what, number == 0 ? "ok" : strerror(number));
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct cli cli;
    pthread_t thread;
    const char *in[MOST_PATHS + 1] = {0}, *out[MOST_PATHS + 1] = {0}, *into[MOST_PATHS + 1] = {0};
    size_t in_count = 0, out_count = 0, into_count = 0;
    int next = 2;
    cli_init(&cli, "sandboxed", "");
    cli.verbosity = 1;
    for (; next < argc && strchr(argv[next], '=') != NULL && next < MOST_PATHS; next++) {
        const char *path = strchr(argv[next], '=') + 1;
        if (argv[next][0] == 's')
            cli.options.shm_dir = path;
        else if (strncmp(argv[next], "into", 4) == 0)
            into[into_count++] = path;
        else if (argv[next][0] == 'o')
            out[out_count++] = path;
        else
            in[in_count++] = path;
    }
    if (next >= argc)
        return 99;
    cli.directory = argv[next++];
    sandbox_enter(&cli, &(struct sandbox_wish){.writes_database = argv[1][0] == 'w',
                                               .creates_database = argv[1][0] == 'w',
                                               .read = in,
                                               .write_files = out,
                                               .write_directories = into});
    struct attempts attempts = {argv + next};
    if (pthread_create(&thread, NULL, try_all, &attempts) != 0)
        return 99;
    pthread_join(thread, NULL);
    cli_release(&cli);
    return 0;
}
