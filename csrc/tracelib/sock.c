/* Sockets that have a name in the file system. */
#include "headers.h"

typedef int socket_t(int, const struct sockaddr *, socklen_t);

#define HEAD offsetof(struct sockaddr_un, sun_path)

/* The path that an address names, with its NUL; false: it names none. */
static bool has_path(const void *address, socklen_t length, char path[sizeof((struct sockaddr_un *)0)->sun_path + 1])
{
	const struct sockaddr_un *un = address;
	if (pt_bad_pointer(address) || length <= HEAD || length > sizeof *un || un->sun_family != AF_UNIX || !un->sun_path[0] || !pt_on())
		return false;
	memcpy(path, un->sun_path, length - HEAD);
	path[length - HEAD] = 0;
	return true;
}

/* The address of what was judged: `moved` where that is another than `path`. */
static const void *judged(const struct pt_at *at, const char *path, const void *address, socklen_t *length, struct sockaddr_un *moved)
{
	if (at->path == path || strcmp(at->path, path) == 0 || strlen(at->path) >= sizeof moved->sun_path)
		return address;
	moved->sun_family = AF_UNIX;
	memcpy(moved->sun_path, at->path, strlen(at->path) + 1);
	*length = sizeof *moved;
	return moved;
}

/*
 * As it is to be reached: by a descriptor of the socket that was judged, where its path can be exchanged. 0 or the errno;
 * `*held` is to be let go.
 */
static int reach(uint16_t op, const struct pt_at *at, const char *path, const void **address, socklen_t *length, struct sockaddr_un *moved,
		 int *held)
{
	*held = -1;
	if (!O_PATH || pt_settled(at)) {
		*address = judged(at, path, *address, length, moved);
		return 0;
	}
	int fd = pt_open_judged(op, at, O_PATH | O_CLOEXEC, 0);
	if (fd < 0)
		return -fd;
	*held = fd;
	moved->sun_family = AF_UNIX;
	pt_fd_link(fd, moved->sun_path);
	*address = moved;
	*length = sizeof *moved;
	return 0;
}

static int named(uint16_t op, socket_t *real, int fd, const struct sockaddr *address, socklen_t length, uint8_t access, uint8_t flags)
{
	struct sockaddr_un moved;
	char path[sizeof moved.sun_path + 1];
	if (!has_path(address, length, path))
		return real(fd, address, length);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = access, .flags = flags };
	if (access != PT_ACC_CREATE)
		pt_cancellation_point(op);
	int error = pt_judge(op, &at), r = -1, held = -1;
	const void *to = address;
	if (!error && access == PT_ACC_CREATE)
		to = judged(&at, path, to, &length, &moved);
	else if (!error)
		error = reach(op, &at, path, &to, &length, &moved, &held);
	if (!error) {
		r = real(fd, to, length);
		if (r < 0)
			error = errno;
	}
	pt_let_go(held);
	pt_done(op, &at, error == EADDRINUSE ? EEXIST : error);
	if (r < 0)
		errno = error;
	return r;
}

PT_EXPORT int PT_WRAP(bind)(int fd, const struct sockaddr *address, socklen_t length)
{
	return named(PT_OP_bind, PT_REAL(socket_t, bind), fd, address, length, PT_ACC_CREATE, PT_EXCL);
}

PT_EXPORT int PT_WRAP(connect)(int fd, const struct sockaddr *address, socklen_t length)
{
	return named(PT_OP_connect, PT_REAL(socket_t, connect), fd, address, length, PT_ACC_READ, PT_FOLLOW);
}
PT_ALIASES_connect

/* A datagram names where it goes. */
PT_EXPORT ssize_t PT_WRAP(sendto)(int fd, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length)
{
	typedef ssize_t real_t(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
	real_t *real = PT_REAL(real_t, sendto);
	struct sockaddr_un moved;
	char path[sizeof moved.sun_path + 1];
	if (!has_path(address, length, path))
		return real(fd, data, size, flags, address, length);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_READ, .flags = PT_FOLLOW };
	pt_cancellation_point(PT_OP_sendto);
	int error = pt_judge(PT_OP_sendto, &at), held = -1;
	ssize_t r = -1;
	const void *to = address;
	if (!error)
		error = reach(PT_OP_sendto, &at, path, &to, &length, &moved, &held);
	if (!error) {
		r = real(fd, data, size, flags, to, length);
		if (r < 0)
			error = errno;
	}
	pt_let_go(held);
	pt_done(PT_OP_sendto, &at, error);
	if (r < 0)
		errno = error;
	return r;
}

