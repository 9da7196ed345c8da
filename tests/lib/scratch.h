/* Directories for one test, made empty and removed with all they hold. */
#ifndef TESTS_LIB_SCRATCH_H
#define TESTS_LIB_SCRATCH_H

#define SCRATCH_PATH_SIZE 200

/* Makes a fresh directory under $TMPDIR or /tmp and writes its path; ends the program (99) when
 * that fails. Returns path. */
const char *scratch_make(char path[SCRATCH_PATH_SIZE]);
void scratch_remove(const char *path);

#endif
