/*
 * Wrappers of macOS that the table cannot describe (listings: listings_darwin.c,
 * programs: spawn_darwin.c, the loader: load_darwin.c). Streams, opendir, scandir,
 * glob, realpath, getcwd, mkstemp, the exec family and system are not
 * here: they are made of calls in another library of libSystem, through the
 * symbol table, hence of wrappers.
 */
#include "headers.h"

/* ---- opens with more to say ---- */

/* `call` is made with at.dirfd and at.path. */
#define OPENED(op, dir, name, how, call) ({ \
	struct pt_at at = { .dirfd = dir, .path = name }; \
	pt_intend_open(&at, how); \
	int error = pt_judge(op, &at), fd = -1; \
	if (!error) { \
		fd = (call); \
		if (fd < 0) \
			error = errno; \
		else \
			pt_fd_forget(fd); \
	} \
	pt_done(op, &at, error); \
	if (fd < 0) \
		errno = error; \
	fd; })

#define MODE(last, flags) ({ \
	va_list ap_; \
	va_start(ap_, last); \
	int mode_ = (flags) & O_CREAT ? va_arg(ap_, int) : 0; \
	va_end(ap_); \
	mode_; })

PT_EXPORT int PT_WRAP(open_dprotected_np)(const char *path, int flags, int class, int dpflags, ...);
PT_EXPORT int PT_WRAP(open_dprotected_np)(const char *path, int flags, int class, int dpflags, ...)
{
	typedef int real_t(const char *, int, int, int, ...);
	int mode = MODE(dpflags, flags);
	return OPENED(PT_OP_open_dprotected_np, AT_FDCWD, path, flags,
		      PT_REAL(real_t, open_dprotected_np)(at.path, flags, class, dpflags, mode));
}

PT_EXPORT int PT_WRAP(openat_dprotected_np)(int dirfd, const char *path, int flags, int class, int dpflags, ...);
PT_EXPORT int PT_WRAP(openat_dprotected_np)(int dirfd, const char *path, int flags, int class, int dpflags, ...)
{
	typedef int real_t(int, const char *, int, int, int, ...);
	int mode = MODE(dpflags, flags);
	return OPENED(PT_OP_openat_dprotected_np, dirfd, path, flags,
		      PT_REAL(real_t, openat_dprotected_np)(at.dirfd, at.path, flags, class, dpflags, mode));
}

PT_EXPORT int PT_WRAP(openat_authenticated_np)(int dirfd, const char *path, int flags, int authenticated);
PT_EXPORT int PT_WRAP(openat_authenticated_np)(int dirfd, const char *path, int flags, int authenticated)
{
	typedef int real_t(int, const char *, int, int);
	return OPENED(PT_OP_openat_authenticated_np, dirfd, path, flags,
		      PT_REAL(real_t, openat_authenticated_np)(at.dirfd, at.path, flags, authenticated));
}

PT_EXPORT int PT_WRAP(guarded_open_np)(const char *path, const uint64_t *guard, unsigned guardflags, int flags, ...);
PT_EXPORT int PT_WRAP(guarded_open_np)(const char *path, const uint64_t *guard, unsigned guardflags, int flags, ...)
{
	typedef int real_t(const char *, const uint64_t *, unsigned, int, ...);
	int mode = MODE(flags, flags);
	return OPENED(PT_OP_guarded_open_np, AT_FDCWD, path, flags,
		      PT_REAL(real_t, guarded_open_np)(at.path, guard, guardflags, flags, mode));
}

PT_EXPORT int PT_WRAP(guarded_open_dprotected_np)(const char *path, const uint64_t *guard, unsigned guardflags, int flags, int class,
						  int dpflags, ...);
PT_EXPORT int PT_WRAP(guarded_open_dprotected_np)(const char *path, const uint64_t *guard, unsigned guardflags, int flags, int class,
						  int dpflags, ...)
{
	typedef int real_t(const char *, const uint64_t *, unsigned, int, int, int, ...);
	int mode = MODE(dpflags, flags);
	return OPENED(PT_OP_guarded_open_dprotected_np, AT_FDCWD, path, flags,
		      PT_REAL(real_t, guarded_open_dprotected_np)(at.path, guard, guardflags, flags, class, dpflags, mode));
}

/* ---- the system calls below them, whose mode is a parameter like any other ---- */

int PT_WRAP(__open)(const char *path, int flags, int mode);
PT_EXPORT int PT_WRAP(__open)(const char *path, int flags, int mode)
{
	return pt_open(PT_OP___open, AT_FDCWD, path, flags, (mode_t)mode);
}

int PT_WRAP(__open_nocancel)(const char *path, int flags, int mode);
PT_EXPORT int PT_WRAP(__open_nocancel)(const char *path, int flags, int mode)
{
	return pt_open(PT_OP___open_nocancel, AT_FDCWD, path, flags, (mode_t)mode);
}

