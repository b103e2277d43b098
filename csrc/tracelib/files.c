/* open, stat and access: the calls that come by the thousand. */
#include "headers.h"

static inline int fail(int error)
{
	errno = error;
	return -1;
}

/* ---- open ---- */

/* What flags of open mean for the policy. */
void pt_intend_open(struct pt_at *at, int flags)
{
	int mode = flags & O_ACCMODE;
	at->access = PT_ACC_READ;
	at->flags = flags & (O_NOFOLLOW | O_SYMLINK) ? 0 : PT_FOLLOW;
	if (flags & O_PATH) {
		at->access = PT_ACC_STAT;
		return;
	}
	if (flags & O_CREAT) {
		at->access = PT_ACC_CREATE;
		at->flags |= PT_MAY_CREATE;
		if (flags & O_EXCL) {
			at->flags |= PT_EXCL;
			at->flags &= ~PT_FOLLOW;
		} else if (mode == O_RDONLY && !(flags & O_TRUNC)) {
			at->flags |= PT_NO_WRITE;
		}
	} else if (PT_IS_TMPFILE(flags)) {
		at->access = PT_ACC_CREATE;
	} else if (mode != O_RDONLY || (flags & O_TRUNC)) {
		at->access = PT_ACC_WRITE;
	} else if (flags & O_DIRECTORY) {
		at->access = PT_ACC_LIST;
	}
	if (mode == O_RDWR)
		at->flags |= PT_ALSO_READ;
}

void pt_opened(int fd, int flags, const struct pt_at *at)
{
	pt_fd_forget(fd);
	if ((flags & O_DIRECTORY) && at && at->judged)
		pt_fd_set(fd, at->real, at->real_len);
	else if ((flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH) && at && at->judged)
		pt_fd_wrote(fd, at->real, at->real_len);
}

int pt_open_as_is(uint16_t op, int dirfd, const char *path, int flags, mode_t mode)
{
	typedef int open_t(const char *, int, ...);
	typedef int openat_t(int, const char *, int, ...);
#ifdef __APPLE__
	if (op == PT_OP_open_NOCANCEL || op == PT_OP_openat_NOCANCEL || op == PT_OP___open_nocancel || op == PT_OP___openat_nocancel)
		return PT_REAL(openat_t, openat_NOCANCEL)(dirfd, path, flags, mode);
#endif
	(void)op;
	/* the C library's own function: a cancellation point where the program expects one */
	if (dirfd == AT_FDCWD)
		return PT_REAL(open_t, open)(path, flags, mode);
	return PT_REAL(openat_t, openat)(dirfd, path, flags, mode);
}

/*
 * open is a point at which a thread that was cancelled before has to end, and openat2 is none. Here, while nothing is held;
 * the waiting itself is the C library's, see race.c. In a library without threads nobody is cancelled.
 */
void pt_cancellation_point(uint16_t op)
{
#ifndef __APPLE__              /* there all is opened by the C library's own function */
	extern void pthread_testcancel(void) __attribute__((weak));
	if (op != PT_OP_tmpfile && op != PT_OP_shm_open && pt_threads() && pthread_testcancel)
		pthread_testcancel();
#else
	(void)op;
#endif
}

/* Judge, and open what was judged; again where links are exchanged between the two. */
static int open_judged(uint16_t op, int dirfd, const char *path, int flags, mode_t mode)
{
	pt_cancellation_point(op);
	for (int again = 0;; again++) {
		struct pt_at at = { .dirfd = dirfd, .path = path };
		pt_intend_open(&at, flags);
		int error = pt_judge(op, &at), fd = -1;
		if (!error) {
			fd = pt_open_judged(op, &at, flags, mode);
			if (fd >= 0)
				pt_opened(fd, flags, &at);
			else
				error = -fd;
		}
		bool moved = error == ELOOP && at.judged && !(flags & O_NOFOLLOW) && again < PT_AGAIN;
		pt_done(op, &at, error);
		if (moved)
			continue;
		if (fd < 0) {
			errno = error;
			return -1;
		}
		return fd;
	}
}

