/* Makes a file: by a system call of its own with -DRAW, else through the C library. Prints the errno, 0 for success. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "sysraw.h"

int main(int argc, char **argv)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL;
	(void)argc;
#ifdef RAW
	long fd = pt_raw4(SYS_openat, AT_FDCWD, argv[1], flags, 0644);
	printf("outside: %ld\n", fd < 0 ? -fd : 0);
#else
	printf("outside: %d\n", open(argv[1], flags, 0644) < 0 ? errno : 0);
#endif
	return 0;
}
