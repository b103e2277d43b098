/* sys.h on Linux: system calls without libc. What the platform-neutral half calls is at the end. */
#ifndef PORTTRACE_SYS_LINUX_H
#define PORTTRACE_SYS_LINUX_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>

#if defined(__GLIBC__) && __has_attribute(noplt)
/* Bound at the start: nearly every program sees an error once, and often first in a child, which would pay for the search. */
extern int *__errno_location(void) __attribute__((noplt));
#endif

#include "../longpath_linux.h"
#include "../sysraw.h"

#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif

#define PT_SYS0(n) pt_raw0(n)
#define PT_SYS1(n, a) pt_raw1(n, a)
#define PT_SYS2(n, a, b) pt_raw2(n, a, b)
#define PT_SYS3(n, a, b, c) pt_raw3(n, a, b, c)
#define PT_SYS4(n, a, b, c, d) pt_raw4(n, a, b, c, d)
#define PT_SYS5(n, a, b, c, d, e) pt_raw5(n, a, b, c, d, e)
#define PT_SYS6(n, a, b, c, d, e, f) pt_raw6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* Of a path that is absolute and free of links, however long. */
static inline ssize_t sys_readlink(const char *path, char *buf, size_t size)
{
	ssize_t n = PT_SYS4(SYS_readlinkat, AT_FDCWD, path, buf, size);
	return __builtin_expect(n == -ENAMETOOLONG, 0) ? pt_long_readlink(path, buf, size) : n;
}

static inline ssize_t sys_readlinkat(int dirfd, const char *path, char *buf, size_t size)
{
	return PT_SYS4(SYS_readlinkat, dirfd, path, buf, size);
}

/* struct stat of the C library is the kernel's on the 64-bit machines we know. */
static inline int sys_fstatat(int fd, const char *path, struct stat *st, int flags)
{
	return (int)PT_SYS4(SYS_newfstatat, fd, path, st, flags);
}

int sys_long_lstat(const char *path, struct stat *st);
int sys_long_open(const char *path, int flags);

/* These two likewise. */
static inline int sys_lstat(const char *path, struct stat *st)
{
	int error = sys_fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
	return __builtin_expect(error == -ENAMETOOLONG, 0) ? sys_long_lstat(path, st) : error;
}

static inline int sys_open(const char *path, int flags)
{
	int fd = (int)PT_SYS4(SYS_openat, AT_FDCWD, path, flags, 0);
	return __builtin_expect(fd == -ENAMETOOLONG, 0) ? sys_long_open(path, flags) : fd;
}

static inline void sys_close(int fd)
{
	PT_SYS1(SYS_close, fd);
}

/* Are the calls of this process filtered (seccomp)? */
static inline bool sys_filtered(void)
{
	return PT_SYS5(SYS_prctl, 21 /* PR_GET_SECCOMP, whose header some files cannot have */, 0, 0, 0, 0) == 2;
}

/* Room on the disk for a part of a sparse file. 0 or -errno. */
static inline int sys_give_room(int fd, uint64_t from, uint64_t size)
{
	return (int)PT_SYS4(SYS_fallocate, fd, 0, from, size);
}

static inline pid_t sys_getpid(void)
{
	return (pid_t)PT_SYS0(SYS_getpid);
}

static inline pid_t sys_getppid(void)
{
	return (pid_t)PT_SYS0(SYS_getppid);
}

#define PT_O_NAME O_PATH        /* a descriptor for a name, not for what is in the file */

static inline int sys_fstat(int fd, struct stat *st)
{
	return sys_fstatat(fd, "", st, AT_EMPTY_PATH);
}

static inline int sys_chdir(const char *path)
{
	return (int)PT_SYS1(SYS_chdir, path);
}

static inline int sys_fchdir(int fd)
{
	return (int)PT_SYS1(SYS_fchdir, fd);
}

static inline int sys_faccessat(int dirfd, const char *path, int mode)
{
	return (int)PT_SYS3(SYS_faccessat, dirfd, path, mode);
}

/* The soft and the hard limit of how many descriptors there may be. 0 or -errno. */
static inline int sys_limit_descriptors(const uint64_t to[2], uint64_t was[2])
{
	return (int)PT_SYS4(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE, whose header some files cannot have */, to, was);
}

