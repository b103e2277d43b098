/* open(2) and its kin. */
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "supervisor_answer.h"

#define KNOWN_FLAGS ((uint64_t)(O_ACCMODE | O_TRUNC | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_DIRECT | 0100000 /* O_LARGEFILE */ | \
	O_DIRECTORY | O_NOATIME | O_PATH))

/* Hands `fd` over as the call's result. 0, or an errno for the program. */
static int hand_over(struct pt_task *t, int fd, uint64_t flags)
{
	struct seccomp_notif_addfd add = {
		.id = t->req->id, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (uint32_t)fd,
		.newfd_flags = flags & O_CLOEXEC ? O_CLOEXEC : 0,
	};
	int r;
	do
		r = ioctl(t->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
	while (r < 0 && (errno == EINTR || errno == EAGAIN));
	if (r < 0 && errno != ENOENT) /* that one: nobody waits any more */
		return errno == EMFILE ? EMFILE : EACCES;
	t->answered = true;
	return 0;
}

/* ---- a fifo: its open waits for the other end, and nobody but the program may wait ---- */

struct waiting {
	struct pt_task task;
	struct seccomp_notif request;
	int held;
	uint64_t flags;
};

static void *wait_for_other_end(void *argument)
{
	struct waiting *w = argument;
	char link[32];
	int fd, error = 0;
	pt_own_fd_link(w->held, link);
	/* A signal comes now and then, so that the wait ends with the program that waits. */
	struct sigevent tick = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = PT_TICK, ._sigev_un._tid = (pid_t)syscall(SYS_gettid) };
	struct itimerspec every = { { 0, 10000000 }, { 0, 10000000 } };
	timer_t timer;
	if (timer_create(CLOCK_MONOTONIC, &tick, &timer) || timer_settime(timer, 0, &every, NULL))
		error = EINTR;
	do
		fd = error ? -1 : open(link, (int)(w->flags & ~(uint64_t)(O_CREAT | O_EXCL | O_NOFOLLOW)) | O_CLOEXEC | O_NOCTTY);
	while (fd < 0 && !error && errno == EINTR && still_asks(&w->task));
	if (fd < 0)
		error = error ? error : errno;
	else
		error = hand_over(&w->task, fd, w->flags);
	if (!w->task.answered) {
		struct seccomp_notif_resp reply = { .id = w->request.id, .error = -error };
		(void)ioctl(w->task.listener, SECCOMP_IOCTL_NOTIF_SEND, &reply);
	}
	timer_delete(timer);
	if (fd >= 0)
		close(fd);
	close(w->held);
	close(w->task.listener);
	free(w);
	return NULL;
}

static int open_fifo(struct pt_task *t, int held, uint64_t flags)
{
	struct waiting *w = calloc(1, sizeof *w);
	pthread_attr_t attr;
	pthread_t thread;
	if (!w)
		return ENOMEM;
	w->request = *t->req;
	w->task.req = &w->request;
	w->task.listener = fcntl(t->listener, F_DUPFD_CLOEXEC, 0);
	w->held = fcntl(held, F_DUPFD_CLOEXEC, 0);
	w->flags = flags;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	if (w->task.listener < 0 || w->held < 0 || pthread_create(&thread, &attr, wait_for_other_end, w)) { /* it has our file system ids */
		close(w->task.listener);
		close(w->held);
		free(w);
		return EAGAIN;
	}
	t->answered = true;
	return 0;
}

/*
 * The open is done here and handed over: what was judged is what is opened, whatever another thread does to the text
 * or the links meanwhile.
 */
static int open_for(struct pt_task *t, uint64_t flags, unsigned mode)
{
	bool own = starts(t->at.physical, "/proc") || is_redirected(t);
	struct open_how how = {
		/* open ignores what it does not know, openat2 refuses it */
		.flags = (flags & KNOWN_FLAGS) | O_CLOEXEC | (flags & O_PATH ? 0 : O_NONBLOCK | O_NOCTTY),
		.resolve = own ? 0 : RESOLVE_NO_SYMLINKS,
	};
	if (t->last_link)
		how.flags |= O_NOFOLLOW;
	if (t->at.slash && !(flags & O_CREAT))
		how.flags |= O_DIRECTORY;
	struct stat st;
	bool there = pt_target_lstat(t->at.physical, &st) == 0;
	if (there && S_ISFIFO(st.st_mode) && !(flags & (O_NONBLOCK | O_PATH)) && (flags & O_ACCMODE) != O_RDWR) {
		int held = pt_hold_judged(t);
		if (held < 0)
			return held == AGAIN ? AGAIN : -held;
		int error = open_fifo(t, held, flags);
		close(held);
		return error;
	}
	if (flags & O_CREAT) {
		if (there && (flags & O_EXCL))
			return EEXIST;
		if (there && S_ISDIR(st.st_mode))
			return EISDIR;
		if (!there) {
			how.flags |= O_CREAT | O_EXCL;
			how.mode = mode & 07777 & ~pt_target_umask(t->pid);
		}
	}
	long fd = pt_open_as_program(t, t->at.physical, &how);
	if (fd < 0 && !own && (errno == ELOOP || (errno == EEXIST && !there && !(flags & O_EXCL)) || (errno == ENOENT && there)))
		return AGAIN;
	if (fd < 0)
		return errno;
	if (!(flags & O_NONBLOCK) && !(flags & O_PATH))
		fcntl((int)fd, F_SETFL, fcntl((int)fd, F_GETFL) & ~O_NONBLOCK);
	int error = hand_over(t, (int)fd, flags);
	close((int)fd);
	return error;
}

