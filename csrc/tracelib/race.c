/*
 * Between our look at a path and the kernel's, another thread or process may exchange a link or a directory on the way,
 * or what a descriptor stands for. Where that is possible the kernel is given the real path that was judged, and told
 * to follow no link. Where nobody in the session can change anything on the way the call goes as the program made it.
 *
 * openat2 is no function of the C library and so no cancellation point: a fifo, whose open waits, is opened by the
 * library's own function where there are threads, and looked at afterwards.
 */
#include "headers.h"

#ifdef __APPLE__
#include <pthread.h>

bool pt_threads(void)
{
	return pthread_is_threaded_np() != 0;
}

static int open_at(int dirfd, const char *path, int flags, mode_t mode)
{
	typedef int real_t(int, const char *, int, ...);
	int kept = errno, fd = PT_REAL(real_t, openat)(dirfd, path, flags, mode);
	if (fd < 0)
		fd = -errno;
	errno = kept;
	return fd;
}

int pt_open_unlinked(int dirfd, const char *path, int flags, mode_t mode)
{
	return open_at(dirfd, path, flags | O_NOFOLLOW_ANY, mode);
}
#else
#include <linux/openat2.h>

extern char __libc_single_threaded __attribute__((weak));

bool pt_threads(void)
{
	return !&__libc_single_threaded || !__libc_single_threaded;   /* where it is not told there may be some */
}

static int open_at(int dirfd, const char *path, int flags, mode_t mode)
{
	return (int)PT_SYS4(SYS_openat, dirfd, path, flags, mode);
}

#define KNOWN_FLAGS (O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_SYNC | O_ASYNC | O_DIRECT | \
	O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH | O_TMPFILE)

int pt_open_unlinked(int dirfd, const char *path, int flags, mode_t mode)
{
	/* open(2) drops silently what openat2 refuses */
	flags &= KNOWN_FLAGS;
	if (flags & O_PATH)
		flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	bool makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
	struct open_how how = { .flags = (unsigned)flags, .mode = makes ? mode & 07777 : 0, .resolve = RESOLVE_NO_SYMLINKS };
	static _Atomic bool lacking;   /* an old kernel; or valgrind, which complains each time in its host's output */
	if (atomic_load_explicit(&lacking, memory_order_relaxed))
		return -ENOSYS;
	int fd = (int)PT_SYS4(SYS_openat2, dirfd, path, &how, sizeof how);
	if (fd == -ENOSYS)
		atomic_store_explicit(&lacking, true, memory_order_relaxed);
	if (unlikely(fd == -ENAMETOOLONG) && path[0] == '/' && (dirfd = pt_long_dir(&path)) != AT_FDCWD) {
		fd = dirfd < 0 ? dirfd : (int)PT_SYS4(SYS_openat2, dirfd, path, &how, sizeof how);
		pt_long_close(dirfd);
	}
	return fd;
}
#endif

static int as_is(uint16_t op, const struct pt_at *at, int flags, mode_t mode)
{
	int fd = pt_open_as_is(op, at->dirfd, at->path, flags, mode);
	return fd < 0 ? -errno : fd;
}

static bool relative(const struct pt_at *at)
{
	return at->path[0] != '/' && pt_threads();
}

/* Nothing on the way can be exchanged, or nothing is refused, or the path is a redirect's. */
bool pt_settled(const struct pt_at *at)
{
	return !at->slab || (pt.flags & (PT_IMG_AUDIT | PT_IMG_REDIRECTS)) || (at->fixed && !relative(at));
}

static bool climbs(const char *path)
{
	for (const char *p = path; (p = strstr(p, "..")); p += 2)
		if ((p == path || p[-1] == '/') && (!p[2] || p[2] == '/'))
			return true;
	return false;
}

/* Is `path`, seen without links, the place that was judged? */
static bool plain_name(const struct pt_at *at)
{
	return !at->linked && !relative(at) && !climbs(at->path);
}

