#include "kernel.h"

#ifdef __linux__
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LANDLOCK_CREATE_RULESET 444 /* the same number on every architecture; older headers lack it */
#define LANDLOCK_VERSION 1          /* LANDLOCK_CREATE_RULESET_VERSION of linux/landlock.h */

int pt_landlock_abi(void)
{
	long abi = syscall(LANDLOCK_CREATE_RULESET, NULL, (size_t)0, LANDLOCK_VERSION);
	return abi > 0 ? (int)abi : 0;
}

bool pt_become_subreaper(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0; }
#else
int pt_landlock_abi(void) { return 0; }
bool pt_become_subreaper(void) { return false; }
#endif
