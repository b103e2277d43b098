/*
 * fts over our own wrappers: the C library's reads past them. What is hidden is in no list, a link to it dangles, a
 * hidden root is FTS_NS, a redirected tree shows under the name that was asked for. The structures are the C
 * library's public ones, so that its fts_set, which only notes an instruction, goes with them.
 *
 * Like the C library's, it takes its memory from the program's malloc, which is the program's to use here.
 */
#include <fts.h>

#include "headers.h"

#define PATH_ROOM 65536        /* lengths in FTSENT are 16 bits wide: no path can be longer */

enum { TO_READ, TO_SHOW, TO_NAME };    /* why a directory is read: to go into it; for fts_children, with or without stat */

static bool is_dot(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

static FTSENT *entry_new(FTS *f, const char *name, size_t len)
{
	size_t at = (sizeof(FTSENT) + len + 1 + _Alignof(struct stat) - 1) & ~(_Alignof(struct stat) - 1);
	FTSENT *e = calloc(1, at + sizeof(struct stat));
	if (!e)
		return NULL;
	memcpy(e->fts_name, name, len);
	e->fts_namelen = (unsigned short)len;
	e->fts_path = f->fts_path;
	e->fts_statp = (struct stat *)(void *)((char *)e + at);
	e->fts_instr = FTS_NOINSTR;
	return e;
}

static void free_list(FTSENT *e)
{
	while (e) {
		FTSENT *next = e->fts_link;
		free(e);
		e = next;
	}
}

static unsigned short look(const FTS *f, FTSENT *e, int from, const char *name, bool follow)
{
	struct stat *st = e->fts_statp;
	follow = follow || (f->fts_options & FTS_LOGICAL);
	if (fstatat(from, name, st, follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0) {
		int error = errno;
		if (follow && fstatat(from, name, st, AT_SYMLINK_NOFOLLOW) == 0) {
			errno = 0;
			return FTS_SLNONE;
		}
		e->fts_errno = error;
		memset(st, 0, sizeof *st);
		return FTS_NS;
	}
	if (S_ISLNK(st->st_mode))
		return FTS_SL;
	if (S_ISREG(st->st_mode))
		return FTS_F;
	if (!S_ISDIR(st->st_mode))
		return FTS_DEFAULT;
	e->fts_dev = st->st_dev;
	e->fts_ino = st->st_ino;
	e->fts_nlink = st->st_nlink;
	if (is_dot(e->fts_name))
		return FTS_DOT;
	for (FTSENT *up = e->fts_parent; up && up->fts_level >= FTS_ROOTLEVEL; up = up->fts_parent)
		if (up->fts_ino == e->fts_ino && up->fts_dev == e->fts_dev) {
			e->fts_cycle = up;
			return FTS_DC;
		}
	return FTS_D;
}

static FTSENT *sorted(FTS *f, FTSENT *list, size_t count)
{
	if (!f->fts_compar || count < 2)
		return list;
	FTSENT **all = malloc(count * sizeof *all);
	if (!all)
		return list;
	size_t n = 0;
	for (FTSENT *e = list; e; e = e->fts_link)
		all[n++] = e;
	qsort(all, n, sizeof *all, (int (*)(const void *, const void *))(void *)f->fts_compar);
	for (size_t i = 0; i < n; i++)
		all[i]->fts_link = i + 1 < n ? all[i + 1] : NULL;
	list = all[0];
	free(all);
	return list;
}

/* Into a directory that is the one we looked at. */
static int enter(const FTS *f, const FTSENT *e, int fd)
{
	struct stat st;
	if (f->fts_options & FTS_NOCHDIR)
		return 0;
	if (fstat(fd, &st) != 0)
		return -1;
	if (st.st_dev != e->fts_dev || st.st_ino != e->fts_ino) {
		errno = ENOENT;
		return -1;
	}
	return fchdir(fd);
}

static int enter_by_name(const FTS *f, const FTSENT *e)
{
	if (f->fts_options & FTS_NOCHDIR)
		return 0;
	int fd = open(e->fts_accpath, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int r = enter(f, e, fd), error = errno;
	close(fd);
	errno = error;
	return r;
}

static int to_start(const FTS *f)
{
	return f->fts_options & FTS_NOCHDIR ? 0 : fchdir(f->fts_rfd);
}

static FTSENT *stopped(FTS *f, int error)
{
	f->fts_options |= FTS_STOP;
	errno = error;
	return NULL;
}

/* Where in the path a child's name begins, after its slash. */
static size_t child_at(const FTSENT *e)
{
	size_t n = e->fts_pathlen;
	return n && e->fts_path[n - 1] == '/' ? n : n + 1;
}

/* What is in the current directory; NULL also where there is nothing. */
static FTSENT *children(FTS *f, int why)
{
	FTSENT *cur = f->fts_cur, *first = NULL, **end = &first;
	size_t count = 0, at = child_at(cur);
	int from = open(cur->fts_accpath, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC), error = 0;
	DIR *d = from < 0 ? NULL : fdopendir(from);
	if (!d) {
		error = errno;
		if (from >= 0)
			close(from);
		if (why == TO_READ) {
			cur->fts_info = FTS_DNR;
			cur->fts_errno = error;
		}
		errno = error;
		return NULL;
	}
	bool stay = false;             /* it cannot be entered: then nothing is shown of it, though it could be read */
	if (why == TO_READ && enter(f, cur, from) != 0) {
		cur->fts_errno = errno;
		cur->fts_flags |= FTS_DONTCHDIR;
		stay = true;
	}
	bool nostat = (f->fts_options & FTS_NOSTAT) && (f->fts_options & FTS_PHYSICAL);
	struct dirent *r;
	while (errno = 0, !stay && (r = readdir(d)) != NULL) {
		if (is_dot(r->d_name) && !(f->fts_options & FTS_SEEDOT))
			continue;
		size_t len = strlen(r->d_name);
		FTSENT *e = at + len + 1 > PATH_ROOM ? NULL : entry_new(f, r->d_name, len);
		if (!e) {
			error = at + len + 1 > PATH_ROOM ? ENAMETOOLONG : ENOMEM;
			break;
		}
		e->fts_level = (short)(cur->fts_level + 1);
		e->fts_parent = cur;
		e->fts_pathlen = (unsigned short)(at + len);
		e->fts_accpath = f->fts_options & FTS_NOCHDIR ? e->fts_path : e->fts_name;
		if (why == TO_NAME || (nostat && r->d_type != DT_DIR && r->d_type != DT_UNKNOWN))
			e->fts_info = FTS_NSOK;
		else
			e->fts_info = look(f, e, from, e->fts_name, false);
		*end = e;
		end = &e->fts_link;
		count++;
	}
	closedir(d);
	if (!error && count)
		return sorted(f, first, count);
	if (why == TO_READ && !stay && !(f->fts_options & FTS_NOCHDIR) &&
	    (cur->fts_level == FTS_ROOTLEVEL ? to_start(f) :
	     cur->fts_flags & FTS_SYMFOLLOW ? fchdir(cur->fts_symfd) : chdir("..")) != 0 && !error)
		error = errno;
	if (error) {
		free_list(first);
		cur->fts_info = FTS_ERR;
		return stopped(f, error);
	}
	if (why == TO_READ)
		cur->fts_info = FTS_DP;
	errno = 0;
	return NULL;
}

static FTSENT *follow(FTS *f, FTSENT *e)
{
	e->fts_info = look(f, e, AT_FDCWD, e->fts_accpath, true);
	if (e->fts_info == FTS_D && !(f->fts_options & FTS_NOCHDIR)) {
		e->fts_symfd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (e->fts_symfd < 0) {
			e->fts_errno = errno;
			e->fts_info = FTS_ERR;
		} else {
			e->fts_flags |= FTS_SYMFOLLOW;
		}
	}
	return e;
}

static void forget_children(FTS *f)
{
	free_list(f->fts_child);
	f->fts_child = NULL;
}

/* A root becomes the current entry: its path as it was given, its name without the directories before it. */
static FTSENT *begin_root(FTS *f, FTSENT *e)
{
	e->fts_pathlen = e->fts_namelen;
	memcpy(f->fts_path, e->fts_name, e->fts_namelen + 1u);
	char *slash = strrchr(e->fts_name, '/');
	if (slash && (slash != e->fts_name || slash[1])) {
		size_t len = strlen(slash + 1);
		memmove(e->fts_name, slash + 1, len + 1);
		e->fts_namelen = (unsigned short)len;
	}
	e->fts_accpath = e->fts_path = f->fts_path;
	f->fts_dev = e->fts_dev;
	return f->fts_cur = e;
}

static FTSENT *begin_child(FTS *f, FTSENT *e)
{
	size_t at = child_at(e->fts_parent);
	f->fts_path[at - 1] = '/';
	memcpy(f->fts_path + at, e->fts_name, e->fts_namelen + 1u);
	return f->fts_cur = e;
}

PT_EXPORT FTS *PT_WRAP(fts_open)(char *const *paths, int options, int (*compare)(const FTSENT **, const FTSENT **))
{
	if (options & ~FTS_OPTIONMASK) {
		errno = EINVAL;
		return NULL;
	}
	int error = ENOMEM;
	FTSENT *parent = NULL, *first = NULL, **end = &first, *start = NULL;
	size_t count = 0;
	FTS *f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	f->fts_compar = (__typeof__(f->fts_compar))(void *)compare;
	f->fts_options = options | (options & FTS_LOGICAL ? FTS_NOCHDIR : 0);
	f->fts_path = malloc(PATH_ROOM);
	f->fts_pathlen = PATH_ROOM;
	if (!f->fts_path || !(parent = entry_new(f, "", 0)) || !(start = entry_new(f, "", 0)))
		goto failed;
	parent->fts_level = FTS_ROOTPARENTLEVEL;
	for (; *paths; paths++) {
		size_t len = strlen(*paths);
		FTSENT *e = NULL;
		error = !len ? ENOENT : len >= PATH_ROOM ? ENAMETOOLONG : ENOMEM;
		if (!len || len >= PATH_ROOM || !(e = entry_new(f, *paths, len)))
			goto failed;
		*end = e;
		end = &e->fts_link;
		e->fts_level = FTS_ROOTLEVEL;
		e->fts_parent = parent;
		e->fts_accpath = e->fts_name;
		e->fts_info = look(f, e, AT_FDCWD, e->fts_name, options & FTS_COMFOLLOW);
		if (e->fts_info == FTS_DOT)
			e->fts_info = FTS_D;
		count++;
	}
	first = sorted(f, first, count);
	start->fts_info = FTS_INIT;
	start->fts_link = first;
	start->fts_parent = parent;    /* for fts_close before the first fts_read */
	if (!count)
		free(parent), start->fts_parent = NULL;
	f->fts_cur = start;
	if (!(f->fts_options & FTS_NOCHDIR)) {
		f->fts_rfd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (f->fts_rfd < 0)
			f->fts_options |= FTS_NOCHDIR;
	}
	return f;
failed:
	free_list(first);
	free(start);
	free(parent);
	free(f->fts_path);
	free(f);
	errno = error;
	return NULL;
}
PT_ALIASES_fts_open

PT_EXPORT FTSENT *PT_WRAP(fts_read)(FTS *f)
{
	FTSENT *e = f->fts_cur;
	if (!e || (f->fts_options & FTS_STOP))
		return NULL;
	int wanted = e->fts_instr;
	e->fts_instr = FTS_NOINSTR;
	if (wanted == FTS_AGAIN) {
		e->fts_info = look(f, e, AT_FDCWD, e->fts_accpath, false);
		return e;
	}
	if (wanted == FTS_FOLLOW && (e->fts_info == FTS_SL || e->fts_info == FTS_SLNONE))
		return follow(f, e);
	if (e->fts_info == FTS_D) {
		if (wanted == FTS_SKIP || ((f->fts_options & FTS_XDEV) && e->fts_dev != f->fts_dev)) {
			if (e->fts_flags & FTS_SYMFOLLOW)
				close(e->fts_symfd);
			e->fts_flags &= (unsigned short)~FTS_SYMFOLLOW;
			forget_children(f);
			e->fts_info = FTS_DP;
			return e;
		}
		if (f->fts_child && (f->fts_options & FTS_NAMEONLY)) {
			f->fts_options &= ~FTS_NAMEONLY;
			forget_children(f);
		}
		if (f->fts_child) {
			if (enter_by_name(f, e) != 0) {
				e->fts_errno = errno;
				e->fts_flags |= FTS_DONTCHDIR;
				for (FTSENT *c = f->fts_child; c; c = c->fts_link)
					c->fts_accpath = e->fts_accpath;
			}
		} else if (!(f->fts_child = children(f, TO_READ))) {
			return f->fts_options & FTS_STOP ? NULL : e;
		}
		e = f->fts_child;
		f->fts_child = NULL;
		return begin_child(f, e);
	}
	for (;;) {
		FTSENT *done = e;
		e = e->fts_link;
		if (e) {
			f->fts_cur = e;
			free(done);
			if (e->fts_level == FTS_ROOTLEVEL) {
				if (to_start(f) != 0)
					return stopped(f, errno);
				forget_children(f);
				return begin_root(f, e);
			}
			if (e->fts_instr == FTS_SKIP)
				continue;
			begin_child(f, e);
			if (e->fts_instr == FTS_FOLLOW) {
				follow(f, e);
				e->fts_instr = FTS_NOINSTR;
			}
			return e;
		}
		e = done->fts_parent;
		f->fts_cur = e;
		free(done);
		if (!e || e->fts_level == FTS_ROOTPARENTLEVEL) {
			free(e);
			f->fts_cur = NULL;
			errno = 0;
			return NULL;
		}
		f->fts_path[e->fts_pathlen] = 0;
		int r = 0;
		if (e->fts_level == FTS_ROOTLEVEL) {
			r = to_start(f);
		} else if (e->fts_flags & FTS_SYMFOLLOW) {
			r = fchdir(e->fts_symfd);
			int error = errno;
			close(e->fts_symfd);
			errno = error;
			e->fts_flags &= (unsigned short)~FTS_SYMFOLLOW;
		} else if (!(e->fts_flags & FTS_DONTCHDIR) && !(f->fts_options & FTS_NOCHDIR)) {
			r = chdir("..");
		}
		if (r != 0)
			return stopped(f, errno);
		e->fts_info = e->fts_errno ? FTS_ERR : FTS_DP;
		return e;
	}
}
PT_ALIASES_fts_read

PT_EXPORT FTSENT *PT_WRAP(fts_children)(FTS *f, int how)
{
	FTSENT *e = f->fts_cur;
	if (how && how != FTS_NAMEONLY) {
		errno = EINVAL;
		return NULL;
	}
	errno = 0;
	if (!e || (f->fts_options & FTS_STOP))
		return NULL;
	if (e->fts_info == FTS_INIT)
		return e->fts_link;
	if (e->fts_info != FTS_D)
		return NULL;
	forget_children(f);
	if (how == FTS_NAMEONLY)
		f->fts_options |= FTS_NAMEONLY;
	return f->fts_child = children(f, how == FTS_NAMEONLY ? TO_NAME : TO_SHOW);
}
PT_ALIASES_fts_children

PT_EXPORT int PT_WRAP(fts_close)(FTS *f)
{
	int r = 0, error = 0;
	for (FTSENT *e = f->fts_cur, *next; e; e = next) {
		next = e->fts_link ? e->fts_link : e->fts_parent;
		if (e->fts_flags & FTS_SYMFOLLOW)
			close(e->fts_symfd);
		free(e);
	}
	free_list(f->fts_child);
	free(f->fts_path);
	if (!(f->fts_options & FTS_NOCHDIR)) {
		r = fchdir(f->fts_rfd);
		error = errno;
		close(f->fts_rfd);
	}
	free(f);
	if (r != 0)
		errno = error;
	return r;
}
PT_ALIASES_fts_close
