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
PT_EXPORT int PT_WRAP(dup)(int old)
{
	typedef int real_t(int);
	int fd = PT_REAL(real_t, dup)(old);
	pt_fd_same(fd, old);
	return fd;
}
PT_ALIASES_dup

/* Whoever walks a tree by descriptors makes a second one of each directory, and then goes by that. */
PT_EXPORT int PT_WRAP(fcntl)(int fd, int command, ...)
{
	typedef int real_t(int, int, ...);
	va_list ap;
	va_start(ap, command);
	void *argument = va_arg(ap, void *);
	va_end(ap);
	int r = PT_REAL(real_t, fcntl)(fd, command, argument);
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		pt_fd_same(r, fd);
	return r;
}
PT_ALIASES_fcntl

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
