#define _GNU_SOURCE 1 /* memmem */
#include "hunt.h"

#ifdef __linux__
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NEWEST 12      /* so many ids are looked at each time, and all that were given away since the last */
#define MOST 64        /* but not more */
#define REMEMBERED 256 /* a power of two */

struct running {
	int32_t pid, ppid, group, session;
	char state;
	long threads;
	uint64_t started;
};

/* Who was sent a signal, and who carries nothing: by the lowest bits of the process id. */
struct memory {
	struct {
		int32_t pid;
		uint64_t started;
	} struck[REMEMBERED], plain[REMEMBERED];
};

static ssize_t contents(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	size_t n = 0;
	for (ssize_t got; n < room - 1 && (got = read(fd, text + n, room - 1 - n)) > 0;)
		n += (size_t)got;
	close(fd);
	text[n] = 0;
	return (ssize_t)n;
}

static bool look_at(int32_t pid, struct running *out)
{
	char path[64], text[1024];
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	if (contents(path, text, sizeof text) <= 0)
		return false;
	/* pid (comm) state ppid pgrp session; num_threads is field 20, starttime 22; comm may hold anything (proc(5)) */
	const char *rest = strrchr(text, ')');
	unsigned long long started;
	out->pid = pid;
	if (!rest || sscanf(rest + 1, " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %llu", &out->state,
			    &out->ppid, &out->group, &out->session, &out->threads, &started) != 6)
		return false;
	out->started = started;
	return true;
}

static bool among(const int32_t *list, int32_t one)
{
	for (; *list >= 0; list++)
		if (*list == one)
			return true;
	return false;
}

static bool known(const struct pt_hunt *hunt, int32_t session)
{
	for (uint32_t i = 0; i < hunt->count; i++)
		if (hunt->sessions[i] == session)
			return true;
	return false;
}

/* What of the session's it carries: 2 the trace's mark, 1 another trace's, 0 nothing. */
static int carries(const struct pt_hunt *hunt, int32_t pid)
{
	char path[64], text[65536];
	snprintf(path, sizeof path, "/proc/%d/environ", pid);
	ssize_t n = contents(path, text, sizeof text);
	if (n <= 0)
		return 0;
	if (memmem(text, (size_t)n, hunt->mark, strlen(hunt->mark)))
		return 2;
	return memmem(text, (size_t)n, hunt->others, strlen(hunt->others)) ? 1 : 0;
}

static bool is_child(const struct pt_hunt *hunt, const struct running *r)
{
	char path[64];
	struct stat st;
	if (!hunt->below || r->ppid != hunt->below || (hunt->strangers && among(hunt->own_sessions, r->session)))
		return false;
	snprintf(path, sizeof path, "/proc/%d", r->pid);
	return hunt->uid < 0 || (stat(path, &st) == 0 && (int64_t)st.st_uid == hunt->uid);
}

static bool belongs(const struct pt_hunt *hunt, struct memory *memory, const struct running *r)
{
	if (known(hunt, r->session))
		return true;
	size_t slot = (size_t)r->pid % REMEMBERED;
	bool plain = memory->plain[slot].pid == r->pid && memory->plain[slot].started == r->started;
	int carried = plain ? 0 : carries(hunt, r->pid);
	if (!carried && !plain) {
		memory->plain[slot].pid = r->pid;
		memory->plain[slot].started = r->started;
	}
	return carried == 2 || (!carried && is_child(hunt, r));
}

static bool strike(struct pt_hunt *hunt, struct memory *memory, int32_t pid, int number, struct pt_prey *out)
{
	struct running r;
	if (!look_at(pid, &r) || r.started < hunt->since || among(hunt->spared, pid))
		return false;
	if (r.state == 'X' || (r.state == 'Z' && r.threads < 2))
		return false;
	size_t slot = (size_t)pid % REMEMBERED;
	if (memory->struck[slot].pid == pid && memory->struck[slot].started == r.started)
		return false;
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return false;
	bool ours = belongs(hunt, memory, &r), struck = false;
	if (ours) {
		char path[64];
		snprintf(path, sizeof path, "/proc/%d/exe", pid);
		ssize_t n = out ? readlink(path, out->exe, sizeof out->exe - 1) : 0;
		struck = syscall(SYS_pidfd_send_signal, fd, number, NULL, 0) == 0;
		/* A group in a session of the build's own: the signal reaches also whoever is just being started. */
		if (!among(hunt->own_sessions, r.session)) {
			if (!known(hunt, r.session) && hunt->count < PT_HUNT_SESSIONS)
				hunt->sessions[hunt->count++] = r.session;
			if (r.group > 1) /* 0: one that was made outside of this pid namespace; for kill(2) it would mean our own */
				kill(-r.group, number);
		}
		memory->struck[slot].pid = pid;
		memory->struck[slot].started = r.started;
		if (out) {
			out->pid = pid;
			out->exe[n > 0 ? n : 0] = 0;
		}
	}
	close(fd);
	return struck;
}

/* The process id that was given away last. */
static int32_t last_pid(void)
{
	char text[128];
	if (contents("/proc/sys/kernel/ns_last_pid", text, sizeof text) > 0)
		return (int32_t)strtol(text, NULL, 10);
	const char *space = contents("/proc/loadavg", text, sizeof text) > 0 ? strrchr(text, ' ') : NULL;
	return space ? (int32_t)strtol(space, NULL, 10) : 0;
}

static uint64_t milliseconds_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

size_t pt_hunt(struct pt_hunt *hunt, int number, unsigned milliseconds, unsigned rounds, struct pt_prey *out, size_t room)
{
	struct memory *memory = calloc(1, sizeof *memory);
	size_t n = 0;
	int32_t before = last_pid();
	uint64_t end = milliseconds_now() + milliseconds;
	for (unsigned round = 0; memory && before > 0 && (round < rounds || milliseconds_now() < end); round++) {
		int32_t last = last_pid(), first = before < last - NEWEST || before > last ? before + 1 : last - NEWEST;
		if (first < last - MOST || first > last)
			first = last - MOST;
		before = last;
		/* up to one that may have been born a moment ago */
		for (int32_t pid = last + 1; pid >= first && pid > 1; pid--)
			n += strike(hunt, memory, pid, number, n < room ? &out[n] : NULL) && n < room;
	}
	free(memory);
	return n;
}
#else
size_t pt_hunt(struct pt_hunt *hunt, int number, unsigned milliseconds, unsigned rounds, struct pt_prey *out, size_t room)
{
	(void)hunt, (void)number, (void)milliseconds, (void)rounds, (void)out, (void)room;
	return 0; /* Linux' /proc is what it reads */
}
#endif
