/* What may take its time: done in a thread of its own, because nobody but the program may wait. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "supervisor_answer.h"

#define FAR 8000 /* nanoseconds to hand a descriptor over, where another processor is woken for that */

/*
 * To receive a descriptor the program is woken, and sleeps again. Linux does that on another processor if one has nothing to do,
 * and to wake that takes longer than all the rest together.
 */
static bool keep_here(pid_t thread, cpu_set_t *own)
{
	cpu_set_t here;
	int cpu = sched_getcpu();
	if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(thread, sizeof *own, own) || !CPU_ISSET(cpu, own))
		return false;
	CPU_ZERO(&here);
	CPU_SET(cpu, &here);
	return !sched_setaffinity(thread, sizeof here, &here);
}

/* The descriptor's number in the program, or -errno. */
static int add_descriptor(const struct pt_task *t, struct seccomp_notif_addfd *add)
{
	static __thread unsigned again; /* so often more it is kept here before it is tried once without */
	cpu_set_t own;
	const bool kept = again && keep_here(t->pid, &own);
	const uint64_t begun = again ? 0 : pt_nanoseconds();
	int r;
	do
		r = ioctl(t->listener, SECCOMP_IOCTL_NOTIF_ADDFD, add);
	while (r < 0 && (errno == EINTR || errno == EAGAIN));
	r = r < 0 ? -errno : r;
	if (kept)
		sched_setaffinity(t->pid, sizeof own, &own);
	if (again)
		again--;
	else if (pt_nanoseconds() - begun > FAR)
		again = 100;
	return r;
}

int pt_hand_over(struct pt_task *t, int fd, uint64_t flags)
{
	/*
	 * The descriptor first, then the answer. In one call Linux takes the question for answered before the program has the
	 * descriptor: where that call is stopped in between (Ctrl-Z, a container that is frozen), the program is told 0, its
	 * standard input. Only where a signal of the program's would come between the two calls they are one.
	 */
	const bool apart = t->sup->steady;
	struct seccomp_notif_addfd add = {
		.id = t->req->id, .flags = apart ? 0 : SECCOMP_ADDFD_FLAG_SEND, .srcfd = (uint32_t)fd,
		.newfd_flags = flags & O_CLOEXEC ? O_CLOEXEC : 0,
	};
	int r = add_descriptor(t, &add);
	if (r < 0 && r != -ENOENT) /* that one: nobody waits any more */
		return r == -EMFILE ? EMFILE : EACCES;
	if (r >= 0 && apart)
		pt_reply(t, &(struct seccomp_notif_resp){ .id = t->req->id, .val = r });
	t->answered = true;
	return 0;
}

static void release(struct pt_waiting *w)
{
	for (unsigned i = 0; i < 2; i++)
		if (w->fds[i] >= 0)
			close(w->fds[i]);
	if (w->task.listener >= 0)
		close(w->task.listener);
	free(w);
}

/* The kernel's own number for it: the call begins anew after the signal, or ends with EINTR, as its handler wants it. */
#define RESTART 512

static bool goes_on(struct pt_waiting *w, int *error)
{
	if (!still_asks(&w->task))
		return false;
	if (pt_target_signalled((pid_t)w->request.pid)) {
		w->stops = w->begun;
		*error = w->begun ? 0 : RESTART;
	}
	return !*error;
}

bool pt_ticks_begin(timer_t *timer)
{
	struct sigevent tick = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = PT_TICK, ._sigev_un._tid = (pid_t)syscall(SYS_gettid) };
	struct itimerspec every = { { 0, 10000000 }, { 0, 10000000 } };
	if (timer_create(CLOCK_MONOTONIC, &tick, timer))
		return false;
	timer_settime(*timer, 0, &every, NULL);
	return true;
}

static void *waits(void *argument)
{
	struct pt_waiting *w = argument;
	long r = -1;
	int error = 0;
	timer_t timer;
	bool ticks = pt_ticks_begin(&timer); /* so that the wait ends with the program that waits */
	if (!ticks)
		error = EINTR;
	do
		r = error ? -1 : w->attempt(w);
	while (r < 0 && !error && errno == EINTR && goes_on(w, &error));
	if (r < 0 && !error)
		error = errno;
	/* Before anything is handed over: see there. */
	if (ticks)
		timer_delete(timer);
	if (r >= 0 && w->gives)
		error = pt_hand_over(&w->task, (int)r, w->flags);
	if (!w->task.answered) {
		struct seccomp_notif_resp reply = { .id = w->request.id, .error = -error, .val = error ? 0 : r };
		pt_reply(&w->task, &reply);
	}
	if (r >= 0 && w->gives)
		close((int)r);
	if (w->end)
		w->end(w, error);
	release(w);
	return NULL;
}

int pt_wait_apart(struct pt_task *t, struct pt_waiting *what)
{
	struct pt_waiting *w = calloc(1, sizeof *w);
	pthread_attr_t attr;
	pthread_t thread;
	if (!w) {
		if (what->end)
			what->end(what, ENOMEM);
		return ENOMEM;
	}
	*w = *what;
	w->request = *t->req;
	w->task.sup = t->sup;
	w->task.req = &w->request;
	w->task.listener = fcntl(t->listener, F_DUPFD_CLOEXEC, 0);
	bool ready = w->task.listener >= 0;
	for (unsigned i = 0; i < 2; i++) {
		w->fds[i] = what->fds[i] < 0 ? -1 : fcntl(what->fds[i], F_DUPFD_CLOEXEC, 0);
		ready = ready && (w->fds[i] >= 0 || what->fds[i] < 0);
	}
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	if (!ready || pthread_create(&thread, &attr, waits, w)) { /* it has our ids and capabilities */
		if (w->end)
			w->end(w, ENOMEM);
		release(w);
		return EAGAIN;
	}
	t->answered = true;
	return 0;
}
