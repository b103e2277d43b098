/*
 * Wrappers of macOS that the table cannot describe. Streams, opendir, scandir,
 * glob, realpath, getcwd, mkstemp, the exec family and system are not
 * here: they are made of calls in another library of libSystem, through the
 * symbol table, hence of wrappers.
 */
#include "headers.h"

/* ---- opens with more to say ---- */

static void intend(struct pt_at *at, int flags)
{
	int mode = flags & O_ACCMODE;
	at->access = PT_ACC_READ;
	at->flags = flags & (O_NOFOLLOW | O_SYMLINK) ? 0 : PT_FOLLOW;
	if (flags & O_CREAT) {
		at->access = PT_ACC_CREATE;
		at->flags |= PT_MAY_CREATE;
		if (flags & O_EXCL)
			at->flags = (at->flags | PT_EXCL) & ~PT_FOLLOW;
		else if (mode == O_RDONLY && !(flags & O_TRUNC))
			at->flags |= PT_NO_WRITE;
	} else if (mode != O_RDONLY || (flags & O_TRUNC)) {
		at->access = PT_ACC_WRITE;
	} else if (flags & O_DIRECTORY) {
		at->access = PT_ACC_LIST;
	}
	if (mode == O_RDWR)
		at->flags |= PT_ALSO_READ;
}

/* `call` is made with at.dirfd and at.path. */
#define OPENED(op, dir, name, how, call) ({ \
	struct pt_at at = { .dirfd = dir, .path = name }; \
	intend(&at, how); \
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

