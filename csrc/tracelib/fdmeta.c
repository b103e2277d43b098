/*
 * Metadata through a descriptor: a file that may be read may be opened, and
 * the kernel's fence does not look at chmod, chown, dates and attributes. And
 * memory that is made executable: what runs there makes its calls past the C
 * library, so the whole process goes to the supervisor first.
 */
#include <linux/sched.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/xattr.h>

#include "exec.h"
#include "supervisor_calls.h"

static void note(uint16_t op, const char *real, size_t len)
{
	struct pt_at at = { .access = PT_ACC_ATTRIBUTES, .verdict = { .action = PT_ALLOW, .rule = PT_NO_RULE, .port = PT_NO_PORT },
		.real = (char *)(uintptr_t)real, .real_len = len, .asked = real };
	pt_report(op, &at, PT_EV_ACCESS, PT_OUT_ALLOW, 0);
}

/* 0 or errno. A file without a name is nobody's; what has no path (a pipe, a socket) has no rule. */
int pt_judge_fd(uint16_t op, int fd)
{
	char link[32], name[512];
	struct stat st;
	if (!pt_on() || fd < 0)
		return 0;
	/* Who may write a file may change its date: that was judged when it was opened. */
	if (!(pt.flags & PT_IMG_AUDIT)) {
		struct pt_info info;
		char real[PT_DIR_TEXT + 1];
		bool log = pt.log;
		if (pt_fd_writer(fd, &info, log ? real : NULL)) {
			if (log)
				note(op, real, info.real_len);
			return 0;
		}
	}
	if (!(pt.flags & (PT_IMG_LOG | PT_IMG_AUDIT)) && (PT_SYS2(SYS_fcntl, fd, F_GETFL) & O_ACCMODE) != O_RDONLY)
		return 0;
	if (sys_fstatat(fd, "", &st, AT_EMPTY_PATH) < 0 || !st.st_nlink)
		return 0;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return 0;
	pt_fd_link(fd, link);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = link, .access = PT_ACC_ATTRIBUTES, .flags = PT_FOLLOW };
	/* The kernel's name of it is real already: one look instead of one for each component. */
	ssize_t n = sys_readlink(link, name, sizeof name);
	if (n > 0 && n < (ssize_t)sizeof name && name[0] == '/') {
		name[n] = 0;
		at.path = name;
		at.flags = 0;
	}
	int error = pt_judge(op, &at);
	pt_done(op, &at, error);
	return error;
}

#define GUARDED(op, fd, call) \
	int error = pt_judge_fd(op, fd); \
	return pt_outcome(error ? -error : (call))

PT_EXPORT int fchmod(int fd, mode_t mode)
{
	GUARDED(PT_OP_fchmod, fd, PT_SYS2(SYS_fchmod, fd, mode));
}

PT_EXPORT int fchown(int fd, uid_t owner, gid_t group)
{
	GUARDED(PT_OP_fchown, fd, PT_SYS3(SYS_fchown, fd, owner, group));
}

PT_EXPORT int futimens(int fd, const struct timespec times[2])
{
	if (fd < 0) {
		errno = EBADF;
		return -1;
	}
	GUARDED(PT_OP_futimens, fd, PT_SYS4(SYS_utimensat, fd, NULL, times, 0));
}

PT_EXPORT int futimes(int fd, const struct timeval times[2])
{
	struct timespec ts[2];
	if (fd < 0) {
		errno = EBADF;
		return -1;
	}
	for (int i = 0; times && i < 2; i++) {
		if (times[i].tv_usec < 0 || times[i].tv_usec >= 1000000) {
			errno = EINVAL;
			return -1;
		}
		ts[i].tv_sec = times[i].tv_sec;
		ts[i].tv_nsec = times[i].tv_usec * 1000;
	}
	GUARDED(PT_OP_futimes, fd, PT_SYS4(SYS_utimensat, fd, NULL, times ? ts : NULL, 0));
}

PT_EXPORT int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	GUARDED(PT_OP_fsetxattr, fd, PT_SYS5(SYS_fsetxattr, fd, name, value, size, flags));
}

PT_EXPORT int fremovexattr(int fd, const char *name)
{
	GUARDED(PT_OP_fremovexattr, fd, PT_SYS2(SYS_fremovexattr, fd, name));
}

/* chattr: flags are written through a descriptor that was opened for reading, and the fence lets it. */
#ifdef __GLIBC__
typedef unsigned long ioctl_request;
#else
typedef int ioctl_request;             /* musl */
#endif

PT_EXPORT int ioctl(int fd, ioctl_request request, ...)
{
	static const uint32_t changing[] = PT_ATTRIBUTE_REQUESTS, keys[] = PT_KEYS_REQUESTS;
	va_list args;
	va_start(args, request);
	void *data = va_arg(args, void *);
	va_end(args);
	int error = 0;
	for (size_t i = 0; i < sizeof changing / sizeof *changing && !error; i++)
		if (unlikely((uint32_t)request == changing[i]))
			error = pt_judge_fd(PT_OP_ioctl, fd);
	for (size_t i = 0; i < sizeof keys / sizeof *keys && !error; i++)
		if (unlikely((uint32_t)request == keys[i]) && pt_on() && !(pt.flags & PT_IMG_AUDIT))
			error = EIO;
	return pt_outcome(error ? -error : PT_SYS3(SYS_ioctl, fd, (uint32_t)request, data));
}

/* ---- code of the program's own making ---- */

PT_EXPORT int mprotect(void *at, size_t size, int protection)
{
	if ((protection & PROT_EXEC) && pt_on() && !pt_supervise_all()) {
		errno = EACCES;
		return -1;
	}
	return pt_outcome(PT_SYS3(SYS_mprotect, at, size, protection));
}

PT_EXPORT void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	if (unlikely(protection & PROT_EXEC) && pt_on() && !pt_supervise_all()) {
		errno = EACCES;
		return MAP_FAILED;
	}
	long r = PT_SYS6(SYS_mmap, at, size, protection, flags, fd, offset);
	if (r < 0 && r > -4096) {
		errno = (int)-r;
		return MAP_FAILED;
	}
	return (void *)r;
}
PT_ALIASES_mmap

PT_EXPORT int pkey_mprotect(void *at, size_t size, int protection, int key)
{
	if ((protection & PROT_EXEC) && pt_on() && !pt_supervise_all()) {
		errno = EACCES;
		return -1;
	}
	return pt_outcome(PT_SYS4(SYS_pkey_mprotect, at, size, protection, key));
}

/* Afterwards a root would be another one than the policy speaks of. */
PT_EXPORT int chroot(const char *path)
{
	typedef int real_t(const char *);
	if (!pt_on() || (pt.flags & PT_IMG_AUDIT))
		return PT_REAL(real_t, chroot)(path);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_LIST, .flags = PT_FOLLOW };
	int error = pt_judge(PT_OP_chroot, &at);
	pt_done(PT_OP_chroot, &at, error);
	errno = error ? error : EPERM;
	return -1;
}
