/*
 * Messages. They are sent here, as a copy and through a descriptor of ours: the kernel would read address, descriptors and
 * the socket's number again, and another thread could have put a hidden socket's name there meanwhile, also where there
 * was none before. The one thing that differs for the receiver is the sender's process number, which is ours.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "supervisor_answer.h"

#define PIECE (256u * 1024)            /* of what is no message, but a stream */
#define LONGEST (16u * 1024 * 1024)    /* message; none of the kernel's sockets takes one as long */
#define CONTROL (64u * 1024)
#define PARTS 1024u                    /* as many as the kernel takes */

struct sending {
	int flags;
	bool apart, signals;           /* in a thread that may wait; SIGPIPE is wanted */
	uint64_t len_at;               /* where sendmmsg wants the length; the result is then 1 */
	struct iovec *parts;           /* in the program */
	size_t count, part, at;        /* where in them we are */
	size_t total, piece, have, sent, done;
	char *bytes;
	bool tells;                    /* who the sender is, with each piece */
	size_t control_len;
	int rights[253], nrights;      /* SCM_MAX_FD */
	_Alignas(8) char control[];
};

static void put_control(struct sending *m, int level, int type, const void *data, size_t size)
{
	struct cmsghdr head = { .cmsg_level = level, .cmsg_type = type, .cmsg_len = CMSG_LEN(size) };
	memcpy(m->control + m->control_len, &head, sizeof head);
	memcpy(m->control + m->control_len + CMSG_LEN(0), data, size);
	m->control_len += CMSG_SPACE(size);
}

/* The program's descriptors become ours for the time; one that it has not is none. */
static int take_rights(struct pt_task *t, struct sending *m, const char *data, size_t size)
{
	int from = m->nrights;
	for (size_t i = 0; i + sizeof(int) <= size; i += sizeof(int)) {
		int number;
		memcpy(&number, data + i, sizeof number);
		if ((size_t)m->nrights == sizeof m->rights / sizeof *m->rights)
			return EINVAL;
		int copy = pt_target_fd(t->pid, number);
		if (copy < 0)
			return copy == -EPERM ? EACCES : EBADF;
		m->rights[m->nrights++] = copy;
	}
	put_control(m, SOL_SOCKET, SCM_RIGHTS, m->rights + from, (size_t)(m->nrights - from) * sizeof(int));
	return 0;
}

/* Our real uid may be root's, for which the kernel would vouch. */
static void put_identity(struct sending *m)
{
	const struct ucred who = { .pid = getpid(), .uid = geteuid(), .gid = getegid() };
	put_control(m, SOL_SOCKET, SCM_CREDENTIALS, &who, sizeof who);
}

/* A program says who it is: only itself. */
static int check_identity(struct pt_task *t, struct sending *m, const char *data, size_t size)
{
	struct ucred said;
	pid_t process, parent;
	if (size != sizeof said)
		return EINVAL;
	memcpy(&said, data, sizeof said);
	pt_target_ids(t->pid, &process, &parent);
	m->tells = true;
	return said.pid == process && said.uid == geteuid() && said.gid == getegid() ? 0 : EPERM;
}

static int take_control(struct pt_task *t, struct sending *m, int domain, const char *in, size_t size)
{
	const size_t word = t->compat ? 4 : 8, head = word + 8;
	const bool tells = domain == AF_UNIX || domain == AF_NETLINK;
	int error = 0;
	m->tells = tells && getuid() != geteuid();
	for (size_t at = 0; !error && at + head <= size;) {
		size_t len = 0;
		int level, type;
		memcpy(&len, in + at, word); /* the lower half, on these machines */
		memcpy(&level, in + at + word, sizeof level);
		memcpy(&type, in + at + word + 4, sizeof type);
		if (len < head || len > size - at)
			return EINVAL;
		const char *data = in + at + head;
		if (level == SOL_SOCKET && type == SCM_RIGHTS && domain == AF_UNIX)
			error = take_rights(t, m, data, len - head);
		else if (level == SOL_SOCKET && type == SCM_CREDENTIALS && tells)
			error = check_identity(t, m, data, len - head);
		else
			put_control(m, level, type, data, len - head);
		at += (len + word - 1) & ~(word - 1);
	}
	if (!error && m->tells)
		put_identity(m);
	return error;
}

