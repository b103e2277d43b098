#include "kernel.h"

#ifdef __linux__
#include <fcntl.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "elf_linux.h"

#define LANDLOCK_CREATE_RULESET 444 /* the same number on every architecture; older headers lack it */
#define LANDLOCK_VERSION 1          /* LANDLOCK_CREATE_RULESET_VERSION of linux/landlock.h */

int pt_landlock_abi(void)
{
	long abi = syscall(LANDLOCK_CREATE_RULESET, NULL, (size_t)0, LANDLOCK_VERSION);
	return abi > 0 ? (int)abi : 0;
}

bool pt_become_subreaper(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0; }

bool pt_library_enters(const char *path)
{
	struct stat st;
	bool musl, enters;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);

	if (fd < 0)
		return false;
	enters = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && !(st.st_mode & (S_ISUID | S_ISGID)) &&
		 fgetxattr(fd, "security.capability", NULL, 0) <= 0 &&
		 pt_elf_entry_fd(fd, false, &musl, NULL, NULL) == PT_ENTRY_TRACELIB && !musl;
	close(fd);
	return enters;
}
#else
int pt_landlock_abi(void) { return 0; }
bool pt_become_subreaper(void) { return false; }
bool pt_library_enters(const char *path)
{
	(void)path;
	return false;
}
#endif