PT_EXPORT ssize_t PT_WRAP(sendmsg)(int fd, const struct msghdr *message, int flags)
{
	typedef ssize_t real_t(int, const struct msghdr *, int);
	real_t *real = PT_REAL(real_t, sendmsg);
	struct sockaddr_un moved;
	char path[sizeof moved.sun_path + 1];
	if (pt_bad_pointer((const char *)message) || !has_path(message->msg_name, message->msg_namelen, path))
		return real(fd, message, flags);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_READ, .flags = PT_FOLLOW };
	struct msghdr copy = *message;
	pt_cancellation_point(PT_OP_sendmsg);
	int error = pt_judge(PT_OP_sendmsg, &at), held = -1;
	ssize_t r = -1;
	const void *to = copy.msg_name;
	if (!error)
		error = reach(PT_OP_sendmsg, &at, path, &to, &copy.msg_namelen, &moved, &held);
	if (!error) {
		copy.msg_name = (void *)(uintptr_t)to;
		r = real(fd, &copy, flags);
		if (r < 0)
			error = errno;
	}
	pt_let_go(held);
	pt_done(PT_OP_sendmsg, &at, error);
	if (r < 0)
		errno = error;
	return r;
}
PT_ALIASES_sendmsg

#ifdef __APPLE__
PT_EXPORT int PT_WRAP(connectx)(int fd, const sa_endpoints_t *ends, uint32_t associd, unsigned flags, const struct iovec *data, unsigned parts,
				size_t *sent, uint32_t *connid)
{
	typedef int real_t(int, const sa_endpoints_t *, uint32_t, unsigned, const struct iovec *, unsigned, size_t *, uint32_t *);
	real_t *real = PT_REAL(real_t, connectx);
	struct sockaddr_un moved;
	char path[sizeof moved.sun_path + 1];
	if (pt_bad_pointer((const char *)ends) || !has_path(ends->sae_dstaddr, ends->sae_dstaddrlen, path))
		return real(fd, ends, associd, flags, data, parts, sent, connid);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_READ, .flags = PT_FOLLOW };
	sa_endpoints_t copy = *ends;
	int error = pt_judge(PT_OP_connectx, &at), r = -1;
	if (!error) {
		copy.sae_dstaddr = judged(&at, path, copy.sae_dstaddr, &copy.sae_dstaddrlen, &moved);
		r = real(fd, &copy, associd, flags, data, parts, sent, connid);
		if (r < 0)
			error = errno;
	}
	pt_done(PT_OP_connectx, &at, error);
	if (r < 0)
		errno = error;
	return r;
}
#else
/* Where any of them names a path they go one by one. */
PT_EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, PT_SENDMMSG_FLAGS flags)
{
	typedef int real_t(int, struct mmsghdr *, unsigned, int);
	char path[sizeof((struct sockaddr_un *)0)->sun_path + 1];
	bool any = false;
	for (unsigned i = 0; !pt_bad_pointer((const char *)messages) && i < count && !any; i++)
		any = has_path(messages[i].msg_hdr.msg_name, messages[i].msg_hdr.msg_namelen, path);
	if (!any)
		return PT_REAL(real_t, sendmmsg)(fd, messages, count, (int)flags);
	int sent = 0;
	for (unsigned i = 0; i < count; i++, sent++) {
		ssize_t n = sendmsg(fd, &messages[i].msg_hdr, (int)flags);
		if (n < 0)
			break;
		messages[i].msg_len = (unsigned)n;
	}
	return sent ? sent : count ? -1 : 0;
}
PT_ALIASES_sendmmsg
#endif
