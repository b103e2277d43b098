/* Messages that say themselves where they go: whether a hidden socket is there, and what one that hears answers. */
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "attempt.h"

#define E(call) ((call) < 0 ? errno : 0)

static struct sockaddr_un to;
static struct iovec part = { "ask", 3 };

static int opened(const char *path)
{
	to = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
	return socket(AF_UNIX, SOCK_DGRAM, 0);
}

static struct msghdr message(void)
{
	return (struct msghdr){ .msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &part, .msg_iovlen = 1 };
}

static int by_sendto(int s) { return E(sendto(s, "ask", 3, 0, (struct sockaddr *)&to, sizeof to)); }
static int by_sys_sendto(int s) { return E(sys(SYS_sendto, s, "ask", 3, 0, &to, sizeof to)); }
static int by_sendmsg(int s) { struct msghdr m = message(); return E(sendmsg(s, &m, 0)); }
static int by_sys_sendmsg(int s) { struct msghdr m = message(); return E(sys(SYS_sendmsg, s, &m, 0)); }
static int by_sendmmsg(int s)
{
	struct mmsghdr m[1] = { { .msg_hdr = message() } };
	return E(sendmmsg(s, m, 1, 0));
}
static int by_sys_sendmmsg(int s)
{
	struct mmsghdr m[1] = { { .msg_hdr = message() } };
	return E(sys(SYS_sendmmsg, s, m, 1, 0));
}
/* The second of two: the first goes to a socket of our own. */
static int by_sys_sendmmsg_second(int s)
{
	struct sockaddr_un own = { .sun_family = AF_UNIX };
	struct mmsghdr m[2] = { { .msg_hdr = message() }, { .msg_hdr = message() } };
	int mine = socket(AF_UNIX, SOCK_DGRAM, 0);
	snprintf(own.sun_path, sizeof own.sun_path, "%s", in("work/own"));
	if (bind(mine, (struct sockaddr *)&own, sizeof own))
		return errno;
	m[0].msg_hdr.msg_name = &own;
	int n = (int)sys(SYS_sendmmsg, s, m, 2, 0), e = n < 0 ? errno : 0;
	if (n == 1) /* the kernel keeps the second one's errno to itself: asked for again */
		e = E(sys(SYS_sendmmsg, s, m + 1, 1, 0));
	return e;
}
#ifdef __i386__
static int by_sys_socketcall(int s, int call, void *second, uint32_t third, uint32_t fourth, void *fifth, uint32_t sixth)
{
	uint32_t args[6] = { (uint32_t)s, (uint32_t)(uintptr_t)second, third, fourth, (uint32_t)(uintptr_t)fifth, sixth };
	return E(sys(SYS_socketcall, call, args));
}
static int by_sys_call_sendto(int s) { return by_sys_socketcall(s, 11, "ask", 3, 0, &to, sizeof to); }
static int by_sys_call_sendmsg(int s) { struct msghdr m = message(); return by_sys_socketcall(s, 16, &m, 0, 0, NULL, 0); }
static int by_sys_call_sendmmsg(int s)
{
	struct mmsghdr m[1] = { { .msg_hdr = message() } };
	return by_sys_socketcall(s, 20, m, 1, 0, NULL, 0);
}
#else
static int by_sys_call_sendto(int s) { return by_sys_sendto(s); }
static int by_sys_call_sendmsg(int s) { return by_sys_sendmsg(s); }
static int by_sys_call_sendmmsg(int s) { return by_sys_sendmmsg(s); }
#endif

/* What the hidden socket's owner sends back to a name of ours. */
static int hear(int (*how)(int))
{
	struct sockaddr_un own = { .sun_family = AF_UNIX };
	int s = opened(in("hidden/datagrams"));
	snprintf(own.sun_path, sizeof own.sun_path, "%s", in("work/reply"));
	if (bind(s, (struct sockaddr *)&own, sizeof own))
		return errno;
	chmod(own.sun_path, 0777);
	int error = how(s);
	struct pollfd p = { s, POLLIN, 0 };
	return error ? error : poll(&p, 1, 500) == 1 ? show_fd(s) : EAGAIN;
}

#define BOTH(name) \
	static int r_##name(const char *p) { (void)p; return hear(by_##name); } \
	static int x_##name(const char *p) { return by_##name(opened(p)); }
BOTH(sendto) BOTH(sys_sendto) BOTH(sendmsg) BOTH(sys_sendmsg) BOTH(sendmmsg) BOTH(sys_sendmmsg) BOTH(sys_sendmmsg_second)
BOTH(sys_call_sendto) BOTH(sys_call_sendmsg) BOTH(sys_call_sendmmsg)

#define TABLE(c) \
	{ "sendto", c##_sendto }, { "sys-sendto", c##_sys_sendto }, { "sendmsg", c##_sendmsg }, { "sys-sendmsg", c##_sys_sendmsg }, \
	{ "sendmmsg", c##_sendmmsg }, { "sys-sendmmsg", c##_sys_sendmmsg }, { "sys-sendmmsg-second", c##_sys_sendmmsg_second }, \
	{ "sys-socketcall-sendto", c##_sys_call_sendto }, { "sys-socketcall-sendmsg", c##_sys_call_sendmsg }, \
	{ "sys-socketcall-sendmmsg", c##_sys_call_sendmmsg }, { NULL, NULL },
const struct attempt socket_read_attempts[] = { TABLE(r) };
const struct attempt socket_exist_attempts[] = { TABLE(x) };