#ifndef __APPLE__
bool pt_lasting(const struct pt_at *at, int *flags)
{
	if (!at->slab || (pt.flags & (PT_IMG_AUDIT | PT_IMG_REDIRECTS)))
		return true;
	size_t n = strlen(at->path);
	if (at->path[0] != '/' || !n)
		return false;
	if (at->fixed)
		return true;
	if (!at->judged || at->magic || !plain_name(at) || !at->parent.stable || at->path[n - 1] == '/')
		return false;
	*flags |= O_NOFOLLOW;
	return true;
}
#endif

static const char *real_name(const struct pt_at *at)
{
	return at->real_len ? at->real : "/";
}

/* The same with the fork of the file that was asked for (macOS: FILE/..namedfork/rsrc), which has no real path of its own. */
static const char *real_part(const struct pt_at *at)
{
#ifdef __APPLE__
	const char *fork = strstr(at->path, "/..namedfork");
	size_t n = fork ? strlen(fork) : 0;
	if (fork && at->real_len + n < at->slab->cap) {
		memcpy(at->slab->lex, at->real, at->real_len);
		memcpy(at->slab->lex + at->real_len, fork, n + 1);
		return at->slab->lex;
	}
#endif
	return real_name(at);
}

/* Is it what lies at the real path that was judged? A file's path that is longer than the kernel tells: by its number. */
static bool is_judged(int fd, const struct pt_at *at)
{
	struct stat held, there;
	ssize_t n = sys_fd_path(fd, at->slab->extra, at->slab->cap - 1);
	if (n == -ENAMETOOLONG)
		return sys_fstat(fd, &held) == 0 && sys_lstat(real_name(at), &there) == 0 && held.st_ino == there.st_ino &&
		       held.st_dev == there.st_dev;
	/* a pipe has no path that could be hidden */
	const char *real = real_name(at);
	return n > 0 && (at->slab->extra[0] != '/' || ((size_t)n == strlen(real) && memcmp(at->slab->extra, real, (size_t)n) == 0));
}

/* A link of /proc leads to an object, not to a path: looked at first, opened where it is what was judged. */
static int hold_object(const struct pt_at *at, int flags)
{
	int closing = flags & O_PATH ? flags & O_CLOEXEC : O_CLOEXEC;   /* what was asked for is the program's to keep */
	int fd = open_at(at->dirfd, at->path, O_PATH | closing | (flags & (O_NOFOLLOW | O_DIRECTORY)), 0);
	if (fd < 0)
		return fd;
	if (is_judged(fd, at))
		return fd;
	sys_close(fd);
	return -ELOOP;
}

void pt_fd_link(int fd, char link[PT_FD_LINK])
{
	char digits[12], *p = digits + sizeof digits;
	*--p = 0;
	do
		*--p = (char)('0' + fd % 10);
	while (fd /= 10);
	memcpy(link, "/proc/self/fd/", 14);
	memcpy(link + 14, p, (size_t)(digits + sizeof digits - p));
}