/* What the quick way is to be asked for: it knows one map, and follows no link; PT_ACC_COUNT: nothing. */
static inline uint8_t quick_access(int flags)
{
	int mode = flags & O_ACCMODE;
	if ((flags & (O_PATH | O_SYMLINK)) || PT_IS_TMPFILE(flags))
		return PT_ACC_COUNT;
	if (flags & O_CREAT)
		return mode == O_WRONLY ? PT_ACC_CREATE : PT_ACC_COUNT;
	if (mode != O_RDONLY || (flags & O_TRUNC))
		return mode == O_RDWR ? PT_ACC_COUNT : PT_ACC_WRITE;
	return flags & O_DIRECTORY ? PT_ACC_LIST : PT_ACC_READ;
}

static inline __attribute__((always_inline)) bool open_quick(uint16_t op, int dirfd, const char *path, int flags, mode_t mode, int *opened)
{
	uint8_t access = quick_access(flags);
	if (access != PT_ACC_COUNT) {
		char copy[PT_COPY];
		struct pt_note note;
		enum pt_held held = pt_quick_held(dirfd, &path, access, copy, &note, NULL);
		if (likely(held == PT_FIXED || (held && !pt_threads()))) {
			int kept = errno, fd;
			if (held == PT_MOVABLE) {
				fd = pt_open_unlinked(dirfd, path, flags | O_NOFOLLOW, mode);
				if (fd < 0)
					errno = -fd;
			} else {
				fd = pt_open_as_is(op, dirfd, path, flags | O_NOFOLLOW, mode);
			}
			if (likely(fd >= 0)) {
				pt_fd_forget(fd);
				if (flags & O_DIRECTORY)
					pt_fd_set_child(fd, dirfd, path);
				else if ((flags & O_ACCMODE) != O_RDONLY)
					pt_fd_wrote(fd, pt.log ? note.real : NULL, note.real_len);
				pt_noted(op, access, path, &note, 0);
				*opened = fd;
				return true;
			}
			if ((flags & O_NOFOLLOW && held == PT_FIXED) || (errno != ELOOP && errno != ENOTDIR && errno != ENOSYS)) {
				pt_noted(op, access, path, &note, errno);
				*opened = -1;
				return true;
			}
			errno = kept;
		}
	}
	return false;
}

bool pt_open_quick(uint16_t op, int dirfd, const char *path, int flags, mode_t mode, int *fd)
{
	return open_quick(op, dirfd, path, flags, mode, fd);
}

static int open_any(uint16_t op, int dirfd, const char *path, int flags, mode_t mode)
{
	int fd;
	return open_quick(op, dirfd, path, flags, mode, &fd) ? fd : open_judged(op, dirfd, path, flags, mode);
}

int pt_open(uint16_t op, int dirfd, const char *path, int flags, mode_t mode)
{
	return open_any(op, dirfd, path, flags, mode);
}

static inline bool has_mode(int flags)
{
	return (flags & O_CREAT) || PT_IS_TMPFILE(flags);
}

PT_EXPORT int PT_WRAP(open)(const char *path, int flags, ...)
{
	mode_t mode = 0;
	if (has_mode(flags)) {
		va_list ap;
		va_start(ap, flags);
		mode = (mode_t)va_arg(ap, int);
		va_end(ap);
	}
	return open_any(PT_OP_open, AT_FDCWD, path, flags, mode);
}
PT_ALIASES_open

PT_EXPORT int PT_WRAP(openat)(int dirfd, const char *path, int flags, ...)
{
	mode_t mode = 0;
	if (has_mode(flags)) {
		va_list ap;
		va_start(ap, flags);
		mode = (mode_t)va_arg(ap, int);
		va_end(ap);
	}
	return open_any(PT_OP_openat, dirfd, path, flags, mode);
}
PT_ALIASES_openat

