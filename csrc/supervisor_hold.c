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

bool pt_is_object(const struct pt_task *t)
{
	return !t->last_link && !is_redirected(t) && pt_leads_to_object(t->at.physical);
}

/*
 * Of what a link of /proc leads to, and no path: is it such a thing still? The process has given the number to another
 * file where it has a path, which is to be judged. 0, AGAIN, or -errno.
 */
static int still_object(const struct pt_task *t, int fd)
{
	struct stat st;
	ssize_t len = pt_own_fd_path(fd, t->scratch);
	if (fstat(fd, &st))
		return -errno;
	if (len <= 0 || len >= PT_PATH_CAP - 1)
		return st.st_nlink ? -EACCES : 0;
	t->scratch[len] = 0;
	if (st.st_nlink && *t->scratch == '/' && pt_target_lstat(t->scratch, &st) == 0)
		return AGAIN;
	return pt_was_hidden(t->sup->image, t->scratch, (size_t)len) ? -ENOENT : 0;
}

bool pt_way_stays(const struct pt_task *t)
{
	return !t->loose && !t->at.slash && !(t->sup->flags & PT_IMG_REDIRECTS) && t->at.physical_len < 4096;
}

int pt_hold_judged(const struct pt_task *t)
{
	const char *path = t->at.physical;
	/*
	 * The links on the way were followed when it was judged. In /proc the kernel's own lead on, to what a process has
	 * open at that moment; where a redirect leads is the session's affair, links in it too.
	 */
	bool own = starts(path, "/proc") || is_redirected(t);
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = own ? 0 : RESOLVE_NO_SYMLINKS };
	if (t->last_link)
		how.flags |= O_NOFOLLOW;
	if (t->at.slash)
		how.flags |= O_DIRECTORY;
	long fd = pt_target_openat2(path, &how);
	if (fd >= 0 && pt_is_object(t)) {
		int error = still_object(t, (int)fd);
		if (error)
			close((int)fd);
		return error ? error : (int)fd;
	}
	if (fd >= 0)
		return (int)fd;
	return errno == ELOOP && !own ? AGAIN : -errno;
}
