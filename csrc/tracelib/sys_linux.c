/* sys.h on Linux: what is too long for the header. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "sys.h"

ssize_t sys_ask(const struct sockaddr_un *to, const void *question, size_t size, void *answer, size_t room,
		int timeout_ms)
{
	int fd = (int)PT_SYS3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	struct timespec wait = { timeout_ms / 1000, timeout_ms % 1000 * 1000000 };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	long n = PT_SYS3(SYS_connect, fd, to, sizeof *to);
	if (n == 0)
		n = PT_SYS6(SYS_sendto, fd, question, size, MSG_NOSIGNAL, 0, 0);
	if (n >= 0) {
		n = PT_SYS5(SYS_ppoll, &p, 1, &wait, 0, 0);
		if (n == 1)
			n = PT_SYS6(SYS_recvfrom, fd, answer, room, 0, 0, 0);
		else if (n == 0)
			n = -ETIMEDOUT;
	}
	sys_close(fd);
	return n;
}

int sys_long_lstat(const char *path, struct stat *st)
{
	int dir = pt_long_dir(&path), error;
	if (dir < 0)
		return dir == AT_FDCWD ? -ENAMETOOLONG : dir;
	error = sys_fstatat(dir, path, st, AT_SYMLINK_NOFOLLOW);
	pt_long_close(dir);
	return error;
}

int sys_long_open(const char *path, int flags)
{
	int dir = pt_long_dir(&path), fd;
	if (dir < 0)
		return dir == AT_FDCWD ? -ENAMETOOLONG : dir;
	fd = (int)PT_SYS4(SYS_openat, dir, path, flags, 0);
	pt_long_close(dir);
	return fd;
}

ssize_t sys_fd_path(int fd, char *buf, size_t size)
{
	char link[32], *p = link + sizeof link;
	unsigned v = (unsigned)fd;
	*--p = 0;
	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	p -= 14;
	memcpy(p, "/proc/self/fd/", 14);
	ssize_t n = PT_SYS4(SYS_readlinkat, AT_FDCWD, p, buf, size);
	if (n >= 0)
		return n;
	ssize_t up = pt_deep_name(fd, buf, size);  /* also where /proc is not to be had */
	return up == -ENOTDIR ? n : up;
}
