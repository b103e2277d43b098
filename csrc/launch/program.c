#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fence_linux.h"
#include "sysraw.h"

#define INTERPRETERS 5             /* so many the kernel follows one after the other */

/*
 * Whose program is it? A quarter of a system's programs hold the two bytes of a system call by chance: they are taken
 * at their word. Code that the build can have made is always supervised (tracelib/supervise.c says why).
 */
static enum { SYSTEMS_OWN, BUILDS_OWN, SOMEBODYS } owner_of(const char *path, const char *fence, char real[PATH_CAP])
{
	char link[64];
	struct stat st = { 0 };
	real[0] = 0;
	long fd = pt_raw4(SYS_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
	if (fd < 0)
		return SOMEBODYS;
	snprintf(link, sizeof link, "/proc/self/fd/%d", (int)fd);
	long n = pt_raw4(SYS_readlinkat, AT_FDCWD, link, real, PATH_CAP - 1);
	pt_raw4(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH);
	pt_raw1(SYS_close, fd);
	real[n > 0 ? n : 0] = 0;
	bool fixed = st.st_uid == 0 && !(st.st_mode & 022);
	if (fixed && !strncmp(real, "/usr/", 5))
		return SYSTEMS_OWN;
	if (fence ? pt_fence_covers_file(fence, real) : !fixed)
		return BUILDS_OWN;
	return SOMEBODYS;
}

/* No link that a build could change leads there: the system's own names, and names without links. */
static bool leads_straight(const char *path, const char *real)
{
	static const char *const system[] = { "/usr/", "/bin/", "/sbin/" };
	for (size_t i = 0; i < sizeof system / sizeof *system; i++)
		if (!strncmp(path, system[i], strlen(system[i])))
			return true;
	return !strcmp(path, real);
}

/* Along PATH, as execvp goes. */
static void find(const char *command, char path[PATH_CAP])
{
	if (strchr(command, '/')) {
		snprintf(path, PATH_CAP, "%s", command);
		return;
	}
	const char *list = getenv("PATH");
	for (list = list ? list : "/bin:/usr/bin"; *list; list += *list == ':') {
		size_t len = strcspn(list, ":");
		int n = len ? snprintf(path, PATH_CAP, "%.*s/%s", (int)len, list, command) : snprintf(path, PATH_CAP, "%s", command);
		if (n < PATH_CAP && !access(path, X_OK))
			return;
		*path = 0;
		list += len;
	}
}

static size_t count(char **words)
{
	size_t n = 0;
	while (words[n])
		n++;
	return n;
}

/* The words of a script's first line before the script's name (`path`: the command's, which has none yet) and what comes after. */
static bool put_before(struct pt_command *p, const char *line, const char *path, char **argv)
{
	size_t bytes = 0, n = 0, k = 0, after = count(p->words ? p->words : argv);
	for (; line[bytes]; n++)
		bytes += strlen(line + bytes) + 1;
	char **words = malloc((n + after + 2) * sizeof *words), *text = malloc(bytes + strlen(path) + 1);
	if (!n || !words || !text)
		return false;
	memcpy(text, line, bytes);
	for (size_t at = 0; at < bytes; at += strlen(text + at) + 1)
		words[k++] = text + at;
	if (p->words) {
		memcpy(words + k, p->words, (after + 1) * sizeof *words);
	} else {
		words[k++] = stpcpy(text + bytes, path) - strlen(path);
		memcpy(words + k, argv + (after > 0), (after + (after == 0)) * sizeof *words);
	}
	p->words = words;
	p->file = words[0];
	return true;
}

void pt_command_of(struct pt_command *p, const char *command, char **argv, const char *session, const char *fence)
{
	char interpreter[PT_SHEBANG], line[PT_WORDS], real[PATH_CAP];
	bool musl = false, settled = true, through = true;
	*p = (struct pt_command){ .entry = PT_ENTRY_NONE };
	find(command, p->path);
	for (int depth = 0; depth <= INTERPRETERS && *p->path; depth++) {
		p->entry = pt_elf_entry(p->path, true, &musl, interpreter, line);
		bool loose = owner_of(p->path, fence, real) == BUILDS_OWN || !leads_straight(p->path, real);
		if (p->entry == PT_ENTRY_SCRIPT && !depth && loose && access(p->path, X_OK))
			p->error = errno;
		if (loose && p->entry != PT_ENTRY_SCRIPT && p->entry != PT_ENTRY_NONE && through && *real)
			p->file = pt_beside("", real + 1);
		else if (loose && !(p->entry == PT_ENTRY_SCRIPT && through && put_before(p, line, p->path, argv)))
			settled = false;
		through = through && loose;
		if (p->entry != PT_ENTRY_SCRIPT)
			break;
		stpcpy(p->path, interpreter);
	}
	if (musl && access(pt_beside(session, MUSL_LIBRARY), R_OK))
		p->entry = PT_ENTRY_FOREIGN;
	p->library = p->entry == PT_ENTRY_FOREIGN ? NULL : musl ? MUSL_LIBRARY : LIBRARY;
	if (p->entry == PT_ENTRY_RAW || p->entry == PT_ENTRY_TRACELIB) {
		int owner = owner_of(p->path, fence, real);
		p->entry = owner == SYSTEMS_OWN ? PT_ENTRY_TRACELIB : owner == BUILDS_OWN ? PT_ENTRY_RAW : p->entry;
	}
	p->supervise = !settled || p->entry == PT_ENTRY_STATIC || p->entry == PT_ENTRY_FOREIGN || p->entry == PT_ENTRY_RAW ||
		p->entry == PT_ENTRY_OWN_CALLS;
}