#ifdef __APPLE__               /* the twins that are no cancellation points */
int PT_WRAP(open_NOCANCEL)(const char *path, int flags, ...);
PT_EXPORT int PT_WRAP(open_NOCANCEL)(const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = has_mode(flags) ? (mode_t)va_arg(ap, int) : 0;
	va_end(ap);
	return open_any(PT_OP_open_NOCANCEL, AT_FDCWD, path, flags, mode);
}

int PT_WRAP(openat_NOCANCEL)(int dirfd, const char *path, int flags, ...);
PT_EXPORT int PT_WRAP(openat_NOCANCEL)(int dirfd, const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = has_mode(flags) ? (mode_t)va_arg(ap, int) : 0;
	va_end(ap);
	return open_any(PT_OP_openat_NOCANCEL, dirfd, path, flags, mode);
}
#endif

#ifndef __APPLE__              /* there creat is an open, and the stats are made from the table */
PT_EXPORT int PT_WRAP(creat)(const char *path, mode_t mode)
{
	return open_any(PT_OP_creat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
PT_ALIASES_creat

int __open_2(const char *path, int flags);
PT_EXPORT int PT_WRAP(__open_2)(const char *path, int flags)
{
	if (has_mode(flags)) {         /* the C library ends such a program with its own message */
		typedef int real_t(const char *, int);
		return PT_REAL(real_t, __open_2)(path, flags);
	}
	return open_any(PT_OP___open_2, AT_FDCWD, path, flags, 0);
}
PT_ALIASES___open_2

int __openat_2(int dirfd, const char *path, int flags);
PT_EXPORT int PT_WRAP(__openat_2)(int dirfd, const char *path, int flags)
{
	if (has_mode(flags)) {
		typedef int real_t(int, const char *, int);
		return PT_REAL(real_t, __openat_2)(dirfd, path, flags);
	}
	return open_any(PT_OP___openat_2, dirfd, path, flags, 0);
}
PT_ALIASES___openat_2

/* ---- stat ---- */

static int stat_any(uint16_t op, int dirfd, const char *path, struct stat *st, int flags)
{
	char copy[PT_COPY];
	struct pt_note note;
	uint64_t generation;
	enum pt_held held = pt_quick_held(dirfd, &path, PT_ACC_STAT, copy, &note, &generation);
	if (likely(held)) {
		int r = sys_fstatat(dirfd, path, st, flags | AT_SYMLINK_NOFOLLOW);
		if (likely(pt_was_judged(held, generation) && (r < 0 || (flags & AT_SYMLINK_NOFOLLOW) || !S_ISLNK(st->st_mode)))) {
			pt_noted(op, PT_ACC_STAT, path, &note, -r);
			return unlikely(r < 0) ? fail(-r) : 0;
		}
	}
	if ((flags & AT_EMPTY_PATH) && !pt_bad_pointer(path) && !path[0] && dirfd != AT_FDCWD) {
		int r = sys_fstatat(dirfd, "", st, flags);         /* fstat: the descriptor was judged when it was opened */
		return r < 0 ? fail(-r) : 0;
	}
	for (int again = 0;; again++) {
		struct pt_at at = { .dirfd = dirfd, .path = path, .access = PT_ACC_STAT,
			.flags = (flags & AT_SYMLINK_NOFOLLOW ? 0 : PT_FOLLOW) | (flags & AT_EMPTY_PATH ? PT_EMPTY : 0) };
		int error = pt_judge(op, &at);
		if (!error) {
			bool nofollow;
			int fd = pt_hold(&at, &nofollow);
			if (fd >= 0) {
				error = -sys_fstat(fd, st);
				sys_close(fd);
			} else if (fd != PT_AS_IS) {
				error = -fd;
			} else {
				error = -sys_fstatat(at.dirfd, at.path, st, flags | (nofollow ? AT_SYMLINK_NOFOLLOW : 0));
				if (!error && nofollow && !(flags & AT_SYMLINK_NOFOLLOW) && S_ISLNK(st->st_mode))
					error = ELOOP;
			}
		}
		bool moved = error == ELOOP && at.judged && again < PT_AGAIN;
		pt_done(op, &at, error);
		if (!moved)
			return error ? fail(error) : 0;
	}
}

PT_EXPORT int PT_WRAP(stat)(const char *restrict path, struct stat *restrict st)
{
	return stat_any(PT_OP_stat, AT_FDCWD, path, st, 0);
}
PT_ALIASES_stat

PT_EXPORT int PT_WRAP(lstat)(const char *restrict path, struct stat *restrict st)
{
	return stat_any(PT_OP_lstat, AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}
PT_ALIASES_lstat

PT_EXPORT int PT_WRAP(fstatat)(int dirfd, const char *restrict path, struct stat *restrict st, int flags)
{
	return stat_any(PT_OP_fstatat, dirfd, path, st, flags);
}
PT_ALIASES_fstatat

/*
 * The names that programs built against an older C library call, with the version of the structure that they mean. glibc
 * refuses any other than the kernel's, and on x86 its own; musl does not look at it.
 */
#ifndef __GLIBC__
#define OLD_VERSION(v) ((void)(v), true)
#elif defined __x86_64__ || defined __i386__
#define OLD_VERSION(v) ((v) == 0 || (v) == 1)
#else
#define OLD_VERSION(v) ((v) == 0)
#endif

int __xstat(int version, const char *path, struct stat *st);
PT_EXPORT int PT_WRAP(__xstat)(int version, const char *path, struct stat *st)
{
	return OLD_VERSION(version) ? stat_any(PT_OP___xstat, AT_FDCWD, path, st, 0) : fail(EINVAL);
}
PT_ALIASES___xstat

int __lxstat(int version, const char *path, struct stat *st);
PT_EXPORT int PT_WRAP(__lxstat)(int version, const char *path, struct stat *st)
{
	return OLD_VERSION(version) ? stat_any(PT_OP___lxstat, AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW) : fail(EINVAL);
}
PT_ALIASES___lxstat

int __fxstatat(int version, int dirfd, const char *path, struct stat *st, int flags);
PT_EXPORT int PT_WRAP(__fxstatat)(int version, int dirfd, const char *path, struct stat *st, int flags)
{
	return OLD_VERSION(version) ? stat_any(PT_OP___fxstatat, dirfd, path, st, flags) : fail(EINVAL);
}
PT_ALIASES___fxstatat

typedef int statx_t(int, const char *restrict, int, unsigned, struct statx *restrict);

/* A C library that has none may be asked for one nevertheless. */
static int raw_statx(int dirfd, const char *restrict path, int flags, unsigned mask, struct statx *restrict stx)
{
	int r = (int)PT_SYS5(SYS_statx, dirfd, path, flags, mask, stx);
	return r < 0 ? fail(-r) : r;
}

PT_EXPORT int PT_WRAP(statx)(int dirfd, const char *restrict name, int flags, unsigned mask, struct statx *restrict stx)
{
	statx_t *real = PT_REAL(statx_t, statx);
	if (unlikely(!real))
		real = raw_statx;
	const char *path = name;
	char copy[PT_COPY];
	struct pt_note note;
	uint64_t generation;
	enum pt_held held = pt_quick_held(dirfd, &path, PT_ACC_STAT, copy, &note, &generation);
	if (likely(held)) {
		int r = real(dirfd, path, flags | AT_SYMLINK_NOFOLLOW, mask | STATX_TYPE, stx);
		if (likely(pt_was_judged(held, generation) &&
			   (r < 0 || (flags & AT_SYMLINK_NOFOLLOW) || !(stx->stx_mask & STATX_TYPE) || !S_ISLNK(stx->stx_mode)))) {
			pt_noted(PT_OP_statx, PT_ACC_STAT, path, &note, r < 0 ? errno : 0);
			return r;
		}
	}
	if ((flags & AT_EMPTY_PATH) && (!path || (!pt_bad_pointer(path) && !path[0])))
		return real(dirfd, path ? "" : path, flags, mask, stx);
	for (int again = 0;; again++) {
		struct pt_at at = { .dirfd = dirfd, .path = path, .access = PT_ACC_STAT, .flags = flags & AT_SYMLINK_NOFOLLOW ? 0 : PT_FOLLOW };
		int error = pt_judge(PT_OP_statx, &at), r = -1;
		if (!error) {
			bool nofollow;
			int fd = pt_hold(&at, &nofollow);
			if (fd < 0 && fd != PT_AS_IS) {
				error = -fd;
			} else {
				r = fd >= 0 ? real(fd, "", (flags & ~AT_SYMLINK_NOFOLLOW) | AT_EMPTY_PATH, mask, stx)
					: real(at.dirfd, at.path, flags | (nofollow ? AT_SYMLINK_NOFOLLOW : 0), mask | (nofollow ? STATX_TYPE : 0), stx);
				if (r < 0)
					error = errno;
				else if (fd < 0 && nofollow && !(flags & AT_SYMLINK_NOFOLLOW) && S_ISLNK(stx->stx_mode))
					error = ELOOP, r = -1;
				if (fd >= 0)
					sys_close(fd);
			}
		}
		bool moved = error == ELOOP && at.judged && again < PT_AGAIN;
		pt_done(PT_OP_statx, &at, error);
		if (!moved)
			return r < 0 ? fail(error) : r;
	}
}

#endif

/* ---- access ---- */

typedef int faccessat_t(int, const char *, int, int);

/* Of what was judged: by its path, or what is held of it. 0, or an errno. */
static int access_judged(const struct pt_at *at, int mode, int flags)
{
	char name[PT_FD_LINK];
	bool nofollow;
	int fd = pt_hold(at, &nofollow);
	if (fd < 0 && fd != PT_AS_IS)
		return -fd;
	if (fd >= 0)
		pt_fd_link(fd, name);
	int error = PT_REAL(faccessat_t, faccessat)(fd < 0 ? at->dirfd : AT_FDCWD, fd < 0 ? at->path : name, mode,
					       fd < 0 ? flags : flags & ~AT_SYMLINK_NOFOLLOW) ? errno : 0;
	if (fd >= 0)
		sys_close(fd);
	return error;
}

static int access_any(uint16_t op, int dirfd, const char *path, int mode, int flags)
{
	char copy[PT_COPY];
	const char *quick = path;
	uint64_t generation;
	enum pt_held held = mode & W_OK ? PT_NOT_QUICK : pt_quick_held_follow(dirfd, &quick, PT_ACC_STAT, copy, &generation);
	if (likely(held)) {
		int r = !flags ? sys_faccessat(dirfd, quick, mode) : PT_REAL(faccessat_t, faccessat)(dirfd, quick, mode, flags) ? -errno : 0;
		if (likely(pt_was_judged(held, generation)))
			return r < 0 ? fail(-r) : 0;
	}
	for (int again = 0;; again++) {
		struct pt_at at = { .dirfd = dirfd, .path = path, .access = PT_ACC_STAT,
			.flags = (flags & AT_SYMLINK_NOFOLLOW ? 0 : PT_FOLLOW) | (mode & W_OK ? PT_PROBE_WRITE : 0) };
		int error = pt_judge(op, &at);
		if (!error)
			error = access_judged(&at, mode, flags);
		bool moved = error == ELOOP && at.judged && again < PT_AGAIN;
		pt_done(op, &at, error);
		if (!moved)
			return error ? fail(error) : 0;
	}
}

PT_EXPORT int PT_WRAP(access)(const char *path, int mode)
{
	return access_any(PT_OP_access, AT_FDCWD, path, mode, 0);
}

PT_EXPORT int PT_WRAP(faccessat)(int dirfd, const char *path, int mode, int flags)
{
	return access_any(PT_OP_faccessat, dirfd, path, mode, flags);
}

#ifndef __APPLE__
PT_EXPORT int PT_WRAP(euidaccess)(const char *path, int mode)
{
	return access_any(PT_OP_euidaccess, AT_FDCWD, path, mode, AT_EACCESS);
}
PT_ALIASES_euidaccess
#endif
