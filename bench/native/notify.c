/*
 * The least that a supervisor can do: each file call of COMMAND is told to this process, which lets the kernel go on with it and
 * judges nothing. The yardstick for ours.
 *
 * usage: notify COMMAND [ARG ...]
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6 */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1ULL << 0)
#endif

static const int told[] = {
#ifdef SYS_stat
	SYS_stat, SYS_lstat, SYS_open, SYS_access,
#endif
	SYS_newfstatat, SYS_statx, SYS_openat, SYS_openat2, SYS_faccessat, SYS_faccessat2,
};
enum { TOLD = sizeof told / sizeof *told };

static char **words;
static volatile int listener = -1;

/* Runs in the parent's memory and with its descriptors until it has started the program. */
static int child(void *unused)
{
	struct sock_filter filter[TOLD + 3] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	struct sock_fprog program = { .len = TOLD + 3, .filter = filter };

	(void)unused;
	for (int i = 0; i < TOLD; i++)
		filter[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)told[i], TOLD - i, 0);
	filter[1 + TOLD] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	filter[2 + TOLD] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		_exit(125);
	listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	if (listener >= 0)
		execvp(words[0], words);
	_exit(127);
}

/* COMMAND has ended, and so do we: the ioctl below waits for ever where nobody is left who could ask (before Linux 6.11). */
static void ended(int signal)
{
	int status;

	(void)signal;
	if (waitpid(-1, &status, WNOHANG) > 0)
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 125);
}

int main(int argc, char **argv)
{
	static _Alignas(16) char stack[1 << 16];
	struct seccomp_notif asked;
	struct seccomp_notif_resp said = { .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };

	if (argc < 2)
		return fprintf(stderr, "usage: notify COMMAND [ARG ...]\n"), 125;
	words = argv + 1;
	if (clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, NULL) < 0 || listener < 0)
		return perror("seccomp notification"), 125;
	signal(SIGCHLD, ended);
	ended(SIGCHLD); /* if it has by now */
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	for (;;) {
		memset(&asked, 0, sizeof asked); /* or it is refused */
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked))
			continue; /* a signal, or who asked is gone */
		said.id = asked.id;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &said);
	}
}
