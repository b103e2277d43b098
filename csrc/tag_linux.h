/*
 * Whose a process is, kept by the kernel: the limit of a resource that Linux has not limited since 2.6 (RLIMIT_LOCKS,
 * setrlimit(2)) holds a number that stands for the policy's directory. Children have it from their first moment, an exec
 * leaves it, no process without root's rights can raise it, and /proc/PID/limits tells it to everybody, also amid an exec
 * and when the memory of a process is gone already: what a process carries in its environment is not to be read then.
 *
 * No malloc, no libc state: the launcher uses it, and so does the injected library where port starts its children itself.
 */
#ifndef PORTTRACE_TAG_LINUX_H
#define PORTTRACE_TAG_LINUX_H

#include <stdbool.h>
#include <stdint.h>

#define PT_TAG_BIT (1ull << 62) /* no administrator's limit is as high */

static inline bool pt_is_tag(uint64_t limit)
{
	return limit >> 62 == 1;
}

/* For the directory DIR/N; 0: there is none. */
uint64_t pt_tag_of(const char *directory);
/*
 * The calling process's limit. `fenced`: the fence stands, as whoever raised it has said. Both are inherited together, so
 * that no process has to ask the kernel anew; who says so of itself without cause could only be one that has it already.
 */
uint64_t pt_tag_own(bool *fenced);
/* Take it, for good: for a process that has none, nor any limit. */
void pt_tag_take(uint64_t tag);
/* Say that the fence stands, by the soft limit, which is as high as the hard one from then on. */
void pt_tag_fenced(void);

#endif
