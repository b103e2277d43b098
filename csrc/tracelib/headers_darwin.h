/* headers.h on macOS. */
#ifndef PORTTRACE_HEADERS_DARWIN_H
#define PORTTRACE_HEADERS_DARWIN_H
#include <copyfile.h>
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/attr.h>
#include <sys/clonefile.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* Linux's, which no flag of a program can hold here. */
#define AT_EMPTY_PATH 0
#define O_PATH 0
#define O_TMPFILE 0
#define PT_IS_TMPFILE(flags) false

#ifndef O_NOFOLLOW_ANY
#define O_NOFOLLOW_ANY 0x20000000
#endif
#ifndef XATTR_NOFOLLOW
#define XATTR_NOFOLLOW 1
#endif
#ifndef RENAME_SWAP
#define RENAME_SWAP 2
#endif
#ifndef CLONE_NOFOLLOW
#define CLONE_NOFOLLOW 1
#endif

#include "reals.h"
#endif
