/* headers_linux.h where the C library is musl: what its headers do not have, or have in another shape. */
#ifndef PORTTRACE_HEADERS_MUSL_H
#define PORTTRACE_HEADERS_MUSL_H
/* The names of large files are macros there; ours are functions. */
#undef getdents64
#include <sys/stat.h>
#include <sys/types.h>

#ifndef STATX_TYPE              /* since 1.2.5 it has statx */
#include <linux/stat.h>
int statx(int dirfd, const char *restrict path, int flags, unsigned mask, struct statx *restrict stx);
#endif

struct mount_attr;
struct file_handle;
ssize_t getdents64(int fd, void *buf, size_t size);
int renameat2(int olddir, const char *old, int dirfd, const char *path, unsigned flags);
int execveat(int dirfd, const char *path, char *const argv[], char *const envp[], int flags);
int close_range(unsigned first, unsigned last, int flags);
void closefrom(int first);
int pkey_mprotect(void *at, size_t size, int protection, int key);

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif
#ifndef FTW_ACTIONRETVAL
#define FTW_ACTIONRETVAL 0      /* no flag of its nftw */
#define FTW_STOP 1
#define FTW_SKIP_SUBTREE 2
#define FTW_SKIP_SIBLINGS 3
#endif
typedef int (*__ftw_func_t)(const char *, const struct stat *, int);
struct FTW;
typedef int (*__nftw_func_t)(const char *, const struct stat *, int, struct FTW *);
#endif
