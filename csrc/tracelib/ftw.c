/*
 * ftw and nftw: the C library's own walk reads past our wrappers, so this one goes by them: what is hidden does not
 * come up, a redirected tree shows under the name that was asked for, a link to what is hidden dangles.
 *
 * Like the C library's, it takes its memory from the program's malloc, which is the program's to use here.
 */
#include <ftw.h>
#include <pthread.h>

#include "headers.h"

typedef int old_visit_t(const char *, const struct stat *, int);

/* Names of a directory, one after the other, each with its NUL. A directory is read whole before its entries are visited. */
struct level {
	char *names;
	size_t used;
	DIR *open;                     /* NULL where no descriptor is left to the walk */
};

struct walk {
	__nftw_func_t visit;
	old_visit_t *old_visit;
	int flags, descriptors;
	dev_t device;
	char *path;
	size_t room;
	struct FTW at;
	struct { dev_t dev; ino_t ino; } *seen;   /* directories, where links are followed: each is visited once */
	size_t seen_used, seen_room;
};

static int call(struct walk *w, const struct stat *st, int what)
{
	if (!w->old_visit)
		return w->visit(w->path, st, what, &w->at);
	return w->old_visit(w->path, st, what == FTW_SL ? FTW_F : what == FTW_DP ? FTW_D : what == FTW_SLN ? FTW_NS : what);
}

static size_t place(const struct walk *w, const struct stat *st)
{
	size_t n = (size_t)((st->st_ino ^ st->st_dev << 32) * 0x9e3779b97f4a7c15ull >> 20) & (w->seen_room - 1);
	while (w->seen[n].ino && (w->seen[n].ino != st->st_ino || w->seen[n].dev != st->st_dev))
		n = (n + 1) & (w->seen_room - 1);
	return n;
}

/* 0: it is new, 1: it was visited, -1: no memory. */
static int remember(struct walk *w, const struct stat *st)
{
	if (2 * w->seen_used >= w->seen_room) {
		struct walk bigger = *w;
		bigger.seen_room = w->seen_room ? 2 * w->seen_room : 64;
		bigger.seen = calloc(bigger.seen_room, sizeof *w->seen);
		if (!bigger.seen)
			return -1;
		for (size_t i = 0; i < w->seen_room; i++)
			if (w->seen[i].ino) {
				struct stat old = { .st_dev = w->seen[i].dev, .st_ino = w->seen[i].ino };
				bigger.seen[place(&bigger, &old)] = w->seen[i];
			}
		free(w->seen);
		*w = bigger;
	}
	size_t n = place(w, st);
	if (w->seen[n].ino)
		return 1;
	w->seen[n].dev = st->st_dev;
	w->seen[n].ino = st->st_ino;
	w->seen_used++;
	return 0;
}

/* By which name the kernel is to be asked for the entry that `path` ends with, and from where. */
static const char *name_of(const struct walk *w, const struct level *in, int *from)
{
	*from = in && in->open ? dirfd(in->open) : AT_FDCWD;
	if (*from == AT_FDCWD && !(w->flags & FTW_CHDIR))
		return w->path;
	return w->path[w->at.base] ? w->path + w->at.base : "/";
}

static int read_names(struct level *l)
{
	size_t room = 0;
	struct dirent *e;
	while (errno = 0, (e = readdir(l->open)) != NULL) {
		size_t n = strlen(e->d_name) + 1;
		if (e->d_name[0] == '.' && (n == 2 || (n == 3 && e->d_name[1] == '.')))
			continue;
		if (room - l->used < n) {
			room = 2 * room + 1024;
			char *more = realloc(l->names, room);
			if (!more)
				return -1;
			l->names = more;
		}
		memcpy(l->names + l->used, e->d_name, n);
		l->used += n;
	}
	return errno ? -1 : 0;
}

static int visit_directory(struct walk *w, struct stat *st, struct level *above);

/* One entry: what it is, and on with it. `in` is NULL for the name that the walk begins with. */
static int visit(struct walk *w, struct level *in)
{
	struct stat st;
	int from, what, result = 0;
	const char *name = name_of(w, in, &from);
	if (fstatat(from, name, &st, w->flags & FTW_PHYS ? AT_SYMLINK_NOFOLLOW : 0) == 0) {
		what = S_ISDIR(st.st_mode) ? FTW_D : S_ISLNK(st.st_mode) ? FTW_SL : FTW_F;
	} else {
		int error = errno;
		if (error != ENOENT && (error != EACCES || !in))
			return -1;
		if (!(w->flags & FTW_PHYS) && fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode)) {
			what = FTW_SLN;
		} else if (!in) {
			errno = error;
			return -1;
		} else {
			memset(&st, 0, sizeof st);
			what = FTW_NS;
		}
	}
	if (!in)
		w->device = st.st_dev;
	if (what != FTW_NS && (w->flags & FTW_MOUNT) && st.st_dev != w->device)
		return 0;
	if (what != FTW_D)
		result = call(w, &st, what);
	else if ((w->flags & FTW_PHYS) || (result = remember(w, &st)) == 0)
		result = visit_directory(w, &st, in);
	else if (result > 0)
		result = 0;
	if ((w->flags & FTW_ACTIONRETVAL) && (result == FTW_SKIP_SUBTREE || (!in && result == FTW_SKIP_SIBLINGS)))
		result = 0;
	return result;
}

