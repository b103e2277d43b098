/* Sockets that have a name in the file system. */
#include <sys/socket.h>
#include <sys/un.h>

#include "supervisor_answer.h"

#define SCM_BIND 2            /* linux/net.h: socketcall(2)'s numbers */
#define SCM_CONNECT 3
#define SCM_SENDTO 11
#define SCM_SENDMSG 16
#define SCM_SENDMMSG 20

struct address {
	struct sockaddr_storage text;
	socklen_t size;
	bool named;               /* by a path, which is in the task's `asked` */
};

static int read_address(struct pt_task *t, uint64_t at, uint64_t size, struct address *a)
{
	*a = (struct address){ .size = (socklen_t)size };
	if (size > sizeof a->text)
		return EINVAL;
	if (size && !pt_target_read(t->pid, at, &a->text, (size_t)size))
		return errno == EPERM ? EACCES : EFAULT;
	const struct sockaddr_un *un = (const void *)&a->text;
	const size_t head = offsetof(struct sockaddr_un, sun_path);
	if (size <= head || size > sizeof *un || un->sun_family != AF_UNIX || !un->sun_path[0])
		return 0;
	size_t len = strnlen(un->sun_path, (size_t)size - head);
	memcpy(t->asked, un->sun_path, len);
	t->asked[len] = 0;
	a->named = true;
	return 0;
}

static int judge(struct pt_task *t, bool make)
{
	t->access = make ? PT_ACC_CREATE : PT_ACC_READ;
	t->last_link = make;
	int error = pt_task_resolve_text(t, AT_FDCWD, t->asked, strlen(t->asked), make ? PT_RES_CREATE | PT_RES_NOFOLLOW_LAST : 0);
	if (!error)
		error = pt_task_judge(t, 0);
	return error == EEXIST ? EADDRINUSE : error;
}

/* Judged, and left to the kernel. */
static int answer_address(struct pt_task *t, uint64_t at, uint64_t size, bool make)
{
	struct address a;
	int error = read_address(t, at, size, &a);
	if (!error && a.named)
		error = judge(t, make);
	return error ? error : GO_ON;
}

/* Messages, each of which may say itself where it goes: `stride` bytes apart. */
static int answer_messages(struct pt_task *t, uint64_t at, uint64_t count, size_t stride)
{
	for (uint64_t i = 0; i < count && i < 1024 /* as many as the kernel takes */; i++, at += stride) {
		struct { uint64_t name; uint32_t len; } wide = { 0, 0 };
		uint32_t narrow[2] = { 0, 0 };
		if (!(t->compat ? pt_target_read(t->pid, at, narrow, sizeof narrow) : pt_target_read(t->pid, at, &wide, 12)))
			return errno == EPERM ? EACCES : EFAULT;
		uint64_t name = t->compat ? narrow[0] : wide.name;
		int error = name ? answer_address(t, name, t->compat ? narrow[1] : wide.len, false) : GO_ON;
		if (error != GO_ON)
			return error;
	}
	return GO_ON;
}

static long connects(struct pt_waiting *w)
{
	struct sockaddr_un *un = (void *)&w->to;
	if (w->fds[1] >= 0) /* the number is this thread's own */
		pt_own_fd_link(w->fds[1], un->sun_path);
	return connect(w->fds[0], (const struct sockaddr *)&w->to, w->size);
}

/* A connection is made here: what was judged is what is connected to, whatever becomes of the address, the path and the descriptor. */
static int connect_once(struct pt_task *t, int socket, struct address *a)
{
	struct pt_waiting w = { .fds = { socket, -1 }, .attempt = connects };
	int error = 0, type = 0;
	socklen_t size = sizeof type;
	memcpy(&w.to, &a->text, sizeof w.to);
	w.size = a->size;
	if (a->named) {
		error = judge(t, false);
		if (error)
			return error;
		w.fds[1] = pt_hold_judged(t);
		if (w.fds[1] < 0)
			return w.fds[1] == AGAIN ? AGAIN : -w.fds[1];
		w.size = sizeof(struct sockaddr_un);
	}
	bool waits = !getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &size) && type != SOCK_DGRAM && !(fcntl(socket, F_GETFL) & O_NONBLOCK);
	if (waits)
		error = pt_wait_apart(t, &w);
	else
		error = connects(&w) ? errno : DONE;
	if (w.fds[1] >= 0)
		close(w.fds[1]);
	return error;
}

static int answer_connect(struct pt_task *t, int number, uint64_t at, uint64_t size)
{
	struct address a;
	int domain = 0, error;
	socklen_t length = sizeof domain;
	int socket = pt_target_fd(t->pid, number);
	if (socket < 0)
		return socket == -EPERM ? EACCES : EBADF;
	error = getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) ? errno : read_address(t, at, size, &a);
	if (!error && domain == AF_UNIX && a.text.ss_family == AF_UNIX && !a.named) {
		error = GO_ON; /* a name in no file system: whether it may be reached is the kernel's fence's to say */
	} else if (!error) {
		if (domain != AF_UNIX)
			a.named = false;
		error = AGAIN;
		for (int tries = 0; tries < TRIES && error == AGAIN; tries++)
			error = connect_once(t, socket, &a);
		if (error == AGAIN)
			error = ELOOP;
	}
	close(socket);
	return error;
}

#define MSG_SIZE(t) ((t)->compat ? 28u : 56u)   /* struct msghdr */
#define MMSG_SIZE(t) ((t)->compat ? 32u : 64u)  /* struct mmsghdr */

static int answer_socketcall(struct pt_task *t)
{
	uint64_t call = arg(t, 0);
	uint32_t args[6] = { 0 };
	unsigned count = call == SCM_SENDTO ? 6 : 3;
	if (call != SCM_CONNECT && call != SCM_BIND && call != SCM_SENDTO && call != SCM_SENDMSG && call != SCM_SENDMMSG)
		return GO_ON;
	if (!pt_target_read(t->pid, arg(t, 1), args, count * sizeof *args))
		return EFAULT;
	switch (call) {
	case SCM_CONNECT: return answer_connect(t, (int)args[0], args[1], args[2]);
	case SCM_BIND: return answer_address(t, args[1], args[2], true);
	case SCM_SENDTO: return args[4] ? answer_address(t, args[4], args[5], false) : GO_ON;
	case SCM_SENDMSG: return answer_messages(t, args[1], 1, MSG_SIZE(t));
	default: return answer_messages(t, args[1], args[2], MMSG_SIZE(t));
	}
}

int pt_answer_socket(struct pt_task *t)
{
	uint64_t first = arg(t, t->call->path), second = t->call->flags >= 0 ? arg(t, t->call->flags) : 0;
	switch (t->call->shape) {
	case PT_SH_CONNECT: return answer_connect(t, (int)arg(t, 0), first, second);
	case PT_SH_BIND: return answer_address(t, first, second, true);
	case PT_SH_SENDTO: return answer_address(t, first, second, false);
	case PT_SH_SENDMSG: return answer_messages(t, first, 1, MSG_SIZE(t));
	case PT_SH_SENDMMSG: return answer_messages(t, first, second, MMSG_SIZE(t));
	default: return answer_socketcall(t);
	}
}
