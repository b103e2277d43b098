/* Listings on macOS: what the policy hides is left out of them. */
#include "headers.h"

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

/*
 * Where an entry's name lies depends on what was asked for: it comes first, after the returned set and an error, which
 * getattrlistbulk must be asked for and getdirentriesattr does not know.
 */
static const char *bulk_name(const struct attrlist *want, const char *entry, uint32_t length)
{
	attribute_set_t got = { .commonattr = want->commonattr };
	attrreference_t name;
	size_t at = sizeof(uint32_t);
	if (want->commonattr & ATTR_CMN_RETURNED_ATTRS) {
		if (length < at + sizeof got)
			return NULL;
		memcpy(&got, entry + at, sizeof got);
		at += sizeof got;
		if (got.commonattr & ATTR_CMN_ERROR)
			at += sizeof(uint32_t);
	}
	if (!(got.commonattr & ATTR_CMN_NAME) || length < at + sizeof name)
		return NULL;
	memcpy(&name, entry + at, sizeof name);
	size_t text = at + (size_t)name.attr_dataoffset;
	if (name.attr_dataoffset < 0 || !name.attr_length || text + name.attr_length > length || entry[text + name.attr_length - 1])
		return NULL;
	return entry + text;
}

/* Leaves what is hidden out of `n` entries: how many are left. A listing without names (of sizes alone) cannot be filtered. */
static int entries_left(int fd, const struct attrlist *want, char *buf, size_t size, int n)
{
	char *in = buf, *out = buf, *end = buf + size;
	int left = 0;
	for (int i = 0; i < n; i++) {
		uint32_t length;
		if ((size_t)(end - in) < sizeof length)
			break;
		memcpy(&length, in, sizeof length);
		if (length < sizeof length || length > (size_t)(end - in))
			break;
		const char *name = bulk_name(want, in, length);
		if (!name || pt_shown(fd, name, strlen(name), DT_UNKNOWN)) {
			memmove(out, in, length);
			out += length;
			left++;
		}
		in += length;
	}
	return left;
}

int PT_WRAP(getattrlistbulk)(int fd, struct attrlist *want, char *buf, size_t size, uint64_t options);
PT_EXPORT int PT_WRAP(getattrlistbulk)(int fd, struct attrlist *want, char *buf, size_t size, uint64_t options)
{
	typedef int real_t(int, struct attrlist *, char *, size_t, uint64_t);
	for (;;) {
		int n = PT_REAL(real_t, getattrlistbulk)(fd, want, buf, size, options);
		if (n > 0 && pt_on() && pt_fd_filtered(fd)) {
			n = entries_left(fd, want, buf, size, n);
			if (!n)
				continue;
		}
		return n;
	}
}

/* Its elder: the number of entries goes in and comes out, the result says whether these were the last. */
int PT_WRAP(getdirentriesattr)(int fd, struct attrlist *want, char *buf, size_t size, unsigned *count, unsigned *position, unsigned *state,
			       unsigned options);
PT_EXPORT int PT_WRAP(getdirentriesattr)(int fd, struct attrlist *want, char *buf, size_t size, unsigned *count, unsigned *position,
					 unsigned *state, unsigned options)
{
	typedef int real_t(int, struct attrlist *, char *, size_t, unsigned *, unsigned *, unsigned *, unsigned);
	unsigned asked = pt_bad_pointer((const char *)count) ? 0 : *count;
	for (;;) {
		int r = PT_REAL(real_t, getdirentriesattr)(fd, want, buf, size, count, position, state, options);
		if (r >= 0 && *count && pt_on() && pt_fd_filtered(fd)) {
			*count = (unsigned)entries_left(fd, want, buf, size, (int)*count);
			if (!*count && !r) {
				*count = asked;
				continue;
			}
		}
		return r;
	}
}

/*
 * fts walks by the calls above, so that what is hidden does not come up; these pass over what came up nevertheless
 * (a volume whose listing is read in another way), and do not go down into it.
 */
#define HIDDEN(e) ((e)->fts_level > 0 && pt_hides(AT_FDCWD, (e)->fts_accpath))

#define FTS(suffix, entry) \
	entry *PT_WRAP(fts_read##suffix)(FTS *fts); \
	PT_EXPORT entry *PT_WRAP(fts_read##suffix)(FTS *fts) \
	{ \
		typedef entry *real_t(FTS *); \
		entry *e; \
		while ((e = PT_REAL(real_t, fts_read##suffix)(fts)) && HIDDEN(e)) \
			if (e->fts_info == FTS_D) \
				e->fts_instr = FTS_SKIP; \
		return e; \
	} \
	entry *PT_WRAP(fts_children##suffix)(FTS *fts, int options); \
	PT_EXPORT entry *PT_WRAP(fts_children##suffix)(FTS *fts, int options) \
	{ \
		typedef entry *real_t(FTS *, int); \
		entry *first = NULL, *before = NULL; \
		for (entry *e = PT_REAL(real_t, fts_children##suffix)(fts, options); e; e = e->fts_link) { \
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

#ifdef __x86_64__
/* <fts.h> as programs see it that were built for inodes of 32 bits. */
struct entry32 {
	struct entry32 *fts_cycle, *fts_parent, *fts_link;
	long fts_number;
	void *fts_pointer;
	char *fts_accpath, *fts_path;
	int fts_errno, fts_symfd;
	unsigned short fts_pathlen, fts_namelen;
	uint32_t fts_ino;
	int32_t fts_dev;
	uint16_t fts_nlink;
	short fts_level;
	unsigned short fts_info, fts_flags, fts_instr;
};
FTS(, struct entry32)
FTS(_INODE64, FTSENT)
#else
FTS(, FTSENT)
#endif
