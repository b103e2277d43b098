/* LD_PRELOAD (macOS: DYLD_INSERT_LIBRARIES) in every environment that a program hands on, whatever it has put in or left out. */
#include <sys/mman.h>

#include "trace.h"

#ifdef __APPLE__
#define PT_PRELOAD "DYLD_INSERT_LIBRARIES="
#else
#define PT_PRELOAD "LD_PRELOAD="
#endif
#define HEAD (sizeof PT_PRELOAD - 1)

static bool names_us(const char *list)
{
	for (const char *p = list; *p;) {
		size_t n = strcspn(p, ": ");
		if (n == pt.path_len && memcmp(p, pt.path, n) == 0)
			return true;
		p += n;
		while (*p == ':' || *p == ' ')
			p++;
	}
	return false;
}

static bool is_preload(const char *entry)
{
	return strncmp(entry, PT_PRELOAD, HEAD) == 0;
}

bool pt_environment_holds(char *const *envp)
{
	bool held = false;
	for (; envp && *envp; envp++)
		if (is_preload(*envp)) {
			if (!names_us(*envp + HEAD))
				return false;
			held = true;
		}
	return held;
}

/*
 * In an environment without it, one entry more; else the user's own list behind ours. What does not fit the slab
 * (thousands of variables) goes to a mapping that the exec ends.
 */
char *const *pt_environment(char *const *envp, struct pt_slab *s)
{
	size_t count = 0, old = 0;
	for (; envp && envp[count]; count++)
		if (is_preload(envp[count]))
			old = strlen(envp[count]) - HEAD;
	char **array = (char **)(void *)s->lex;
	char *text = s->link;
	size_t array_size = (count + 2) * sizeof *array, text_size = HEAD + pt.path_len + 1 + old + 1;
	if (array_size > 2 * s->cap || text_size > s->cap) {
		char *p = sys_mmap(array_size + text_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		if (!p)
			return envp;
		array = (char **)(void *)p;
		text = p + array_size;
	}
	size_t n = 0;
	array[n++] = text;
	memcpy(text, PT_PRELOAD, HEAD);
	memcpy(text + HEAD, pt.path, pt.path_len + 1);
	for (size_t i = 0; i < count; i++) {
		if (!is_preload(envp[i])) {
			array[n++] = envp[i];
		} else if (envp[i][HEAD]) {          /* the loader takes the last of several */
			text[HEAD + pt.path_len] = ':';
			memcpy(text + HEAD + 1 + pt.path_len, envp[i] + HEAD, strlen(envp[i] + HEAD) + 1);
		}
	}
	array[n] = NULL;
	return array;
}

/* For a program whose loader would complain of our library, or stop: without the entry that names it. */
char *const *pt_environment_without(char *const *envp, struct pt_slab *s)
{
	size_t count = 0, n = 0;
	while (envp && envp[count])
		count++;
	char **array = (char **)(void *)s->lex;
	size_t size = (count + 1) * sizeof *array;
	if (size > 2 * s->cap) {
		char *p = sys_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		if (!p)
			return envp;
		array = (char **)(void *)p;
	}
	for (size_t i = 0; i < count; i++)
		if (!is_preload(envp[i]) || !names_us(envp[i] + HEAD))
			array[n++] = envp[i];
	array[n] = NULL;
	return array;
}
