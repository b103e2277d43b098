/* What would lead around the policy by its kind: device nodes that the build makes, watches that name what is hidden. */
#include "exec.h"
#include "headers.h"

static long make(int dirfd, const char *path, mode_t mode, dev_t dev)
{
	return PT_SYS4(SYS_mknodat, dirfd, path, mode, dev);
}

/* A node for the disk would be a door around everything; the other tiers make none either. */
static int node(uint16_t op, int dirfd, const char *path, mode_t mode, dev_t dev)
{
	struct pt_at at = { .dirfd = dirfd, .path = path, .access = PT_ACC_CREATE, .flags = PT_EXCL };
	int error = pt_judge(op, &at);
	bool device = S_ISCHR(mode) || S_ISBLK(mode);
	if (!error && device && pt_on() && !(pt.flags & PT_IMG_AUDIT))
		error = EPERM;
	if (!error)
		error = (int)-make(at.dirfd, at.path, mode, dev);
	pt_done(op, &at, error);
	return pt_outcome(-error);
}

PT_EXPORT int PT_WRAP(mknod)(const char *path, mode_t mode, dev_t dev)
{
	return node(PT_OP_mknod, AT_FDCWD, path, mode, dev);
}

PT_EXPORT int PT_WRAP(mknodat)(int dirfd, const char *path, mode_t mode, dev_t dev)
{
	return node(PT_OP_mknodat, dirfd, path, mode, dev);
}

/* Programs of old glibcs. */
PT_EXPORT int PT_WRAP(__xmknod)(int version, const char *path, mode_t mode, dev_t *dev)
{
	(void)version;
	return node(PT_OP___xmknod, AT_FDCWD, path, mode, *dev);
}

PT_EXPORT int PT_WRAP(__xmknodat)(int version, int dirfd, const char *path, mode_t mode, dev_t *dev)
{
	(void)version;
	return node(PT_OP___xmknodat, dirfd, path, mode, *dev);
}

/* Of a directory with hidden entries only its own end is told: what is made and changed in it would be told by name. */
static int watch(int fd, struct pt_at *at, uint32_t mask)
{
	char link[32];
	struct stat st;
	int held = sys_open(at->path, O_PATH | O_CLOEXEC | (mask & IN_DONT_FOLLOW ? O_NOFOLLOW : 0));
	if (held < 0)
		return held;
	if (sys_fstat(held, &st) || (S_ISDIR(st.st_mode) && pt_fd_filtered(held)))
		mask = (mask & ~(uint32_t)IN_ALL_EVENTS) | IN_DELETE_SELF | (mask & IN_MOVE_SELF);
	pt_fd_link(held, link);
	int watch = (int)PT_SYS3(SYS_inotify_add_watch, fd, link, mask & ~(uint32_t)IN_DONT_FOLLOW);
	pt_fd_forget(held);
	sys_close(held);
	return watch;
}

PT_EXPORT int PT_WRAP(inotify_add_watch)(int fd, const char *path, uint32_t mask)
{
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_LIST, .flags = mask & IN_DONT_FOLLOW ? 0 : PT_FOLLOW };
	int error = pt_judge(PT_OP_inotify_add_watch, &at), result = -1;
	if (!error) {
		bool names = (mask & IN_ALL_EVENTS) && at.judged && !(pt.flags & PT_IMG_AUDIT);
		result = names ? watch(fd, &at, mask) : (int)PT_SYS3(SYS_inotify_add_watch, fd, at.path, mask);
		error = result < 0 ? -result : 0;
	}
	pt_done(PT_OP_inotify_add_watch, &at, error);
	return error ? pt_outcome(-error) : result;
}
