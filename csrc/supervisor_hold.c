/* A descriptor of just what was judged: what is done with it cannot be exchanged by another thread or process. */
#include <linux/openat2.h>
#include <stdio.h>

#include "longpath_linux.h"
#include "supervisor_answer.h"

void pt_own_fd_link(int fd, char out[32])
{
	snprintf(out, 32, "/proc/self/fd/%d", fd);
}

ssize_t pt_own_fd_path(int fd, char *path)
{
	char link[32];
	pt_own_fd_link(fd, link);
	ssize_t len = readlink(link, path, PT_PATH_CAP - 1);
	return len < 0 ? pt_long_readlink(link, path, PT_PATH_CAP - 1) : len;
}

long pt_target_openat2(const char *path, const struct open_how *how)
{
	int dir = pt_long_dir(&path);
	if (dir < 0 && dir != AT_FDCWD) {
		errno = -dir;
		return -1;
	}
	long fd = syscall(SYS_openat2, dir, path, how, sizeof *how);
	int err = errno;
	pt_long_close(dir);
	errno = err;
	return fd;
}

int pt_hold_judged(const struct pt_task *t)
{
	const char *path = t->at.physical;
	/*
	 * The links on the way were followed when it was judged. In /proc the kernel's own lead on, to what a process has
	 * open and so to what was judged before; where a redirect leads is the session's affair, links in it too.
	 */
	bool own = starts(path, "/proc") || is_redirected(t);
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = own ? 0 : RESOLVE_NO_SYMLINKS };
	if (t->last_link)
		how.flags |= O_NOFOLLOW;
	if (t->at.slash)
		how.flags |= O_DIRECTORY;
	long fd = pt_target_openat2(path, &how);
	if (fd >= 0)
		return (int)fd;
	return errno == ELOOP && !own ? AGAIN : -errno;
}
