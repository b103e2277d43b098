#define _GNU_SOURCE 1 /* memmem */
#include "hunt.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tag_linux.h"

#define NEWEST 12      /* so many ids are looked at each time, and all that were given away since the last */
#define MOST 64        /* but not more */
#define REMEMBERED 256 /* a power of two */

/* Who was sent a signal, and who carries nothing: by the lowest bits of the process id. */
struct memory {
	struct {
		int32_t pid;
		uint64_t started;
	} struck[REMEMBERED], plain[REMEMBERED];
};

static enum pt_carried carries(const struct pt_hunt *hunt, int32_t pid)
{
	char text[65536];
	ssize_t n = pt_process_file(pid, "environ", text, sizeof text);
	return n == 0 ? PT_NO_ENVIRONMENT : n < 0 ? PT_UNREADABLE : pt_hunt_carried(hunt, text, (size_t)n);
}

/*
 * What the kernel keeps comes first. The environment is for those who have no tag of ours: started by port itself a moment
 * ago, or within another session.
 */
static enum pt_belongs whose(const struct pt_hunt *hunt, const struct pt_process *p)
{
	if (pt_hunt_knows(hunt, p->session))
		return PT_OURS;
	uint64_t limit = pt_process_tag(p->pid);
	bool tagged = pt_is_tag(limit);
	for (const uint64_t *tag = hunt->tags; tagged && *tag; tag++)
		if (*tag == limit)
			return PT_OURS;
	enum pt_carried carried = carries(hunt, p->pid);
	if (carried == PT_THE_MARK)
		return PT_OURS;
	if (tagged || carried == PT_ANOTHERS)
		return PT_NOT_OURS;
	/* An exec gives it memory first, and an environment when the program has been read. */
	if (carried == PT_NO_ENVIRONMENT && p->memory && !p->env_end)
		return PT_UNSURE;
	return pt_hunt_child(hunt, p) ? PT_OURS : pt_hunt_stranger(p, carried);
}

uint64_t pt_hunt_tag(const char *directory)
{
	return pt_tag_of(directory);
}

enum pt_belongs pt_hunt_look(const struct pt_hunt *hunt, int32_t pid, struct pt_process *out)
{
	return pt_process_look(pid, out) ? whose(hunt, out) : PT_GONE;
}

static enum pt_belongs belongs(const struct pt_hunt *hunt, struct memory *memory, const struct pt_process *p)
{
	size_t slot = (size_t)p->pid % REMEMBERED;
	if (memory->plain[slot].pid == p->pid && memory->plain[slot].started == p->started && !pt_hunt_knows(hunt, p->session))
		return PT_NOT_OURS;
	enum pt_belongs is = whose(hunt, p);
	if (is == PT_NOT_OURS) {
		memory->plain[slot].pid = p->pid;
		memory->plain[slot].started = p->started;
	}
	return is;
}

static bool strike(struct pt_hunt *hunt, struct memory *memory, int32_t pid, int number, struct pt_prey *out)
{
	struct pt_process p;
	if (!pt_process_look(pid, &p) || p.started < hunt->since || pt_hunt_among(hunt->spared, pid))
		return false;
	if (p.state == 'X' || (p.state == 'Z' ? p.threads < 2 : !p.memory)) /* it has ended, or does so anyway */
		return false;
	size_t slot = (size_t)pid % REMEMBERED;
	if (memory->struck[slot].pid == pid && memory->struck[slot].started == p.started)
		return false;
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return false;
	bool struck = false;
	if (belongs(hunt, memory, &p) == PT_OURS) {
		if (out) {
			ssize_t n = pt_process_exe(pid, out->exe, sizeof out->exe - 1);
			out->exe[n > 0 ? n : 0] = 0;
			if (n <= 0)
				snprintf(out->exe, sizeof out->exe, "%s", p.name);
		}
		struck = syscall(SYS_pidfd_send_signal, fd, number, NULL, 0) == 0;
		/* A group in a session of the build's own: the signal reaches also whoever is just being started. */
		if (!pt_hunt_among(hunt->own_sessions, p.session)) {
			if (!pt_hunt_knows(hunt, p.session) && hunt->count < PT_HUNT_SESSIONS)
				hunt->sessions[hunt->count++] = p.session;
			if (p.group > 1) /* 0: one that was made outside of this pid namespace; for kill(2) it would mean our own */
				kill(-p.group, number);
		}
		memory->struck[slot].pid = pid;
		memory->struck[slot].started = p.started;
		if (out) {
			out->pid = pid;
			out->started = p.started;
		}
	}
	close(fd);
	return struck;
}

/* The process id that was given away last. */
static int32_t last_pid(void)
{
	char text[128];
	if (pt_proc_text("/proc/sys/kernel/ns_last_pid", text, sizeof text) > 0)
		return (int32_t)strtol(text, NULL, 10);
	const char *space = pt_proc_text("/proc/loadavg", text, sizeof text) > 0 ? strrchr(text, ' ') : NULL;
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