static void drop(struct sending *m)
{
	for (int i = 0; i < m->nrights; i++)
		close(m->rights[i]);
	m->nrights = 0;
}

static void forget(struct sending *m)
{
	drop(m);
	free(m->parts);
	free(m->bytes);
	free(m);
}

/* The next piece, or all of a message. */
static bool fetch(struct sending *m, pid_t pid)
{
	for (m->have = m->sent = 0; m->part < m->count && m->have < m->piece;) {
		size_t left = m->parts[m->part].iov_len - m->at, some = left < m->piece - m->have ? left : m->piece - m->have;
		if (some && !pt_target_read(pid, (uint64_t)(uintptr_t)m->parts[m->part].iov_base + m->at, m->bytes + m->have, some))
			return false;
		m->have += some;
		m->at += some;
		if (m->at == m->parts[m->part].iov_len) {
			m->part++;
			m->at = 0;
		}
	}
	return true;
}

/* What has gone out already counts, whatever comes after it. */
static long sends(struct pt_waiting *w)
{
	struct sending *m = w->own;
	struct sockaddr_un *un = (void *)&w->to;
	if (w->fds[1] >= 0) /* the number is this thread's own */
		pt_own_fd_link(w->fds[1], un->sun_path);
	if (w->stops)
		return (long)m->done;
	for (bool more = true; more; more = m->done < m->total) {
		if (m->sent == m->have && !fetch(m, (pid_t)w->request.pid)) {
			errno = EFAULT;
			return m->done ? (long)m->done : -1;
		}
		struct iovec part = { m->bytes + m->sent, m->have - m->sent };
		struct msghdr head = { .msg_name = w->size ? &w->to : NULL, .msg_namelen = w->size, .msg_iov = &part, .msg_iovlen = 1,
				       .msg_control = m->control, .msg_controllen = m->control_len };
		ssize_t n = sendmsg(w->fds[0], &head, m->flags | MSG_NOSIGNAL | (m->apart ? 0 : MSG_DONTWAIT));
		if (n < 0) {
			bool waits = errno == EINTR || (errno == EAGAIN && !m->apart && !(m->flags & MSG_DONTWAIT));
			return !m->done || waits ? -1 : (long)m->done;
		}
		drop(m);
		m->control_len = 0;
		if (m->tells)
			put_identity(m);
		w->begun = true;
		m->sent += (size_t)n;
		m->done += (size_t)n;
	}
	return (long)m->done;
}

static long sends_one(struct pt_waiting *w)
{
	const struct sending *m = w->own;
	long n = sends(w);
	if (n < 0 || !m->len_at)
		return n;
	uint32_t length = (uint32_t)n;
	(void)pt_target_write((pid_t)w->request.pid, m->len_at, &length, sizeof length);
	return 1;
}

/* After the reply: where a signal comes before it, the call begins anew. */
static void over(struct pt_waiting *w, int error)
{
	struct sending *m = w->own;
	if (error == EPIPE && m->signals)
		(void)syscall(SYS_tkill, (pid_t)w->request.pid, SIGPIPE);
	forget(m);
}

/* Where the parts lie, and how long they are together. */
static int take_parts(const struct pt_task *t, struct sending *m, const struct pt_message *from)
{
	const size_t width = t->compat ? 8 : 16;
	if (from->parts > PARTS)
		return EMSGSIZE;
	m->count = from->alone ? 1 : (size_t)from->parts;
	m->parts = calloc(m->count + 1, sizeof *m->parts);
	if (!m->parts)
		return ENOBUFS;
	if (from->alone)
		m->parts[0] = (struct iovec){ (void *)(uintptr_t)from->iov, (size_t)from->parts };
	else if (m->count && !pt_target_read(t->pid, from->iov, m->parts, m->count * width))
		return EFAULT;
	for (size_t i = m->count; t->compat && !from->alone && i-- > 0;) {
		uint32_t narrow[2];
		memcpy(narrow, (char *)m->parts + i * width, width);
		m->parts[i] = (struct iovec){ (void *)(uintptr_t)narrow[0], narrow[1] };
	}
	for (size_t i = 0; i < m->count; i++) {
		if (m->parts[i].iov_len > INT32_MAX - m->total)
			return EMSGSIZE;
		m->total += m->parts[i].iov_len;
	}
	return 0;
}

