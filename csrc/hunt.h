/*
 * Who belongs to a trace; and the end of processes that start others and are gone before Python has looked at them: the
 * newest process ids of the machine are looked at again and again, and who belongs is sent a signal within microseconds,
 * with its whole process group where that is the build's alone. porttrace/endings.py does the rest.
 */
#ifndef PORTTRACE_HUNT_H
#define PORTTRACE_HUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "procstat.h"

#define PT_HUNT_SESSIONS 64

struct pt_hunt {
	const uint64_t *tags; /* the trace's (tag_linux.h), 0 at the end */
	const char *mark;   /* what a process of the trace carries in its environment, too: the trace's directory and '/' */
	const char *others; /* of any trace of the session */
	int32_t below;      /* children of this process belong, too; 0: of nobody */
	int64_t uid;        /* those of this user only; -1: of any */
	int32_t strangers;  /* and only those that are in a session of their own */
	uint64_t since;     /* nobody who started before: clock ticks after boot, as in proc(5) */
	const int32_t *spared, *own_sessions; /* processes; sessions (setsid) that are not the build's. Both end with -1 */
	int32_t sessions[PT_HUNT_SESSIONS];   /* the build's, as far as they are known; more are added */
	uint32_t count;
};

enum pt_belongs {
	PT_GONE,     /* there is no such process */
	PT_NOT_OURS,
	PT_OURS,
	/* without a tag of ours, and without an environment to go by: */
	PT_UNSURE,   /* amid an exec: to be looked at again */
	PT_ENDED,    /* it has no memory any more; or is the kernel's, and never had */
};

/* Whether it is one of the sessions that are known to be the build's. */
static inline bool pt_hunt_knows(const struct pt_hunt *hunt, int32_t session)
{
	for (uint32_t i = 0; i < hunt->count; i++)
		if (hunt->sessions[i] == session)
			return true;
	return false;
}

/* In a list that ends with -1. */
static inline bool pt_hunt_among(const int32_t *list, int32_t one)
{
	for (; *list >= 0; list++)
		if (*list == one)
			return true;
	return false;
}

/* Told by whose child it is, and by its user. */
static inline bool pt_hunt_child(const struct pt_hunt *hunt, const struct pt_process *p)
{
	if (!hunt->below || p->ppid != hunt->below || (hunt->strangers && pt_hunt_among(hunt->own_sessions, p->session)))
		return false;
	return hunt->uid < 0 || pt_process_user(p->pid) == hunt->uid;
}

/* What of the session's a process carries in its environment. */
enum pt_carried { PT_NOTHING, PT_UNREADABLE, PT_NO_ENVIRONMENT, PT_ANOTHERS, PT_THE_MARK };

static inline enum pt_carried pt_hunt_carried(const struct pt_hunt *hunt, const char *text, size_t n)
{
	if (memmem(text, n, hunt->mark, strlen(hunt->mark)))
		return PT_THE_MARK;
	return memmem(text, n, hunt->others, strlen(hunt->others)) ? PT_ANOTHERS : PT_NOTHING;
}

/*
 * Nobody's, for all that is known. Who has ended since it was looked at had an environment, which nobody can tell any
 * more; who has executed another program has not had it yet when we looked.
 */
static inline enum pt_belongs pt_hunt_stranger(const struct pt_process *p, enum pt_carried carried)
{
	struct pt_process now = *p;
	if (!p->memory || (carried != PT_NOTHING && (!pt_process_look(p->pid, &now) || now.started != p->started || !now.memory)))
		return PT_ENDED;
	return now.env_end == p->env_end ? PT_NOT_OURS : PT_UNSURE;
}

/* What processes of the policy in this directory are tagged with; 0: nothing. */
uint64_t pt_hunt_tag(const char *directory);

/* Whose is it, whatever its age (see pt_hunt_young)? `out`: what it is, but for PT_GONE. */
enum pt_belongs pt_hunt_look(const struct pt_hunt *, int32_t pid, struct pt_process *out);

/*
 * Leaves in a list of process ids who started since then, or is gone; in their order. Their number. Most of a machine's
 * processes are older, and each costs Python more than the look itself.
 */
static inline size_t pt_hunt_young(const struct pt_hunt *hunt, int32_t *pids, size_t count)
{
	size_t left = 0;
	for (size_t i = 0; i < count; i++) {
		struct pt_process p;
		if (!pt_process_look(pids[i], &p) || p.started >= hunt->since)
			pids[left++] = pids[i];
	}
	return left;
}

struct pt_prey {
	int32_t pid;
	uint64_t started;
	char exe[512];
};

/*
 * Hunt for `milliseconds`, and for `rounds` looks at least. `out` gets those that were sent the signal, `room` at most.
 * Their number.
 */
size_t pt_hunt(struct pt_hunt *hunt, int signal, unsigned milliseconds, unsigned rounds, struct pt_prey *out, size_t room);

#endif
