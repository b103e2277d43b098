#include "supervise_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "supervisor_calls.h"
#include "sysraw.h"

#ifndef SECCOMP_FILTER_FLAG_TSYNC_ESRCH
#define SECCOMP_FILTER_FLAG_TSYNC_ESRCH (1UL << 4)
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

struct call {
	int native, compat;
	enum pt_sc_shape shape;
};

static const struct call calls[] = {
#define PT_SC(name, nr64, nr32, shape, access, dir, path, flags) { PT_SC_NATIVE(name, nr64), PT_SC_COMPAT(nr32), shape },
	PT_SUPERVISED_CALLS
#undef PT_SC
};
static const unsigned requests[] = PT_ATTRIBUTE_REQUESTS;
#define REQUESTS (sizeof requests / sizeof requests[0])
static const unsigned keys[] = PT_KEYS_REQUESTS;
#define KEYS (sizeof keys / sizeof keys[0])

#define CALLS (sizeof calls / sizeof calls[0])
#define X32_BIT 0x40000000
#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define COMPAT_ARCH AUDIT_ARCH_I386
#else
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#define COMPAT_ARCH 0u /* none: a 32-bit program's calls end in ENOSYS */
#endif

#define SENDTO_PART 7

/* A message without an address goes where its socket is connected to. The argument is a register, which nobody exchanges. */
static unsigned sendto_part(struct sock_filter *f, unsigned nr)
{
	const unsigned address = offsetof(struct seccomp_data, args[4]);
	unsigned n = 0;
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, SENDTO_PART - 1);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, address);
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, address + 4);
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	return n;
}

#define CLONE_PART 5

/* A new process costs nothing, unless it comes to a user namespace of its own: there root's capabilities end. */
static unsigned clone_part(struct sock_filter *f, unsigned nr)
{
	unsigned n = 0;
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, CLONE_PART - 1);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])); /* clone's flags are 32 bits */
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NEWUSER, 1, 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	return n;
}

#define LIMITS_PART 17

/* The tag (tag_linux.h) is for good: the limit that holds it is no more to be lowered than the kernel lets it be raised. */
static unsigned limits_part(struct sock_filter *f, int compat)
{
	const unsigned address = offsetof(struct seccomp_data, args[2]);
	unsigned n = 0;
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, compat ? 340 : SYS_prlimit64, 0, 11);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]));
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RLIMIT_LOCKS, 0, 4);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, address);
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 5);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, address + 4);
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 3);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0]));
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2); /* its own, of other resources */
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, compat ? 75 : SYS_setrlimit, 0, 4);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0]));
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RLIMIT_LOCKS, 1, 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	return n;
}

#define LAYOUT_PART 5

/* What the kernel tells of where a program lies is not to be changed: by that a start is seen to be over (supervisor_exec.c). */
static unsigned layout_part(struct sock_filter *f, int compat)
{
	unsigned n = 0;
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, compat ? 172 : SYS_prctl, 0, LAYOUT_PART - 1);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])); /* an int */
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_MM, 1, 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	return n;
}

/* One architecture's part: who is not in the list goes on unhindered. */
static unsigned section(struct sock_filter *f, int compat)
{
	unsigned n = 0, count = 0;
	int ioctl = -1, sendto = -1, clone = -1;
	for (unsigned i = 0; i < CALLS; i++) {
		int nr = compat ? calls[i].compat : calls[i].native;
		if (calls[i].shape == PT_SH_IOCTL)
			ioctl = nr;
		else if (calls[i].shape == PT_SH_SENDTO)
			sendto = nr;
		else if (calls[i].shape == PT_SH_CLONE)
			clone = nr;
		else
			count += nr >= 0;
	}
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)ioctl, 0, KEYS + REQUESTS + 4);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]));
	for (unsigned i = 0; i < KEYS; i++)
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, keys[i], (unsigned char)(KEYS - i + REQUESTS + 1), 0);
	for (unsigned i = 0; i < REQUESTS; i++)
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, requests[i], (unsigned char)(REQUESTS - i), 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO);
	n += sendto_part(f + n, (unsigned)sendto);
	n += clone_part(f + n, (unsigned)clone);
	n += limits_part(f + n, compat);
	n += layout_part(f + n, compat);
	if (!compat) /* x32 numbers are no calls that anybody needs */
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, (unsigned char)(count + 2), 0);
	unsigned first = n;
	for (unsigned i = 0; i < CALLS; i++) {
		int nr = compat ? calls[i].compat : calls[i].native;
		if (nr < 0 || nr == ioctl || nr == sendto || nr == clone)
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

static unsigned program(struct sock_filter *f)
{
	unsigned n = 0;
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 0, 1);
	unsigned over = n++; /* over the compat part and its two guards: its length is known below */
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, COMPAT_ARCH, 1, 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
	n += section(f + n, 1);
	f[over] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JA, n - over - 1, 0, 0);
	return n + section(f + n, 0);
}

