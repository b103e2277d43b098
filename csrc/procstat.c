#include "procstat.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

ssize_t pt_proc_text(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	size_t n = 0;
	ssize_t got;
	while (n < room - 1 && (got = read(fd, text + n, room - 1 - n)) != 0) {
		if (got < 0) {
			got = -errno;
			close(fd);
			return got;
		}
		n += (size_t)got;
	}
	close(fd);
	text[n] = 0;
	return (ssize_t)n;
}

ssize_t pt_process_file(int32_t pid, const char *name, char *text, size_t room)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	return pt_proc_text(path, text, room);
}

bool pt_process_parse(const char *text, struct pt_process *out)
{
	enum { PPID = 4, GROUP, SESSION, TERMINAL, THREADS = 20, STARTED = 22, MEMORY, ENV_END = 51, FIELDS };
	uint64_t field[FIELDS] = { 0 };
	const char *name = strchr(text, '('), *at = strrchr(text, ')'); /* between them may be anything */
	if (!name || !at || at < name || at[1] != ' ' || !at[2])
		return false;
	snprintf(out->name, sizeof out->name, "%.*s", (int)(at - name - 1), name + 1);
	out->state = at[2];
	char *end = (char *)(uintptr_t)at + 3;
	int n = PPID;
	for (; n < FIELDS; n++) {
		at = end;
		field[n] = strtoull(at, &end, 10); /* a negative number is what it was once it is narrow again */
		if (end == at)
			break;
	}
	if (n <= MEMORY)
		return false;
	out->pid = (int32_t)strtol(text, NULL, 10);
	out->ppid = (int32_t)field[PPID];
	out->group = (int32_t)field[GROUP];
	out->session = (int32_t)field[SESSION];
	out->terminal = (uint32_t)field[TERMINAL];
	out->threads = (int32_t)field[THREADS];
	out->started = field[STARTED];
	out->memory = field[MEMORY];
	out->env_end = field[ENV_END];
	return true;
}

size_t pt_words_environment(const char *block, size_t n)
{
	int32_t words;
	size_t at = sizeof words;
	if (n < at)
		return n;
	memcpy(&words, block, sizeof words);
	at += strnlen(block + at, n - at);
	while (at < n && !block[at])
		at++;
	for (; words > 0 && at < n; words--) {
		at += strnlen(block + at, n - at);
		at += at < n;
	}
	return at;
}

#ifndef __APPLE__              /* there: procstat_darwin.c */
bool pt_process_look(int32_t pid, struct pt_process *out)
{
	char text[1024];
	return pt_process_file(pid, "stat", text, sizeof text) > 0 && pt_process_parse(text, out);
}

int64_t pt_process_user(int32_t pid)
{
	char path[64];
	struct stat st;
	snprintf(path, sizeof path, "/proc/%d", (int)pid);
	return stat(path, &st) == 0 ? (int64_t)st.st_uid : -1;
}

size_t pt_process_all(int32_t *pids, size_t room)
{
	DIR *proc = opendir("/proc");
	size_t n = 0;
	for (struct dirent *e; proc && n < room && (e = readdir(proc)) != NULL;) {
		char *end;
		long pid = strtol(e->d_name, &end, 10);
		if (pid > 0 && !*end)
			pids[n++] = (int32_t)pid;
	}
	if (proc)
		closedir(proc);
	return n;
}

ssize_t pt_process_exe(int32_t pid, char *path, size_t room)
{
	char link[64];
	snprintf(link, sizeof link, "/proc/%d/exe", (int)pid);
	ssize_t n = readlink(link, path, room);
	return n < 0 ? -errno : n;
}
#endif

uint64_t pt_process_tag(int32_t pid)
{
	static const char label[] = "\nMax file locks";
	char text[4096];
	const char *line = pt_process_file(pid, "limits", text, sizeof text) > 0 ? strstr(text, label) : NULL;
	unsigned long long hard;
	return line && sscanf(line + sizeof label - 1, " %*s %llu", &hard) == 1 ? hard : UINT64_MAX;
}