static int visit_entries(struct walk *w, struct level *l)
{
	size_t len = strlen(w->path);
	int result = 0;
	if (!len || w->path[len - 1] != '/')
		w->path[len++] = '/';
	w->at.level++;
	w->at.base = (int)len;
	for (size_t i = 0, n; i < l->used && result == 0; i += n) {
		n = strlen(l->names + i) + 1;
		if (len + n + 2 > w->room) {
			char *more = realloc(w->path, w->room = 2 * (len + n + 2));
			if (!more)
				return -1;
			w->path = more;
		}
		memcpy(w->path + len, l->names + i, n);
		w->at.base = (int)len;
		result = visit(w, l);
	}
	w->at.level--;
	return result;
}

static int visit_directory(struct walk *w, struct stat *st, struct level *above)
{
	struct level l = { .names = NULL };
	int from, base = w->at.base, result = 0;
	size_t len = strlen(w->path);
	const char *name = name_of(w, above, &from);
	int fd = openat(from, name, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 && !(l.open = fdopendir(fd))) {
		int error = errno;
		close(fd);
		errno = error;
	}
	if (!l.open)
		return errno == EACCES ? call(w, st, FTW_DNR) : -1;
	if (!(w->flags & FTW_DEPTH) && (result = call(w, st, FTW_D)) != 0) {
		int error = errno;
		closedir(l.open);
		errno = error;
		return result;         /* to skip the siblings means its own, not its entries' */
	}
	result = read_names(&l);
	bool inside = false;
	if (result == 0 && (w->flags & FTW_CHDIR)) {
		result = fchdir(dirfd(l.open));
		inside = result == 0;
	}
	int error = errno;
	/* from behind a link ".." is no way back */
	if (w->descriptors > 1 || (w->flags & (FTW_CHDIR | FTW_PHYS)) == FTW_CHDIR) {
		w->descriptors--;
	} else {
		closedir(l.open);
		l.open = NULL;
	}
	errno = error;
	if (result == 0)
		result = visit_entries(w, &l);
	error = errno;
	if (l.open) {
		closedir(l.open);
		w->descriptors++;
	}
	free(l.names);
	errno = error;
	w->path[len] = 0;
	w->at.base = base;
	if ((w->flags & FTW_ACTIONRETVAL) && result == FTW_SKIP_SIBLINGS)
		result = 0;
	if (result == 0 && (w->flags & FTW_DEPTH))
		result = call(w, st, FTW_DP);
	bool on = result == 0 || ((w->flags & FTW_ACTIONRETVAL) && result != -1 && result != FTW_STOP);
	if (inside && above && on && (above->open ? fchdir(dirfd(above->open)) : chdir("..")) != 0)
		result = -1;
	return result;
}

static int walk(const char *path, __nftw_func_t fn, old_visit_t *old, int descriptors, int flags)
{
	struct walk w = { .visit = fn, .old_visit = old, .flags = flags, .descriptors = descriptors < 1 ? 1 : descriptors };
	int back = -1, result = -1;
	if (!path[0]) {
		errno = ENOENT;
		return -1;
	}
	size_t len = strlen(path);
	w.path = malloc(w.room = 2 * len + 256);
	if (!w.path)
		return -1;
	memcpy(w.path, path, len + 1);
	while (len > 1 && w.path[len - 1] == '/')
		w.path[--len] = 0;
	while (len && w.path[len - 1] != '/')
		len--;
	w.at.base = (int)len;
	if (flags & FTW_CHDIR) {
		back = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (back >= 0 && len > 1) {
			w.path[len - 1] = 0;
			result = chdir(w.path);
			w.path[len - 1] = '/';
		} else if (back >= 0) {
			result = len ? chdir("/") : 0;
		}
	} else {
		result = 0;
	}
	if (result == 0)
		result = visit(&w, NULL);
	int error = errno;
	if (back >= 0) {
		if (fchdir(back) != 0 && result == 0) {
			error = errno;
			result = -1;
		}
		close(back);
	}
	free(w.seen);
	free(w.path);
	errno = error;
	return result;
}

/* In musl a thread that was cancelled ends after the walk. */
static int walk_whole(const char *path, __nftw_func_t fn, old_visit_t *old, int descriptors, int flags)
{
#ifdef __GLIBC__
	return walk(path, fn, old, descriptors, flags);
#else
	int before;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	int r = walk(path, fn, old, descriptors, flags);
	pthread_setcancelstate(before, NULL);
	return r;
#endif
}

PT_EXPORT int PT_WRAP(nftw)(const char *path, __nftw_func_t fn, int descriptors, int flags)
{
	if (flags & ~(FTW_PHYS | FTW_MOUNT | FTW_CHDIR | FTW_DEPTH | FTW_ACTIONRETVAL)) {
		errno = EINVAL;
		return -1;
	}
	return walk_whole(path, fn, NULL, descriptors, flags);
}
PT_ALIASES_nftw

PT_EXPORT int PT_WRAP(ftw)(const char *path, old_visit_t *fn, int descriptors)
{
	return walk_whole(path, NULL, fn, descriptors, 0);
}
PT_ALIASES_ftw
