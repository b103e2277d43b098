/*
 * From the path of a call to the real path, link by link, and what is known of the directory in which it lies.
 */
#include "few.h"
#include "locate.h"

/*
 * Compilers ask for files by …/gcc/x/12/../../../x/lib, and of each part of which ".." is said it has to be asked whether
 * it is a directory. What was found at the end of such a beginning is kept by its text, for as long as nobody in the
 * session can change any of it.
 */
struct pt_untidy {
	bool kept;                     /* of this path the beginnings are kept */
	size_t dir;                    /* where its directory part ends, if make_clean changes it and the last part is a plain name; or 0 */
};

static void keep_untidy(const struct pt_at *at, size_t len, const struct pt_untidy *u, const struct pt_info *info)
{
	if (u->kept && len && len <= PT_DIR_TEXT && info->stable && !info->error && !info->magic && !info->unseen && !at->slab->passing)
		pt_dir_keep(at->path, len, info, at->slab->real);
}

#define WALK_ENDS (-1)

/*
 * The step of "." or ".." (`up`) from slab->lex, `len` bytes of it; path[..end] ends with it. 0, an errno, or WALK_ENDS:
 * what is hidden is to be judged, and told.
 */
static int step_dotted(struct pt_at *at, size_t *len, bool up, size_t end, struct pt_untidy *u)
{
	struct pt_slab *s = at->slab;
	struct pt_info info;
	if (u->kept && end <= PT_DIR_TEXT && pt_dir_cached(at->path, end, &info, s->real)) {
		*len = info.real_len;
		memcpy(s->lex, s->real, *len);
		return 0;
	}
	pt_dir_resolve(s->lex, *len, s, &info);
	if (info.error && !info.hidden)
		return info.error;
	if (info.unseen)
		at->unseen = info.unseen;
	int error = info.hidden ? ENOENT : pt_not_passable(s->real, info.real_len, &info);
	u->kept = u->kept && !error && info.stable && !info.magic && !info.unseen;
	if (info.hidden && at->access <= PT_ACC_READLINK)
		return WALK_ENDS;
	at->final = at->final || error;
	if (error || !up)
		return error;
	*len = info.real_len;
	memcpy(s->lex, s->real, *len);
	while (*len && s->lex[--*len] != '/')
		;
	if (u->kept) {
		pt_dir_resolve(s->lex, *len, s, &info);
		keep_untidy(at, end, u, &info);
	}
	return 0;
}

/*
 * Appends the components of `path` to slab->lex, cleaned; ".." is taken from
 * the real path. 0 or errno; at->final where the kernel need not be asked.
 */
static int make_clean(struct pt_at *at, size_t *lex_len, const char *path, bool *dir, struct pt_untidy *untidy)
{
	struct pt_slab *s = at->slab;
	size_t len = *lex_len;
	bool changed = false;
	*dir = false;
	for (const char *p = path; *p;) {
		if (*p == '/') {
			changed = changed || (p > path && p[-1] == '/');
			p++;
			*dir = true;
			continue;
		}
		size_t n = 0;
		while (p[n] && p[n] != '/')
			n++;
		*dir = n < 3 && dots(p, n);
		if (*dir) {
			int error = 0;
			changed = true;
			if (n == 2 || len != *lex_len)   /* what it is said of has to be a directory */
				error = step_dotted(at, &len, n == 2, (size_t)(p - path) + n, untidy);
			if (error == WALK_ENDS)
				break;
			if (error)
				return error;
		} else {
			if (sys_fork_name(p, n))
				break;         /* a fork of the file before it, which is judged */
			if (len + n + 2 > s->cap)
				return s->cap < PT_PATH_CAP ? PT_NO_ROOM : ENAMETOOLONG;
			s->lex[len] = '/';
			memcpy(s->lex + len + 1, p, n);
			len += n + 1;
			untidy->dir = p > path ? (size_t)(p - path) - 1 : 0;
		}
		p += n;
	}
	if (!changed || *dir)
		untidy->dir = 0;
	s->lex[len] = 0;
	*lex_len = len;
	return 0;
}

