#!/bin/sh
# The heap is entered through engine/base/memory.h only, the file system through engine/io only.
cd "$top_srcdir" || exit 99
heap='malloc|calloc|realloc|reallocarray|free|strdup|strndup|asprintf|vasprintf|aligned_alloc'
heap="$heap|posix_memalign"
files='open|openat|creat|fopen|read|pread|preadv|write|pwrite|pwritev|fsync|fdatasync|rename|renameat'
files="$files|unlink|unlinkat|mkdir|rmdir|opendir|stat|fstat|ftruncate|fallocate|mmap|munmap|flock"
files="$files|fcntl|ioctl|io_uring_[a-z_]*|linkat|renameat2|copy_file_range"
failed=0

# calls NAMES FILE...: lines that call one of NAMES, comments and strings aside.
calls() {
    names=$1
    shift
    for file; do
        sed -E 's,/\*[^*]*\*/,,g; s,/[/*].*,,; /^ *\* /d; /^ *\*$/d; s,"[^"]*",,g' "$file" |
            grep -nE "(^|[^A-Za-z0-9_.>])($names) *\(" | sed "s,^,$file:,"
    done
}
report() {
    [ -z "$2" ] || { printf '%s:\n%s\n' "$1" "$2"; failed=1; }
}

set -- engine/*/*.[ch]
report 'heap calls outside engine/base' \
    "$(calls "$heap" "$@" | grep -v '^engine/base/')"
report 'file system calls outside engine/io' \
    "$(calls "$files" "$@" | grep -v '^engine/io/' |
        grep -vE '^engine/base/(memory|pages).c:[0-9]+:.*(MAP_ANONYMOUS|munmap)')" # pages for large buffers
report 'raw system calls outside engine/io and engine/shm' \
    "$(calls syscall "$@" | grep -vE '^engine/(io|shm)/')"
exit $failed