int pt_open_judged(uint16_t op, const struct pt_at *at, int flags, mode_t mode)
{
	int fd = -ELOOP;
	if (pt_settled(at))
		return as_is(op, at, flags, mode);
	if (!at->judged) {             /* the walk came to an end: to the same one, or to none */
		fd = pt_open_unlinked(at->dirfd, at->path, flags, mode);
		if (fd == -ENOSYS)
			return as_is(op, at, flags, mode);
		return fd == -ELOOP && at->lost ? -at->lost : fd;
	}
	if (at->magic) {
		char name[PT_FD_LINK];
		int held = hold_object(at, flags);
		if (held == -ENOENT && flags & O_CREAT) {
			fd = pt_open_unlinked(AT_FDCWD, real_name(at), flags, mode);
			return fd == -ENOSYS ? as_is(op, at, flags, mode) : fd;
		}
		if (held < 0 || (flags & O_PATH))
			return held;
		if ((flags & O_CREAT) && (flags & O_EXCL)) {
			sys_close(held);
			return -EEXIST;
		}
		pt_fd_link(held, name);
		fd = open_at(AT_FDCWD, name, flags & ~(O_NOFOLLOW | O_CREAT | O_EXCL), mode);
		sys_close(held);
		return fd;
	}
	struct stat st;
	if (pt_threads() && !(flags & (O_NONBLOCK | O_PATH | O_DIRECTORY)) && sys_lstat(real_name(at), &st) == 0 && S_ISFIFO(st.st_mode)) {
		fd = pt_open_as_is(op, AT_FDCWD, real_name(at), flags | O_NOFOLLOW, mode);
		if (fd < 0)
			return -errno;
		if (is_judged(fd, at))
			return fd;
		sys_close(fd);
		return -ELOOP;
	}
	if (plain_name(at))
		fd = pt_open_unlinked(at->dirfd, at->path, flags, mode);
	if (fd == -ELOOP) {
		size_t n = strlen(at->path);
		if (n && at->path[n - 1] == '/') {
			if (flags & O_CREAT)
				return -EISDIR;
			flags |= O_DIRECTORY;
		}
		fd = pt_open_unlinked(AT_FDCWD, real_part(at), flags, mode);
	}
	return fd == -ENOSYS ? as_is(op, at, flags, mode) : fd;
}

/* Nobody who looks at a file expects that descriptors could be missing. */
static int open_to_look(int dirfd, const char *path, int flags)
{
	int fd = pt_open_unlinked(dirfd, path, flags, 0);
#ifndef __APPLE__
	uint64_t limit[2];
	if (unlikely(fd == -EMFILE) && sys_lift_descriptors(limit)) {
		fd = pt_open_unlinked(dirfd, path, flags, 0);
		sys_limit_descriptors(limit, NULL);
	}
#endif
	return fd;
}

int pt_hold(const struct pt_at *at, bool *nofollow)
{
	*nofollow = false;
	if (!O_PATH || pt_settled(at) || (at->flags & PT_EMPTY && !at->path[0]))
		return PT_AS_IS;
	int flags = at->flags & PT_FOLLOW ? 0 : O_NOFOLLOW;
	if (at->judged && at->magic)
		return hold_object(at, flags);
	size_t n = strlen(at->path);
	if (n && at->path[n - 1] == '/')
		flags |= O_DIRECTORY;
	flags |= O_PATH | O_CLOEXEC;
	int fd = -ELOOP;
	if (!at->judged || plain_name(at))     /* by the path as it was given: "." at its end asks for more than the directory */
		fd = open_to_look(at->dirfd, at->path, flags);
	if (at->judged && fd == -ELOOP)
		fd = open_to_look(AT_FDCWD, real_name(at), flags);
	if (!at->judged && fd == -ELOOP && at->lost)
		return -at->lost;
	*nofollow = fd == -ENOSYS && at->judged && plain_name(at);
	return fd == -ENOSYS ? PT_AS_IS : fd;
}

#ifndef __APPLE__
static int open_way(const struct pt_at *at, const char *path, int flags)
{
	return at->access <= PT_ACC_READLINK ? open_to_look(AT_FDCWD, path, flags) : pt_open_unlinked(AT_FDCWD, path, flags, 0);
}

/* "." and "..", with slashes behind them, are no names that something could have, or lose. */
static bool ends_in_dots(const char *path, size_t n)
{
	while (n && path[n - 1] == '/')
		n--;
	size_t dots = 0;
	while (dots < n && path[n - 1 - dots] == '.')
		dots++;
	return dots && dots <= 2 && (dots == n || path[n - 1 - dots] == '/');
}

/* "/proc/self/fd/N", by which the kernel comes to what is held, and what comes behind it. */
static void fd_name(char *text, int held, const char *name, size_t len)
{
	pt_fd_link(held, text);
	if (len) {
		char *end = text + strlen(text);
		*end = '/';
		memcpy(end + 1, name, len);
		end[len + 1] = 0;
	}
}

static void name_held(struct pt_at *at, int held, const char *name, size_t len)
{
	fd_name(at->slab->extra, held, name, len);
	at->path = at->slab->extra;
	at->dirfd = AT_FDCWD;
}