int PT_WRAP(__openat)(int dirfd, const char *path, int flags, int mode);
PT_EXPORT int PT_WRAP(__openat)(int dirfd, const char *path, int flags, int mode)
{
	return pt_open(PT_OP___openat, dirfd, path, flags, (mode_t)mode);
}

int PT_WRAP(__openat_nocancel)(int dirfd, const char *path, int flags, int mode);
PT_EXPORT int PT_WRAP(__openat_nocancel)(int dirfd, const char *path, int flags, int mode)
{
	return pt_open(PT_OP___openat_nocancel, dirfd, path, flags, (mode_t)mode);
}

int PT_WRAP(__open_dprotected_np)(const char *path, int flags, int class, int dpflags, int mode);
PT_EXPORT int PT_WRAP(__open_dprotected_np)(const char *path, int flags, int class, int dpflags, int mode)
{
	typedef int real_t(const char *, int, int, int, int);
	return OPENED(PT_OP___open_dprotected_np, AT_FDCWD, path, flags,
		      PT_REAL(real_t, __open_dprotected_np)(at.path, flags, class, dpflags, mode));
}

/* Releases differ in whether the last parameter is there; those without it do not look at it. */
int PT_WRAP(__openat_dprotected_np)(int dirfd, const char *path, int flags, int class, int dpflags, int mode, int authenticated);
PT_EXPORT int PT_WRAP(__openat_dprotected_np)(int dirfd, const char *path, int flags, int class, int dpflags, int mode, int authenticated)
{
	typedef int real_t(int, const char *, int, int, int, int, int);
	return OPENED(PT_OP___openat_dprotected_np, dirfd, path, flags,
		      PT_REAL(real_t, __openat_dprotected_np)(at.dirfd, at.path, flags, class, dpflags, mode, authenticated));
}

int PT_WRAP(__guarded_open_np)(const char *path, const uint64_t *guard, unsigned guardflags, int flags, int mode);
PT_EXPORT int PT_WRAP(__guarded_open_np)(const char *path, const uint64_t *guard, unsigned guardflags, int flags, int mode)
{
	typedef int real_t(const char *, const uint64_t *, unsigned, int, int);
	return OPENED(PT_OP___guarded_open_np, AT_FDCWD, path, flags,
		      PT_REAL(real_t, __guarded_open_np)(at.path, guard, guardflags, flags, mode));
}

int PT_WRAP(__guarded_open_dprotected_np)(const char *path, const uint64_t *guard, unsigned guardflags, int flags, int class, int dpflags,
					  int mode);
PT_EXPORT int PT_WRAP(__guarded_open_dprotected_np)(const char *path, const uint64_t *guard, unsigned guardflags, int flags, int class,
						    int dpflags, int mode)
{
	typedef int real_t(const char *, const uint64_t *, unsigned, int, int, int, int);
	return OPENED(PT_OP___guarded_open_dprotected_np, AT_FDCWD, path, flags,
		      PT_REAL(real_t, __guarded_open_dprotected_np)(at.path, guard, guardflags, flags, class, dpflags, mode));
}

PT_EXPORT int PT_WRAP(openx_np)(const char *path, int flags, void *security);
PT_EXPORT int PT_WRAP(openx_np)(const char *path, int flags, void *security)
{
	typedef int real_t(const char *, int, void *);
	return OPENED(PT_OP_openx_np, AT_FDCWD, path, flags, PT_REAL(real_t, openx_np)(at.path, flags, security));
}

PT_EXPORT int PT_WRAP(__open_extended)(const char *path, int flags, uid_t uid, gid_t gid, int mode, void *security);
PT_EXPORT int PT_WRAP(__open_extended)(const char *path, int flags, uid_t uid, gid_t gid, int mode, void *security)
{
	typedef int real_t(const char *, int, uid_t, gid_t, int, void *);
	return OPENED(PT_OP___open_extended, AT_FDCWD, path, flags,
		      PT_REAL(real_t, __open_extended)(at.path, flags, uid, gid, mode, security));
}

/*
 * Made of opens and clones that are judged, and redirected, each for itself; here it gets its name in what is told of
 * a refusal.
 */
int PT_WRAP(copyfile)(const char *old, const char *path, void *state, unsigned flags);
PT_EXPORT int PT_WRAP(copyfile)(const char *old, const char *path, void *state, unsigned flags)
{
	typedef int real_t(const char *, const char *, void *, unsigned);
	if (old && !pt_quick_follow(AT_FDCWD, old, PT_ACC_READ) && pt_hides(AT_FDCWD, old)) {
		struct pt_at at = { .dirfd = AT_FDCWD, .path = old, .access = PT_ACC_READ,
			.flags = flags & COPYFILE_NOFOLLOW_SRC ? 0 : PT_FOLLOW };
		int error = pt_judge(PT_OP_copyfile, &at);
		pt_done(PT_OP_copyfile, &at, error);
		if (error) {
			errno = error;
			return -1;
		}
	}
	return PT_REAL(real_t, copyfile)(old, path, state, flags);
}