static int prepare(struct pt_task *t, struct sending *m, const struct pt_message *from, int domain, int type)
{
	int error = take_parts(t, m, from);
	if (error)
		return error;
	m->piece = type == SOCK_STREAM && m->total > PIECE ? PIECE : m->total;
	if (m->piece > LONGEST)
		return EMSGSIZE;
	char *control = malloc((size_t)from->control_len + 1);
	m->bytes = malloc(m->piece + 1);
	if (!m->bytes || !control)
		error = ENOBUFS;
	else if (from->control_len && !pt_target_read(t->pid, from->control, control, (size_t)from->control_len))
		error = EFAULT;
	else
		error = take_control(t, m, domain, control, (size_t)from->control_len);
	free(control);
	return error;
}

static int send_to(struct pt_task *t, struct pt_waiting *w, const struct pt_message *from, unsigned flags, bool waits)
{
	int domain = 0, type = 0, error;
	socklen_t size = sizeof domain;
	struct pt_address to = { .size = 0 };
	struct sending *m;
	if (getsockopt(w->fds[0], SOL_SOCKET, SO_DOMAIN, &domain, &size) || getsockopt(w->fds[0], SOL_SOCKET, SO_TYPE, &type, &size))
		return errno;
	if (from->control_len > CONTROL || (flags & MSG_ZEROCOPY)) /* programs then send a copy */
		return ENOBUFS;
	error = from->name && from->name_len ? pt_read_address(t, from->name, from->name_len, &to) : 0;
	if (!error)
		error = pt_reach(t, domain, &to, &w->fds[1]);
	if (error)
		return error;
	memcpy(&w->to, &to.text, sizeof w->to);
	w->size = w->fds[1] >= 0 ? (socklen_t)sizeof(struct sockaddr_un) : to.size;
	m = calloc(1, sizeof *m + 2 * (size_t)from->control_len + 64);
	if (!m)
		return ENOBUFS;
	error = prepare(t, m, from, domain, type);
	m->len_at = from->len_at;
	m->flags = (int)(flags & ~0x80000000u /* MSG_CMSG_COMPAT: the kernel's own */) | (fcntl(w->fds[0], F_GETFL) & O_NONBLOCK ? MSG_DONTWAIT : 0);
	m->signals = waits && type == SOCK_STREAM && !(flags & MSG_NOSIGNAL);
	w->own = m;
	long n = error ? -1 : sends_one(w);
	if (n < 0 && !error)
		error = errno;
	if (error == EAGAIN && waits && !(m->flags & MSG_DONTWAIT)) {
		m->apart = true;
		w->end = over;
		return pt_wait_apart(t, w);
	}
	if (error == EPIPE && m->signals) {
		t->resp->error = -error;
		pt_reply(t, t->resp);
		t->answered = true;
	}
	over(w, error);
	t->resp->val = n;
	return error ? error : DONE;
}

int pt_send(struct pt_task *t, int number, const struct pt_message *from, unsigned flags, bool waits)
{
	struct pt_waiting w = { .attempt = sends_one, .fds = { pt_target_fd(t->pid, number), -1 }, .request = *t->req };
	if (w.fds[0] < 0)
		return w.fds[0] == -EPERM ? EACCES : EBADF;
	int error = send_to(t, &w, from, flags, waits);
	for (unsigned i = 0; i < 2; i++)
		if (w.fds[i] >= 0)
			close(w.fds[i]);
	return error;
}
