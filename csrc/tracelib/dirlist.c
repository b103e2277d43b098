/*
 * Directories: what a listing shows. Entries are looked at only where some of
 * the directory's children may be hidden.
 */
#include "dircache.h"
#include "headers.h"

static void listed(int fd, const struct pt_at *at)
{
	pt_fd_forget(fd);
	if (at->judged)
		pt_fd_set(fd, at->real, at->real_len);
}

PT_EXPORT DIR *PT_WRAP(opendir)(const char *path)
{
	typedef DIR *real_t(const char *);
	typedef DIR *from_t(int);
	real_t *real = PT_REAL(real_t, opendir);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_LIST, .flags = PT_FOLLOW };
	int error = pt_judge(PT_OP_opendir, &at);
	DIR *d = NULL;
	if (!error && pt_settled(&at)) {
		d = real(at.path);
		if (!d)
			error = errno;
	} else if (!error) {
		int fd = pt_open_judged(PT_OP_opendir, &at, O_RDONLY | O_NONBLOCK | O_DIRECTORY | O_CLOEXEC, 0);
		d = fd < 0 ? NULL : PT_REAL(from_t, fdopendir)(fd);
		if (!d)
			error = fd < 0 ? -fd : errno;
		if (!d)
			pt_let_go(fd);
	}
	if (d)
		listed(dirfd(d), &at);
	pt_done(PT_OP_opendir, &at, error);
	if (!d)
		errno = error;
	return d;
}

PT_EXPORT DIR *PT_WRAP(fdopendir)(int fd)
{
	typedef DIR *real_t(int);
	DIR *d = PT_REAL(real_t, fdopendir)(fd);
	struct pt_info info;
	if (d && pt_on())
		pt_fd_dir(fd, &info, NULL, 0);
	return d;
}

PT_EXPORT int PT_WRAP(closedir)(DIR *d)
{
	typedef int real_t(DIR *);
	if (d)
		pt_fd_forget(dirfd(d));
	return PT_REAL(real_t, closedir)(d);
}

/* The kernel's entries end with the name's NUL and up to seven more bytes: its length without a walk over it. */
static inline size_t name_length(const struct dirent *e)
{
	size_t end = e->d_reclen, head = offsetof(struct dirent, d_name);
	if (unlikely(end < head + 1 || end > sizeof *e || end % 8))
		return strlen(e->d_name);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	uint64_t last, low = 0x0101010101010101ull;
	memcpy(&last, (const char *)e + end - 8, sizeof last);
	if (end - 8 < head)            /* the type and what is before it are no name */
		last |= (1ull << 8 * (head - end + 8)) - 1;
	last = (last - low) & ~last & low << 7;
	if (likely(last))
		return end - 8 + (size_t)__builtin_ctzll(last) / 8 - head;
#endif
	return strlen(e->d_name);
}

static __attribute__((noinline)) struct dirent *next_shown(DIR *d, int fd)
{
	typedef struct dirent *real_t(DIR *);
	int kept = errno;
	struct dirent *e;
	do {
		errno = kept;
		e = PT_REAL(real_t, readdir)(d);
	} while (e && !pt_shown(fd, e->d_name, name_length(e), e->d_type));
	return e;
}

PT_EXPORT struct dirent *PT_WRAP(readdir)(DIR *d)
{
	typedef struct dirent *real_t(DIR *);
	real_t *real = PT_REAL(real_t, readdir);
	struct dirent *e = real(d);
	if (!e)
		return e;
	int fd = dirfd(d);
	if (likely((pt_facts_of(fd) & (PT_FD_KNOWN | PT_FD_FILTERED)) == PT_FD_KNOWN))
		return e;                      /* nothing in this directory is hidden */
	return likely(pt_listed(fd, e->d_name, name_length(e), e->d_type)) ? e : next_shown(d, fd);
}
PT_ALIASES_readdir

PT_EXPORT int PT_WRAP(readdir_r)(DIR *restrict d, struct dirent *restrict entry, struct dirent **restrict result)
{
	typedef int real_t(DIR *, struct dirent *, struct dirent **);
	real_t *real = PT_REAL(real_t, readdir_r);
	int r;
	do
		r = real(d, entry, result);
	while (r == 0 && *result && pt_fd_filtered(dirfd(d)) && !pt_shown(dirfd(d), entry->d_name, strlen(entry->d_name), entry->d_type));
	return r;
}
PT_ALIASES_readdir_r

/* Takes hidden entries out of a buffer of getdents64. */
ssize_t pt_filter_entries(int fd, char *buf, ssize_t n)
{
	if (n <= 0 || !pt_on() || !pt_fd_filtered(fd))
		return n;
	ssize_t out = 0;
	for (ssize_t in = 0; in < n;) {
		struct dirent *e = (struct dirent *)(buf + in);
		size_t size = e->d_reclen;
		if (!size)
			break;
		if (pt_shown(fd, e->d_name, name_length(e), e->d_type)) {
			memmove(buf + out, e, size);
			out += (ssize_t)size;
		}
		in += (ssize_t)size;
	}
	return out;
}

PT_EXPORT ssize_t PT_WRAP(getdents64)(int fd, void *buf, size_t size)
{
	for (;;) {
		ssize_t n = PT_SYS3(SYS_getdents64, fd, buf, size), left;
		if (n < 0) {
			errno = (int)-n;
			return -1;
		}
		left = pt_filter_entries(fd, buf, n);
		if (left || n <= 0)
			return left;
	}
}

PT_ALIASES_getdents64

