/* headers.h on Linux. */
#ifndef PORTTRACE_HEADERS_LINUX_H
#define PORTTRACE_HEADERS_LINUX_H
#include <dirent.h>
#include <dlfcn.h>
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

#define O_SYMLINK 0            /* macOS: the link itself is opened */
#define PT_IS_TMPFILE(flags) (((flags) & O_TMPFILE) == O_TMPFILE)

int pivot_root(const char *path, const char *old);
#endif
