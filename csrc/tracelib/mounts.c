/* Trees and files by other means than a path of their own: mounts, and handles. */
#include "exec.h"
#include "headers.h"

#define SET_PATH 3              /* enum fsconfig_command of linux/mount.h, which does not go together with sys/mount.h */
#define SET_PATH_EMPTY 4

/*
 * Rules hold for names, and whatever is mounted gives another name to what lies in it, hidden things among it. No build has
 * to; the fence and the supervisor refuse it too. Of what is mounted already the kernel is told something else.
 */
static bool is_change(unsigned long flags)
{
	if ((flags & MS_MGC_MSK) == MS_MGC_VAL)
		flags &= ~(unsigned long)MS_MGC_MSK;
	return flags & MS_REMOUNT || (flags & (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE) && !(flags & MS_BIND));
}

PT_EXPORT int mount(const char *source, const char *path, const char *type, unsigned long flags, const void *data)
{
	typedef int real_t(const char *, const char *, const char *, unsigned long, const void *);
	struct pt_at from = { .dirfd = AT_FDCWD, .path = source, .access = PT_ACC_STAT, .flags = PT_FOLLOW };
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_ATTRIBUTES, .flags = PT_FOLLOW };
	bool tree = (flags & (MS_BIND | MS_MOVE)) && !(flags & MS_REMOUNT);
	int error = tree ? pt_judge(PT_OP_mount, &from) : 0;
	if (!error)
		error = pt_judge(PT_OP_mount, &at);
	if (!error && !is_change(flags) && pt_refuses())
		error = EPERM;
	if (!error && PT_REAL(real_t, mount)(from.path, at.path, type, flags, data) < 0)
		error = errno;
	if (!error && pt_on()) {
		pt_changed();
		pt_cwd_forget();
	}
	pt_done(PT_OP_mount, &at, error);
	pt_done(PT_OP_mount, &from, error);
	if (error) {
		errno = error;
		return -1;
	}
	return 0;
}

int fsopen(const char *type, unsigned flags);
PT_EXPORT int fsopen(const char *type, unsigned flags)
{
	typedef int real_t(const char *, unsigned);
	real_t *real = PT_REAL(real_t, fsopen);
	errno = real ? EPERM : ENOSYS;
	return real && !pt_refuses() ? real(type, flags) : -1;
}

int fsconfig(int fd, unsigned command, const char *key, const void *value, int dirfd);
PT_EXPORT int fsconfig(int fd, unsigned command, const char *key, const void *value, int dirfd)
{
	typedef int real_t(int, unsigned, const char *, const void *, int);
	real_t *real = PT_REAL(real_t, fsconfig);
	if (!real) {
		errno = ENOSYS;
		return -1;
	}
	if (command != SET_PATH && command != SET_PATH_EMPTY)
		return real(fd, command, key, value, dirfd);
	struct pt_at at = { .dirfd = dirfd, .path = value, .access = PT_ACC_STAT,
		.flags = PT_FOLLOW | (command == SET_PATH_EMPTY ? PT_EMPTY : 0) };
	int error = pt_judge(PT_OP_fsconfig, &at);
	if (!error && real(fd, command, key, at.path, at.dirfd) < 0)
		error = errno;
	pt_done(PT_OP_fsconfig, &at, error);
	if (error) {
		errno = error;
		return -1;
	}
	return 0;
}

/* Where a handle leads shows when it is open: by a descriptor first that can do nothing, O_TRUNC does it while it opens. */
PT_EXPORT int open_by_handle_at(int mount, struct file_handle *handle, int flags)
{
	typedef int real_t(int, struct file_handle *, int);
	real_t *real = PT_REAL(real_t, open_by_handle_at);
	char link[32];
	int fd = real(mount, handle, pt_on() ? O_PATH | O_CLOEXEC : flags);
	if (fd < 0 || !pt_on())
		return fd;
	pt_fd_link(fd, link);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = link };
	pt_intend_open(&at, flags);
	at.flags |= PT_FOLLOW;
	int error = pt_judge(PT_OP_open_by_handle_at, &at);
	sys_close(fd);
	fd = -1;
	if (!error) {
		fd = real(mount, handle, flags);
		if (fd < 0)
			error = errno;
		else
			pt_fd_forget(fd);
	}
	pt_done(PT_OP_open_by_handle_at, &at, error);
	if (fd < 0)
		errno = error;
	return fd;
}