/* The filter is built in pages of its own: small stacks must do. */
static int install(bool threads)
{
	const size_t room = (2 * (CALLS + KEYS + REQUESTS + SENDTO_PART + CLONE_PART + LIMITS_PART + LAYOUT_PART + 13) + 8) * sizeof(struct sock_filter);
	_Static_assert(CALLS < 250, "a BPF jump reaches 255 instructions");
	long at = pt_raw6(SYS_mmap, 0, (long)room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at < 0 && at > -4096)
		return (int)at;
	struct sock_filter *f = (struct sock_filter *)at;
	struct sock_fprog prog = { .len = (unsigned short)program(f), .filter = f };
	long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER |
		     (threads ? SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH : 0);
	/* A signal while the supervisor makes a call would begin it anew: a second mkdir or rename of the same (Linux 5.19). */
	long fd = pt_raw3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &prog);
	if (fd == -EINVAL)
		fd = pt_raw3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
	pt_raw2(SYS_munmap, at, room);
	return (int)fd;
}

static size_t put(char *out, const char *text)
{
	size_t n = 0;
	for (; text[n]; n++)
		out[n] = text[n];
	out[n] = 0;
	return n;
}

static size_t put_number(char *out, unsigned value)
{
	char digits[10];
	size_t n = 0, m = 0;
	do
		digits[n++] = (char)('0' + value % 10);
	while (value /= 10);
	while (n)
		out[m++] = digits[--n];
	out[m] = 0;
	return m;
}

/* Connect through the directory's descriptor: a session path may be longer than a socket's name. */
static int meet(const char *session)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	long dir = pt_raw4(SYS_openat, AT_FDCWD, session, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir < 0)
		return (int)dir;
	size_t n = put(to.sun_path, "/proc/self/fd/");
	n += put_number(to.sun_path + n, (unsigned)dir);
	put(to.sun_path + n, "/" PT_SUPERVISE_SOCKET);
	long s = pt_raw3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	long err = s < 0 ? s : pt_raw3(SYS_connect, s, &to, sizeof to);
	pt_raw1(SYS_close, dir);
	if (err < 0 && s >= 0)
		pt_raw1(SYS_close, s);
	return (int)(err < 0 ? err : s);
}

static int hand_over(int s, int listener)
{
	const struct pt_supervise_hello hello = { PT_SUPERVISE_HELLO, listener };
	long sent = pt_raw6(SYS_sendto, s, (long)&hello, sizeof hello, MSG_NOSIGNAL, 0, 0);
	if (sent < 0)
		return (int)sent;
	char ack = 0;
	long got = pt_raw6(SYS_recvfrom, s, (long)&ack, 1, 0, 0, 0);
	return got == 1 && ack == PT_SUPERVISE_ACK ? 0 : got < 0 ? (int)got : -ECONNREFUSED;
}

bool pt_supervised_call(int number)
{
	for (unsigned i = 0; i < CALLS; i++)
		if (calls[i].native == number)
			return true;
	return false;
}

bool pt_supervised(void)
{
	return pt_raw3(SYS_faccessat, AT_FDCWD, PT_SUPERVISE_PROBE, 0) == -EUCLEAN;
}

int pt_supervise(const char *session, bool threads, const char **what)
{
	if (pt_supervised())
		return 0;
	*what = "setting no_new_privs";
	long err = pt_raw5(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (err)
		return (int)err;
	*what = "no supervisor answers in the session";
	int s = meet(session);
	if (s < 0)
		return s;
	int listener = install(threads);
	*what = listener == -EBUSY ? "the program brought a supervisor of its own" : "installing the filter";
	if (listener >= 0) {
		*what = "handing the filter over";
		err = hand_over(s, listener);
		pt_raw1(SYS_close, listener); /* not given away: every later call fails, nothing slips through */
	} else {
		err = listener;
	}
	pt_raw1(SYS_close, s);
	return (int)err;
}
