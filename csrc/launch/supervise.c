#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "supervisor_calls.h"

struct call {
	int native, compat;
	enum pt_sc_shape shape;
};

static const struct call calls[] = {
#if defined(__x86_64__)
#define PT_SC(name, nr64, nr32, shape, access, dir, path, flags) { nr64, nr32, shape },
	PT_SUPERVISED_CALLS
#undef PT_SC
#else
#error "supervised calls have numbers for x86_64 only so far"
#endif
};

#define CALLS (sizeof calls / sizeof calls[0])
#define X32_BIT 0x40000000

/* One architecture's part: who is not in the list goes on unhindered. */
static unsigned section(struct sock_filter *f, int compat)
{
	unsigned n = 0, count = 0;
	for (unsigned i = 0; i < CALLS; i++)
		count += (compat ? calls[i].compat : calls[i].native) >= 0;
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	if (!compat) /* x32 numbers are no calls that anybody needs */
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, (unsigned char)(count + 2), 0);
	unsigned first = n;
	for (unsigned i = 0; i < CALLS; i++) {
		int nr = compat ? calls[i].compat : calls[i].native;
		if (nr < 0)
			continue;
		unsigned left = count - (n - first) - 1; /* comparisons that follow this one */
		unsigned target = calls[i].shape == PT_SH_NOSYS ? left + 2 : left + 1;
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, (unsigned char)target, 0);
	}
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
	return n;
}

static int install(void)
{
	static struct sock_filter f[2 * (CALLS + 8) + 8];
	static struct sock_filter compat[CALLS + 8];
	_Static_assert(CALLS < 250, "a BPF jump reaches 255 instructions");
	unsigned n = 0, m = section(compat, 1);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 1);
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JA, m + 2, 0, 0); /* over the compat part and its two guards */
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_I386, 1, 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
	memcpy(f + n, compat, m * sizeof *f);
	n += m;
	n += section(f + n, 0);
	struct sock_fprog program = { .len = (unsigned short)n, .filter = f };
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

/* Connect through the directory's descriptor: a session path may be longer than a socket's name. */
static int meet(const char *session)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int dir = open(session, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -1;
	snprintf(to.sun_path, sizeof to.sun_path, "/proc/self/fd/%d/%s", dir, PT_SUPERVISE_SOCKET);
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int err = s < 0 || connect(s, (struct sockaddr *)&to, sizeof to) ? errno : 0;
	close(dir);
	if (err && s >= 0)
		close(s);
	errno = err;
	return err ? -1 : s;
}

static int hand_over(int s, int listener)
{
	static const char hello[] = PT_SUPERVISE_HELLO;
	struct iovec iov = { (void *)(uintptr_t)hello, sizeof hello };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof listener);
	memcpy(CMSG_DATA(c), &listener, sizeof listener);
	if (sendmsg(s, &message, MSG_NOSIGNAL) < 0)
		return -1;
	char ack = 0;
	ssize_t got = recv(s, &ack, 1, 0);
	if (got == 1 && ack == PT_SUPERVISE_ACK)
		return 0;
	if (got >= 0)
		errno = ECONNREFUSED;
	return -1;
}

const char *pt_supervise(const char *session)
{
	if (syscall(SYS_faccessat, AT_FDCWD, PT_SUPERVISE_PROBE, F_OK) && errno == EUCLEAN)
		return NULL;
	int s = meet(session);
	if (s < 0)
		return "no supervisor answers in the session";
	int listener = install();
	if (listener < 0)
		return errno == EBUSY ? "the program brought a supervisor of its own" : "installing the filter";
	if (hand_over(s, listener))
		return "handing the filter over";
	close(listener);
	close(s);
	return NULL;
}
