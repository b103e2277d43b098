/*
 * sys.h on macOS: system calls have no stable numbers there, so they are made
 * through libSystem, by the names that are no cancellation points. Interposing
 * leaves the calls of our own image alone: these are the real ones.
 */
#ifndef PORTTRACE_SYS_DARWIN_H
#define PORTTRACE_SYS_DARWIN_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int pt_sys_open(const char *path, int flags, ...) __asm__("_open$NOCANCEL");
int pt_sys_close(int fd) __asm__("_close$NOCANCEL");
int pt_sys_fcntl(int fd, int command, ...) __asm__("_fcntl$NOCANCEL");
ssize_t pt_sys_pread(int fd, void *buf, size_t size, off_t at) __asm__("_pread$NOCANCEL");

#define PT_O_NAME O_EVTONLY     /* a descriptor for a name, not for what is in the file */

#define PT_DARWIN(type, call) ({ \
	int kept_ = errno; \
	type result_ = (call); \
	if (result_ < 0) \
		result_ = -errno; \
	errno = kept_; \
	result_; })

static inline ssize_t sys_readlink(const char *path, char *buf, size_t size)
{
	return PT_DARWIN(ssize_t, readlink(path, buf, size));
}

static inline int sys_fstatat(int fd, const char *path, struct stat *st, int flags)
{
	return PT_DARWIN(int, fstatat(fd, path, st, flags));
}

static inline int sys_lstat(const char *path, struct stat *st)
{
	return PT_DARWIN(int, lstat(path, st));
}

static inline int sys_fstat(int fd, struct stat *st)
{
	return PT_DARWIN(int, fstat(fd, st));
}

static inline int sys_open(const char *path, int flags)
{
	return PT_DARWIN(int, pt_sys_open(path, flags, 0));
}

static inline bool sys_filtered(void)
{
	return false;
}

/* There is no call that gives room to a part of a file. */
static inline int sys_give_room(int fd, uint64_t from, uint64_t size)
{
	(void)fd, (void)from, (void)size;
	return -EOPNOTSUPP;
}

static inline ssize_t sys_pread(int fd, void *buf, size_t size, off_t at)
{
	return PT_DARWIN(ssize_t, pt_sys_pread(fd, buf, size, at));
}

static inline void sys_close(int fd)
{
	(void)PT_DARWIN(int, pt_sys_close(fd));
}

static inline pid_t sys_getpid(void)
{
	return getpid();
}

static inline pid_t sys_getppid(void)
{
	return getppid();
}

static inline int sys_chdir(const char *path)
{
	return PT_DARWIN(int, chdir(path));
}

static inline int sys_fchdir(int fd)
{
	return PT_DARWIN(int, fchdir(fd));
}

static inline int sys_faccessat(int dirfd, const char *path, int mode)
{
	return PT_DARWIN(int, faccessat(dirfd, path, mode, 0));
}

static inline int sys_executable(const char *path)
{
	return -PT_DARWIN(int, faccessat(AT_FDCWD, path, X_OK, AT_EACCESS));
}

static inline int sys_execve(const char *path, char *const *argv, char *const *envp)
{
	return PT_DARWIN(int, execve(path, argv, envp));
}

static inline void *sys_mmap(size_t size, int protection, int flags, int fd)
{
	int kept = errno;
	void *p = mmap(NULL, size, protection, flags, fd, 0);
	errno = kept;
	return p == MAP_FAILED ? NULL : p;
}

/* All at once: a map is not made larger here without its descriptor. */
static inline size_t sys_first_part(size_t part, size_t size)
{
	(void)part;
	return size;
}

static inline void *sys_map_more(void *all, size_t size)
{
	(void)size;
	return all;
}

static inline void sys_munmap(void *p, size_t size)
{
	(void)PT_DARWIN(int, munmap(p, size));
}

/* What its kernel reads on from a touched page was not looked at. */
static inline void sys_used_at_random(void *p, size_t size)
{
	(void)p;
	(void)size;
}

/* No such page here: getpid is asked, which libSystem answers from memory and forgets in a forked child. */
static inline bool sys_wipe_on_fork(void *page)
{
	(void)page;
	return false;
}

static inline void *sys_thread(void)
{
	return (void *)pthread_self();
}

ssize_t sys_exe(char *buf, size_t size);
ssize_t sys_cwd(char *buf, size_t size);
ssize_t sys_fd_path(int fd, char *buf, size_t size);

/*
 * Places that have a second name without a link: /.vol/DEVICE/INODE, and what firmlinks join
 * (/System/Volumes/Data/Users is /Users). The name that counts into buf, length or 0.
 */
#define PT_NAMES_VARY 1
ssize_t sys_alias(const char *path, size_t len, char *buf, size_t size);
#define PT_DATA_VOLUME "/System/Volumes/Data"
/* A real path below which such names begin. */
static inline bool sys_second_names(const char *real, size_t len)
{
	size_t n = sizeof PT_DATA_VOLUME - 1;
	return (len >= 5 && __builtin_memcmp(real, "/.vol", 5) == 0) || (len >= n && __builtin_memcmp(real, PT_DATA_VOLUME, n) == 0);
}
/*
 * Volumes that do not tell letters apart (and HFS+ with its own composition of accents): puts the name as it
 * stands on the disk into path[dir + 1...]. The name's new length.
 */
size_t sys_true_name(char *path, size_t dir, size_t len);
/* FILE/..namedfork/rsrc is a part of FILE. */
static inline bool sys_fork_name(const char *name, size_t len)
{
	return len == 11 && __builtin_memcmp(name, "..namedfork", 11) == 0;
}

#endif