int pt_hold_name(struct pt_at *at, int *held)
{
	size_t n = strlen(at->path), dir = at->real_len;
	struct stat st;
	*held = -1;
	if (pt_settled(at) || !n || ends_in_dots(at->path, n))
		return 0;
	if (!at->judged)               /* the walk came to an end: so would the kernel's */
		return at->lost;
	if (at->magic && at->flags & PT_FOLLOW) {
		int object = hold_object(at, 0);
		if (object < 0)
			return -object;
		*held = object;
		name_held(at, object, NULL, 0);
		return 0;
	}
	if (!dir)
		return 0;
	while (at->real[--dir] != '/')
		;
	at->real[dir] = 0;
	int fd = open_way(at, dir ? at->real : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	at->real[dir] = '/';
	if (fd < 0)
		return fd == -ENOSYS ? 0 : -fd;
	bool slash = at->path[n - 1] == '/';
	at->dirfd = *held = fd;
	at->path = at->real + dir + 1;
	n = at->real_len - dir - 1;
	/* With a slash behind it even the last name would be followed: only a directory, or nothing, may have one. */
	int there = slash ? sys_fstatat(fd, at->path, &st, AT_SYMLINK_NOFOLLOW) : 0;
	if (slash && !there && !S_ISDIR(st.st_mode))
		return ENOTDIR;
	if (slash && there < 0) {
		memcpy(at->slab->extra, at->path, n);
		memcpy(at->slab->extra + n, "/", 2);
		at->path = at->slab->extra;
	}
	return 0;
}

int pt_hold_path(struct pt_at *at, int *held)
{
	*held = -1;
	if (pt_settled(at) || !at->path[0])
		return 0;
	size_t n = strlen(at->path);
	bool slash = at->path[n - 1] == '/' || ends_in_dots(at->path, n);
	if (!(at->flags & PT_FOLLOW) && !slash) {
		int error = pt_hold_name(at, held);
		n = strlen(at->path);
		if (error || *held < 0 || at->flags & PT_TAKES_DIRECTORY)
			return error;
		if (n + PT_FD_LINK + 2 > at->slab->cap)
			return ENAMETOOLONG;   /* it is longer than a name can be */
		name_held(at, *held, at->path, n);
		return 0;
	}
	if (!at->judged)               /* the walk came to an end: so would the kernel's */
		return at->lost;
	int flags = O_PATH | O_CLOEXEC | (slash ? O_DIRECTORY : 0);
	int fd = at->magic ? hold_object(at, flags) : open_way(at, real_name(at), flags);
	if (fd < 0)
		return fd == -ENOSYS ? 0 : -fd;
	*held = fd;
	name_held(at, fd, ".", !(at->flags & PT_FOLLOW)); /* for a call that follows no link: a directory, by a name in it */
	return 0;
}

const char *pt_quick_changed(int dirfd, const char *path, uint8_t access, bool follow, bool takes_directory,
			     struct pt_changing *c)
{
	c->held = -1;
	c->dirfd = dirfd;
	if (unlikely(pt.log))
		return NULL;
	enum pt_held how = pt_quick_held(dirfd, &path, access, c->copy, NULL, NULL);
	if (how == PT_NOT_QUICK)
		return NULL;
	if (!follow && how == PT_FIXED)        /* or in a directory that the kernel has in its hand */
		return path;
	char *slash = follow ? NULL : (char *)(uintptr_t)strrchr(path, '/');
	if (!follow && !slash)
		return NULL;
	if (slash)
		*slash = 0;
	c->held = pt_open_unlinked(dirfd, slash == path ? "/" : path, O_PATH | O_CLOEXEC | (slash ? O_DIRECTORY : 0), 0);
	if (c->held < 0)               /* why, the long way finds out */
		return NULL;
	if (slash && takes_directory) {
		c->dirfd = c->held;
		return slash + 1;
	}
	fd_name(c->name, c->held, slash ? slash + 1 : NULL, slash ? strlen(slash + 1) : 0);
	return c->name;
}
#endif
