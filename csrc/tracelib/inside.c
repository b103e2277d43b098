/*
 * Files that the C library opens inside itself, past every wrapper: what names them is judged before. Names of shared
 * memory and of semaphores are files of /dev/shm.
 */
#include <libintl.h>
#include <mntent.h>
#include <nl_types.h>
#include <semaphore.h>
#include <utmp.h>
#include <utmpx.h>
#include <wordexp.h>

#include "exec.h"
#include "headers.h"

extern char **environ;

/* ---- one path, one function of the C library ---- */

/* The name of what was judged, for a function that opens it inside; 0 or the errno. `*held` is to be closed, if it is one. */
static int name_inside(uint16_t op, const struct pt_at *at, int flags, char name[PT_FD_LINK], const char **use, int *held)
{
	*use = at->path;
	*held = -1;
	if (!O_PATH || pt_settled(at))
		return 0;
	*held = pt_hold_stream(op, at, flags);
	if (*held < 0)
		return -*held;
	pt_fd_link(*held, name);
	*use = name;
	return 0;
}

PT_EXPORT FILE *setmntent(const char *path, const char *mode)
{
	typedef FILE *real_t(const char *, const char *);
	int flags = pt_stream_flags(mode), held = -1;
	if (flags < 0)
		return PT_REAL(real_t, setmntent)(path, mode);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path };
	pt_intend_stream(&at, mode);
	int error = pt_judge(PT_OP_setmntent, &at);
	FILE *f = NULL;
	char name[PT_FD_LINK], there[PT_MODE];
	const char *use;
	if (!error && !(error = name_inside(PT_OP_setmntent, &at, flags, name, &use, &held))) {
		f = PT_REAL(real_t, setmntent)(use, held < 0 ? mode : pt_mode_there(mode, flags, there));
		if (f)
			pt_fd_forget(fileno(f));
		else
			error = errno;
		pt_let_go(held);
	}
	pt_done(PT_OP_setmntent, &at, error);
	if (!f)
		errno = error;
	return f;
}
PT_ALIASES_setmntent

/* A name without a slash is looked for along NLSPATH: the base system's catalogs. */
PT_EXPORT nl_catd catopen(const char *name, int flag)
{
	typedef nl_catd real_t(const char *, int);
	if (pt_bad_pointer(name) || !strchr(name, '/'))
		return PT_REAL(real_t, catopen)(name, flag);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = name, .access = PT_ACC_READ, .flags = PT_FOLLOW };
	nl_catd r = (nl_catd)-1;
	int error = pt_judge(PT_OP_catopen, &at), held;
	char there[PT_FD_LINK];
	const char *use;
	if (!error && !(error = name_inside(PT_OP_catopen, &at, O_RDONLY, there, &use, &held))) {
		r = PT_REAL(real_t, catopen)(use, flag);
		if (r == (nl_catd)-1)
			error = errno;
		pt_let_go(held);
	}
	pt_done(PT_OP_catopen, &at, error);
	if (r == (nl_catd)-1)
		errno = error;
	return r;
}

/* The catalogs below are opened inside; a directory that is hidden has none. */
PT_EXPORT char *bindtextdomain(const char *domain, const char *path)
{
	typedef char *real_t(const char *, const char *);
	if (pt_bad_pointer(path))
		return PT_REAL(real_t, bindtextdomain)(domain, path);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_LIST, .flags = PT_FOLLOW };
	char *r;
	int error = pt_judge(PT_OP_bindtextdomain, &at);
	if (!error) {
		r = PT_REAL(real_t, bindtextdomain)(domain, at.path);
		pt_slab_give(at.slab);         /* nothing has been looked at yet: no access for the log */
		return r;
	}
	pt_done(PT_OP_bindtextdomain, &at, error);
	errno = error;
	return NULL;
}

PT_EXPORT void updwtmp(const char *path, const struct utmp *entry)
{
	typedef void real_t(const char *, const struct utmp *);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_WRITE, .flags = PT_FOLLOW };
	int error = pt_judge(PT_OP_updwtmp, &at);
	if (!error)
		PT_REAL(real_t, updwtmp)(at.path, entry);
	pt_done(PT_OP_updwtmp, &at, error);
	if (error)
		errno = error;
}
PT_ALIASES_updwtmp

/* ---- temporary files ---- */

PT_EXPORT FILE *tmpfile(void)
{
	typedef FILE *real_t(void);
	if (!pt_on())
		return PT_REAL(real_t, tmpfile)();
	char name[] = "/tmp/tmpfXXXXXX";
	int kept = errno, fd = pt_open(PT_OP_tmpfile, AT_FDCWD, "/tmp", O_RDWR | O_TMPFILE | O_EXCL, 0600);
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {   /* not every file system can */
		fd = mkstemp(name);
		if (fd >= 0)
			unlink(name);
	}
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w+");
	if (f)
		errno = kept;
	else if (fd >= 0)
		sys_close(fd);
	return f;
}
PT_ALIASES_tmpfile

/* Only makes up a name, but falls back to another directory where this one is missing. */
PT_EXPORT char *tempnam(const char *path, const char *prefix)
{
	typedef char *real_t(const char *, const char *);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_STAT, .flags = PT_FOLLOW };
	if (path) {
		int error = pt_judge(PT_OP_tempnam, &at);
		pt_done(PT_OP_tempnam, &at, error);
		if (error)
			path = NULL;
	}
	return PT_REAL(real_t, tempnam)(path, prefix);
}

