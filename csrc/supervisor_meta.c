/*
 * Metadata, asked for or changed. The call is made here, on a descriptor of what was judged: were it left to the
 * kernel, that would read the path again, which another thread may have exchanged meanwhile, and the kernel's fence sees
 * none of these calls. It is also how a redirect reaches them.
 */
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

#include "supervisor_answer.h"

#define XATTR_NAME 256

/* The argument after the path, or after the descriptor where there is no path. */
static int next_arg(const struct pt_task *t)
{
	return (t->call->path >= 0 ? t->call->path : t->call->dir) + 1;
}

/*
 * Is the number still that of the process that asked? In so short a time it cannot be given anew: that process would have to be
 * killed, and waited for, and hundreds of others started.
 */
static bool may_write(const struct pt_task *t)
{
	return pt_nanoseconds() - t->when < 100000 || still_asks(t);
}

static int give(struct pt_task *t, uint64_t address, const void *from, size_t size)
{
	return may_write(t) && pt_target_write(t->pid, address, from, size) ? DONE : EFAULT;
}

/* ---- looking ---- */

#define AS_JUDGED (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)

/* struct stat64 of a 32-bit x86 program. */
static int give_stat64(struct pt_task *t, uint64_t address, const struct stat *st)
{
	struct __attribute__((packed)) {
		uint64_t dev;
		uint32_t pad, short_ino, mode, nlink, uid, gid;
		uint64_t rdev;
		uint32_t pad2;
		int64_t size;
		uint32_t blksize;
		uint64_t blocks;
		uint32_t atime, atime_ns, mtime, mtime_ns, ctime, ctime_ns;
		uint64_t ino;
	} out = { .dev = st->st_dev, .short_ino = (uint32_t)st->st_ino, .mode = st->st_mode, .nlink = (uint32_t)st->st_nlink,
		  .uid = st->st_uid, .gid = st->st_gid, .rdev = st->st_rdev, .size = st->st_size, .blksize = (uint32_t)st->st_blksize,
		  .blocks = (uint64_t)st->st_blocks, .atime = (uint32_t)st->st_atim.tv_sec, .atime_ns = (uint32_t)st->st_atim.tv_nsec,
		  .mtime = (uint32_t)st->st_mtim.tv_sec, .mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
		  .ctime = (uint32_t)st->st_ctim.tv_sec, .ctime_ns = (uint32_t)st->st_ctim.tv_nsec, .ino = st->st_ino };
	_Static_assert(sizeof out == 96, "struct stat64 of i386");
	return give(t, address, &out, sizeof out);
}

static int look_stat(struct pt_task *t, int fd, const char *path)
{
	struct stat st;
	uint64_t out = arg(t, next_arg(t));
	if (t->compat && strncmp(t->call->name + (t->call->name[0] == 'l'), "stat64", 6) && strcmp(t->call->name, "newfstatat"))
		return ENOSYS; /* the oldest forms: every C library has a newer one */
	if (fstatat(fd, path, &st, AS_JUDGED))
		return errno;
	return t->compat ? give_stat64(t, out, &st) : give(t, out, &st, sizeof st);
}

static int look_statx(struct pt_task *t, int fd, const char *path)
{
	struct statx st;
	int first = next_arg(t);
	if (statx(fd, path, AS_JUDGED | ((int)arg(t, first) & AT_STATX_SYNC_TYPE), (unsigned)arg(t, first + 1), &st))
		return errno;
	return give(t, arg(t, first + 2), &st, sizeof st);
}

static int look_access(struct pt_task *t, int fd, const char *path)
{
	/* A supervised tree's real and effective ids are the same; ours, which the kernel would look at, are others. */
	return syscall(SYS_faccessat2, fd, path, (int)arg(t, next_arg(t)), AS_JUDGED | AT_EACCESS) ? errno : DONE;
}

static int look_link(struct pt_task *t, int fd)
{
	int first = next_arg(t);
	int64_t size = (int)arg(t, first + 1);
	if (size <= 0)
		return EINVAL;
	bool lowered = pt_rights_lower(t, fd);
	/* What differs with the one that looks was followed by the resolver's rules: /proc/self is the program. */
	ssize_t n = !strcmp(t->at.real, "/proc/self") || !strcmp(t->at.real, "/proc/thread-self")
			    ? pt_target_fs.readlink(t, t->at.real, t->full, PT_PATH_CAP - 1)
			    : readlinkat(fd, "", t->full, PT_PATH_CAP - 1);
	int error = errno;
	if (lowered)
		pt_rights_raise();
	errno = error;
	if (n < 0)
		return n == -1 ? (errno == ENOENT ? EINVAL : errno) : (int)-n;
	if ((t->sup->flags & PT_IMG_REDIRECTS) && t->full[0] == '/' && starts(t->at.real, "/proc")) {
		t->full[n] = 0;
		n = (ssize_t)pt_task_own_name(t, t->full, (size_t)n);
	}
	if (n > size)
		n = size;
	t->resp->val = n;
	return give(t, arg(t, first), t->full, (size_t)n);
}

