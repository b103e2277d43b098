/* Descriptors that change their meaning: what is cached about them is dropped. */
#include "headers.h"

PT_EXPORT int PT_WRAP(close)(int fd)
{
	typedef int real_t(int);
	pt_fd_forget(fd);
	return PT_REAL(real_t, close)(fd);
}
PT_ALIASES_close

PT_EXPORT int PT_WRAP(dup2)(int old, int fd)
{
	typedef int real_t(int, int);
	if (old != fd)
		pt_fd_forget(fd);
	return PT_REAL(real_t, dup2)(old, fd);
}
PT_ALIASES_dup2

PT_EXPORT int PT_WRAP(dup3)(int old, int fd, int flags)
{
	typedef int real_t(int, int, int);
	pt_fd_forget(fd);
	return PT_REAL(real_t, dup3)(old, fd, flags);
}

#ifndef __APPLE__
PT_EXPORT void PT_WRAP(closefrom)(int first)
{
	typedef void real_t(int);
	pt_fd_forget_range(first < 0 ? 0 : (unsigned)first, PT_FDS - 1);
	PT_REAL(real_t, closefrom)(first);
}

PT_EXPORT int PT_WRAP(close_range)(unsigned first, unsigned last, int flags)
{
	typedef int real_t(unsigned, unsigned, int);
	pt_fd_forget_range(first, last < PT_FDS ? last : PT_FDS - 1);
	return PT_REAL(real_t, close_range)(first, last, flags);
}
#endif