/* Lets there be as many as may be, for what only we need for a moment. `was`: to be put back. false: nothing was changed. */
static inline bool sys_lift_descriptors(uint64_t was[2])
{
	uint64_t lifted[2];
	if (sys_limit_descriptors(NULL, was))
		return false;
	lifted[0] = lifted[1] = was[1];
	return !sys_limit_descriptors(lifted, NULL);
}

/* Of a regular file: 0, or why the kernel would not execute it. */
static inline int sys_executable(const char *path)
{
	int error = -(int)PT_SYS4(SYS_faccessat2, AT_FDCWD, path, X_OK, AT_EACCESS);
	return error == ENOSYS ? -sys_faccessat(AT_FDCWD, path, X_OK) : error;
}

static inline int sys_execve(const char *path, char *const *argv, char *const *envp)
{
	return (int)PT_SYS3(SYS_execve, path, argv, envp);
}

/* NULL on failure. */
static inline void *sys_mmap(size_t size, int protection, int flags, int fd)
{
	long p = PT_SYS6(SYS_mmap, 0, size, protection, flags, fd, 0);
	return p < 0 && p > -4096 ? (void *)0 : (void *)p;
}

/* Of a file of which a part will mostly do, this much; a small map shares its page tables with its neighbours. */
static inline size_t sys_first_part(size_t part, size_t size)
{
	return part < size ? part : size;
}

/* `size` bytes of the shared file of which `part` is mapped already; it stays. NULL on failure. */
static inline void *sys_map_more(void *part, size_t size)
{
	long p = PT_SYS4(SYS_mremap, part, 0, size, MREMAP_MAYMOVE);
	return p < 0 && p > -4096 ? (void *)0 : (void *)p;
}

static inline void sys_munmap(void *p, size_t size)
{
	PT_SYS2(SYS_munmap, p, size);
}

/* A file's map that is used here and there: the kernel reads no further than what is touched. */
static inline void sys_used_at_random(void *p, size_t size)
{
	PT_SYS3(SYS_madvise, p, size, MADV_RANDOM);
}

/* A page that the kernel clears in a forked child. false: it cannot. */
static inline bool sys_wipe_on_fork(void *page)
{
	return PT_SYS3(SYS_madvise, page, 4096, MADV_WIPEONFORK) == 0;
}

static inline void *sys_thread(void)
{
	return __builtin_thread_pointer();
}

/* The program that this process runs. Length (as readlink's), or -errno. */
static inline ssize_t sys_exe(char *buf, size_t size)
{
	return sys_readlink("/proc/self/exe", buf, size);
}

/* deep.c: pt_long_name, with the last answer remembered */
ssize_t pt_deep_name(int dir, char *buf, size_t size);

static inline ssize_t sys_cwd(char *buf, size_t size)
{
	long n = PT_SYS2(SYS_getcwd, buf, size);
	if (n > 0 && buf[0] == '/')
		return n - 1;
	if (n == -ENAMETOOLONG)
		return pt_deep_name(AT_FDCWD, buf, size);
	return sys_readlink("/proc/self/cwd", buf, size - 1);  /* removed: "… (deleted)" is below its parent still */
}

/*
 * What lies behind a descriptor: a path, or "pipe:[…]" and its like. A path that the kernel does not tell is found for a
 * directory; a file's stays -ENAMETOOLONG.
 */
ssize_t sys_fd_path(int fd, char *buf, size_t size);

/* Places with a second name that is no link, and names in other letters: there are none here. */
#define PT_NAMES_VARY 0
static inline ssize_t sys_alias(const char *path, size_t len, char *buf, size_t size)
{
	(void)path, (void)len, (void)buf, (void)size;
	return 0;
}

static inline bool sys_second_names(const char *real, size_t len)
{
	(void)real, (void)len;
	return false;
}

static inline size_t sys_true_name(char *path, size_t dir, size_t len)
{
	(void)path, (void)dir;
	return len;
}

static inline bool sys_fork_name(const char *name, size_t len)
{
	(void)name, (void)len;
	return false;
}

#endif