void pt_split_real(struct pt_at *at)
{
	size_t dir = at->real_len;
	while (dir && at->real[--dir] != '/')
		;
	if (!pt_dir_cached(at->real, dir, &at->parent, NULL) || at->parent.real_len != dir)
		pt_info_of_real(at->real, dir, &at->parent);
}

static ssize_t fs_readlink(void *user, const char *path, char *buf, size_t size)
{
	(void)user;
	return sys_readlink(path, buf, size);
}

static int fs_exists(void *user, const char *path)
{
	(void)user;
	struct stat st;
	return sys_lstat(path, &st);
}

/* Where some rule redirects, a path has two names and core's resolver walks the virtual one. */
static int locate_redirected(struct pt_at *at, size_t lex_len, bool follow)
{
	struct pt_slab *s = at->slab;
	static const struct pt_fs fs = { NULL, fs_readlink, fs_exists };
	struct pt_resolved out = { .real = s->real, .physical = s->physical };
	if (!lex_len) {
		s->lex[0] = '/';
		s->lex[lex_len = 1] = 0;
	}
	unsigned flags = PT_RES_CREATE | (follow ? 0 : PT_RES_NOFOLLOW_LAST);
	if (at->access == PT_ACC_CREATE || at->access == PT_ACC_DELETE || at->access == PT_ACC_RENAME)
		flags |= PT_RES_ENTRY;
	pt_resolve(pt.image, &fs, s->lex, lex_len, flags, s->pending, &out);
	at->real = s->real;
	at->real_len = out.real_len;
	if (out.real_len == 1 && s->real[0] == '/')
		at->real_len = 0;
	s->physical[out.physical_len] = 0;
	pt_split_real(at);
	if (out.hidden) {
		at->parent.hidden = 1;
		return ENOENT;
	}
	if (out.error) {
		at->final = true;  /* the kernel, asked by the program's name, might find the original */
		return out.error;
	}
	if (out.physical_len != out.real_len || memcmp(s->physical, s->real, out.real_len) != 0) {
		at->path = s->physical;
		at->dirfd = AT_FDCWD;
	}
	return 0;
}

void pt_prepare(struct pt_at *at, struct pt_slab *s)
{
	at->slab = s;
	at->real = NULL;
	at->real_len = 0;
	at->fixed = at->linked = at->final = false;
	at->magic = 0;
	at->there = PT_THERE_UNKNOWN;
	at->unseen = 0;
	at->parent.hidden = 0;
}

