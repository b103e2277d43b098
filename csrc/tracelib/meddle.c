/*
 * Another process's memory and registers. Who changes them makes any system call in that process's name, past the
 * library there: so the one that does it is supervised first, and the supervisor lets it do that only to what it starts then.
 */
#include "exec.h"

#include <signal.h>
#include <sys/uio.h>

#define TRACEME 0             /* its C name is of a type that differs between C libraries */

PT_EXPORT long ptrace(int request, ...)
{
	typedef long real_t(int, ...);
	va_list args;
	va_start(args, request);
	long pid = va_arg(args, long), address = va_arg(args, long), data = va_arg(args, long);
	va_end(args);
	/* The one that lets itself be traced is mostly a fork, or shares its memory with its parent: it alone, and nothing is remembered. */
	bool held = !pt_on() || !pt_has_supervisor() || (request == TRACEME ? !pt_supervise_self() : pt_supervise_all());
	if (!held) {
		errno = EPERM;
		return -1;
	}
	return PT_REAL(real_t, ptrace)(request, pid, address, data);
}

PT_EXPORT ssize_t process_vm_writev(pid_t pid, const struct iovec *here, unsigned long count, const struct iovec *there,
				    unsigned long parts, unsigned long flags)
{
	typedef ssize_t real_t(pid_t, const struct iovec *, unsigned long, const struct iovec *, unsigned long, unsigned long);
	if (pt_on() && !pt_supervise_all()) {
		errno = EPERM;
		return -1;
	}
	return PT_REAL(real_t, process_vm_writev)(pid, here, count, there, parts, flags);
}

/*
 * A limit ends a process as well as a signal does, and the kernel lets a user set those of all its own. Whom the fence
 * lets it signal is of this session.
 */
PT_EXPORT int prlimit(pid_t pid, int resource, const void *limits, void *old)
{
	long r = 0;
	if (limits && pid && pt_on() && !(pt.flags & PT_IMG_AUDIT))
		r = PT_SYS2(SYS_kill, pid, 0);
	if (!r)
		r = PT_SYS4(SYS_prlimit64, pid, resource, limits, old);
	return pt_outcome(r);
}
PT_ALIASES_prlimit
