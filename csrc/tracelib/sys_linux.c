/* sys.h on Linux: what is too long for the header. */
#include <errno.h>
#include <poll.h>
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
