/* Sockets that have a name in the file system. */
#include <sys/socket.h>
#include <sys/un.h>

#include "supervisor_answer.h"

#define SCM_BIND 2            /* linux/net.h: socketcall(2)'s numbers */
#define SCM_CONNECT 3
#define SCM_SENDTO 11
#define SCM_SENDMSG 16
#define SCM_SENDMMSG 20

int pt_read_address(struct pt_task *t, uint64_t at, uint64_t size, struct pt_address *a)
{
	*a = (struct pt_address){ .size = (socklen_t)size };
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

static int judge(struct pt_task *t)
{
	t->access = PT_ACC_READ;
	t->last_link = false;
	int error = pt_task_resolve_text(t, AT_FDCWD, t->asked, strlen(t->asked), 0);
	return error ? error : pt_task_judge(t, 0);
}

int pt_reach(struct pt_task *t, int domain, const struct pt_address *a, int *held)
{
	int error = AGAIN;
	*held = -1;
	if (domain != AF_UNIX || a->text.ss_family != AF_UNIX)
		return 0;
	if (!a->named)
		return pt_reach_abstract(t, (const void *)&a->text, a->size);
	for (int tries = 0; tries < TRIES && error == AGAIN; tries++) {
		error = judge(t);
		if (error)
			return error;
		*held = pt_hold_judged(t);
		error = *held == AGAIN ? AGAIN : *held < 0 ? -*held : 0;
	}
	return error == AGAIN ? ELOOP : error;
}

#define MSG_SIZE(t) ((t)->compat ? 28u : 56u)   /* struct msghdr */
#define MMSG_SIZE(t) ((t)->compat ? 32u : 64u)  /* struct mmsghdr */

static bool read_message(struct pt_task *t, uint64_t at, struct pt_message *m)
{
	struct { uint64_t name; uint32_t name_len, pad; uint64_t iov, parts, control, control_len; } wide;
	uint32_t narrow[6];
	if (!(t->compat ? pt_target_read(t->pid, at, narrow, sizeof narrow) : pt_target_read(t->pid, at, &wide, sizeof wide)))
		return false;
	*m = t->compat ? (struct pt_message){ .name = narrow[0], .name_len = narrow[1], .iov = narrow[2], .parts = narrow[3],
					      .control = narrow[4], .control_len = narrow[5] }
		       : (struct pt_message){ .name = wide.name, .name_len = wide.name_len, .iov = wide.iov, .parts = wide.parts,
					      .control = wide.control, .control_len = wide.control_len };
	if (m->name_len > sizeof(struct sockaddr_storage) && m->name_len <= INT32_MAX)
		m->name_len = sizeof(struct sockaddr_storage); /* as the kernel does */
	return true;
}

static int answer_message(struct pt_task *t, int socket, uint64_t at, unsigned flags)
{
	struct pt_message m;
	if (!read_message(t, at, &m))
		return errno == EPERM ? EACCES : EFAULT;
	return pt_send(t, socket, &m, flags, true);
}

/* As many as go without waiting; the first may wait. What ails a later one is not told, as it is with the kernel. */
static int answer_messages(struct pt_task *t, int socket, uint64_t at, uint64_t count, unsigned flags)
{
	int error = DONE;
	uint64_t sent = 0;
	for (; sent < count && sent < 1024 /* as many as the kernel takes */; sent++, at += MMSG_SIZE(t)) {
		struct pt_message m;
		if (!read_message(t, at, &m)) {
			error = errno == EPERM ? EACCES : EFAULT;
			break;
		}
		m.len_at = at + MSG_SIZE(t);
		error = pt_send(t, socket, &m, flags, sent == 0);
		if (error != DONE)
			break;
	}
	if (!sent && error != DONE)
		return error;
	t->resp->val = (int64_t)sent;
	return DONE;
}

/* The bytes themselves, and to whom. */
static int answer_sendto(struct pt_task *t, const uint64_t a[6])
{
	const struct pt_message m = { .name = a[4], .name_len = (uint32_t)a[5], .iov = a[1], .parts = a[2], .alone = true };
	return pt_send(t, (int)a[0], &m, (unsigned)a[3], true);
}

static long connects(struct pt_waiting *w)
{
	struct sockaddr_un *un = (void *)&w->to;
	if (w->fds[1] >= 0) /* the number is this thread's own */
		pt_own_fd_link(w->fds[1], un->sun_path);
	return connect(w->fds[0], (const struct sockaddr *)&w->to, w->size);
}

/* A connection is made here: what was judged is what is connected to, whatever becomes of the address, the path and the descriptor. */
static int answer_connect(struct pt_task *t, int number, uint64_t at, uint64_t size)
{
	struct pt_waiting w = { .fds = { pt_target_fd(t->pid, number), -1 }, .attempt = connects };
	struct pt_address a;
	int domain = 0, type = 0;
	socklen_t length = sizeof domain;
	if (w.fds[0] < 0)
		return w.fds[0] == -EPERM ? EACCES : EBADF;
	int error = getsockopt(w.fds[0], SOL_SOCKET, SO_DOMAIN, &domain, &length) ? errno : pt_read_address(t, at, size, &a);
	if (!error)
		error = pt_reach(t, domain, &a, &w.fds[1]);
	if (!error) {
		memcpy(&w.to, &a.text, sizeof w.to);
		w.size = w.fds[1] >= 0 ? (socklen_t)sizeof(struct sockaddr_un) : a.size;
		bool waits = !getsockopt(w.fds[0], SOL_SOCKET, SO_TYPE, &type, &length) && type != SOCK_DGRAM &&
			     !(fcntl(w.fds[0], F_GETFL) & O_NONBLOCK);
		error = waits ? pt_wait_apart(t, &w) : connects(&w) ? errno : DONE;
	}
	for (unsigned i = 0; i < 2; i++)
		if (w.fds[i] >= 0)
			close(w.fds[i]);
	return error;
}

static int answer_socketcall(struct pt_task *t)
{
	uint64_t call = arg(t, 0);
	uint32_t args[6] = { 0 };
	unsigned count = call == SCM_SENDTO ? 6 : call == SCM_SENDMMSG ? 4 : 3;
	if (call != SCM_CONNECT && call != SCM_BIND && call != SCM_SENDTO && call != SCM_SENDMSG && call != SCM_SENDMMSG)
		return GO_ON;
	if (!pt_target_read(t->pid, arg(t, 1), args, count * sizeof *args))
		return EFAULT;
	switch (call) {
	case SCM_CONNECT: return answer_connect(t, (int)args[0], args[1], args[2]);
	case SCM_BIND: return pt_answer_bind(t, (int)args[0], args[1], args[2]);
	case SCM_SENDTO: return answer_sendto(t, (const uint64_t[6]){ args[0], args[1], args[2], args[3], args[4], args[5] });
	case SCM_SENDMSG: return answer_message(t, (int)args[0], args[1], args[2]);
	default: return answer_messages(t, (int)args[0], args[1], args[2], args[3]);
	}
}

int pt_answer_socket(struct pt_task *t)
{
	uint64_t first = arg(t, t->call->path), second = t->call->flags >= 0 ? arg(t, t->call->flags) : 0;
	switch (t->call->shape) {
	case PT_SH_CONNECT: return answer_connect(t, (int)arg(t, 0), first, second);
	case PT_SH_BIND: return pt_answer_bind(t, (int)arg(t, 0), first, second);
	case PT_SH_SENDTO: return answer_sendto(t, (const uint64_t[6]){ arg(t, 0), arg(t, 1), arg(t, 2), arg(t, 3), arg(t, 4), arg(t, 5) });
	case PT_SH_SENDMSG: return answer_message(t, (int)arg(t, 0), first, (unsigned)arg(t, 2));
	case PT_SH_SENDMMSG: return answer_messages(t, (int)arg(t, 0), first, (uint32_t)second, (unsigned)arg(t, 3));
	default: return answer_socketcall(t);
	}
}