/* ---- shared memory, semaphores ---- */

/* The file behind the name of an object; false: the C library is to refuse the name in its own way. */
static bool object(const char *name, const char *kind, char path[300])
{
	static const char dir[] = "/dev/shm/";
	if (pt_bad_pointer(name))
		return false;
	while (*name == '/')
		name++;
	size_t n = strnlen(name, 256), k = strlen(kind);
	if (!n || n + k > 255 || strchr(name, '/'))
		return false;
	memcpy(path, dir, sizeof dir - 1);
	memcpy(path + sizeof dir - 1, kind, k);
	memcpy(path + sizeof dir - 1 + k, name, n + 1);
	return true;
}

#ifdef __GLIBC__
#define SEMAPHORE "sem."
#else
#define SEMAPHORE ""
#endif

int shm_open(const char *name, int flags, mode_t mode);
PT_EXPORT int shm_open(const char *name, int flags, mode_t mode)
{
	typedef int real_t(const char *, int, mode_t);
	char path[300];
	if (!pt_on() || !object(name, "", path))
		return PT_REAL(real_t, shm_open)(name, flags, mode);
	return pt_open(PT_OP_shm_open, AT_FDCWD, path, flags | O_NOFOLLOW | O_CLOEXEC, mode);
}

static int unlink_object(uint16_t op, const char *path, const char *name, int (*real)(const char *))
{
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_DELETE };
	int error = pt_judge(op, &at), r = -1;
	if (!error) {
		if (at.slab && at.path == at.slab->physical)
			error = -(int)PT_SYS3(SYS_unlinkat, AT_FDCWD, at.path, 0);
		else if (real(name) < 0)
			error = errno;
		r = error ? -1 : 0;
	}
	pt_done(op, &at, error);
	if (r < 0)
		errno = error;
	return r;
}

typedef int unlink_t(const char *);

int shm_unlink(const char *name);
PT_EXPORT int shm_unlink(const char *name)
{
	char path[300];
	unlink_t *real = PT_REAL(unlink_t, shm_unlink);
	return pt_on() && object(name, "", path) ? unlink_object(PT_OP_shm_unlink, path, name, real) : real(name);
}

int sem_unlink(const char *name);
PT_EXPORT int sem_unlink(const char *name)
{
	char path[300];
	unlink_t *real = PT_REAL(unlink_t, sem_unlink);
	return pt_on() && object(name, SEMAPHORE, path) ? unlink_object(PT_OP_sem_unlink, path, name, real) : real(name);
}

/* The C library makes it under another name and links it: the name is judged, and a redirect does not move it. */
PT_EXPORT sem_t *sem_open(const char *name, int flags, ...)
{
	typedef sem_t *real_t(const char *, int, ...);
	char path[300];
	mode_t mode = 0;
	unsigned value = 0;
	if (flags & O_CREAT) {
		va_list ap;
		va_start(ap, flags);
		mode = (mode_t)va_arg(ap, int);
		value = va_arg(ap, unsigned);
		va_end(ap);
	}
	real_t *real = PT_REAL(real_t, sem_open);
	if (!pt_on() || !object(name, SEMAPHORE, path))
		return real(name, flags, mode, value);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = flags & O_CREAT ? PT_ACC_CREATE : PT_ACC_WRITE, .flags = PT_ALSO_READ };
	if (flags & O_CREAT)
		at.flags |= PT_MAY_CREATE | (flags & O_EXCL ? PT_EXCL : 0);
	int error = pt_judge(PT_OP_sem_open, &at);
	sem_t *r = SEM_FAILED;
	if (!error) {
		r = real(name, flags, mode, value);
		if (r == SEM_FAILED)
			error = errno;
	}
	pt_done(PT_OP_sem_open, &at, error);
	if (r == SEM_FAILED)
		errno = error;
	return r;
}

/* ---- words of the shell ---- */

/* What patterns found is looked at; a word that stands in the text itself is the program's own and stays. */
PT_EXPORT int wordexp(const char *restrict text, wordexp_t *restrict words, int flags)
{
	typedef int real_t(const char *, wordexp_t *, int);
	size_t before = flags & WRDE_APPEND ? words->we_wordc : 0;
	struct pt_slab *s = NULL;
	char **own = environ;
	if (pt_on() && !pt_shell_environment() && (s = pt_slab_take(0)))      /* commands in it go to /bin/sh */
		environ = (char **)(uintptr_t)pt_environment(own, s, pt_shell_is_other());
	int r = PT_REAL(real_t, wordexp)(text, words, flags);
	environ = own;
	pt_slab_give(s);
	if (r || !pt_on())
		return r;
	size_t first = (flags & WRDE_DOOFFS ? words->we_offs : 0), out = first + before;
	for (size_t i = out; i < first + words->we_wordc; i++) {
		char *word = words->we_wordv[i];
		if (strstr(text, word) || !pt_hides(AT_FDCWD, word))
			words->we_wordv[out++] = word;
		else
			free(word);
	}
	words->we_wordv[out] = NULL;
	words->we_wordc = out - first;
	return 0;
}