/* struct statfs and statfs64 of a 32-bit x86 program. */
static int give_statfs32(struct pt_task *t, const struct statfs *s)
{
	bool large = !strcmp(t->call->name, "statfs64");
	uint32_t out[21] = { (uint32_t)s->f_type, (uint32_t)s->f_bsize }, n = 2;
	const uint64_t counts[] = { s->f_blocks, s->f_bfree, s->f_bavail, s->f_files, s->f_ffree };
	for (unsigned i = 0; i < 5; i++) {
		if (!large && counts[i] >> 32)
			return EOVERFLOW;
		out[n++] = (uint32_t)counts[i];
		if (large)
			out[n++] = (uint32_t)(counts[i] >> 32);
	}
	memcpy(out + n, &s->f_fsid, 8);
	out[n + 2] = (uint32_t)s->f_namelen;
	out[n + 3] = (uint32_t)s->f_frsize;
	out[n + 4] = (uint32_t)s->f_flags;
	n += 9;
	if (large && arg(t, 1) != n * 4)
		return EINVAL;
	return give(t, arg(t, large ? 2 : 1), out, n * 4);
}

static int look_statfs(struct pt_task *t, int fd)
{
	struct statfs s;
	if (fstatfs(fd, &s))
		return errno;
	return t->compat ? give_statfs32(t, &s) : give(t, arg(t, next_arg(t)), &s, sizeof s);
}

static int name_of(struct pt_task *t, uint64_t address, char name[XATTR_NAME])
{
	ssize_t n = pt_target_text(t->pid, address, name, XATTR_NAME);
	return n == -ENAMETOOLONG ? ERANGE : n < 0 ? EFAULT : 0;
}

static int look_xattr(struct pt_task *t, int fd)
{
	bool list = t->call->shape == PT_SH_LISTXATTR;
	int first = next_arg(t), at = list ? first : first + 1;
	uint64_t size = arg(t, at + 1);
	char link[32], name[XATTR_NAME];
	struct stat st;
	int error = list ? 0 : name_of(t, arg(t, first), name);
	if (error)
		return error;
	if (!fstatat(fd, "", &st, AT_EMPTY_PATH) && S_ISLNK(st.st_mode))
		return list ? DONE : ENODATA; /* a link has none that a build could have set */
	if (size > PT_DENTS_CAP)
		size = PT_DENTS_CAP;
	pt_own_fd_link(fd, link);
	ssize_t n = list ? listxattr(link, size ? t->dents : NULL, size) : getxattr(link, name, size ? t->dents : NULL, size);
	if (n < 0)
		return errno;
	t->resp->val = n;
	return size ? give(t, arg(t, at), t->dents, (size_t)n) : DONE;
}

/* A directory's watch tells the names of what is in it. Where some of that is hidden, only what becomes of the directory itself. */
static int look_watch(struct pt_task *t, int fd)
{
	char link[32];
	struct stat st;
	uint32_t mask = (uint32_t)arg(t, next_arg(t)) & ~(uint32_t)IN_DONT_FOLLOW;
	int watcher = pt_target_fd(t->pid, (int)arg(t, 0));
	if (watcher < 0)
		return EBADF;
	pt_own_fd_link(fd, link);
	if (mask & IN_ALL_EVENTS && (fstat(fd, &st) || S_ISDIR(st.st_mode)) && !pt_shows_all(t))
		mask = (mask & ~(uint32_t)IN_ALL_EVENTS) | IN_DELETE_SELF | (mask & IN_MOVE_SELF);
	int watch = inotify_add_watch(watcher, link, mask), error = errno;
	close(watcher);
	t->resp->val = watch;
	return watch < 0 ? error : DONE;
}

bool pt_looks_by_path(const struct pt_task *t)
{
	return t->call->shape == PT_SH_STAT || t->call->shape == PT_SH_STATX || t->call->shape == PT_SH_ACCESS;
}

int pt_do_look(struct pt_task *t, int fd, const char *path)
{
	switch (t->call->shape) {
	case PT_SH_STAT: return look_stat(t, fd, path);
	case PT_SH_STATX: return look_statx(t, fd, path);
	case PT_SH_ACCESS: return look_access(t, fd, path);
	case PT_SH_READLINK: return look_link(t, fd);
	case PT_SH_STATFS: return look_statfs(t, fd);
	case PT_SH_GETXATTR:
	case PT_SH_LISTXATTR: return look_xattr(t, fd);
	case PT_SH_INOTIFY: return look_watch(t, fd);
	default: return GO_ON;
	}
}

/* ---- changing ---- */

static int change_mode(struct pt_task *t, int fd, bool by_descriptor)
{
	char link[32];
	mode_t mode = (mode_t)arg(t, next_arg(t)) & 07777;
	if (by_descriptor)
		return fchmod(fd, mode) ? errno : DONE;
	pt_own_fd_link(fd, link);
	return chmod(link, mode) ? errno : DONE;
}