/* ---- descriptors ---- */

int PT_WRAP(close_NOCANCEL)(int fd);
PT_EXPORT int PT_WRAP(close_NOCANCEL)(int fd)
{
	typedef int real_t(int);
	pt_fd_forget(fd);
	return PT_REAL(real_t, close_NOCANCEL)(fd);
}

int PT_WRAP(guarded_close_np)(int fd, const uint64_t *guard);
PT_EXPORT int PT_WRAP(guarded_close_np)(int fd, const uint64_t *guard)
{
	typedef int real_t(int, const uint64_t *);
	pt_fd_forget(fd);
	return PT_REAL(real_t, guarded_close_np)(fd, guard);
}

/* A thread's own working directory: from now on none is remembered. */
int PT_WRAP(__pthread_chdir)(const char *path);
PT_EXPORT int PT_WRAP(__pthread_chdir)(const char *path)
{
	typedef int real_t(const char *);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_STAT, .flags = PT_FOLLOW };
	int error = pt_judge(PT_OP___pthread_chdir, &at), r = -1;
	if (!error) {
		pt_cwd_of_thread();
		r = PT_REAL(real_t, __pthread_chdir)(at.path);
		if (r < 0)
			error = errno;
	}
	pt_done(PT_OP___pthread_chdir, &at, error);
	if (error)
		errno = error;
	return r;
}

int PT_WRAP(__pthread_fchdir)(int fd);
PT_EXPORT int PT_WRAP(__pthread_fchdir)(int fd)
{
	typedef int real_t(int);
	pt_cwd_of_thread();
	return PT_REAL(real_t, __pthread_fchdir)(fd);
}

/* ---- several paths, or one that the kernel finds ---- */

/*
 * Descriptors, and behind them the paths that they name by their distance from the first; none: the one before. How many
 * there are is where the first path begins.
 */
int PT_WRAP(accessx_np)(const struct accessx_descriptor *what, size_t size, int *results, uid_t uid);
PT_EXPORT int PT_WRAP(accessx_np)(const struct accessx_descriptor *what, size_t size, int *results, uid_t uid)
{
	typedef int real_t(const struct accessx_descriptor *, size_t, int *, uid_t);
	int r = PT_REAL(real_t, accessx_np)(what, size, results, uid), kept = errno;
	if (r < 0 || !pt_on())
		return r;
	size_t count = size / sizeof *what, offset = 0;
	for (size_t i = 0; i < count; i++) {
		if (what[i].ad_name_offset)
			offset = what[i].ad_name_offset;
		if (offset / sizeof *what < count)
			count = offset / sizeof *what;
		if (i >= count || offset >= size)
			break;
		struct pt_at at = { .dirfd = AT_FDCWD, .path = (const char *)what + offset, .access = PT_ACC_STAT,
			.flags = PT_FOLLOW | (what[i].ad_flags & W_OK ? PT_PROBE_WRITE : 0) };
		int error = pt_judge(PT_OP_accessx_np, &at);
		if (error)
			results[i] = error;
		pt_done(PT_OP_accessx_np, &at, results[i]);
	}
	errno = kept;
	return r;
}

/* A file's number is known to who has seen it, or guessed: its name is told only where it may be seen. */
static ssize_t may_be_told(uint16_t op, char *buf, ssize_t n)
{
	if (n <= 0 || !pt_on())
		return n;
	int kept = errno;
	struct pt_at at = { .dirfd = AT_FDCWD, .path = buf, .access = PT_ACC_STAT };
	int error = pt_judge(op, &at);
	pt_done(op, &at, error);
	errno = error ? error : kept;
	if (!error)
		return n;
	memset(buf, 0, (size_t)n);
	return -1;
}

ssize_t PT_WRAP(fsgetpath)(char *buf, size_t size, void *fsid, uint64_t number);
PT_EXPORT ssize_t PT_WRAP(fsgetpath)(char *buf, size_t size, void *fsid, uint64_t number)
{
	typedef ssize_t real_t(char *, size_t, void *, uint64_t);
	return may_be_told(PT_OP_fsgetpath, buf, PT_REAL(real_t, fsgetpath)(buf, size, fsid, number));
}

ssize_t PT_WRAP(fsgetpath_ext)(char *buf, size_t size, void *fsid, uint64_t number, uint32_t options);
PT_EXPORT ssize_t PT_WRAP(fsgetpath_ext)(char *buf, size_t size, void *fsid, uint64_t number, uint32_t options)
{
	typedef ssize_t real_t(char *, size_t, void *, uint64_t, uint32_t);
	return may_be_told(PT_OP_fsgetpath_ext, buf, PT_REAL(real_t, fsgetpath_ext)(buf, size, fsid, number, options));
}
