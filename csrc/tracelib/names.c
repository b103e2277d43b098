/* Working directory, real names, names that the library makes up. */
#include "exec.h"
#include "headers.h"

PT_EXPORT int PT_WRAP(chdir)(const char *path)
{
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_STAT, .flags = PT_FOLLOW };
	int error = pt_judge(PT_OP_chdir, &at);
	if (!error) {
		error = -sys_chdir(at.path);
		if (!error && pt_on())
			pt_cwd_forget();
	}
	pt_done(PT_OP_chdir, &at, error);
	if (error) {
		errno = error;
		return -1;
	}
	return 0;
}

PT_EXPORT int PT_WRAP(fchdir)(int fd)
{
	int error = -sys_fchdir(fd);
	if (error) {
		errno = error;
		return -1;
	}
	if (pt_on())
		pt_cwd_forget();
	return 0;
}

/* Under a redirect the kernel's name for a directory is not the one by which the program went there. */
static char *current(char *buf, size_t size, char *(*real)(char *, size_t))
{
	char *r = real(buf, size);
	if (!r || !pt_on() || !(pt.flags & PT_IMG_REDIRECTS) || r[0] != '/')
		return r;
	int kept = errno;
	struct pt_slab *s = pt_slab_take(PT_PATH_CAP);
	size_t n = s ? pt_unredirect(pt.image, r, strlen(r), s->extra, s->cap) : 0;
	if (n && !buf && (!size || n < size)) {
		char *made = realloc(r, size ? size : n + 1);
		r = made ? made : r;
		n = made ? n : 0;
	} else if (n && n >= size) {
		if (!buf)
			free(r);
		kept = ERANGE;
		r = NULL;
		n = 0;
	}
	if (n)
		memcpy(r, s->extra, n + 1);
	pt_slab_give(s);
	errno = kept;
	return r;
}

static char *real_getcwd(char *buf, size_t size)
{
	typedef char *real_t(char *, size_t);
	return PT_REAL(real_t, getcwd)(buf, size);
}

PT_EXPORT char *PT_WRAP(getcwd)(char *buf, size_t size)
{
	return current(buf, size, real_getcwd);
}

#ifndef __APPLE__               /* there the rest is made of calls that are exchanged themselves */
char *__getcwd_chk(char *buf, size_t size, size_t room);
PT_EXPORT char *PT_WRAP(__getcwd_chk)(char *buf, size_t size, size_t room)
{
	typedef char *real_t(char *, size_t, size_t);
	if (room < size)               /* the C library ends such a program */
		return PT_REAL(real_t, __getcwd_chk)(buf, size, room);
	return current(buf, size, real_getcwd);
}

/* Without a bound of its own: the buffer has PATH_MAX bytes. */
char *getwd(char *buf);
PT_EXPORT char *PT_WRAP(getwd)(char *buf)
{
	if (!buf) {
		errno = EINVAL;
		return NULL;
	}
	return current(buf, PATH_MAX, real_getcwd);
}

char *__getwd_chk(char *buf, size_t room);
PT_EXPORT char *PT_WRAP(__getwd_chk)(char *buf, size_t room)
{
	typedef char *real_t(char *, size_t);
	return room < PATH_MAX ? PT_REAL(real_t, __getwd_chk)(buf, room) : current(buf, PATH_MAX, real_getcwd);
}

static char *real_current(char *buf, size_t size)
{
	typedef char *real_t(void);
	(void)buf, (void)size;
	return PT_REAL(real_t, get_current_dir_name)();
}

PT_EXPORT char *PT_WRAP(get_current_dir_name)(void)
{
	return current(NULL, 0, real_current);
}

/* The text of the link that was judged, or -errno. */
static ssize_t judged_text(const struct pt_at *at, char *buf, size_t size)
{
	bool nofollow;
	int fd = pt_hold(at, &nofollow);
	if (fd < 0)
		return fd == PT_AS_IS ? sys_readlinkat(at->dirfd, at->path, buf, size) : fd;
	ssize_t n = sys_readlinkat(fd, "", buf, size);
	sys_close(fd);
	return n == -ENOENT ? -EINVAL : n; /* it is no link */
}

