/* Reading, writing and matching the bytes that filemap.h describes. */
#include "filemap.h"

#include <string.h>

static int broken(const char **why, const char *text)
{
	if (why)
		*why = text;
	return -1;
}

/* Length of the text at `at`, or -1 when no NUL ends it. */
static ptrdiff_t text_len(const char *map, size_t size, size_t at)
{
	const char *nul = at < size ? memchr(map + at, 0, size - at) : NULL;

	return nul ? nul - (map + at) : -1;
}

int pt_filemap_next(const char *map, size_t size, size_t *offset, struct pt_filemap_entry *out, const char **why)
{
	size_t at = *offset;
	ptrdiff_t n = text_len(map, size, at);

	if (n < 0) {
		*offset = size;
		return broken(why, at >= size ? "the map has no end" : "a path does not end");
	}
	if (!n) {
		/* an empty map may have its second NUL or not */
		*offset = at + 1 + (at == 0 && size > 1 && !map[1]);
		return 0;
	}
	out->offset = at;
	out->path = map + at;
	out->path_len = (size_t)n;
	out->target = NULL;
	out->target_len = 0;
	at += (size_t)n + 1;
	*offset = at;
	if (at >= size)
		return broken(why, "the map ends before an action");
	out->action = (uint8_t)map[at];
	if (out->action > PT_DENY)
		return broken(why, "the action is none of 0 (allow), 1 (redirect), 2 (ask), 3 (deny)");
	*offset = ++at;
	n = text_len(map, size, at);
	if (n < 0) {
		*offset = size;
		return broken(why, "the map ends inside an entry");
	}
	if (out->action == PT_REDIRECT) {
		if (!n)
			return broken(why, "a redirect without a redirect path");
		out->target = map + at;
		out->target_len = (size_t)n;
	} else if (n) {
		return broken(why, "only a redirect has a redirect path");
	}
	*offset = at + (size_t)n + 1;
	return 1;
}

long pt_filemap_check(const char *map, size_t size, size_t *offset, const char **why)
{
	struct pt_filemap_entry e;
	long count = 0;
	int more;

	*offset = 0;
	while ((more = pt_filemap_next(map, size, offset, &e, why)) == 1)
		count++;
	if (more < 0)
		return -1;
	if (*offset != size)
		return broken(why, "bytes follow the end of the map");
	return count;
}

long pt_filemap_match(const char *map, size_t size, const char *path, size_t len, struct pt_filemap_entry *out)
{
	size_t at = 0;
	long i;
	int more;

	for (i = 0; (more = pt_filemap_next(map, size, &at, out, NULL)) == 1; i++)
		if (pt_path_matches(out->path, out->path_len, true, path, len))
			return i;
	return more < 0 ? -2 : -1;
}

size_t pt_filemap_put(char *map, size_t cap, size_t at, const char *path, size_t path_len, uint8_t action,
		      const char *target, size_t target_len, const char **why)
{
	size_t end;

	if (!path) {
		end = at ? at + 1 : 2;
		if (end <= cap)
			memset(map + at, 0, end - at);
		return end;
	}
	*why = NULL;
	if (!path_len)
		*why = "an empty path ends the map";
	else if (memchr(path, 0, path_len))
		*why = "the path holds a NUL byte";
	else if (action > PT_DENY)
		*why = "unknown action";
	else if (action != PT_REDIRECT && target_len)
		*why = "only a redirect has a redirect path";
	else if (action == PT_REDIRECT && !target_len)
		*why = "a redirect without a redirect path";
	else if (target_len && memchr(target, 0, target_len))
		*why = "the redirect path holds a NUL byte";
	if (*why)
		return 0;
	end = at + path_len + 1 + 1 + target_len + 1;
	if (end > cap)
		return end;
	memcpy(map + at, path, path_len);
	at += path_len;
	map[at++] = '\0';
	map[at++] = (char)action;
	if (target_len)
		memcpy(map + at, target, target_len);
	map[at + target_len] = '\0';
	return end;
}

bool pt_path_matches(const char *rule, size_t rule_len, bool literal, const char *path, size_t len)
{
	if (!literal)
		while (rule_len && rule[rule_len - 1] == '/')
			rule_len--; /* "/" is the root: every absolute path lies below the empty one */
	if (len < rule_len || memcmp(rule, path, rule_len) != 0)
		return false;
	return literal || len == rule_len || path[rule_len] == '/';
}
