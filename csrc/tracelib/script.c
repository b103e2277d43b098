/*
 * A script whose interpreter is started in its place, with the words that the kernel would have made. On Linux because the
 * kernel reads a script again by its name, which may meanwhile mean another file; on macOS because a protected interpreter is
 * entered through a copy. What it costs is that the process is called by the interpreter's name (comm), not by the script's.
 */
#include <sys/mman.h>

#include "exec.h"

static size_t length(const char *words, size_t *bytes)
{
	size_t n = 0;
	*bytes = 0;
	for (; words[*bytes]; n++)
		*bytes += strlen(words + *bytes) + 1;
	return n;
}

bool pt_exec_through(struct pt_exec *x, const char *words)
{
	size_t bytes, room = (pt_exec_count(x->argv) + 4) * sizeof *x->argv;
	if (!length(words, &bytes))
		return false;
	if (room > x->room && room <= PT_PATH_CAP)
		x->room = room;
	struct pt_slab *s = pt_exec_slab(x);
	if (!s)
		return false;
	char *end = s->asked + s->cap - 1, *at = x->words ? x->words : end;
	if ((size_t)(at - s->asked) < bytes)
		return false;
	*end = 0;
	x->words = memcpy(at - bytes, words, bytes);
	return true;
}

bool pt_exec_words(struct pt_exec *x)
{
	size_t bytes, before = length(x->words, &bytes), after = pt_exec_count(x->argv), n = 0;
	size_t size = (before + after + 2) * sizeof(char *);
	const char **words = (const char **)(void *)x->slab->pending;
	if (size > x->slab->cap) {
		words = x->mapped = sys_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		x->mapped_size = size;
	}
	if (!words)
		return false;
	for (const char *w = x->words; *w; w += strlen(w) + 1)
		words[n++] = w;
	words[n++] = x->path;
	for (size_t i = 1; i < after; i++)
		words[n++] = x->argv[i];
	words[n] = NULL;
	x->argv = (char *const *)(uintptr_t)words;
	return true;
}