/* 16-bit ids of the oldest calls: all ones means "as it is" there too. */
static uint32_t id_of(const struct pt_task *t, int n)
{
	bool narrow = t->compat && (!strcmp(t->call->name, "chown") || !strcmp(t->call->name, "lchown") || !strcmp(t->call->name, "fchown"));
	uint32_t id = (uint32_t)arg(t, n);
	return narrow ? ((id & 0xffff) == 0xffff ? UINT32_MAX : id & 0xffff) : id;
}

static int change_owner(struct pt_task *t, int fd, bool by_descriptor)
{
	int first = next_arg(t);
	uid_t owner = id_of(t, first);
	gid_t group = id_of(t, first + 1);
	return (by_descriptor ? fchown(fd, owner, group) : fchownat(fd, "", owner, group, AT_EMPTY_PATH)) ? errno : DONE;
}

/* Two dates, in whatever form the call gives them. */
static int dates_of(struct pt_task *t, uint64_t address, struct timespec out[2])
{
	enum pt_sc_shape shape = t->call->shape;
	bool narrow = t->compat && strcmp(t->call->name, "utimensat_time64");
	unsigned words = shape == PT_SH_UTIME ? 2 : 4;
	union { int32_t narrow[4]; int64_t wide[4]; } in = { 0 };
	if (!pt_target_read(t->pid, address, &in, words * (narrow ? 4 : 8)))
		return EFAULT;
	for (unsigned i = 0; i < 2; i++) {
		unsigned at = shape == PT_SH_UTIME ? i : 2 * i;
		int64_t part = shape == PT_SH_UTIME ? 0 : narrow ? in.narrow[at + 1] : in.wide[at + 1];
		out[i].tv_sec = narrow ? in.narrow[at] : in.wide[at];
		if (shape == PT_SH_UTIMES && (part < 0 || part >= 1000000))
			return EINVAL;
		out[i].tv_nsec = shape == PT_SH_UTIMES ? part * 1000 : part;
	}
	return 0;
}

static int change_dates(struct pt_task *t, int fd, bool by_descriptor)
{
	struct timespec dates[2];
	uint64_t address = arg(t, next_arg(t));
	int error = address ? dates_of(t, address, dates) : 0;
	if (error)
		return error;
	long r = by_descriptor ? syscall(SYS_utimensat, fd, NULL, address ? dates : NULL, 0)
			       : syscall(SYS_utimensat, fd, "", address ? dates : NULL, AT_EMPTY_PATH);
	return r ? errno : DONE;
}

static int change_xattr(struct pt_task *t, int fd, bool by_descriptor)
{
	char link[32], name[XATTR_NAME];
	int first = next_arg(t), error = name_of(t, arg(t, first), name);
	struct stat st;
	if (error)
		return error;
	if (!by_descriptor && !fstatat(fd, "", &st, AT_EMPTY_PATH) && S_ISLNK(st.st_mode))
		return EPERM; /* as the kernel for a user's attributes of a link */
	pt_own_fd_link(fd, link);
	if (t->call->shape == PT_SH_REMOVEXATTR)
		return (by_descriptor ? fremovexattr(fd, name) : removexattr(link, name)) ? errno : DONE;
	uint64_t size = arg(t, first + 2);
	int flags = (int)arg(t, first + 3);
	if (size > PT_DENTS_CAP)
		return E2BIG;
	if (size && !pt_target_read(t->pid, arg(t, first + 1), t->dents, size))
		return EFAULT;
	return (by_descriptor ? fsetxattr(fd, name, t->dents, size, flags) : setxattr(link, name, t->dents, size, flags)) ? errno : DONE;
}

/* Flags of a file (chattr): the filter lets only these requests come here. */
static int change_flags(struct pt_task *t, int fd)
{
	struct fsxattr extended;
	int flags = 0;
	switch ((uint32_t)arg(t, 1)) {
	case PT_IOC_SETFLAGS:
	case PT_IOC32_SETFLAGS:
		if (!pt_target_read(t->pid, arg(t, 2), &flags, sizeof flags))
			return EFAULT;
		return ioctl(fd, FS_IOC_SETFLAGS, &flags) ? errno : DONE;
	case PT_IOC_FSSETXATTR:
		if (!pt_target_read(t->pid, arg(t, 2), &extended, sizeof extended))
			return EFAULT;
		return ioctl(fd, FS_IOC_FSSETXATTR, &extended) ? errno : DONE;
	default:
		return EOPNOTSUPP;
	}
}

int pt_do_change(struct pt_task *t, int fd, bool by_descriptor)
{
	switch (t->call->shape) {
	case PT_SH_CHMOD: return change_mode(t, fd, by_descriptor);
	case PT_SH_CHOWN: return change_owner(t, fd, by_descriptor);
	case PT_SH_UTIME:
	case PT_SH_UTIMES:
	case PT_SH_UTIMENS: return change_dates(t, fd, by_descriptor);
	case PT_SH_SETXATTR:
	case PT_SH_REMOVEXATTR: return change_xattr(t, fd, by_descriptor);
	case PT_SH_IOCTL: return change_flags(t, fd);
	case PT_SH_TRUNCATE: return pt_do_truncate(t, fd);
	default: return ENOSYS;
	}
}
