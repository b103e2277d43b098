/*
 * Sockets whose name lies in no file system. The kernel's fence keeps programs from those of the outside; a message or
 * connection that is made in a program's place is made outside of the fence, so that it must be kept from them here.
 */
#include <dirent.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>

#include "supervisor_answer.h"

#define SAME 16 /* sockets of one name */

static bool fenced(const struct pt_task *t)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/fence", t->sup->dir);
	return access(path, F_OK) == 0 && syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >= 6;
}

/* The inodes of those that are bound to the name; SAME + 1: too many. */
static unsigned bound(pid_t pid, const char *name, size_t len, unsigned long inodes[SAME])
{
	char path[64], *line = NULL;
	size_t cap = 0;
	ssize_t got;
	unsigned n = 0;
	snprintf(path, sizeof path, "/proc/%d/net/unix", (int)pid); /* of its network */
	FILE *f = fopen(path, "re");
	while (f && n <= SAME && (got = getline(&line, &cap, f)) > 0) {
		unsigned long inode;
		int at = 0;
		if (sscanf(line, "%*[^:]: %*x %*x %*x %*x %*x %lu %n", &inode, &at) != 1 || (size_t)got != (size_t)at + len + 1)
			continue;
		size_t i = 0;
		while (i < len && line[at + (ssize_t)i] == (name[i] ? name[i] : '@'))
			i++;
		if (i < len)
			continue;
		if (n < SAME)
			inodes[n] = inode;
		n++;
	}
	free(line);
	if (f)
		fclose(f);
	return n;
}

static bool has_open(pid_t pid, const char *what)
{
	char path[320], link[64];
	struct dirent *entry;
	bool found = false;
	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	DIR *d = opendir(path);
	while (d && !found && (entry = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), entry->d_name, link, sizeof link - 1);
		link[n > 0 ? n : 0] = 0;
		found = !strcmp(link, what);
	}
	if (d)
		closedir(d);
	return found;
}

/* Has a process of the session it open? */
static bool is_ours(unsigned long inode)
{
	char what[64];
	struct dirent *entry;
	bool found = false;
	snprintf(what, sizeof what, "socket:[%lu]", inode);
	DIR *d = opendir("/proc");
	while (d && !found && (entry = readdir(d))) {
		pid_t pid = (pid_t)atoi(entry->d_name);
		found = pid > 1 && has_open(pid, what) && pt_in_session(pid);
	}
	if (d)
		closedir(d);
	return found;
}

int pt_reach_abstract(const struct pt_task *t, const struct sockaddr_un *to, socklen_t size)
{
	unsigned long inodes[SAME];
	const size_t head = offsetof(struct sockaddr_un, sun_path);
	if (size <= head || size > sizeof *to || !fenced(t))
		return 0;
	unsigned n = bound(t->pid, to->sun_path, (size_t)size - head, inodes);
	if (!n)
		return ECONNREFUSED;
	for (unsigned i = 0; i < n; i++)
		if (i == SAME || !is_ours(inodes[i]))
			return EPERM;
	return 0;
}
