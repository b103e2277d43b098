/*
 * Put the calling process and all that it starts under its session's
 * supervisor. No malloc, no libc state: the launcher does it before it executes a
 * program that the injected library cannot enter, and the library can do it to
 * its own host (all threads) when that is about to run code of its own making.
 */
#ifndef PORTTRACE_SUPERVISE_LINUX_H
#define PORTTRACE_SUPERVISE_LINUX_H

#include <stdbool.h>

/*
 * `session` is DIR/N; `threads`: of a process that may have several, all of them. Sets no_new_privs.
 * 0 when supervised (also when it was already), else -errno and *what says which step failed:
 * the caller must then refuse what it wanted to do.
 */
int pt_supervise(const char *session, bool threads, const char **what);

/* Is this one of the calls that a supervisor is asked about? */
bool pt_supervised_call(int number);

/* Is the calling process supervised? */
bool pt_supervised(void);

#endif