/* Of POSIX 2024, so far in musl only (1.2.6), where the entries are the kernel's. */
ssize_t posix_getdents(int fd, void *buf, size_t size, int flags);
PT_EXPORT ssize_t posix_getdents(int fd, void *buf, size_t size, int flags)
{
	if (flags) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return getdents64(fd, buf, size);
}

ssize_t getdirentries(int fd, char *buf, size_t size, off_t *position);
PT_EXPORT ssize_t PT_WRAP(getdirentries)(int fd, char *buf, size_t size, off_t *position)
{
	typedef ssize_t real_t(int, char *, size_t, off_t *);
	for (;;) {
		ssize_t n = PT_REAL(real_t, getdirentries)(fd, buf, size, position), left = pt_filter_entries(fd, buf, n);
		if (left || n <= 0)
			return left;
	}
}
PT_ALIASES_getdirentries

/* The C library's own scandir reads past our readdir; the program's malloc is its to use here. */
struct scan {
	DIR *d;
	int (*select)(const struct dirent *);
	int (*compare)(const struct dirent **, const struct dirent **);
	struct dirent **found;
	size_t count;
	int error;
};

static void scan_read(void *what)
{
	struct scan *s = what;
	struct dirent *e;
	size_t room = 0;
	errno = 0;
	while ((e = readdir(s->d)) != NULL) {
		if (s->select) {
			errno = 0;
			if (!s->select(e))
				continue;
		}
		if (s->count == room) {
			struct dirent **more = realloc(s->found, (room = room ? 2 * room : 16) * sizeof *s->found);
			if (!more) {
				s->error = ENOMEM;
				return;
			}
			s->found = more;
		}
		if (!(s->found[s->count] = malloc(e->d_reclen))) {
			s->error = ENOMEM;
			return;
		}
		memcpy(s->found[s->count++], e, e->d_reclen);
		errno = 0;
	}
	s->error = errno;
	if (!s->error && s->compare && s->count)
		qsort(s->found, s->count, sizeof *s->found, (int (*)(const void *, const void *))(void *)s->compare);
}

static void scan_drop(void *what)
{
	struct scan *s = what;
	closedir(s->d);
	while (s->count)
		free(s->found[--s->count]);
	free(s->found);
}

static int scan(DIR *d, struct dirent ***list, int (*select)(const struct dirent *), int (*compare)(const struct dirent **, const struct dirent **))
{
	struct scan s = { .d = d, .select = select, .compare = compare };
	int kept = errno;
	pt_ending(scan_read, scan_drop, &s);
	if (s.error) {
		scan_drop(&s);
		errno = s.error;
		return -1;
	}
	closedir(d);
	errno = kept;
	*list = s.found;
	return (int)s.count;
}

PT_EXPORT int PT_WRAP(scandir)(const char *restrict path, struct dirent ***restrict list, int (*select)(const struct dirent *),
		      int (*compare)(const struct dirent **, const struct dirent **))
{
	DIR *d = opendir(path);
	return d ? scan(d, list, select, compare) : -1;
}
PT_ALIASES_scandir

PT_EXPORT int PT_WRAP(scandirat)(int fd, const char *restrict path, struct dirent ***restrict list, int (*select)(const struct dirent *),
			int (*compare)(const struct dirent **, const struct dirent **))
{
	int dir = openat(fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = dir < 0 ? NULL : fdopendir(dir);
	return d ? scan(d, list, select, compare) : -1;
}
PT_ALIASES_scandirat

#ifdef GLOB_ALTDIRFUNC
static int glob_stat(const char *path, struct stat *st)
{
	return stat(path, st);
}

static int glob_lstat(const char *path, struct stat *st)
{
	return lstat(path, st);
}
#else
/* Looked for where it was judged to be: a directory on the way may have been another one when glob read it. */
static bool is_there(const char *path)
{
	struct stat st;
	int kept = errno;
	bool there = !pt_hides(AT_FDCWD, path) && (lstat(path, &st) == 0 || (errno != ENOENT && errno != ELOOP));
	errno = kept;
	return there;
}
#endif

PT_EXPORT int PT_WRAP(glob)(const char *restrict pattern, int flags, int (*error)(const char *, int), glob_t *restrict found)
{
	typedef int real_t(const char *, int, int (*)(const char *, int), glob_t *);
	real_t *real = PT_REAL(real_t, glob);
#ifndef GLOB_ALTDIRFUNC         /* musl's looks for itself: what it found must be there when we look */
	size_t before = flags & GLOB_APPEND ? found->gl_pathc : 0;
	int r = real(pattern, flags, error, found);
	if (r || !pt_on())
		return r;
	size_t first = flags & GLOB_DOOFFS ? found->gl_offs : 0, out = first + before;
	for (size_t i = out; i < first + found->gl_pathc; i++) {
		char *path = found->gl_pathv[i];
		if (((flags & GLOB_NOCHECK) && strcmp(path, pattern) == 0) || is_there(path))
			found->gl_pathv[out++] = path;
	}
	found->gl_pathv[out] = NULL;
	found->gl_pathc = out - first;
	if (found->gl_pathc > before)
		return 0;
	return GLOB_NOMATCH;
#else
	if (!pt_on() || (flags & GLOB_ALTDIRFUNC))
		return real(pattern, flags, error, found);
	found->gl_opendir = (void *(*)(const char *))opendir;
	found->gl_readdir = (struct dirent *(*)(void *))readdir;
	found->gl_closedir = (void (*)(void *))(void *)closedir;
	found->gl_stat = glob_stat;
	found->gl_lstat = glob_lstat;
	int r = real(pattern, flags | GLOB_ALTDIRFUNC, error, found);
	found->gl_flags &= ~GLOB_ALTDIRFUNC;
	return r;
#endif
}
PT_ALIASES_glob
