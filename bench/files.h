/* Files that a driver has to handle itself because its engine leaves that to the caller. */
#ifndef BENCH_FILES_H
#define BENCH_FILES_H

/* Makes a directory, which must not be there yet. Dies when it fails, as all of these do. */
void files_make_directory(const char *path);

/* Makes a durable copy of the file `name` of one directory in another. */
void files_copy(const char *from, const char *to, const char *name);

/* Makes a file that is there, or the names in a directory, durable. */
void files_sync(const char *path);

#endif