/* A link's text is the program's own; only the kernel's links (/proc/self/cwd, fd/N) name places that were redirected. */
static ssize_t link_text_once(uint16_t op, struct pt_at *at, char *buf, size_t size)
{
	int error = pt_judge(op, at);
	ssize_t n = -error;
	if (!error) {
		bool names = at->judged && (pt.flags & PT_IMG_REDIRECTS) && at->real_len > 6 && memcmp(at->real, "/proc/", 6) == 0;
		char *to = names ? at->slab->link : buf;
		n = judged_text(at, to, names ? at->slab->cap - 1 : size);
		if (n >= 0 && names) {
			to[n] = 0;
			if (to[0] == '/')
				n = (ssize_t)pt_own_name(to, (size_t)n, at->slab->cap);
			if ((ssize_t)size < 0 || !size)
				n = -EINVAL;
			else if (n > (ssize_t)size)
				n = (ssize_t)size;
			if (n > 0)
				memcpy(buf, to, (size_t)n);
		}
	}
	pt_done(op, at, n < 0 ? (int)-n : 0);
	return n;
}

static ssize_t link_text(uint16_t op, int dirfd, const char *path, char *buf, size_t size)
{
	char copy[PT_COPY];
	const char *quick = path;
	uint64_t generation;
	enum pt_held held = pt.log ? PT_NOT_QUICK : pt_quick_held(dirfd, &quick, PT_ACC_STAT, copy, NULL, &generation);
	ssize_t n = held ? sys_readlinkat(dirfd, quick, buf, size) : -EAGAIN;
	if (unlikely(!held || !pt_was_judged(held, generation))) {
		struct pt_at at;
		int again = 0;
		do {
			at = (struct pt_at){ .dirfd = dirfd, .path = path, .access = PT_ACC_READLINK, .flags = PT_EMPTY };
			n = link_text_once(op, &at, buf, size);
		} while (n == -ELOOP && at.judged && again++ < PT_AGAIN);
	}
	if (n < 0)
		errno = (int)-n, n = -1;
	return n;
}

PT_EXPORT ssize_t PT_WRAP(readlink)(const char *restrict path, char *restrict buf, size_t size)
{
	return link_text(PT_OP_readlink, AT_FDCWD, path, buf, size);
}

PT_EXPORT ssize_t PT_WRAP(readlinkat)(int dirfd, const char *restrict path, char *restrict buf, size_t size)
{
	return link_text(PT_OP_readlinkat, dirfd, path, buf, size);
}

ssize_t __readlink_chk(const char *path, char *buf, size_t size, size_t room);
PT_EXPORT ssize_t PT_WRAP(__readlink_chk)(const char *path, char *buf, size_t size, size_t room)
{
	typedef ssize_t real_t(const char *, char *, size_t, size_t);
	if (room < size)               /* the C library ends such a program */
		return PT_REAL(real_t, __readlink_chk)(path, buf, size, room);
	return link_text(PT_OP___readlink_chk, AT_FDCWD, path, buf, size);
}

ssize_t __readlinkat_chk(int dirfd, const char *path, char *buf, size_t size, size_t room);
PT_EXPORT ssize_t PT_WRAP(__readlinkat_chk)(int dirfd, const char *path, char *buf, size_t size, size_t room)
{
	typedef ssize_t real_t(int, const char *, char *, size_t, size_t);
	if (room < size)
		return PT_REAL(real_t, __readlinkat_chk)(dirfd, path, buf, size, room);
	return link_text(PT_OP___readlinkat_chk, dirfd, path, buf, size);
}

