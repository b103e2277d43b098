/*
 * Directories whose own absolute path is longer than the kernel tells (4,095 bytes), and paths longer than it takes.
 * They are made by mkdir and chdir alone (configure scripts try it), and from down there "../…" leads anywhere: what
 * lies there has to be judged like everything else. Without libc: the injected library and the supervisor use it.
 */
#ifndef PORTTRACE_LONGPATH_LINUX_H
#define PORTTRACE_LONGPATH_LINUX_H

#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

/* The path of a directory with the number and device in `st`, where the caller has it: its length, else 0. */
typedef ssize_t pt_long_known(void *user, const struct stat *st, char *buf, size_t size);

/*
 * The absolute path of a directory (AT_FDCWD: the working one), found by walking up: each step looks for the directory
 * in the one above, until the kernel tells its path, or `known` (may be NULL) does. Its length; -ERANGE where `size` bytes are too few; -EACCES where a directory on the way cannot be read,
 * or has no such entry (the directory was removed); or another -errno.
 */
ssize_t pt_long_name(int dir, char *buf, size_t size, pt_long_known *, void *user);

/*
 * A descriptor from which the rest of a longer path can be used: *path is moved on to that rest. AT_FDCWD and *path as
 * it was where it is short; -errno. `path` is free of links, and one that appears on the way is -ELOOP. To be closed with pt_long_close.
 */
int pt_long_dir(const char **path);
void pt_long_close(int dir);

/*
 * readlink(2) of a path without links for which the kernel said ENAMETOOLONG: a longer path than it takes, or a link of
 * /proc that leads to a directory further down than it tells. -ENAMETOOLONG where it stays at that.
 */
ssize_t pt_long_readlink(const char *path, char *buf, size_t size);

#endif
