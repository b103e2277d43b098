/* LD_PRELOAD (macOS: DYLD_INSERT_LIBRARIES) in every environment that a program hands on, whatever it has put in or left out. */
#include <sys/mman.h>

#include "trace.h"

#ifdef __APPLE__
#define PT_PRELOAD "DYLD_INSERT_LIBRARIES="
#else
#define PT_PRELOAD "LD_PRELOAD="
#endif
#define HEAD (sizeof PT_PRELOAD - 1)

#ifdef __APPLE__
const char *pt_other_library(void)
{
	return NULL;
}
#else
#ifdef __GLIBC__
#define OTHER "tracelib-musl.so"
#else
#define OTHER "tracelib.so"
#endif

/* Whoever comes first writes it, others the same bytes. */
const char *pt_other_library(void)
{
	static char path[sizeof pt.path];
	static _Atomic int known;      /* 1: there is one, 2: there is none */
	int is = atomic_load_explicit(&known, memory_order_acquire);
	if (!is) {
		const char *slash = strrchr(pt.path, '/');
		size_t n = slash ? (size_t)(slash - pt.path) + 1 : 0;
		struct stat st;
		is = 2;
		if (n && n + sizeof OTHER <= sizeof path) {
			memcpy(path, pt.path, n);
			memcpy(path + n, OTHER, sizeof OTHER);
			if (sys_lstat(path, &st) == 0)
				is = 1;
		}
		atomic_store_explicit(&known, is, memory_order_release);
	}
	return is == 1 ? path : NULL;
}
#endif

/* The first entry of a list; NULL: no more. */
static const char *entry(const char *list, size_t *n)
{
	while (*list == ':' || *list == ' ')
		list++;
	*n = strcspn(list, ": ");
	return *n ? list : NULL;
}

static bool is_other(const char *p, size_t n)
{
	const char *other = pt_other_library();
	return other && strlen(other) == n && memcmp(p, other, n) == 0;
}

/* Which of the session's libraries a list names: 1 ours, 2 the other, 3 both. */
static int names_us(const char *list)
{
	int found = 0;
	size_t n;
	for (const char *p = list; (p = entry(p, &n)); p += n) {
		if (n == pt.path_len && memcmp(p, pt.path, n) == 0)
			found |= 1;
		else if (is_other(p, n))
			found |= 2;
	}
	return found;
}

static bool is_preload(const char *entry)
{
	return strncmp(entry, PT_PRELOAD, HEAD) == 0;
}

bool pt_environment_holds(char *const *envp, bool other)
{
	bool held = false;
	for (; envp && *envp; envp++)
		if (is_preload(*envp)) {
			if (names_us(*envp + HEAD) != (other ? 2 : 1))
				return false;
			held = true;
		}
	return held;
}

/*
 * In an environment without it, one entry more; else the user's own list behind ours. What does not fit the slab
 * (thousands of variables) goes to a mapping that the exec ends.
 */
char *const *pt_environment(char *const *envp, struct pt_slab *s, bool other)
{
	size_t count = 0, old = 0;
	const char *library = other ? pt_other_library() : pt.path;
	size_t library_len = strlen(library);
	for (; envp && envp[count]; count++)
		if (is_preload(envp[count]))
			old = strlen(envp[count]) - HEAD;
	char **array = (char **)(void *)s->lex;
	char *text = s->link;
	size_t array_size = (count + 2) * sizeof *array, text_size = HEAD + library_len + 1 + old + 1;
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
	memcpy(text + HEAD, library, library_len + 1);
	for (size_t i = 0; i < count; i++) {
		if (!is_preload(envp[i])) {
			array[n++] = envp[i];
		} else {                       /* the loader takes the last of several */
			char *end = text + HEAD + library_len;
			size_t size;
			for (const char *p = envp[i] + HEAD; (p = entry(p, &size)); p += size) {
				if ((size == pt.path_len && memcmp(p, pt.path, size) == 0) || is_other(p, size))
					continue;
				*end++ = ':';
				memcpy(end, p, size);
				end += size;
			}
			*end = 0;
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
