/*
 * A program between its start and its first instruction. Only the kernel starts one, and reads the path again when it does:
 * what it found then may be another file than was judged, and one that needs no other file would have said what it has to
 * say before it asked us anything. So the thread that executes is traced for that moment, and stops where the new program
 * lies ready, or on its way out of a call that has failed.
 */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "supervisor_answer.h"

/*
 * The next stop of the one thread that this one traces, or -1: it is no more. Whatever its number: with a new program it
 * has its process's, and where another thread's program has come first, nobody hears of the old number again.
 */
static int next_stop(pid_t *pid)
{
	int status;
	do
		*pid = waitpid(-1, &status, __WALL | __WNOTHREAD);
	while ((*pid < 0 && errno == EINTR) || (*pid >= 0 && !WIFSTOPPED(status)));
	return *pid < 0 ? -1 : status;
}

int pt_watch_start(struct pt_task *t, uint64_t asked)
{
	struct seccomp_notif_resp go_on = { .id = t->req->id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };
	timer_t ticks;
	pid_t pid;
	int status;
	/* A thread has one tracer. Asked before: to trace it would wait for one of its threads that executes, and that for the other tracer. */
	if (!t->sup->steady || t->traced || (t->sup->flags & PT_IMG_AUDIT))
		return GO_ON;
	pt_turn_moment(t->tree);
	if (ptrace(PTRACE_SEIZE, t->pid, 0, PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL))
		return GO_ON;
	t->answered = true;
	bool ticking = pt_ticks_begin(&ticks); /* no wait of ours is for ever, should the kernel wake nobody */
	/* Before the answer, so that it stops right behind a call that fails, and in no other. */
	(void)ptrace(PTRACE_INTERRUPT, t->pid, 0, 0);
	pt_reply(t, &go_on);
	while ((status = next_stop(&pid)) >= 0) {
		if (status >> 16 == PTRACE_EVENT_EXEC)
			pt_task_check_started(t, pid, asked);
		if (!ptrace(PTRACE_DETACH, pid, 0, status >> 16 ? 0 : WSTOPSIG(status)))
			break; /* else it dies, and is to be waited for: so long its process's end does */
	}
	if (ticking)
		timer_delete(ticks);
	return DONE;
}
