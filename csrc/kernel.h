/* What Python needs of the kernel and has no function for. On systems other than Linux there is none of it. */
#ifndef PORTTRACE_KERNEL_H
#define PORTTRACE_KERNEL_H

#include <stdbool.h>

int pt_landlock_abi(void);         /* the version of Landlock's interface, 0 where there is none */
bool pt_become_subreaper(void);    /* orphans below this process are handed to it and not to init */

/*
 * Is this a regular file, and a dynamic program of glibc's that our library enters whoever starts it: without rights of its
 * own (set-user-ID, capabilities) and without system calls of its own (Go)?
 */
bool pt_library_enters(const char *path);

#endif
