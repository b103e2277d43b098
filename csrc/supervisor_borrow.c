/*
 * A system call in the program's own thread, for the two things that nobody can do in its place: to change where it is,
 * and to take a descriptor of the kind O_PATH, which no notification hands over. Let go on, the call would read its path
 * again, which another thread may have exchanged. Here the thread is stopped on its way out of the call that it asked
 * about, made to do other ones whose arguments are registers, and gets their result as that of its own. What they mean is
 * a descriptor of what was judged; its number another thread can only turn into one that the program has open anyway.
 */
#include "supervisor_answer.h"

#if defined(__x86_64__)
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#define INSTRUCTION 2           /* bytes of `syscall`, and of `int $0x80`, which stands before the end of each 32-bit entry */
#define LOST (-4096L)           /* no result of a call: the thread is gone, or did not do what it was to do */

struct borrowed {
	pid_t thread;
	bool compat, gone;
	struct user_regs_struct own;
	uint64_t mask;              /* its blocked signals */
};

enum call { CLOSE, FCHDIR, FCNTL, MMAP, MUNMAP, RECVMSG };
static const struct { int native, compat; } numbers[] = {
	[CLOSE] = { 3, 6 }, [FCHDIR] = { 81, 133 }, [FCNTL] = { 72, 221 }, [MMAP] = { 9, 192 }, [MUNMAP] = { 11, 91 }, [RECVMSG] = { 47, 372 },
};

/*
 * The status of its next stop; -1: it is gone. Where another thread executes a program and takes this one's number, Linux
 * wakes nobody who waits for it (6.18): the wait begins anew with each tick. By then another worker may trace the new
 * program, by the same number: its stops are not ours.
 */
static int next_stop(struct borrowed *b)
{
	int status;
	pid_t got;
	do
		got = waitpid(b->thread, &status, __WALL | __WNOTHREAD);
	while (got < 0 && errno == EINTR);
	b->gone = got < 0 || !WIFSTOPPED(status);
	return b->gone ? -1 : status;
}

/*
 * What cannot be seen through must not go on: another result than the judged one would be the kernel's. Where it is not
 * stopped (ESRCH) it dies already, and its number may be that of the program which another thread has executed.
 */
static void end(struct borrowed *b)
{
	if (errno == ESRCH && next_stop(b) < 0)
		return;
	do
		kill(b->thread, SIGKILL);
	while (next_stop(b) >= 0);
}

/* Stopped where a system call begins, or where it ends. false: something else has come, and it is ended. */
static bool to_border(struct borrowed *b, struct user_regs_struct *regs)
{
	int status = 0;
	do { /* where the whole process is stopped, it goes on being so afterwards */
		long signal = status && status >> 16 != PTRACE_EVENT_STOP ? SIGSTOP : 0;
		if (ptrace(PTRACE_SYSCALL, b->thread, 0, signal)) {
			end(b);
			return false;
		}
		status = next_stop(b);
	} while (status >= 0 && (status >> 16 == PTRACE_EVENT_STOP || status >> 8 == SIGSTOP));
	errno = 0;
	if (!b->gone && WSTOPSIG(status) == (SIGTRAP | 0x80) && !ptrace(PTRACE_GETREGS, b->thread, 0, regs))
		return true;
	if (!b->gone)
		end(b);
	return false;
}

static long call(struct borrowed *b, enum call which, const long args[6])
{
	struct user_regs_struct regs = b->own;
	const int number = b->compat ? numbers[which].compat : numbers[which].native;
	if (b->gone)
		return LOST;
	regs.rip -= INSTRUCTION;
	regs.rax = (unsigned)number;
	regs.orig_rax = (unsigned long long)-1; /* in no call: nothing is begun anew */
	if (b->compat) {
		regs.rbx = (unsigned long)args[0], regs.rcx = (unsigned long)args[1], regs.rdx = (unsigned long)args[2];
		regs.rsi = (unsigned long)args[3], regs.rdi = (unsigned long)args[4], regs.rbp = (unsigned long)args[5];
	} else {
		regs.rdi = (unsigned long)args[0], regs.rsi = (unsigned long)args[1], regs.rdx = (unsigned long)args[2];
		regs.r10 = (unsigned long)args[3], regs.r8 = (unsigned long)args[4], regs.r9 = (unsigned long)args[5];
	}
	if (ptrace(PTRACE_SETREGS, b->thread, 0, &regs)) {
		end(b);
		return LOST;
	}
	if (!to_border(b, &regs))
		return LOST;
	if ((int)regs.orig_rax != number) { /* another thread has changed the instruction */
		errno = 0;
		end(b);
		return LOST;
	}
	return to_border(b, &regs) ? b->compat ? (long)(int32_t)regs.rax : (long)regs.rax : LOST;
}

#define CALL(b, which, ...) call(b, which, (const long[6]){ __VA_ARGS__ })

