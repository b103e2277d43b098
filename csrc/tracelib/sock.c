/* Sockets that have a name in the file system. */
#include "headers.h"

typedef int socket_t(int, const struct sockaddr *, socklen_t);

static int named(uint16_t op, socket_t *real, int fd, const struct sockaddr *address, socklen_t length, uint8_t access, uint8_t flags)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)address;
	size_t head = offsetof(struct sockaddr_un, sun_path);
	struct sockaddr_un moved;
	if (!pt_on() || pt_bad_pointer((const char *)address) || length <= head || length > sizeof *un || un->sun_family != AF_UNIX ||
	    !un->sun_path[0])
		return real(fd, address, length);
	char path[sizeof un->sun_path + 1];
	memcpy(path, un->sun_path, length - head);
	path[length - head] = 0;
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = access, .flags = flags };
	int error = pt_judge(op, &at), r = -1;
	if (!error && at.path != path && strlen(at.path) < sizeof moved.sun_path) {
		moved.sun_family = AF_UNIX;
		memcpy(moved.sun_path, at.path, strlen(at.path) + 1);
		address = (const struct sockaddr *)&moved;
		length = sizeof moved;
	}
	if (!error) {
		r = real(fd, address, length);
		if (r < 0)
			error = errno;
	}
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
