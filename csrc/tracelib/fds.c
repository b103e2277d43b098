/* Descriptors that change their meaning: what is cached about them is dropped. */
#include "headers.h"

/*
 * Each shell's child closes and copies descriptors before it does anything else. Where there are no threads the C
 * libraries do no more than the system call: to look theirs up would cost the child pages of symbol tables. With
 * threads close and fcntl are points at which one of them may end, and a sanitizer follows what each does.
 */
#ifdef __linux__
#define PT_ALONE(call) do { if (likely(!pt_threads())) return pt_outcome(call); } while (0)
#else
#define PT_ALONE(call) do { } while (0)
#endif

PT_EXPORT PT_HOT int PT_WRAP(close)(int fd)
{
	typedef int real_t(int);
	pt_fd_forget(fd);
	PT_ALONE(PT_SYS1(SYS_close, fd));
	return PT_REAL(real_t, close)(fd);
}
PT_ALIASES_close

PT_EXPORT PT_HOT int PT_WRAP(dup2)(int old, int fd)
{
	typedef int real_t(int, int);
	if (old != fd)
		pt_fd_forget(fd);
	if (likely(old != fd))
		PT_ALONE(PT_SYS3(SYS_dup3, old, fd, 0));
	return PT_REAL(real_t, dup2)(old, fd);
}
PT_ALIASES_dup2

PT_EXPORT int PT_WRAP(dup3)(int old, int fd, int flags)
{
	typedef int real_t(int, int, int);
	pt_fd_forget(fd);
	PT_ALONE(PT_SYS3(SYS_dup3, old, fd, flags));
	return PT_REAL(real_t, dup3)(old, fd, flags);
}

#ifndef __APPLE__
PT_EXPORT int PT_WRAP(dup)(int old)
{
	typedef int real_t(int);
	int fd = pt_threads() ? PT_REAL(real_t, dup)(old) : pt_outcome(PT_SYS1(SYS_dup, old));
	pt_fd_same(fd, old);
	return fd;
}
PT_ALIASES_dup

static int control(int fd, int command, void *argument)
{
	typedef int real_t(int, int, ...);
	switch (command) {
	case F_DUPFD: case F_DUPFD_CLOEXEC: case F_GETFD: case F_SETFD: case F_GETFL: case F_SETFL:
		PT_ALONE(PT_SYS3(SYS_fcntl, fd, command, argument));
	}
	return PT_REAL(real_t, fcntl)(fd, command, argument);
}

/* Whoever walks a tree by descriptors makes a second one of each directory, and then goes by that. */
PT_EXPORT int PT_WRAP(fcntl)(int fd, int command, ...)
{
	va_list ap;
	va_start(ap, command);
	void *argument = va_arg(ap, void *);
	va_end(ap);
	int r = control(fd, command, argument);
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