PT_EXPORT int PT_WRAP(openx_np)(const char *path, int flags, void *security);
PT_EXPORT int PT_WRAP(openx_np)(const char *path, int flags, void *security)
{
	typedef int real_t(const char *, int, void *);
	return OPENED(PT_OP_openx_np, AT_FDCWD, path, flags, PT_REAL(real_t, openx_np)(at.path, flags, security));
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

/* ---- listings ---- */

/* What opendir and its kin are made of: the open inside has judged the path. */
static DIR *opened(DIR *d)
{
	struct pt_info info;
	int kept = errno;
	if (d && pt_on())
		pt_fd_dir(dirfd(d), &info, NULL, 0);
	errno = kept;
	return d;
}

DIR *PT_WRAP(__opendir2)(const char *path, int flags);
PT_EXPORT DIR *PT_WRAP(__opendir2)(const char *path, int flags)
{
	typedef DIR *real_t(const char *, int);
	return opened(PT_REAL(real_t, __opendir2)(path, flags));
}

#ifdef __x86_64__
DIR *PT_WRAP(__opendir2_INODE64)(const char *path, int flags);
PT_EXPORT DIR *PT_WRAP(__opendir2_INODE64)(const char *path, int flags)
{
	typedef DIR *real_t(const char *, int);
	return opened(PT_REAL(real_t, __opendir2_INODE64)(path, flags));
}
#endif

/* The kernel's words are struct dirent with 64-bit inodes, as readdir gives them on. */
ssize_t PT_WRAP(__getdirentries64)(int fd, char *buf, size_t size, off_t *position);
PT_EXPORT ssize_t PT_WRAP(__getdirentries64)(int fd, char *buf, size_t size, off_t *position)
{
	typedef ssize_t real_t(int, char *, size_t, off_t *);
	for (;;) {
		ssize_t n = PT_REAL(real_t, __getdirentries64)(fd, buf, size, position), out = 0;
		if (n <= 0 || !pt_on() || !pt_fd_filtered(fd))
			return n;
		for (ssize_t in = 0; in < n;) {
			struct dirent *e = (struct dirent *)(void *)(buf + in);
			size_t length = e->d_reclen;
			if (length < offsetof(struct dirent, d_name) || length > (size_t)(n - in))
				break;
			if (pt_shown(fd, e->d_name, strlen(e->d_name), e->d_type)) {
				memmove(buf + out, e, length);
				out += (ssize_t)length;
			}
			in += (ssize_t)length;
		}
		if (out)
			return out;
	}
}

/* The old form, with 32-bit inodes: inode, length, type, length of the name, name. */
int PT_WRAP(getdirentries)(int fd, char *buf, int size, long *position);
PT_EXPORT int PT_WRAP(getdirentries)(int fd, char *buf, int size, long *position)
{
	typedef int real_t(int, char *, int, long *);
	for (;;) {
		int n = PT_REAL(real_t, getdirentries)(fd, buf, size, position), out = 0;
		if (n <= 0 || !pt_on() || !pt_fd_filtered(fd))
			return n;
		for (int in = 0; in + 8 < n;) {
			uint16_t length;
			memcpy(&length, buf + in + 4, sizeof length);
			if (length < 9 || length > n - in)
				break;
			if (pt_shown(fd, buf + in + 8, strlen(buf + in + 8), (unsigned char)buf[in + 6])) {
				memmove(buf + out, buf + in, length);
				out += length;
			}
			in += length;
		}
		if (out)
			return out;
	}
}

/* Where an entry's name lies depends on what was asked for: it comes first after the returned set and an error. */
static const char *bulk_name(const struct attrlist *want, const char *entry, uint32_t length, unsigned char *type)
{
	attribute_set_t got;
	attrreference_t name;
	size_t at = sizeof(uint32_t);
	*type = DT_UNKNOWN;
	if (!(want->commonattr & ATTR_CMN_RETURNED_ATTRS) || length < at + sizeof got + sizeof name)
		return NULL;
	memcpy(&got, entry + at, sizeof got);
	at += sizeof got;
	if (got.commonattr & ATTR_CMN_ERROR)
		at += sizeof(uint32_t);
	if (!(got.commonattr & ATTR_CMN_NAME) || length < at + sizeof name)
		return NULL;
	memcpy(&name, entry + at, sizeof name);
	size_t text = at + (size_t)name.attr_dataoffset;
	if (name.attr_dataoffset < 0 || !name.attr_length || text + name.attr_length > length || entry[text + name.attr_length - 1])
		return NULL;
	return entry + text;
}

/* The number of entries left. A listing without names (a program that wants sizes alone) cannot be filtered. */
int PT_WRAP(getattrlistbulk)(int fd, struct attrlist *want, char *buf, size_t size, uint64_t options);
PT_EXPORT int PT_WRAP(getattrlistbulk)(int fd, struct attrlist *want, char *buf, size_t size, uint64_t options)
{
	typedef int real_t(int, struct attrlist *, char *, size_t, uint64_t);
	for (;;) {
		int n = PT_REAL(real_t, getattrlistbulk)(fd, want, buf, size, options), left = 0;
		if (n <= 0 || !pt_on() || !pt_fd_filtered(fd))
			return n;
		char *in = buf, *out = buf, *end = buf + size;
		for (int i = 0; i < n; i++) {
			uint32_t length;
			unsigned char type;
			if ((size_t)(end - in) < sizeof length)
				return n;
			memcpy(&length, in, sizeof length);
			if (length < sizeof length || length > (size_t)(end - in))
				return n;
			const char *name = bulk_name(want, in, length, &type);
			bool show = !name || pt_shown(fd, name, strlen(name), type);
			if (show) {
				memmove(out, in, length);
				out += length;
				left++;
			}
			in += length;
		}
		if (left)
			return left;
	}
}

/*
 * fts walks by the calls above, so that what is hidden does not come up; these pass over what came up nevertheless
 * (a volume whose listing is read in another way).
 */
#define HIDDEN(e) ((e)->fts_level > 0 && pt_hides(AT_FDCWD, (e)->fts_accpath))

#define FTS(suffix) \
	FTSENT *PT_WRAP(fts_read##suffix)(FTS *fts); \
	PT_EXPORT FTSENT *PT_WRAP(fts_read##suffix)(FTS *fts) \
	{ \
		typedef FTSENT *real_t(FTS *); \
		FTSENT *e; \
		do \
			e = PT_REAL(real_t, fts_read##suffix)(fts); \
		while (e && e->fts_info != FTS_DP && HIDDEN(e)); \
		return e; \
	} \
	FTSENT *PT_WRAP(fts_children##suffix)(FTS *fts, int options); \
	PT_EXPORT FTSENT *PT_WRAP(fts_children##suffix)(FTS *fts, int options) \
	{ \
		typedef FTSENT *real_t(FTS *, int); \
		FTSENT *first = NULL, *before = NULL; \
		for (FTSENT *e = PT_REAL(real_t, fts_children##suffix)(fts, options); e; e = e->fts_link) { \
			if (HIDDEN(e)) { \
				e->fts_instr = FTS_SKIP; \
				continue; \
			} \
			if (before) \
				before->fts_link = e; \
			else \
				first = e; \
			before = e; \
		} \
		if (before) \
			before->fts_link = NULL; \
		return first; \
	}

FTS()
#ifdef __x86_64__
FTS(_INODE64)
#endif