/* realpath looks at each component itself; the whole is judged first. */
static char *real_path(uint16_t op, const char *path, char *resolved)
{
	typedef char *real_t(const char *, char *);
	real_t *real = PT_REAL(real_t, realpath);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_STAT, .flags = PT_FOLLOW };
	int error = pt_judge(op, &at);
	char *r = NULL;
	if (!error) {
		/* under a redirect the program is to see the name that it asked for, not where the file lies */
		bool moved = at.judged && at.path == at.slab->physical;
		if (moved) {
			struct stat st;
			error = -sys_fstatat(AT_FDCWD, at.path, &st, 0);
			if (!error) {
				r = resolved ? resolved : malloc(at.real_len + 2);
				if (!r)
					error = ENOMEM;
				else if (at.real_len >= PATH_MAX && resolved)
					r = NULL, error = ENAMETOOLONG;
				else
					memcpy(r, at.real_len ? at.real : "/", at.real_len ? at.real_len + 1 : 2);
			}
		} else {
			r = real(at.path, resolved);
			if (!r)
				error = errno;
		}
	}
	pt_done(op, &at, error);
	if (!r)
		errno = error;
	return r;
}

PT_EXPORT char *PT_WRAP(realpath)(const char *restrict path, char *restrict resolved)
{
	return real_path(PT_OP_realpath, path, resolved);
}

char *__realpath_chk(const char *path, char *resolved, size_t room);
PT_EXPORT char *PT_WRAP(__realpath_chk)(const char *path, char *resolved, size_t room)
{
	typedef char *real_t(const char *, char *, size_t);
	if (room < PATH_MAX)           /* the C library ends such a program */
		return PT_REAL(real_t, __realpath_chk)(path, resolved, room);
	return real_path(PT_OP___realpath_chk, path, resolved);
}

PT_EXPORT char *PT_WRAP(canonicalize_file_name)(const char *path)
{
	return real_path(PT_OP_canonicalize_file_name, path, NULL);
}

/* ---- templates ---- */

/* Judges the directory; under a redirect the new name is made there and its made-up part copied back. */
static int made_up(uint16_t op, char *template, struct pt_at *at)
{
	*at = (struct pt_at){ .dirfd = AT_FDCWD, .path = template, .access = PT_ACC_CREATE };
	return pt_judge(op, at);
}

static void copy_tail(char *to, const char *from)
{
	size_t n = strlen(to), m = strlen(from), k = 0;
	while (k < n && k < m && to[n - 1 - k] != '/')
		k++;
	memcpy(to + n - k, from + m - k, k);
}

/* The program, and the log, get the name that was made. */
static void copy_back(char *template, const struct pt_at *at)
{
	if (at->path != template)
		copy_tail(template, at->path);
	if (at->judged && at->real_len)
		copy_tail(at->real, template);
}

#define TEMPLATE(op, ret, none, call) ({ \
	struct pt_at at; \
	int error = made_up(op, template, &at); \
	ret r = none; \
	if (!error) { \
		char *t = (char *)(uintptr_t)at.path; \
		r = call; \
		if (r == none) \
			error = errno; \
		else \
			copy_back(template, &at); \
	} \
	pt_done(op, &at, error); \
	if (r == none) \
		errno = error; \
	r; })

PT_EXPORT int PT_WRAP(mkostemps)(char *template, int suffix, int flags)
{
	typedef int real_t(char *, int, int);
	return TEMPLATE(PT_OP_mkostemps, int, -1, PT_REAL(real_t, mkostemps)(t, suffix, flags));
}
PT_ALIASES_mkostemps

PT_EXPORT int PT_WRAP(mkostemp)(char *template, int flags)
{
	typedef int real_t(char *, int);
	return TEMPLATE(PT_OP_mkostemp, int, -1, PT_REAL(real_t, mkostemp)(t, flags));
}
PT_ALIASES_mkostemp

PT_EXPORT int PT_WRAP(mkstemps)(char *template, int suffix)
{
	typedef int real_t(char *, int);
	return TEMPLATE(PT_OP_mkstemps, int, -1, PT_REAL(real_t, mkstemps)(t, suffix));
}
PT_ALIASES_mkstemps