static int locate(struct pt_at *at)
{
	struct pt_slab *s = at->slab;
	struct pt_info info;
	/* of our copy: the program's own text may change meanwhile */
	struct pt_untidy untidy = { .kept = at->path == s->asked && at->path[0] == '/' && !PT_NAMES_VARY && !(pt.flags & PT_IMG_REDIRECTS) };
	size_t lex_len = 0;
	bool dir = false;
	int error;

	if (at->path[0] != '/') {
		error = pt_fd_dir(at->dirfd, &info, s->lex, s->cap);
		if (error)
			return error;
		lex_len = info.real_len;
	}
	error = make_clean(at, &lex_len, at->path, &dir, &untidy);
	if (error)
		return error;
	at->fixed = true;
	bool follow = (at->flags & PT_FOLLOW) || (dir && at->access != PT_ACC_CREATE && at->access != PT_ACC_DELETE);
	if (pt.flags & PT_IMG_REDIRECTS)
		return locate_redirected(at, lex_len, follow);
	at->real = s->real;
	size_t cut = lex_len;
	while (cut && s->lex[--cut] != '/')
		;
	const char *name = s->lex + cut + 1;
	size_t n = lex_len ? lex_len - cut - 1 : 0;
	pt_dir_resolve(s->lex, cut, s, &info);
	at->parent = info;
	at->real_len = info.real_len;
	at->fixed = info.magic ? info.magic == PT_MAGIC_FIXED : info.stable;
	at->magic = info.magic;
	at->linked = info.linked;
	if (info.unseen)
		at->unseen = info.unseen;
	if (info.error)
		return info.error;
	if (!lex_len)
		return 0;
	keep_untidy(at, untidy.dir, &untidy, &info);
	if (info.real_len + n + 2 > s->cap)
		return s->cap < PT_PATH_CAP ? PT_NO_ROOM : ENAMETOOLONG;
	s->real[info.real_len] = '/';
	memcpy(s->real + info.real_len + 1, name, n);
	s->real[info.real_len + n + 1] = 0;
	if (PT_NAMES_VARY && sys_alias(s->real, info.real_len + n + 1, s->link, s->cap - 1) > 0) {
		pt_dir_resolve(s->lex, lex_len, s, &info);
		at->real_len = info.real_len;
		if (info.error)
			return info.error;
		pt_split_real(at);
		return 0;
	}
	if (!info.missing)
		n = sys_true_name(s->real, info.real_len, n);
	name = s->real + info.real_len + 1;
	at->real_len = info.real_len + n + 1;
	if (!follow || info.missing)
		return 0;
	if (at->fixed && !at->magic && pt_decide_child(pt.image, info.cursor[PT_WRITE], info.hash, name, n).action != PT_DENY)
		at->fixed = false;
	uint64_t hash = pt_hash_child(info.hash, name, n);
	struct pt_word known = pt_not_link(hash, pt_link_word(&info, hash, name, n));
	/* a process about to be replaced remembers nothing: the memory would cost more than the question */
	bool remember = at->access != PT_ACC_EXEC;
	if (remember && pt_word_known(known))
		return 0;
	ssize_t got = sys_readlink(s->real, s->link, s->cap - 1);
	if (got == (ssize_t)s->cap - 1)
		return s->cap < PT_PATH_CAP ? PT_NO_ROOM : ENAMETOOLONG;
	if (got <= 0) {
		at->there = got == -EINVAL ? PT_THERE : got == -ENOENT || got == -ENOTDIR ? PT_NOT_THERE : PT_THERE_UNKNOWN;
		if (got == -EINVAL && remember)
			pt_word_keep(known);
		else if (got < 0 && got != -EINVAL && got != -ENOENT && got != -ENOTDIR)
			at->unseen = (int16_t)-got;
		return 0;
	}
	s->link[got] = 0;
	if (s->link[0] != '/' && memchr(s->link, ':', (size_t)got) && !memchr(s->link, '/', (size_t)got) && memcmp(s->real, "/proc/", 6) == 0)
	{
		at->magic = at->fixed ? PT_MAGIC_FIXED : PT_MAGIC;
		return 0;          /* pipe:[…] and its like: no path */
	}
	pt_dir_resolve(s->lex, lex_len, s, &info);
	at->real_len = info.real_len;
	at->fixed = info.magic ? info.magic == PT_MAGIC_FIXED : info.stable;
	at->magic = info.magic;
	at->linked = true;
	if (info.unseen)
		at->unseen = info.unseen;
	if (info.error) {
		at->parent.hidden = info.hidden;
		return info.error;
	}
	pt_split_real(at);
	return 0;
}

static bool is(const char *name, size_t n, const char *word)
{
	return strlen(word) == n && !memcmp(name, word, n);
}

/*
 * By way of /proc to what a process has just now: its directory, its root, what is open. It is another one the next moment,
 * by another thread or by the process whose it is. Not so what this process has, where there is no other thread.
 */
static bool leads_on(const char *path)
{
	if (!pt_threads() && (!strncmp(path, "/proc/self/", 11) || !strncmp(path, "/proc/thread-self/", 18) || !strncmp(path, "/dev/", 5)))
		return false;
	if (!strncmp(path, "/dev/std", 8))
		return true;
	const char *before = "";
	for (size_t n, digits, prior = 0; *path; before = path, prior = n, path += n) {
		while (*path == '/')
			path++;
		for (n = 0, digits = 0; path[n] && path[n] != '/'; n++)
			digits += path[n] >= '0' && path[n] <= '9';
		if (is(path, n, "cwd") || is(path, n, "root") || is(path, n, "exe") || is(path, n, "map_files"))
			return true;
		if (n && n == digits && !is(before, prior, "proc") && !is(before, prior, "task"))
			return true;
	}
	return false;
}

int pt_locate(struct pt_at *at)
{
	int error = locate(at);
	if (at->magic && at->fixed && leads_on(at->path))
		at->fixed = false;
	return error;
}