/* What the injected library opens in a process that has both: its reports, and the file that shows whether the fence stands. */
static bool is_session_file(const struct pt_task *t)
{
	const size_t n = t->sup->dir_len;
	return t->at.real_len > n && !memcmp(t->at.real, t->sup->dir, n) &&
	       (!strcmp(t->at.real + n, "/events") || !strcmp(t->at.real + n, "/unfenced"));
}

/* The memory of a process lies open in /proc: only its own, and that of its children, is a program's to write. */
static bool is_others_memory(struct pt_task *t)
{
	const char *name = t->at.real + t->at.real_len - 4;
	pid_t other = 0;
	return t->access > PT_ACC_READLINK && t->at.real_len > 10 && starts(t->at.real, "/proc") && !memcmp(name, "/mem", 4) &&
	       sscanf(t->at.real, "/proc/%d/", &other) == 1 && pt_answer_meddle(t, other) != GO_ON;
}

/* What a program loads into itself is this system's, where a redirect has a fallback: as in the injected library (pt_runs_own). */
static bool is_own_library(const struct pt_task *t)
{
	unsigned char head[18];
	if (!(t->verdict.flags & PT_V_FALLBACK))
		return false;
	int fd = open(t->at.real, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof head);
	if (fd >= 0)
		close(fd);
	return n == sizeof head && !memcmp(head, "\177ELF", 4) && head[16] == 3 /* ET_DYN */ && !head[17];
}

static int answer_open_once(struct pt_task *t, uint64_t flags, unsigned create_mode)
{
	unsigned mode = flags & O_ACCMODE, judge = 0, resolve = 0;
	if (flags & O_PATH) {
		flags &= O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC;
		mode = O_RDONLY;
		t->access = PT_ACC_STAT;
	} else if ((flags & O_TMPFILE) == O_TMPFILE) {
		t->access = PT_ACC_CREATE;
	} else if (flags & O_CREAT) {
		t->access = PT_ACC_WRITE;
		judge = PT_J_MAY_CREATE | (flags & O_EXCL ? PT_J_EXCL : 0) |
			(mode == O_RDONLY && !(flags & O_TRUNC) ? PT_J_NO_WRITE : 0);
		resolve = PT_RES_CREATE;
	} else if (mode != O_RDONLY || (flags & O_TRUNC)) {
		t->access = PT_ACC_WRITE;
	} else {
		t->access = flags & O_DIRECTORY ? PT_ACC_LIST : PT_ACC_READ;
	}
	if (mode == O_RDWR)
		judge |= PT_J_ALSO_READ;
	if ((flags & O_NOFOLLOW) || (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		resolve |= PT_RES_NOFOLLOW_LAST;
	int error = pt_task_resolve(t, dirfd_of(t), arg(t, t->call->path), resolve);
	if (error)
		return error;
	if (is_session_file(t))
		return GO_ON;
	if ((flags & O_TMPFILE) == O_TMPFILE && !(flags & O_PATH)) {
		/* the nameless file lies in the directory that is named */
		if (pt_decide(t->sup->image, PT_WRITE, t->at.real, t->at.real_len).action != PT_DENY)
			return GO_ON;
	}
	error = pt_task_judge(t, judge);
	if (error)
		return error;
	if (is_others_memory(t))
		return EACCES;
	/* Such a descriptor cannot be handed over. It reads nothing: what is done with it is judged by where it leads. */
	if ((flags & O_PATH) && !is_redirected(t))
		return GO_ON;
	bool writes = t->access > PT_ACC_READLINK;
	if (writes && !is_redirected(t) && mode != O_RDONLY)
		return GO_ON; /* the fence stands behind it */
	if (!writes && is_redirected(t) && is_own_library(t)) {
		memcpy(t->at.physical, t->at.real, t->at.real_len + 1);
		t->at.physical_len = t->at.real_len;
	}
	t->last_link = (flags & O_NOFOLLOW) != 0 || (resolve & PT_RES_NOFOLLOW_LAST);
	return open_for(t, flags, create_mode);
}

/* What was judged is gone when it is opened (another process exchanges links or directories): judged anew, never let go. */
int pt_answer_open(struct pt_task *t, uint64_t flags, unsigned mode)
{
	for (int tries = 0; tries < TRIES; tries++) {
		int result = answer_open_once(t, flags, mode);
		if (result != AGAIN)
			return result;
	}
	return flags & O_CREAT ? EAGAIN : ELOOP;
}

int pt_answer_openat2(struct pt_task *t)
{
	struct open_how how = { 0 };
	uint64_t size = arg(t, t->call->flags + 1);
	if (size < sizeof how || !pt_target_read(t->pid, arg(t, t->call->flags), &how, sizeof how))
		return GO_ON; /* EINVAL, EFAULT from the kernel */
	if (how.resolve)
		return ENOSYS; /* other rules of resolving than those judged here: programs fall back to openat */
	return pt_answer_open(t, how.flags, (unsigned)how.mode);
}