PT_EXPORT int PT_WRAP(mkstemp)(char *template)
{
	typedef int real_t(char *);
	return TEMPLATE(PT_OP_mkstemp, int, -1, PT_REAL(real_t, mkstemp)(t));
}
PT_ALIASES_mkstemp

PT_EXPORT char *PT_WRAP(mkdtemp)(char *template)
{
	typedef char *real_t(char *);
	return TEMPLATE(PT_OP_mkdtemp, char *, NULL, PT_REAL(real_t, mkdtemp)(t)) ? template : NULL;
}

#endif

/*
 * The loader looks at the return address to know whose RUNPATH counts: the real function is always left by a jump
 * (a sibling call), so that it sees the program's. Not made into a part of its caller: a compiler jumps out of no function
 * whose variables others have seen.
 */
static __attribute__((noinline)) const char *library(uint16_t op, const char *name)
{
	struct pt_at at = { .dirfd = AT_FDCWD, .path = name, .access = PT_ACC_READ, .flags = PT_FOLLOW };
	int error = pt_judge(op, &at);
#ifdef __linux__
	/* The loader opens it by its name, long after: where that could be exchanged, it is the supervisor that opens it. */
	if (!error && pt_on() && !pt_settled(&at) && !pt_supervise_all())
		error = EACCES;
#endif
	if (error)
		name = "/nonexistent/hidden";  /* so that dlerror has the loader's own words */
	else if (pt_runs_own(&at) || (at.judged && at.path == at.slab->physical)) {
		/* the loader keeps a copy of its own; the slab's bytes stay as they are until its next use */
		name = at.path;
	}
	/* what the loader will find; it is not asked in our place, because it looks at who asks */
	if (!error && pt_on() && (pt.flags & PT_IMG_LOG))
		error = -sys_faccessat(at.dirfd, at.path, F_OK);
	pt_done(op, &at, error);
	return name;
}

/* Plainly allowed, and nobody can put another in its place. Apart, too: it has variables of its own. */
static __attribute__((noinline)) bool plain_library(const char *name)
{
	char copy[PT_COPY];
	return pt_quick_fixed(&name, PT_ACC_READ, copy);
}

#if defined(__GLIBC__)
#define BY_NAME(name) (strchr(name, '/') ? name : pt_library_by_name(name, __builtin_return_address(0)))
#else
#define BY_NAME(name) name
#endif

PT_EXPORT void *PT_WRAP(dlopen)(const char *name, int flags)
{
	typedef void *real_t(const char *, int);
	if (name && name[0] != '@' && strchr(name, '/') && !plain_library(name))
		name = library(PT_OP_dlopen, name);
	else if (name)
		name = BY_NAME(name);
	if (name && !pt_watch_library(name))
		name = "/nonexistent/hidden";
	return PT_JUMP(real_t, dlopen)(name, flags);
}

#ifndef __APPLE__
#ifdef __GLIBC__
PT_EXPORT void *PT_WRAP(dlmopen)(Lmid_t space, const char *name, int flags)
{
	typedef void *real_t(Lmid_t, const char *, int);
	if (name && strchr(name, '/') && !plain_library(name))
		name = library(PT_OP_dlmopen, name);
	else if (name)
		name = BY_NAME(name);
	/* Another name space has another C library, in front of which nobody stands. */
	if (name && pt_on() && space != LM_ID_BASE && !pt_supervise_all())
		name = "/nonexistent/hidden";
	if (name && !pt_watch_library(name))
		name = "/nonexistent/hidden";
	return PT_REAL(real_t, dlmopen)(space, name, flags);
}
#endif

PT_EXPORT int PT_WRAP(daemon)(int nochdir, int noclose)
{
	typedef int real_t(int, int);
	int r = PT_REAL(real_t, daemon)(nochdir, noclose);
	if (!nochdir && pt_on())
		pt_cwd_forget();
	return r;
}
#endif