/* Hands `fd` over while the program still waits for its answer: the number there, or -errno. */
static int lend(const struct pt_task *t, int fd)
{
	struct seccomp_notif_addfd add = { .id = t->req->id, .srcfd = (uint32_t)fd, .newfd_flags = O_CLOEXEC };
	int number;
	do
		number = ioctl(t->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
	while (number < 0 && errno == EINTR); /* a tick, before the program has come to take it */
	return number < 0 ? -errno : number;
}

/* Answers the program, which stops right after. false: it is gone, or was not ours to stop. */
static bool stop(struct pt_task *t, struct borrowed *b)
{
	uint64_t all = UINT64_MAX;
	struct seccomp_notif_resp nothing = { .id = t->req->id };
	(void)ptrace(PTRACE_INTERRUPT, b->thread, 0, 0);
	pt_reply(t, &nothing); /* in vain: a signal was quicker (before Linux 5.19), or it is gone */
	int status = next_stop(b);
	errno = 0;
	if (status >= 0 && status >> 16 == PTRACE_EVENT_STOP && !ptrace(PTRACE_GETREGS, b->thread, 0, &b->own) &&
	    !ptrace(PTRACE_GETSIGMASK, b->thread, sizeof b->mask, &b->mask) && !ptrace(PTRACE_SETSIGMASK, b->thread, sizeof all, &all))
		return true;
	if (!b->gone)
		end(b);
	return false;
}

static void let_go(struct borrowed *b, long result)
{
	if (b->gone)
		return;
	b->own.rax = (unsigned long)result;
	b->own.orig_rax = (unsigned long long)-1;
	if (ptrace(PTRACE_SETREGS, b->thread, 0, &b->own) || ptrace(PTRACE_SETSIGMASK, b->thread, sizeof b->mask, &b->mask) ||
	    ptrace(PTRACE_DETACH, b->thread, 0, 0))
		end(b);
}

/* What came with a message to the socket `number`, which is closed: the lowest number that is free, or -errno. */
static long receive(struct pt_task *t, struct borrowed *b, int number, bool cloexec)
{
	struct { uint64_t name, name_len, iov, parts, control, control_len, flags; } wide = { 0 };
	uint32_t narrow[7] = { 0 };
	int32_t control[6] = { 0 }, at = t->compat ? 3 : 4;
	long page = CALL(b, MMAP, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), got = page, fd = page;
	uint64_t place = t->compat ? (uint32_t)page : (uint64_t)page;
	if (t->compat ? page < 0 && page > -4096 : page < 0) {
		CALL(b, CLOSE, number);
		return page;
	}
	wide.control = place + 64, wide.control_len = sizeof control;
	narrow[4] = (uint32_t)place + 64, narrow[5] = sizeof control;
	if (t->compat ? pt_target_write(t->pid, place, narrow, sizeof narrow) : pt_target_write(t->pid, place, &wide, sizeof wide))
		got = CALL(b, RECVMSG, number, page, MSG_DONTWAIT | (int)MSG_CMSG_CLOEXEC);
	else
		got = -EACCES;
	CALL(b, CLOSE, number);
	if (got >= 0 && pt_target_read(t->pid, place + 64, control, sizeof control)) {
		fd = CALL(b, FCNTL, control[at], cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
		CALL(b, CLOSE, control[at]);
	} else {
		fd = got < 0 ? got : -EMFILE; /* no room for it */
	}
	CALL(b, MUNMAP, page, 4096);
	return fd;
}

/* A socket from which the program gets `fd` as it is, also where that is of the kind O_PATH. -1: none. */
static int parcel(int fd)
{
	union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control = { { 0 } };
	struct iovec part = { "", 1 };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends))
		return -1;
	control.head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
	bool sent = sendmsg(ends[0], &m, MSG_DONTWAIT) == 1;
	close(ends[0]);
	if (!sent)
		close(ends[1]);
	return sent ? ends[1] : -1;
}

/* With `keep` the program gets `fd`, else it goes to the directory that it is. */
static int borrow(struct pt_task *t, int fd, bool keep, bool cloexec)
{
	struct borrowed b = { .thread = t->pid, .compat = t->compat };
	char link[32];
	pt_own_fd_link(fd, link);
	/* A directory that may be listed is handed over without ado. */
	int open_one = keep ? -1 : open(link, O_RDONLY | O_DIRECTORY | O_CLOEXEC), lent = open_one >= 0 ? open_one : parcel(fd);
	if (lent < 0)
		return errno;
	timer_t ticks;
	if (!pt_ticks_begin(&ticks)) {
		close(lent);
		return EAGAIN;
	}
	if (ptrace(PTRACE_SEIZE, b.thread, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)) {
		timer_delete(ticks);
		close(lent);
		return GO_ON;
	}
	long number = still_asks(t) ? lend(t, lent) : -EINTR, result = number;
	close(lent);
	t->answered = true;
	bool stopped = stop(t, &b);
	if (stopped && number >= 0 && open_one < 0)
		number = result = receive(t, &b, (int)number, cloexec || !keep);
	if (stopped && number >= 0 && !keep) {
		result = CALL(&b, FCHDIR, number);
		CALL(&b, CLOSE, number);
	}
	if (stopped)
		let_go(&b, result);
	timer_delete(ticks);
	return DONE;
}
#else
static int borrow(struct pt_task *t, int fd, bool keep, bool cloexec)
{
	(void)t, (void)fd, (void)keep, (void)cloexec;
	return GO_ON;
}
#endif

int pt_borrow_chdir(struct pt_task *t, int directory)
{
	return borrow(t, directory, false, true);
}

int pt_borrow_take(struct pt_task *t, int fd, bool cloexec)
{
	return borrow(t, fd, true, cloexec);
}
