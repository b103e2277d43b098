/* headers.h on Linux. */
#ifndef PORTTRACE_HEADERS_LINUX_H
#define PORTTRACE_HEADERS_LINUX_H
/* Of another type in musl than the table has. */
#define getdents pt_header_getdents
#define fanotify_mark pt_header_fanotify_mark
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/quota.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/swap.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>
#undef getdents
#undef fanotify_mark
#ifndef __GLIBC__
#include "headers_musl.h"
#endif

/* A wrapper's result of a system call that it has made itself. */
static inline int pt_outcome(long r)
{
	if (__builtin_expect(r >= 0, 1))
		return (int)r;
	errno = (int)-r;
	return -1;
}

#define O_SYMLINK 0            /* macOS: the link itself is opened */
#define PT_IS_TMPFILE(flags) (((flags) & O_TMPFILE) == O_TMPFILE)

int pivot_root(const char *path, const char *old);
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef FSPICK_SYMLINK_NOFOLLOW
#define FSPICK_SYMLINK_NOFOLLOW 0x00000002
int fspick(int dirfd, const char *path, unsigned flags);
#endif
#ifdef __GLIBC__
#define PT_SENDMMSG_FLAGS int
#else
#define PT_SENDMMSG_FLAGS unsigned
#endif
#endif
