/*
 * The filemap of 2007: an ordered list of path prefixes with an action each.
 *
 *     map    = { entry } NUL
 *     entry  = path NUL action [ redirect_path ] NUL
 *     path   = one byte or more, none of them NUL: a literal string prefix ("/opt" matches "/opt/x" and "/optblah/x")
 *     action = one byte, 0 allow, 1 redirect, 2 ask; 3 deny was added later
 *     redirect_path = one byte or more, none of them NUL, with action 1 only
 *
 * Action 0 is itself a NUL byte, so "allow /bin" is "/bin" followed by three
 * of them, and a map cannot be split at NULs: it has to be read entry by
 * entry. An empty path ends the map; since the last entry ends in NUL as well,
 * a map ends in two. An empty map is written as two NULs, and one is
 * understood. The first entry that matches wins; none: deny and report.
 *
 * Pure functions over the caller's bytes: no globals, no malloc.
 */
#ifndef PORTTRACE_FILEMAP_H
#define PORTTRACE_FILEMAP_H

#include "policy.h"

struct pt_filemap_entry {
	const char *path, *target; /* inside the map; target NULL unless redirect */
	size_t path_len, target_len;
	size_t offset;             /* of the entry's first byte */
	uint8_t action;
};

/*
 * The entry at *offset, which moves on behind it: 1. 0: the end of the map was read, *offset is behind it.
 * -1: the bytes are no map, *offset is where they go wrong and *why says how.
 */
int pt_filemap_next(const char *map, size_t size, size_t *offset, struct pt_filemap_entry *out, const char **why);
/* Number of entries, or -1 with *offset and *why; bytes behind the end of the map are an error. */
long pt_filemap_check(const char *map, size_t size, size_t *offset, const char **why);
/* Index of the first entry that matches (with `out` filled), -1: none, -2: the bytes are no map. */
long pt_filemap_match(const char *map, size_t size, const char *path, size_t len, struct pt_filemap_entry *out);
/*
 * Append an entry at `at` (or, with path NULL, the end of the map): the new length, which may be more than `cap`
 * (then nothing was written and the caller comes back with more room). 0: cannot be expressed, *why says why.
 */
size_t pt_filemap_put(char *map, size_t cap, size_t at, const char *path, size_t path_len, uint8_t action,
		      const char *target, size_t target_len, const char **why);

/* Does a rule's path match? Literal: as a prefix of bytes; else whole components ("/opt" matches "/opt" and "/opt/x"). */
bool pt_path_matches(const char *rule, size_t rule_len, bool literal, const char *path, size_t len);

#endif
